"""The command that lets go of what is old: prune."""

from __future__ import annotations

from dataclasses import asdict

import click

from bridge import report
from bridge.cli.terminal import Terminal, as_json


@click.command()
@as_json
@click.pass_obj
def prune(terminal: Terminal, in_json: bool) -> None:
    """Delete what is older than BRIDGE_RETENTION says, as processes that deliver do once a day.

    What still waits, is sent or is unknown stays, however old.
    """
    retention = terminal.settings.retention
    if not in_json:
        terminal.say(report.retention_lines(retention))
    with terminal.outbox() as outbox:
        pruned = outbox.prune(retention, lambda: False)
    if in_json:
        terminal.say_json({"older_than": report.retention_json(retention), "deleted": asdict(pruned)})
    else:
        terminal.say([f"deleted: {pruned.events} events, {pruned.jobs} jobs, {pruned.bodies} bodies"])
