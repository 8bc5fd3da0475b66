"""The command ``prune``: delete old events and jobs."""

from __future__ import annotations

from dataclasses import asdict

import click

from bridge.cli.actor import Actor, as_actor
from bridge.cli.terminal import Terminal, as_json
from bridge.core.units import format_duration
from bridge.report import rows


@click.command()
@as_json
@as_actor
@click.pass_obj
def prune(terminal: Terminal, in_json: bool, actor: Actor) -> None:
    """Delete events and jobs that are older than BRIDGE_RETENTION.

    Processes that deliver do the same once a day. Jobs that are waiting, sending or unknown are never
    deleted.
    """
    retention = terminal.settings.retention
    if not in_json:
        terminal.say(rows.retention_lines(retention))
    older_than = ",".join(map(format_duration, (retention.events, retention.bodies)))
    action = actor.action("prune", {"older_than": older_than})
    with terminal.outbox() as outbox, outbox.audit.recording(action) as entry:
        pruned = outbox.prune(retention, lambda: False, entry=entry)
    if in_json:
        terminal.say_json({"older_than": rows.retention_json(retention), "deleted": asdict(pruned)})
    else:
        terminal.say([f"deleted: {pruned.events} events, {pruned.jobs} jobs, {pruned.bodies} bodies"])
