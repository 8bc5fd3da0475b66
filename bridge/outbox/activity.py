"""What happened lately, for an overview: counts of each route, source and minute."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, Integer, bindparam, cast, func, select

from bridge.core.job import Job, JobState
from bridge.outbox.bounds import Window, first_id, window_conditions
from bridge.outbox.database import Database
from bridge.outbox.listing import SCANNED
from bridge.outbox.row_mapping import job_of
from bridge.outbox.schema import IS_LISTED, NEEDS_PERSON, events, jobs, refused_requests

MINUTE = 60

# Built once: to build one takes longer than to execute it.
_OF_SOURCE = events.c.source == bindparam("source")
_EVENTS_OF_SOURCE = select(func.count()).select_from(
    select(events.c.id)
    .where(_OF_SOURCE, events.c.id >= bindparam("first"), IS_LISTED)
    .limit(SCANNED)
    .subquery()
)
_LAST_OF_SOURCE = (
    select(events.c.received_at).where(_OF_SOURCE, IS_LISTED).order_by(events.c.id.desc()).limit(1)
)
_REFUSED_OF_SOURCE = (
    select(refused_requests.c.reason, refused_requests.c.at)
    .where(refused_requests.c.source == bindparam("source"), refused_requests.c.at >= bindparam("since"))
    .order_by(refused_requests.c.id.desc())
)
# An index has all that this reads.
_NEEDY = (
    select(jobs.c.route, jobs.c.state, func.count().label("jobs"), func.max(jobs.c.id).label("newest"))
    .where(NEEDS_PERSON)
    .group_by(jobs.c.state, jobs.c.route)
)
_BACKLOG = select(func.count(), func.min(jobs.c.id)).where(jobs.c.state == JobState.WAITING)


@dataclass(frozen=True)
class RouteActivity:
    """What a route did."""

    #: Its jobs in the window, at most SCANNED.
    jobs: int
    #: Its newest job ever.
    last: Job | None


@dataclass(frozen=True)
class SourceActivity:
    """What a source sent."""

    #: Its events in the window, at most SCANNED.
    events: int
    #: When its newest event was received, seconds since the epoch.
    last_at: float | None
    #: Its refused requests in the window, of those that are stored, and the newest one's reason.
    refused: int
    reason: str | None
    refused_at: float | None


@dataclass(frozen=True)
class Needy:
    """The dead or unknown jobs of a route."""

    route: str
    state: JobState
    count: int
    #: The newest.
    newest: Job


@dataclass(frozen=True)
class Minute:
    """The jobs that were created in one minute, by what became of them."""

    #: Its start, seconds since the epoch.
    at: float
    good: int = 0
    bad: int = 0
    open: int = 0


@dataclass(frozen=True)
class Backlog:
    """The jobs that wait."""

    count: int
    #: When the oldest was created, seconds since the epoch.
    oldest_at: float | None


class Activity:
    """What happened lately in one store. Every method may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def routes(self, names: Iterable[str], window: Window) -> dict[str, RouteActivity]:
        """Return what each of these routes did."""
        return self._database.read(partial(_routes, names=tuple(names), window=window))

    def sources(self, names: Iterable[str], window: Window) -> dict[str, SourceActivity]:
        """Return what each of these sources sent; unknown sources have the empty name."""
        return self._database.read(partial(_sources, names=tuple(names), window=window))

    def needy(self) -> list[Needy]:
        """Return the routes with dead or unknown jobs, that of the newest job first."""
        return self._database.read(_needy)

    def minutes(self, window: Window) -> list[Minute]:
        """Return the jobs of each minute of a window of whole minutes."""
        return self._database.read(partial(_minutes, window=window))

    def backlog(self) -> Backlog:
        """Return how many jobs wait, and since when."""

        def read(connection: Connection) -> Backlog:
            count, oldest = connection.execute(_BACKLOG).one()
            created = select(jobs.c.created_at).where(jobs.c.id == oldest)
            return Backlog(count, connection.execute(created).scalar() if count else None)

        return self._database.read(read)


def _routes(connection: Connection, names: tuple[str, ...], window: Window) -> dict[str, RouteActivity]:
    first = first_id(connection, jobs, window.since)
    found = {}
    for name in names:
        some = (
            select(jobs.c.id)
            .where(jobs.c.route == name, jobs.c.id >= first, IS_LISTED)
            .limit(SCANNED)
            .subquery()
        )
        count = connection.execute(select(func.count()).select_from(some)).scalar_one()
        last = connection.execute(
            select(jobs).where(jobs.c.route == name, IS_LISTED).order_by(jobs.c.id.desc()).limit(1)
        ).first()
        found[name] = RouteActivity(count, None if last is None else job_of(last))
    return found


def _sources(connection: Connection, names: tuple[str, ...], window: Window) -> dict[str, SourceActivity]:
    first = first_id(connection, events, window.since)
    found = {}
    for name in names:
        values = {"source": name, "first": first, "since": window.since}
        count = connection.execute(_EVENTS_OF_SOURCE, values).scalar_one()
        last = connection.execute(_LAST_OF_SOURCE, values).scalar()
        refused = connection.execute(_REFUSED_OF_SOURCE, values).all()
        reason, at = refused[0] if refused else (None, None)
        found[name] = SourceActivity(count, last, len(refused), reason, at)
    return found


def _needy(connection: Connection) -> list[Needy]:
    rows = connection.execute(_NEEDY).all()
    newest = select(jobs).where(jobs.c.id.in_([row.newest for row in rows]))
    by_id = {row.id: job_of(row) for row in connection.execute(newest)}
    found = [Needy(row.route, JobState(row.state), row.jobs, by_id[row.newest]) for row in rows]
    return sorted(found, key=lambda each: -each.newest.id)


def _minutes(connection: Connection, window: Window) -> list[Minute]:
    # PostgreSQL rounds to the second, SQLite cuts.
    number = cast(jobs.c.created_at - window.since, Integer) // MINUTE
    conditions = window_conditions(connection, jobs, window)
    query = select(number.label("minute"), jobs.c.state, func.count().label("jobs"))
    query = query.where(*conditions).group_by("minute", jobs.c.state)
    end = window.since if window.until is None else window.until
    counts: list[dict[str, int]] = [{} for _ in range(max(0, round((end - window.since) / MINUTE)))]
    kinds = {JobState.ACCEPTED: "good", JobState.DEAD: "bad", JobState.UNKNOWN: "bad",
             JobState.WAITING: "open", JobState.SENDING: "open"}  # fmt: skip
    for row in connection.execute(query):
        kind = kinds.get(JobState(row.state))
        if kind is not None and row.minute < len(counts):
            counts[row.minute][kind] = counts[row.minute].get(kind, 0) + row.jobs
    return [Minute(window.since + at * MINUTE, **each) for at, each in enumerate(counts)]
