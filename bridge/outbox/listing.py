"""List stored events and jobs, the newest first: filters, pages by key, and counts.

A filter with an index selects in the database, however much is stored. Any other filter looks only at the
newest SCANNED rows that the first selects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    Connection,
    Row,
    Select,
    Subquery,
    Table,
    and_,
    func,
    select,
    true,
)

from bridge.core.event import Event
from bridge.core.job import Job, JobState
from bridge.outbox.bounds import Condition, Shown, Window, had_ended, in_shown, window_conditions
from bridge.outbox.database import Database
from bridge.outbox.row_mapping import EventSummary, event_of, job_of, summary_of
from bridge.outbox.schema import BLOCKS_GROUP, IS_LISTED, NEEDS_PERSON, events, jobs

T = TypeVar("T")

#: How many rows a filter without an index looks at, and where counts end.
SCANNED = 1000
#: The most events or jobs that a person can change at once.
IDS_LIMIT = 100_000
#: The rows of a page.
PAGE_ROWS = 50


@dataclass(frozen=True)
class EventFilter:
    """The events that a person looks for; None selects all."""

    window: Window
    source: str | None = None
    delivery_id: str | None = None
    #: ``event`` or ``event.action``.
    name: str | None = None
    #: True: with jobs; False: without.
    has_jobs: bool | None = None
    #: With a job in this state.
    state: JobState | None = None
    #: With a job of this route.
    route: str | None = None
    #: With a problem in a condition or a loop.
    has_warnings: bool = False
    #: Selects by the whole event, such as by a field of its payload.
    matches: Callable[[Event], bool] | None = None
    shown: Shown | None = None


@dataclass(frozen=True)
class JobFilter:
    """The jobs that a person looks for; None selects all."""

    window: Window
    state: JobState | None = None
    route: str | None = None
    task_id: str | None = None
    source: str | None = None
    shown: Shown | None = None


@dataclass(frozen=True)
class Count:
    """How many rows a filter selects."""

    number: int
    #: Whether there may be more, because only SCANNED rows were looked at.
    is_least: bool

    def __str__(self) -> str:
        return f"{self.number:,}{'+' if self.is_least else ''}"


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of a list."""

    #: The newest first.
    rows: tuple[T, ...]
    #: The next page has the rows with smaller ids; None on the last page.
    before: int | None
    #: Whether the filter looked only at the newest SCANNED rows.
    is_partial: bool


@dataclass(frozen=True)
class ListedEvent:
    """An event of a list, with the states of its jobs."""

    summary: EventSummary
    jobs: tuple[Job, ...]


def _sources() -> Select[Any]:
    """Return the query of the sources of stored events: one look-up in the index for each."""
    first = select(func.min(events.c.source).label("source")).cte(recursive=True)
    following = select(func.min(events.c.source)).where(events.c.source > first.c.source).scalar_subquery()
    found = first.union_all(select(following).where(first.c.source.is_not(None)))
    return select(found.c.source).where(found.c.source.is_not(None))


_SOURCES = _sources()


