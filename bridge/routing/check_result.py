"""Finding, how one check of a route went, and Explanation, what a route makes of one event; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bridge.core.errors import EvaluationError, OverBudget
from bridge.core.event import JSON, Event
from bridge.core.job import NewJob
from bridge.expressions.expression import Expression
from bridge.routing.match import Check, json_text

if TYPE_CHECKING:
    from bridge.routing.route import Route


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


def other_source(route: Route, event: Event) -> Explanation:
    """What a route of another source makes of the event: nothing."""
    finding = Finding("source", route.source, event.source, holds=False)
    return Explanation(route, (finding,), False, (), (), ())


def handshake(route: Route, event: Event) -> Explanation:
    """What a route makes of a sender's test or confirmation: it is not asked."""
    finding = Finding("event", "no test or confirmation of the sender's", event.full_name, holds=False)
    return Explanation(route, (finding,), False, (), (), ())


def findings_of(checks: tuple[Check, ...], scope: Mapping[str, JSON]) -> tuple[Finding, ...]:
    return tuple(_finding(check, scope) for check in checks)


def _finding(check: Check, scope: Mapping[str, JSON]) -> Finding:
    try:
        return Finding(check.about, check.wanted, check.found(scope), check.holds(scope)[0])
    except OverBudget as error:
        return Finding(check.about, check.wanted, f"not evaluated: {error}", holds=False)


def loop_finding(loop: Expression, scope: Mapping[str, JSON]) -> Finding:
    wanted = f"items in {loop.text}"
    try:
        items = loop.value(scope)
    except (EvaluationError, OverBudget) as error:
        return Finding("loop", wanted, str(error), holds=False)
    if not isinstance(items, list) or not items:
        return Finding("loop", wanted, json_text(items), holds=False)
    return Finding("loop", wanted, f"{len(items)} item{'' if len(items) == 1 else 's'}", holds=True)
