"""Route: which events create jobs of which task, with which arguments; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import ClassVar, NamedTuple, Protocol

import orjson

from bridge.core.budget import BUDGET, MAX_STEPS, Budget, budget_of
from bridge.core.errors import EvaluationError, OverBudget
from bridge.core.event import JSON, Event, rfc3339
from bridge.core.exact_json import dumps
from bridge.core.job import Job, NewJob, TableVersion
from bridge.core.json_values import json_type
from bridge.core.problem import Place
from bridge.core.task import Task
from bridge.expressions.expression import Expression, Template
from bridge.expressions.values import to_text
from bridge.routing.check_result import Explanation, ItemExplanation, check_results, loop_result, over_budget
from bridge.routing.match import Check, EventCheck

#: The longest group or once_key, in bytes: the store has an index on it.
MAX_KEY = 1000


#: An argument of the table: text with expressions, a literal, or a list or object of such.
Value = Template | bool | int | None | tuple["Value", ...] | dict[str, "Value"]


def build(value: Value, scope: Mapping[str, JSON]) -> JSON:
    """Build the JSON value of an argument for one event or item. Raises EvaluationError."""
    if isinstance(value, Template):
        return value.value(scope)
    if isinstance(value, tuple):
        return [build(inner, scope) for inner in value]
    if isinstance(value, dict):
        return {key: build(inner, scope) for key, inner in value.items()}
    return value


@dataclass(frozen=True)
class Argument:
    """One of a route's `task_arguments`."""

    #: Its name, or ``argument 1``, for messages.
    label: str
    value: Value
    #: Where the table has it.
    place: Place | None = field(default=None, compare=False)

    def build(self, scope: Mapping[str, JSON]) -> JSON:
        """Raises EvaluationError that names the argument."""
        try:
            built = build(self.value, scope)
            # Its shell text is made from this JSON and searched.
            budget_of(scope).charge_text(4 * len(dumps(built)))
        except (EvaluationError, orjson.JSONEncodeError) as error:
            raise EvaluationError(f"{self.label}: {error}") from error
        return built


def _built(
    task: Task, arguments: Iterable[Argument], scope: Mapping[str, JSON], data_urls: bool = False
) -> tuple[tuple[JSON, ...] | None, str | None]:
    """Build a job's arguments, or return the reason why its task cannot run. Raises EvaluationError."""
    values = tuple([argument.build(scope) for argument in arguments])
    reason = task.arguments_problem(values, allow_data_urls=data_urls)
    return (values, None) if reason is None else (None, reason)


@dataclass(frozen=True)
class Key:
    """A group or a once_key."""

    #: Its key in the table, for messages.
    label: str
    template: Template

    def text(self, scope: Mapping[str, JSON]) -> str:
        """Raises OverBudget, or EvaluationError, also for a text that the store could not look up."""
        budget_of(scope).charge(_KEY)
        try:
            text = to_text(self.template.value(scope), budget_of(scope))
        except EvaluationError as error:
            raise EvaluationError(f"{self.label}: {error}") from error
        size = len(text.encode())
        if size > MAX_KEY:
            raise EvaluationError(f"{self.label}: {size:,} bytes; at most {MAX_KEY:,} are allowed")
        if "\x00" in text:
            raise EvaluationError(f"{self.label}: a NUL character is not allowed here")
        return text


@dataclass(frozen=True)
class Concurrency:
    """Jobs of one group go one after the other."""

    group: Key
    #: Whether a newer job replaces those that still wait.
    latest: bool = False


@dataclass(frozen=True)
class Once:
    """Of the jobs with one key, one in so many seconds."""

    within: float
    #: None: all of the route's jobs are of one kind.
    key: Key | None = None


class ItemIdentity(Protocol):
    """The identity of a loop's item over several webhooks; see SourceType."""

    def item_identity(self, item: JSON) -> JSON: ...


class Evaluation(NamedTuple):
    """The jobs that a route creates from one event."""

    jobs: tuple[NewJob, ...]
    #: Errors in conditions and loops.
    warnings: tuple[str, ...]
    #: Why the evaluation was aborted; its only job is then dead, with this reason.
    aborted: str | None = None


#: No job, and no error.
NO_JOBS = Evaluation((), ())


