"""Alert rules whose times are shorter, so that each fires and clears within minutes. Pure."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION = re.compile(r"((?:\d+(?:ms|[smhdw]))+)")
_PART = re.compile(r"(\d+)(ms|[smhdw])")
_RANGE = re.compile(rf"\[{_DURATION.pattern}\]")
_THRESHOLD = re.compile(r"([<>]=?\s*)(\d+(?:\.\d+)?)\s*$")
#: Its values, or those of its buckets, are seconds.
_IN_SECONDS = re.compile(r"\bbridge_\w+_seconds(_bucket)?\b")


def scaled(rules: dict[str, Any], factor: float) -> dict[str, Any]:
    """Return the rules with each time divided by `factor`; counts stay as they are."""
    copy = deepcopy(rules)
    for group in copy["groups"]:
        for rule in group["rules"]:
            rule["expr"] = _scaled_expression(rule["expr"], factor)
            if "for" in rule:
                rule["for"] = _scaled_duration(rule["for"], factor)
    return copy


def seconds(duration: str) -> float:
    """Return a duration of Prometheus in seconds. Raises ValueError."""
    if not _DURATION.fullmatch(duration):
        raise ValueError(f"{duration} is not a duration")
    return sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(duration))


def _scaled_duration(duration: str, factor: float) -> str:
    return f"{max(1, round(seconds(duration) / factor * 1000))}ms"


def _scaled_expression(expression: str, factor: float) -> str:
    expression = _RANGE.sub(lambda found: f"[{_scaled_duration(found[1], factor)}]", expression)
    if _IN_SECONDS.search(expression):
        expression = _THRESHOLD.sub(lambda found: f"{found[1]}{float(found[2]) / factor:g}", expression)
    return expression
