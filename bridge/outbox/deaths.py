"""Deaths: jobs that died and of which nobody was told yet: units of work."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select

from bridge.job import Job
from bridge.outbox import intake
from bridge.outbox.intake import StoredJob
from bridge.outbox.locks import lock
from bridge.outbox.records import job_of
from bridge.outbox.schema import IS_DEAD, jobs, tellings
from bridge.route import OnDead

#: At most one telling of a route in so many seconds.
TOLD_EVERY = 3600.0
#: A death is told of until it is so many seconds old: longer than another telling makes it wait.
TOLD_WITHIN = 2 * TOLD_EVERY

_UNTOLD = (
    select(func.max(jobs.c.id).label("last"), func.count().label("dead"))
    .outerjoin(tellings, tellings.c.route == jobs.c.route)
    .where(
        IS_DEAD,
        jobs.c.ended_at > bindparam("since"),
        jobs.c.route != OnDead.NAME,
        or_(
            tellings.c.at.is_(None),
            (tellings.c.at <= bindparam("told_before")) & (jobs.c.ended_at > tellings.c.at),
        ),
    )
    .group_by(jobs.c.route)
)
_JOB = select(jobs).where(jobs.c.id == bindparam("job"))


@dataclass(frozen=True)
class Deaths:
    """What somebody is to be told of one route."""

    #: The newest of the jobs that died.
    last: Job
    #: How many of the route died since the last telling.
    dead: int


def untold(connection: Connection, now: float) -> list[Deaths]:
    """Of each route of which it is time to tell, what died."""
    times = {"since": now - TOLD_WITHIN, "told_before": now - TOLD_EVERY}
    found = connection.execute(_UNTOLD, times).all()
    return [Deaths(job_of(connection.execute(_JOB, {"job": row.last}).one()), row.dead) for row in found]


def tell(connection: Connection, on_dead: OnDead, now: float) -> tuple[StoredJob, ...]:
    """Make the jobs that tell of what nobody was told of yet."""
    lock(connection, "deaths")
    made: list[StoredJob] = []
    for deaths in untold(connection, now):
        new = on_dead.job_for(deaths.last, deaths.dead)
        made += intake.insert_jobs(connection, deaths.last.event_id, [new], now)
        route = deaths.last.route
        connection.execute(delete(tellings).where(tellings.c.route == route))
        connection.execute(insert(tellings).values(route=route, at=now))
    return tuple(made)
