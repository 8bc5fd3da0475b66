"""Selection: the jobs or events that a command is about, by their numbers or by a filter."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from bridge.cli.terminal import NUMBER
from bridge.core.event import JSON, rfc3339
from bridge.core.job import JobState
from bridge.core.units import parse_duration

Command = Callable[..., None]


@dataclass(frozen=True)
class Selection:
    """What a person chose; either `numbers` or one of the others."""

    numbers: tuple[int, ...]
    state: JobState | None
    route: str | None
    source: str | None
    #: Seconds since the epoch.
    since: float | None
    is_confirmed: bool

    def target(self, what: str, state: JobState | None = None) -> dict[str, JSON]:
        """For the audit: the numbers of `what`, or the filter; `state` where the person said none."""
        if self.numbers:
            return {what: list(self.numbers)}
        filters = {
            "state": self.state or state,
            "route": self.route,
            "source": self.source,
            "since": None if self.since is None else rfc3339(self.since),
        }
        return {name: value for name, value in filters.items() if value is not None}

    def confirm(self, chosen: Sequence[int], what: str, deed: str) -> None:
        """Say how many a filter found, and ask whether to go on; ends the command where not."""
        if self.numbers:
            return
        found = f"{len(chosen)} {what}{'' if len(chosen) == 1 else 's'}"
        if self.is_confirmed or not chosen:
            click.echo(found)
        else:
            click.confirm(f"{found}: {deed}?", abort=True)


def _earliest(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else time.time() - parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(f"found {text!r}; {error}") from error


def _since(which: str) -> Callable[[Any], Any]:
    text = f"Those that {which} in the last 30m, 2h, 7d, …"
    return click.option("--since", metavar="TIME", callback=_earliest, help=text)


since = _since("came")
audit_since = _since("began")
jobs_since = _since("ended, or came where they have not ended,")
of_route = click.option("--route", help="Only those of this route.")
of_source = click.option("--source", help="Only those of this source.")
_confirmed = click.option("--yes", "is_confirmed", is_flag=True, help="Ask nothing: do it to all of them.")


def some_jobs(*states: JobState) -> Callable[[Command], Command]:
    """The command gets a `selection` of jobs, which are in one of these states."""
    default = states[0]
    state = click.option(
        "--state", type=click.Choice([*map(str, states)]), help=f"All in this state (else {default})."
    )
    return _selecting("JOB_ID", state, of_route, jobs_since)


def some_events() -> Callable[[Command], Command]:
    """The command gets a `selection` of events."""
    return _selecting("EVENT_ID", of_source, since)


def _selecting(number: str, *filters: Callable[[Any], Any]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def select(*arguments: object, **options: Any) -> None:
            numbers, is_confirmed = options.pop("numbers"), options.pop("is_confirmed")
            found = {name: options.pop(name, None) for name in ("state", "route", "source", "since")}
            if bool(numbers) == any(each is not None for each in found.values()):
                raise click.UsageError("say which: either their numbers, or by options, such as --since 2h")
            # A number that stands there twice means the same one.
            numbers = tuple(dict.fromkeys(numbers))
            found["state"] = found["state"] and JobState(found["state"])
            command(*arguments, selection=Selection(numbers, is_confirmed=is_confirmed, **found), **options)

        asked: Command = click.argument("numbers", type=NUMBER, nargs=-1, metavar=f"[{number}]...")(select)
        for each in (*filters, _confirmed):
            asked = each(asked)
        return asked

    return decorate
