"""Fields, slices, comparisons and ``~`` of an expression, as functions on JSON values; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, cast

from jinja2.runtime import Context
from jinja2.utils import pass_context

from bridge.core.budget import BUDGET, Budget
from bridge.core.errors import EvaluationError, Incomparable
from bridge.core.event import JSON, Headers
from bridge.core.fields import Path, child, missing_message
from bridge.core.json_values import MISSING, is_number, json_equal, json_type
from bridge.expressions.values import Missing, TextLimit, require_present, to_text

#: The key of the evaluation's TextLimit in a scope. No expression can name it.
LIMIT = ".limit"

#: A message's name for a value that is not a field of the event.
VALUE = "(…)"

#: Characters of two texts of equal length compared in one step.
_COMPARED_PER_STEP = 256
#: The length from which a name costs more than its look-up.
_LONG_NAME = 64
#: Characters of two texts compared for their order in one step.
_ORDERED_PER_STEP = 128
#: Budget steps for an element of a list that is searched.
_ELEMENT_STEPS = 3
#: Comparisons of characters in one step of a search.
_SEARCHED_PER_STEP = 1024
#: Elements of a list copied in one step.
_COPIED_PER_STEP = 32


def budget(context: Context) -> Budget:
    """Return the event's budget."""
    return cast(Budget, context.parent[BUDGET])


def limit(context: Context) -> TextLimit:
    """Return the evaluation's limit on text."""
    return cast(TextLimit, context.parent[LIMIT])


def charge_text(context: Context, characters: int, times: int = 1) -> None:
    """Charge a text before it is built. Raises OverBudget, or EvaluationError if it is too long."""
    limit(context).charge(characters, times)
    budget(context).charge_text(characters)


def missing_field(context: Context, why: Callable[[], str]) -> Missing:
    """Return a missing field; `why` makes its message."""
    return cast(type[Missing], context.environment.undefined)(why=why)


@pass_context
def _field(context: Context, value: JSON, root: str, steps: tuple[Any, ...]) -> JSON:
    field = value
    for step in steps:
        if isinstance(field, Missing):
            return field
        if isinstance(step, Missing):
            return step
        if type(step) is not int and not isinstance(step, str):
            raise EvaluationError(
                f"{root}[…] needs text (a field) or a whole number (an index), got {json_type(step)}"
            )
        if isinstance(step, str) and len(step) >= _LONG_NAME:
            budget(context).charge_text(len(step))  # the name may be an event's
        field = child(field, step)
        if field is MISSING:
            scope = context.parent if root != VALUE else {VALUE: value, BUDGET: budget(context)}
            # No path_text here: a step may have a megabyte, and the message shortens it.
            return missing_field(context, partial(missing_message, Path(root, root, steps), scope))
    return field


@pass_context
def _slice(context: Context, value: JSON, *bounds: JSON) -> JSON:
    if isinstance(value, Missing):
        return value
    for bound in map(require_present, bounds):
        if bound is not None and type(bound) is not int:
            raise EvaluationError(f"a slice needs whole numbers, got {json_type(bound)}")
    wanted = slice(*bounds)
    if isinstance(value, str):
        charge_text(context, len(range(*wanted.indices(len(value)))))
    elif isinstance(value, list | tuple):
        charge_copy(context, len(range(*wanted.indices(len(value)))))
    else:
        raise EvaluationError(f"a slice needs text or a list, got {json_type(value)}")
    return value[wanted]


