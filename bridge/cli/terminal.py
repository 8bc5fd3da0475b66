"""Terminal: the settings and the output of one call, and the options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import orjson

from bridge.config.load import Loaded, load
from bridge.core.errors import EmptyStore, NoStore
from bridge.core.event import JSON
from bridge.core.exact_json import dumps
from bridge.core.secrets import Mask
from bridge.process.log import escaped
from bridge.process.settings import Settings
from bridge.report.lines import Line, Tone
from bridge.sources.base.discovery import discover

if TYPE_CHECKING:
    from bridge.outbox.store import Outbox

T = TypeVar("T")

#: The number of a stored job or event: every database can hold it.
NUMBER = click.IntRange(1, 2**63 - 1)
#: 0 stands for a free port.
PORT = click.IntRange(0, 65535)

as_json = click.option("--json", "in_json", is_flag=True, help="Print JSON.")
limited = click.option(
    "--limit",
    metavar="N",
    default=50,
    show_default=True,
    type=click.IntRange(1, 2**31),
    help="List at most this many.",
)

#: How Click styles a line of each tone.
_STYLES: Mapping[Tone, Mapping[str, Any]] = {
    Tone.PLAIN: {},
    Tone.TITLE: {"bold": True},
    Tone.YES: {"fg": "green"},
    Tone.NO: {"fg": "red"},
    Tone.WARNING: {"fg": "yellow"},
    Tone.ASIDE: {"dim": True},
}


@dataclass
class Terminal:
    """The settings of a call, and its output, in which secrets are masked."""

    settings: Settings
    mask: Mask

    def fit(self, text: str) -> str:
        """Return the text without secrets and without control characters other than line breaks."""
        return "\n".join(map(escaped, self.mask(text).split("\n")))

    def say(self, lines: Iterable[str]) -> None:
        """Print lines on standard output."""
        for line in lines:
            click.echo(self.fit(line))

    def show(self, lines: Iterable[Line], *, err: bool = False) -> None:
        """Print lines in colour, if the terminal has colours."""
        for line in lines:
            # Mask first: with the colour codes the mask would miss a secret.
            text = escaped(self.mask(line.text))
            click.echo(click.style(text, **_STYLES[line.tone]), err=err)

    def say_json(self, value: JSON) -> None:
        """Print JSON on standard output."""
        click.echo(self.fit(dumps(value, option=orjson.OPT_INDENT_2).decode()))

    def warn(self, text: str) -> None:
        """Print a line on standard error."""
        click.echo(self.fit(text), err=True)

    @contextmanager
    def newest(self, found: Sequence[T], limit: int) -> Iterator[Sequence[T]]:
        """Yield the first `limit` of `found`; if there are more, say so on standard error, below the list."""
        yield found[:limit]
        if len(found) > limit:
            self.warn(f"this list shows the newest {limit}; for more, add --limit {20 * limit}")

    def load(
        self, path: Path | None = None, *, require_env: bool = False, with_tests: bool = False
    ) -> Loaded:
        """Load the routing table at `path`, or at BRIDGE_CONFIG. Raises ConfigError."""
        where = self.settings.config if path is None else path
        loaded = load(
            where, self.settings.environment, discover(),
            require_env=require_env, with_tests=with_tests, commit=self.settings.commit,
        )  # fmt: skip
        self.mask.add(loaded.secrets)
        return loaded

    @contextmanager
    def outbox(self, *, create: bool = False, shows_name: bool = False) -> Iterator[Outbox]:
        """Open the database; a server may use it at the same time.

        `shows_name` prints where it is, on standard error. Raises NoStore if there is none, unless `create`.
        """
        from bridge.outbox.database import store_name  # noqa: PLC0415 - its libraries are slow to import
        from bridge.outbox.store import Outbox  # noqa: PLC0415 - check needs no store, and SQLAlchemy imports slowly

        url = self.settings.database_url
        with self.hints_without_store(url):
            outbox = Outbox(url, beside_a_server=True, create=create)
        if shows_name:
            self.warn(f"database: {store_name(url)}")
        try:
            yield outbox
        finally:
            outbox.close()

    @contextmanager
    def hints_without_store(self, url: str) -> Iterator[None]:
        """Raise NoStore with what to do, if it is raised inside."""
        from bridge.outbox.database import store_name  # noqa: PLC0415 - it imports SQLAlchemy

        try:
            yield
        except NoStore as error:
            environment = self.settings.environment
            is_set = environment.get("DATABASE_URL") or environment.get("DATABASE_URL_FILE")
            unset = "" if is_set else ": DATABASE_URL is not set"
            message = f"there is no database at {store_name(url)}{unset}"
            hint = "set DATABASE_URL to the database of the server; the server creates it when it starts"
            if isinstance(error, EmptyStore):
                message = f"the database {store_name(url)} is empty{unset}"
                hint = "run `theeye-bridge db upgrade`, or set DATABASE_URL to the database of the server"
            raise NoStore(f"{message}\n    hint: {hint}") from None
