"""Selection: the jobs or events for a command, by their numbers or by a filter."""

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
    """The jobs or events that a person selects; either `numbers` or a filter."""

    numbers: tuple[int, ...]
    state: JobState | None
    route: str | None
    source: str | None
    #: Seconds since the epoch.
    since: float | None
    is_confirmed: bool

    def target(self, what: str, state: JobState | None = None) -> dict[str, JSON]:
        """Return the selection for the audit; `state` is the default state."""
        if self.numbers:
            return {what: list(self.numbers)}
        filters = {
            "state": self.state or state,
            "route": self.route,
            "source": self.source,
            "since": None if self.since is None else rfc3339(self.since),
        }
        return {name: value for name, value in filters.items() if value is not None}

    def confirm(self, chosen: Sequence[int], what: str, verb: str) -> None:
        """Print how many a filter selects, and ask for confirmation. Raises Abort if the answer is no."""
        if self.numbers:
            return
        count = f"{len(chosen)} {what}{'' if len(chosen) == 1 else 's'}"
        if self.is_confirmed or not chosen:
            click.echo(count)
        else:
            click.confirm(f"{count}: {verb}?", abort=True)


def _earliest(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else time.time() - parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}") from error


def _since(which: str) -> Callable[[Any], Any]:
    text = f"Select {which} in the last TIME, such as 2h."
    return click.option("--since", metavar="TIME", callback=_earliest, help=text)


since = _since("webhooks received")
audit_since = _since("actions started")
jobs_since = _since("jobs that ended")
of_route = click.option("--route", help="Select only jobs of this route.")
of_source = click.option("--source", help="Select only webhooks of this source.")
_confirmed = click.option("--yes", "is_confirmed", is_flag=True, help="Do not ask for confirmation.")


def some_jobs(*states: JobState) -> Callable[[Command], Command]:
    """Give the command a `selection` of jobs; `states` are those that it accepts, the default first."""
    default = states[0]
    text = f"Filter by state. Without it, a filter selects {default} jobs."
    if len(states) == 1:
        text = f"Select {default} jobs; the command accepts no other state."
    state = click.option("--state", type=click.Choice([*map(str, states)]), metavar="STATE", help=text)
    return _selecting("job", state, of_route, jobs_since)


def some_events() -> Callable[[Command], Command]:
    """Give the command a `selection` of events."""
    return _selecting("event", of_source, since)


def _selecting(noun: str, *filters: Callable[[Any], Any]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def select(*arguments: object, **options: Any) -> None:
            numbers, is_confirmed = options.pop("numbers"), options.pop("is_confirmed")
            chosen = {name: options.pop(name, None) for name in ("state", "route", "source", "since")}
            if bool(numbers) == any(each is not None for each in chosen.values()):
                needed = "numbers or a filter, not both" if numbers else f"{noun} numbers, or a filter"
                raise click.UsageError(f"give {needed}; a filter is an option such as --since 2h")
            # A repeated number selects one.
            numbers = tuple(dict.fromkeys(numbers))
            chosen["state"] = chosen["state"] and JobState(chosen["state"])
            command(*arguments, selection=Selection(numbers, is_confirmed=is_confirmed, **chosen), **options)

        metavar = f"[{noun.upper()}_ID]..."
        selecting: Command = click.argument("numbers", type=NUMBER, nargs=-1, metavar=metavar)(select)
        for each in (*filters, _confirmed):
            selecting = each(selecting)
        return selecting

    return decorate
