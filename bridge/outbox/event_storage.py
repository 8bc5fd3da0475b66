"""Storing webhooks as events with their jobs: a batch of units of work."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, func, select, update

from bridge.core.event import rfc3339
from bridge.core.job import JobState
from bridge.core.metrics import EVENTS, WEBHOOK_SECONDS
from bridge.outbox import counters, expectations, lookup
from bridge.outbox.job_storage import (
    insert_independent_jobs,
    insert_jobs,
    lock_names,
    retry_dead,
    skip_whole_routes,
)
from bridge.outbox.locks import lock, lock_all
from bridge.outbox.lookup import KnownEvent
from bridge.outbox.row_mapping import EVENT_COLUMNS
from bridge.outbox.schema import events, jobs
from bridge.outbox.statement import insert_rows
from bridge.outbox.webhook import StoredJob, StoredWebhook, Webhook, unique_delivery_id
from bridge.routing.route import OnDead
from bridge.sources.base.source_type import Replays

#: The note of an event whose delivery id arrived with another body.
ANOTHER_BODY = "another body arrived with the same delivery id and created no job (see events list --refused)"

# It returns nothing for an event that exists, and waits for a transaction that is about to commit it.
_INSERT_EVENTS = insert_rows(
    events, EVENT_COLUMNS, events.c.id, events.c.source, events.c.delivery_id, or_ignore=True
)
_JOBS_OF = (
    select(
        jobs.c.id, jobs.c.event_id, jobs.c.route, jobs.c.task, jobs.c.item_key, jobs.c.state, jobs.c.reason,
    )
    .where(
        jobs.c.event_id == bindparam("event_id"),
        jobs.c.replay == 0,
        # An alert belongs to no route: only a person retries it.
        jobs.c.route != OnDead.NAME,
    )
    .with_for_update()
)  # fmt: skip


@dataclass(frozen=True)
class NewEvent:
    """A webhook to store, and its row in events."""

    webhook: Webhook
    row: dict[str, Any]
    #: Seconds since the epoch.
    now: float
    #: The sources and routes with `expect_every`.
    expected: Collection[expectations.Key] = ()
    #: Durations of earlier webhooks, by source; the store empties it.
    durations: deque[tuple[str, float]] = field(default_factory=deque)

    @property
    def delivery(self) -> tuple[str, str]:
        return self.row["source"], self.row["delivery_id"]

    @property
    def body(self) -> tuple[str, bytes]:
        return self.row["source"], self.row["digest"]


def store(connection: Connection, new: Sequence[NewEvent]) -> list[StoredWebhook]:
    """Store webhooks and their jobs.

    A redelivery creates the jobs that are missing, retries the dead ones, and leaves the others alone.
    """
    lock(connection, *{name for each in new for name in lookup.lock_names(each.webhook)})
    lock_all(connection, {name for each in new for name in lock_names(each.webhook.jobs)})
    common = _store_common(connection, new)
    stored = [common[at] if at in common else _store_one(connection, each) for at, each in enumerate(new)]
    if expected := new[-1].expected:
        seen = {
            (each.webhook.event.source, route)
            for each, one in zip(new, stored, strict=True)
            for route in ("", *(job.route for job in one.jobs))
        }
        # Last, so that other processes do not wait long for the locks of these rows.
        expectations.see(connection, seen.intersection(expected), new[-1].now)
    for each, done in zip(new, stored, strict=True):
        webhook = each.webhook
        counters.count(connection, EVENTS, webhook.event.source, webhook.event_label, _verdict(webhook, done))
    with suppress(IndexError):  # when it is empty
        while True:
            source, seconds = new[0].durations.popleft()
            counters.observe(connection, WEBHOOK_SECONDS, seconds, source)
    return stored


def _verdict(webhook: Webhook, stored: StoredWebhook) -> str:
    """Return the result of a webhook, for metrics."""
    if stored.is_refused:
        return "refused"
    if stored.duplicate:
        return "duplicate"
    if not webhook.event.event:
        return "unreadable"
    return "matched" if webhook.jobs else "unmatched"


def _store_common(connection: Connection, new: Sequence[NewEvent]) -> dict[int, StoredWebhook]:
    """Store in few statements the webhooks that are new and unlike each other.

    Return what became of them, by their place in `new`; the others are left to `_store_one`.
    """
    simple = {at: each for at, each in enumerate(new) if _is_simple(each.webhook)}
    before = lookup.by_digest(connection, [each.webhook for each in simple.values()])
    common: dict[int, NewEvent] = {}
    seen: set[object] = set()
    for at, each in simple.items():
        is_first_body = each.webhook.replays is not None and each.body not in before
        keys = {each.delivery, each.body} if is_first_body else {each.delivery}
        if seen.isdisjoint(keys):
            common[at] = each
            seen |= keys
    notes = {
        at: _same_body(before[each.body])
        for at, each in common.items()
        if each.webhook.replays is not None and each.body in before
    }
    # In one order: another process's batch may wait for the same deliveries.
    ordered = sorted(common, key=lambda at: common[at].delivery)
    rows = [_noted(common[at].row, notes.get(at)) for at in ordered]
    ids = {(row.source, row.delivery_id): row.id for row in _INSERT_EVENTS.rows_for(connection, rows)}
    inserted = {at: ids[each.delivery] for at, each in common.items() if each.delivery in ids}
    events_jobs = [(event_id, common[at].webhook.jobs, common[at].now) for at, event_id in inserted.items()]
    made = insert_independent_jobs(connection, events_jobs)
    return {
        at: StoredWebhook(
            event_id, False, made.get(event_id) or insert_jobs(connection, *of_event), notes.get(at)
        )
        for (at, event_id), of_event in zip(inserted.items(), events_jobs, strict=True)
    }


def _is_simple(webhook: Webhook) -> bool:
    """Return whether the delivery id alone decides whether the webhook is known."""
    has_sender_id = webhook.fingerprint is None and not webhook.has_chosen_id
    return has_sender_id and webhook.replays is not Replays.REFUSE


def _store_one(connection: Connection, new: NewEvent) -> StoredWebhook:
    webhook, row, now = new.webhook, new.row, new.now
    known = lookup.by_fingerprint(connection, webhook)
    if known is None and webhook.has_chosen_id:
        # The first webhook of this delivery id may be deleted by now.
        unique_id = unique_delivery_id(webhook.event, row["digest"])
        known = lookup.by_delivery(connection, webhook.event.source, unique_id)
    before = None if known is not None else lookup.by_digest(connection, [webhook]).get(new.body)
    is_refused = before is not None and webhook.replays is Replays.REFUSE
    row, note = dict(row), None if before is None else _same_body(before)
    while known is None:
        event_id = None if is_refused else _insert_event(connection, webhook, _noted(row, note))
        if event_id is not None:
            made = insert_jobs(connection, event_id, webhook.jobs, now)
            return StoredWebhook(event_id, False, made, note)
        # None if retention deleted it while this unit waited for its lock: the webhook is then a new one.
        known = lookup.by_delivery(connection, webhook.event.source, row["delivery_id"])
        if known is None and before is not None and is_refused:
            return StoredWebhook(before.id, True, (), f"a replay: {note}", is_refused=True)
        if known is not None and _is_another(known, webhook, row["delivery_id"]):
            note = note or f"its delivery id already belongs to another body: event {known.id}"
            row["delivery_id"], known = unique_delivery_id(webhook.event, row["digest"]), None
    if lookup.differs(known, webhook):
        return _keep_first(connection, known, webhook)
    _update_event(connection, known.id, row)
    return StoredWebhook(known.id, True, _complete(connection, known.id, webhook, now))


def _same_body(before: KnownEvent) -> str:
    return f"the same body as event {before.id}, delivery id {before.delivery_id}"


def _noted(row: dict[str, Any], note: str | None) -> dict[str, Any]:
    return row if note is None else {**row, "notes": orjson.dumps([note])}


def _is_another(known: KnownEvent, webhook: Webhook, delivery_id: str) -> bool:
    """Return whether the delivery id that the table chose belongs to another webhook."""
    is_chosen = webhook.has_chosen_id and delivery_id == webhook.event.delivery_id
    return is_chosen and lookup.differs(known, webhook)


def _keep_first(connection: Connection, known: KnownEvent, webhook: Webhook) -> StoredWebhook:
    """Create no job of a body that differs from the event's."""
    if webhook.fingerprint is not None:
        # Parts outside the fingerprint may differ, such as the URLs of a pair of Alertmanagers.
        return StoredWebhook(known.id, True, ())
    of_event = select(events.c.notes).where(events.c.id == known.id)
    notes = orjson.loads(connection.execute(of_event).scalar_one() or b"[]")
    if ANOTHER_BODY not in notes:
        noted = update(events).where(events.c.id == known.id)
        connection.execute(noted.values(notes=orjson.dumps([*notes, ANOTHER_BODY])))
    note = (
        f"delivery id {known.delivery_id} already belongs to another body: event {known.id}; "
        "no job was created from this body"
    )
    return StoredWebhook(known.id, True, (), note, is_refused=True)


