"""Read stored events with their jobs, the newest first, page by page."""

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
from bridge.routing.silence import OnSilence

#: The most events of a page.
PAGE_EVENTS = 200
#: The most bytes of stored bodies and of jobs of a page, unless one event has more.
PAGE_BYTES = 16 * 1024**2
#: The size of a job without its arguments, bytes.
JOB_BYTES = 1024


@dataclass(frozen=True)
class EventWithJobs:
    """A stored event with the jobs of its routes: those since its last replay, if it was replayed."""

    id: int
    #: Its body is empty if it is not stored.
    event: Event
    jobs: tuple[Job, ...]


_NEWEST = (
    select(events.c.id, events.c.received_at)
    .where(
        tuple_(events.c.received_at, events.c.id) < tuple_(bindparam("before"), bindparam("before_id")),
        events.c.received_at >= bindparam("since"),
        # No route reads the bridge's own events.
        events.c.source != OnSilence.SOURCE,
    )
    .order_by(events.c.received_at.desc(), events.c.id.desc())
    .limit(bindparam("limit"))
)
_OF_SOME = jobs.c.event_id.in_(bindparam("some", expanding=True))
_SOME = events.c.id.in_(bindparam("some", expanding=True))
# Without reading the bodies.
_SIZES = select(events.c.id, func.length(events.c.body).label("size")).where(_SOME)
_ARGUMENTS = func.coalesce(func.sum(func.length(jobs.c.arguments)), 0)
_JOB_SIZES = (
    select(jobs.c.event_id.label("id"), (_ARGUMENTS + JOB_BYTES * func.count()).label("size"))
    .where(_OF_SOME)
    .group_by(jobs.c.event_id)
)
_EVENTS = select(events).where(_SOME)
# An alert belongs to no route.
_JOBS: Select[Any] = select(jobs).where(_OF_SOME, jobs.c.route != OnDead.NAME).order_by(jobs.c.id)


def history(database: Database, since: float | None, last: int | None) -> Iterator[EventWithJobs]:
    """Return the newest events, at most `last`, received since `since`, in seconds since the epoch.

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
                # Bodies are decompressed one by one.
                made_last = _of_last_replay(made[event_id])
                yield EventWithJobs(event_id, event_of(found[event_id]), tuple(map(job_of, made_last)))
        place["before_id"], place["before"] = list(newest.items())[-1]
        left = None if left is None else left - len(newest)


def _page(
    connection: Connection, place: Mapping[str, float]
) -> tuple[dict[int, float], dict[int, Row[Any]], Mapping[int, list[Any]]]:
    """Return when each of the next events was received, the events, and their jobs, by the events' ids."""
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
    """Return the jobs of the last replay, and those of a redelivery after it, in the order of their ids."""
    last = max((row.replay for row in made), default=0)
    since = min((row.id for row in made if row.replay == last), default=0)
    return list({(row.route, row.item_key): row for row in made if row.id >= since}.values())
