"""Actions of people on jobs and events: units of work.

`entry` is the number of the audit entry that counts the changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from bridge.core.errors import NoSuchEvent, NoSuchJob, WrongState
from bridge.core.job import Job, JobState, NewJob
from bridge.outbox import audit, counters, groups, job_storage
from bridge.outbox.locks import lock_all
from bridge.outbox.row_mapping import job_of
from bridge.outbox.schema import events, jobs
from bridge.outbox.webhook import StoredJob

#: The states of a job that a person may cancel.
CANCELABLE = (JobState.WAITING, JobState.DEAD, JobState.UNKNOWN)


def retry(
    connection: Connection,
    job_id: int,
    again: NewJob | None,
    now: float,
    items: Sequence[NewJob] = (),
    entry: int | None = None,
) -> JobState:
    """Retry a dead job as `again`, or store the `items` in its place; return its new state.

    Raises NoSuchJob, WrongState.
    """
    lock_all(connection, job_storage.lock_names(items if again is None else [again]))
    dead = _expect(connection, job_id, JobState.DEAD)
    if again is None and items:
        audit.count(connection, entry)
        return job_storage.insert_items(connection, dead, items, now)
    if again is not None and dead.replay:
        again = job_storage.as_replay(again)
    state = job_storage.retry_dead(connection, [(dead, again)], now, by_person=True)[job_id]
    audit.count(connection, entry, int(state is not JobState.DEAD))
    return state


def resolve(
    connection: Connection, job_id: int, now: float, *, sent: bool, entry: int | None = None
) -> tuple[JobState, bool]:
    """Mark an unknown job accepted, or let it wait in its old position, unless a newer one supersedes it.

    Returns its new state, and whether a job may be sent now. Raises NoSuchJob, WrongState.
    """
    job = _locked(connection, job_id, (JobState.UNKNOWN,))
    values: dict[str, object]
    if sent:
        state = JobState.ACCEPTED
        # Without ended_at: the once_within key is held from when the answer was lost.
        values = {"reason": "resolved by a person: TheEye has it"}
    elif job.group is not None and (by := groups.superseding_job(connection, job)) is not None:
        state = JobState.SKIPPED
        values = {"reason": groups.superseded_reason(by), "ended_at": now}
    else:
        state = JobState.WAITING
        values = {
            "reason": "resolved by a person: send it again", "ended_at": None,
            "due_at": now, "retry_window_start": now, "window_attempts": 0, "window_unknowns": 0,
        }  # fmt: skip
    may_go = _update(connection, job, {"state": state, **values}, now, entry)
    return state, may_go or state is JobState.WAITING


def cancel(
    connection: Connection, job_id: int, expected: tuple[JobState, ...], now: float, entry: int | None = None
) -> bool:
    """Cancel a job that is in one of the `expected` states; return whether another may be sent now.

    Raises NoSuchJob, WrongState.
    """
    canceled = {"state": JobState.CANCELED, "reason": "canceled by a person", "ended_at": now}
    return _update(connection, _locked(connection, job_id, expected), canceled, now, entry)


def replay(
    connection: Connection, event_id: int, new: Sequence[NewJob], now: float, entry: int | None = None
) -> tuple[StoredJob, ...]:
    """Store jobs of an event in addition to those that it has. Raises NoSuchEvent."""
    lock_all(connection, job_storage.lock_names(new))
    row = select(events.c.id).where(events.c.id == event_id).with_for_update()
    if connection.execute(row).first() is None:
        raise NoSuchEvent(f"there is no event {event_id}")
    last = select(func.max(jobs.c.replay)).where(jobs.c.event_id == event_id)
    number = (connection.execute(last).scalar_one() or 0) + 1
    audit.count(connection, entry)
    return job_storage.insert_jobs(connection, event_id, new, now, replay=number)


def _update(connection: Connection, job: Job, values: dict[str, Any], now: float, entry: int | None) -> bool:
    """Update a job; return whether the next job of its group was blocked."""
    audit.count(connection, entry)
    counters.count_end(connection, job.route, job.task, values["state"])
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(**values))
    return job.group is not None and groups.unblock_head(connection, job.task_id, job.group, now)


def _locked(connection: Connection, job_id: int, expected: tuple[JobState, ...]) -> Job:
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
    if row is not None and row.group_name is not None:
        lock_all(connection, [groups.lock_name(row.task_id, row.group_name)])
    job = job_of(_expect(connection, job_id, *expected))
    if row is not None and (job.task_id, job.group) != (row.task_id, row.group_name):
        # It was retried into another group, whose lock this unit does not hold.
        raise WrongState(f"job {job_id} has just been retried; check its state")
    return job


def _expect(connection: Connection, job_id: int, *states: JobState) -> Row[tuple[object, ...]]:
    row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).first()
    if row is None:
        raise NoSuchJob(f"there is no job {job_id}")
    if row.state not in states:
        raise WrongState(f"job {job_id} is {row.state}, expected {' or '.join(states)}")
    return row