class Listing:
    """The lists of one store. Every method may be called from any thread. Raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def events(
        self, wanted: EventFilter, before: int | None = None, limit: int = PAGE_ROWS
    ) -> Page[ListedEvent]:
        """Return one page of events, each with its jobs: those with ids below `before`."""
        return self._database.read(partial(_list_events, wanted=wanted, before=before, limit=limit))

    def count_events(self, wanted: EventFilter) -> dict[str, Count]:
        """Count the newest SCANNED events: ``all``, ``jobs`` (with), ``none`` (without), ``failed``.

        Ignores `matches`, which would read every event.
        """
        return self._database.read(partial(_count_events, wanted=wanted))

    def jobs(self, wanted: JobFilter, before: int | None = None, limit: int = PAGE_ROWS) -> Page[Job]:
        """Return one page of jobs: those with ids below `before`."""
        return self._database.read(partial(_list_jobs, wanted=wanted, before=before, limit=limit))

    def count_jobs(self, wanted: JobFilter) -> dict[JobState | None, Count]:
        """Count the jobs in each state, and in any under None; each count looks at SCANNED rows."""
        return self._database.read(partial(_count_jobs, wanted=wanted))

    def shown_jobs(self, wanted: JobFilter) -> Shown:
        """Return the bounds of the jobs that a person may change at once, the newest IDS_LIMIT."""

        def read(connection: Connection) -> Shown:
            query, is_partial = _job_query(connection, wanted)
            some = query.with_only_columns(jobs.c.id, jobs.c.ended_at).limit(IDS_LIMIT).subquery()
            of_id = (func.coalesce(edge(some.c.id), 0) for edge in (func.min, func.max))
            row = connection.execute(select(func.count(), *of_id, func.max(some.c.ended_at))).one()
            return Shown(row[0], row[1], row[2], row[3], is_partial)

        return self._database.read(read)

    def shown_events(self, wanted: EventFilter) -> Shown:
        """Return the bounds of the events that a person may change at once, the newest IDS_LIMIT."""

        def read(connection: Connection) -> Shown:
            query, is_partial = _event_query(connection, wanted)
            ids = _matching(connection, query, wanted.matches, IDS_LIMIT)
            ended = None
            if wanted.state is not None:
                # There are at most SCANNED.
                in_state = jobs.c.event_id.in_(ids), jobs.c.state == wanted.state
                ended = connection.execute(select(func.max(jobs.c.ended_at)).where(*in_state)).scalar()
            return Shown(len(ids), min(ids, default=0), max(ids, default=0), ended, is_partial)

        return self._database.read(read)

    def job_ids(self, wanted: JobFilter, reached: int | None, limit: int, *, falls: bool) -> list[int]:
        """Return the next ids after the one that was reached, in descending order if it `falls`."""

        def read(connection: Connection) -> list[int]:
            query, _ = _job_query(connection, wanted)
            query = _after(query.with_only_columns(jobs.c.id), jobs, reached, falls=falls)
            return [row.id for row in connection.execute(query.limit(limit))]

        return self._database.read(read)

    def event_ids(self, wanted: EventFilter, reached: int | None, limit: int) -> list[int]:
        """Return the next ids above the one that was reached."""

        def read(connection: Connection) -> list[int]:
            query, _ = _event_query(connection, wanted)
            return _matching(connection, _after(query, events, reached), wanted.matches, limit)

        return self._database.read(read)

    def behind(self, job: Job, limit: int) -> list[Job]:
        """Return the jobs of the same group that wait for the job, in their order."""
        return self._database.read(partial(_behind, job=job, limit=limit))

    def whole_events(self, ids: Iterable[int]) -> Iterator[tuple[int, Event]]:
        """Yield the events of these ids that have a body, one by one: together they may be large."""
        for event_id in ids:
            one = select(events).where(events.c.id == event_id, func.length(events.c.body) > 0)
            for row in self._database.read(partial(_rows, query=one)):
                yield event_id, event_of(row)


def _rows(connection: Connection, query: Select[Any]) -> Sequence[Row[Any]]:
    return connection.execute(query).all()


def _list_events(
    connection: Connection, wanted: EventFilter, before: int | None, limit: int
) -> Page[ListedEvent]:
    query, is_partial = _event_query(connection, wanted)
    query = query if before is None else query.where(events.c.id < before)
    ids = _matching(connection, query, wanted.matches, limit + 1)
    shown = ids[:limit]
    return Page(_listed(connection, shown), shown[-1] if len(ids) > limit else None, is_partial)


def _event_query(connection: Connection, wanted: EventFilter) -> tuple[Select[Any], bool]:
    """Return the query of the events' ids, the newest first, and whether it looks only at some."""
    indexed, rest = _event_conditions(connection, wanted)
    if not rest and wanted.matches is None:
        return select(events.c.id).where(*indexed).order_by(events.c.id.desc()), False
    newest = _newest(events, indexed)
    query = select(events.c.id).join(newest, newest.c.id == events.c.id).where(*rest)
    return query.order_by(events.c.id.desc()), True


def _matching(
    connection: Connection, query: Select[Any], matches: Callable[[Event], bool] | None, limit: int
) -> list[int]:
    """Return the first ids of a query whose events match."""
    if matches is None:
        return [row.id for row in connection.execute(query.limit(limit))]
    found: list[int] = []
    candidates = [row.id for row in connection.execute(query)]
    for start in range(0, len(candidates), PAGE_ROWS):
        some = candidates[start : start + PAGE_ROWS]
        falls = some[0] > some[-1]
        rows = select(events).where(events.c.id.in_(some))
        rows = rows.order_by(events.c.id.desc() if falls else events.c.id)
        # Bodies are decompressed one by one.
        found += [row.id for row in connection.execute(rows) if row.body and matches(event_of(row))]
        if len(found) >= limit:
            break
    return found[:limit]


