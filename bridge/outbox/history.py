"""Reading back what has come, the newest first: a few events at a time, each with its jobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, select, tuple_

from bridge.core.event import Event
from bridge.core.job import Job
from bridge.outbox.database import Database
from bridge.outbox.row_mapping import event_of, job_of
from bridge.outbox.schema import events, jobs
from bridge.routing.route import OnDead

#: The most events that are read at a time.
PAGE_EVENTS = 200
#: The most bytes of bodies, as they are stored, and of jobs that they have together, unless one has more.
PAGE_BYTES = 16 * 1024**2
#: What a job weighs beside its arguments, bytes.
JOB_BYTES = 1024


@dataclass(frozen=True)
class EventWithJobs:
    """A stored event with the jobs that routes made of it: since its last replay, if it was replayed."""

    id: int
    #: As far as it is kept: without its body, that is empty.
    event: Event
    jobs: tuple[Job, ...]


# Compiled once; each reads few rows by an index, however many there are.
_NEWEST = (
    select(events.c.id, events.c.received_at)
    .where(
        tuple_(events.c.received_at, events.c.id) < tuple_(bindparam("before"), bindparam("before_id")),
        events.c.received_at >= bindparam("since"),
    )
    .order_by(events.c.received_at.desc(), events.c.id.desc())
    .limit(bindparam("limit"))
)
_OF_SOME = jobs.c.event_id.in_(bindparam("some", expanding=True))
_SOME = events.c.id.in_(bindparam("some", expanding=True))
# The length alone, so that no body is read.
_SIZES = select(events.c.id, func.length(events.c.body).label("size")).where(_SOME)
_ARGUMENTS = func.coalesce(func.sum(func.length(jobs.c.arguments)), 0)
_JOB_SIZES = (
    select(jobs.c.event_id.label("id"), (_ARGUMENTS + JOB_BYTES * func.count()).label("size"))
    .where(_OF_SOME)
    .group_by(jobs.c.event_id)
)
_EVENTS = select(events).where(_SOME)
# That of a death is no route's.
_JOBS: Select[Any] = select(jobs).where(_OF_SOME, jobs.c.route != OnDead.NAME).order_by(jobs.c.id)


def history(database: Database, since: float | None, last: int | None) -> Iterator[EventWithJobs]:
    """The newest events, at most `last` of them, that were received `since`, seconds since the epoch.

    Raises StoreUnavailable.
    """
    place = {"before": float("inf"), "before_id": 0, "since": float("-inf") if since is None else since}
    left = last
    while left is None or left > 0:
        limit = PAGE_EVENTS if left is None else min(PAGE_EVENTS, left)
        newest, found, made = database.read(partial(_page, place={**place, "limit": limit}))
        if not newest:
            return
        for event_id in newest:
            if event_id in found:
                # What is compressed is decompressed one by one.
                made_last = _of_last_replay(made[event_id])
                yield EventWithJobs(event_id, event_of(found[event_id]), tuple(map(job_of, made_last)))
        place["before_id"], place["before"] = list(newest.items())[-1]
        left = None if left is None else left - len(newest)


def _page(
    connection: Connection, place: Mapping[str, float]
) -> tuple[dict[int, float], dict[int, Row[Any]], Mapping[int, list[Any]]]:
    """When each of the next events was received, the events, and the jobs of each, by the events' ids."""
    newest = {row.id: row.received_at for row in connection.execute(_NEWEST, place)}
    sizes: defaultdict[int, int] = defaultdict(int)
    for query in (_SIZES, _JOB_SIZES):
        for row in connection.execute(query, {"some": list(newest)}):
            sizes[row.id] += row.size or 0
    size = 0
    for number, event_id in enumerate(list(newest)):
        size += sizes[event_id]
        if number and size > PAGE_BYTES:
            newest = dict(list(newest.items())[:number])
            break
    some = {"some": list(newest)}
    made: defaultdict[int, list[Any]] = defaultdict(list)
    for row in connection.execute(_JOBS, some):
        made[row.event_id].append(row)
    return newest, {row.id: row for row in connection.execute(_EVENTS, some)}, made


def _of_last_replay(made: list[Any]) -> list[Any]:
    """In the order of their ids; and what a webhook that came again made after it."""
    last = max((row.replay for row in made), default=0)
    since = min((row.id for row in made if row.replay == last), default=0)
    return list({(row.route, row.item_key): row for row in made if row.id >= since}.values())
