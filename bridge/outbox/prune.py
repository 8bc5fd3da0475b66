"""Delete what is older than its retention, in small units of work that reads prepare."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, delete, func, or_, select, tuple_, update

from bridge.core.job import JobState
from bridge.outbox import counters
from bridge.outbox.audit import count
from bridge.outbox.database import Database
from bridge.outbox.locks import lock
from bridge.outbox.schema import attempts, audit, events, jobs
from bridge.process.settings import Retention

#: The most events of one read.
READ_LIMIT = 500
#: The most events of one unit of work, which blocks other writers.
BATCH_EVENTS = 200
#: The most jobs, and bytes of bodies, of one unit of work, unless one event has more.
BATCH_JOBS = 2_000
BATCH_BYTES = 16 * 1024**2
#: The retention of audit entries in seconds, or that of events if it is longer.
AUDIT_RETENTION = 365 * 86400.0


@dataclass(frozen=True)
class Pruned:
    """How many of each were deleted."""

    events: int = 0
    jobs: int = 0
    #: Bodies of events that remain.
    bodies: int = 0

    def __bool__(self) -> bool:
        return self != Pruned()

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(self.events + other.events, self.jobs + other.jobs, self.bodies + other.bodies)


@dataclass(frozen=True)
class Cutoffs:
    """The times before which events and bodies expire, seconds since the epoch."""

    events: float
    bodies: float
    unmatched: float

    @classmethod
    def of(cls, retention: Retention, now: float) -> Cutoffs:
        return cls(now - retention.events, now - retention.bodies, now - retention.unmatched)


@dataclass(frozen=True)
class Candidate:
    """The facts that decide whether an event has expired."""

    received_at: float
    #: Bytes of the body as it is stored.
    size: int
    jobs: int = 0
    #: Its jobs that wait, are being sent, or are unknown.
    undecided: int = 0
    dead: int = 0
    #: When its last job ended.
    ended_at: float = 0.0

    def is_expired(self, cutoffs: Cutoffs) -> bool:
        """Return whether the event has expired with its jobs."""
        if not self.jobs:
            return self.received_at < cutoffs.unmatched
        return not self.undecided and max(self.received_at, self.ended_at) < cutoffs.events

    def body_is_expired(self, cutoffs: Cutoffs) -> bool:
        """Return whether the event has an expired body: a dead job may still need it."""
        return self.size > 0 and not self.undecided and not self.dead and self.received_at < cutoffs.bodies


# Most old events have jobs and no body until they expire. The statement that finds them skips them.
_MAY_EXPIRE = or_(
    events.c.received_at < bindparam("events"),
    func.length(events.c.body) > 0,
    # For EXISTS, PostgreSQL would read all jobs.
    select(jobs.c.id).where(jobs.c.event_id == events.c.id).limit(1).scalar_subquery().is_(None),
)
# Each statement reads few rows by an index, however many there are.
_OLDEST = (
    select(events.c.id, events.c.received_at, _MAY_EXPIRE.label("may_expire"))
    .where(
        tuple_(events.c.received_at, events.c.id) > tuple_(bindparam("after"), bindparam("after_id")),
        events.c.received_at < bindparam("before"),
    )
    .order_by(events.c.received_at, events.c.id)
    .limit(READ_LIMIT)
)
_SOME = events.c.id.in_(bindparam("some", expanding=True))
_OF_SOME = jobs.c.event_id.in_(bindparam("some", expanding=True))
# Without the body, and without later columns, for which SQLite would read the body.
_SIZES = select(events.c.id, func.length(events.c.body).label("size")).where(_SOME)
_UNDECIDED = jobs.c.state.in_([JobState.WAITING, JobState.SENDING, JobState.UNKNOWN])
_JOBS = (
    select(
        jobs.c.event_id,
        func.count().label("jobs"),
        func.sum(case((_UNDECIDED, 1), else_=0)).label("undecided"),
        func.sum(case((jobs.c.state == JobState.DEAD, 1), else_=0)).label("dead"),
        func.max(func.coalesce(jobs.c.ended_at, jobs.c.created_at)).label("ended_at"),
    )
    .where(_OF_SOME)
    .group_by(jobs.c.event_id)
)
# Skips an event that a redelivery updates; waits for a job that is retried, to see its new state.
_LOCK_EVENTS = select(events.c.id).where(_SOME).order_by(events.c.id).with_for_update(skip_locked=True)
_LOCK_JOBS = select(func.count()).select_from(
    select(jobs.c.id).where(_OF_SOME).order_by(jobs.c.id).with_for_update().subquery()
)
_DELETE_ATTEMPTS = delete(attempts).where(attempts.c.job_id.in_(select(jobs.c.id).where(_OF_SOME)))
_DELETE_JOBS = delete(jobs).where(_OF_SOME)
_DELETE_EVENTS = delete(events).where(_SOME)
_OLD_AUDIT = audit.c.at < bindparam("before")
_DELETE_BODIES = update(events).where(_SOME).values(body=b"")


def prune(
    database: Database, retention: Retention, now: float, stop: Callable[[], bool], entry: int | None = None
) -> Pruned:
    """Delete what is older than its retention, the oldest first, until `stop` returns true.

    An event expires, with its jobs and their attempts, if it has no job or all its jobs ended long ago. Its
    body expires earlier, unless one of its jobs may still need it. The audit `entry` counts both. Raises
    StoreUnavailable.
    """
    cutoffs = Cutoffs.of(retention, now)
    pruned = Pruned()
    place = {
        "after": float("-inf"),
        "after_id": 0,
        "before": max(cutoffs.bodies, cutoffs.unmatched),
        "events": cutoffs.events,
    }
    while not stop() and (oldest := database.read(partial(_oldest, place=place))):
        place["after_id"], place["after"] = oldest[-1].id, oldest[-1].received_at
        received = {row.id: row.received_at for row in oldest if row.may_expire}
        candidates = database.read(partial(_candidates, received=received)) if received else {}
        for some in _batches(candidates, cutoffs):
            if stop():
                break
            pruned += database.write(partial(delete_expired, some=some, cutoffs=cutoffs, entry=entry))
    if not stop():
        _prune_audit(database, now - max(AUDIT_RETENTION, retention.events))
        database.write(counters.fold)
    return pruned


def _prune_audit(database: Database, before: float) -> None:
    old = {"before": before}
    any_old = select(audit.c.id).where(_OLD_AUDIT).limit(1)
    # Reading first: most passes find nothing, and a commit blocks other writers.
    if database.read(lambda connection: connection.execute(any_old, old).first()) is not None:
        database.write(lambda connection: connection.execute(delete(audit).where(_OLD_AUDIT), old))


def _oldest(connection: Connection, place: Mapping[str, float]) -> Sequence[Row[Any]]:
    """Return the next oldest events."""
    return connection.execute(_OLDEST, place).all()


def _candidates(connection: Connection, received: Mapping[int, float]) -> dict[int, Candidate]:
    """Return the facts of those events that still exist, in their order."""
    some = {"some": list(received)}
    size = {row.id: row.size for row in connection.execute(_SIZES, some)}
    candidates = {
        event_id: Candidate(at, size[event_id]) for event_id, at in received.items() if event_id in size
    }
    for row in connection.execute(_JOBS, some):
        if row.event_id in candidates:
            of_jobs = {"jobs": row.jobs, "undecided": row.undecided, "dead": row.dead}
            candidates[row.event_id] = replace(candidates[row.event_id], **of_jobs, ended_at=row.ended_at)
    return candidates


def _batches(candidates: Mapping[int, Candidate], cutoffs: Cutoffs) -> Iterator[dict[int, float]]:
    """Return batches of the events with something expired: when each was received, by id."""
    batch: dict[int, float] = {}
    many = size = 0
    for event_id, one in candidates.items():
        if not one.is_expired(cutoffs) and not one.body_is_expired(cutoffs):
            continue
        many, size = many + one.jobs, size + one.size
        if batch and (len(batch) == BATCH_EVENTS or many > BATCH_JOBS or size > BATCH_BYTES):
            yield batch
            batch, many, size = {}, one.jobs, one.size
        batch[event_id] = one.received_at
    if batch:
        yield batch


def delete_expired(
    connection: Connection, some: Mapping[int, float], cutoffs: Cutoffs, entry: int | None = None
) -> Pruned:
    """Delete what has still expired of these events, which come as when each was received, by id."""
    lock(connection, ("prune",))
    held = list(connection.execute(_LOCK_EVENTS, {"some": list(some)}).scalars())
    connection.execute(_LOCK_JOBS, {"some": held})
    candidates = _candidates(connection, {event_id: some[event_id] for event_id in held})
    expired = [each for each, one in candidates.items() if one.is_expired(cutoffs)]
    emptied = [
        each
        for each, one in candidates.items()
        if one.body_is_expired(cutoffs) and not one.is_expired(cutoffs)
    ]
    deleted_jobs = 0
    if expired:
        connection.execute(_DELETE_ATTEMPTS, {"some": expired})
        deleted_jobs = connection.execute(_DELETE_JOBS, {"some": expired}).rowcount
        connection.execute(_DELETE_EVENTS, {"some": expired})
    if emptied:
        connection.execute(_DELETE_BODIES, {"some": emptied})
    count(connection, entry, len(expired) + len(emptied))
    return Pruned(len(expired), deleted_jobs, len(emptied))
