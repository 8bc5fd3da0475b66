"""Use case 1: a webhook becomes an event and its jobs, in one commit, before it is answered."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from bridge.core.errors import (
    MAX_QUOTED_CHARACTERS,
    FetchFailed,
    NotStored,
    Refusal,
    SendError,
    ServiceUnavailable,
    StoreUnavailable,
    UnknownSource,
    WrongMethod,
    quoted,
)
from bridge.core.event import JSON, Event, Request
from bridge.core.secrets import Mask
from bridge.core.suggestions import closest_match, did_you_mean
from bridge.intake.answer import Answer, answer_to, verdict
from bridge.intake.dead_jobs import dead_jobs
from bridge.intake.evaluation_limiter import EvaluationLimiter
from bridge.intake.refusals import Refusals
from bridge.outbox.refused_requests import RefusedRequest
from bridge.outbox.store import Outbox
from bridge.outbox.webhook import StoredWebhook, Webhook
from bridge.process.log_fields import Fields
from bridge.routing.routing_table import Routed, RoutingTable
from bridge.sources.base.source import MAX_NAME, Source
from bridge.sources.base.source_type import ParsedWebhook

log = logging.getLogger(__name__)

#: How long the same webhook without a readable event is a duplicate.
UNNAMED_DEDUPE_SECONDS = 86400.0


class Receiver:
    """Receives the webhooks of one process."""

    def __init__(
        self,
        table: RoutingTable,
        outbox: Outbox,
        refusals: Refusals,
        mask: Mask,
        clock: Callable[[], float] = time.time,
        public_url: str | None = None,
    ) -> None:
        """`public_url` is the page's, for links in answers."""
        #: The active table; a reload replaces it at any time.
        self.table = table
        self._outbox = outbox
        self._refusals = refusals
        self._mask = mask
        self._limiter = EvaluationLimiter()
        self.clock = clock
        self._public_url = public_url

    def receive(self, head: Request, body: AbstractContextManager[bytes], size: int | None = None) -> Answer:
        """Take one webhook along its path: read, verify, parse, route, store, answer.

        `head` is the request without its body, `size` the length of the body that it announces, in bytes.
        To enter `body` reads it within its limits, and to leave it frees its memory. Raises Refusal; nothing
        is stored then, unless it is FetchFailed.
        """
        try:
            return self._receive(head, body)
        except Refusal as refusal:
            self._record(refusal, head, size)
            raise

    def refuse_path(self, head: Request, path: str, status: int, size: int | None) -> None:
        """Record a POST to a path that is not a webhook's, which was answered with `status`, 404 or 405."""
        near = closest_match(path.strip("/").rpartition("/")[2][:MAX_QUOTED_CHARACTERS], self.table.sources)
        meant = "" if near is None else f"; did you mean /hooks/{near}?"
        reason = f"POST to {quoted(path)}: a webhook's path is /hooks/<source>{meant}"
        self._record(
            UnknownSource(reason) if status == UnknownSource.status else WrongMethod(reason), head, size
        )

    def _receive(self, head: Request, body: AbstractContextManager[bytes]) -> Answer:
        table = self.table  # read once: a reload must not change it on the way
        source = _source_of(head, table)
        source.verify_head(head)
        with body as content:
            request = head.with_body(content)
            if source.type.is_unsigned_test(request):
                log.debug(
                    "unsigned connection test from %(source)s, client %(client)s: answered 200, not stored",
                    Fields("handshake", source=source.name, client=request.client or "unknown"),
                )
                return Answer(200, {"test": True})
            source.verify(request)
            event, parsed = source.read(request, self._mask, any_event=True)
            with self._limiter.slot(source.name):
                routed = table.jobs_for(event)
            if parsed.problem is not None:
                problem = f"no jobs, because its event cannot be read: {parsed.problem}"
                advice = (
                    "if a task must run, correct the table and replay the event; "
                    "if a header is missing, repair the proxy and send the webhook again"
                )
                routed = Routed((), (self._mask(f"{problem}; {advice}"),))
            # Commits. The answer is 2xx only after that.
            stored = self._store(_webhook(table, request, event, parsed, routed))
            self._log_stored(table, source, request, event, stored, routed)
            if parsed.confirm_url is not None:
                self._confirm(source, parsed.confirm_url)
            return answer_to(
                source, request, event, stored, lambda: self._verdict(table, event, routed, stored)
            )

    def _verdict(
        self, table: RoutingTable, event: Event, routed: Routed, stored: StoredWebhook
    ) -> dict[str, JSON]:
        """Return the part of the answer that ``answer: verdict`` adds."""
        link: dict[str, JSON] = {}
        if self._public_url is not None:
            link["url"] = f"{self._public_url}/events/{stored.event_id}"
        try:
            return {"verdict": verdict(table, event, routed, stored, self._mask), **link}
        except Exception:  # logged; the event is stored, and the sender must not send it again
            log.exception(
                "event %(event)d: no verdict for its answer", Fields("defect", event=stored.event_id)
            )
            return link

    def _store(self, webhook: Webhook) -> StoredWebhook:
        try:
            return self._outbox.store(webhook)
        except StoreUnavailable as error:
            raise NotStored(str(error)) from error

    def _log_stored(
        self, table: RoutingTable, source: Source, request: Request, event: Event, stored: StoredWebhook,
        routed: Routed,
    ) -> None:  # fmt: skip
        reason = "; ".join(filter(None, (*routed.warnings, stored.note)))
        log.log(
            logging.INFO if event.event and stored.note is None else logging.WARNING,
            "event %(event)d: %(event_name)s %(delivery_id)s from %(source)s, client %(client)s, "
            f"{'duplicate' if stored.duplicate else 'new'}, jobs: %(jobs)d{'; %(reason)s' if reason else ''}",
            Fields(
                "receive", event=stored.event_id, source=source.name, event_name=event.full_name,
                delivery_id=event.delivery_id, client=request.client or "unknown",
                duplicate=stored.duplicate, jobs=len(stored.jobs), reason=reason or None,
            ),
        )  # fmt: skip
        for text, fields in dead_jobs(table, stored.event_id, routed.jobs, stored.jobs):
            log.warning(f"event %(event)d: {text}", fields)
        if stored.note is not None and stored.is_refused:
            # Answered 200 all the same: senders disable a webhook after a 4xx, and some send again.
            self._record_refused(source, request, 200, stored.note, len(request.body))

    def _confirm(self, source: Source, url: str) -> None:
        try:
            source.type.fetch(url)
        except SendError as error:
            raise FetchFailed(f"source {source.name} cannot be confirmed: {error}") from error
        log.info("source %(source)s is confirmed", Fields("handshake", source=source.name))

    def _record(self, refusal: Refusal, head: Request, size: int | None) -> None:
        """Log a refusal, and store it."""
        source = self.table.sources.get(head.source)
        name = None if source is None else source.name
        reason = self._mask(str(refusal))
        self._refusals.log(refusal.status, name, head.client, reason)
        # After a 503 the sender sends again, and the store may be unavailable.
        if not isinstance(refusal, ServiceUnavailable):
            self._record_refused(source, head, refusal.status, reason, size)

    def _record_refused(
        self, source: Source | None, head: Request, status: int, reason: str, size: int | None
    ) -> None:
        header = None if source is None else source.type.event_header
        event = None if header is None else head.headers.get(header)
        self._refusals.record(
            RefusedRequest(
                source="" if source is None else source.name,
                at=head.received_at,
                status=status,
                reason=reason,
                event=None if event is None else self._mask(event)[:MAX_NAME],
                size=size,
                client=head.client or None,
            )
        )


