"""Keys of `once_within`: of the jobs of one route with one key, one runs in a span of time.

Part of a unit of work that holds the keys' locks (`lock_name`). A job holds its key while it waits or is
sent, and for the span after it was accepted or became unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, union_all

from bridge.core.event import rfc3339
from bridge.core.job import JobState, NewJob
from bridge.outbox.schema import HOLDS_KEY, jobs

#: How much the clocks of several machines may differ, seconds.
CLOCK_TOLERANCE = 60.0
#: The most keys in one query.
KEYS_LIMIT = 500

_OF_KEYS = (
    select(jobs.c.once_key, jobs.c.id, jobs.c.state, jobs.c.ended_at)
    .where(
        HOLDS_KEY,
        jobs.c.route == bindparam("route"),
        jobs.c.once_key.in_(bindparam("keys", expanding=True)),
    )
)  # fmt: skip
# Two ranges of the index. One statement, since a job that ends between two would be in neither.
_HOLDERS = union_all(
    _OF_KEYS.where(jobs.c.ended_at.is_(None)),
    # An end in the future comes from a clock that was ahead: it must not hold the key for as long.
    _OF_KEYS.where(jobs.c.ended_at > bindparam("since"), jobs.c.ended_at < bindparam("until")),
).order_by("id")


def lock_name(route: str, key: str) -> tuple[str, ...]:
    return ("once", route, key)


def throttle(
    connection: Connection, new: Iterable[NewJob], rows: Iterable[dict[str, Any]], now: float
) -> None:
    """Skip the rows whose key is held; of several rows with one key the first is not skipped."""
    asking: dict[tuple[str, float], list[tuple[str, dict[str, Any]]]] = {}
    for job, row in zip(new, rows, strict=True):
        if job.once_key is not None and job.once_within is not None and row["state"] == JobState.WAITING:
            asking.setdefault((job.route, job.once_within), []).append((job.once_key, row))
    for (route, within), wanted in asking.items():
        reasons = _held(connection, route, list(dict(wanted)), within, now)
        for key, row in wanted:
            if key in reasons:
                row |= {"state": JobState.SKIPPED, "reason": f"once_within: {reasons[key]}", "ended_at": now}
            else:
                reasons[key] = "another job of this event has the same key"


def _held(
    connection: Connection, route: str, keys: Sequence[str], within: float, now: float
) -> dict[str, str]:
    """Return the reason for each key that is held."""
    window = {"since": now - within, "until": now + CLOCK_TOLERANCE}
    reasons: dict[str, str] = {}
    for at in range(0, len(keys), KEYS_LIMIT):
        parameters = {"route": route, "keys": keys[at : at + KEYS_LIMIT], **window}
        reasons |= {row.once_key: _reason(row) for row in connection.execute(_HOLDERS, parameters)}
    return reasons


def _reason(row: Row[*tuple[Any, ...]]) -> str:
    if row.ended_at is None:
        return f"job {row.id} of the same key is {row.state}"
    return f"job {row.id} of the same key was {row.state} at {rfc3339(row.ended_at)[:19]}Z"
