"""Audit: who did what and when to which jobs, events, tasks or routes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Row, bindparam, insert, select, update

from bridge.core.event import JSON
from bridge.outbox.database import Database
from bridge.outbox.schema import audit

_BEGIN = insert(audit).returning(audit.c.id)
_COUNT = (
    update(audit).where(audit.c.id == bindparam("entry")).values(changed=audit.c.changed + bindparam("count"))
)
_END = update(audit).where(audit.c.id == bindparam("entry")).values(ended_at=bindparam("now"))


@dataclass(frozen=True)
class Action:
    """An action that a person is about to take."""

    #: The name that the person gave, or the account's.
    actor: str
    #: The operating system's account that runs the command; None without a command.
    account: str | None
    #: Such as ``jobs retry``.
    name: str
    #: Ids, or a filter.
    target: Mapping[str, JSON]
    #: How many it selects; None if they were not counted.
    selected: int | None = None


@dataclass(frozen=True)
class AuditEntry:
    """A recorded action."""

    id: int
    #: When it started, seconds since the epoch.
    at: float
    action: Action
    #: How many it changed.
    changed: int
    #: Seconds since the epoch; None while it runs, and if the process ended before it did.
    ended_at: float | None


class Audit:
    """The audit of one store. Every method may be called from any thread. Raises StoreUnavailable."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    @contextmanager
    def recording(self, action: Action) -> Iterator[int]:
        """Record an action before its first effect; the context is the number of its entry.

        Each unit of work of the action adds its changes to the entry in its own transaction. If one fails, or
        the process ends, the entry has no end and the number of changes until then.
        """
        row = {
            "at": self._clock(), "actor": action.actor, "account": action.account, "action": action.name,
            "target": orjson.dumps(action.target), "selected": action.selected, "changed": 0,
        }  # fmt: skip
        entry: int = self._database.write(lambda connection: connection.execute(_BEGIN, row).scalar_one())
        yield entry
        ended = {"entry": entry, "now": self._clock()}
        self._database.write(lambda connection: connection.execute(_END, ended))

    def entries(self, *, since: float | None = None, limit: int = 50) -> list[AuditEntry]:
        """Return the newest entries first; `since` is their earliest start in seconds since the epoch."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        query = query if since is None else query.where(audit.c.at >= since)
        rows = self._database.read(lambda connection: connection.execute(query).all())
        return [_entry_of(row) for row in rows]


def count(connection: Connection, entry: int | None, changed: int = 1) -> None:
    """Add to the changes of an entry; do nothing without one. Part of a unit of work."""
    if entry is not None and changed:
        connection.execute(_COUNT, {"entry": entry, "count": changed})


def _entry_of(row: Row[Any]) -> AuditEntry:
    action = Action(row.actor, row.account, row.action, orjson.loads(row.target), row.selected)
    return AuditEntry(row.id, row.at, action, row.changed, row.ended_at)
