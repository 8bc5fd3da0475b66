"""Task, what TheEye runs, and Route, which events run it with which fields as its arguments; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import ClassVar, Protocol

import orjson

from bridge.arguments import ArgumentsType, unrunnable
from bridge.errors import EvaluationError
from bridge.event import JSON, Event, rfc3339
from bridge.expressions import Expression, Template
from bridge.expressions.values import text_of
from bridge.fields import kind
from bridge.job import Job, NewJob, TableVersion
from bridge.match import Check, json_text
from bridge.settings import Secret

#: The longest group or once_key, in bytes: the store finds jobs by it.
MAX_KEY = 1000


class OnUnknown(StrEnum):
    """What becomes of a job whose answer was lost."""

    RETRY = "retry"
    HOLD = "hold"


@dataclass(frozen=True)
class Rate:
    """At most so many attempts, started in any such span of time."""

    attempts: int
    #: Seconds.
    span: float


@dataclass(frozen=True)
class Task:
    """TheEye's runnable thing, as configured here."""

    #: 24 hex digits.
    id: str
    #: As the table names it, or its id.
    name: str
    #: None where TheEye's access token starts it.
    secret_key: Secret | None
    #: Argument names in TheEye's order, None for a fixed one; None where the table names none.
    arguments: tuple[str | None, ...] | None = None
    arguments_type: ArgumentsType = ArgumentsType.LEGACY
    on_unknown: OnUnknown = OnUnknown.RETRY
    rate: Rate | None = None

    def unrunnable(self, arguments: tuple[JSON, ...], *, allow_data_urls: bool) -> str | None:
        """Why TheEye's agent cannot run it with these arguments as they are; None if it can."""
        names = self.arguments or ()
        return unrunnable(arguments, names, self.arguments_type, allow_data_urls=allow_data_urls)


#: An argument as the table writes it: text with expressions, a literal, or a list or object of such.
Value = Template | bool | int | None | tuple["Value", ...] | dict[str, "Value"]


def build(value: Value, scope: Mapping[str, JSON]) -> JSON:
    """The JSON value of an argument for one event or item. Raises EvaluationError."""
    if isinstance(value, Template):
        return value.value(scope)
    if isinstance(value, tuple):
        return [build(inner, scope) for inner in value]
    if isinstance(value, dict):
        return {key: build(inner, scope) for key, inner in value.items()}
    return value


@dataclass(frozen=True)
class Argument:
    """One of a route's `task_arguments`, at its place in TheEye's order."""

    #: Its name, or ``argument 0``, for messages.
    label: str
    value: Value

    def build(self, scope: Mapping[str, JSON]) -> JSON:
        """Raises EvaluationError naming the argument."""
        try:
            built = build(self.value, scope)
            orjson.dumps(built)
        except (EvaluationError, orjson.JSONEncodeError) as error:
            raise EvaluationError(f"{self.label}: {error}") from error
        return built


@dataclass(frozen=True)
class Key:
    """A text that tells jobs of one kind together: a group, a once_key."""

    #: As the table calls it, for messages.
    label: str
    template: Template

    def text(self, scope: Mapping[str, JSON]) -> str:
        """Raises EvaluationError, also for what the store could not look up."""
        try:
            text = text_of(self.template.value(scope))
        except EvaluationError as error:
            raise EvaluationError(f"{self.label}: {error}") from error
        size = len(text.encode())
        if size > MAX_KEY:
            raise EvaluationError(f"{self.label}: {size:,} bytes; at most {MAX_KEY:,} are allowed")
        if "\x00" in text:
            raise EvaluationError(f"{self.label}: a NUL character, which the store cannot look up")
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
    """What makes an item of a loop the same one when its webhook comes again; see bridge.sources."""

    def item_identity(self, item: JSON) -> JSON: ...


@dataclass(frozen=True)
class Finding:
    """How one check of a route went for one event or item."""

    about: str
    wanted: str
    found: str
    holds: bool


@dataclass(frozen=True)
class ItemExplanation:
    """What a route makes of one item of its loop."""

    index: int
    findings: tuple[Finding, ...]
    matched: bool
    job: NewJob | None

    @property
    def failing(self) -> tuple[Finding, ...]:
        return tuple(
            replace(finding, about=f"{finding.about} of item {self.index}")
            for finding in self.findings
            if not finding.holds
        )


