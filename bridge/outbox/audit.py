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

#: How many entries a search by number looks at.
NAMING_SCANNED = 500

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
    #: Why, in the person's words.
    reason: str | None = None


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
    #: The last id of an action that is done in parts; None before the first part.
    reached: int | None = None


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
        entry = self.begin(action)
        yield entry
        self.end(entry)

    def begin(self, action: Action) -> int:
        """Record an action, and return the number of its entry."""
        row = {
            "at": self._clock(), "actor": action.actor, "account": action.account, "action": action.name,
            "target": orjson.dumps(action.target), "selected": action.selected, "changed": 0,
            "reason": action.reason,
        }  # fmt: skip
        entry: int = self._database.write(lambda connection: connection.execute(_BEGIN, row).scalar_one())
        return entry

    def advance(self, entry: int, reached: int | None, to: int) -> bool:
        """Take the next part of an action; return False if another request has taken it."""
        at = audit.c.reached.is_(None) if reached is None else audit.c.reached == reached
        part = update(audit).where(audit.c.id == entry, at).values(reached=to)
        return bool(self._database.write(lambda connection: connection.execute(part).rowcount))

    def end(self, entry: int) -> None:
        """Record that an action has done all that it will do."""
        ended = {"entry": entry, "now": self._clock()}
        self._database.write(lambda connection: connection.execute(_END, ended))

    def entry(self, entry: int) -> AuditEntry | None:
        """Return the entry of this number."""
        query = select(audit).where(audit.c.id == entry)
        row = self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else _entry_of(row)

    def naming(self, what: str, number: int, limit: int = 20) -> list[AuditEntry]:
        """Return the newest entries that name one of the ``jobs`` or ``events`` by its number."""
        newest = self.entries(limit=NAMING_SCANNED)
        return [each for each in newest if number in (each.action.target.get(what) or ())][:limit]

    def entries(
        self, *, since: float | None = None, before: int | None = None, limit: int = 50
    ) -> list[AuditEntry]:
        """Return the newest entries with ids below `before`; `since` is their earliest start, in seconds."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        query = query if since is None else query.where(audit.c.at >= since)
        query = query if before is None else query.where(audit.c.id < before)
        rows = self._database.read(lambda connection: connection.execute(query).all())
        return [_entry_of(row) for row in rows]


def count(connection: Connection, entry: int | None, changed: int = 1) -> None:
    """Add to the changes of an entry; do nothing without one. Part of a unit of work."""
    if entry is not None and changed:
        connection.execute(_COUNT, {"entry": entry, "count": changed})


def _entry_of(row: Row[Any]) -> AuditEntry:
    target = orjson.loads(row.target)
    action = Action(row.actor, row.account, row.action, target, row.selected, row.reason)
    return AuditEntry(row.id, row.at, action, row.changed, row.ended_at, row.reached)
