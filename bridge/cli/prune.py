"""The command ``prune``: delete old events and jobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import click

from bridge.cli.actor import Actor, as_actor
from bridge.cli.terminal import Terminal, as_json
from bridge.core.event import JSON
from bridge.core.units import format_duration
from bridge.process.settings import Retention


@click.command()
@as_json
@as_actor
@click.pass_obj
def prune(terminal: Terminal, in_json: bool, actor: Actor) -> None:
    """Delete events and jobs that are older than BRIDGE_RETENTION.

    Processes that deliver jobs also delete these once a day. The bridge never deletes jobs that are waiting,
    sending or unknown.
    """
    retention = terminal.settings.retention
    if not in_json:
        terminal.say(_retention_lines(retention))
    older_than = ",".join(map(format_duration, (retention.events, retention.bodies)))
    action = actor.action("prune", {"older_than": older_than})
    with terminal.outbox() as outbox, outbox.audit.recording(action) as entry:
        pruned = outbox.prune(retention, lambda: False, entry=entry)
    if in_json:
        terminal.say_json({"older_than": _retention_json(retention), "deleted": asdict(pruned)})
    else:
        terminal.say([f"deleted: {pruned.events} events, {pruned.jobs} jobs, {pruned.bodies} bodies"])


def _retention_lines(retention: Retention) -> Iterator[str]:
    """What is deleted, and when."""
    yield "BRIDGE_RETENTION deletes"
    yield f"  after {format_duration(retention.events)}: events whose jobs have all ended, with these jobs"
    bodies = format_duration(retention.bodies)
    yield f"  after {bodies}: bodies, except those of events with a dead job: `jobs retry` needs them"
    yield f"  after {format_duration(retention.unmatched)}: events that created no job"


def _retention_json(retention: Retention) -> JSON:
    """In seconds."""
    return {"events": retention.events, "bodies": retention.bodies, "unmatched": retention.unmatched}
