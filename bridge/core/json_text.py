"""JSON values as text for a person: without secrets, and shortened; pure."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from bridge.core.event import JSON, Headers
from bridge.core.exact_json import digits
from bridge.core.json_values import MISSING, Absent
from bridge.core.redaction import REDACTED, Redacted

_MAX_LENGTH = 200


def display(value: JSON | Absent, mask: Callable[[str], str] = str) -> str:
    """Return the value as JSON text, masked and then shortened."""
    return shorten(mask(json_text(value)))


def json_text(value: JSON | Absent) -> str:
    """Return the value as JSON text in full: mask it before you shorten it, or part of a secret may show."""
    return "missing" if value is MISSING else orjson.dumps(value, default=_to_json).decode()


def shorten(text: str) -> str:
    """Return masked text, cut to 200 characters."""
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}… ({len(text)} characters)"


def _to_json(value: object) -> JSON:
    if isinstance(value, Redacted):
        return REDACTED
    return dict(value) if isinstance(value, Headers) else digits(value)
