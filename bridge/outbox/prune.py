"""Letting go of what is older than it is kept: small units of work, found by reading beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import Connection, bindparam, case, delete, func, select, tuple_, update

from bridge.core.job import JobState
from bridge.outbox.audit import count
from bridge.outbox.database import Database
from bridge.outbox.locks import lock
from bridge.outbox.schema import attempts, audit, events, jobs
from bridge.process.settings import Retention

#: Of how many events at a time it is asked whether they may go.
READ_LIMIT = 500
#: The most of them in one unit of work, which holds up whoever else writes.
BATCH_EVENTS = 200
#: The most jobs, and bytes of bodies, that they have together, unless one event has more.
BATCH_JOBS = 2_000
BATCH_BYTES = 16 * 1024**2


#: How long entries of the audit are kept, seconds; longer where events are.
AUDIT_RETENTION = 365 * 86400.0


@dataclass(frozen=True)
class Pruned:
    """How many of each were let go."""

    events: int = 0
    jobs: int = 0
    #: Of events that stayed.
    bodies: int = 0

    def __bool__(self) -> bool:
        return self != Pruned()

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(self.events + other.events, self.jobs + other.jobs, self.bodies + other.bodies)


@dataclass(frozen=True)
class Cutoffs:
    """What came before goes; seconds since the epoch."""

    events: float
    bodies: float
    unmatched: float

    @classmethod
    def of(cls, retention: Retention, now: float) -> Cutoffs:
        return cls(now - retention.events, now - retention.bodies, now - retention.unmatched)


@dataclass(frozen=True)
class Candidate:
    """What there is of one event."""

    received_at: float
    #: Bytes of the body as it is stored.
    size: int
    jobs: int = 0
    #: Of its jobs, those that wait, are sent or are unknown.
    undecided: int = 0
    dead: int = 0
    #: When the last of its jobs ended, or was made where that is not known.
    ended_at: float = 0.0

    def is_expired(self, cutoffs: Cutoffs) -> bool:
        """Whether the event with its jobs is not needed any more."""
        if not self.jobs:
            return self.received_at < cutoffs.unmatched
        return not self.undecided and max(self.received_at, self.ended_at) < cutoffs.events

    def body_is_expired(self, cutoffs: Cutoffs) -> bool:
        """Whether there is a body that no job could be built from again: a dead one could."""
        return self.size > 0 and not self.undecided and not self.dead and self.received_at < cutoffs.bodies


# Compiled once; each reads few rows by an index, however many there are.
_OLDEST = (
    select(events.c.id, events.c.received_at)
    .where(
        tuple_(events.c.received_at, events.c.id) > tuple_(bindparam("after"), bindparam("after_id")),
        events.c.received_at < bindparam("before"),
    )
    .order_by(events.c.received_at, events.c.id)
    .limit(READ_LIMIT)
)
_SOME = events.c.id.in_(bindparam("some", expanding=True))
_OF_SOME = jobs.c.event_id.in_(bindparam("some", expanding=True))
# The length alone, so that no body is read; to read a column behind it SQLite would have to, too.
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
# An event that somebody completes stays; a job that somebody sets waiting is waited for, and then seen.
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
    database: Database,
    retention: Retention,
    now: float,
    stop: Callable[[], bool],
    entry: int | None = None,
) -> Pruned:
    """Let go of what is older than it is kept, the oldest first, until `stop` says so; what went.

    An event goes once it has made no job, or all of its jobs have ended long ago: with these and their
    attempts. Its body goes earlier, unless one of its jobs may still need it. `entry` of the audit counts
    both. Raises StoreUnavailable.
    """
    cutoffs = Cutoffs.of(retention, now)
    pruned = Pruned()
    place = {"after": float("-inf"), "after_id": 0, "before": max(cutoffs.bodies, cutoffs.unmatched)}
    while not stop() and (oldest := database.read(partial(_oldest, place=place))):
        place["after_id"], place["after"] = list(oldest.items())[-1]
        stock = database.read(partial(_stock, received=oldest))
        for some in _batches(stock, cutoffs):
            if stop():
                break
            pruned += database.write(partial(delete_expired, some=some, cutoffs=cutoffs, entry=entry))
    if not stop():
        _prune_audit(database, now - max(AUDIT_RETENTION, retention.events))
    return pruned


def _prune_audit(database: Database, before: float) -> None:
    old = {"before": before}
    any_old = select(audit.c.id).where(_OLD_AUDIT).limit(1)
    # A read first: most passes find nothing, and a commit holds up whoever else writes.
    if database.read(lambda connection: connection.execute(any_old, old).first()) is not None:
        database.write(lambda connection: connection.execute(delete(audit).where(_OLD_AUDIT), old))


def _oldest(connection: Connection, place: Mapping[str, float]) -> dict[int, float]:
    """The next of the oldest events: when each was received, by id."""
    return {row.id: row.received_at for row in connection.execute(_OLDEST, place)}


def _stock(connection: Connection, received: Mapping[int, float]) -> dict[int, Candidate]:
    """What there is of each of these events, in their order, as far as they are still there."""
    some = {"some": list(received)}
    size = {row.id: row.size for row in connection.execute(_SIZES, some)}
    stock = {event_id: Candidate(at, size[event_id]) for event_id, at in received.items() if event_id in size}
    for row in connection.execute(_JOBS, some):
        if row.event_id in stock:
            of_jobs = {"jobs": row.jobs, "undecided": row.undecided, "dead": row.dead}
            stock[row.event_id] = replace(stock[row.event_id], **of_jobs, ended_at=row.ended_at)
    return stock


def _batches(stock: Mapping[int, Candidate], cutoffs: Cutoffs) -> Iterator[dict[int, float]]:
    """Those events of which something may go, a few at a time: when each was received, by id."""
    batch: dict[int, float] = {}
    many = size = 0
    for event_id, one in stock.items():
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
    """Let go of what still may go of these events: when each was received, by id."""
    lock(connection, "prune")
    held = list(connection.execute(_LOCK_EVENTS, {"some": list(some)}).scalars())
    connection.execute(_LOCK_JOBS, {"some": held})
    stock = _stock(connection, {event_id: some[event_id] for event_id in held})
    going = {event_id for event_id, one in stock.items() if one.is_expired(cutoffs)}
    emptied = [
        event_id for event_id, one in stock.items() if one.body_is_expired(cutoffs) and event_id not in going
    ]
    jobs_gone = 0
    if going:
        gone = {"some": list(going)}
        connection.execute(_DELETE_ATTEMPTS, gone)
        jobs_gone = connection.execute(_DELETE_JOBS, gone).rowcount
        connection.execute(_DELETE_EVENTS, gone)
    if emptied:
        connection.execute(_DELETE_BODIES, {"some": emptied})
    count(connection, entry, len(going) + len(emptied))
    return Pruned(len(going), jobs_gone, len(emptied))
