"""Compare the jobs that a table would create from a stored event with its stored jobs; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from bridge.core.budget import BUDGET, Budget
from bridge.core.event import Event
from bridge.core.job import Job, JobState, NewJob
from bridge.core.json_text import display
from bridge.core.redaction import REDACTED_REASON, is_redacted
from bridge.core.secrets import Mask
from bridge.dry_run.diff import describe, diff_arguments, equal_when_sent
from bridge.routing.check_result import CheckResult
from bridge.routing.route import Route
from bridge.routing.routing_table import Routed, RoutingTable


class ChangeKind(StrEnum):
    """How a job would change."""

    NEW = "new"
    GONE = "gone"
    CHANGED = "changed"


@dataclass(frozen=True)
class Change:
    """One job that would be different."""

    kind: ChangeKind
    route: str
    task: str
    #: The item's index in the loop.
    item: int | None
    #: The stored job's number; None for a new job.
    job: int | None
    #: `expected` is what is stored, `actual` what it would become.
    differences: tuple[CheckResult, ...]
    #: False if it may be caused by a redacted field.
    is_certain: bool


@dataclass(frozen=True)
class Preview:
    """The changes of one event's jobs."""

    changes: tuple[Change, ...]
    #: Whether it created jobs and would create none.
    matches_nothing: bool
    #: Errors in conditions and loops.
    warnings: tuple[str, ...]


def preview(event: Event, stored: Sequence[Job], table: RoutingTable, mask: Mask) -> Preview:
    """Compare the jobs that `table` creates from an event, which has its body, with its `stored` jobs."""
    routed = _routed(event, table)
    comparison = _Comparison(event, routed, table, mask)
    changes = tuple(comparison.changes(stored))
    return Preview(changes, bool(stored) and not routed.jobs, routed.warnings)


def _routed(event: Event, table: RoutingTable) -> Routed:
    if event.source not in table.sources:
        return Routed((), (f"the table has no source {event.source!r}",))
    return table.jobs_for(event)


class _Comparison:
    """The comparison of one event's jobs."""

    def __init__(self, event: Event, routed: Routed, table: RoutingTable, mask: Mask) -> None:
        self._mask = mask
        self._routed = routed
        self._routes = {route.name: route for route in table.routes}
        self._event, self._table = event, table
        self._is_redacted = is_redacted(event)

    @cached_property
    def _in_doubt(self) -> frozenset[str]:
        """The routes that use a redacted field. Each runs alone: a whole run stores only a few warnings."""
        if not self._is_redacted or self._event.source not in self._table.sources:
            return frozenset()
        source_type = self._table.sources[self._event.source].type
        return frozenset(
            route.name
            for route in self._table.routes
            if route.source == self._event.source
            for made in [route.evaluate({**self._event.scope, BUDGET: Budget()}, source_type)]
            if any(REDACTED_REASON in each for each in made.warnings)
        )

    def changes(self, stored: Sequence[Job]) -> Iterator[Change]:
        """Yield changes in the order of the stored jobs, then new jobs in the order of the table."""
        made = {self._key(job): job for job in self._routed.jobs}
        by_item = {job.route for job in stored if job.item_key}
        for job in stored:
            if job.state is JobState.SKIPPED and not job.item_key and job.route in by_item:
                continue  # the jobs of single items have replaced it
            new = made.pop(self._key(job), None)
            if new is None:
                yield self._gone(job)
            elif differences := tuple(_diff_jobs(self._routes.get(job.route), job, new, self._mask)):
                is_certain = REDACTED_REASON not in (new.reason or "")
                yield Change(
                    ChangeKind.CHANGED, job.route, job.task, job.item_index, job.id, differences, is_certain
                )
        yield from map(self._new, made.values())

    def _key(self, job: Job | NewJob) -> tuple[str, object]:
        # A redacted item has no identity but its index.
        return job.route, job.item_index if self._is_redacted else job.item_key

    def _gone(self, job: Job) -> Change:
        is_item = self._is_redacted and job.item_index is not None
        is_certain = not is_item and job.route not in self._in_doubt
        difference = CheckResult("job", describe(job, self._mask), "none", passed=False)
        return Change(ChangeKind.GONE, job.route, job.task, job.item_index, job.id, (difference,), is_certain)

    def _new(self, job: NewJob) -> Change:
        waits_for_others = self._routes[job.route].otherwise and self._in_doubt
        is_certain = REDACTED_REASON not in (job.reason or "") and not waits_for_others
        difference = CheckResult("job", "none", describe(job, self._mask), passed=False)
        return Change(ChangeKind.NEW, job.route, job.task, job.item_index, None, (difference,), is_certain)


def _diff_jobs(route: Route | None, stored: Job, made: NewJob, mask: Mask) -> Iterator[CheckResult]:
    if stored.task_id != made.task_id:
        yield CheckResult("task", _task(stored), _task(made), passed=False)
    if stored.arguments is None or made.arguments is None:
        if stored.arguments is not made.arguments:
            yield CheckResult("job", describe(stored, mask), describe(made, mask), passed=False)
        return
    for subject, before, after in (
        ("concurrency.group", stored.group, made.group), ("once_key", stored.once_key, made.once_key),
    ):  # fmt: skip
        if before != after:
            yield CheckResult(subject, display(before, mask), display(after, mask), passed=False)
    yield from diff_arguments(route, stored.arguments, made.arguments, mask, equal_when_sent)


def _task(job: Job | NewJob) -> str:
    return job.task if job.task == job.task_id else f"{job.task} ({job.task_id})"
