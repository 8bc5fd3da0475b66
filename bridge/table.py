"""RoutingTable: what the YAML says, compiled; one is in force at a time; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import orjson

from bridge.errors import TooLarge
from bridge.event import Event
from bridge.job import NewJob
from bridge.retry import RetryPolicy
from bridge.route import Explanation, Route, Task, other_source
from bridge.sources import Source
from bridge.theeye import TheEye

#: How many jobs one event may make.
MAX_JOBS = 10_000
#: How much they may hold together, in bytes of their arguments' JSON: a loop can multiply one field.
MAX_ARGUMENTS = 64 * 1024**2


@dataclass(frozen=True)
class Routed:
    """What the table makes of one event."""

    jobs: tuple[NewJob, ...]
    #: What went wrong in conditions and loops, for a person.
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class RoutingTable:
    """Sources by name, tasks by TheEye's id, and the routes in their order."""

    theeye: TheEye
    retry: RetryPolicy
    sources: Mapping[str, Source]
    tasks: Mapping[str, Task]
    routes: tuple[Route, ...]

    @cached_property
    def _routes_of(self) -> Mapping[str, tuple[Route, ...]]:
        return {name: tuple(route for route in self.routes if route.source == name) for name in self.sources}

    def jobs_for(self, event: Event) -> Routed:
        """Every matching route's jobs, in the order of the table.

        Raises TooLarge above MAX_JOBS or MAX_ARGUMENTS.
        """
        warnings: list[str] = []
        jobs: list[NewJob] = []
        size = 0
        identity = self.sources[event.source].type
        for route in self._routes_of.get(event.source, ()):
            for job in route.jobs_for(event, identity, warnings):
                jobs.append(job)
                if len(jobs) > MAX_JOBS:
                    raise TooLarge(f"the event makes more than {MAX_JOBS:,} jobs")
                size += len(orjson.dumps(job.arguments))
                if size > MAX_ARGUMENTS:
                    raise TooLarge(f"the event's jobs hold more than {MAX_ARGUMENTS:,} bytes of arguments")
        return Routed(tuple(jobs), tuple(warnings))

    def explain(self, event: Event) -> tuple[Explanation, ...]:
        """What each route makes of the event, in the order of the table, by the same functions.

        Raises TooLarge where `jobs_for` does.
        """
        self.jobs_for(event)
        identity = self.sources[event.source].type
        return tuple(
            route.explain(event, identity) if route.source == event.source else other_source(route, event)
            for route in self.routes
        )

    def job_again(self, event: Event, route: str, item_key: str) -> NewJob | None:
        """The job that this route makes today from the event, or one item of it; None where it makes none."""
        made = (job for job in self.jobs_for(event).jobs if (job.route, job.item_key) == (route, item_key))
        return next(made, None)