def charge_copy(context: Context, length: int) -> None:
    """Charge the copy of a list. Raises OverBudget."""
    budget(context).charge(1 + length // _COPIED_PER_STEP)


def join_texts(context: Context, between: str, values: Iterable[JSON]) -> str:
    """Join the values, with `between` between them. Raises EvaluationError before the text gets too long."""
    texts: list[str] = []
    length = 0
    for value in values:
        texts.append(to_text(value, budget(context)))
        length += len(texts[-1]) + (len(between) if len(texts) > 1 else 0)
        limit(context).require_fit(length)
    charge_text(context, length)
    return between.join(texts)


@pass_context
def _concatenate(context: Context, first: JSON, *others: JSON) -> str:
    return join_texts(context, "", (first, *others))


@pass_context
def _no_else(context: Context, _value: None) -> Missing:
    return missing_field(context, lambda: "an if without else has no value when its condition is false")


@pass_context
def _compare(context: Context, first: JSON, operators: tuple[str, ...], *others: JSON) -> bool:
    left = first
    for operator, right in zip(operators, others, strict=True):
        if not COMPARISONS[operator](context, left, right):
            return False
        left = right
    return True


def _equal(one: JSON, other: JSON, left: Budget) -> bool:
    if type(one) is str and type(other) is str:
        if len(one) == len(other) >= _COMPARED_PER_STEP:
            left.charge(len(one) // _COMPARED_PER_STEP)
        return one == other
    for side in (one, other):
        if isinstance(side, Missing):
            return bool(side)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return False
        left.charge(3 + 3 * len(one))
        return all(_equal(*pair, left) for pair in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        if len(one) != len(other):
            return False
        left.charge(5 + 5 * len(one) + sum(map(len, filter(_is_text, one))) // _COMPARED_PER_STEP)
        return one.keys() == other.keys() and all(_equal(one[key], other[key], left) for key in one)
    return json_equal(one, other)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _within(context: Context, one: JSON, other: JSON) -> bool:
    for side in (one, other):
        if isinstance(side, Missing):
            return bool(side)
    if isinstance(other, str):
        charge_text(context, len(other))
        if not isinstance(one, str):
            return False
        charge_search(context, other, one)
        return one in other
    if isinstance(other, dict | Headers):
        if not isinstance(one, str):
            return False
        if len(one) >= _LONG_NAME:
            budget(context).charge_text(len(one))
        return one in other
    if isinstance(other, list | tuple):
        left = budget(context)
        left.charge(_ELEMENT_STEPS * len(other))
        return any(_equal(one, element, left) for element in other)
    raise EvaluationError(f"in needs a list, text or an object, got {json_type(other)}")


def charge_search(context: Context, text: str, part: str) -> None:
    """Charge a search for `part`. Raises OverBudget.

    In the worst case CPython compares each part of a short text character by character; a long one it reads
    once (Objects/stringlib/fastsearch.h).
    """
    length, width = len(text), len(part)
    if length < 2_500 or (length < 30_000 and width < 100):
        budget(context).charge(max(0, length - width) * width // _SEARCHED_PER_STEP)


def _ordered(context: Context, one: JSON, other: JSON) -> None:
    for side in (one, other):
        if isinstance(side, Missing) and not side:
            raise Incomparable("a missing field cannot be compared with <, <=, > or >=")
    if not (is_number(one) and is_number(other)) and not (isinstance(one, str) and isinstance(other, str)):
        raise Incomparable(f"{json_type(one)} and {json_type(other)} cannot be compared with <, <=, > or >=")
    if isinstance(one, str):
        budget(context).charge(min(len(one), len(other)) // _ORDERED_PER_STEP)


def _order(compare: Callable[[Any, Any], bool]) -> Callable[[Context, JSON, JSON], bool]:
    def ordered(context: Context, one: JSON, other: JSON) -> bool:
        _ordered(context, one, other)
        return compare(one, other)

    return pass_context(ordered)


#: By Jinja's names.
COMPARISONS: Mapping[str, Callable[[Context, JSON, JSON], bool]] = {
    "eq": pass_context(lambda context, one, other: _equal(one, other, budget(context))),
    "ne": pass_context(lambda context, one, other: not _equal(one, other, budget(context))),
    "in": pass_context(_within),
    "notin": pass_context(lambda context, one, other: not _within(context, one, other)),
    "lt": _order(lambda one, other: one < other),
    "lteq": _order(lambda one, other: one <= other),
    "gt": _order(lambda one, other: one > other),
    "gteq": _order(lambda one, other: one >= other),
}

#: By names that no expression can have.
INTERNAL: dict[str, Callable[..., Any]] = {
    ".field": _field,
    ".slice": _slice,
    ".concatenate": _concatenate,
    ".compare": _compare,
    ".no_else": _no_else,
}
