"""The command ``db``: manage the database."""

from __future__ import annotations

import click

from bridge.cli.terminal import Terminal


@click.group()
def db() -> None:
    """Manage the database."""


@db.command()
@click.pass_obj
def upgrade(terminal: Terminal) -> None:
    """Upgrade the database to the schema of this release.

    A process also upgrades the database when it starts, if its role owns the tables.
    """
    with terminal.outbox(create=True) as outbox:
        before, after = outbox.revisions
    if before == after:
        terminal.say([f"the database is at revision {after}"])
    else:
        terminal.say([f"upgraded the database from {before or 'nothing'} to revision {after}"])
