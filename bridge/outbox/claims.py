"""Claiming jobs, which starts their attempts, and correcting claims: units of work."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Update,
    and_,
    bindparam,
    func,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from bridge.core.job import Attempt, Job, JobState
from bridge.core.task import Rate
from bridge.outbox import rates
from bridge.outbox.locks import lock
from bridge.outbox.pauses import Pausable, paused
from bridge.outbox.row_mapping import job_of
from bridge.outbox.schema import IS_READY, attempts, jobs
from bridge.outbox.statement import ForRows, Given, Statement, insert_rows, not_listed, texts
from bridge.process.clock import JUMP_THRESHOLD


@dataclass(frozen=True)
class Claim:
    """Jobs that one process may send."""

    #: Needed to record these jobs.
    token: str
    jobs: tuple[Job, ...]
    #: The ids of the attempts that have started, by job id; a job that cannot be sent has none.
    attempts: Mapping[int, int]
    #: When the next job is due that its group does not block, seconds since the epoch; None if none waits, or
    #: as many jobs as asked for were claimed.
    next_due: float | None
    #: When a rate limit allows more starts, seconds since the epoch; None if no limit was reached.
    next_start_at: float | None = None


def _due(dialect: str, *conditions: ColumnElement[bool]) -> Select[Any]:
    return (
        select(jobs)
        .where(
            IS_READY,
            jobs.c.due_at <= bindparam("now"),
            not_listed(jobs.c.route, "paused", dialect),
            *conditions,
        )
        .order_by(jobs.c.due_at, jobs.c.id)
        .limit(bindparam("most"))
        # A transaction that supersedes or cancels one of these jobs may wait for another of them.
        .with_for_update(skip_locked=True)
    )


def _ready_tasks() -> Select[Any]:
    """Select the tasks of ready jobs: one look into the index for each, however many jobs it has."""
    first = select(func.min(jobs.c.task_id).label("task_id")).where(IS_READY).cte("tasks", recursive=True)
    is_later = jobs.c.task_id > first.c.task_id
    # And as a row: PostgreSQL ignores a state that the index implies, and would read the whole index.
    is_later &= tuple_(jobs.c.state, jobs.c.task_id) > tuple_(literal(JobState.WAITING), first.c.task_id)
    following = select(func.min(jobs.c.task_id)).where(IS_READY, is_later)
    tasks = first.union_all(select(following.scalar_subquery()).where(first.c.task_id.is_not(None)))
    return select(tasks.c.task_id).where(tasks.c.task_id.is_not(None))


def _claim(_: str, given: Given) -> Update:
    values = {
        "state": JobState.SENDING,
        "claim_token": given["token"],
        "lease_until": given["lease_until"],
        "attempt_count": jobs.c.attempt_count + given["attempts"],
    }
    waits = (jobs.c.id == given["job"], jobs.c.state == JobState.WAITING)
    return update(jobs).where(*waits).values(values).returning(jobs.c.id, jobs.c.attempt_count)


_DUE = Statement(_due)
_DUE_OF_TASK = Statement(lambda dialect: _due(dialect, jobs.c.task_id == bindparam("task")))
_READY_TASKS = Statement(_ready_tasks())
_NEXT_DUE = Statement(select(func.min(jobs.c.due_at).label("due_at")).where(IS_READY))
_CLAIM = ForRows(
    {
        "job": jobs.c.id,
        "token": jobs.c.claim_token,
        "lease_until": jobs.c.lease_until,
        "attempts": jobs.c.attempt_count,
    },
    _claim,
)
_INSERT_ATTEMPTS = insert_rows(
    attempts, ("job_id", "number", "started_at", "task_id"), attempts.c.id, attempts.c.job_id
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


@dataclass
class _Limits:
    """How many more jobs of each task one claim may take: free threads, and starts that its rate allows."""

    connection: Connection
    rates_of: Mapping[str, Rate]
    #: By the process's clock, and by the store's.
    now: float
    store_now: float
    per_task: int
    #: By task id, as far as known.
    left: dict[str, int]
    with_rate: set[str] = field(default_factory=set)

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
        starts = rates.free_starts(self.connection, task_id, self.rates_of[task_id], self.store_now)
        self.left[task_id] = min(self.left.get(task_id, self.per_task), starts)

    def next_start_at(self) -> float | None:
        """Return when a rate allows another start, by the process's clock; None if no rate is used up."""
        times = [
            rates.next_start_at(self.connection, task, self.rates_of[task], self.store_now)
            for task in self.with_rate & self.exhausted
        ]
        return min((at + self.now - self.store_now for at in times if at is not None), default=None)