@dataclass(frozen=True)
class Route:
    """One row of the routing table."""

    name: str
    source: str
    task: Task
    #: ``event:``, the lines of ``match:`` and ``when:``: all must pass.
    checks: tuple[Check, ...]
    loop: Expression | None
    arguments: tuple[Argument, ...]
    allow_data_urls: bool = False
    concurrency: Concurrency | None = None
    once: Once | None = None
    #: Whether it applies only if no other route of its source matches.
    otherwise: bool = False
    #: The longest expected time between two of its jobs, seconds.
    expect_every: float | None = None
    #: Whether the page hides the arguments of its jobs.
    sensitive: bool = False
    #: The table that it belongs to.
    table: TableVersion | None = field(default=None, compare=False)
    #: Where the table has it.
    place: Place | None = field(default=None, compare=False)

    def place_of(self, reason: str) -> Place | None:
        """Return the place of the argument that the reason of a dead job begins with, or of the route."""
        named = (each.place for each in self.arguments if reason.startswith(f"{each.label}: "))
        return next(named, None) or self.place

    @property
    def event_names(self) -> tuple[str, ...] | None:
        """The events that it names; None if ``event:`` is absent or has a wildcard."""
        names = [check.names for check in self.checks if isinstance(check, EventCheck)]
        return names[0] if names else None

    @cached_property
    def event_checks(self) -> tuple[Check, ...]:
        """Checks that run once, before the loop is evaluated."""
        return tuple(check for check in self.checks if not check.is_per_item)

    @cached_property
    def item_checks(self) -> tuple[Check, ...]:
        """Checks that run for each item."""
        return tuple(check for check in self.checks if check.is_per_item)

    def evaluate(self, scope: Mapping[str, JSON], identity: ItemIdentity) -> Evaluation:
        """Create the jobs of an event, whose names and Budget are in `scope`.

        A route that exceeds the budget creates one dead job without an item, and no others.
        """
        warnings: list[str] = []
        jobs: list[NewJob] = []
        try:
            if not self._all_pass(self.event_checks, scope, warnings):
                return Evaluation((), tuple(warnings)) if warnings else NO_JOBS
            budget = budget_of(scope)
            one = self.loop is None
            for job in [self._job(scope, "", None)] if one else self._item_jobs(scope, identity, warnings):
                jobs.append(job)
                budget.charge_job(len(dumps(job.arguments)))
        except OverBudget as error:
            budget_of(scope).refund_jobs(len(jobs))
            dead = NewJob(
                self.name, self.task.id, self.task.name, "", None, None, str(error), table=self.table
            )
            return Evaluation((dead,), tuple(warnings), str(error))
        return Evaluation(tuple(jobs), tuple(warnings))

    def _item_jobs(
        self, scope: Mapping[str, JSON], identity: ItemIdentity, warnings: list[str]
    ) -> Iterator[NewJob]:
        """Yield the jobs of the items whose checks pass."""
        seen: set[str] = set()
        budget = budget_of(scope)
        for index, item, item_scope in self._items(scope, warnings):
            budget.charge(_ITEM)
            if self._all_pass(self.item_checks, item_scope, warnings):
                key = item_key(identity.item_identity(item), budget)
                if key not in seen:
                    seen.add(key)
                    yield self._job(item_scope, key, index)

    def explain(self, event: Event, evaluation: Evaluation, budget: Budget | None = None) -> Explanation:
        """Return every check's result with the route's jobs. `budget` limits the work of several routes."""
        jobs, warnings = evaluation.jobs, evaluation.warnings
        if evaluation.aborted is not None:
            return Explanation(self, (over_budget(evaluation.aborted),), False, (), jobs, warnings)
        if budget is None:
            # The checks after a failed one were not charged yet.
            budget = Budget(_EXPLANATION_BUDGETS * MAX_STEPS, detailed_messages=MAX_WARNINGS)
        scope = {**event.scope, BUDGET: budget}
        results = check_results(self.event_checks, scope)
        if self.loop is not None:
            results = (*results, loop_result(self.loop, scope))
        matched = bool(jobs) or all(result.passed for result in results)
        items: tuple[ItemExplanation, ...] = ()
        if matched and self.loop is not None:
            items = tuple(self._explained_items(scope, {job.item_index: job for job in jobs}))
        return Explanation(self, results, matched, items, jobs, warnings)

    def _explained_items(
        self, scope: Mapping[str, JSON], jobs: Mapping[int | None, NewJob]
    ) -> Iterator[ItemExplanation]:
        """Explain the items of the loop, until the budget is spent."""
        index = 0
        try:
            for index, _, item_scope in self._items(scope, []):
                budget_of(scope).charge(_ITEM)
                yield ItemExplanation(index, check_results(self.item_checks, item_scope), jobs.get(index))
        except OverBudget as error:
            yield ItemExplanation(index, (over_budget(error),), None)

    def _all_pass(self, checks: tuple[Check, ...], scope: Mapping[str, JSON], warnings: list[str]) -> bool:
        for check in checks:
            passed, warning = check.passes(scope)
            if warning:
                self._warn(warning, warnings)
            if not passed:
                return False
        return True

    def _items(
        self, scope: Mapping[str, JSON], warnings: list[str]
    ) -> Iterator[tuple[int, JSON, Mapping[str, JSON]]]:
        assert self.loop is not None  # noqa: S101 - only called for a route with a loop
        try:
            items = self.loop.value(scope)
        except EvaluationError as error:
            self._warn(f"loop: {error}", warnings)
            return
        if not isinstance(items, list):
            self._warn(f"loop: {self.loop.text} is {json_type(items)}, expected a list", warnings)
            return
        for index, item in enumerate(items):
            yield index, item, {**scope, "item": item, "index": index}

    def _job(self, scope: Mapping[str, JSON], key: str, index: int | None) -> NewJob:
        arguments = reason = group = once_key = once_within = None
        latest = False
        try:
            if self.concurrency is not None:
                group, latest = self.concurrency.group.text(scope), self.concurrency.latest
            if self.once is not None:
                once_key = "" if self.once.key is None else self.once.key.text(scope)
                once_within = self.once.within
            arguments, reason = _built(self.task, self.arguments, scope, self.allow_data_urls)
        except EvaluationError as error:
            reason = str(error)
        return NewJob(
            self.name, self.task.id, self.task.name, key, index, arguments, reason, group, latest, once_key,
            self.table, once_within,
        )  # fmt: skip

    def _warn(self, warning: str, warnings: list[str]) -> None:
        text = f"route {self.name!r}: {warning}"
        # The same error of a later item may have a shorter message.
        if not any(earlier.startswith(text) for earlier in warnings) and len(warnings) < MAX_WARNINGS:
            warnings.append(text)


