"""CheckResult, the result of one check, and Explanation, all results of a route for one event; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bridge.core.errors import EvaluationError, OverBudget
from bridge.core.event import JSON
from bridge.core.job import NewJob
from bridge.expressions.expression import Expression
from bridge.routing.match import Check, charged_text

if TYPE_CHECKING:
    from bridge.routing.route import Route


@dataclass(frozen=True)
class CheckResult:
    """The result of one check for one event or item."""

    subject: str
    expected: str
    actual: str
    passed: bool


@dataclass(frozen=True)
class ItemExplanation:
    """The results of a route for one item of its loop."""

    index: int
    results: tuple[CheckResult, ...]
    job: NewJob | None

    @property
    def matched(self) -> bool:
        return all(result.passed for result in self.results)

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        return tuple(
            replace(result, subject=f"{result.subject} of item {self.index}")
            for result in self.results
            if not result.passed
        )


@dataclass(frozen=True)
class Explanation:
    """The results of a route for one event: each check, even after a failed one, and the jobs."""

    route: Route
    results: tuple[CheckResult, ...]
    #: Whether the checks of the event passed, and a loop has items.
    matched: bool
    items: tuple[ItemExplanation, ...]
    jobs: tuple[NewJob, ...]
    warnings: tuple[str, ...]

    @property
    def failures(self) -> tuple[CheckResult, ...]:
        """The failed checks of the event, or of the item with the fewest; none if there is a job."""
        if self.jobs:
            return ()
        if not self.matched:
            return tuple(result for result in self.results if not result.passed)
        # An item at which the budget ended says nothing about the route.
        return min((item.failures for item in self.items), key=lambda each: (_is_cut(each), len(each)))


def not_evaluated(route: Route, subject: str, expected: str, actual: str) -> Explanation:
    """Explain a route that is not evaluated for an event, by the one check that fails before."""
    result = CheckResult(subject, expected, actual, passed=False)
    return Explanation(route, (result,), False, (), (), ())


def _is_cut(failures: tuple[CheckResult, ...]) -> bool:
    return any(each.subject.startswith("budget ") for each in failures)


def over_budget(error: OverBudget | str) -> CheckResult:
    return CheckResult("budget", "a complete evaluation", str(error), passed=False)


def check_results(checks: tuple[Check, ...], scope: Mapping[str, JSON]) -> tuple[CheckResult, ...]:
    return tuple(_check_result(check, scope) for check in checks)


def _check_result(check: Check, scope: Mapping[str, JSON]) -> CheckResult:
    try:
        return CheckResult(check.subject, check.expected, check.actual(scope), check.passes(scope)[0])
    except OverBudget as error:
        return CheckResult(check.subject, check.expected, f"not evaluated: {error}", passed=False)


def loop_result(loop: Expression, scope: Mapping[str, JSON]) -> CheckResult:
    expected = f"items in {loop.text}"
    try:
        items = loop.value(scope)
        if not isinstance(items, list) or not items:
            return CheckResult("loop", expected, charged_text(items, scope), passed=False)
    except (EvaluationError, OverBudget) as error:
        return CheckResult("loop", expected, str(error), passed=False)
    return CheckResult("loop", expected, f"{len(items)} item{'' if len(items) == 1 else 's'}", passed=True)
