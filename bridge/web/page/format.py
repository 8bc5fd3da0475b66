"""How the templates write values: times, counts, and texts from outside."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from bridge.core.event import rfc3339
from bridge.core.secrets import Mask
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


def clock(seconds: float, now: float) -> str:
    """Return the time of day in UTC, with the date unless it is today's."""
    date, _, of_day = utc(seconds).partition("T")
    return of_day[:8] if date == utc(now)[:10] else f"{date} {of_day[:5]}"


def visible(mask: Mask, text: object, limit: int = CELL_CHARACTERS) -> str:
    """Return text from outside, masked, cut, and without characters that act on a terminal."""
    return escaped(mask.cut(str(text), limit))


def visible_lines(mask: Mask, text: str, limit: int = LINES_CHARACTERS) -> str:
    """Return several lines from outside, masked, cut, and without such characters."""
    return "\n".join(map(escaped, mask.cut(text, limit).split("\n")))


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


def filters(mask: Mask) -> dict[str, Callable[..., Any]]:
    """Return the filters of the templates."""
    return {
        "ago": ago, "clock": clock, "span": span, "utc": utc, "grouped": grouped, "capped": capped,
        "glyph": glyph, "size": size, "mask": mask, "visible": partial(visible, mask),
        "visible_lines": partial(visible_lines, mask),
    }  # fmt: skip
