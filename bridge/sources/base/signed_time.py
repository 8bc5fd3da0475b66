"""The time that a signature covers: how far it may be from this machine's clock. Pure."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from bridge.core.errors import quoted
from bridge.core.event import Request
from bridge.core.fields import Path
from bridge.core.json_text import display
from bridge.core.payload import parse_json

#: Seconds that a signed time may differ from now.
TIME_TOLERANCE = 300.0
#: Seconds since the epoch. Python's own conversions accept more.
_SECONDS = re.compile(rb"[0-9]{1,12}")
_MILLISECONDS = re.compile(rb"[0-9]{13,14}")


def seconds_flaw(name: str, time: bytes | None, now: float) -> str | None:
    """Return why the signed time in the header `name` is refused; None if it is near `now`.

    Both times are seconds since the epoch.
    """
    time = time or b""
    if _SECONDS.fullmatch(time):
        return clock_flaw(name, int(time), now)
    shown, expected = quoted(time.decode("latin-1")), f"expected seconds since the epoch, such as {now:.0f}"
    if not _MILLISECONDS.fullmatch(time):
        return f"{name} is {shown}; {expected}"
    away = abs(now - int(time) / 1000)
    return f"{name} is {shown}, which is in milliseconds (clocks differ by {away:,.0f} s); {expected}"


def field_flaw(path: Path, request: Request) -> str | None:
    """Return why the time in a field of a signed body is refused. Raises Unreadable."""
    value = path.value({"payload": parse_json(request.body)})
    try:
        if isinstance(value, str) and not value.isdecimal():
            time = datetime.fromisoformat(value)
            seconds = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
        else:
            seconds = float(value)  # type: ignore[arg-type]  # a TypeError is caught
        return clock_flaw(path.text, seconds / 1000 if seconds > 1e11 else seconds, request.received_at)
    except (ValueError, TypeError, OverflowError):
        expected = "seconds or milliseconds since the epoch, or a time such as 2026-01-31T12:00:00Z"
        return f"{path.text} is {display(value)}; expected {expected}"


def clock_flaw(name: str, seconds: float, now: float, oldest: float = TIME_TOLERANCE) -> str | None:
    """Return why a signed time is refused, and by how much the clocks differ; None if it is near `now`."""
    late = now - seconds
    if -TIME_TOLERANCE <= late <= oldest:
        return None
    side, limit = ("behind", oldest) if late > 0 else ("ahead of", TIME_TOLERANCE)
    return (
        f"{name} is {math.ceil(abs(late)):,} s {side} this machine's clock, and at most {limit:,.0f} s are "
        "allowed; the secret is right: set both clocks (NTP), unless the request was delayed or sent again"
    )
