"""Claiming jobs, starting attempts and recording their results: units of work, the last two in batches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import orjson
from sqlalchemy import (
    ClauseElement,
    Connection,
    Select,
    Update,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    update,
)

from bridge.core.attempt_result import AttemptResult
from bridge.core.job import Attempt, Job, JobState, Outcome
from bridge.core.retry import Decision
from bridge.core.task import Rate
from bridge.outbox import groups, rates
from bridge.outbox.locks import lock, lock_all
from bridge.outbox.pauses import Pausable, paused
from bridge.outbox.row_mapping import job_of, without_nul
from bridge.outbox.schema import IS_READY, attempts, jobs
from bridge.outbox.statement import ForRows, Given, Statement, insert_rows, not_listed
from bridge.process.clock import JUMP_THRESHOLD

#: Added to the reason of a job that a late answer decided.
LATE_ANSWER = "TheEye's answer came after the claim had ended"


@dataclass(frozen=True)
class Claim:
    """Jobs that one process may send."""

    #: Needed to start and record these jobs.
    token: str
    jobs: tuple[Job, ...]
    #: When a rate limit allows more starts, seconds since the epoch; None if no limit was reached.
    next_start_at: float | None = None


@dataclass(frozen=True)
class Start:
    """The start of an attempt of a claimed job."""

    job: Job
    token: str
    #: Seconds since the epoch.
    at: float


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


def _due(dialect: str) -> Select[Any]:
    return (
        select(jobs)
        .where(
            IS_READY,
            jobs.c.due_at <= bindparam("now"),
            not_listed(jobs.c.task_id, "full", dialect),
            not_listed(jobs.c.route, "paused", dialect),
        )
        .order_by(jobs.c.due_at, jobs.c.id)
        .limit(bindparam("free"))
        # A transaction that supersedes or cancels one of these jobs may wait for another of them.
        .with_for_update(skip_locked=True)
    )


def _is_claimed(given: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        jobs.c.id == given["job"],
        jobs.c.claim_token == given["token"],
        jobs.c.state == JobState.SENDING,
    )


def _claim(_: str, given: Given) -> Update:
    values = {"state": JobState.SENDING, "claim_token": given["token"], "lease_until": given["lease_until"]}
    waits = (jobs.c.id == given["job"], jobs.c.state == JobState.WAITING)
    return update(jobs).where(*waits).values(values).returning(jobs.c.id)


def _start(_: str, given: Given) -> Update:
    counted = update(jobs).where(*_is_claimed(given)).values(attempt_count=jobs.c.attempt_count + 1)
    return counted.returning(jobs.c.id, given["token"].label("token"), jobs.c.attempt_count)


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
_DUE = Statement(_due)
_CLAIM = ForRows({**_CLAIM_KEY, "lease_until": jobs.c.lease_until}, _claim)
_START = ForRows(_CLAIM_KEY, _start)
_INSERT_ATTEMPTS = insert_rows(
    attempts, ("job_id", "number", "started_at", "task_id"), attempts.c.id, attempts.c.job_id
)
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
_MAKE_DUE = (
    update(jobs)
    .where(
        jobs.c.state == JobState.WAITING,
        jobs.c.due_at > bindparam("now"),
        or_(jobs.c.due_at > bindparam("farthest"), jobs.c.retry_window_start > bindparam("ahead")),
    )
    .values(due_at=bindparam("now"))
)
_SHORTEN_LEASES = (
    update(jobs)
    .where(jobs.c.state == JobState.SENDING, jobs.c.lease_until > bindparam("farthest"))
    .values(lease_until=bindparam("farthest"))
)
_RESTART_WINDOWS = (
    update(jobs)
    .where(jobs.c.state.in_((JobState.WAITING, JobState.SENDING)))
    .values(retry_window_start=bindparam("now"))
)
# An attempt may have started since the claim was read.
_UNSTARTED = ~exists().where(attempts.c.job_id == jobs.c.id, attempts.c.outcome.is_(None))
_END_UNSTARTED = (
    update(jobs)
    .where(*_is_claimed({"job": bindparam("job"), "token": bindparam("token")}), _UNSTARTED)
    .values(claim_token=None, lease_until=None)
)
# One statement: a second one might find the attempt of a newer claim.
_CLAIMED_JOBS = (
    select(
        jobs,
        attempts.c.id.label("open_id"),
        attempts.c.number.label("open_number"),
        attempts.c.started_at.label("open_since"),
    )
    .outerjoin(attempts, and_(attempts.c.job_id == jobs.c.id, attempts.c.outcome.is_(None)))
    .where(jobs.c.state == JobState.SENDING)
    .order_by(jobs.c.id)
)
# Executed first: a statement that waits for the lock itself would not see an attempt that started meanwhile.
_LOCK_JOB = select(jobs.c.id).where(jobs.c.id == bindparam("job")).with_for_update()


@dataclass
class _Limits:
    """How many more jobs of each task one claim may take: free threads, and starts that its rate allows."""

    connection: Connection
    rates_of: Mapping[str, Rate]
    now: float
    per_task: int
    #: By task id, as far as known.
    left: dict[str, int]
    with_rate: set[str] = field(default_factory=set)
    next_start_at: float | None = None

    @property
    def exhausted(self) -> set[str]:
        """Return the ids of the tasks at their limit."""
        return {task for task, left in self.left.items() if left <= 0}

    def take(self, task_id: str) -> bool:
        """Take one job; return whether the limit allows it."""
        if task_id in self.rates_of and task_id not in self.with_rate:
            self._apply_rate(task_id)
        left = self.left.get(task_id, self.per_task)
        self.left[task_id] = left - 1
        return left > 0

    def _apply_rate(self, task_id: str) -> None:
        self.with_rate.add(task_id)
        now = rates.store_time(self.connection, self.now)
        starts, at = rates.free_starts(self.connection, task_id, self.rates_of[task_id], now)
        self.left[task_id] = min(self.left.get(task_id, self.per_task), starts)
        if at is not None:
            # The dispatcher waits by the process's clock.
            at += self.now - now
            self.next_start_at = at if self.next_start_at is None else min(at, self.next_start_at)


def claim(
    connection: Connection,
    *,
    now: float,
    free: int,
    busy: Mapping[str, int],
    per_task: int,
    excluded_tasks: Collection[str],
    rates_of: Mapping[str, Rate],
    lease: float,
    token: str,
) -> Claim:
    """Claim up to `free` due jobs, the oldest first, at most `per_task` of one task including `busy` ones.

    Skips jobs of `excluded_tasks`, paused ones, and those whose task is at its rate limit. The jobs are
    `sending` until the lease ends, `lease` seconds from now by the store's clock.
    """
    # Two claims at once would each respect a limit that both together exceed.
    lock(connection, ("claim",))
    pauses = paused(connection)
    never = {*excluded_tasks, *(each.name for each in pauses if each.kind is Pausable.TASK)}
    routes = orjson.dumps([each.name for each in pauses if each.kind is Pausable.ROUTE]).decode()
    left = {task: per_task - count for task, count in busy.items()}
    limits = _Limits(connection, rates_of, now, per_task, left)
    claimed: list[Job] = []
    until = rates.store_time(connection, now) + lease
    while len(claimed) < free:
        wanted = free - len(claimed)
        full = orjson.dumps(sorted(limits.exhausted | never)).decode()
        due = {"now": now, "full": full, "paused": routes, "free": wanted}
        rows = _DUE.rows(connection, due)
        some = [
            replace(job_of(row), state=JobState.SENDING, claim_token=token, lease_until=until)
            for row in rows
            if limits.take(row.task_id)
        ]
        values = [{"job": job.id, "token": token, "lease_until": until} for job in some]
        # A person may have canceled one meanwhile.
        updated = {row.id for row in _CLAIM.rows_for(connection, values)}
        claimed += [job for job in some if job.id in updated]
        if len(rows) < wanted:
            break
    return Claim(token, tuple(claimed), limits.next_start_at)


def start(connection: Connection, job: Job, token: str, at: float, rate: Rate | None) -> int | None:
    """Record that an attempt starts; return its id, or None if the claim has ended.

    Also None if the rate limit allows no start at `at`: the job then waits until it does.
    """
    if rate is not None:
        # The claim respected the limit at its own time, and other attempts may have started since.
        lock(connection, ("rate", job.task_id))
        process_time, at = at, rates.store_time(connection, at)
        if (next_at := rates.next_start_at(connection, job.task_id, rate, at)) is not None:
            end_unstarted(connection, job, token, JobState.WAITING, at, due_at=next_at + process_time - at)
            return None
    return start_all(connection, [Start(job, token, at)])[0]


def start_all(connection: Connection, starts: Sequence[Start]) -> list[int | None]:
    """Record that attempts start; return the id of each, or None if its claim has ended."""
    keys = [{"job": start.job.id, "token": start.token} for start in starts]
    numbers = {(row.id, row.token): row.attempt_count for row in _START.rows_for(connection, keys)}
    rows = [
        {
            "job_id": start.job.id,
            "number": numbers[start.job.id, start.token],
            "started_at": start.at,
            "task_id": start.job.task_id,
        }
        for start in starts
        if (start.job.id, start.token) in numbers
    ]
    ids = {row.job_id: row.id for row in _INSERT_ATTEMPTS.rows_for(connection, rows)}
    return [ids[start.job.id] if (start.job.id, start.token) in numbers else None for start in starts]


def record(connection: Connection, ends: Sequence[Ended]) -> list[bool]:
    """Complete attempts and update their jobs; return for each whether its result decided the job's state.

    If the claim has ended, another process has recorded the attempt as unknown. The late result still
    decides, except if it is unknown too, another attempt has started, the job has ended, or a person decided
    otherwise.
    """
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
    _COMPLETE.rows_for(connection, completed)
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
    for end, row in zip(ends, rows, strict=True):
        if end.attempt_id in found:
            _unblock_next(connection, end.job, row["state"], end.now)
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
            jobs.c.arguments == orjson.dumps(job.arguments),
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
        _unblock_next(connection, job, moved["state"], now)
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


def _unblock_next(connection: Connection, job: Job, state: JobState, now: float) -> None:
    if job.group is not None and state not in groups.BLOCKING:
        groups.unblock_head(connection, job.task_id, job.group, now)


def _lock_groups(connection: Connection, several: Sequence[Job]) -> None:
    names = {groups.lock_name(job.task_id, job.group) for job in several if job.group is not None}
    lock_all(connection, names)


def correct_future_times(connection: Connection, now: float, longest: float, lease: float) -> int:
    """Make due what waits for longer than `longest` seconds, shorten leases to `lease`; return how many jobs.

    Only a clock that was ahead makes either longer. It also stored the jobs that were created later than now.
    """
    due = {"farthest": now + longest, "ahead": now + JUMP_THRESHOLD, "now": now}
    leases = {"farthest": rates.store_time(connection, now) + lease}
    made_due = connection.execute(_MAKE_DUE, due).rowcount
    return made_due + connection.execute(_SHORTEN_LEASES, leases).rowcount


def restart_retry_windows(connection: Connection, now: float) -> None:
    """Start the retry window of unfinished jobs now: after a correction of the clock their age is wrong."""
    connection.execute(_RESTART_WINDOWS, {"now": now})


def abandoned_claims(
    connection: Connection, now: float, *, everything: bool
) -> list[tuple[Job, Attempt | None]]:
    """Return the jobs whose lease has ended, or all claimed ones, each with its unfinished attempt."""
    ended = jobs.c.lease_until < rates.store_time(connection, now)
    claimed = _CLAIMED_JOBS if everything else _CLAIMED_JOBS.where(ended)
    return [
        (job, None if row.open_id is None else Attempt(row.open_id, job.id, row.open_number, row.open_since))
        for row in connection.execute(claimed)
        for job in [job_of(row)]
    ]
