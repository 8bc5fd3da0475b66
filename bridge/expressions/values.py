"""What an expression works with: JSON values, a field that is missing, a budget of text; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

import jinja2
import orjson

from bridge.errors import EvaluationError, MissingField
from bridge.event import JSON
from bridge.fields import kind

#: The longest text on the way, in characters.
MAX_TEXT = 1024 * 1024
#: All the text that one evaluation may build, in characters.
MAX_TEXT_BUILT = 16 * MAX_TEXT


class Budget:
    """How much more text one evaluation may build."""

    def __init__(self) -> None:
        self.left = MAX_TEXT_BUILT

    def spend(self, characters: int) -> None:
        """Raises EvaluationError before a text that is too long is built."""
        self.left -= characters
        if characters > MAX_TEXT:
            raise EvaluationError(f"a text of {characters:,} characters; at most {MAX_TEXT:,} are allowed")
        if self.left < 0:
            raise EvaluationError(f"the expression builds more than {MAX_TEXT_BUILT:,} characters of text")


class Missing(jinja2.Undefined):
    """A field that is not there. Going further into it is allowed, using it raises MissingField."""

    __slots__ = ()

    def fail(self) -> NoReturn:
        raise MissingField(self._undefined_hint or f"{self._undefined_name} is missing")

    def _fail_with_undefined_error(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        self.fail()

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


def present(value: JSON) -> JSON:
    """The value itself. Raises MissingField where it is missing."""
    if isinstance(value, Missing):
        value.fail()
    return value


def text_of(value: JSON) -> str:
    """The value inside other text: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return str(value)
    return orjson.dumps(plain(value)).decode()


def plain(value: JSON) -> JSON:
    """The value in JSON's own types. Raises MissingField or EvaluationError where it has none."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(present(value), str):
        return str(value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise EvaluationError("a whole number of more than 64 bits")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise EvaluationError(f"{value} is no JSON number")
        return value
    if isinstance(value, Mapping):
        return {_key(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, Iterable):
        return [plain(inner) for inner in value]
    raise EvaluationError(f"a {type(value).__name__} is no JSON value")


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise EvaluationError(f"an object's key must be text, found {kind(key)}")
    return key


def text(value: JSON, operation: str) -> str:
    """The value, which must be text. Raises MissingField or EvaluationError naming `operation`."""
    if not isinstance(present(value), str):
        raise EvaluationError(f"{operation} is for text, found {kind(value)}")
    return str(value)
