"""Describe the jobs that are dead when they are created, for the log and for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bridge.core.job import JobState, NewJob
from bridge.core.problem import Place
from bridge.outbox.webhook import StoredJob
from bridge.routing.routing_table import RoutingTable

#: The most jobs, and the most reasons, that a line lists.
_JOBS_LIMIT, _REASONS_LIMIT = 10, 3


def dead_job_lines(
    table: RoutingTable, built: Iterable[NewJob], stored: Iterable[StoredJob]
) -> Iterator[str]:
    """Yield a line for each route with dead jobs: the jobs, the reasons and the lines of the table."""
    ids: dict[str, list[str]] = {}
    for job in stored:
        if job.state is JobState.DEAD:
            ids.setdefault(job.route, []).append(str(job.id))
    if not ids:
        return
    reasons: dict[str, dict[str, None]] = {}
    for new in built:
        if new.reason is not None:
            reasons.setdefault(new.route, {})[new.reason] = None
    routes = {route.name: route for route in table.routes}
    for name, dead in ids.items():
        causes = [f"{each}{_at(routes[name].place_of(each))}" for each in reasons.get(name, ())]
        which = f"job {dead[0]} is" if len(dead) == 1 else f"jobs {_some(dead, _JOBS_LIMIT, ', ')} are"
        yield f"route {name!r}: {which} dead: {_some(causes, _REASONS_LIMIT, '; ')}"


def _at(place: Place | None) -> str:
    return "" if place is None else f" ({place})"


def _some(texts: list[str], limit: int, between: str) -> str:
    more = f"{between}and {len(texts) - limit} more" if len(texts) > limit else ""
    return between.join(texts[:limit]) + more
