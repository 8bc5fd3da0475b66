"""Pauses: tasks and routes whose jobs wait until a person resumes them: units of work, and parts of such."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from bridge.job import JobState
from bridge.outbox.locks import lock
from bridge.outbox.schema import jobs, pauses

_ALL = select(pauses).order_by(pauses.c.kind, pauses.c.name)


class Pausable(StrEnum):
    """What can be paused."""

    TASK = "task"
    ROUTE = "route"


@dataclass(frozen=True)
class Pause:
    """One that lasts."""

    kind: Pausable
    #: A task's id, or a route's name.
    name: str
    #: Seconds since the epoch.
    since: float


def pause(connection: Connection, kind: Pausable, name: str, now: float) -> bool:
    """False where it is paused already."""
    lock(connection, "pauses")
    if any((each.kind, each.name) == (kind, name) for each in paused(connection)):
        return False
    connection.execute(insert(pauses).values(kind=kind, name=name, since=now))
    return True


def resume(connection: Connection, kind: Pausable, name: str, now: float) -> bool:
    """False where it is not paused.

    The time for which a job is tried again begins anew: else the first outage after a long pause would
    end it.
    """
    gone = connection.execute(delete(pauses).where(pauses.c.kind == kind, pauses.c.name == name))
    if gone.rowcount == 0:
        return False
    column = jobs.c.task_id if kind is Pausable.TASK else jobs.c.route
    waiting = update(jobs).where(jobs.c.state == JobState.WAITING, column == name)
    connection.execute(waiting.values(fresh_at=now))
    return True


def paused(connection: Connection) -> list[Pause]:
    """Those that last now."""
    return [_pause_of(row) for row in connection.execute(_ALL)]


def _pause_of(row: Row[Any]) -> Pause:
    return Pause(Pausable(row.kind), row.name, row.since)
