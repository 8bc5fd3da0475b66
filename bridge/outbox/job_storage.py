"""Storing jobs of an event, and retrying dead ones: parts of units of work, which hold the jobs' locks."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from bridge.core.job import JobState, NewJob
from bridge.core.metrics import JOBS_CREATED
from bridge.outbox import counters, groups, keys
from bridge.outbox.row_mapping import JOB_COLUMNS, initial_values, job_row
from bridge.outbox.schema import jobs
from bridge.outbox.statement import insert_rows
from bridge.outbox.webhook import StoredJob

#: Added to the reason of a dead job that no route creates today.
STAYS_DEAD = "; not retried: its route was removed or no longer matches"
#: The reason of the dead job of a whole route that now has jobs for its items.
HAS_ITEMS = "replaced: the route now created one job for each item"

#: What identifies a job in the rows of one statement.
_KEY = itemgetter("event_id", "route", "item_key")
_INSERT_JOBS = insert_rows(jobs, JOB_COLUMNS, jobs.c.id, jobs.c.event_id, jobs.c.route, jobs.c.item_key)
_CHANGE_JOB = update(jobs).where(jobs.c.id == bindparam("job"))


def lock_names(new: Iterable[NewJob]) -> set[tuple[str, ...]]:
    """Return the names of the locks that a unit of work needs to store these jobs."""
    names = {groups.lock_name(job.task_id, job.group) for job in new if job.group is not None}
    return names | {keys.lock_name(job.route, job.once_key) for job in new if job.once_key is not None}


def insert_jobs(
    connection: Connection,
    event_id: int,
    new: Sequence[NewJob],
    now: float,
    *,
    replay: int = 0,
    redelivered: bool = False,
) -> tuple[StoredJob, ...]:
    """Store jobs of an event, each at the end of its group.

    A `replay`, by a person, ignores once_within keys and supersedes no job. If the event is `redelivered`,
    jobs that would supersede those of later events are skipped.
    """
    if not new:
        return ()
    if replay:
        new = [as_replay(job) for job in new]
    rows = [job_row(event_id, job, now, replay) for job in new]
    if redelivered:
        # The event's other jobs are not newer, whatever their ids are.
        groups.skip_superseded(connection, [(row, (event_id, sys.maxsize)) for row in rows], now)
    if not replay:
        keys.throttle(connection, new, rows, now)
    groups.assign_positions(connection, rows)
    ids = _insert(connection, rows)
    skipped = groups.supersede_waiting(connection, list(zip(ids, rows, strict=True)), now)
    return tuple(
        StoredJob(job_id, job.route, job.task, JobState.SKIPPED if job_id in skipped else row["state"])
        for job_id, job, row in zip(ids, new, rows, strict=True)
    )


def insert_independent_jobs(
    connection: Connection, events_jobs: Iterable[tuple[int, Sequence[NewJob], float]]
) -> dict[int, tuple[StoredJob, ...]]:
    """Store the jobs of those events that have only jobs without a group and key, in one statement.

    Each event is its id, its new jobs, and the time. Return the stored jobs by the event's id.
    """
    independent = [
        (job, job_row(event_id, job, now))
        for event_id, new, now in events_jobs
        if all(job.group is None and job.once_key is None for job in new)
        for job in new
    ]
    made = defaultdict[int, list[StoredJob]](list)
    ids = _insert(connection, [row for _, row in independent])
    for job_id, (job, row) in zip(ids, independent, strict=True):
        made[row["event_id"]].append(StoredJob(job_id, job.route, job.task, row["state"]))
    return {event_id: tuple(stored) for event_id, stored in made.items()}


def _insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[int]:
    """Return the ids of the new jobs, in the order of their rows."""
    ids = {tuple(key): job_id for job_id, *key in _INSERT_JOBS.rows_for(connection, rows)}
    for row in rows:
        counters.count(connection, JOBS_CREATED, row["route"], row["task"])
        counters.count_end(connection, row["route"], row["task"], row["state"])
    return [ids[_KEY(row)] for row in rows]


def as_replay(job: NewJob) -> NewJob:
    """Return the job as a replay stores it: it supersedes none."""
    return replace(job, latest=False)


def insert_items(
    connection: Connection, dead: Row[*tuple[Any, ...]], items: Sequence[NewJob], now: float
) -> JobState:
    """Store a route's jobs for single items and skip the dead job for the whole route; return its state."""
    of_route = (jobs.c.event_id == dead.event_id, jobs.c.route == dead.route, jobs.c.replay == dead.replay)
    there = set(connection.execute(select(jobs.c.item_key).where(*of_route)).scalars())
    missing = [job for job in items if job.item_key not in there]
    insert_jobs(connection, dead.event_id, missing, now, replay=dead.replay, redelivered=not dead.replay)
    skip_whole_routes(connection, [dead], now)
    return JobState.SKIPPED


def skip_whole_routes(connection: Connection, dead: Sequence[Row[*tuple[Any, ...]]], now: float) -> None:
    """Skip dead jobs for whole routes whose items now have jobs."""
    skipped = {"state": JobState.SKIPPED, "reason": HAS_ITEMS, "ended_at": now}
    if dead:
        connection.execute(_CHANGE_JOB, [{"job": row.id, **skipped} for row in dead])
    for row in dead:
        counters.count_end(connection, row.route, row.task, JobState.SKIPPED)


def retry_dead(
    connection: Connection,
    dead: Sequence[tuple[Row[*tuple[Any, ...]], NewJob | None]],
    now: float,
    *,
    by_person: bool = False,
) -> dict[int, JobState]:
    """Let dead jobs wait at the end of their groups, with new arguments; return their states by id.

    Each row comes with the job that today's table builds, or None if its route was removed or does not match.
    A job is skipped if it would supersede a newer one, or if its once_within key is held, unless a person
    retries it.
    """
    # The reason why it died stays: a person still needs it.
    stay = [
        {"job": old.id, "reason": f"{(old.reason or '').partition(STAYS_DEAD)[0]}{STAYS_DEAD}"}
        for old, new in dead
        if new is None
    ]
    if stay:
        connection.execute(_CHANGE_JOB, stay)
    states = {old.id: JobState.DEAD for old, _ in dead}
    built = [(old, new) for old, new in dead if new is not None]
    if not built:
        return states
    rows = [initial_values(new, now) for _, new in built]
    ages = [(old.event_id, old.id) for old, _ in built]
    groups.skip_superseded(connection, zip(rows, ages, strict=True), now)
    if not by_person:
        keys.throttle(connection, [new for _, new in built], rows, now)
    groups.assign_positions(connection, rows)
    stored = [(old.id, row) for (old, _), row in zip(built, rows, strict=True)]
    connection.execute(_CHANGE_JOB, [{"job": job_id, **row} for job_id, row in stored])
    for (_, new), row in zip(built, rows, strict=True):
        counters.count_end(connection, new.route, new.task, row["state"])
    skipped = groups.supersede_waiting(connection, stored, now)
    return states | {
        job_id: JobState.SKIPPED if job_id in skipped else row["state"] for job_id, row in stored
    }
