"""What an expression works with: JSON values, a field that is missing, a limit on text; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import jinja2
import orjson

from bridge.core.budget import Budget
from bridge.core.errors import EvaluationError, MissingField
from bridge.core.event import JSON
from bridge.core.json_values import json_type

#: The longest text on the way, in characters.
MAX_TEXT = 1024 * 1024
#: All the text that one evaluation may build, in characters.
MAX_TEXT_BUILT = 16 * MAX_TEXT
#: How deep lists and objects may stand in each other: orjson writes at most 254.
MAX_DEPTH = 128

#: Steps for a list or object that is copied or gone through, besides those for what is in it.
_CONTAINER = 3
#: Characters of a text that are checked and written as JSON in one step.
_WRITTEN_PER_STEP = 32
#: Characters beyond ASCII that one step makes small letters of.
_LOWERED_PER_STEP = 5


class TextLimit:
    """How much more text one evaluation may build: what bounds its memory."""

    def __init__(self, characters: int = MAX_TEXT_BUILT) -> None:
        self._characters = self._left = characters

    def charge(self, characters: int, times: int = 1) -> None:
        """As `require_fit`, and counts the text as built that many `times`. Raises EvaluationError."""
        self.require_fit(characters)
        self._left -= characters * times
        if self._left < 0:
            raise EvaluationError(f"this builds more than {self._characters:,} characters of text")

    def require_fit(self, characters: int) -> None:
        """Raises EvaluationError before a text that is too long is built."""
        if characters > MAX_TEXT:
            raise EvaluationError(f"a text of {characters:,} characters; at most {MAX_TEXT:,} are allowed")


class Missing(jinja2.Undefined):
    """A field that is not there. Going further into it is allowed, using it raises MissingField.

    `why` gives the message, which costs too much to make for a field that nobody uses.
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
        # Jinja asks for marks such as unsafe_callable and __html__: there are none.
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
    """The same in ``when`` and ``loop``, where a missing value is false."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False


def require_present(value: JSON) -> JSON:
    """The value itself. Raises MissingField where it is missing."""
    if isinstance(value, Missing):
        value.fail()
    return value


def to_text(value: JSON, budget: Budget) -> str:
    """The value inside other text: text as it is, anything else as JSON. Raises as `json_of`."""
    return str(value) if isinstance(value, str) else to_json_text(value, budget)


def to_json_text(value: JSON, budget: Budget) -> str:
    """The value as JSON text.

    Raises MissingField, OverBudget, or EvaluationError before a text too long is built.
    """
    budget.charge(_CONTAINER)
    return orjson.dumps(to_json_value(value, budget, TextLimit(MAX_TEXT))).decode()


def to_json_value(value: JSON, budget: Budget, limit: TextLimit | None = None, depth: int = 0) -> JSON:
    """The value in JSON's own types. Raises MissingField, OverBudget, or EvaluationError where it has none.

    It charges for writing the value as JSON text, too. `limit` counts as many characters as that text has at
    the least.
    """
    if limit is not None:
        limit.charge(2)
    exact = type(value)  # isinstance is slow, and every field of an item comes through here
    if exact is str:
        return _text(value, budget, limit)
    if value is None or exact is bool:
        return value
    if exact is int or exact is float:
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
    if isinstance(value, float) and not math.isfinite(value):
        raise EvaluationError(f"{value} is not a JSON number")
    return value


def _key(key: object, budget: Budget, limit: TextLimit | None) -> str:
    if not isinstance(require_present(key), str):
        raise EvaluationError(f"an object's key must be text, found {json_type(key)}")
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
    """The value, which must be text. Raises MissingField or EvaluationError naming `operation`."""
    if not isinstance(require_present(value), str):
        raise EvaluationError(f"{operation} needs text, got {json_type(value)}")
    return str(value)


def require_elements(
    value: JSON, operation: str, budget: Budget, steps: int = 1
) -> list[JSON] | tuple[JSON, ...]:
    """A list's elements or an object's names, each charged so many steps.

    Raises MissingField or EvaluationError naming `operation`, and OverBudget.
    """
    # Not a text's characters: an event that sends text for a list would be taken apart.
    if not isinstance(require_present(value), list | tuple | Mapping):
        raise EvaluationError(f"{operation} needs a list, got {json_type(value)}")
    budget.charge(_CONTAINER + steps * len(value))
    return list(value) if isinstance(value, Mapping) else value


def charge_walk(value: JSON, budget: Budget, times: int = 1) -> None:
    """Charge a walk through the value, and through the texts in it, so many times. Raises OverBudget."""
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
