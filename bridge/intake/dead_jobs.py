"""Describe the jobs that are dead when they are created, for the log and for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bridge.core.job import JobState, NewJob
from bridge.outbox.webhook import StoredJob
from bridge.process.log_fields import Fields
from bridge.routing.routing_table import RoutingTable

#: The most jobs, and the most reasons, that a line lists.
_JOBS_LIMIT, _REASONS_LIMIT = 10, 3


def dead_jobs(
    table: RoutingTable, event_id: int, built: Sequence[NewJob], stored: Sequence[StoredJob]
) -> Iterator[tuple[str, Fields]]:
    """Yield the message of a line for each route with dead jobs, and its fields."""
    dead = [job for job in stored if job.state is JobState.DEAD]
    if not dead:  # most webhooks: a table may have many routes
        return
    routes = {route.name: route for route in table.routes}
    for name in dict.fromkeys(job.route for job in dead):
        ids = [str(job.id) for job in dead if job.route == name]
        reasons = dict.fromkeys(new.reason for new in built if new.route == name and new.reason)
        causes = [f"{each} ({routes[name].place_of(each)})" for each in reasons]
        which = "job %(job)d is" if len(ids) == 1 else f"jobs {_some(ids, _JOBS_LIMIT, ', ')} are"
        fields = Fields(
            "dead", job=int(ids[0]) if len(ids) == 1 else None, event=event_id, route=name, jobs=len(ids),
            state=JobState.DEAD, reason=_some(causes, _REASONS_LIMIT, "; "),
        )  # fmt: skip
        yield f"route %(route)r: {which} %(state)s: %(reason)s", fields


def _some(texts: list[str], limit: int, between: str) -> str:
    more = f"{between}and {len(texts) - limit} more" if len(texts) > limit else ""
    return between.join(texts[:limit]) + more
