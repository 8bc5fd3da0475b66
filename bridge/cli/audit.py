"""The command ``audit``: list what operators did."""

from __future__ import annotations

import click

from bridge.cli.selection import audit_since
from bridge.cli.terminal import Terminal, as_json, limited
from bridge.report.audit import audit_json, audit_lines


@click.command()
@audit_since
@limited
@as_json
@click.pass_obj
def audit(terminal: Terminal, since: float | None, limit: int, in_json: bool) -> None:
    """List the actions of operators, newest first.

    The actions are retries, cancels, resolves, replays, pauses, resumes and prunes. Each action has the
    operator's name.
    """
    with terminal.outbox(shows_name=True) as outbox:
        found = outbox.audit.entries(since=since, limit=limit + 1)
    with terminal.newest(found, limit) as entries:
        if in_json:
            terminal.say_json([audit_json(entry) for entry in entries])
        else:
            terminal.say(audit_lines(entries))
