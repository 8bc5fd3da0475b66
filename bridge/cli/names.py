"""The names that a person may give a task or a route: those of the routing table and of stored jobs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass

import click

from bridge.cli.sender import find_source
from bridge.cli.terminal import Terminal
from bridge.config.problems import guess
from bridge.core.errors import ConfigError
from bridge.outbox.pauses import Pausable
from bridge.outbox.store import Outbox
from bridge.routing.routing_table import RoutingTable

#: The command gets `is_route`; None where the option is missing.
of_kind = click.option(
    "--route/--task", "is_route", default=None, help="Choose, if a route and a task have this name."
)  # fmt: skip


@dataclass(frozen=True)
class Named:
    """A task or a route."""

    kind: Pausable
    #: A task's id, or a route's name: stored jobs have it.
    key: str
    #: The name for people.
    name: str


def of_table(table: RoutingTable) -> set[Named]:
    """Return the tasks and routes of a table."""
    alerts = [each.NAME for each in (table.on_dead, table.on_silence) if each is not None]
    routes = [route.name for route in table.routes] + alerts
    tasks = {Named(Pausable.TASK, task.id, task.name) for task in table.tasks.values()}
    return tasks | {Named(Pausable.ROUTE, name, name) for name in routes}


def of_jobs(outbox: Outbox) -> set[Named]:
    """Return the tasks and routes of the stored jobs."""
    named: set[Named] = set()
    for route, task_id, task in outbox.routes_and_tasks():
        named |= {Named(Pausable.ROUTE, route, route), Named(Pausable.TASK, task_id, task)}
    return named


def require_route(terminal: Terminal, outbox: Outbox, name: str) -> None:
    """Raise UsageError if neither the table nor a stored job has a route of this name."""
    known = of_jobs(outbox)
    with suppress(ConfigError):  # the names of the stored jobs are enough
        known |= of_table(terminal.load().table)
    if Named(Pausable.ROUTE, name, name) not in known:
        raise click.UsageError(_unknown(name, known, {Pausable.ROUTE}))


def require_source(terminal: Terminal, outbox: Outbox, name: str) -> None:
    """Raise UsageError if neither the table nor a stored event has a source of this name."""
    if outbox.event_ids(source=name, since=None):
        return
    with suppress(ConfigError):  # without a table no name is known to be wrong
        find_source(terminal.load().table, name)


def find_named(terminal: Terminal, outbox: Outbox, name: str, is_route: bool | None) -> tuple[Pausable, str]:
    """Return the kind and the key of the one task or route with this name. Raises UsageError.

    Tasks and routes of the table, and paused ones, come before those that only stored jobs name. The stored
    names matter if a route was renamed, or if a person pauses something because the table is invalid.
    """
    kinds = set(Pausable) if is_route is None else {Pausable.ROUTE if is_route else Pausable.TASK}
    try:
        known = of_table(terminal.load().table)
    except ConfigError:
        known = set()
        terminal.warn(
            "warning: there is no valid table (see `check`), so only names of stored jobs are known"
        )
    known |= {Named(each.kind, each.name, each.name) for each in outbox.paused()}
    matches = _matches(name, known, kinds)
    is_of_jobs = not matches
    if is_of_jobs:
        known |= of_jobs(outbox)
        matches = _matches(name, known, kinds)
    if not matches:
        raise click.UsageError(_unknown(name, known, kinds))
    if {kind for kind, _ in matches} == {*Pausable}:
        raise click.UsageError(f"both a task and a route are named {name}; add --task or --route")
    if len(matches) > 1:
        ids = ", ".join(sorted(key for _, key in matches))
        raise click.UsageError(f"several tasks were named {name}; use one of their ids: {ids}")
    ((kind, key),) = matches
    if is_of_jobs:
        terminal.warn(f"the table has no {kind} {name!r}; using the {kind} {key!r} of the stored jobs")
    return kind, key


def _matches(name: str, known: Iterable[Named], kinds: Collection[Pausable]) -> set[tuple[Pausable, str]]:
    """Return the kinds and keys of those with this name or key."""
    return {(each.kind, each.key) for each in known if each.kind in kinds and name in (each.key, each.name)}


def _unknown(name: str, known: Iterable[Named], kinds: Collection[Pausable]) -> str:
    """Return the error message for an unknown name, with the known ones."""
    hint, there = guess(name, {each.name for each in known if each.kind in kinds})
    wanted = " or ".join(kind for kind in Pausable if kind in kinds)
    return f"no {wanted} is named {name!r}; known: {there}{hint}"
