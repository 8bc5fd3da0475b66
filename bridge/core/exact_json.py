"""JSON with every digit of its numbers, and with U+FFFD for text that is not Unicode; pure."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import NoReturn

import orjson

from bridge.core.errors import EvaluationError
from bridge.core.event import JSON

#: The longest number that keeps its digits, in characters.
MAX_DIGITS = 100
#: Digits that a float always holds.
_FLOAT_DIGITS = 15

_AS_ZEROS = bytes.maketrans(b".123456789", b"0" * 10)
_ZEROS = b"0" * (_FLOAT_DIGITS + 1)
#: A long number that is not the whole body; one in quotes is text.
_LONG = re.compile(rb"[\s:,\[]-?[0-9.]{%d}" % len(_ZEROS))
#: A pair of surrogates or another escape (kept), or a lone surrogate.
_ESCAPE = re.compile(
    r"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\[^u])|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


class LongNumber(float):
    """A JSON number that a float cannot hold: it is sent, shown and compared with the digits that arrived."""

    text: str
    #: A tuple of the text, if its exponent is too long even for a Decimal.
    _exact: Decimal | tuple[str]

    def __new__(cls, text: str) -> LongNumber:
        number = super().__new__(cls, text)
        number.text, number._exact = text, (text,)
        with suppress(InvalidOperation):
            number._exact = Decimal(text)
        return number

    def __str__(self) -> str:
        return self.text if len(self.text) <= MAX_DIGITS else f"a number of {len(self.text):,} characters"

    def __eq__(self, other: object) -> bool:
        return self._exact == (other._exact if isinstance(other, LongNumber) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._exact)

    def _refuse(self, *_: object) -> NoReturn:
        raise EvaluationError(f"{self} has too many digits for arithmetic; you can only send or compare it")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __rmod__ = _refuse
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __neg__ = __abs__ = __round__ = _refuse


def dumps(value: JSON, option: int = 0) -> bytes:
    """Return the value as JSON text. Raises orjson.JSONEncodeError."""
    return orjson.dumps(value, default=digits, option=option)


def digits(value: object) -> orjson.Fragment:
    """Return a LongNumber for orjson. Raises TypeError for anything else."""
    if isinstance(value, LongNumber):
        return orjson.Fragment(value.text)
    raise TypeError


def loads(body: bytes) -> JSON:
    """Return the JSON value of a text. Raises orjson.JSONDecodeError."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            return _exact(body)
        except (ValueError, RecursionError):
            pass
        raise
    # The first test is cheap, and nearly every body passes it.
    if _ZEROS in body.translate(_AS_ZEROS) and (isinstance(value, float) or _LONG.search(body)):
        return _exact(body)
    return value


def _exact(body: bytes) -> JSON:
    text = _ESCAPE.sub(lambda found: found[1] or "\\ufffd", body.decode("utf-8-sig", "replace"))
    return json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=_no_constant)


def _integer(text: str) -> int | LongNumber:
    return int(text) if len(text) <= 20 and -(2**63) <= int(text) < 2**64 else LongNumber(text)


def _float(text: str) -> float:
    number = float(text)
    if isfinite(number) and (len(text) <= _FLOAT_DIGITS or LongNumber(text) == Decimal(repr(number))):
        return number
    return LongNumber(text)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)
