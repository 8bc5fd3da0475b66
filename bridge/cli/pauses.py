"""Pausing a task or a route, so that its jobs wait, and resuming it."""

from __future__ import annotations

import sys

import click

from bridge import report
from bridge.cli.terminal import Terminal
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
            paused = [report.pause_line(each) for each in outbox.paused()]
            terminal.say(paused or ["nothing is paused"])
            return
        kind, found = _meant(terminal.load().table, outbox, name, is_route)
        is_new = outbox.pause(kind, found)
    terminal.say([f"{kind} {name} {'is paused: its jobs wait' if is_new else 'was paused already'}"])


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
        raise click.UsageError(f"there is no task or route {name}; `check` names what there is")
    return meant.pop()
