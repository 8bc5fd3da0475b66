"""Actor: who runs a command that changes the store, for the audit."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass

import click

from bridge.core.event import JSON
from bridge.outbox.audit import Action

#: The longest name for --as, in characters.
_LONGEST = 100


@dataclass(frozen=True)
class Actor:
    """Who runs a command."""

    #: The value of ``--as``, or the account's name.
    name: str
    #: The account of the operating system.
    account: str

    def action(self, name: str, target: Mapping[str, JSON], chosen: int | None = None) -> Action:
        """Return the command as an action of the audit."""
        return Action(self.name, self.account, name, target, chosen)


def _actor(_context: click.Context, _option: click.Parameter, name: str | None) -> Actor:
    account = _account()
    if name is not None and not (name.isprintable() and name.strip() and len(name) <= _LONGEST):
        raise click.BadParameter(f"expected 1 to {_LONGEST} printable characters")
    return Actor(account if name is None else name.strip(), account)


def _account() -> str:
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a container's user often has no name
        return f"uid {number}"


#: The command gets an `actor`.
as_actor = click.option(
    "--as",
    "actor",
    metavar="NAME",
    callback=_actor,
    help="Record this name in the audit.  [default: the OS user]",
)
