"""Recording the results of attempts: batches of units of work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import compress
from typing import Any

from sqlalchemy import (
    ClauseElement,
    Connection,
    Update,
    bindparam,
    exists,
    func,
    select,
    update,
)

from bridge.core.attempt_result import AttemptResult
from bridge.core.exact_json import dumps
from bridge.core.job import Job, JobState, Outcome
from bridge.core.metrics import ACCEPTANCE_SECONDS, ATTEMPT_SECONDS, ATTEMPTS
from bridge.core.retry import Decision
from bridge.outbox import counters, groups
from bridge.outbox.locks import lock_all
from bridge.outbox.row_mapping import without_nul
from bridge.outbox.schema import attempts, jobs
from bridge.outbox.statement import ForRows, Given

#: Added to the reason of a job that a late answer decided.
LATE_ANSWER = "TheEye's answer came after the claim had ended"


@dataclass(frozen=True)
class Ended:
    """The end of an attempt, and what it decides."""

    job: Job
    token: str
    attempt_id: int
    result: AttemptResult
    decision: Decision
    #: Seconds since the epoch.
    now: float


def _is_claimed(given: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        jobs.c.id == given["job"],
        jobs.c.claim_token == given["token"],
        jobs.c.state == JobState.SENDING,
    )


def _complete(_: str, given: Given) -> Update:
    is_open = (attempts.c.id == given["attempt"], attempts.c.outcome.is_(None))
    result = {name: given[name] for name in _RESULT}
    return update(attempts).where(*is_open).values(result).returning(attempts.c.id)


def _record(_: str, given: Given) -> Update:
    values: dict[str, ClauseElement | None] = {name: given[name] for name in _RECORDED}
    kept = {name: func.coalesce(given[name], jobs.c[name]) for name in ("due_at", "theeye_job_id")}
    values |= {**kept, "claim_token": None, "lease_until": None}
    recorded = update(jobs).where(*_is_claimed(given)).values(values)
    return recorded.returning(given["attempt"].label("attempt"))


_CLAIM_KEY = {"job": jobs.c.id, "token": jobs.c.claim_token}
_RESULT = ("seconds", "outcome", "status", "detail", "theeye_job_id")
_RECORDED = ("state", "reason", "window_attempts", "window_unknowns", "due_at", "theeye_job_id", "ended_at")
_COMPLETE = ForRows({"attempt": attempts.c.id, **{name: attempts.c[name] for name in _RESULT}}, _complete)
_RECORD = ForRows(
    {**_CLAIM_KEY, "attempt": attempts.c.id, **{name: jobs.c[name] for name in _RECORDED}}, _record
)
# For an answer that arrives after the claim has ended, before another attempt starts.
_RECORD_LATE = (
    update(jobs)
    .where(
        jobs.c.id == bindparam("job"),
        jobs.c.state.in_((JobState.WAITING, JobState.SENDING, JobState.UNKNOWN)),
        jobs.c.attempt_count
        == select(attempts.c.number).where(attempts.c.id == bindparam("attempt")).scalar_subquery(),
    )
    .values(claim_token=None, lease_until=None)
)
# A process of release 0.1 starts the attempt after its claim.
_UNSTARTED = ~exists().where(attempts.c.job_id == jobs.c.id, attempts.c.outcome.is_(None))
_END_UNSTARTED = (
    update(jobs)
    .where(*_is_claimed({"job": bindparam("job"), "token": bindparam("token")}), _UNSTARTED)
    .values(claim_token=None, lease_until=None)
)
# Executed first: a statement that waits for the lock itself would not see an attempt that started meanwhile.
_LOCK_JOB = select(jobs.c.id).where(jobs.c.id == bindparam("job")).with_for_update()


def record(connection: Connection, ends: Sequence[Ended]) -> list[bool]:
    """Complete attempts and update their jobs; return for each whether its result decided the job's state.

    If the claim has ended, another process has recorded the attempt as unknown. The late result still
    decides, except if it is unknown too, another attempt has started, the job has ended, or a person decided
    otherwise.
    """
    # An answer may come just when its attempt is recorded as unknown, at the deadline of a stop: it decides.
    answered = {end.attempt_id for end in ends if end.result.outcome is not Outcome.UNKNOWN}
    counts = [end.result.outcome is not Outcome.UNKNOWN or end.attempt_id not in answered for end in ends]
    decided = iter(_record_all(connection, list(compress(ends, counts))))
    return [is_counted and next(decided) for is_counted in counts]


def _record_all(connection: Connection, ends: Sequence[Ended]) -> list[bool]:
    _lock_groups(connection, [end.job for end in ends])
    values = [_recorded(end) for end in ends]
    completed = [
        {
            "attempt": end.attempt_id,
            **asdict(end.result),
            "detail": without_nul(end.result.detail),
            "theeye_job_id": row["theeye_job_id"],
        }
        for end, row in zip(ends, values, strict=True)
    ]
    # By attempt: the same result may be recorded twice, by its thread and when the bridge stops.
    by_attempt = {end.attempt_id: end for end in ends}
    for completed_row in _COMPLETE.rows_for(connection, completed):
        job, result = by_attempt[completed_row.id].job, by_attempt[completed_row.id].result
        counters.count(connection, ATTEMPTS, job.task, result.outcome)
        counters.observe(connection, ATTEMPT_SECONDS, result.seconds, job.task)
    rows = [
        {
            "job": end.job.id,
            "token": end.token,
            "attempt": end.attempt_id,
            **_moved(connection, end.job, end.decision.state, row, end.now),
        }
        for end, row in zip(ends, values, strict=True)
    ]
    found = {row.attempt for row in _RECORD.rows_for(connection, rows)}
    states = {row["attempt"]: row["state"] for row in rows}
    for attempt_id in sorted(found):
        end = by_attempt[attempt_id]
        _finish_move(connection, end.job, states[attempt_id], end.now)
    return [
        end.attempt_id in found or _record_late(connection, end, row)
        for end, row in zip(ends, values, strict=True)
    ]


def _recorded(end: Ended) -> dict[str, Any]:
    """Return the values of the job that do not depend on its group."""
    return {
        "window_attempts": end.job.window_attempts + 1,
        "window_unknowns": end.job.window_unknowns + (end.result.outcome is Outcome.UNKNOWN),
        "reason": without_nul(end.decision.reason),
        # None leaves them as they are.
        "due_at": end.decision.due_at,
        "theeye_job_id": without_nul(end.result.theeye_job_id),
    }


def _record_late(connection: Connection, end: Ended, values: Mapping[str, Any]) -> bool:
    job, decision, result = end.job, end.decision, end.result
    if result.outcome is Outcome.UNKNOWN:
        return False
    values = {name: value for name, value in values.items() if value is not None} | {
        "ended_at": None,
        "reason": without_nul("; ".join(filter(None, (decision.reason, LATE_ANSWER)))),
    }
    # If a person has retried the job since, their decision counts, unless TheEye accepted this very job.
    same = [jobs.c.retry_window_start == job.retry_window_start]
    if result.outcome is Outcome.ACCEPTED:
        same = [
            jobs.c.task_id == job.task_id,
            jobs.c.arguments == dumps(job.arguments),
            jobs.c.group_name.is_not_distinct_from(job.group),
        ]
    condition = {"job": job.id, "attempt": end.attempt_id}
    statement = _RECORD_LATE.where(*same)
    return _move(connection, statement, job, condition, decision.state, values, end.now)


def end_unstarted(
    connection: Connection, job: Job, token: str, state: JobState, now: float,
    due_at: float | None = None, reason: str | None = None,
) -> None:  # fmt: skip
    """End the claim of a job that was not started: it waits again, due as before or at `due_at`, or ends."""
    values: dict[str, object] = {} if due_at is None else {"due_at": due_at}
    if reason is not None:
        values["reason"] = without_nul(reason)
    _lock_groups(connection, [job])
    connection.execute(_LOCK_JOB, {"job": job.id})
    _move(connection, _END_UNSTARTED, job, {"job": job.id, "token": token}, state, values, now)


def _move(
    connection: Connection,
    statement: Update,
    job: Job,
    condition: Mapping[str, object],
    state: JobState,
    values: Mapping[str, object],
    now: float,
) -> bool:
    """Update a job to a state and unblock the next of its group; return whether `statement` found the job.

    `condition` holds the parameters of the statement's conditions.
    """
    moved = _moved(connection, job, state, values, now)
    is_found = connection.execute(statement, {**condition, **moved}).rowcount == 1
    if is_found:
        _finish_move(connection, job, moved["state"], now)
    return is_found


def _moved(
    connection: Connection, job: Job, state: JobState, values: Mapping[str, Any], now: float
) -> dict[str, Any]:
    """Return the values of a job that is to be in this state, or skipped if a later one supersedes it."""
    by = None
    if state is JobState.WAITING and job.group is not None:
        by = groups.superseding_job(connection, job)
    if by is None:
        return {**values, "state": state, "ended_at": None if state is JobState.WAITING else now}
    maybe = groups.MAYBE_SENT if values.get("window_unknowns", job.window_unknowns) else ""
    reason = f"{groups.superseded_reason(by)}{maybe}"
    return {**values, "state": JobState.SKIPPED, "reason": reason, "ended_at": now}


def _finish_move(connection: Connection, job: Job, state: JobState, now: float) -> None:
    """Count the end of a job that is now in this state, and unblock the next one of its group."""
    counters.count_end(connection, job.route, job.task, state)
    if state is JobState.ACCEPTED:
        counters.observe(connection, ACCEPTANCE_SECONDS, max(0.0, now - job.created_at), job.task)
    if job.group is not None and state not in groups.BLOCKING:
        groups.unblock_head(connection, job.task_id, job.group, now)


def _lock_groups(connection: Connection, several: Sequence[Job]) -> None:
    names = {groups.lock_name(job.task_id, job.group) for job in several if job.group is not None}
    lock_all(connection, names)