def _source_of(request: Request, table: RoutingTable) -> Source:
    source = table.sources.get(request.source)
    what = f"{request.method} to {quoted(request.source)}"
    if source is None:
        known = ", ".join(table.sources) or "none"
        guess = did_you_mean(request.source[:MAX_QUOTED_CHARACTERS], table.sources) or f"; known: {known}"
        what += f": no source has this name{guess}"
    if request.method != "POST":
        raise WrongMethod(f"{what}; a webhook is a POST: set this method at the sender")
    if source is None:
        raise UnknownSource(what)
    return source


def _webhook(
    table: RoutingTable, request: Request, event: Event, parsed: ParsedWebhook, routed: Routed
) -> Webhook:
    source = table.sources[event.source]
    return Webhook(
        event=source.stored_form(event, made_jobs=bool(routed.jobs)),
        fingerprint=None if parsed.delivery_id else parsed.fingerprint,
        window=source.dedupe if event.event else UNNAMED_DEDUPE_SECONDS,
        jobs=routed.jobs,
        warnings=routed.warnings,
        digest=source.digest(request, event),
        # Requests without a body all have the same one.
        replays=source.replays if request.body and event.event else None,
        has_chosen_id=source.options.delivery_id is not None and bool(event.event),
        has_event_in_body=source.has_event_in_body,
        event_label=table.event_label(event),
    )
