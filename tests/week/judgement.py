"""The verdicts on a week: alerts, growth, and the counters of ``/metrics``. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tests.chaos.oracle import Violation

#: The last day may need so many times what the steady day needed.
GROWTH = 1.15
#: Labels and value of one counter.
Counts = Mapping[tuple[str, ...], float]


@dataclass(frozen=True)
class Firing:
    """A time in which a rule fired, in seconds since the start of the week."""

    rule: str
    begun: float
    #: None: it still fires.
    ended: float | None = None


@dataclass(frozen=True)
class Planned:
    """A fault that must fire a rule, and the time from its begin until everything is as before."""

    rule: str
    begun: float
    ended: float


@dataclass(frozen=True)
class Sample:
    """Measured use of the bridge at a moment of a day; None where it could not be measured."""

    day: int
    #: Bytes.
    memory: int | None
    disk: int | None


def judge_alerts(
    rules: Collection[str], planned: Sequence[Planned], firings: Sequence[Firing]
) -> list[Violation]:
    """Each rule must begin to fire during its fault, and clear after it; in the end none fires."""
    found = [f"{rule} has no planned fault" for rule in rules if rule not in {each.rule for each in planned}]
    for fault in planned:
        own = [each for each in firings if each.rule == fault.rule]
        if not any(fault.begun <= each.begun <= fault.ended for each in own):
            found.append(f"{fault.rule} did not fire from {fault.begun:.0f} s to {fault.ended:.0f} s")
    found += [
        f"{each.rule} fires since {each.begun:.0f} s and did not clear"
        for each in firings
        if each.ended is None
    ]
    return [Violation("alerts", what) for what in found]


def medians(samples: Iterable[Sample], what: str) -> dict[int, float]:
    """Return the median of each day; `what` is ``memory`` or ``disk``."""
    days: dict[int, list[int]] = {}
    for sample in samples:
        value = getattr(sample, what)
        if value is not None:
            days.setdefault(sample.day, []).append(value)
    return {day: median(values) for day, values in sorted(days.items())}


def judge_growth(samples: Sequence[Sample], steady: int, last: int) -> list[Violation]:
    """The last day needs no more memory and disk than the steady one, but for a small part."""
    found = []
    for what in ("memory", "disk"):
        of_day = medians(samples, what)
        if steady not in of_day or last not in of_day:
            found.append(f"{what} was not measured on day {steady} or day {last}")
        elif of_day[last] > GROWTH * of_day[steady]:
            grown = of_day[last] / of_day[steady] - 1
            found.append(f"{what} grew by {grown:.0%}, from {of_day[steady]:.0f} to {of_day[last]:.0f} bytes")
    return [Violation("growth", what) for what in found]


def judge_counter(name: str, shown: Counts, truth: Counts) -> list[Violation]:
    """A counter shows exactly what happened; a series that is missing counts as 0."""
    return [
        Violation(
            "metrics", f"{name}{list(key)} is {shown.get(key, 0):g}, and {truth.get(key, 0):g} happened"
        )
        for key in sorted({*shown, *truth})
        if shown.get(key, 0) != truth.get(key, 0)
    ]
