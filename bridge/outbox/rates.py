"""Rate limits: how many attempts of a task may start in a span of time, over all processes.

Parts of units of work. They use the store's time, since the clocks of several machines differ.
"""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select, text

from bridge.core.task import Rate
from bridge.outbox.schema import attempts

_CLOCK = text("SELECT extract(epoch FROM clock_timestamp())")
_STARTED = (
    select(attempts.c.started_at)
    # A start in the future comes from a clock that was ahead: it must not block the task for as long.
    .where(
        attempts.c.task_id == bindparam("task"),
        attempts.c.started_at.between(bindparam("since"), bindparam("until")),
    )
    .order_by(attempts.c.started_at.desc())
    .limit(bindparam("most"))
)


def store_time(connection: Connection, here: float) -> float:
    """Return the time of PostgreSQL, or `here`, the process's, on SQLite; seconds since the epoch."""
    if connection.dialect.name == "postgresql":
        return float(connection.execute(_CLOCK).scalar_one())
    return here


def free_starts(connection: Connection, task_id: str, rate: Rate, now: float) -> int:
    """Return how many attempts may start."""
    return rate.attempts - len(_started(connection, task_id, rate, now))


def next_start_at(connection: Connection, task_id: str, rate: Rate, now: float) -> float | None:
    """Return when the next attempt may start; None: now."""
    started = _started(connection, task_id, rate, now)
    return started[-1] + rate.span if len(started) >= rate.attempts else None


def _started(connection: Connection, task_id: str, rate: Rate, now: float) -> list[float]:
    """Return when the last attempts within the span started, at most as many as allowed, newest first."""
    parameters = {"task": task_id, "since": now - rate.span, "until": now + 1.0, "most": rate.attempts}
    return list(connection.execute(_STARTED, parameters).scalars())
