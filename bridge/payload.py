"""From a body's bytes to JSON, within limits; pure."""

from __future__ import annotations

from urllib.parse import parse_qsl

import orjson

from bridge.errors import Unreadable
from bridge.event import JSON

#: How deep objects and lists may stand in each other.
MAX_DEPTH = 64
#: How many values a body may hold. Parsed, 25 MiB of ``[],`` would be 800 MB.
MAX_VALUES = 500_000
#: How many fields a form may have.
MAX_FORM_FIELDS = 10


def parse_json(body: bytes) -> JSON:
    """The body's JSON value. Raises Unreadable where it is none, or one beyond the limits."""
    # Counted before it is parsed, so that what is refused costs no memory.
    openings = body.count(b"[") + body.count(b"{")
    if body.count(b",") + openings >= MAX_VALUES:
        raise Unreadable(f"the JSON holds more than {MAX_VALUES:,} values")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"the body is no JSON: {error}") from error
    if openings > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise Unreadable(f"the JSON is nested more than {MAX_DEPTH} deep")
    return value


def _is_deeper(value: JSON, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer if isinstance(outer, list) else outer.values())
            if isinstance(inner, list | dict)
        ]
        if not level:
            return False
    return True


def parse_form(body: bytes) -> dict[str, str]:
    """The fields of an ``application/x-www-form-urlencoded`` body, the last value of each.

    Raises Unreadable.
    """
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FORM_FIELDS
        )
    except ValueError as error:
        raise Unreadable(f"the body is no form of at most {MAX_FORM_FIELDS} fields: {error}") from error
    return dict(pairs)
