"""RefusalLog: which refused requests have a log line of their own; pure.

Anybody can cause refusals, thousands a second, and their lines would fill a log. So the first of a kind is
logged at once, those that follow are counted, and one line says how many they were. A kind is a status, a
source and a client: one client's many requests hide no other's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bridge.core.client_network import network_of

#: For how long, in seconds, a kind's further requests are counted.
COUNT_PERIOD_SECONDS = 60.0
#: How many kinds have a client of their own at a time. Requests of further clients are counted together, by
#: status and source.
MAX_CLIENTS = 256


class _Kind(NamedTuple):
    status: int
    #: None where the table has no such source.
    source: str | None
    #: None where clients are counted together.
    client: str | None


@dataclass
class _Count:
    since: float
    #: How many came after the first.
    more: int = 0


class RefusalLog:
    """Says what to log of refused requests. It has no lock: its caller holds one.

    Every `now` is in seconds, of one clock.
    """

    def __init__(self) -> None:
        #: The oldest first.
        self._counts: dict[_Kind, _Count] = {}
        self._clients = 0

    @property
    def ends_at(self) -> float | None:
        """When the next count ends; None where nothing is counted."""
        return next((count.since + COUNT_PERIOD_SECONDS for count in self._counts.values()), None)

    def add(self, status: int, source: str | None, client: str, reason: str, now: float) -> str | None:
        """Count one request; its line, where it is the first of its kind.

        `source` is one of the table's, else None; `client` is an IP address, or empty.
        """
        kind = _Kind(status, source, network_of(client) or "unknown")
        if kind not in self._counts and self._clients >= MAX_CLIENTS:
            kind = kind._replace(client=None)
        if (count := self._counts.get(kind)) is not None:
            count.more += 1
            return None
        self._counts[kind] = _Count(now)
        self._clients += kind.client is not None
        return f"refused with {status}: {reason}; client {client or 'unknown'}"

    def pop_ended(self, now: float, *, everything: bool = False) -> list[str]:
        """Forget the counts that have ended by `now`, or `everything`; return a line for each above zero."""
        lines = []
        while self._counts:
            kind, count = next(iter(self._counts.items()))
            if count.since + COUNT_PERIOD_SECONDS > now and not everything:
                break
            del self._counts[kind]
            self._clients -= kind.client is not None
            if count.more:
                lines.append(
                    f"refused with {kind.status}: {count.more:,} more of these in the last "
                    f"{now - count.since:.0f} s; source {kind.source or 'unknown'}, "
                    f"client {kind.client or 'one of many'}"
                )
        return lines
