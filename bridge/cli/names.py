"""Names: the tasks and routes that a person may mean, of the routing table and of the stored jobs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass

import click

from bridge.cli.terminal import Terminal
from bridge.config.problems import guess
from bridge.core.errors import ConfigError
from bridge.outbox.pauses import Pausable
from bridge.outbox.store import Outbox
from bridge.routing.route import OnDead
from bridge.routing.routing_table import RoutingTable


@dataclass(frozen=True)
class Named:
    """A task or a route."""

    kind: Pausable
    #: What its jobs know it by: a task's id, or a route's name.
    key: str
    #: What people call it.
    name: str


def of_table(table: RoutingTable) -> set[Named]:
    routes = [route.name for route in table.routes] + ([] if table.on_dead is None else [OnDead.NAME])
    tasks = {Named(Pausable.TASK, task.id, task.name) for task in table.tasks.values()}
    return tasks | {Named(Pausable.ROUTE, name, name) for name in routes}


def of_jobs(outbox: Outbox) -> set[Named]:
    found: set[Named] = set()
    for route, task_id, task in outbox.routes_and_tasks():
        found |= {Named(Pausable.ROUTE, route, route), Named(Pausable.TASK, task_id, task)}
    return found


def require_route(terminal: Terminal, outbox: Outbox, name: str) -> None:
    """Raises UsageError where neither the table nor a stored job has such a route."""
    known = of_jobs(outbox)
    with suppress(ConfigError):  # the jobs serve, too
        known |= of_table(terminal.load().table)
    if Named(Pausable.ROUTE, name, name) not in known:
        raise click.UsageError(unknown(name, known, {Pausable.ROUTE}))


def meant(name: str, known: Iterable[Named], kinds: Collection[Pausable]) -> set[tuple[Pausable, str]]:
    """The kinds and keys of what has this name or key."""
    return {(each.kind, each.key) for each in known if each.kind in kinds and name in (each.key, each.name)}


def unknown(name: str, known: Iterable[Named], kinds: Collection[Pausable]) -> str:
    """That nothing of these kinds has the name, and what has one."""
    hint, there = guess(name, {each.name for each in known if each.kind in kinds})
    wanted = " or ".join(kind for kind in Pausable if kind in kinds)
    return f"no {wanted} is named {name!r}; there are: {there}{hint}"
