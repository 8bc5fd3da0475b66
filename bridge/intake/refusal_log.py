"""RefusalLog: which refused requests get a log line of their own; pure.

Anybody can cause thousands of refusals a second, which would fill the log. The first refusal of a kind is
logged at once, later ones are counted, and one line reports the count. A kind is a status, a source and a
client, so that the many requests of one client hide no other's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bridge.core.client_network import network_of
from bridge.process.log_fields import Fields

#: How long the further requests of a kind are counted.
COUNT_PERIOD_SECONDS = 60.0
#: How many kinds name their client. Requests of further clients are counted by status and source alone.
MAX_CLIENTS = 256


class _Kind(NamedTuple):
    status: int
    #: None if the table has no such source.
    source: str | None
    #: None if clients are counted together.
    client: str | None


@dataclass
class _Count:
    since: float
    #: Requests after the first.
    more: int = 0


class RefusalLog:
    """Decides what to log of refused requests. Not thread-safe. Every `now` is in seconds of one clock."""

    def __init__(self) -> None:
        #: The oldest first.
        self._counts: dict[_Kind, _Count] = {}
        self._clients = 0

    @property
    def ends_at(self) -> float | None:
        """When the next count ends; None if there is none."""
        return next((count.since + COUNT_PERIOD_SECONDS for count in self._counts.values()), None)

    def add(self, status: int, source: str | None, client: str, reason: str, now: float) -> Fields | None:
        """Count one request; return the fields of its line if it is the first of its kind.

        `source` must be in the table, or None; `client` is an IP address, or empty.
        """
        kind = _Kind(status, source, network_of(client) or "unknown")
        if kind not in self._counts and self._clients >= MAX_CLIENTS:
            kind = kind._replace(client=None)
        if (count := self._counts.get(kind)) is not None:
            count.more += 1
            return None
        self._counts[kind] = _Count(now)
        self._clients += kind.client is not None
        return Fields("refuse", status=status, source=source, client=client or "unknown", reason=reason)

    def pop_ended(self, now: float, *, everything: bool = False) -> list[Fields]:
        """Remove the counts that have ended by `now`, or `everything`; return fields for each above zero."""
        lines = []
        while self._counts:
            kind, count = next(iter(self._counts.items()))
            if count.since + COUNT_PERIOD_SECONDS > now and not everything:
                break
            del self._counts[kind]
            self._clients -= kind.client is not None
            if count.more:
                lines.append(
                    Fields(
                        "refuse", status=kind.status, source=kind.source,
                        client=kind.client or "one of many", requests=count.more,
                        seconds=round(now - count.since, 3),
                    )
                )  # fmt: skip
        return lines
