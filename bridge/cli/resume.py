"""The command ``resume``: resume a paused task or route."""

from __future__ import annotations

import sys

import click

from bridge.cli.actor import Actor, as_actor
from bridge.cli.names import find_named, of_kind
from bridge.cli.terminal import Terminal


@click.command()
@click.argument("name")
@of_kind
@as_actor
@click.pass_obj
def resume(terminal: Terminal, name: str, is_route: bool | None, actor: Actor) -> None:
    """Resume a paused task or route."""
    with terminal.outbox() as outbox:
        kind, key = find_named(terminal, outbox, name, is_route)
        with outbox.audit.recording(actor.action("resume", {str(kind): key}, 1)) as entry:
            was_paused = outbox.resume(kind, key, entry=entry)
    if not was_paused:
        terminal.warn(f"{kind} {name} is not paused")
        sys.exit(1)
    terminal.say([f"{kind} {name} is resumed"])
