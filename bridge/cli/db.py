"""The command ``db``: manage the database."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path

import click

from bridge.cli.terminal import Terminal, as_json
from bridge.outbox.backup import back_up, pg_dump_command
from bridge.outbox.status import Status, read_status


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


@db.command()
@as_json
@click.pass_obj
def status(terminal: Terminal, in_json: bool) -> None:
    """Show the size, schema and content of the database.

    The command changes nothing. The exit status is 0 if the schema is the one of this release, otherwise 1.
    """
    url = terminal.settings.database_url
    with terminal.hints_without_store(url):
        found = read_status(url)
    if in_json:
        terminal.say_json(asdict(found))
    else:
        terminal.say(_status_lines(found))
    if found.revision != found.release_revision:
        sys.exit(1)


@db.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.pass_obj
def backup(terminal: Terminal, file: Path | None) -> None:
    """Copy the SQLite database to FILE while the bridge runs.

    FILE may be a folder: the copy then gets a name with the time. Without FILE, it is the folder of the
    database. The command replaces no file. For PostgreSQL, it prints the command to run instead.
    """
    url = terminal.settings.database_url
    if url.startswith("postgres"):
        instead = "db backup copies only SQLite; for PostgreSQL, run as the role that owns the tables"
        raise click.UsageError(f"{instead}\n{pg_dump_command(url)}")
    with terminal.hints_without_store(url):
        path, events, jobs = back_up(url, file, time.time())
    terminal.say([f"backup: {path}", f"{path.stat().st_size:,} bytes, {events} events, {jobs} jobs"])


def _status_lines(found: Status) -> list[str]:
    schema = f"revision {found.revision}"
    if found.revision < found.release_revision:
        schema += f"; run `theeye-bridge db upgrade`, this release needs {found.release_revision}"
    elif found.revision > found.release_revision:
        schema += f", of a newer release; this release knows up to {found.release_revision}"
    since = "" if found.oldest_event_at is None else f", the oldest of {found.oldest_event_at}"
    jobs = ", ".join(f"{count} {state}" for state, count in found.jobs.items() if count)
    return [
        f"database: {found.database} ({found.engine} {found.engine_version}, {found.size:,} bytes)",
        f"schema: {schema}",
        f"events: {found.events}{since}",
        f"jobs: {jobs or 0}",
    ]
