"""Durations and sizes, as the table and the environment write them; pure."""

from __future__ import annotations

import re

#: Of a byte count's unit, how many bytes it is.
BYTE_UNITS = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

#: Of a duration's unit, how many seconds it is.
DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

#: Seconds: ten years. A longer one would overflow clocks and time-outs.
LONGEST_DURATION = 3650 * 86400


def duration(text: str) -> float:
    """The seconds of ``30s``, ``10m``, ``24h`` or ``7d``. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    seconds = int(found[1]) * DURATION_UNITS[found[2]] if found else 0
    if not seconds:
        raise ValueError("a duration is a number and s, m, h or d, such as 30s, 10m, 24h, 7d")
    if seconds > LONGEST_DURATION:
        raise ValueError(f"a duration is at most {LONGEST_DURATION // 86400}d")
    return float(seconds)


def duration_text(seconds: float) -> str:
    """The same whole seconds as one would write them, in the largest unit that goes."""
    size, unit = max((size, unit) for unit, size in DURATION_UNITS.items() if seconds % size == 0)
    return f"{seconds / size:.0f}{unit}"


def byte_count(text: str) -> int:
    """The bytes of ``25MiB``, ``512KiB`` or a plain number. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,12}) *(|B|KiB|MiB|GiB)", text)
    if not found or not int(found[1]):
        raise ValueError("a size is a number and KiB, MiB or GiB, such as 25MiB")
    return int(found[1]) * BYTE_UNITS[found[2]]
