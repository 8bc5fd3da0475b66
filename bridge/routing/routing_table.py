"""RoutingTable: the compiled YAML; one is active at a time; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from bridge.core.budget import BUDGET, MAX_JOBS, MAX_STEPS, Budget
from bridge.core.event import Event
from bridge.core.job import NewJob, TableVersion
from bridge.core.metrics import OTHER_EVENT
from bridge.core.retry import RetryPolicy
from bridge.core.task import Rate, Task
from bridge.routing.check_result import CheckResult, Explanation, not_evaluated
from bridge.routing.event_index import EventIndex
from bridge.routing.route import MAX_WARNINGS, NO_JOBS, Evaluation, OnDead, Route
from bridge.routing.silence import Expectation, OnSilence
from bridge.sources.base.source import Source
from bridge.theeye.request import TheEye

#: The steps in which a webhook's answer may explain why there is no job: at most about 60 ms.
MISS_STEPS = 100_000


@dataclass(frozen=True)
class Routed:
    """The jobs that the table creates from one event."""

    jobs: tuple[NewJob, ...]
    #: Errors in conditions and loops.
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class RoutingTable:
    """Sources by name, tasks by TheEye's id, and routes in order."""

    theeye: TheEye
    retry: RetryPolicy
    sources: Mapping[str, Source]
    tasks: Mapping[str, Task]
    routes: tuple[Route, ...]
    #: The alert on dead jobs.
    on_dead: OnDead | None = None
    #: The alert on silent sources and routes.
    on_silence: OnSilence | None = None
    version: TableVersion = field(default=TableVersion(""), compare=False)

    @cached_property
    def _indexes(self) -> Mapping[str, EventIndex]:
        return {
            name: EventIndex([route for route in self.routes if route.source == name])
            for name in self.sources
        }

    @cached_property
    def rates(self) -> Mapping[str, Rate]:
        """Rates by task id."""
        return {task.id: task.rate for task in self.tasks.values() if task.rate is not None}

    @cached_property
    def by_token(self) -> frozenset[str]:
        """The ids of the tasks that run by the access token."""
        return frozenset(task.id for task in self.tasks.values() if task.secret_key is None)

    @cached_property
    def expectations(self) -> tuple[Expectation, ...]:
        """The sources and routes with `expect_every`."""
        pairs = [(each.name, "", each.expect_every) for each in self.sources.values()]
        pairs += [(each.source, each.name, each.expect_every) for each in self.routes]
        return tuple(Expectation(source, route, every) for source, route, every in pairs if every)

    @cached_property
    def with_data_urls(self) -> frozenset[str]:
        """The names of the routes that allow data URLs."""
        return frozenset(route.name for route in self.routes if route.allow_data_urls)

    def event_label(self, event: Event) -> str:
        """Return the event's name if its type knows it or a route names it: a sender may invent others."""
        known, names = self.sources[event.source].type.events, (event.event, event.full_name)
        is_known = any(name in known for name in names) or self._indexes[event.source].has(names)
        return event.event if is_known else OTHER_EVENT

    @cached_property
    def _sensitive(self) -> Mapping[str, bool]:
        return {route.name: route.sensitive for route in self.routes}

    def is_sensitive(self, route: str) -> bool:
        """Return whether the page hides the arguments of a route's jobs.

        If the table no longer has the route, it may have been sensitive, unless no route is.
        """
        found = self._sensitive.get(route)
        return any(self._sensitive.values()) if found is None else found

    def jobs_for(self, event: Event) -> Routed:
        """Return every matching route's jobs, in the order of the table; `otherwise` routes are last.

        A sender's test or confirmation creates none, nor does an event without a name. All routes share one
        budget; a route that exceeds it creates a dead job.
        """
        jobs: list[NewJob] = []
        warnings: list[str] = []
        for each in self._evaluated(self.sources[event.source].named(event)).values():
            jobs += each.jobs
            warnings += each.warnings
        return Routed(tuple(jobs), tuple(warnings[:MAX_WARNINGS]))

    def _evaluated(self, event: Event) -> dict[str, Evaluation]:
        """Evaluate the routes whose ``event:`` may match; by name, in the order of evaluation."""
        identity = self.sources[event.source].type
        made: dict[str, Evaluation] = {}
        if not event.event or identity.is_setup_event(event):
            return made
        routes = self._indexes[event.source].candidates(event)
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
        """Explain each route for the event, in the order of the table, by the server's own functions."""
        event = self.sources[event.source].named(event)
        made = self._evaluated(event)
        matched = [
            route.name
            for route in self.routes
            if not route.otherwise and route.name in made and made[route.name].jobs
        ]
        return tuple(self._explained(route, event, made.get(route.name), matched) for route in self.routes)

    def explain_misses(self, event: Event) -> Iterator[Explanation]:
        """Explain an event that created no job, route by route, until one small budget ends."""
        event = self.sources[event.source].named(event)
        budget = Budget(MISS_STEPS)
        for route in self._indexes[event.source].candidates(event):
            if budget.spent > MISS_STEPS:
                return
            yield self._explained(route, event, None, [], budget)

    def _explained(
        self, route: Route, event: Event, made: Evaluation | None, matched: list[str],
        budget: Budget | None = None,
    ) -> Explanation:  # fmt: skip
        """`matched` names the matching routes, which rule out an `otherwise` route."""
        if route.source != event.source:
            return not_evaluated(route, "source", route.source, event.source)
        if not event.event:
            return not_evaluated(route, "event", "an event that can be read", event.full_name)
        if self.sources[event.source].type.is_setup_event(event):
            return not_evaluated(route, "event", "no test or confirmation by the sender", event.full_name)
        wanted, others = "no other route that matches", ", ".join(matched) or "none"
        if made is None and route.otherwise and matched:
            return not_evaluated(route, "otherwise", wanted, others)
        explained = route.explain(event, made or NO_JOBS, budget)
        if not route.otherwise:
            return explained
        otherwise = CheckResult("otherwise", wanted, others, passed=True)
        return replace(explained, results=(otherwise, *explained.results))

    def rebuild_jobs(self, event: Event) -> Mapping[tuple[str, str], NewJob]:
        """Build a stored event's jobs again from this table, by route and item."""
        made = self.jobs_for(event).jobs if event.source in self.sources else ()
        if event.source == OnSilence.SOURCE and self.on_silence is not None:
            made = (self.on_silence.job_for(event),)
        return {(job.route, job.item_key): job for job in made}