@dataclass(frozen=True)
class Alert:
    """A task that alerts people."""

    #: The route's name of its jobs, which no route may have.
    NAME: ClassVar[str]

    task: Task
    arguments: tuple[Argument, ...]
    #: The table that it belongs to.
    table: TableVersion | None = field(default=None, compare=False)

    def _job(self, scope: Mapping[str, JSON], item_key: str = "") -> NewJob:
        arguments = reason = None
        try:
            arguments, reason = _built(self.task, self.arguments, scope)
        except (EvaluationError, OverBudget) as error:
            reason = str(error)
        return NewJob(
            self.NAME, self.task.id, self.task.name, item_key, None, arguments, reason, table=self.table
        )


@dataclass(frozen=True)
class OnDead(Alert):
    """The task that alerts people to dead jobs."""

    NAME: ClassVar[str] = "on_dead"
    #: The names in its arguments.
    NAMES: ClassVar[tuple[str, ...]] = ("job", "dead")
    #: The fields of job in them.
    FIELDS: ClassVar[tuple[str, ...]] = (
        "id", "event", "route", "task", "task_id", "item", "reason", "created_at",
    )  # fmt: skip

    @staticmethod
    def parse_item_key(item_key: str) -> tuple[int, int]:
        """Return the dead job's number in an alert's item_key, and how many jobs had died."""
        died, _, dead = item_key.partition(":")
        return int(died.partition(".")[0]), int(dead or 1)

    def job_for(self, died: Job, dead: int) -> NewJob:
        """Create the alert on `died`, the newest of `dead` jobs of one route without an alert."""
        scope: dict[str, JSON] = {
            "job": {
                "id": died.id,
                "event": died.event_id,
                "route": died.route,
                "task": died.task,
                "task_id": died.task_id,
                "item": died.item_index,
                "reason": died.reason or "",
                "created_at": rfc3339(died.created_at),
            },
            "dead": dead,
        }
        return self._job(scope, f"{died.id}.{died.ended_at}:{dead}")


#: The most warnings stored with an event.
MAX_WARNINGS = 20


#: Budget steps for a group or once_key, for an item, and for its identity, besides their evaluation.
_KEY = 12
_ITEM = 6
_IDENTITY = 12
#: Bytes of JSON written and hashed in one step.
_HASHED_PER_STEP = 16
#: The budgets of an event that the explanation of one route may cost.
_EXPLANATION_BUDGETS = 4


def item_key(identity: JSON, budget: Budget | None = None) -> str:
    """Return the hash of the canonical JSON of an item's identity. Raises OverBudget."""
    canonical = dumps(identity, option=orjson.OPT_SORT_KEYS)
    if budget is not None:
        budget.charge(_IDENTITY + len(canonical) // _HASHED_PER_STEP)
    return sha256(canonical).hexdigest()
