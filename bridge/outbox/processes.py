"""Processes that deliver and say so from time to time: units of work."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, update

from bridge.outbox.row_mapping import without_nul
from bridge.outbox.schema import processes

#: After how many seconds of silence a process is forgotten.
FORGET_AFTER = 3600.0


@dataclass(frozen=True)
class Process:
    """A process that delivers."""

    #: When it last said so, seconds since the epoch.
    heartbeat_at: float
    #: What keeps it from sending; None where nothing does.
    trouble: str | None


def heartbeat(connection: Connection, process: str, trouble: str | None, now: float) -> None:
    """Write that a process delivers."""
    values = {"heartbeat_at": now, "trouble": without_nul(trouble)}
    known = update(processes).where(processes.c.id == process).values(**values)
    if connection.execute(known).rowcount == 0:
        connection.execute(insert(processes).values(id=process, **values))
        connection.execute(delete(processes).where(processes.c.heartbeat_at < now - FORGET_AFTER))


def unregister(connection: Connection, process: str) -> None:
    """Write that a process delivers no more."""
    connection.execute(delete(processes).where(processes.c.id == process))
