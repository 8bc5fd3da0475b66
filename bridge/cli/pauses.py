"""Pausing a task or a route, so that its jobs wait, and resuming it."""

from __future__ import annotations

import sys

import click

from bridge.cli import names
from bridge.cli.actor import Actor, as_actor
from bridge.cli.terminal import Terminal
from bridge.core.errors import ConfigError
from bridge.outbox.pauses import Pausable
from bridge.outbox.store import Outbox
from bridge.report import rows

KIND = click.option(
    "--route/--task", "is_route", default=None, help="Which, where both have that name."
)  # fmt: skip


@click.command()
@click.argument("name", required=False)
@KIND
@as_actor
@click.pass_obj
def pause(terminal: Terminal, name: str | None, is_route: bool | None, actor: Actor) -> None:
    """Let the jobs of a task or a route wait. Without NAME: say what is paused.

    NAME is a task's name or id, or a route's name. Webhooks are still taken, and their jobs stored.
    """
    with terminal.outbox() as outbox:
        if name is None:
            _say_paused(terminal, outbox)
            return
        kind, found = _meant(terminal, outbox, name, is_route)
        with outbox.audit.recording(actor.action("pause", {str(kind): found}, 1)) as entry:
            is_new = outbox.pause(kind, found, entry=entry)
    what = "is paused: its jobs wait; jobs that are being sent finish" if is_new else "was paused already"
    terminal.say([f"{kind} {name} {what}"])


@click.command()
@click.argument("name")
@KIND
@as_actor
@click.pass_obj
def resume(terminal: Terminal, name: str, is_route: bool | None, actor: Actor) -> None:
    """Let the jobs of a paused task or route go on."""
    with terminal.outbox() as outbox:
        kind, found = _meant(terminal, outbox, name, is_route)
        with outbox.audit.recording(actor.action("resume", {str(kind): found}, 1)) as entry:
            was_paused = outbox.resume(kind, found, entry=entry)
    if not was_paused:
        terminal.warn(f"{kind} {name} is not paused")
        sys.exit(1)
    terminal.say([f"{kind} {name} goes on"])


def _say_paused(terminal: Terminal, outbox: Outbox) -> None:
    try:
        tasks = {task.id: task.name for task in terminal.load().table.tasks.values()}
    except ConfigError:
        tasks = {}  # their ids serve, too
    terminal.say([rows.pause_line(each, tasks) for each in outbox.paused()] or ["nothing is paused"])


def _meant(terminal: Terminal, outbox: Outbox, name: str, is_route: bool | None) -> tuple[Pausable, str]:
    """What a person means: something of the table, or what is paused and no longer in it.

    Else what only stored jobs name: their route may have another name since, and where the table has mistakes
    a freeze may be wanted for just that.
    """
    kinds = set(Pausable) if is_route is None else {Pausable.ROUTE if is_route else Pausable.TASK}
    try:
        known = names.of_table(terminal.load().table)
    except ConfigError:
        known = set()
        terminal.warn("the table has mistakes, `check` says which; what the stored jobs name is meant")
    known |= {names.Named(each.kind, each.name, each.name) for each in outbox.paused()}
    meant = names.meant(name, known, kinds)
    is_of_jobs = not meant
    if is_of_jobs:
        known |= names.of_jobs(outbox)
        meant = names.meant(name, known, kinds)
    if not meant:
        raise click.UsageError(names.unknown(name, known, kinds))
    if {kind for kind, _ in meant} == {*Pausable}:
        raise click.UsageError(f"both a task and a route are named {name}; say --task or --route")
    if len(meant) > 1:
        ids = ", ".join(sorted(key for _, key in meant))
        raise click.UsageError(f"several tasks were named {name}; say which by its id: {ids}")
    ((kind, key),) = meant
    if is_of_jobs:
        terminal.warn(f"{kind} {name} is {key}")
    return kind, key
