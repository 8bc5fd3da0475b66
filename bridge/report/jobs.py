"""Jobs with their attempts, and pauses, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from bridge.core.event import JSON, rfc3339
from bridge.core.exact_json import dumps
from bridge.core.job import Attempt, Job
from bridge.outbox.pauses import Pausable, Pause
from bridge.report.lines import one_line

#: The heading of a list; a time has 20 characters.
JOB_HEADING = f"{'ID':>6}  {'STATE':<8}  {'CREATED':<20}  ROUTE -> TASK"


def job_line(job: Job) -> str:
    """One line of a list of jobs."""
    reason = f"  {one_line(job.reason)}" if job.reason else ""
    due = f"  due {rfc3339(job.due_at)[:19]}Z" if job.state == "waiting" and job.window_attempts else ""
    due = "  waits for another job of its group" if job.state == "waiting" and job.blocked else due
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
    yield f"job {job.id}: {job.state}" + (f", {one_line(job.reason)}" if job.reason else "")
    item = "" if job.item_index is None else f", item {job.item_index}"
    yield f"  made {rfc3339(job.created_at)} by route {job.route!r} from event {job.event_id}{item}"
    yield f"  task {job.task}" + (f" ({job.task_id})" if job.task != job.task_id else "")
    if job.table is not None:
        yield f"  built by table {job.table}"
    if job.arguments is None:
        yield "  arguments could not be built"
    else:
        yield f"  task_arguments {dumps(job.arguments).decode()}"
    if job.group is not None:
        behind = ", waits for an earlier job of the group" if job.blocked else ""
        yield f"  in group {one_line(job.group)!r}{behind}"
    if job.once_key:
        yield f"  once_key {one_line(job.once_key)!r}"
    if job.state == "waiting":
        yield f"  due {rfc3339(job.due_at)}"
    if job.ended_at is not None:
        yield f"  ended {rfc3339(job.ended_at)}"
    if job.theeye_job_id:
        yield f"  TheEye's job {job.theeye_job_id}"
    for attempt in attempts:
        end = "runs" if attempt.outcome is None else f"{attempt.outcome} after {attempt.seconds or 0:.3f} s"
        status = "" if attempt.status is None else f", status {attempt.status}"
        detail = f": {one_line(attempt.detail)}" if attempt.detail else ""
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


def pause_line(pause: Pause, tasks: Mapping[str, str]) -> str:
    """A paused task or route; `tasks` has the known names of tasks by id."""
    named = tasks.get(pause.name, pause.name) if pause.kind is Pausable.TASK else pause.name
    shown = one_line(named) if named == pause.name else f"{one_line(named)} ({pause.name})"
    since = f"{rfc3339(pause.since)[:19]}Z"
    return f"{pause.kind} {shown} has been paused since {since}: its jobs wait for `resume`"
