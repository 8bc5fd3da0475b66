"""Events and refused requests, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from bridge.core.event import JSON, Event, full_name, rfc3339
from bridge.core.exact_json import dumps
from bridge.core.job import Job
from bridge.outbox.refused_requests import RefusedRequest
from bridge.outbox.row_mapping import EventSummary
from bridge.process.log import escaped
from bridge.report.jobs import job_json, job_line
from bridge.report.lines import one_line

#: The headings of lists; a time has 20 characters.
EVENT_HEADING = f"{'ID':>6}  {'RECEIVED':<20}  SOURCE EVENT  JOBS  DELIVERY"
REFUSED_HEADING = f"{'RECEIVED':<20}  REQUEST  STATUS REASON"

#: What to do about a refused request, by its status.
_ADVICE = {
    200: "Not stored: its body or delivery id was seen before. See the source's `replays` and `delivery_id`.",
    400: "At the sender, correct the body or its content type, and send the webhook again.",
    401: "Compare the secret and its header with the sender's settings. If a time is wrong, set the clock.",
    404: "Correct the URL at the sender, or add the source to the table.",
    405: "At the sender, set the method POST and the URL /hooks/<source>. A browser that opens it sends GET.",
    408: "Look for a slow connection between the sender and the bridge; the sender may send again.",
    413: "Send less, or raise BRIDGE_MAX_BODY.",
    415: "Set the expected content type at the sender, and send the webhook again.",
}


def event_line(event: EventSummary) -> str:
    """One line of a list of events."""
    name = full_name(event.event, event.action)
    jobs = f"{event.jobs} job{'' if event.jobs == 1 else 's'}"
    warnings = "".join(f"\n        warning: {one_line(warning)}" for warning in event.warnings)
    time = f"{rfc3339(event.received_at)[:19]}Z"
    return f"{event.id:>6}  {time}  {event.source} {name}  {jobs}  {event.delivery_id}{warnings}"


def event_json(event: EventSummary) -> JSON:
    return {
        "id": event.id,
        "source": event.source,
        "event": event.event or None,
        "action": event.action,
        "delivery_id": event.delivery_id,
        "received_at": rfc3339(event.received_at),
        "job_count": event.jobs,
        "warnings": list(event.warnings),
    }


def event_lines(summary: EventSummary, event: Event, jobs: Iterable[Job]) -> Iterator[str]:
    """An event with its jobs and its payload."""
    yield f"event {summary.id}: {one_line(event.full_name)} of source {event.source}"
    yield f"  received {rfc3339(event.received_at)}"
    if not event.body:
        yield "  its body is not stored"
    yield f"  delivery {one_line(summary.delivery_id)}"
    for what, values in (("header", event.headers), ("query", event.query)):
        for name, value in values.items():
            yield f"  {what} {one_line(name)}: {one_line(value)}"
    for warning in summary.warnings:
        yield f"  warning: {one_line(warning)}"
    if not summary.jobs:
        yield "  no jobs"
    for job in jobs:
        yield job_line(job)
    if not event.body:
        return
    yield "payload"
    payload = dumps(event.payload, option=orjson.OPT_INDENT_2).decode()
    yield from map(escaped, payload.split("\n"))


def whole_event_json(summary: EventSummary, event: Event, jobs: Iterable[Job]) -> JSON:
    return {
        **event_json(summary),
        "headers": dict(event.headers),
        "query": dict(event.query),
        "jobs": [job_json(job) for job in jobs],
        "payload": event.payload,
        "body_stored": bool(event.body),
    }


def refused_line(refused: RefusedRequest) -> str:
    """One line of a list of refused requests."""
    event = "" if refused.event is None else f" {one_line(refused.event)}"
    size = "" if refused.size is None else f", {refused.size:,} bytes"
    client = "" if refused.client is None else f" from {one_line(refused.client)}"
    what = f"{refused.source or 'unknown source'}{event}{size}{client}"
    return f"{rfc3339(refused.at)[:19]}Z  {what}  {refused.status} {one_line(refused.reason)}"


def advice_lines(refused: Iterable[RefusedRequest]) -> Iterator[str]:
    """Say what to do about refused requests, a line for each status."""
    statuses = {each.status for each in refused}
    yield from (f"{status}: {advice}" for status, advice in _ADVICE.items() if status in statuses)


def advice_for(status: int) -> str:
    """Return what to do about a request that was refused with this status."""
    return _ADVICE.get(status, "")


def refused_json(refused: RefusedRequest) -> JSON:
    return {
        "received_at": rfc3339(refused.at),
        "source": refused.source or None,
        "event": refused.event,
        "size": refused.size,
        "client": refused.client,
        "status": refused.status,
        "reason": refused.reason,
    }
