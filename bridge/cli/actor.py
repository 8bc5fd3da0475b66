"""Actor: who runs a command that changes the store, for the audit."""

from __future__ import annotations

import functools
import os
import pwd
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from bridge.core.event import JSON
from bridge.outbox.audit import Action
from bridge.outbox.store import Outbox

#: The longest name and the longest reason, in characters.
_LONGEST_NAME, _LONGEST_REASON = 100, 500


@dataclass(frozen=True)
class Actor:
    """Who runs a command."""

    #: The value of ``--as``, or the account's name.
    name: str
    #: The account of the operating system.
    account: str
    #: The value of ``--reason``.
    reason: str | None = None

    def action(self, name: str, target: Mapping[str, JSON], chosen: int | None = None) -> Action:
        """Return the command as an action of the audit."""
        return Action(self.name, self.account, name, target, chosen, self.reason)

    @contextmanager
    def recording(
        self, outbox: Outbox, name: str, target: Mapping[str, JSON], chosen: Sequence[int],
        refused: Container[int],
    ) -> Iterator[int]:  # fmt: skip
        """Record an action without the numbers that are refused; if all are, record nothing."""
        changing = [each for each in chosen if each not in refused]
        if not changing:
            yield 0
            return
        numbers = {what: changing for what in ("jobs", "events") if what in target}
        with outbox.audit.recording(self.action(name, {**target, **numbers}, len(changing))) as entry:
            yield entry


def _printable(longest: int) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    def check(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
        if text is not None and not (text.isprintable() and text.strip() and len(text) <= longest):
            raise click.BadParameter(f"expected 1 to {longest} printable characters")
        return None if text is None else text.strip()

    return check


def _account() -> str:
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a container's user often has no name
        return f"uid {number}"


_as = click.option(
    "--as",
    "actor_name",
    metavar="NAME",
    callback=_printable(_LONGEST_NAME),
    help="Record this name in the audit.  [default: the OS user]",
)
_reason = click.option(
    "--reason", metavar="TEXT", callback=_printable(_LONGEST_REASON), help="Record this reason in the audit."
)


def as_actor(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command an `actor`, from the options ``--as`` and ``--reason``."""

    @functools.wraps(command)
    def run(*arguments: object, **options: Any) -> None:
        account = _account()
        actor = Actor(options.pop("actor_name") or account, account, options.pop("reason"))
        command(*arguments, actor=actor, **options)

    return _as(_reason(run))
