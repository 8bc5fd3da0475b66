"""Storing an event and its jobs: one unit of work."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

import orjson
from sqlalchemy import Connection, Row, bindparam, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from bridge.core.event import rfc3339
from bridge.core.job import JobState, NewJob
from bridge.outbox import groups, keys, lookup
from bridge.outbox.locks import lock_all
from bridge.outbox.lookup import KnownEvent
from bridge.outbox.row_mapping import initial_values, job_row
from bridge.outbox.schema import events, jobs
from bridge.outbox.webhook import StoredJob, StoredWebhook, Webhook, unique_delivery_id
from bridge.routing.route import OnDead
from bridge.sources.base.source_type import Replays

#: Stands on an event where another body came under its delivery id.
ANOTHER_BODY = "another body came under the same delivery id: it made no job (see events list --refused)"
#: What is added to a dead job's reason where nothing would make it today.
STAYS_DEAD = "; asked for again, but its route is gone or no longer matches"
#: Why the dead job of a whole route is skipped.
HAS_ITEMS = "its route was evaluated to its end later, and has jobs for single items"

# Compiled once: the hot path builds no statements.
# By dialect: only these know ON CONFLICT. Nothing comes back where the event is there already; one that
# another transaction is about to commit is waited for.
_INSERT_EVENT = {
    "postgresql": postgresql.insert(events).on_conflict_do_nothing().returning(events.c.id),
    "sqlite": sqlite.insert(events).on_conflict_do_nothing().returning(events.c.id),
}
_INSERT_JOBS = insert(jobs).returning(jobs.c.id, sort_by_parameter_order=True)
_JOBS_OF = (
    select(
        jobs.c.id, jobs.c.event_id, jobs.c.route, jobs.c.item_key, jobs.c.state, jobs.c.reason,
    )
    .where(
        jobs.c.event_id == bindparam("event_id"),
        jobs.c.replay == 0,
        # That of a death is no route's: only a person asks for it again.
        jobs.c.route != OnDead.NAME,
    )
    .with_for_update()
)  # fmt: skip
_CHANGE_JOB = update(jobs).where(jobs.c.id == bindparam("job"))


def store(connection: Connection, webhook: Webhook, row: dict[str, Any], now: float) -> StoredWebhook:
    """Store a webhook, `row` of it in events, and its jobs; a redelivery is completed.

    What is missing is made, what is dead is built again, the rest is left alone.
    """
    lookup.lock(connection, webhook)
    lock_all(connection, lock_names(webhook.jobs))
    known = lookup.by_fingerprint(connection, webhook)
    if known is None and webhook.has_chosen_id:
        # The webhook that came first under this id may be deleted by now.
        own = unique_delivery_id(webhook.event, row["digest"])
        known = lookup.by_delivery(connection, webhook.event.source, own)
    before = None if known is not None else lookup.by_digest(connection, webhook)
    is_refused = before is not None and webhook.replays is Replays.REFUSE
    row, note = dict(row), None if before is None else _same_body(before)
    while known is None:
        event_id = None if is_refused else _insert_event(connection, webhook, _noted(row, note))
        if event_id is not None:
            made = insert_jobs(connection, event_id, webhook.jobs, now)
            return StoredWebhook(event_id, False, made, note)
        # None where it was so old that it was deleted while its lock was waited for: then it is a new one.
        known = lookup.by_delivery(connection, webhook.event.source, row["delivery_id"])
        if known is None and before is not None and is_refused:
            return StoredWebhook(before.id, True, (), f"a replay: {note}", is_refused=True)
        if known is not None and _is_another(known, webhook, row["delivery_id"]):
            note = note or f"its delivery id already belongs to another body: event {known.id}"
            row["delivery_id"], known = unique_delivery_id(webhook.event, row["digest"]), None
    if lookup.differs(known, webhook):
        return _keep_first(connection, known, webhook)
    _renew(connection, known.id, row)
    return StoredWebhook(known.id, True, _complete(connection, known.id, webhook, now))


def _same_body(before: KnownEvent) -> str:
    return f"the same body as event {before.id}, delivery id {before.delivery_id}"


def _noted(row: dict[str, Any], note: str | None) -> dict[str, Any]:
    return row if note is None else {**row, "notes": orjson.dumps([note])}


def _is_another(known: KnownEvent, webhook: Webhook, delivery_id: str) -> bool:
    """Whether it is stored under an id of its own: the id that the table chose is another webhook's."""
    is_chosen = webhook.has_chosen_id and delivery_id == webhook.event.delivery_id
    return is_chosen and lookup.differs(known, webhook)


