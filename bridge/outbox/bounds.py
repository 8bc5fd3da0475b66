"""The bounds of a list: a span of time, and the rows that a person saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Table,
    TextClause,
    bindparam,
    case,
    func,
    literal,
    select,
)

from bridge.outbox.schema import events, jobs

#: A condition of a query.
Condition: TypeAlias = ColumnElement[bool] | TextClause

#: Ids are assigned in the order of commits: the times of two rows differ from this order by less, in seconds.
DISORDER_SECONDS = 120.0
#: Where the search for a time begins: more than any id.
_STEP = 2**62
#: When a row of each table was stored.
_TIMES = {events: events.c.received_at, jobs: jobs.c.created_at}


@dataclass(frozen=True)
class Window:
    """A span of time, in seconds since the epoch."""

    since: float
    until: float | None = None


@dataclass(frozen=True)
class Shown:
    """The rows of a list that a person saw. Those that came into it later are not selected.

    A job that was sent once more, and waits again, counts as the same.
    """

    count: int
    #: The first and the last id.
    oldest: int
    newest: int
    #: When the last of the jobs ended; None if none has.
    ended_at: float | None = None
    #: Whether the filter looked only at the newest SCANNED rows.
    is_partial: bool = False


def window_conditions(connection: Connection, table: Table, window: Window) -> list[Condition]:
    """Return the conditions on a row's time. Its id bounds it too, so that no index has the time."""
    time = _TIMES[table]
    first = first_id(connection, table, window.since - DISORDER_SECONDS)
    conditions: list[Condition] = [table.c.id >= first, time >= window.since]
    if window.until is not None:
        last = first_id(connection, table, window.until + DISORDER_SECONDS)
        conditions += [table.c.id <= last, time < window.until]
    return conditions


def first_id(connection: Connection, table: Table, since: float) -> int:
    """Return the first id whose row is about as late as `since`, by a search in the primary key."""
    return int(connection.execute(_SEARCHES[table], {"since": since}).scalar_one()) + 1


def _search(table: Table) -> Select[Any]:
    """Return the search of `first_id`: one statement, as each takes longer to send than to answer."""
    found = select(literal(0, BigInteger).label("low"), literal(_STEP, BigInteger).label("step"))
    search = found.cte("search", recursive=True)
    low, step = search.c.low, search.c.step
    later = select(_TIMES[table]).where(table.c.id >= low + step).order_by(table.c.id).limit(1)
    is_before = later.scalar_subquery() < bindparam("since")
    search = search.union_all(select(low + case((is_before, step), else_=0), step // 2).where(step > 0))
    return select(func.max(search.c.low))


#: Built once: to build one takes longer than to execute it.
_SEARCHES = {table: _search(table) for table in _TIMES}


def in_shown(table: Table, shown: Shown | None) -> list[Condition]:
    """Return the condition of rows that are not older or newer than those that were shown."""
    return [] if shown is None else [table.c.id.between(shown.oldest, shown.newest)]


def had_ended(shown: Shown | None) -> list[Condition]:
    """Return the condition of jobs that had ended when they were shown."""
    if shown is None or shown.ended_at is None:
        return []
    return [func.coalesce(jobs.c.ended_at, 0.0) <= shown.ended_at]
