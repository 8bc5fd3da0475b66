"""Alerts: jobs of `on_dead` that report dead jobs: units of work."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from bridge.outbox import job_storage, keys
from bridge.outbox.locks import lock
from bridge.outbox.row_mapping import job_of
from bridge.outbox.schema import LACKS_ALERT, dead_job_alerts, jobs
from bridge.outbox.webhook import StoredJob
from bridge.routing.route import OnDead

#: The shortest time between two alerts of a route, seconds.
ALERT_INTERVAL = 3600.0
#: The age in seconds up to which a dead job causes an alert, so that a new on_dead reports no old ones.
MAX_AGE = 86_400.0

# Each job is marked. The last alert's time would not do: a job that died before it may be committed after it,
# and the clocks of several machines differ.
_PENDING = (
    LACKS_ALERT,
    jobs.c.ended_at > bindparam("since"),
    jobs.c.route != OnDead.NAME,
    jobs.c.route.not_in(
        select(dead_job_alerts.c.route).where(
            dead_job_alerts.c.at > bindparam("alerted_since"),
            # An alert by a clock that was ahead must not silence the route.
            dead_job_alerts.c.at < bindparam("alerted_until"),
        )
    ),
)
_ANY = select(jobs.c.id).where(*_PENDING).limit(1)
_MARK = update(jobs).where(*_PENDING).values(alerted=True).returning(jobs.c.id, jobs.c.route)
_JOB = select(jobs).where(jobs.c.id == bindparam("job"))


def pending(connection: Connection, now: float) -> bool:
    """Return whether an alert is due."""
    return connection.execute(_ANY, _times(now)).first() is not None


def create(connection: Connection, on_dead: OnDead, now: float) -> tuple[StoredJob, ...]:
    """Create one alert for each route with dead jobs; return the new jobs."""
    lock(connection, ("deaths",))
    by_route: dict[str, list[int]] = {}
    for row in connection.execute(_MARK, _times(now)):
        by_route.setdefault(row.route, []).append(row.id)
    made: list[StoredJob] = []
    for route, dead in by_route.items():
        last = job_of(connection.execute(_JOB, {"job": max(dead)}).one())
        made += job_storage.insert_jobs(connection, last.event_id, [on_dead.job_for(last, len(dead))], now)
        connection.execute(delete(dead_job_alerts).where(dead_job_alerts.c.route == route))
        connection.execute(insert(dead_job_alerts).values(route=route, at=now))
    return tuple(made)


def _times(now: float) -> dict[str, float]:
    return {
        "since": now - MAX_AGE,
        "alerted_since": now - ALERT_INTERVAL,
        "alerted_until": now + keys.CLOCK_TOLERANCE,
    }
