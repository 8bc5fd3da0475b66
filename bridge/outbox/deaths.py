"""Deaths: jobs that died and of which nobody was told yet: units of work."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from bridge.outbox import intake
from bridge.outbox.intake import StoredJob
from bridge.outbox.locks import lock
from bridge.outbox.records import job_of
from bridge.outbox.schema import IS_UNTOLD, jobs, tellings
from bridge.route import OnDead

#: At most one telling of a route in so many seconds.
TOLD_EVERY = 3600.0
#: A death is told of until it is so many seconds old: longer than another telling makes it wait.
TOLD_WITHIN = 2 * TOLD_EVERY

# Those that were told of are marked: times would not do, since a death of before the last telling may be
# committed after it, and clocks of several machines differ.
_RECENT = (IS_UNTOLD, jobs.c.ended_at > bindparam("since"))
_ROUTES = (
    select(jobs.c.route)
    .outerjoin(tellings, tellings.c.route == jobs.c.route)
    .where(
        *_RECENT,
        jobs.c.route != OnDead.NAME,
        or_(tellings.c.at.is_(None), tellings.c.at <= bindparam("told_before")),
    )
    .distinct()
)
_MARK = (
    update(jobs)
    .where(*_RECENT, jobs.c.route == bindparam("of_route"))
    .values(told=True)
    .returning(jobs.c.id)
)  # fmt: skip
_JOB = select(jobs).where(jobs.c.id == bindparam("job"))


def untold(connection: Connection, now: float) -> list[str]:
    """The routes of which it is time to tell what died."""
    times = {"since": now - TOLD_WITHIN, "told_before": now - TOLD_EVERY}
    return list(connection.execute(_ROUTES, times).scalars())


def tell(connection: Connection, on_dead: OnDead, now: float) -> tuple[StoredJob, ...]:
    """Make the jobs that tell of what nobody was told of yet."""
    lock(connection, "deaths")
    made: list[StoredJob] = []
    for route in untold(connection, now):
        marked = connection.execute(_MARK, {"of_route": route, "since": now - TOLD_WITHIN}).scalars().all()
        if not marked:
            continue  # a person has just asked for them again
        last = job_of(connection.execute(_JOB, {"job": max(marked)}).one())
        new = on_dead.job_for(last, len(marked))
        made += intake.insert_jobs(connection, last.event_id, [new], now)
        connection.execute(delete(tellings).where(tellings.c.route == route))
        connection.execute(insert(tellings).values(route=route, at=now))
    return tuple(made)
