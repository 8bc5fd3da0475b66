"""Values in an expression: JSON values, missing fields, and a limit on text; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import jinja2

from bridge.core.budget import Budget
from bridge.core.errors import EvaluationError, MissingField
from bridge.core.event import JSON
from bridge.core.exact_json import MAX_DIGITS, LongNumber, dumps
from bridge.core.json_values import json_type

#: The longest intermediate text, in characters.
MAX_TEXT = 1024 * 1024
#: All the text that one evaluation may build, in characters.
MAX_TEXT_BUILT = 16 * MAX_TEXT
#: The deepest nesting of lists and objects; orjson writes at most 254.
MAX_DEPTH = 128

#: Budget steps to copy or walk a list or an object, besides those for its content.
_CONTAINER = 3
#: Characters of a text checked and written as JSON in one step.
_WRITTEN_PER_STEP = 32
#: Characters beyond ASCII converted to lower case in one step.
_LOWERED_PER_STEP = 5


class TextLimit:
    """The limit on the text that one evaluation builds, which bounds its memory."""

    def __init__(self, characters: int = MAX_TEXT_BUILT) -> None:
        self._characters = self._left = characters

    def charge(self, characters: int, times: int = 1) -> None:
        """Count a text, so many `times`, before it is built. Raises EvaluationError."""
        self.require_fit(characters)
        self._left -= characters * times
        if self._left < 0:
            raise EvaluationError(f"this builds more than {self._characters:,} characters of text")

    def require_fit(self, characters: int) -> None:
        """Raise EvaluationError for a text that is too long, before it is built."""
        if characters > MAX_TEXT:
            raise EvaluationError(f"a text of {characters:,} characters; at most {MAX_TEXT:,} are allowed")


class Missing(jinja2.Undefined):
    """A missing field. A field of it is missing, too; any other use raises MissingField.

    `why` makes the message, which is too expensive for a field that is not used.
    """

    __slots__ = ("_why",)

    def __init__(self, *hints: Any, why: Callable[[], str] | None = None, **named: Any) -> None:
        super().__init__(*hints, **named)
        self._why = why

    def fail(self) -> NoReturn:
        raise MissingField(
            self._why() if self._why else self._undefined_hint or f"{self._undefined_name} is missing"
        )

    def _fail_with_undefined_error(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        self.fail()

    # The base class binds its own function to these names.
    __lt__ = __le__ = __gt__ = __ge__ = _fail_with_undefined_error

    def __getattr__(self, name: str) -> Any:
        # Jinja looks for markers such as unsafe_callable and __html__.
        raise AttributeError(name)

    def __bool__(self) -> bool:
        self.fail()

    def __eq__(self, other: object) -> bool:
        self.fail()

    def __ne__(self, other: object) -> bool:
        self.fail()

    def __hash__(self) -> int:
        self.fail()

    def __str__(self) -> str:
        self.fail()

    def __len__(self) -> int:
        self.fail()

    def __iter__(self) -> Iterator[Any]:
        self.fail()

    def __contains__(self, item: object) -> bool:
        self.fail()


class MissingInCondition(Missing):
    """A missing field in ``when`` and ``loop``, where it is false."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False


def require_present(value: JSON) -> JSON:
    """Return the value. Raises MissingField if it is missing."""
    if isinstance(value, Missing):
        value.fail()
    return value


def to_text(value: JSON, budget: Budget) -> str:
    """Return text as it is, and any other value as JSON. Raises as `to_json_text`."""
    return str(value) if isinstance(value, str) else to_json_text(value, budget)


def to_json_text(value: JSON, budget: Budget) -> str:
    """Return the value as JSON text.

    Raises MissingField, OverBudget, or EvaluationError before a text too long is built.
    """
    budget.charge(_CONTAINER)
    return dumps(to_json_value(value, budget, TextLimit(MAX_TEXT))).decode()


