"""The last refused requests of each source: units of work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from bridge.core.metrics import REFUSED
from bridge.outbox import counters
from bridge.outbox.locks import lock
from bridge.outbox.row_mapping import without_nul
from bridge.outbox.schema import refused_requests

#: How many requests of a source are stored.
LIMIT_PER_SOURCE = 20
NO_COUNTS: Mapping[tuple[str, str], int] = {}
#: The largest size that every database can store.
_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class RefusedRequest:
    """A refused request, without its body."""

    #: Empty for a name that is not in the table.
    source: str
    #: Seconds since the epoch.
    at: float
    #: The HTTP status of the answer.
    status: int
    #: Masked; never says which secret.
    reason: str
    #: The value of the header in which this type of source sends the event's name.
    event: str | None
    #: The Content-Length in bytes, if sent.
    size: int | None
    #: The client's IP address, if known.
    client: str | None = None


def store_refused(
    connection: Connection,
    refused: Iterable[RefusedRequest],
    counts: Mapping[tuple[str, str], int] = NO_COUNTS,
) -> None:
    """Store requests, and delete those before the last LIMIT_PER_SOURCE of each source.

    `counts` are the numbers of refused requests by source and cause, for metrics.
    """
    lock(connection, ("refused_requests",))
    for (source, cause), number in counts.items():
        counters.count(connection, REFUSED, source, cause, by=number)
    rows = [_row(one) for one in refused]
    if rows:
        connection.execute(insert(refused_requests), rows)
    for source in {row["source"] for row in rows}:
        of_source = select(refused_requests.c.id).where(refused_requests.c.source == source)
        last = of_source.order_by(refused_requests.c.id.desc()).limit(LIMIT_PER_SOURCE)
        connection.execute(
            delete(refused_requests).where(
                refused_requests.c.source == source, refused_requests.c.id.not_in(last.scalar_subquery())
            )
        )


def _row(refused: RefusedRequest) -> dict[str, Any]:
    return {
        **asdict(refused),
        "reason": without_nul(refused.reason),
        "event": without_nul(refused.event),
        "client": without_nul(refused.client),
        "size": None if refused.size is None else min(refused.size, _LARGEST),
    }


def refused_of(row: Row[Any]) -> RefusedRequest:
    return RefusedRequest(row.source, row.at, row.status, row.reason, row.event, row.size, row.client)
