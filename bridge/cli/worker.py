"""The commands that run beside the web processes, or before them: worker and db."""

from __future__ import annotations

import click

from bridge import worker as process
from bridge.cli.terminal import Terminal


@click.command()
@click.pass_obj
def worker(terminal: Terminal) -> None:
    """Deliver jobs from a process of its own, until it is told to end.

    The web processes then only receive, with BRIDGE_DELIVER=false.
    """
    process.run(terminal.settings)


@click.group()
def db() -> None:
    """The database of the outbox."""


@db.command()
@click.pass_obj
def upgrade(terminal: Terminal) -> None:
    """Bring the database to this release's schema; every process does so, too, when it starts."""
    with terminal.outbox() as outbox:
        before, after = outbox.revisions
    if before == after:
        terminal.say([f"the database is at revision {after}"])
    else:
        terminal.say([f"the database went from {before or 'nothing'} to revision {after}"])
