"""Durations and sizes, as the table and the environment write them; pure."""

from __future__ import annotations

import re

BYTES_BY_UNIT = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

SECONDS_BY_UNIT = {"s": 1, "m": 60, "h": 3600, "d": 86400}

#: Ten years. A longer duration would overflow clocks and timeouts.
MAX_DURATION_SECONDS = 3650 * 86400


def parse_duration(text: str) -> float:
    """Return the seconds of ``30s``, ``10m``, ``24h`` or ``7d``. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    seconds = int(match[1]) * SECONDS_BY_UNIT[match[2]] if match else 0
    if not seconds:
        number = "a number above 0" if match else "a number"
        raise ValueError(f"a duration is {number} and s, m, h or d, such as 30s, 10m, 24h, 7d")
    if seconds > MAX_DURATION_SECONDS:
        raise ValueError(f"a duration is at most {MAX_DURATION_SECONDS // 86400}d")
    return float(seconds)


def format_duration(seconds: float) -> str:
    """Return whole seconds in the largest unit that divides them, such as ``24h``."""
    size, unit = max((size, unit) for unit, size in SECONDS_BY_UNIT.items() if seconds % size == 0)
    return f"{seconds / size:.0f}{unit}"


def parse_byte_count(text: str) -> int:
    """Return the bytes of ``25MiB``, ``512KiB`` or a plain number. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,12}) *(|B|KiB|MiB|GiB)", text)
    if not match or not int(match[1]):
        raise ValueError("a size is a number and KiB, MiB or GiB, such as 25MiB")
    return int(match[1]) * BYTES_BY_UNIT[match[2]]
