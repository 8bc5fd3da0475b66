"""The commands that run processes, or prepare their database: serve, worker and db."""

from __future__ import annotations

import os
import sys

import click

from bridge.cli.terminal import Terminal
from bridge.server import delivery_worker as process


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def serve(terminal: Terminal, arguments: tuple[str, ...]) -> None:
    """Start the web processes: gunicorn, which gets ARGUMENTS, with the bridge's settings."""
    # gunicorn converts this variable when it is imported: another text than a number would be a traceback.
    os.putenv("WEB_CONCURRENCY", str(terminal.settings.web_concurrency))
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "-c",
        "python:bridge.server.gunicorn_config",
        *arguments,
        "bridge.wsgi:app",
    ]
    os.execv(command[0], command)  # noqa: S606 - no shell, and its own arguments


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
