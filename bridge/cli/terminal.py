"""Terminal: the settings and the output of one call, and what several commands take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import orjson

from bridge.config.load import Loaded, load
from bridge.event import JSON
from bridge.outbox import Outbox
from bridge.report import escaped
from bridge.settings import Mask, Settings
from bridge.sources import discover

#: The number of a stored job or event: what every database can hold.
NUMBER = click.IntRange(1, 2**63 - 1)

as_json = click.option("--json", "in_json", is_flag=True, help="Print JSON.")
limited = click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(min=1), help="At most so many."
)


@dataclass
class Terminal:
    """What a command was called with, and its output: all of it through one mask."""

    settings: Settings
    mask: Mask

    def say(self, lines: Iterable[str]) -> None:
        for line in lines:
            click.echo(self.mask(line))

    def say_json(self, value: JSON) -> None:
        text = self.mask(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
        click.echo("\n".join(map(escaped, text.split("\n"))))

    def warn(self, text: str) -> None:
        """Say it beside the output, on standard error."""
        click.echo(self.mask(text), err=True)

    def load(
        self, path: Path | None = None, *, require_env: bool = False, with_tests: bool = False
    ) -> Loaded:
        """The routing table. Raises ConfigError."""
        where = self.settings.config if path is None else path
        loaded = load(
            where, self.settings.variables, discover(), require_env=require_env, with_tests=with_tests
        )
        self.mask.learn(loaded.secrets)
        return loaded

    @contextmanager
    def outbox(self) -> Iterator[Outbox]:
        """The store, written to beside a server that may run."""
        outbox = Outbox(self.settings.database_url, beside_a_server=True)
        try:
            yield outbox
        finally:
            outbox.close()
