"""The command ``audit``: list what operators did."""

from __future__ import annotations

import click

from bridge.cli.selection import audit_since
from bridge.cli.terminal import Terminal, as_json, limited
from bridge.report import rows


@click.command()
@audit_since
@limited
@as_json
@click.pass_obj
def audit(terminal: Terminal, since: float | None, limit: int, in_json: bool) -> None:
    """List what operators did, newest first.

    It lists retries, cancels, resolves, replays, pauses, resumes and prunes, with the name of each operator.
    """
    with terminal.outbox() as outbox:
        entries = outbox.audit.entries(since=since, limit=limit)
    if in_json:
        terminal.say_json([rows.audit_json(entry) for entry in entries])
    else:
        terminal.say(rows.audit_lines(entries))
