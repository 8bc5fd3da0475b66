"""Pauses of tasks and routes, whose jobs wait until a person resumes them: units of work."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from bridge.core.job import Job, JobState
from bridge.outbox import audit
from bridge.outbox.locks import lock
from bridge.outbox.schema import jobs, pauses
from bridge.outbox.statement import Statement

#: How many jobs one unit of work updates.
BATCH_JOBS = 2000

_ROUTES_AND_TASKS = select(jobs.c.route, jobs.c.task_id, jobs.c.task).distinct()
_ALL = Statement(select(pauses).order_by(pauses.c.kind, pauses.c.name))


class Pausable(StrEnum):
    """The things that can be paused."""

    TASK = "task"
    ROUTE = "route"


@dataclass(frozen=True)
class Pause:
    """A pause in force."""

    kind: Pausable
    #: A task's id, or a route's name.
    name: str
    #: Seconds since the epoch.
    since: float

    def holds(self, job: Job) -> bool:
        """Return whether the job waits because of this pause."""
        return self.name == (job.task_id if self.kind is Pausable.TASK else job.route)


def pause(connection: Connection, kind: Pausable, name: str, now: float, entry: int | None = None) -> bool:
    """Pause; return False if it is paused already."""
    lock(connection, ("pauses",))
    if is_paused(connection, kind, name):
        return False
    connection.execute(insert(pauses).values(kind=kind, name=name, since=now))
    audit.count(connection, entry)
    return True


def resume(connection: Connection, kind: Pausable, name: str, now: float, entry: int | None = None) -> bool:
    """End a pause; return False if there is none. Call `restart_retry_windows` until it is done first."""
    # An attempt that ended meanwhile may have set an earlier job waiting.
    connection.execute(update(jobs).where(*_old_windows(kind, name, now)).values(retry_window_start=now))
    gone = connection.execute(delete(pauses).where(pauses.c.kind == kind, pauses.c.name == name))
    audit.count(connection, entry, gone.rowcount)
    return gone.rowcount == 1


def restart_retry_windows(
    connection: Connection, kind: Pausable, name: str, now: float, after: int
) -> int | None:
    """Start the retry window of some waiting jobs now, from the id `after`; return the last id, or None.

    Otherwise the first outage after a long pause would end them.
    """
    old = (*_old_windows(kind, name, now), jobs.c.id > after)
    # By id: from the beginning, each batch would read all jobs of the batches before it.
    last = connection.execute(
        select(func.max(select(jobs.c.id).where(*old).order_by(jobs.c.id).limit(BATCH_JOBS).subquery().c.id))
    ).scalar()
    if last is not None:
        connection.execute(update(jobs).where(*old, jobs.c.id <= last).values(retry_window_start=now))
    return last


def _old_windows(kind: Pausable, name: str, now: float) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of the waiting jobs whose retry window started before now."""
    column = jobs.c.task_id if kind is Pausable.TASK else jobs.c.route
    return jobs.c.state == JobState.WAITING, column == name, jobs.c.retry_window_start < now


def is_paused(connection: Connection, kind: Pausable, name: str) -> bool:
    return any((each.kind, each.name) == (kind, name) for each in paused(connection))


def routes_and_tasks(connection: Connection) -> list[tuple[str, str, str]]:
    """Return the route, task id and task name of all stored jobs."""
    return [(row.route, row.task_id, row.task) for row in connection.execute(_ROUTES_AND_TASKS)]


def paused(connection: Connection) -> list[Pause]:
    """Return the pauses in force."""
    return [Pause(Pausable(row.kind), row.name, row.since) for row in _ALL.rows(connection, {})]
