"""Heartbeats of the processes that deliver: units of work."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, func, insert, select, update

from bridge.core.job import Outcome
from bridge.outbox import rates
from bridge.outbox.row_mapping import without_nul
from bridge.outbox.schema import attempts, processes

#: The age of a heartbeat, in seconds, after which its process is deleted.
FORGET_AFTER = 3600.0
#: How many of the newest attempts are searched for an accepted one.
NEWEST_ATTEMPTS = 1000


@dataclass(frozen=True)
class Process:
    """A process that delivers."""

    #: Seconds since the epoch.
    heartbeat_at: float
    #: Why it cannot send; None if it can.
    trouble: str | None
    name: str = field(default="", compare=False)


def heartbeat(connection: Connection, process: str, trouble: str | None, now: float) -> None:
    """Record that a process delivers."""
    values = {"heartbeat_at": now, "trouble": without_nul(trouble)}
    known = update(processes).where(processes.c.id == process).values(**values)
    if connection.execute(known).rowcount == 0:
        connection.execute(insert(processes).values(id=process, **values))
        connection.execute(delete(processes).where(processes.c.heartbeat_at < now - FORGET_AFTER))


def seen(connection: Connection, since: float) -> list[Process]:
    """Return the processes with a heartbeat since then."""
    query = select(processes).where(processes.c.heartbeat_at >= since).order_by(processes.c.id)
    return [Process(row.heartbeat_at, row.trouble, row.id) for row in connection.execute(query)]


def last_accepted_at(connection: Connection, now: float) -> float:
    """Return when the last accepted one of the newest attempts started, seconds since the epoch; else 0.

    A start in the future comes from a clock that was ahead, and does not count.
    """
    newest = select(attempts.c.outcome, attempts.c.started_at).order_by(attempts.c.id.desc())
    found = newest.limit(NEWEST_ATTEMPTS).subquery()
    is_past = found.c.started_at <= rates.store_time(connection, now) + 1.0
    last = select(func.max(found.c.started_at)).where(found.c.outcome == Outcome.ACCEPTED, is_past)
    return connection.execute(last).scalar_one() or 0.0


def unregister(connection: Connection, process: str) -> None:
    """Record that a process no longer delivers."""
    connection.execute(delete(processes).where(processes.c.id == process))