def _keep_first(connection: Connection, known: KnownEvent, webhook: Webhook) -> StoredWebhook:
    """Make no job of another body than the one that the event shows."""
    if webhook.fingerprint is not None:
        # What the fingerprint leaves out may differ, such as the URLs of a pair of Alertmanagers.
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
    """The new event's id; None where its sender's id is there already."""
    insert_event = _INSERT_EVENT[connection.dialect.name]
    event_id: int | None = connection.execute(insert_event, row).scalar_one_or_none()
    while event_id is None and webhook.fingerprint is not None:
        # Two sights in one microsecond are two webhooks all the same.
        row["received_at"] += 1e-6
        row["delivery_id"] = f"{webhook.fingerprint}@{rfc3339(row['received_at'])}"
        event_id = connection.execute(insert_event, row).scalar_one_or_none()
    return event_id


def lock_names(new: Iterable[NewJob]) -> set[tuple[str, ...]]:
    """The names of the locks under which these jobs are stored."""
    names = {groups.lock_name(job.task_id, job.group) for job in new if job.group is not None}
    return names | {keys.lock_name(job.route, job.once_key) for job in new if job.once_key is not None}


def insert_jobs(
    connection: Connection,
    event_id: int,
    new: Sequence[NewJob],
    now: float,
    *,
    replay: int = 0,
    comes_again: bool = False,
) -> tuple[StoredJob, ...]:
    """Store jobs of an event, each at the end of its group; the locks of all of them are held.

    A `replay` is a person's: it does as if no key were held, and replaces nothing. Where the event
    `comes_again`, what would replace jobs of later events is skipped.
    """
    if not new:
        return ()
    if replay:
        new = [replayed(job) for job in new]
    rows = [job_row(event_id, job, now, replay) for job in new]
    if comes_again:
        # The event's other jobs, whatever their ids, are not newer.
        groups.skip_superseded(connection, [(row, (event_id, sys.maxsize)) for row in rows], now)
    if not replay:
        keys.throttle(connection, new, rows, now)
    groups.assign_positions(connection, rows)
    ids = connection.execute(_INSERT_JOBS, rows).scalars().all()
    skipped = groups.supersede_waiting(connection, list(zip(ids, rows, strict=True)), now)
    return tuple(
        StoredJob(job_id, job.route, job.task, JobState.SKIPPED if job_id in skipped else row["state"])
        for job_id, job, row in zip(ids, new, rows, strict=True)
    )


def replayed(job: NewJob) -> NewJob:
    """A job as a replay makes it: one that replaces nothing."""
    return replace(job, latest=False)


def _renew(connection: Connection, event_id: int, row: dict[str, Any]) -> None:
    """Store what the event has now; its body, which `jobs retry` may need, only where it is gone."""
    of_event = update(events).where(events.c.id == event_id)
    size = of_event.values(warnings=row["warnings"]).returning(func.length(events.c.body))
    if connection.execute(size).scalar_one() == 0 and row["body"]:
        kept = {name: row[name] for name in ("body", "headers", "query", "digest")}
        connection.execute(of_event.values(**kept))


