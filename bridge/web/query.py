"""The filter of a list, as its URL has it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from bridge.core.budget import BUDGET, Budget
from bridge.core.errors import ExpressionError, OverBudget, quoted
from bridge.core.event import JSON, Event
from bridge.core.exact_json import dumps
from bridge.core.fields import parse_path
from bridge.core.job import JobState
from bridge.core.units import parse_duration
from bridge.outbox.bounds import Window
from bridge.outbox.listing import EventFilter, JobFilter
from bridge.routing.match import Condition, Glob, Pattern

#: The spans that a list offers; the first is the default.
SPANS = ("24h", "1h", "7d", "30d")
#: Tabs of the list of events, with their labels.
EVENT_TABS = {"all": "All", "jobs": "Created jobs", "none": "No job", "failed": "Failed to route"}
#: The last time that has a year of four digits, seconds since the epoch.
LATEST = 253402300799.0
#: The roots of a path that a search may begin with.
_ROOTS = ("payload", "headers", "query", "event", "action")


class BadQuery(Exception):
    """A part of the URL is not valid; the message is for a person."""


def is_storable(text: str) -> bool:
    """Return whether every database can compare and store the text."""
    return "\x00" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


@dataclass(frozen=True)
class Query:
    """The parameters of a list's URL: each key once, without empty values."""

    values: Mapping[str, str]

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Query:
        """A form sends its empty fields, too. Raises BadQuery."""
        for key, value in values.items():
            if not is_storable(value):
                raise BadQuery(f"{quoted(key)} must be text without NUL and lone surrogates")
        return cls({key: value for key, value in values.items() if value})

    def get(self, key: str) -> str | None:
        return self.values.get(key)

    def url(self, path: str, **changes: object) -> str:
        """Return a path with these parameters and changes, at its first page; None removes a parameter."""
        kept = {key: value for key, value in self.values.items() if key not in ("before", "upto")}
        given = {**kept, **changes}
        shown = {key: str(value) for key, value in given.items() if value is not None and value != ""}
        return f"{path}?{urlencode(shown)}" if shown else path

    @property
    def before(self) -> int | None:
        """The id below which the page begins. `upto` is the first id of a page that is already shown."""
        if (upto := self.number("upto")) is not None:
            return upto + 1
        return self.number("before")

    def number(self, key: str) -> int | None:
        """Return a parameter that must be a number. Raises BadQuery."""
        text = self.values.get(key)
        if text is None:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise BadQuery(f"{key} must be a number, got {quoted(text)}")
        return int(text)

    def seconds(self, key: str) -> float | None:
        """Return a parameter that must be a time in seconds since the epoch. Raises BadQuery."""
        text = self.values.get(key)
        if text is None:
            return None
        if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text) is None:
            raise BadQuery(f"{key} must be a time in seconds, got {quoted(text)}")
        return float(text)

    def window(self, now: float) -> Window:
        """Return the span of time: ``from`` and ``to``, or ``last``. Raises BadQuery."""
        since, until = self.values.get("from"), self.values.get("to")
        if since or until:
            start = 0.0 if since is None else _time(since)
            return Window(start, None if until is None else _time(until))
        last = self.values.get("last", SPANS[0])
        try:
            return Window(now - parse_duration(last))
        except ValueError as error:
            raise BadQuery(f"last must be a duration such as 24h: {error}") from error

    @property
    def state(self) -> JobState | None:
        text = self.values.get("state")
        if text is None:
            return None
        try:
            return JobState(text)
        except ValueError:
            raise BadQuery(f"state must be one of {', '.join(JobState)}, got {quoted(text)}") from None

    def events(self, now: float | None = None) -> EventFilter:
        """Return the filter of a list of events. Raises BadQuery."""
        search = self.values.get("q", "").strip()
        matches = delivery_id = None
        if search.partition(":")[0].split(".")[0].split("[")[0] in _ROOTS and ":" in search:
            matches = _field_search(search)
        elif search:
            delivery_id = search.removeprefix("delivery:")
        tab = self.values.get("tab", "all")
        if tab not in EVENT_TABS:
            raise BadQuery(f"tab must be one of {', '.join(EVENT_TABS)}, got {quoted(tab)}")
        return EventFilter(
            self.window(time.time() if now is None else now),
            source=self.values.get("source"),
            delivery_id=delivery_id,
            name=self.values.get("event"),
            has_jobs={"jobs": True, "none": False}.get(tab),
            state=self.state,
            route=self.values.get("route"),
            has_warnings=tab == "failed",
            matches=matches,
        )

    def jobs(self, now: float | None = None) -> JobFilter:
        """Return the filter of a list of jobs. Raises BadQuery."""
        return JobFilter(
            self.window(time.time() if now is None else now),
            state=self.state,
            route=self.values.get("route"),
            task_id=self.values.get("task"),
            source=self.values.get("source"),
        )


@dataclass(frozen=True)
class _AsText(Pattern):
    """A glob for the text of any value: a number and true too."""

    glob: Glob

    def matches(self, value: JSON) -> bool:
        return self.glob.matches(value if isinstance(value, str) else dumps(value).decode())

    def steps(self, value: JSON) -> int:
        return self.glob.steps(value)


def _field_search(search: str) -> Callable[[Event], bool]:
    """Return whether an event has a field with a value, from ``payload.ref:refs/heads/*``."""
    # A quoted name may have a colon.
    cut = search.find(":", search.rfind('"]') + 1)
    path_text, value = search[:cut], search[cut + 1 :].strip()
    try:
        condition = Condition(parse_path(path_text.strip(), _ROOTS), _AsText(Glob.parse(value)))
    except ExpressionError as error:
        raise BadQuery(f"the search {quoted(search)} has no valid field: {error}") from error

    def matches(event: Event) -> bool:
        try:
            return condition.passes({**event.scope, BUDGET: Budget()})[0]
        except OverBudget:
            return False

    return matches


def _time(text: str) -> float:
    """Read a time of a form: without an offset it is UTC. Raises BadQuery."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadQuery(f"expected a time such as 2026-11-29T11:00, got {quoted(text)}") from None
    seconds = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if not 0 <= seconds <= LATEST:
        raise BadQuery(f"expected a time from 1970 to 9999, got {quoted(text)}")
    return seconds
