"""What a person says of jobs and events: units of work.

`entry` is the number of the audit's entry that counts what they change.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Row, func, select, update

from bridge.core.errors import NoSuchEvent, NoSuchJob, WrongState
from bridge.core.job import Job, JobState, NewJob
from bridge.outbox import audit, groups, storing
from bridge.outbox.locks import lock_all
from bridge.outbox.row_mapping import job_of
from bridge.outbox.schema import events, jobs
from bridge.outbox.webhook import StoredJob

#: The states of a job that a person may cancel: it waits, for its time or for a person.
CANCELABLE = (JobState.WAITING, JobState.DEAD, JobState.UNKNOWN)


def retry(
    connection: Connection,
    job_id: int,
    again: NewJob | None,
    now: float,
    items: Sequence[NewJob] = (),
    entry: int | None = None,
) -> JobState:
    """Set a dead job waiting as `again`, or store the `items` in its place; its state now.

    Raises NoSuchJob, WrongState.
    """
    lock_all(connection, storing.lock_names(items if again is None else [again]))
    dead = _expect(connection, job_id, JobState.DEAD)
    if again is None and items:
        audit.count(connection, entry)
        return storing.make_items(connection, dead, items, now)
    if again is not None and dead.replay:
        again = storing.replayed(again)
    state = storing.revive(connection, [(dead, again)], now, by_person=True)[job_id]
    audit.count(connection, entry, int(state is not JobState.DEAD))
    return state


def resolve(
    connection: Connection, job_id: int, now: float, *, sent: bool, entry: int | None = None
) -> tuple[JobState, bool]:
    """Let an unknown job be accepted, or sent again in its old place, unless a newer one replaces it.

    Its state now, and whether a job may be sent now. Raises NoSuchJob, WrongState.
    """
    job = _locked_with_group(connection, job_id, (JobState.UNKNOWN,))
    values: dict[str, object]
    if sent:
        state = JobState.ACCEPTED
        # It ended when its answer was lost: from then on its key is held, and not from now.
        values = {"reason": "a person said that TheEye has it"}
    elif job.group is not None and (by := groups.superseding_job(connection, job)) is not None:
        state = JobState.SKIPPED
        values = {"reason": groups.superseded_reason(by), "ended_at": now}
    else:
        state = JobState.WAITING
        values = {
            "reason": "a person said to send it again", "ended_at": None,
            "due_at": now, "retry_window_start": now, "window_attempts": 0, "window_unknowns": 0,
        }  # fmt: skip
    may_go = _settle(connection, job, {"state": state, **values}, now, entry)
    return state, may_go or state is JobState.WAITING


def cancel(
    connection: Connection,
    job_id: int,
    expected: tuple[JobState, ...],
    now: float,
    entry: int | None = None,
) -> bool:
    """Let a job that is in one of these states never be sent; whether another may be sent now.

    Raises NoSuchJob, WrongState.
    """
    canceled = {"state": JobState.CANCELED, "reason": "canceled by a person", "ended_at": now}
    return _settle(connection, _locked_with_group(connection, job_id, expected), canceled, now, entry)


def replay(
    connection: Connection, event_id: int, new: Sequence[NewJob], now: float, entry: int | None = None
) -> tuple[StoredJob, ...]:
    """Store jobs of an event beside those that it has made. Raises NoSuchEvent."""
    lock_all(connection, storing.lock_names(new))
    row = select(events.c.id).where(events.c.id == event_id).with_for_update()
    if connection.execute(row).first() is None:
        raise NoSuchEvent(f"there is no event {event_id}")
    last = select(func.max(jobs.c.replay)).where(jobs.c.event_id == event_id)
    number = (connection.execute(last).scalar_one() or 0) + 1
    audit.count(connection, entry)
    return storing.insert_jobs(connection, event_id, new, now, replay=number)


def _settle(
    connection: Connection, job: Job, values: dict[str, object], now: float, entry: int | None
) -> bool:
    """Whether the next job of its group waited for that."""
    audit.count(connection, entry)
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(**values))
    return job.group is not None and groups.unblock_head(connection, job.task_id, job.group, now)


def _locked_with_group(connection: Connection, job_id: int, expected: tuple[JobState, ...]) -> Job:
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
    if row is not None and row.group_name is not None:
        lock_all(connection, [groups.lock_name(row.task_id, row.group_name)])
    job = job_of(_expect(connection, job_id, *expected))
    if row is not None and (job.task_id, job.group) != (row.task_id, row.group_name):
        # Asked for again in this very moment, and into another group, whose lock is not held.
        raise WrongState(f"job {job_id} has just been asked for again; look at it once more")
    return job


def _expect(connection: Connection, job_id: int, *states: JobState) -> Row[tuple[object, ...]]:
    row = connection.execute(select(jobs).where(jobs.c.id == job_id).with_for_update()).first()
    if row is None:
        raise NoSuchJob(f"there is no job {job_id}")
    if row.state not in states:
        raise WrongState(f"job {job_id} is {row.state}, expected {' or '.join(states)}")
    return row
