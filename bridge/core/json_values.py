"""JSON values: their types, equality, and MISSING for a field that is absent; pure."""

from __future__ import annotations

from enum import Enum


class Absent(Enum):
    """A field that does not exist, as opposed to null."""

    MISSING = "missing"


MISSING = Absent.MISSING


def json_type(value: object) -> str:
    """Return the value's JSON type in words, such as ``a list``."""
    if value is MISSING:
        return "missing"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list | tuple) else "an object"


def is_number(value: object) -> bool:
    """Return whether the value is a JSON number; a boolean is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def json_equal(one: object, other: object) -> bool:
    """Compare two JSON values: a boolean is not a number, 5 equals 5.0, and MISSING equals nothing."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if is_number(one) and is_number(other):
        return one == other
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(json_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(json_equal(one[key], other[key]) for key in one)
    if isinstance(one, str) and isinstance(other, str):
        return one == other
    return one is None and other is None