def _after(query: Select[Any], table: Table, reached: int | None, *, falls: bool = False) -> Select[Any]:
    """Return the part of a list after an id, in this order."""
    query = query.order_by(None).order_by(table.c.id.desc() if falls else table.c.id)
    if reached is None:
        return query
    return query.where(table.c.id < reached if falls else table.c.id > reached)


def _listed(connection: Connection, ids: Sequence[int]) -> tuple[ListedEvent, ...]:
    columns = [column for column in events.c if column.name not in ("body", "headers", "query")]
    made = select(func.count()).where(jobs.c.event_id == events.c.id).scalar_subquery().label("jobs")
    query: Select[Any] = select(*columns, made).where(events.c.id.in_(ids)).order_by(events.c.id.desc())
    summaries = [summary_of(row) for row in connection.execute(query)]
    of_event: dict[int, list[Job]] = {each: [] for each in ids}
    # A loop may have made thousands; the counts by state are in the summary of the page.
    some = select(jobs).where(jobs.c.event_id.in_(ids)).order_by(jobs.c.id).limit(SCANNED)
    for row in connection.execute(some):
        of_event[row.event_id].append(job_of(row))
    return tuple(ListedEvent(each, tuple(of_event[each.id])) for each in summaries)


def _event_conditions(connection: Connection, wanted: EventFilter) -> tuple[list[Condition], list[Condition]]:
    """Return the conditions that an index answers, and the rest."""
    indexed = window_conditions(connection, events, wanted.window)
    indexed += in_shown(events, wanted.shown)
    if wanted.source is not None:
        indexed += [events.c.source == wanted.source, IS_LISTED]
    if wanted.delivery_id is not None:
        # The index begins with the source, which may no longer be in the routing table.
        sources = [row.source for row in connection.execute(_SOURCES)]
        indexed += [events.c.source.in_(sources), events.c.delivery_id == wanted.delivery_id]
    rest: list[Condition] = []
    if wanted.name is not None:
        event, _, action = wanted.name.rpartition(".")
        is_named = events.c.event == wanted.name
        rest.append(is_named | ((events.c.event == event) & (events.c.action == action)))
    made = select(jobs.c.id).where(jobs.c.event_id == events.c.id)
    if wanted.has_jobs is not None:
        rest.append(made.exists() if wanted.has_jobs else ~made.exists())
    if wanted.state is not None:
        # Not a column alone: SQLite would read all jobs of the state for each event.
        in_state = jobs.c.state.concat("") == wanted.state
        rest.append(made.where(in_state, *had_ended(wanted.shown)).exists())
    if wanted.route is not None:
        rest.append(made.where(jobs.c.route == wanted.route).exists())
    if wanted.has_warnings:
        rest.append(func.length(events.c.warnings) > len(b"[]"))
    return indexed, rest


def _list_jobs(connection: Connection, wanted: JobFilter, before: int | None, limit: int) -> Page[Job]:
    query, is_partial = _job_query(connection, wanted)
    query = query if before is None else query.where(jobs.c.id < before)
    found = [job_of(row) for row in connection.execute(query.limit(limit + 1))]
    shown = tuple(found[:limit])
    return Page(shown, shown[-1].id if len(found) > limit else None, is_partial)


def _job_query(connection: Connection, wanted: JobFilter) -> tuple[Select[Any], bool]:
    """Return the query of the jobs, the newest first, and whether it looks only at some."""
    window = window_conditions(connection, jobs, wanted.window)
    indexed, rest = _job_conditions(wanted, window)
    if not rest:
        return select(jobs).where(*indexed).order_by(jobs.c.id.desc()), False
    newest = _newest(jobs, indexed)
    query = select(jobs).join(newest, newest.c.id == jobs.c.id).where(*rest)
    return query.order_by(jobs.c.id.desc()), True


def _behind(connection: Connection, job: Job, limit: int) -> list[Job]:
    if job.group is None or job.position is None:
        return []
    query = select(jobs).where(
        jobs.c.task_id == job.task_id,
        jobs.c.group_name == job.group,
        jobs.c.position > job.position,
        BLOCKS_GROUP,
    )
    return [job_of(row) for row in connection.execute(query.order_by(jobs.c.position).limit(limit))]


