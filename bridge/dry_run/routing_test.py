"""RoutingTest: a webhook and the jobs that the table should create from it; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

import orjson

from bridge.core.errors import Refusal, Unreadable
from bridge.core.event import JSON, Event, Request
from bridge.core.exact_json import dumps
from bridge.core.job import NewJob
from bridge.core.json_text import display
from bridge.core.problem import Place
from bridge.core.secrets import Mask
from bridge.dry_run.diff import describe, diff_arguments
from bridge.routing.check_result import CheckResult
from bridge.routing.route import Route
from bridge.routing.routing_table import RoutingTable
from bridge.sources.base.sample import completed, unknown_event
from bridge.sources.base.source import Source


@dataclass(frozen=True)
class ExpectedJob:
    """A job that the table should create."""

    route: str
    #: In TheEye's order, with None for a fixed one. None: any arguments.
    arguments: tuple[JSON, ...] | None = None
    #: A part of the error in its arguments. None: they have no error.
    error: str | None = None


@dataclass(frozen=True)
class RoutingTestResult:
    """The result of one test."""

    #: Empty if the test passes.
    failures: tuple[CheckResult, ...]
    #: An unknown event, and errors in conditions and loops.
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoutingTest:
    """One of the table's `tests`."""

    name: str
    place: Place
    #: The webhook. Its proofs, and headers that its type adds, may be missing.
    request: Request
    #: The event, or event.action, that its type must recognize.
    event: str | None
    #: Replaces the sender's own.
    delivery_id: str | None
    #: In the order of the table.
    expected: tuple[ExpectedJob, ...]

    def event_from(self, source: Source) -> Event:
        """Read it as the server would. Raises Refusal."""
        event, _ = source.read(completed(source, self.event, self.request))
        if self.event not in (None, event.event, event.full_name):
            raise Unreadable(
                f"the payload belongs to event {event.full_name}, but the test has event: {self.event}"
            )
        return event if self.delivery_id is None else replace(event, delivery_id=self.delivery_id)

    def run(self, table: RoutingTable, mask: Mask) -> RoutingTestResult:
        """Compare the jobs that the table creates with the expected ones."""
        try:
            routed = table.jobs_for(self.event_from(table.sources[self.request.source]))
        except Refusal as error:
            return RoutingTestResult(
                (CheckResult("the webhook", "an accepted request", str(error), passed=False),)
            )
        source_type = table.sources[self.request.source].type
        unknown = None if self.event is None else unknown_event(source_type, self.event)
        routes = {route.name: route for route in table.routes}
        made = list(enumerate(routed.jobs, 1))
        # As many jobs as expected are compared one by one.
        by_arguments = len(made) != len(self.expected)
        failures = _failures(self.expected, made, routes, mask, by_arguments=by_arguments)
        warnings = routed.warnings if unknown is None else (unknown, *routed.warnings)
        return RoutingTestResult(tuple(failures), warnings)


def _failures(
    expected: Sequence[ExpectedJob],
    made: Sequence[tuple[int, NewJob]],
    routes: dict[str, Route],
    mask: Mask,
    *,
    by_arguments: bool,
) -> Iterator[CheckResult]:
    """Yield differences, with jobs paired by their routes, in order.

    `made` has numbered jobs. With `by_arguments`, jobs with equal arguments are paired first.
    """
    expected_keys = [_key(job, by_arguments) for job in expected]
    made_keys = [_key(job, by_arguments) for _, job in made]
    for kind, at, end, made_at, made_end in SequenceMatcher(
        None, expected_keys, made_keys, autojunk=False
    ).get_opcodes():
        some, others = expected[at:end], made[made_at:made_end]
        if kind == "equal":
            for job, (number, other) in zip(some, others, strict=True):
                yield from _compare_job(number, job, other, routes[job.route], mask)
        elif kind == "replace" and by_arguments:
            yield from _failures(some, others, routes, mask, by_arguments=False)
        else:
            for job in some:
                what = (
                    "" if job.arguments is None else f", task_arguments {display(list(job.arguments), mask)}"
                )
                yield CheckResult("jobs", f"a job of route {job.route!r}{what}", "none", passed=False)
            for number, other in others:
                what = f"a job of route {other.route!r}, {describe(other, mask)}"
                yield CheckResult(f"job {number}", "none", what, passed=False)


def _key(job: ExpectedJob | NewJob, by_arguments: bool) -> tuple[str, bytes]:
    return job.route, dumps(job.arguments, option=orjson.OPT_SORT_KEYS) if by_arguments else b""


def _compare_job(
    number: int, expected: ExpectedJob, made: NewJob, route: Route, mask: Mask
) -> Iterator[CheckResult]:
    where = f"job {number}, route {route.name!r}"
    if expected.error is not None:
        if made.arguments is not None or expected.error not in (made.reason or ""):
            yield CheckResult(
                where, f"an error with {display(expected.error, mask)}", describe(made, mask), passed=False
            )
    elif made.arguments is None:
        yield CheckResult(where, "arguments that can be built", describe(made, mask), passed=False)
    elif expected.arguments is not None:
        for failure in diff_arguments(route, expected.arguments, made.arguments, mask):
            yield replace(failure, subject=f"{where}, {failure.subject}")