def to_json_value(value: JSON, budget: Budget, limit: TextLimit | None = None, depth: int = 0) -> JSON:
    """Convert the value to JSON's own types. Raises MissingField, OverBudget, or EvaluationError.

    It also charges for writing the value as JSON text; `limit` counts the least length of that text.
    """
    if limit is not None:
        limit.charge(2)
    exact = type(value)  # isinstance is slow, and this runs for every field of an item
    if exact is str:
        return _text(value, budget, limit)
    if value is None or exact is bool:
        return value
    if exact is int or exact is float or exact is LongNumber:
        return _number(value)
    if exact is not list and exact is not dict and isinstance(require_present(value), str):
        return _text(value, budget, limit)
    if depth == MAX_DEPTH:
        raise EvaluationError(f"lists and objects are nested more than {MAX_DEPTH} deep")
    if exact is list or isinstance(value, list | tuple):
        budget.charge(_CONTAINER + len(value))
        return [to_json_value(inner, budget, limit, depth + 1) for inner in value]
    if isinstance(value, Mapping):
        budget.charge(_CONTAINER + 2 * len(value))
        return {
            _key(key, budget, limit): to_json_value(inner, budget, limit, depth + 1)
            for key, inner in value.items()
        }
    raise EvaluationError(f"a {type(value).__name__} is not a JSON value")


def _number(value: int | float) -> int | float:
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise EvaluationError("a whole number of more than 64 bits")
    if isinstance(value, LongNumber) and (not math.isfinite(value) or len(value.text) > MAX_DIGITS):
        expected = f"a number of at most {MAX_DIGITS} characters that fits a float"
        raise EvaluationError(f"{value} cannot be sent: expected {expected}")
    if isinstance(value, float) and not math.isfinite(value):
        raise EvaluationError(f"{value} is not a JSON number")
    return value


def _key(key: object, budget: Budget, limit: TextLimit | None) -> str:
    if not isinstance(require_present(key), str):
        raise EvaluationError(f"an object's key must be text, got {json_type(key)}")
    return _text(key, budget, limit)


def _text(value: Any, budget: Budget, limit: TextLimit | None) -> str:
    if limit is not None:
        limit.charge(len(value))
    if len(value) >= _WRITTEN_PER_STEP:
        budget.charge(len(value) // _WRITTEN_PER_STEP)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise EvaluationError("the text has a lone surrogate, so it is not valid JSON") from error
    return str(value)


def require_text(value: JSON, operation: str) -> str:
    """Return the value as text. Raises MissingField, or EvaluationError that names `operation`."""
    if not isinstance(require_present(value), str):
        raise EvaluationError(f"{operation} needs text, got {json_type(value)}")
    return str(value)


def require_elements(
    value: JSON, operation: str, budget: Budget, steps: int = 1
) -> list[JSON] | tuple[JSON, ...]:
    """Return a list's elements or an object's names, and charge each so many steps.

    A text has no elements. Raises MissingField, OverBudget, or EvaluationError that names `operation`.
    """
    if not isinstance(require_present(value), list | tuple | Mapping):
        raise EvaluationError(f"{operation} needs a list, got {json_type(value)}")
    budget.charge(_CONTAINER + steps * len(value))
    return list(value) if isinstance(value, Mapping) else value


def charge_walk(value: JSON, budget: Budget, times: int = 1) -> None:
    """Charge so many walks through the value and its texts. Raises OverBudget."""
    if isinstance(value, str):
        budget.charge(
            (1 + len(value) // (_WRITTEN_PER_STEP if value.isascii() else _LOWERED_PER_STEP)) * times
        )
    elif isinstance(value, list | tuple):
        budget.charge((1 + len(value)) * times)
        for inner in value:
            if not isinstance(inner, int | float | bool | None):
                charge_walk(inner, budget, times)
    elif isinstance(value, Mapping):
        charge_walk(list(value.items()), budget, times)
