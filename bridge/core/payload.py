"""Parse the bytes of a body, JSON or a form, within limits; pure."""

from __future__ import annotations

import re

import orjson

from bridge.core.errors import Unreadable
from bridge.core.event import JSON
from bridge.core.exact_json import loads

#: How deep objects and lists may be nested.
MAX_JSON_DEPTH = 64
#: Commas and opening brackets of a body, those inside its texts too: a cheap bound of its values. Parsed,
#: 25 MiB of ``[],`` would take 800 MB.
MAX_JSON_VALUES = 500_000
#: Fields of a form, unless the caller expects more.
MAX_FORM_FIELDS = 10
#: Bytes of a form that are decoded at once: decoding takes up to four times as much memory.
FORM_SLICE_BYTES = 64 * 1024

#: How JSON begins, after blanks, NULs and byte order marks. A form percent-encodes these characters.
_JSON_START = re.compile(rb'[\s\x00\xef\xbb\xbf\xfe\xff]*+[{\["]')


def parse_json(body: bytes) -> JSON:
    """Return the JSON value of a body. Raises Unreadable if it is invalid or beyond the limits."""
    # Counted before it is parsed, so that a refused body costs no memory.
    openings = body.count(b"[") + body.count(b"{")
    if body.count(b",") + openings >= MAX_JSON_VALUES:
        raise Unreadable(f"the JSON has more than {MAX_JSON_VALUES:,} commas and brackets")
    try:
        value = loads(body)
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"the body is not valid JSON: {error}") from error
    if openings > MAX_JSON_DEPTH and _is_deeper(value, MAX_JSON_DEPTH):
        raise Unreadable(f"the JSON is nested more than {MAX_JSON_DEPTH} deep")
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


def parse_form(body: bytes, limit: int = MAX_FORM_FIELDS) -> dict[str, str]:
    """Return the fields of an ``application/x-www-form-urlencoded`` body, at most `limit`, by unique name.

    Raises Unreadable, also for JSON: a signature does not cover the Content-Type that calls it a form.
    """
    if _JSON_START.match(body):
        raise Unreadable(
            "the body begins like JSON, but its Content-Type says a form: set application/json at the sender"
        )
    fields = body.split(b"&", limit)
    if len(fields) > limit:
        raise Unreadable(f"the form has more than {limit} field{'s' if limit > 1 else ''}")
    pairs = (field.partition(b"=") for field in fields)
    try:
        form = {_unquote(name): _unquote(value) for name, _, value in pairs}
    except UnicodeError as error:
        raise Unreadable(f"the form is not percent-encoded UTF-8: {error}") from error
    if len(form) < len(fields):
        raise Unreadable("the form has two fields of the same name")
    return form


def _unquote(text: bytes) -> str:
    """Decode a name or a value of a form. Raises UnicodeError."""
    plain, start = bytearray(), 0
    while start < len(text):
        end = start + FORM_SLICE_BYTES
        if end < len(text) and (escape := text.rfind(b"%", end - 2, end)) >= 0:
            end = escape  # do not split an escape
        plain += _unescape(text[start:end])
        start = end
    return plain.decode()


def _unescape(text: bytes) -> bytes:
    # urllib makes an object of each escape, 1.8 GB for 25 MiB of them; a codec of Python does not.
    escaped = text.replace(b"+", b" ").replace(b"\\", b"\\x5c").replace(b"%", b"\\x")
    return escaped.decode("unicode_escape").encode("latin-1")
