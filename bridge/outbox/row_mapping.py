"""Rows of the store as Event, Job and Attempt, and back."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from typing import Any

import orjson
from sqlalchemy import Row, Table

from bridge.core.event import Event, Headers
from bridge.core.exact_json import dumps, loads
from bridge.core.job import Attempt, Job, JobContent, JobState, NewJob, Outcome, TableVersion
from bridge.core.redaction import RedactedEvent, is_redacted
from bridge.outbox.schema import attempts, events, jobs
from bridge.outbox.webhook import Webhook, sender_delivery_id

#: The size in bytes from which bodies are compressed.
COMPRESS_FROM = 1025
#: The first byte of a zlib stream with a window of 32 KiB (RFC 1950 2.2); JSON never begins with it.
_ZLIB_PREFIX = b"\x78"
#: Precedes the body of an event with a redacted field; neither JSON nor zlib begins with it.
_REDACTED_PREFIX = b"\x00"


@dataclass(frozen=True)
class EventSummary:
    """A stored event without its payload."""

    id: int
    source: str
    event: str
    action: str | None
    #: As it is stored; see webhook.unique_delivery_id.
    delivery_id: str
    #: Seconds since the epoch.
    received_at: float
    #: Problems in conditions and loops, and of the event's requests.
    warnings: tuple[str, ...]
    #: How many jobs it has.
    jobs: int


def event_row(webhook: Webhook) -> dict[str, Any]:
    event = webhook.event
    return {
        "source": event.source,
        "event": event.event,
        "action": event.action,
        "delivery_id": event.delivery_id,
        "fingerprint": webhook.fingerprint,
        "headers": orjson.dumps(dict(event.headers.items())),
        "query": orjson.dumps(dict(event.query)),
        "body": (_REDACTED_PREFIX if is_redacted(event) else b"") + compressed(event.body),
        "received_at": event.received_at,
        "warnings": orjson.dumps(list(webhook.warnings)),
        "digest": webhook.digest,
        "notes": None,
    }


def event_of(row: Row[Any]) -> Event:
    """Return the event; if its body is not stored, that is empty and the payload None."""
    body = decompressed(row.body)
    kind = RedactedEvent if row.body.startswith(_REDACTED_PREFIX) else Event
    return kind(
        source=row.source,
        event=row.event,
        action=row.action,
        delivery_id=sender_delivery_id(row.delivery_id, row.event, row.action, row.digest),
        headers=Headers(orjson.loads(row.headers).items()),
        query=orjson.loads(row.query),
        payload=loads(body) if body else None,
        received_at=row.received_at,
        body=body,
    )


def compressed(body: bytes) -> bytes:
    """Return a body as it is stored: compressed if that makes it shorter."""
    if len(body) < COMPRESS_FROM:
        return body
    shorter = zlib.compress(body, level=1)
    return shorter if len(shorter) < len(body) else body


def decompressed(stored: bytes) -> bytes:
    stored = stored.removeprefix(_REDACTED_PREFIX)
    return zlib.decompress(stored) if stored.startswith(_ZLIB_PREFIX) else stored


def _stored_as_is(record: type, table: Table, *others: str) -> tuple[str, ...]:
    """Return the fields, all but `others`, each of which has a column of its name and type."""
    return tuple(table.c[each.name].name for each in fields(record) if each.name not in others)


#: The fields that identify a job of an event.
_IDENTITY = ("route", "item_key", "item_index")
_BUILT = _stored_as_is(JobContent, jobs, *_IDENTITY, "arguments", "reason", "group", "table")
_JOB = _stored_as_is(Job, jobs, "state", "arguments", "group", "table")
_ATTEMPT = _stored_as_is(Attempt, attempts, "outcome")
_SUMMARY = _stored_as_is(EventSummary, events, "warnings", "jobs")


def summary_of(row: Row[Any]) -> EventSummary:
    values = {name: getattr(row, name) for name in _SUMMARY}
    warnings = (*orjson.loads(row.notes or b"[]"), *orjson.loads(row.warnings))
    return EventSummary(**values, warnings=warnings, jobs=row.jobs)


#: The columns of `event_row` and `job_row`.
EVENT_COLUMNS = tuple(each.name for each in events.c if each is not events.c.id)
_LATER = {"id", "theeye_job_id", "claim_token", "lease_until"}
JOB_COLUMNS = tuple(each.name for each in jobs.c if each.name not in _LATER)


def job_row(event_id: int, job: NewJob, now: float, replay: int = 0) -> dict[str, Any]:
    return {
        **{name: getattr(job, name) for name in _IDENTITY},
        "event_id": event_id,
        "replay": replay,
        "created_at": now,
        "attempt_count": 0,
        **initial_values(job, now),
    }


def initial_values(job: NewJob, now: float) -> dict[str, Any]:
    """Return the values of a job when it is created, and when a dead one is built again."""
    dead = job.arguments is None
    return {
        **{name: getattr(job, name) for name in _BUILT},
        "arguments": None if job.arguments is None else dumps(job.arguments),
        "reason": without_nul(job.reason),
        "group_name": job.group,
        "table_hash": None if job.table is None else job.table.hash,
        "table_commit": None if job.table is None else job.table.commit,
        "state": JobState.DEAD if dead else JobState.WAITING,
        "due_at": now,
        "retry_window_start": now,
        "window_attempts": 0,
        "window_unknowns": 0,
        "position": None,
        "blocked": False,
        "ended_at": now if dead else None,
        "alerted": False,
    }


def job_of(row: Row[Any]) -> Job:
    return Job(
        **{name: getattr(row, name) for name in _JOB},
        state=JobState(row.state),
        arguments=None if row.arguments is None else tuple(loads(row.arguments)),
        group=row.group_name,
        table=None if row.table_hash is None else TableVersion(row.table_hash, row.table_commit),
    )


def attempt_of(row: Row[Any]) -> Attempt:
    values = {name: getattr(row, name) for name in _ATTEMPT}
    return Attempt(**values, outcome=None if row.outcome is None else Outcome(row.outcome))


def without_nul(text: str | None) -> str | None:
    """Return a text that every database can store."""
    return None if text is None else text.replace("\x00", "\\u0000")
