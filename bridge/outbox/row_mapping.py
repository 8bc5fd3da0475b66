"""From rows to Event, Job and Attempt, and back."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Row

from bridge.core.event import Event, Headers
from bridge.core.job import Attempt, Job, JobState, NewJob, Outcome, TableVersion
from bridge.core.redaction import RedactedEvent, is_redacted
from bridge.outbox.webhook import Webhook, chosen_id


@dataclass(frozen=True)
class EventSummary:
    """A stored event without its payload."""

    id: int
    source: str
    event: str
    action: str | None
    #: As it is stored; see webhook.own_id.
    delivery_id: str
    #: Seconds since the epoch.
    received_at: float
    #: What went wrong in conditions and loops, and what is odd about its requests.
    warnings: tuple[str, ...]
    #: How many jobs it has made.
    jobs: int


def event_row(webhook: Webhook) -> dict[str, Any]:
    event = webhook.event
    return {
        "source": event.source,
        "event": event.event,
        "action": event.action,
        "delivery_id": event.delivery_id,
        "fingerprint": webhook.fingerprint,
        "headers": orjson.dumps(dict(event.headers)),
        "query": orjson.dumps(dict(event.query)),
        "body": (_REDACTED_PREFIX if is_redacted(event) else b"") + compressed(event.body),
        "received_at": event.received_at,
        "warnings": orjson.dumps(list(webhook.warnings)),
        "digest": webhook.digest,
    }


def event_of(row: Row[Any]) -> Event:
    """Where its body is not kept, that is empty and the payload None."""
    body = decompressed(row.body)
    kind = RedactedEvent if row.body.startswith(_REDACTED_PREFIX) else Event
    return kind(
        source=row.source,
        event=row.event,
        action=row.action,
        delivery_id=chosen_id(row.delivery_id, row.event, row.action, row.digest),
        headers=Headers(orjson.loads(row.headers).items()),
        query=orjson.loads(row.query),
        payload=orjson.loads(body) if body else None,
        received_at=row.received_at,
        body=body,
    )


#: Bodies of so many bytes are stored as they are: there is little to win.
COMPRESS_FROM = 1024
#: With what zlib begins (RFC 1950 2.2, a window of 32 KiB), and no JSON does.
_ZLIB_PREFIX = b"\x78"
#: What stands before a body where a field of the event was redacted; neither JSON nor zlib begins so.
_REDACTED_PREFIX = b"\x00"


def compressed(body: bytes) -> bytes:
    """A body as it is stored: compressed, where that makes it shorter."""
    if len(body) <= COMPRESS_FROM:
        return body
    compressed = zlib.compress(body, level=1)
    return compressed if len(compressed) < len(body) else body


def decompressed(stored: bytes) -> bytes:
    stored = stored.removeprefix(_REDACTED_PREFIX)
    return zlib.decompress(stored) if stored.startswith(_ZLIB_PREFIX) else stored


def summary_of(row: Row[Any]) -> EventSummary:
    return EventSummary(
        id=row.id,
        source=row.source,
        event=row.event,
        action=row.action,
        delivery_id=row.delivery_id,
        received_at=row.received_at,
        warnings=(*orjson.loads(row.notes or b"[]"), *orjson.loads(row.warnings)),
        jobs=row.jobs,
    )


def job_row(event_id: int, job: NewJob, now: float, replay: int = 0) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "route": job.route,
        "task_id": job.task_id,
        "task": job.task,
        "item_key": job.item_key,
        "item_index": job.item_index,
        "replay": replay,
        "created_at": now,
        "attempt_count": 0,
        **initial_values(job, now),
    }


def initial_values(job: NewJob, now: float) -> dict[str, Any]:
    """What a job has when it is made, and again when it is asked for anew; before its group is asked."""
    dead = job.arguments is None
    return {
        "state": JobState.DEAD if dead else JobState.WAITING,
        "arguments": None if job.arguments is None else orjson.dumps(job.arguments),
        "reason": without_nul(job.reason),
        "due_at": now,
        "retry_window_start": now,
        "window_attempts": 0,
        "window_unknowns": 0,
        "group_name": job.group,
        "position": None,
        "latest": job.latest,
        "blocked": False,
        "once_key": job.once_key,
        "ended_at": now if dead else None,
        "alerted": False,
        "table_hash": None if job.table is None else job.table.hash,
        "table_commit": None if job.table is None else job.table.commit,
    }


def job_of(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        event_id=row.event_id,
        route=row.route,
        task_id=row.task_id,
        task=row.task,
        item_key=row.item_key,
        item_index=row.item_index,
        state=JobState(row.state),
        arguments=None if row.arguments is None else tuple(orjson.loads(row.arguments)),
        reason=row.reason,
        created_at=row.created_at,
        due_at=row.due_at,
        retry_window_start=row.retry_window_start,
        window_attempts=row.window_attempts,
        window_unknowns=row.window_unknowns,
        theeye_job_id=row.theeye_job_id,
        claim_token=row.claim_token,
        lease_until=row.lease_until,
        group=row.group_name,
        position=row.position,
        blocked=row.blocked,
        once_key=row.once_key,
        ended_at=row.ended_at,
        table=None if row.table_hash is None else TableVersion(row.table_hash, row.table_commit),
    )


def attempt_of(row: Row[Any]) -> Attempt:
    return Attempt(
        id=row.id,
        job_id=row.job_id,
        number=row.number,
        started_at=row.started_at,
        seconds=row.seconds,
        outcome=None if row.outcome is None else Outcome(row.outcome),
        status=row.status,
        detail=row.detail,
        theeye_job_id=row.theeye_job_id,
    )


def without_nul(text: str | None) -> str | None:
    """Text without NUL, which not every database takes."""
    return None if text is None else text.replace("\x00", "\\u0000")
