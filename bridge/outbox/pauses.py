"""Pauses: tasks and routes whose jobs wait until a person resumes them: units of work, and parts of such."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from bridge.core.job import Job, JobState
from bridge.outbox import audit
from bridge.outbox.locks import lock
from bridge.outbox.schema import jobs, pauses

#: How many jobs one unit of work renews.
BATCH_JOBS = 2000

_ROUTES_AND_TASKS = select(jobs.c.route, jobs.c.task_id, jobs.c.task).distinct()
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

    def holds(self, job: Job) -> bool:
        """Whether the job is one of its task's or route's."""
        return self.name == (job.task_id if self.kind is Pausable.TASK else job.route)


def pause(connection: Connection, kind: Pausable, name: str, now: float, entry: int | None = None) -> bool:
    """False where it is paused already."""
    lock(connection, "pauses")
    if is_paused(connection, kind, name):
        return False
    connection.execute(insert(pauses).values(kind=kind, name=name, since=now))
    audit.count(connection, entry)
    return True


def resume(connection: Connection, kind: Pausable, name: str, entry: int | None = None) -> bool:
    """False where it is not paused. Before it, `renew` until there are none."""
    gone = connection.execute(delete(pauses).where(pauses.c.kind == kind, pauses.c.name == name))
    audit.count(connection, entry, gone.rowcount)
    return gone.rowcount == 1


def restart_retry_windows(connection: Connection, kind: Pausable, name: str, now: float) -> bool:
    """For some of the jobs that wait, let the time for which they are tried again begin anew.

    Whether there were any. Else the first outage after a long pause would end them.
    """
    column = jobs.c.task_id if kind is Pausable.TASK else jobs.c.route
    some = select(jobs.c.id).where(
        jobs.c.state == JobState.WAITING, column == name, jobs.c.retry_window_start < now
    )
    renewed = update(jobs).where(jobs.c.id.in_(some.limit(BATCH_JOBS)), jobs.c.state == JobState.WAITING)
    return connection.execute(renewed.values(retry_window_start=now)).rowcount > 0


def is_paused(connection: Connection, kind: Pausable, name: str) -> bool:
    return any((each.kind, each.name) == (kind, name) for each in paused(connection))


def routes_and_tasks(connection: Connection) -> list[tuple[str, str, str]]:
    """The routes of all stored jobs, with the ids and the names of their tasks."""
    return [(row.route, row.task_id, row.task) for row in connection.execute(_ROUTES_AND_TASKS)]


def paused(connection: Connection) -> list[Pause]:
    """Those that last now."""
    return [_pause_of(row) for row in connection.execute(_ALL)]


def _pause_of(row: Row[Any]) -> Pause:
    return Pause(Pausable(row.kind), row.name, row.since)
