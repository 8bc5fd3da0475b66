"""Heartbeats of the processes that deliver: units of work."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from bridge.outbox.row_mapping import without_nul
from bridge.outbox.schema import processes

#: The age of a heartbeat, in seconds, after which its process is deleted.
FORGET_AFTER = 3600.0


@dataclass(frozen=True)
class Process:
    """A process that delivers."""

    #: Seconds since the epoch.
    heartbeat_at: float
    #: Why it cannot send; None if it can.
    trouble: str | None


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
    return [Process(row.heartbeat_at, row.trouble) for row in connection.execute(query)]


def unregister(connection: Connection, process: str) -> None:
    """Record that a process no longer delivers."""
    connection.execute(delete(processes).where(processes.c.id == process))
