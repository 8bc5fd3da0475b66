"""``/``: what needs a person, and what happened in the last hour and day."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from flask import Blueprint, render_template, url_for

from bridge.app import Bridge
from bridge.core.job import JobState, TableVersion
from bridge.delivery.target import outage_began_before
from bridge.outbox.activity import MINUTE, Minute, SourceActivity
from bridge.outbox.bounds import Window
from bridge.outbox.listing import SCANNED, EventFilter
from bridge.outbox.refused_requests import LIMIT_PER_SOURCE
from bridge.web.health import troubles

HOUR, DAY = 3600.0, 86400.0
#: How long the chart is not drawn again, seconds.
CHART_SECONDS = 15.0
#: The chart's size, in its own units.
CHART_WIDTH, CHART_HEIGHT = 600, 64


@dataclass(frozen=True)
class Need:
    """Something that a person must look at."""

    #: A state of jobs, which gives its colour and its sign.
    state: str
    #: Such as ``31 dead``.
    label: str
    subject: str
    text: str
    url: str
    #: The words of the link.
    link: str


@dataclass(frozen=True)
class Bar:
    """One minute of the chart."""

    x: float
    #: Height and kind of each part, from the bottom.
    parts: tuple[tuple[float, float, str], ...]


class Chart:
    """The jobs of the last hour. Thread-safe: whoever finds it old reads it again."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._lock = threading.Lock()
        self._minutes: list[Minute] = []
        self._read_at = float("-inf")

    def minutes(self, now: float) -> list[Minute]:
        with self._lock:
            if time.monotonic() - self._read_at > CHART_SECONDS:
                end = (now // MINUTE + 1) * MINUTE
                self._minutes = self._bridge.outbox.activity.minutes(Window(end - HOUR, end))
                self._read_at = time.monotonic()
            return self._minutes


def bars(minutes: list[Minute]) -> list[Bar]:
    """Return the bars of a chart; the highest fills it."""
    highest = max((each.good + each.bad + each.open for each in minutes), default=0) or 1
    shown, width = [], CHART_WIDTH / max(1, len(minutes))
    for number, each in enumerate(minutes):
        parts, bottom = [], float(CHART_HEIGHT)
        for count, kind in ((each.good, "good"), (each.open, "open"), (each.bad, "bad")):
            # One of many must still be seen.
            height = max(2.0, count / highest * CHART_HEIGHT) if count else 0.0
            bottom -= height
            if count:
                parts.append((round(max(0.0, bottom), 1), round(height, 1), kind))
        shown.append(Bar(round(number * width, 1), tuple(parts)))
    return shown


def table_version(bridge: Bridge) -> TableVersion | None:
    """Return the version of the active table; None if it has no routes."""
    return next((route.table for route in bridge.table.routes), None)


def add_overview(blueprint: Blueprint, bridge: Bridge) -> None:
    """Add the first page."""
    chart = Chart(bridge)

    @blueprint.get("/", strict_slashes=False)
    def overview() -> str:
        now, activity = time.time(), bridge.outbox.activity
        sources = activity.sources((*bridge.table.sources, ""), Window(now - DAY))
        minutes = chart.minutes(now)
        trouble = troubles(bridge)
        hour = bridge.outbox.listing.count_events(EventFilter(Window(now - HOUR)))
        return render_template(
            "overview.html", needs=list(_needs(bridge, sources, trouble)), sources=sources, scanned=SCANNED,
            types={name: source.type.name for name, source in bridge.table.sources.items()},
            backlog=activity.backlog(), minutes=minutes, bars=bars(minutes), hour=hour,
            is_down=any("unreachable" in each for each in trouble), version=table_version(bridge),
            workers=len(bridge.outbox.delivering(30.0)), routes=len(bridge.table.routes),
        )  # fmt: skip


def _needs(bridge: Bridge, sources: Mapping[str, SourceActivity], trouble: Iterable[str]) -> Iterator[Need]:
    """Yield what a person must look at, the most urgent first."""
    for text in trouble:
        if outage_began_before(text) is None:
            yield Need("unknown", "problem", "", text, url_for("page.table"), "Details →")
        else:
            url = url_for("page.jobs", state=JobState.WAITING, last="30d")
            yield Need("dead", "problem", "", text, url, "Waiting jobs →")
    for each in bridge.outbox.activity.needy():
        count = f"{each.count:,} {each.state}"
        url = url_for("page.jobs", state=each.state, route=each.route, last="30d")
        reason = each.newest.reason or "the answer was lost: say whether TheEye has it"
        yield Need(each.state, count, each.route, reason, url, "Look at them →")
    for name, source in sources.items():
        # A good webhook after it shows that the sender was set right.
        if source.refused_at is not None and source.refused_at > (source.last_at or 0.0):
            count = f"{source.refused}{'+' if source.refused >= LIMIT_PER_SOURCE else ''} refused"
            url = url_for("page.refused", source=name) if name else url_for("page.refused", unknown=1)
            yield Need("dead", count, name or "unknown source", source.reason or "", url, "What to do →")
