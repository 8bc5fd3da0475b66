"""The command that says what people did: audit."""

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
    """Say who retried, canceled, resolved, replayed, paused, resumed or pruned what. The newest first."""
    with terminal.outbox() as outbox:
        found = outbox.audit.entries(since=since, limit=limit)
    if in_json:
        terminal.say_json([rows.audit_json(entry) for entry in found])
    else:
        terminal.say([rows.audit_line(entry) for entry in found] or ["no actions"])