@dataclass(frozen=True)
class Explanation:
    """What a route makes of one event: each check, asked or not, and the jobs."""

    route: Route
    findings: tuple[Finding, ...]
    #: Whether everything that is asked of the event as a whole holds, and a loop has items.
    matched: bool
    items: tuple[ItemExplanation, ...]
    jobs: tuple[NewJob, ...]
    warnings: tuple[str, ...]

    @property
    def failing(self) -> tuple[Finding, ...]:
        """Why it makes no job: the event's checks that fail, or those of the item that came nearest."""
        if self.jobs:
            return ()
        if not self.matched:
            return tuple(finding for finding in self.findings if not finding.holds)
        return min((item.failing for item in self.items), key=len)


@dataclass(frozen=True)
class Route:
    """One row of the routing table."""

    name: str
    source: str
    task: Task
    #: Every one must hold: the event, the lines of match, when.
    checks: tuple[Check, ...]
    loop: Expression | None
    arguments: tuple[Argument, ...]
    allow_data_urls: bool = False
    concurrency: Concurrency | None = None
    once: Once | None = None
    #: Whether it is asked only where no other route of its source matched.
    otherwise: bool = False
    #: The table that it stands in.
    table: TableVersion | None = field(default=None, compare=False)

    @cached_property
    def event_checks(self) -> tuple[Check, ...]:
        """Those asked once, before the loop is evaluated."""
        return tuple(check for check in self.checks if not check.about_item)

    @cached_property
    def item_checks(self) -> tuple[Check, ...]:
        """Those asked for each item."""
        return tuple(check for check in self.checks if check.about_item)

    def jobs_for(self, event: Event, identity: ItemIdentity, warnings: list[str]) -> Iterator[NewJob]:
        """The jobs that this route makes from the event; what went wrong is added to `warnings`."""
        if not self._all_hold(self.event_checks, event.scope, warnings):
            return
        if self.loop is None:
            yield self._job(event.scope, "", None)
            return
        seen: set[str] = set()
        for index, item, scope in self._items(event, warnings):
            if self._all_hold(self.item_checks, scope, warnings):
                key = item_key(identity.item_identity(item))
                if key not in seen:
                    seen.add(key)
                    yield self._job(scope, key, index)

    def explain(self, event: Event, identity: ItemIdentity) -> Explanation:
        """The same with every check's finding; jobs are those that `jobs_for` makes."""
        warnings: list[str] = []
        findings = _findings(self.event_checks, event.scope)
        if self.loop is not None:
            findings = (*findings, _loop_finding(self.loop, event.scope))
        matched = all(finding.holds for finding in findings)
        jobs = tuple(self.jobs_for(event, identity, warnings))
        items: tuple[ItemExplanation, ...] = ()
        if matched and self.loop is not None:
            by_index = {job.item_index: job for job in jobs}
            items = tuple(
                ItemExplanation(index, found, all(finding.holds for finding in found), by_index.get(index))
                for index, _, scope in self._items(event, [])
                for found in [_findings(self.item_checks, scope)]
            )
        return Explanation(self, findings, matched, items, jobs, tuple(warnings))

    def _all_hold(self, checks: tuple[Check, ...], scope: Mapping[str, JSON], warnings: list[str]) -> bool:
        for check in checks:
            holds, warning = check.holds(scope)
            if warning:
                self._warn(warning, warnings)
            if not holds:
                return False
        return True

    def _items(self, event: Event, warnings: list[str]) -> Iterator[tuple[int, JSON, Mapping[str, JSON]]]:
        assert self.loop is not None  # noqa: S101 - asked only of a route with a loop
        try:
            items = self.loop.value(event.scope)
        except EvaluationError as error:
            self._warn(f"loop: {error}", warnings)
            return
        if not isinstance(items, list):
            self._warn(f"loop: {self.loop.text} is {kind(items)}, expected a list", warnings)
            return
        for index, item in enumerate(items):
            yield index, item, {**event.scope, "item": item, "index": index}

    def _job(self, scope: Mapping[str, JSON], key: str, index: int | None) -> NewJob:
        job = NewJob(self.name, self.task.id, self.task.name, key, index, None, table=self.table)
        try:
            if self.concurrency is not None:
                group, latest = self.concurrency.group.text(scope), self.concurrency.latest
                job = replace(job, group=group, latest=latest)
            if self.once is not None:
                of_kind = "" if self.once.key is None else self.once.key.text(scope)
                job = replace(job, once_key=of_kind, once_within=self.once.within)
            values = tuple(argument.build(scope) for argument in self.arguments)
        except EvaluationError as error:
            return replace(job, reason=str(error))
        reason = self.task.unrunnable(values, allow_data_urls=self.allow_data_urls)
        return replace(job, arguments=values) if reason is None else replace(job, reason=reason)

    def _warn(self, warning: str, warnings: list[str]) -> None:
        text = f"route {self.name!r}: {warning}"
        if text not in warnings and len(warnings) < MAX_WARNINGS:
            warnings.append(text)


