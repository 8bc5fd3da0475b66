"""Pausing a task or a route, so that its jobs wait, and resuming it."""

from __future__ import annotations

import sys

import click

from bridge import report
from bridge.cli.terminal import Terminal
from bridge.config.problems import guess
from bridge.errors import ConfigError
from bridge.outbox import Outbox, Pausable
from bridge.table import RoutingTable

KIND = click.option(
    "--route/--task", "is_route", default=None, help="Which, where both have that name."
)  # fmt: skip


@click.command()
@click.argument("name", required=False)
@KIND
@click.pass_obj
def pause(terminal: Terminal, name: str | None, is_route: bool | None) -> None:
    """Let the jobs of a task or a route wait. Without NAME: say what is paused.

    NAME is a task's name or id, or a route's name. Webhooks are still taken, and their jobs stored.
    """
    with terminal.outbox() as outbox:
        if name is None:
            _say_paused(terminal, outbox)
            return
        kind, found = _meant(terminal.load().table, outbox, name, is_route)
        is_new = outbox.pause(kind, found)
    what = "is paused: its jobs wait, but for those on their way" if is_new else "was paused already"
    terminal.say([f"{kind} {name} {what}"])


@click.command()
@click.argument("name")
@KIND
@click.pass_obj
def resume(terminal: Terminal, name: str, is_route: bool | None) -> None:
    """Let the jobs of a paused task or route go on."""
    with terminal.outbox() as outbox:
        kind, found = _meant(terminal.load().table, outbox, name, is_route)
        was_paused = outbox.resume(kind, found)
    if not was_paused:
        terminal.warn(f"{kind} {name} is not paused")
        sys.exit(1)
    terminal.say([f"{kind} {name} goes on"])


def _say_paused(terminal: Terminal, outbox: Outbox) -> None:
    try:
        tasks = {task.id: task.name for task in terminal.load().table.tasks.values()}
    except ConfigError:
        tasks = {}  # their ids serve, too
    terminal.say([report.pause_line(each, tasks) for each in outbox.paused()] or ["nothing is paused"])


def _meant(table: RoutingTable, outbox: Outbox, name: str, is_route: bool | None) -> tuple[Pausable, str]:
    """What a person means: something of the table, or what is paused and no longer in it."""
    meant = {(Pausable.TASK, task.id) for task in table.tasks.values() if name in (task.id, task.name)}
    meant |= {(Pausable.ROUTE, route.name) for route in table.routes if route.name == name}
    meant |= {(each.kind, each.name) for each in outbox.paused() if each.name == name}
    if is_route is not None:
        meant = {each for each in meant if (each[0] is Pausable.ROUTE) == is_route}
    if len(meant) > 1:
        raise click.UsageError(f"both a task and a route are named {name}; say --task or --route")
    if not meant:
        raise click.UsageError(_unknown(table, name, is_route))
    return meant.pop()


def _unknown(table: RoutingTable, name: str, is_route: bool | None) -> str:
    tasks = {task.name for task in table.tasks.values()}
    routes = {route.name for route in table.routes}
    wanted, names = {
        None: ("task or route", tasks | routes), True: ("route", routes), False: ("task", tasks),
    }[is_route]  # fmt: skip
    meant, there = guess(name, names)
    return f"no {wanted} is named {name!r}; there are: {there}{meant}"