def _count_jobs(connection: Connection, wanted: JobFilter) -> dict[JobState | None, Count]:
    window = window_conditions(connection, jobs, wanted.window)
    of_all, rest = _job_conditions(replace(wanted, state=None), window)
    newest = _newest(jobs, of_all)
    query = select(jobs.c.state, func.count(), func.count().filter(and_(true(), *rest)))
    query = query.join_from(jobs, newest, newest.c.id == jobs.c.id).group_by(jobs.c.state)
    found = {state: (scanned, number) for state, scanned, number in connection.execute(query)}
    is_cut = sum(scanned for scanned, _ in found.values()) == SCANNED
    counts: dict[JobState | None, Count] = {None: Count(sum(number for _, number in found.values()), is_cut)}
    for state in JobState:
        # The list of this state looks at the same rows.
        indexed, rest = _job_conditions(replace(wanted, state=state), window)
        if len(indexed) == len(of_all):  # no index has the state
            counts[state] = Count(found.get(state, (0, 0))[1], is_cut)
        else:
            counts[state] = _count_newest(connection, indexed, rest)
    return counts


def _count_newest(connection: Connection, indexed: Sequence[Condition], rest: Sequence[Condition]) -> Count:
    newest = _newest(jobs, indexed)
    if not rest:
        scanned = found = connection.execute(select(func.count()).select_from(newest)).scalar_one()
    else:
        query = select(func.count(), func.count().filter(and_(true(), *rest)))
        scanned, found = connection.execute(query.join_from(jobs, newest, newest.c.id == jobs.c.id)).one()
    return Count(found, scanned == SCANNED)


def _count_events(connection: Connection, wanted: EventFilter) -> dict[str, Count]:
    everything = replace(wanted, has_jobs=None, has_warnings=False)
    indexed, rest = _event_conditions(connection, everything)
    made = select(jobs.c.id).where(jobs.c.event_id == events.c.id).exists()
    failed = func.length(events.c.warnings) > len(b"[]")
    newest = _newest(events, indexed)
    counts = (func.count().filter(and_(tab, *rest)) for tab in (true(), made, failed))
    query = select(func.count(), *counts).join_from(events, newest, newest.c.id == events.c.id)
    scanned, *numbers = connection.execute(query).one()
    found, with_jobs, with_warnings = (Count(number, scanned == SCANNED) for number in numbers)
    without = replace(found, number=found.number - with_jobs.number)
    return {"all": found, "jobs": with_jobs, "none": without, "failed": with_warnings}


def _newest(table: Table, conditions: Sequence[Condition]) -> Subquery:
    """Return the ids of the rows that a filter without an index looks at."""
    return select(table.c.id).where(*conditions).order_by(table.c.id.desc()).limit(SCANNED).subquery()


def _job_conditions(
    wanted: JobFilter, window: Sequence[Condition]
) -> tuple[list[Condition], list[Condition]]:
    """Return the conditions that an index answers, and the rest."""
    of_route = [] if wanted.route is None else [jobs.c.route == wanted.route]
    of_task = [] if wanted.task_id is None else [jobs.c.task_id == wanted.task_id]
    in_state = [] if wanted.state is None else [jobs.c.state == wanted.state]
    # Such jobs are few, and their index has their route.
    needs_person = wanted.state in (JobState.DEAD, JobState.UNKNOWN)
    indexed: list[Condition] = [*window, *in_shown(jobs, wanted.shown), *had_ended(wanted.shown)]
    rest: list[Condition]
    if needs_person and of_route:
        indexed, rest = [*indexed, *in_state, NEEDS_PERSON, *of_route], [*of_task]
    elif of_route:
        indexed, rest = [*indexed, *of_route, IS_LISTED], [*in_state, *of_task]
    elif of_task and not needs_person:
        indexed, rest = [*indexed, *of_task, IS_LISTED], [*in_state]
    else:
        indexed, rest = [*indexed, *in_state], [*of_task]
    if wanted.source is not None:
        of_event = select(events.c.id).where(events.c.id == jobs.c.event_id, events.c.source == wanted.source)
        rest.append(of_event.exists())
    return indexed, rest