@dataclass(frozen=True)
class OnDead:
    """The task that tells somebody when a job dies."""

    #: What its jobs have for a route's name; no route may be named so.
    NAME: ClassVar[str] = "on_dead"
    #: What its arguments may read.
    NAMES: ClassVar[tuple[str, ...]] = ("job", "dead")

    task: Task
    arguments: tuple[Argument, ...]
    #: The table that it stands in.
    table: TableVersion | None = field(default=None, compare=False)

    @staticmethod
    def told_of(item_key: str) -> tuple[int, int]:
        """The number of the job that died, of which the job with this item_key tells, and how many had."""
        died, _, dead = item_key.partition(":")
        return int(died.partition(".")[0]), int(dead or 1)

    def job_for(self, died: Job, dead: int) -> NewJob:
        """The job that tells of `died`, the newest of `dead` jobs of one route that nobody was told of."""
        scope: dict[str, JSON] = {
            "job": {
                "id": died.id,
                "event": died.event_id,
                "route": died.route,
                "task": died.task,
                "task_id": died.task_id,
                "item": died.item_index,
                "reason": died.reason or "",
                "made_at": rfc3339(died.made_at),
            },
            "dead": dead,
        }
        item_key = f"{died.id}.{died.ended_at}:{dead}"
        job = NewJob(self.NAME, self.task.id, self.task.name, item_key, None, None, table=self.table)
        try:
            values = tuple(argument.build(scope) for argument in self.arguments)
        except EvaluationError as error:
            return replace(job, reason=str(error))
        reason = self.task.unrunnable(values, allow_data_urls=False)
        return replace(job, arguments=values) if reason is None else replace(job, reason=reason)


def other_source(route: Route, event: Event) -> Explanation:
    """What a route of another source makes of the event: nothing."""
    finding = Finding("source", route.source, event.source, holds=False)
    return Explanation(route, (finding,), False, (), (), ())


def handshake(route: Route, event: Event) -> Explanation:
    """What a route makes of a sender's test or confirmation: it is not asked."""
    finding = Finding("event", "no test or confirmation of the sender's", event.full_name, holds=False)
    return Explanation(route, (finding,), False, (), (), ())


#: Of one event, how many warnings are kept.
MAX_WARNINGS = 20


def item_key(identity: JSON) -> str:
    """What identifies an item within its event: a hash of its identity's canonical JSON."""
    canonical = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)
    return sha256(canonical).hexdigest()


def _findings(checks: tuple[Check, ...], scope: Mapping[str, JSON]) -> tuple[Finding, ...]:
    return tuple(
        Finding(check.about, check.wanted, check.found(scope), check.holds(scope)[0]) for check in checks
    )


def _loop_finding(loop: Expression, scope: Mapping[str, JSON]) -> Finding:
    wanted = f"items in {loop.text}"
    try:
        items = loop.value(scope)
    except EvaluationError as error:
        return Finding("loop", wanted, str(error), holds=False)
    if not isinstance(items, list) or not items:
        return Finding("loop", wanted, json_text(items), holds=False)
    return Finding("loop", wanted, f"{len(items)} item{'' if len(items) == 1 else 's'}", holds=True)
