"""Jobs, events, pauses, refused requests and the audit, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import orjson

from bridge.core.event import JSON, Event, full_name, rfc3339
from bridge.core.job import Attempt, Job
from bridge.core.problem import Problem
from bridge.core.units import format_duration
from bridge.http.client import HttpAnswer
from bridge.outbox.audit import AuditEntry
from bridge.outbox.pauses import Pausable, Pause
from bridge.outbox.refused_requests import RefusedRequest
from bridge.outbox.row_mapping import EventSummary
from bridge.process.log import escaped
from bridge.process.settings import Retention

#: The most job or event numbers in a line of the audit.
NUMBERS_LIMIT = 10

#: The headings of lists; times have 20 characters.
JOB_HEADING = f"{'ID':>6}  {'STATE':<8}  {'CREATED':<20}  ROUTE -> TASK"
EVENT_HEADING = f"{'ID':>6}  {'RECEIVED':<20}  SOURCE EVENT  JOBS  DELIVERY"
REFUSED_HEADING = f"{'RECEIVED':<20}  REQUEST  STATUS REASON"
AUDIT_HEADING = ("ID", "STARTED", "OPERATOR", "ACTION", "TARGET", "CHANGED")


def listed(heading: str, lines: Iterable[str], empty: str) -> list[str]:
    """Return the lines below their heading, or `empty` alone if there are none."""
    rows = list(lines)
    return [heading, *rows] if rows else [empty]


def job_line(job: Job) -> str:
    """One line of a list of jobs."""
    reason = f"  {_one_line(job.reason)}" if job.reason else ""
    due = f"  due {rfc3339(job.due_at)[:19]}Z" if job.state == "waiting" and job.window_attempts else ""
    due = "  behind another job of its group" if job.state == "waiting" and job.blocked else due
    made = f"{rfc3339(job.created_at)[:19]}Z"
    return f"{job.id:>6}  {job.state:<8}  {made}  {job.route} -> {job.task}{due}{reason}"


def job_json(job: Job) -> JSON:
    return {
        "id": job.id,
        "event": job.event_id,
        "route": job.route,
        "task": job.task,
        "task_id": job.task_id,
        "item": job.item_index,
        "state": job.state,
        "reason": job.reason,
        "task_arguments": None if job.arguments is None else list(job.arguments),
        "created_at": rfc3339(job.created_at),
        "due_at": rfc3339(job.due_at),
        "ended_at": None if job.ended_at is None else rfc3339(job.ended_at),
        "group": job.group,
        "blocked": job.blocked,
        "once_key": job.once_key,
        "theeye_job_id": job.theeye_job_id,
        "table_hash": None if job.table is None else job.table.hash,
        "table_commit": None if job.table is None else job.table.commit,
    }


def job_lines(job: Job, attempts: Iterable[Attempt]) -> Iterator[str]:
    """A job with its attempts."""
    yield f"job {job.id}: {job.state}" + (f", {_one_line(job.reason)}" if job.reason else "")
    item = "" if job.item_index is None else f", item {job.item_index}"
    yield f"  made {rfc3339(job.created_at)} by route {job.route!r} from event {job.event_id}{item}"
    yield f"  task {job.task}" + (f" ({job.task_id})" if job.task != job.task_id else "")
    if job.table is not None:
        yield f"  built by table {job.table}"
    if job.arguments is None:
        yield "  arguments could not be built"
    else:
        yield f"  task_arguments {orjson.dumps(job.arguments).decode()}"
    if job.group is not None:
        behind = ", behind a job that has to end first" if job.blocked else ""
        yield f"  in group {_one_line(job.group)!r}{behind}"
    if job.once_key:
        yield f"  once_key {_one_line(job.once_key)!r}"
    if job.state == "waiting":
        yield f"  due {rfc3339(job.due_at)}"
    if job.ended_at is not None:
        yield f"  ended {rfc3339(job.ended_at)}"
    if job.theeye_job_id:
        yield f"  TheEye's job {job.theeye_job_id}"
    for attempt in attempts:
        end = "runs" if attempt.outcome is None else f"{attempt.outcome} after {attempt.seconds or 0:.3f} s"
        status = "" if attempt.status is None else f", status {attempt.status}"
        detail = f": {_one_line(attempt.detail)}" if attempt.detail else ""
        yield f"  attempt {attempt.number} at {rfc3339(attempt.started_at)}: {end}{status}{detail}"


def attempt_json(attempt: Attempt) -> JSON:
    return {
        "number": attempt.number,
        "started_at": rfc3339(attempt.started_at),
        "duration_seconds": attempt.seconds,
        "outcome": attempt.outcome,
        "status": attempt.status,
        "detail": attempt.detail,
        "theeye_job_id": attempt.theeye_job_id,
    }


def event_line(event: EventSummary) -> str:
    """One line of a list of events."""
    name = full_name(event.event, event.action)
    jobs = f"{event.jobs} job{'' if event.jobs == 1 else 's'}"
    warnings = "".join(f"\n        warning: {_one_line(warning)}" for warning in event.warnings)
    time = f"{rfc3339(event.received_at)[:19]}Z"
    return f"{event.id:>6}  {time}  {event.source} {name}  {jobs}  {event.delivery_id}{warnings}"


def event_json(event: EventSummary) -> JSON:
    return {
        "id": event.id,
        "source": event.source,
        "event": event.event,
        "action": event.action,
        "delivery_id": event.delivery_id,
        "received_at": rfc3339(event.received_at),
        "job_count": event.jobs,
        "warnings": list(event.warnings),
    }


def event_lines(summary: EventSummary, event: Event, jobs: Iterable[Job]) -> Iterator[str]:
    """An event with its jobs and its payload."""
    yield f"event {summary.id}: {_one_line(event.full_name)} of source {event.source}"
    yield f"  received {rfc3339(event.received_at)}"
    if not event.body:
        yield "  its body is not stored"
    yield f"  delivery {_one_line(summary.delivery_id)}"
    for what, values in (("header", event.headers), ("query", event.query)):
        for name, value in values.items():
            yield f"  {what} {_one_line(name)}: {_one_line(value)}"
    for warning in summary.warnings:
        yield f"  warning: {_one_line(warning)}"
    if not summary.jobs:
        yield "  no jobs"
    for job in jobs:
        yield job_line(job)
    if not event.body:
        return
    yield "payload"
    payload = orjson.dumps(event.payload, option=orjson.OPT_INDENT_2).decode()
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


def pause_line(pause: Pause, tasks: Mapping[str, str]) -> str:
    """A paused task or route; `tasks` has the known names of tasks by id."""
    named = tasks.get(pause.name, pause.name) if pause.kind is Pausable.TASK else pause.name
    shown = _one_line(named) if named == pause.name else f"{_one_line(named)} ({pause.name})"
    since = f"{rfc3339(pause.since)[:19]}Z"
    return f"{pause.kind} {shown} is paused since {since}: its jobs wait for `resume`"


def retention_lines(retention: Retention) -> Iterator[str]:
    """What is deleted, and when."""
    yield "BRIDGE_RETENTION deletes"
    yield f"  after {format_duration(retention.events)}: events with jobs that have all ended, and those jobs"
    bodies = format_duration(retention.bodies)
    yield f"  after {bodies}: bodies, but of events with a dead job, which needs it"
    yield f"  after {format_duration(retention.unmatched)}: events that made no job"


def retention_json(retention: Retention) -> JSON:
    """In seconds."""
    return {"events": retention.events, "bodies": retention.bodies, "unmatched": retention.unmatched}


def answer_lines(url: str, answer: HttpAnswer) -> Iterator[str]:
    """The answer of `url`: its status, then its body."""
    yield f"{answer.status} from {url}"
    yield from map(_one_line, answer.body.decode("utf-8", "replace").splitlines())


def refused_line(refused: RefusedRequest) -> str:
    """One line of a list of refused requests."""
    event = "" if refused.event is None else f" {_one_line(refused.event)}"
    size = "" if refused.size is None else f", {refused.size:,} bytes"
    client = "" if refused.client is None else f" from {_one_line(refused.client)}"
    what = f"{refused.source}{event}{size}{client}"
    return f"{rfc3339(refused.at)[:19]}Z  {what}  {refused.status} {_one_line(refused.reason)}"


def refused_json(refused: RefusedRequest) -> JSON:
    return {
        "received_at": rfc3339(refused.at),
        "source": refused.source,
        "event": refused.event,
        "size": refused.size,
        "client": refused.client,
        "status": refused.status,
        "reason": refused.reason,
    }


def audit_lines(entries: Iterable[AuditEntry]) -> list[str]:
    """Return the audit as a table with its heading, or that there are no actions."""
    rows = [AUDIT_HEADING, *map(_audit_cells, entries)]
    if len(rows) == 1:
        return ["no actions"]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) for cell, width in zip((f"{row[0]:>6}", *row[1:]), widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _audit_cells(entry: AuditEntry) -> tuple[str, ...]:
    action = entry.action
    via = "" if action.account in (None, action.actor) else f" ({_one_line(action.account or '')})"
    who = f"{_one_line(action.actor)}{via}"
    target = ", ".join(f"{name.replace('_', ' ')} {_target(value)}" for name, value in action.target.items())
    changed = f"{entry.changed}" if action.selected is None else f"{entry.changed} of {action.selected}"
    end = "" if entry.ended_at is not None else ", not ended"
    return f"{entry.id}", f"{rfc3339(entry.at)[:19]}Z", who, action.name, target, f"{changed}{end}"


def _target(value: JSON) -> str:
    if not isinstance(value, list):
        return _one_line(str(value))
    more = f" and {len(value) - NUMBERS_LIMIT} more" if len(value) > NUMBERS_LIMIT else ""
    return " ".join(map(str, value[:NUMBERS_LIMIT])) + more


def audit_json(entry: AuditEntry) -> JSON:
    action = entry.action
    return {
        "id": entry.id,
        "started_at": rfc3339(entry.at),
        "operator": action.actor,
        "account": action.account,
        "action": action.name,
        "target": action.target,
        "selected": action.selected,
        "changed": entry.changed,
        "ended_at": None if entry.ended_at is None else rfc3339(entry.ended_at),
    }


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def problem_json(problem: Problem) -> JSON:
    """A problem of the routing table."""
    place = problem.place
    return {
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "severity": problem.severity,
        "message": problem.message,
        "hint": problem.hint,
    }


def annotation(problem: Problem) -> str:
    """The problem as an annotation of GitHub Actions, which shows it in the pull request."""
    place = problem.place
    text = problem.message if problem.hint is None else f"{problem.message}\nhint: {problem.hint}"
    file = _for_actions(place.file).replace(":", "%3A").replace(",", "%2C")
    where = f"file={file},line={place.line},col={place.column}"
    return f"::{problem.severity} {where}::{_for_actions(text)}"


def _for_actions(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