def claim(
    connection: Connection,
    *,
    clock: Callable[[], float],
    free: int,
    busy: Mapping[str, int],
    per_task: int,
    excluded_tasks: Collection[str],
    rates_of: Mapping[str, Rate],
    lease: float,
    token: str,
    can_send: Callable[[Job], bool],
) -> Claim:
    """Claim up to `free` due jobs, the oldest first, at most `per_task` of one task including `busy` ones.

    Skips jobs of `excluded_tasks`, paused ones, and those whose task is at its rate limit. The jobs are
    `sending` until the lease ends, `lease` seconds from now by the store's clock. An attempt of each job
    that `can_send` accepts starts.
    """
    # Two claims at once would each respect a limit that both together exceed.
    lock(connection, ("claim",))
    # Not earlier: while this claim waited, others may have started attempts, which would lie in its future.
    now = clock()
    pauses = paused(connection)
    never = {*excluded_tasks, *(each.name for each in pauses if each.kind is Pausable.TASK)}
    routes = texts(connection, (each.name for each in pauses if each.kind is Pausable.ROUTE))
    left = {task: per_task - count for task, count in busy.items()}
    store_now = rates.store_time(connection, now)
    limits = _Limits(connection, rates_of, now, store_now, per_task, left)
    claimed: list[Job] = []
    attempt_ids: dict[int, int] = {}
    while len(claimed) < free:
        wanted = free - len(claimed)
        rows = _due_rows(connection, limits, never, {"now": now, "paused": routes, "most": wanted})
        some = [
            replace(job_of(row), state=JobState.SENDING, claim_token=token, lease_until=store_now + lease)
            for row in rows
            if limits.take(row.task_id)
        ]
        # Not earlier: the end of an attempt may have unblocked one of these jobs since.
        started_at = rates.store_time(connection, clock())
        taken, started = _take(connection, some, can_send, started_at)
        claimed += taken
        attempt_ids |= started
        if len(rows) < wanted:
            break
    due_at = next_due(connection) if len(claimed) < free else None
    return Claim(token, tuple(claimed), attempt_ids, due_at, limits.next_start_at())


def _take(
    connection: Connection, due: Sequence[Job], can_send: Callable[[Job], bool], now: float
) -> tuple[list[Job], dict[int, int]]:
    """Claim these jobs and start their attempts; return the jobs, and the attempts' ids by job id."""
    sendable = {job.id for job in due if can_send(job)}
    values = [
        {
            "job": job.id,
            "token": job.claim_token,
            "lease_until": job.lease_until,
            "attempts": int(job.id in sendable),
        }
        for job in due
    ]
    numbers = {row.id: row.attempt_count for row in _CLAIM.rows_for(connection, values)}
    # All of them, since their rows are locked. The state is checked all the same: no POST can be undone.
    claimed = [job for job in due if job.id in numbers]
    started = [
        {"job_id": job.id, "number": numbers[job.id], "started_at": now, "task_id": job.task_id}
        for job in claimed
        if job.id in sendable
    ]
    return claimed, {row.job_id: row.id for row in _INSERT_ATTEMPTS.rows_for(connection, started)}


def next_due(connection: Connection) -> float | None:
    """Return when the next job that its group does not block is due."""
    due_at: float | None = _NEXT_DUE.first(connection, {}).due_at
    return due_at


def _due_rows(
    connection: Connection, limits: _Limits, never: Collection[str], due: Mapping[str, Any]
) -> list[Any]:
    """Return due jobs of tasks that are neither in `never` nor at their limit, the oldest first."""
    skipped = limits.exhausted.union(never)
    if not skipped:
        return _DUE.rows(connection, due)
    # A full task may have a backlog of any length, which is older than the jobs of other tasks.
    tasks = [row.task_id for row in _READY_TASKS.rows(connection, {}) if row.task_id not in skipped]
    rows: list[Any] = []
    for task in tasks:
        most = min(due["most"], limits.left.get(task, limits.per_task))
        rows += _DUE_OF_TASK.rows(connection, {**due, "task": task, "most": most})
    return sorted(rows, key=attrgetter("due_at", "id"))[: due["most"]]


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
