"""Silence: a source or route that gets nothing for longer than expected, and its alert; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bridge.core.event import Event, Headers, rfc3339
from bridge.core.exact_json import dumps
from bridge.core.job import NewJob
from bridge.core.units import format_duration
from bridge.routing.route import Alert


@dataclass(frozen=True)
class Expectation:
    """`expect_every` of a source or a route."""

    source: str
    #: The route's name; empty for the source itself.
    route: str
    #: Seconds.
    every: float


@dataclass(frozen=True)
class Watched:
    """An expectation, and how long it has waited. Times are seconds since the epoch."""

    expectation: Expectation
    #: When it was first expected.
    since: float
    #: When the source's last webhook was received, or the route's last job created; None: not since then.
    seen_at: float | None
    #: Whether a job of `on_silence` reports the silence.
    is_alerted: bool
    now: float

    @property
    def name(self) -> str:
        """The source or the route, for people."""
        route = self.expectation.route
        return f"route {route!r}" if route else f"source {self.expectation.source}"

    @property
    def silent_since(self) -> float:
        return self.since if self.seen_at is None else self.seen_at

    @property
    def seconds(self) -> float:
        """How long it has waited."""
        return max(0.0, self.now - self.silent_since)

    @property
    def is_overdue(self) -> bool:
        return self.seconds > self.expectation.every

    @property
    def trouble(self) -> str:
        """The problem and the remedy, if it is overdue. The same silence has the same text."""
        what, do = "received no webhook", "check its webhook at the sender, and `events list --refused`"
        if self.expectation.route:
            what, do = "created no job", "run `explain` with the last event of its source"
        every = format_duration(self.expectation.every)
        return (
            f"{self.name} has {what} since {rfc3339(self.silent_since)[:19]}Z, expected every {every}: {do}"
        )


@dataclass(frozen=True)
class OnSilence(Alert):
    """The task that alerts people to a silence."""

    NAME: ClassVar[str] = "on_silence"
    #: The source of its events, a name that no source of a table can have.
    SOURCE: ClassVar[str] = "(bridge)"
    #: The fields of payload in its arguments.
    FIELDS: ClassVar[tuple[str, ...]] = ("source", "route", "expect_every", "last_seen_at", "silent_since")

    @classmethod
    def event_for(cls, silent: Watched) -> Event:
        """Create the event of a silence. Its delivery id is the same in every process."""
        expected, since = silent.expectation, rfc3339(silent.silent_since)
        payload = {
            "source": expected.source,
            "route": expected.route or None,
            "expect_every": format_duration(expected.every),
            "last_seen_at": None if silent.seen_at is None else since,
            "silent_since": since,
        }
        delivery_id = f"{silent.name} since {since}"
        return Event(
            cls.SOURCE, "silence", None, delivery_id, Headers(), {}, payload, silent.now, dumps(payload)
        )

    def job_for(self, event: Event) -> NewJob:
        """Create the job of such an event."""
        return self._job(event.scope)
