"""Use case 1: a request becomes an event and its jobs, in one commit, and then the answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from bridge.errors import NotStored, StoreUnavailable, UnknownSource
from bridge.event import JSON, Request
from bridge.outbox import Outbox, Stored, Webhook
from bridge.sources import Source
from bridge.table import Routed, RoutingTable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What the sender gets: an HTTP status and a JSON body."""

    status: int
    body: dict[str, JSON]


class Receiver:
    """Takes the requests of one process."""

    def __init__(self, table: RoutingTable, outbox: Outbox, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._outbox = outbox
        self.clock = clock

    def admit(self, head: Request) -> None:
        """Check what can be checked before the body is read. Raises Refusal."""
        self._source(head).verify_head(head)

    def receive(self, request: Request) -> Answer:
        """Verify, read, route and store. Raises Refusal; nothing is stored then."""
        source = self._source(request)
        source.verify(request)
        event, reading = source.read(request)
        routed = Routed((), ()) if reading.handshake else self._table.jobs_for(event)
        webhook = Webhook(
            event=event,
            fingerprint=None if reading.delivery_id else reading.fingerprint,
            window=source.dedupe,
            jobs=routed.jobs,
            warnings=routed.warnings,
        )
        try:
            stored = self._outbox.store(webhook)
        except StoreUnavailable as error:
            raise NotStored(str(error)) from error
        log.info(
            "event %d: %s %s from %s, %s, jobs: %d%s",
            stored.event_id, event.full_name, event.delivery_id, source.name,
            "come again" if stored.duplicate else "new", len(stored.jobs),
            "".join(f"; {warning}" for warning in routed.warnings),
        )  # fmt: skip
        return answer(stored)

    def _source(self, request: Request) -> Source:
        source = self._table.sources.get(request.source)
        if source is None:
            raise UnknownSource(f"no source is named {request.source[:100]!r}")
        return source


def answer(stored: Stored) -> Answer:
    """202 where the request made a job or set one waiting, else 200."""
    made = [{"id": job.id, "route": job.route, "task": job.task} for job in stored.jobs]
    return Answer(
        202 if made else 200, {"event": stored.event_id, "jobs": made, "duplicate": stored.duplicate}
    )
