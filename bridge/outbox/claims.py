"""Claiming jobs, starting attempts and recording their results: units of work."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace

import orjson
from sqlalchemy import Connection, Update, and_, bindparam, exists, insert, or_, select, update

from bridge.core.attempt_result import AttemptResult
from bridge.core.job import Attempt, Job, JobState, Outcome
from bridge.core.retry import Decision
from bridge.core.task import Rate
from bridge.outbox import groups, rates
from bridge.outbox.locks import lock, lock_all
from bridge.outbox.pauses import Pausable, paused
from bridge.outbox.row_mapping import job_of, without_nul
from bridge.outbox.schema import IS_READY, attempts, jobs
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


_DUE = (
    select(jobs)
    .where(
        IS_READY,
        jobs.c.due_at <= bindparam("now"),
        jobs.c.task_id.not_in(bindparam("full", expanding=True)),
        jobs.c.route.not_in(bindparam("paused", expanding=True)),
    )
    .order_by(jobs.c.due_at, jobs.c.id)
    .limit(bindparam("free"))
    # A transaction that supersedes or cancels one of these jobs may wait for another of them.
    .with_for_update(skip_locked=True)
)
_CLAIMED = (
    jobs.c.id == bindparam("job"),
    jobs.c.claim_token == bindparam("token"),
    jobs.c.state == JobState.SENDING,
)
_CLAIM = (
    update(jobs)
    .where(jobs.c.id.in_(bindparam("jobs", expanding=True)), jobs.c.state == JobState.WAITING)
    .values(state=JobState.SENDING, claim_token=bindparam("token"), lease_until=bindparam("lease"))
    .returning(jobs.c.id)
)
_START = (
    update(jobs)
    .where(*_CLAIMED)
    .values(attempt_count=jobs.c.attempt_count + 1)
    .returning(jobs.c.attempt_count)
)
_INSERT_ATTEMPT = insert(attempts).returning(attempts.c.id)
_COMPLETE = update(attempts).where(attempts.c.id == bindparam("attempt"), attempts.c.outcome.is_(None))
_RECORD = update(jobs).where(*_CLAIMED).values(claim_token=None, lease_until=None)
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
_END_UNSTARTED = _RECORD.where(_UNSTARTED)
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
    lock(connection, "claim")
    pauses = paused(connection)
    never = {*excluded_tasks, *(each.name for each in pauses if each.kind is Pausable.TASK)}
    routes = [each.name for each in pauses if each.kind is Pausable.ROUTE]
    left = {task: per_task - count for task, count in busy.items()}
    limits = _Limits(connection, rates_of, now, per_task, left)
    claimed: list[Job] = []
    until = rates.store_time(connection, now) + lease
    while len(claimed) < free:
        wanted = free - len(claimed)
        due = {"now": now, "full": sorted(limits.exhausted | never), "paused": routes, "free": wanted}
        rows = connection.execute(_DUE, due).all()
        some = [
            replace(job_of(row), state=JobState.SENDING, claim_token=token, lease_until=until)
            for row in rows
            if limits.take(row.task_id)
        ]
        values = {"jobs": [job.id for job in some], "token": token, "lease": until}
        # A person may have canceled one meanwhile.
        updated = set(connection.execute(_CLAIM, values).scalars()) if some else set()
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
        lock(connection, "rate", job.task_id)
        process_time, at = at, rates.store_time(connection, at)
        if (next_at := rates.next_start_at(connection, job.task_id, rate, at)) is not None:
            end_unstarted(connection, job, token, JobState.WAITING, at, due_at=next_at + process_time - at)
            return None
    number = connection.execute(_START, {"job": job.id, "token": token}).scalar_one_or_none()
    if number is None:
        return None
    row = {"job_id": job.id, "number": number, "started_at": at, "task_id": job.task_id}
    attempt_id: int = connection.execute(_INSERT_ATTEMPT, row).scalar_one()
    return attempt_id


def record(
    connection: Connection,
    job: Job,
    token: str,
    attempt_id: int,
    result: AttemptResult,
    decision: Decision,
    now: float,
) -> bool:
    """Complete an attempt and update its job; return whether the result decided the job's state.

    If the claim has ended, another process has recorded the attempt as unknown. The late result still
    decides, except if it is unknown too, another attempt has started, the job has ended, or a person decided
    otherwise.
    """
    _lock_group(connection, job)
    texts = {"detail": without_nul(result.detail), "theeye_job_id": without_nul(result.theeye_job_id)}
    completed = {**asdict(result), **texts}
    connection.execute(_COMPLETE, {"attempt": attempt_id, **completed})
    unknowns = job.window_unknowns + (result.outcome is Outcome.UNKNOWN)
    values: dict[str, object] = {
        "window_attempts": job.window_attempts + 1,
        "window_unknowns": unknowns,
        "reason": without_nul(decision.reason),
    }
    if decision.due_at is not None:
        values["due_at"] = decision.due_at
    if result.theeye_job_id is not None:
        values["theeye_job_id"] = completed["theeye_job_id"]
    job = replace(job, window_unknowns=unknowns)
    if _move(connection, _RECORD, job, {"job": job.id, "token": token}, decision.state, values, now):
        return True
    if result.outcome is Outcome.UNKNOWN:
        return False
    values |= {
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
    condition = {"job": job.id, "attempt": attempt_id}
    return _move(connection, _RECORD_LATE.where(*same), job, condition, decision.state, values, now)


def end_unstarted(
    connection: Connection, job: Job, token: str, state: JobState, now: float,
    due_at: float | None = None, reason: str | None = None,
) -> None:  # fmt: skip
    """End the claim of a job that was not started: it waits again, due as before or at `due_at`, or ends."""
    values: dict[str, object] = {} if due_at is None else {"due_at": due_at}
    if reason is not None:
        values["reason"] = without_nul(reason)
    _lock_group(connection, job)
    connection.execute(_LOCK_JOB, {"job": job.id})
    _move(connection, _END_UNSTARTED, job, {"job": job.id, "token": token}, state, values, now)


def _move(
    connection: Connection,
    statement: Update,
    job: Job,
    condition: Mapping[str, object],
    state: JobState,
    values: dict[str, object],
    now: float,
) -> bool:
    """Update a job to a state and unblock the next of its group; return whether `statement` found the job.

    `condition` holds the parameters of the statement's conditions.
    """
    waits_in_group = state is JobState.WAITING and job.group is not None
    by = groups.superseding_job(connection, job) if waits_in_group else None
    if by is not None:
        maybe = groups.MAYBE_SENT if job.window_unknowns else ""
        state, values = JobState.SKIPPED, {**values, "reason": f"{groups.superseded_reason(by)}{maybe}"}
    ended = {} if state is JobState.WAITING else {"ended_at": now}
    parameters = {**condition, **values, **ended, "state": state}
    is_found = connection.execute(statement, parameters).rowcount == 1
    if is_found and job.group is not None and state not in groups.BLOCKING:
        groups.unblock_head(connection, job.task_id, job.group, now)
    return is_found


def _lock_group(connection: Connection, job: Job) -> None:
    if job.group is not None:
        lock_all(connection, [groups.lock_name(job.task_id, job.group)])


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
