"""RoutingTable: what the YAML says, compiled; one is in force at a time; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import orjson

from bridge.errors import TooLarge
from bridge.event import Event
from bridge.job import NewJob
from bridge.retry import RetryPolicy
from bridge.route import Explanation, Finding, OnDead, Rate, Route, Task, handshake, other_source
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
    #: What is run when a job dies.
    on_dead: OnDead | None = None

    @cached_property
    def _routes_of(self) -> Mapping[str, tuple[Route, ...]]:
        return {name: tuple(route for route in self.routes if route.source == name) for name in self.sources}

    @cached_property
    def rates(self) -> Mapping[str, Rate]:
        """Of the tasks that have one, by their ids."""
        return {task.id: task.rate for task in self.tasks.values() if task.rate is not None}

    @cached_property
    def by_token(self) -> frozenset[str]:
        """The ids of the tasks that TheEye lets run by the access token."""
        return frozenset(task.id for task in self.tasks.values() if task.secret_key is None)

    @cached_property
    def with_data_urls(self) -> frozenset[str]:
        """The names of the routes that allow data URLs."""
        return frozenset(route.name for route in self.routes if route.allow_data_urls)

    def jobs_for(self, event: Event) -> Routed:
        """Every matching route's jobs, in the order of the table; `otherwise` routes come last.

        Of a sender's test or confirmation there are none. Raises TooLarge above MAX_JOBS or MAX_ARGUMENTS.
        """
        warnings: list[str] = []
        jobs: list[NewJob] = []
        size = 0
        for job in self._made(event, warnings):
            jobs.append(job)
            if len(jobs) > MAX_JOBS:
                raise TooLarge(f"the event makes more than {MAX_JOBS:,} jobs")
            size += len(orjson.dumps(job.arguments))
            if size > MAX_ARGUMENTS:
                raise TooLarge(f"the event's jobs hold more than {MAX_ARGUMENTS:,} bytes of arguments")
        return Routed(tuple(jobs), tuple(warnings))

    def _made(self, event: Event, warnings: list[str]) -> Iterator[NewJob]:
        routes = self._routes_of.get(event.source, ())
        identity = self.sources[event.source].type
        if identity.is_handshake(event):
            return
        matched = False
        for route in routes:
            if not route.otherwise:
                for job in route.jobs_for(event, identity, warnings):
                    matched = True
                    yield job
        if not matched:
            for route in routes:
                if route.otherwise:
                    yield from route.jobs_for(event, identity, warnings)

    def explain(self, event: Event) -> tuple[Explanation, ...]:
        """What each route makes of the event, in the order of the table, by the same functions.

        Raises TooLarge where `jobs_for` does.
        """
        makes = {job.route for job in self.jobs_for(event).jobs}
        matched = [
            route.name
            for route in self._routes_of[event.source]
            if not route.otherwise and route.name in makes
        ]
        return tuple(self._explained(route, event, matched) for route in self.routes)

    def _explained(self, route: Route, event: Event, matched: list[str]) -> Explanation:
        """`matched` are the names of the routes that leave nothing to an `otherwise` route."""
        if route.source != event.source:
            return other_source(route, event)
        source_type = self.sources[event.source].type
        if source_type.is_handshake(event):
            return handshake(route, event)
        explained = route.explain(event, source_type)
        if not route.otherwise:
            return explained
        found = ", ".join(matched) or "none"
        asked = Finding("otherwise", "no other route that matches", found, holds=not matched)
        if matched:
            return Explanation(route, (asked,), False, (), (), ())
        return replace(explained, findings=(asked, *explained.findings))

    def jobs_again(self, event: Event) -> Mapping[tuple[str, str], NewJob]:
        """What the table makes today of a stored event, by the jobs' routes and items.

        Raises TooLarge where `jobs_for` does.
        """
        made = self.jobs_for(event).jobs if event.source in self.sources else ()
        return {(job.route, job.item_key): job for job in made}
