"""Counters: the counts of ``/metrics``, written in the commit of what they count.

A unit of work adds to sums in memory, and its transaction writes each sum once, to a row of its writer. No
process waits for a row lock of another, which would last until the other's commit is on the disk.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import orjson
from sqlalchemy import Connection, bindparam, delete, func, select, text

from bridge.core.job import JobState
from bridge.core.metrics import EVENTS, JOBS, JOBS_ENDED, LAST_EVENT, OLDEST_WAITING, Metric, Series
from bridge.outbox.locks import lock
from bridge.outbox.schema import counters, jobs
from bridge.outbox.statement import Statement

#: Where a connection has the sums of its transaction.
_SUMS = "bridge_counters"
#: The writer of the rows to which `fold` adds all others.
_FOLDED = ""
#: The states whose jobs are few, or need a person.
_STATES = (JobState.WAITING, JobState.SENDING, JobState.DEAD, JobState.UNKNOWN)

# The sums are one parameter, an object in JSON: PostgreSQL's driver takes longer for arrays.
_EACH = {"postgresql": "json_each_text(CAST(:sums AS json))", "sqlite": "json_each(:sums)"}
_SQL = """
INSERT INTO counters (writer, series, value, at)
SELECT :writer, key, CAST(value AS double precision), :at FROM EACH WHERE true
ON CONFLICT (writer, series) DO UPDATE SET value = counters.value + excluded.value, at = LATEST
"""
# A folded row may be older than the one to which it is added, and a clock may be set back.
_LATEST = {"postgresql": "greatest(counters.at, excluded.at)", "sqlite": "max(counters.at, excluded.at)"}
_ADD = Statement(
    lambda dialect: text(_SQL.replace("EACH", _EACH[dialect]).replace("LATEST", _LATEST[dialect]))
)
_UNFOLDED = select(counters).where(counters.c.writer != _FOLDED).order_by(counters.c.at)
_DELETE = delete(counters).where(
    counters.c.writer == bindparam("of_writer"), counters.c.series == bindparam("of_series")
)
_TOTALS = select(
    counters.c.series, func.sum(counters.c.value).label("value"), func.max(counters.c.at).label("at")
).group_by(counters.c.series)
# Both read the index jobs_by_state.
_COUNTS = select(jobs.c.state, func.count()).where(jobs.c.state.in_(_STATES)).group_by(jobs.c.state)
_OLDEST = select(jobs.c.created_at).where(jobs.c.state == JobState.WAITING).order_by(jobs.c.id).limit(1)


@contextmanager
def counting(connection: Connection, writer: str) -> Iterator[None]:
    """Add up the counts of the units of work inside, and write them at the end of the transaction."""
    connection.info[_SUMS] = {}
    yield
    if sums := _sums(connection):
        # One order, in the last statement of a transaction: two of one writer cannot block each other.
        _write(connection, writer, time.time(), sorted(sums.items()))


def count(connection: Connection, metric: Metric, *labels: str, by: float = 1) -> None:
    """Add to a counter. Part of a unit of work."""
    _add(_sums(connection), [((metric.name, *labels), by)])


def observe(connection: Connection, metric: Metric, value: float, *labels: str) -> None:
    """Add a value to a histogram. Part of a unit of work."""
    _add(_sums(connection), metric.observed(value, *labels))


def count_end(connection: Connection, route: str, task: str, state: JobState) -> None:
    """Count a job that is now in this state, unless it waits. Part of a unit of work."""
    if state != JobState.WAITING:
        count(connection, JOBS_ENDED, route, task, state)


@contextmanager
def undone_on_error(connection: Connection) -> Iterator[None]:
    """Undo the counts of the units inside if an error ends them."""
    before = dict(_sums(connection))
    try:
        yield
    except BaseException:
        connection.info[_SUMS] = before
        raise


def fold(connection: Connection) -> None:
    """Add the rows of all processes to one row for each series; processes that still run begin new rows."""
    lock(connection, ("counters",))
    # Without the rows to which processes add just now: this unit of work must not wait for them.
    for row in connection.execute(_UNFOLDED.with_for_update(skip_locked=True)).all():
        connection.execute(_DELETE, {"of_writer": row.writer, "of_series": row.series})
        _write(connection, _FOLDED, row.at, [(orjson.loads(row.series), row.value)])


def measure(connection: Connection, now: float) -> dict[Series, float]:
    """Return all counts over all processes, and the numbers of stored jobs."""
    found: dict[Series, float] = {(JOBS.name, state): 0 for state in _STATES}
    found |= {(JOBS.name, state): number for state, number in connection.execute(_COUNTS)}
    found[OLDEST_WAITING.name,] = max(0.0, now - (connection.execute(_OLDEST).scalar() or now))
    for row in connection.execute(_TOTALS):
        series = tuple(orjson.loads(row.series))
        found[series] = row.value
        if series[0] == EVENTS.name:
            last = (LAST_EVENT.name, series[1])
            found[last] = max(row.at, found.get(last, 0))
    return found


def _sums(connection: Connection) -> dict[Series, float]:
    sums: dict[Series, float] = connection.info.setdefault(_SUMS, {})
    return sums


def _add(sums: dict[Series, float], counted: Iterable[tuple[Series, float]]) -> None:
    for series, amount in counted:
        sums[series] = sums.get(series, 0) + amount


def _write(connection: Connection, writer: str, at: float, sums: Iterable[tuple[Series, float]]) -> None:
    named = {orjson.dumps(series).decode(): value for series, value in sums}
    _ADD.count(connection, {"writer": writer, "at": at, "sums": orjson.dumps(named).decode()})