def _complete(connection: Connection, event_id: int, webhook: Webhook, now: float) -> tuple[StoredJob, ...]:
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
    done = list(insert_jobs(connection, event_id, missing, now, comes_again=True))
    of_items = {job.route for job in webhook.jobs if job.item_key}
    whole = {job.route for job in webhook.jobs if not job.item_key}
    dead = [
        (row, wanted.get(key))
        for key, row in there.items()
        # Where a route was not evaluated to its end, nobody knows what it would make of its items.
        if row.state == JobState.DEAD and not (row.item_key and row.route in whole)
    ]
    ended = [row.id for row, new in dead if new is None and not row.item_key and row.route in of_items]
    _skip_whole(connection, ended, now)
    dead = [(row, new) for row, new in dead if row.id not in ended]
    states = revive(connection, dead, now)
    done += [
        StoredJob(row.id, new.route, new.task, JobState.WAITING)
        for row, new in dead
        if new is not None and states[row.id] is JobState.WAITING
    ]
    return tuple(done)


def make_items(
    connection: Connection, dead: Row[*tuple[Any, ...]], items: Sequence[NewJob], now: float
) -> JobState:
    """Store a route's jobs for single items in place of the dead one for all of them, which is skipped.

    Their locks are held.
    """
    of_route = (jobs.c.event_id == dead.event_id, jobs.c.route == dead.route, jobs.c.replay == dead.replay)
    there = set(connection.execute(select(jobs.c.item_key).where(*of_route)).scalars())
    missing = [job for job in items if job.item_key not in there]
    insert_jobs(connection, dead.event_id, missing, now, replay=dead.replay, comes_again=not dead.replay)
    _skip_whole(connection, [dead.id], now)
    return JobState.SKIPPED


def _skip_whole(connection: Connection, ids: Sequence[int], now: float) -> None:
    skipped = {"state": JobState.SKIPPED, "reason": HAS_ITEMS, "ended_at": now}
    if ids:
        connection.execute(_CHANGE_JOB, [{"job": job_id, **skipped} for job_id in ids])


def revive(
    connection: Connection,
    dead: Sequence[tuple[Row[*tuple[Any, ...]], NewJob | None]],
    now: float,
    *,
    by_person: bool = False,
) -> dict[int, JobState]:
    """Set dead jobs waiting at their groups' ends, with arguments built again; their states now, by id.

    Each comes as its row and as what today's table makes of its event; None where its route is gone or does
    not match. The locks of these are held. Those that would replace newer ones of their group are skipped
    instead; where their key is held, too, unless a person asks.
    """
    # Beside why it died, which a person still needs.
    stay = [
        {"job": old.id, "reason": f"{(old.reason or '').partition(STAYS_DEAD)[0]}{STAYS_DEAD}"}
        for old, new in dead
        if new is None
    ]
    if stay:
        connection.execute(_CHANGE_JOB, stay)
    back = [(old, new) for old, new in dead if new is not None]
    states = {old.id: JobState.DEAD for old, _ in dead}
    return states | _set_waiting(connection, back, now, by_person=by_person) if back else states


def _set_waiting(
    connection: Connection,
    dead: Sequence[tuple[Row[*tuple[Any, ...]], NewJob]],
    now: float,
    *,
    by_person: bool,
) -> dict[int, JobState]:
    rows = [initial_values(new, now) for _, new in dead]
    ages = [(old.event_id, old.id) for old, _ in dead]
    groups.skip_superseded(connection, zip(rows, ages, strict=True), now)
    if not by_person:
        keys.throttle(connection, [new for _, new in dead], rows, now)
    groups.assign_positions(connection, rows)
    stored = [(old.id, row) for (old, _), row in zip(dead, rows, strict=True)]
    connection.execute(_CHANGE_JOB, [{"job": job_id, **row} for job_id, row in stored])
    skipped = groups.supersede_waiting(connection, stored, now)
    return {job_id: JobState.SKIPPED if job_id in skipped else row["state"] for job_id, row in stored}