def _insert_event(connection: Connection, webhook: Webhook, row: dict[str, Any]) -> int | None:
    """Return the new event's id; None if its sender's delivery id exists."""
    inserted = _INSERT_EVENTS.rows_for(connection, [row])
    while not inserted and webhook.fingerprint is not None:
        # Another webhook of the same microsecond has this delivery id.
        row["received_at"] += 1e-6
        row["delivery_id"] = f"{webhook.fingerprint}@{rfc3339(row['received_at'])}"
        inserted = _INSERT_EVENTS.rows_for(connection, [row])
    return inserted[0].id if inserted else None


def _update_event(connection: Connection, event_id: int, row: dict[str, Any]) -> None:
    """Update the event's warnings, and its body if that is not stored: `jobs retry` may need it."""
    of_event = update(events).where(events.c.id == event_id)
    size = of_event.values(warnings=row["warnings"]).returning(func.length(events.c.body))
    if connection.execute(size).scalar_one() == 0 and row["body"]:
        restored = {name: row[name] for name in ("body", "headers", "query", "digest")}
        connection.execute(of_event.values(**restored))


def _complete(connection: Connection, event_id: int, webhook: Webhook, now: float) -> tuple[StoredJob, ...]:
    """Create missing jobs of an event and retry dead ones; return those that now exist or wait."""
    rows = connection.execute(_JOBS_OF, {"event_id": event_id}).all()
    there = {(row.route, row.item_key): row for row in sorted(rows, key=attrgetter("id"))}
    wanted = {(job.route, job.item_key): job for job in webhook.jobs}
    canceled = {row.route for row in rows if not row.item_key and row.state == JobState.CANCELED}
    has_items = {row.route for row in rows if row.item_key}
    has_items -= {row.route for row in rows if row.state == JobState.DEAD}
    missing = tuple(
        job
        for key, job in wanted.items()
        if key not in there
        # A person canceled the job for the whole route, or its items already have jobs.
        and job.route not in (canceled if job.item_key else has_items if job.arguments is None else ())
    )
    done = list(insert_jobs(connection, event_id, missing, now, redelivered=True))
    of_items = {job.route for job in webhook.jobs if job.item_key}
    whole = {job.route for job in webhook.jobs if not job.item_key}
    dead = [
        (row, wanted.get(key))
        for key, row in there.items()
        # A route that exceeded its budget does not say what it makes of its items.
        if row.state == JobState.DEAD and not (row.item_key and row.route in whole)
    ]
    ended = [row for row, new in dead if new is None and not row.item_key and row.route in of_items]
    skip_whole_routes(connection, ended, now)
    dead = [(row, new) for row, new in dead if row not in ended]
    states = retry_dead(connection, dead, now)
    done += [
        StoredJob(row.id, new.route, new.task, JobState.WAITING)
        for row, new in dead
        if new is not None and states[row.id] is JobState.WAITING
    ]
    return tuple(done)
