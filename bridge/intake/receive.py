"""Use case 1: a request becomes an event and its jobs, in one commit, and then the answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bridge.core.errors import (
    NotConfirmed,
    NotStored,
    Refusal,
    SendError,
    StoreUnavailable,
    Unavailable,
    UnknownSource,
    quoted,
)
from bridge.core.event import JSON, Request
from bridge.core.secrets import Mask
from bridge.intake.evaluation_slots import Slots
from bridge.intake.refusals import Refusals
from bridge.outbox.refused_requests import RefusedRequest
from bridge.outbox.store import Outbox
from bridge.outbox.webhook import Stored, Webhook
from bridge.routing.routing_table import RoutingTable
from bridge.sources.base.source import MAX_NAME, Source

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What the sender gets: an HTTP status and a JSON body."""

    status: int
    body: dict[str, JSON]


class Receiver:
    """Takes the requests of one process."""

    def __init__(
        self,
        table: RoutingTable,
        outbox: Outbox,
        refusals: Refusals,
        mask: Mask,
        clock: Callable[[], float] = time.time,
    ) -> None:
        #: The one in force; another may be set at any time.
        self.table = table
        self._outbox = outbox
        self._refusals = refusals
        self._mask = mask
        self._slots = Slots()
        self.clock = clock

    @contextmanager
    def noting_refusals(self, head: Request, size: int | None) -> Iterator[None]:
        """Log a Refusal that is raised inside; keep it, if its source is known. `size` of the body, bytes."""
        try:
            yield
        except Refusal as refusal:
            source = self.table.sources.get(head.source)
            name = None if source is None else source.name
            reason = self._mask(str(refusal))
            self._refusals.log(refusal.status, name, head.client, reason)
            # The sender retries after a 503, and the store may be unavailable.
            if source is not None and not isinstance(refusal, Unavailable):
                self._note_refused(source, head, refusal.status, reason, size)
            raise

    def _note_refused(
        self, source: Source, head: Request, status: int, reason: str, size: int | None
    ) -> None:
        header = source.type.event_header
        event = None if header is None else head.headers.get(header)
        self._refusals.note(
            RefusedRequest(
                source=source.name,
                at=head.received_at,
                status=status,
                reason=reason,
                event=None if event is None else self._mask(event)[:MAX_NAME],
                size=size,
                client=head.client or None,
            )
        )

    def admit(self, head: Request) -> RoutingTable:
        """Check what can be checked before the body is read. Raises Refusal.

        The table by which the request goes to its end: another may come into force before its body has come.
        """
        table = self.table
        _source(table, head).verify_head(head)
        return table

    def receive(self, request: Request, table: RoutingTable) -> Answer:
        """Verify, read, route and store. Raises Refusal: but for NotConfirmed, nothing is stored then."""
        source = _source(table, request)
        if source.type.is_unsigned_test(request):
            log.debug("a test that %s does not sign, client %s", source.name, request.client or "unknown")
            return Answer(200, {"test": True})
        source.verify(request)
        event, parsed = source.read(request, self._mask)
        with self._slots.slot(source.name):
            routed = table.jobs_for(event)
        webhook = Webhook(
            event=source.stored_form(event, made_jobs=bool(routed.jobs)),
            fingerprint=None if parsed.delivery_id else parsed.fingerprint,
            window=source.dedupe,
            jobs=routed.jobs,
            warnings=routed.warnings,
            digest=source.digest(request, event),
            # Without a body, such as a Jira's that is set to send none, all have the same one.
            replays=source.replays if request.body else None,
            has_chosen_id=source.options.delivery_id is not None,
            has_event_in_body=source.has_event_in_body,
        )
        try:
            stored = self._outbox.store(webhook)
        except StoreUnavailable as error:
            raise NotStored(str(error)) from error
        log.info(
            "event %d: %s %s from %s, client %s, %s, jobs: %d%s",
            stored.event_id, event.full_name, event.delivery_id, source.name, request.client or "unknown",
            "come again" if stored.duplicate else "new", len(stored.jobs),
            "".join(f"; {warning}" for warning in routed.warnings),
        )  # fmt: skip
        if stored.note is not None:
            log.warning("event %d: %s", stored.event_id, stored.note)
        if stored.note is not None and stored.is_refused:
            # Answered 200 all the same: senders switch a hook off after a 4xx, and some send again.
            self._note_refused(source, request, 200, stored.note, len(request.body))
        if parsed.confirm_url is not None:
            self._confirm(source, parsed.confirm_url)
        reply = source.reply(request, event)
        return answer(stored, names=bool(source.required)) if reply is None else Answer(200, reply)

    def _confirm(self, source: Source, url: str) -> None:
        try:
            source.type.fetch(url)
        except SendError as error:
            raise NotConfirmed(f"source {source.name} cannot be confirmed: {error}") from error
        log.info("source %s is confirmed", source.name)


def _source(table: RoutingTable, request: Request) -> Source:
    source = table.sources.get(request.source)
    if source is None:
        raise UnknownSource(f"no source is named {quoted(request.source)}")
    return source


def answer(stored: Stored, *, names: bool) -> Answer:
    """202 where the request made a job or set one waiting, else 200.

    Without `names`, for a sender that proves nothing, the jobs have no route and no task.
    """
    made: list[JSON] = [
        {"id": job.id, "route": job.route, "task": job.task} if names else {"id": job.id}
        for job in stored.jobs
    ]
    return Answer(
        202 if made else 200, {"event": stored.event_id, "jobs": made, "duplicate": stored.duplicate}
    )
