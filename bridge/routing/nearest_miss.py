"""Which route came nearest to an event, and the check that failed; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from bridge.core.json_text import shorten
from bridge.routing.check_result import CheckResult, Explanation


@dataclass(frozen=True)
class Miss:
    """Why a route created no job: its first failed check."""

    route: str
    check: CheckResult


def nearest_first(explanations: Iterable[Explanation]) -> list[Explanation]:
    """Return the routes that match, then the others, the nearest miss first."""
    return sorted(explanations, key=_distance)


def nearest_miss(explanations: Iterable[Explanation], source: str, mask: Callable[[str], str]) -> Miss | None:
    """Return why the nearest route of the source created no job, or None if no route wants the event."""
    missed = (each for each in explanations if each.route.source == source and each.failures)
    nearest = min(missed, key=_distance, default=None)
    if nearest is None or nearest.failures[0].subject == "event":
        return None
    check = nearest.failures[0]
    return Miss(nearest.route.name, replace(check, actual=shorten(mask(check.actual))))


def _distance(each: Explanation) -> tuple[int, int, int]:
    """Sort key, nearest to a match first. A route for another event is last."""
    failures = each.failures
    is_for_another = any(result.subject in ("event", "otherwise") for result in failures)
    passing = sum(result.passed for result in each.results)
    return (1 + is_for_another, len(failures), -passing) if failures else (0, 0, 0)
