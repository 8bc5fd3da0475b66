"""RoutingTable: what the YAML says, compiled; one is in force at a time; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from bridge.core.budget import BUDGET, MAX_JOBS, MAX_STEPS, Budget
from bridge.core.event import Event
from bridge.core.job import NewJob
from bridge.core.retry import RetryPolicy
from bridge.core.task import Rate, Task
from bridge.routing.check_result import CheckResult, Explanation, skipped_handshake, skipped_source
from bridge.routing.route import MAX_WARNINGS, Evaluation, OnDead, Route
from bridge.sources.base.source import Source
from bridge.theeye.request import TheEye


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

        Of a sender's test or confirmation there are none. All routes share one budget: those that it does not
        suffice for make a dead job each.
        """
        jobs: list[NewJob] = []
        warnings: list[str] = []
        for each in self._evaluated(event).values():
            jobs += each.jobs
            warnings += each.warnings
        return Routed(tuple(jobs), tuple(warnings[:MAX_WARNINGS]))

    def _evaluated(self, event: Event) -> dict[str, Evaluation]:
        """What the routes make of the event, by their names, in the order in which they were evaluated."""
        identity = self.sources[event.source].type
        made: dict[str, Evaluation] = {}
        if identity.is_setup_event(event):
            return made
        routes = self._routes_of[event.source]
        scope = {**event.scope, BUDGET: Budget(MAX_STEPS, MAX_JOBS)}
        matched = False
        for route in routes:
            if not route.otherwise:
                made[route.name] = evaluation = route.evaluate(scope, identity)
                matched = matched or bool(evaluation.jobs)
        if not matched:
            for route in routes:
                if route.otherwise:
                    made[route.name] = route.evaluate(scope, identity)
        return made

    def explain(self, event: Event) -> tuple[Explanation, ...]:
        """What each route makes of the event, in the order of the table, by the same functions."""
        made = self._evaluated(event)
        matched = [
            route.name
            for route in self._routes_of[event.source]
            if not route.otherwise and route.name in made and made[route.name].jobs
        ]
        return tuple(self._explained(route, event, made.get(route.name), matched) for route in self.routes)

    def _explained(
        self, route: Route, event: Event, made: Evaluation | None, matched: list[str]
    ) -> Explanation:
        """`matched` are the names of the routes that leave nothing to an `otherwise` route."""
        if route.source != event.source:
            return skipped_source(route, event)
        if self.sources[event.source].type.is_setup_event(event):
            return skipped_handshake(route, event)
        found = ", ".join(matched) or "none"
        asked = CheckResult("otherwise", "no other route that matches", found, passed=not matched)
        if made is None:
            return Explanation(route, (asked,), False, (), (), ())
        explained = route.explain(event, made)
        if not route.otherwise:
            return explained
        return replace(explained, results=(asked, *explained.results))

    def rebuild_jobs(self, event: Event) -> Mapping[tuple[str, str], NewJob]:
        """What the table makes today of a stored event, by the jobs' routes and items."""
        made = self.jobs_for(event).jobs if event.source in self.sources else ()
        return {(job.route, job.item_key): job for job in made}
