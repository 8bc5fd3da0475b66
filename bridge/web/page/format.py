"""How the templates write values: times, counts, and texts from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bridge.core.event import rfc3339
from bridge.process.log import escaped
from bridge.report.verdict import GLYPHS

#: The longest text of a cell, in characters.
CELL_CHARACTERS = 160
#: The longest text of several lines, in characters.
LINES_CHARACTERS = 20_000
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def ago(seconds: float, now: float) -> str:
    """Return the time since then, in one unit: ``4 s ago``."""
    return f"{span(now - seconds)} ago"


def span(seconds: float) -> str:
    """Return a duration in one unit: ``26 h``."""
    seconds = max(0.0, seconds)
    for size, unit in _UNITS:
        if seconds >= (2 * size if size == 86400 else size):
            return f"{int(seconds // size)} {unit}"
    return "0 s"


def utc(seconds: float) -> str:
    """Return the exact time, to the millisecond."""
    return f"{rfc3339(seconds)[:23]}Z"


def visible(text: object, limit: int = CELL_CHARACTERS) -> str:
    """Return text from outside without characters that act on a terminal or turn the direction, and cut."""
    shown = escaped(str(text)[:limit])
    return shown if len(str(text)) <= limit else f"{shown}…"


def visible_lines(text: str, limit: int = LINES_CHARACTERS) -> str:
    """Return several lines from outside without such characters, and cut."""
    shown = "\n".join(map(escaped, text[:limit].split("\n")))
    return shown if len(text) <= limit else f"{shown}…"


def grouped(count: int) -> str:
    return f"{count:,}"


def capped(count: int, limit: int) -> str:
    """Return a count that ends at a limit."""
    return f"{limit:,}+" if count >= limit else f"{count:,}"


def glyph(state: str) -> str:
    return GLYPHS[state]


def size(count: int) -> str:
    """Return a number of bytes in one unit."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.1f} KB" if count < 1e6 else f"{count / 1e6:.1f} MB"


FILTERS: dict[str, Callable[..., Any]] = {
    "ago": ago, "span": span, "utc": utc, "visible": visible, "visible_lines": visible_lines,
    "grouped": grouped, "capped": capped, "glyph": glyph, "size": size,
}  # fmt: skip
