"""The command ``pause``: pause a task or a route, so that its jobs wait."""

from __future__ import annotations

import click

from bridge.cli.actor import Actor, as_actor
from bridge.cli.names import find_named, of_kind
from bridge.cli.terminal import Terminal
from bridge.core.errors import ConfigError
from bridge.outbox.store import Outbox
from bridge.report.jobs import pause_line


@click.command()
@click.argument("name", required=False)
@of_kind
@as_actor
@click.pass_obj
def pause(terminal: Terminal, name: str | None, is_route: bool | None, actor: Actor) -> None:
    """Pause a task or a route, or list the paused ones.

    NAME is the name or id of a task, or the name of a route. Without NAME, the command lists the paused
    tasks and routes. While a task or route is paused, the bridge still receives webhooks and stores jobs.
    """
    with terminal.outbox(shows_name=name is None) as outbox:
        if name is None:
            _say_paused(terminal, outbox)
            return
        kind, key = find_named(terminal, outbox, name, is_route)
        with outbox.audit.recording(actor.action("pause", {str(kind): key}, 1)) as entry:
            is_new = outbox.pause(kind, key, entry=entry)
    what = "is paused: its jobs wait; jobs that are being sent finish" if is_new else "was paused already"
    terminal.say([f"{kind} {name} {what}"])


def _say_paused(terminal: Terminal, outbox: Outbox) -> None:
    try:
        tasks = {task.id: task.name for task in terminal.load().table.tasks.values()}
    except ConfigError:
        tasks = {}  # their ids are enough
    terminal.say([pause_line(each, tasks) for each in outbox.paused()] or ["nothing is paused"])
