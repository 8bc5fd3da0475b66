"""Where two values, or the arguments of two jobs, differ, as text for a person; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import zip_longest

import orjson

from bridge.core.event import JSON
from bridge.core.job import Job, NewJob
from bridge.core.json_text import display, json_text
from bridge.core.json_values import MISSING, Absent, json_equal
from bridge.core.secrets import Mask
from bridge.routing.check_result import CheckResult
from bridge.routing.route import Route

#: Of two long values that differ, how many characters are shown, and how many of them before the difference.
_SHOWN = 160
_BEFORE = 40


def diff_arguments(
    route: Route | None,
    expected: tuple[JSON, ...],
    actual: tuple[JSON, ...],
    mask: Mask,
    alike: Callable[[JSON | Absent, JSON | Absent], bool] = json_equal,
) -> Iterator[CheckResult]:
    """Each argument in which two jobs of a route differ, by its name or number; None: the route is gone."""
    for order, (one, other) in enumerate(zip_longest(expected, actual, fillvalue=MISSING)):
        if not alike(one, other):
            yield CheckResult(_label(route, order), *diff_values(one, other, mask), passed=False)


def same_when_sent(one: JSON | Absent, other: JSON | Absent) -> bool:
    """Whether two values are the same to a task too, which may tell 5 from 5.0."""
    as_sent = partial(orjson.dumps, option=orjson.OPT_SORT_KEYS)
    return json_equal(one, other) and as_sent(one) == as_sent(other)


def diff_values(one: JSON | Absent, other: JSON | Absent, mask: Mask) -> tuple[str, str]:
    """Two values as JSON text without secrets; what is long is cut to where they differ."""
    if one is MISSING or other is MISSING:
        return display(one, mask), display(other, mask)
    # Masked before it is cut: half a secret is known by none.
    texts = [mask(json_text(value)) for value in (one, other)]
    if texts[0] == texts[1]:
        texts[1] += " (another where it is masked)"
    if max(map(len, texts)) <= _SHOWN:
        return texts[0], texts[1]
    alike = next((at for at, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
    start = max(0, alike - _BEFORE)
    return _cut(texts[0], start), _cut(texts[1], start)


def _cut(text: str, start: int) -> str:
    end = start + _SHOWN
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"


def describe(job: Job | NewJob, mask: Mask) -> str:
    """What a job hands to its task, or why it cannot."""
    if job.arguments is None:
        return f"dead: {job.reason}"
    return f"task_arguments {display(list(job.arguments), mask)}"


def _label(route: Route | None, order: int) -> str:
    known = route is not None and order < len(route.arguments)
    return route.arguments[order].label if route is not None and known else f"argument {order}"
