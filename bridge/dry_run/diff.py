"""Differences of two values, or of the arguments of two jobs, as text; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import zip_longest

import orjson

from bridge.core.event import JSON
from bridge.core.exact_json import dumps
from bridge.core.job import Job, NewJob
from bridge.core.json_text import display, json_text
from bridge.core.json_values import MISSING, Absent, json_equal
from bridge.core.secrets import Mask
from bridge.routing.check_result import CheckResult
from bridge.routing.route import Route

#: The most characters of a value that are shown, and how many of them are before the difference.
_LENGTH_LIMIT = 160
_BEFORE = 40


def diff_arguments(
    route: Route | None,
    expected: tuple[JSON, ...],
    actual: tuple[JSON, ...],
    mask: Mask,
    equal: Callable[[JSON | Absent, JSON | Absent], bool] = json_equal,
) -> Iterator[CheckResult]:
    """Yield each argument that differs, by its name, or by its number if the route no longer exists."""
    for order, (one, other) in enumerate(zip_longest(expected, actual, fillvalue=MISSING)):
        if not equal(one, other):
            yield CheckResult(_label(route, order), *diff_values(one, other, mask), passed=False)


def equal_when_sent(one: JSON | Absent, other: JSON | Absent) -> bool:
    """Compare two values as a task sees them: 5 and 5.0 differ."""
    as_sent = partial(dumps, option=orjson.OPT_SORT_KEYS)
    return json_equal(one, other) and as_sent(one) == as_sent(other)


def diff_values(one: JSON | Absent, other: JSON | Absent, mask: Mask) -> tuple[str, str]:
    """Return two values as masked JSON text, cut to the first difference if they are long."""
    if one is MISSING or other is MISSING:
        return display(one, mask), display(other, mask)
    # Mask before cutting: no mask finds part of a secret.
    texts = [mask(json_text(value)) for value in (one, other)]
    if texts[0] == texts[1]:
        texts[1] += " (a different secret)"
    if max(map(len, texts)) <= _LENGTH_LIMIT:
        return texts[0], texts[1]
    same = next((at for at, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    start = max(0, same - _BEFORE)
    return _cut(texts[0], start), _cut(texts[1], start)


def _cut(text: str, start: int) -> str:
    end = start + _LENGTH_LIMIT
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"


def describe(job: Job | NewJob, mask: Mask) -> str:
    """Return a job's arguments as text, or why it is dead."""
    if job.arguments is None:
        return f"dead: {job.reason}"
    return f"task_arguments {display(list(job.arguments), mask)}"


def _label(route: Route | None, order: int) -> str:
    known = route is not None and order < len(route.arguments)
    return route.arguments[order].label if route is not None and known else f"argument {order + 1}"
