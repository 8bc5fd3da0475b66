"""Read the place, size, schema and content of a store, without an upgrade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text

from bridge.core.errors import EmptyStore
from bridge.core.event import rfc3339
from bridge.core.job import JobState
from bridge.outbox import migrations
from bridge.outbox.database import store_name
from bridge.outbox.postgresql import PostgreSQL
from bridge.outbox.schema import events, jobs
from bridge.outbox.sqlite import read_only

#: A statement for the version of each engine, and the size of the database in bytes.
_ENGINES = {
    "sqlite": "SELECT sqlite_version(), page_count * page_size FROM pragma_page_count, pragma_page_size",
    "postgresql": "SELECT current_setting('server_version'), pg_database_size(current_database())",
}


@dataclass(frozen=True)
class Status:
    """A store as it is, of any release. `db status --json` shows the fields under their names."""

    database: str
    engine: str
    engine_version: str
    size: int
    revision: str
    #: The revision that this release needs.
    release_revision: str
    events: int
    oldest_event_at: str | None
    jobs: Mapping[str, int]


def read_status(url: str) -> Status:
    """Read the status; nothing is written. Raises NoStore, StoreUnavailable."""
    if not url.startswith("postgres"):
        with read_only(url) as connection:
            return _status(connection, store_name(url))
    database = PostgreSQL(url)
    try:
        database.read(migrations.revision)  # with a time limit, which counting many rows would exceed
        return database.upgrade(lambda connection: _status(connection, store_name(url)))
    finally:
        database.close()


def _status(connection: Connection, place: str) -> Status:
    revision = migrations.revision(connection)
    if revision is None:
        raise EmptyStore("the database is empty")
    engine = connection.dialect.name
    version, size = connection.execute(text(_ENGINES[engine])).one()
    count, oldest = connection.execute(select(func.count(), func.min(events.c.received_at))).one()
    by_state = select(jobs.c.state, func.count()).group_by(jobs.c.state)
    found: dict[str, int] = dict(connection.execute(by_state).all())
    return Status(
        place, engine, version.split()[0], size, revision, migrations.HEAD, count,
        None if oldest is None else rfc3339(oldest), {str(state): found.get(state, 0) for state in JobState},
    )  # fmt: skip
