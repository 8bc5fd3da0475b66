"""Taking jobs to send and recording what became of them: units of work."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import orjson
from sqlalchemy import Connection, Update, and_, bindparam, exists, insert, or_, select, update

from bridge.core.attempt_result import AttemptResult
from bridge.core.job import Attempt, Job, JobState, Outcome
from bridge.core.retry import Decision
from bridge.core.task import Rate
from bridge.outbox import groups, rates
from bridge.outbox.locks import lock, lock_all
from bridge.outbox.pauses import Pausable, paused
from bridge.outbox.row_mapping import job_of, storable
from bridge.outbox.schema import IS_READY, attempts, jobs
from bridge.process.clock import JUMP_THRESHOLD

#: The reason of a job that an answer has settled after its claim had ended.
LATE = "TheEye's answer came after the claim had ended"

Completion = AttemptResult


@dataclass(frozen=True)
class Claim:
    """Jobs that one process may send."""

    #: What a start and a record must show.
    token: str
    jobs: tuple[Job, ...]
    #: When a task's rate lets more start, seconds since the epoch; None where none holds any back.
    again_at: float | None = None


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
    # One that is being replaced or canceled at this moment is not waited for: whoever does so may wait
    # for another of these.
    .with_for_update(skip_locked=True)
)
_HELD = (jobs.c.id == bindparam("job"), jobs.c.claim == bindparam("token"), jobs.c.state == JobState.SENDING)
_CLAIM = (
    update(jobs)
    .where(jobs.c.id.in_(bindparam("jobs", expanding=True)), jobs.c.state == JobState.WAITING)
    .values(state=JobState.SENDING, claim=bindparam("token"), lease_until=bindparam("lease"))
    .returning(jobs.c.id)
)
_START = update(jobs).where(*_HELD).values(attempts=jobs.c.attempts + 1).returning(jobs.c.attempts)
_INSERT_ATTEMPT = insert(attempts).returning(attempts.c.id)
_COMPLETE = update(attempts).where(attempts.c.id == bindparam("attempt"), attempts.c.outcome.is_(None))
_RECORD = update(jobs).where(*_HELD).values(claim=None, lease_until=None)
# An answer that arrives after the claim has ended, while no other attempt has begun.
_SETTLE = (
    update(jobs)
    .where(
        jobs.c.id == bindparam("job"),
        jobs.c.state.in_((JobState.WAITING, JobState.SENDING, JobState.UNKNOWN)),
        jobs.c.attempts
        == select(attempts.c.number).where(attempts.c.id == bindparam("attempt")).scalar_subquery(),
    )
    .values(claim=None, lease_until=None)
)
_DUE_NOW = (
    update(jobs)
    .where(
        jobs.c.state == JobState.WAITING,
        jobs.c.due_at > bindparam("now"),
        or_(jobs.c.due_at > bindparam("farthest"), jobs.c.fresh_at > bindparam("ahead")),
    )
    .values(due_at=bindparam("now"))
)
_SHORTEN = (
    update(jobs)
    .where(jobs.c.state == JobState.SENDING, jobs.c.lease_until > bindparam("farthest"))
    .values(lease_until=bindparam("farthest"))
)
_RENEW = (
    update(jobs)
    .where(jobs.c.state.in_((JobState.WAITING, JobState.SENDING)))
    .values(fresh_at=bindparam("now"))
)
# A claim may have started since it was found to be left behind.
_UNSTARTED = ~exists().where(attempts.c.job_id == jobs.c.id, attempts.c.outcome.is_(None))
_LET_GO = _RECORD.where(_UNSTARTED)
# In one statement: in the next, the open attempt may be that of a claim made since.
_CLAIMED = (
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
# In a statement before: one that had to wait for a start would not see its attempt, newer than itself.
_WAIT_FOR = select(jobs.c.id).where(jobs.c.id == bindparam("job")).with_for_update()


class _Room:
    """How many more jobs of each task one claim may take; never more than its rate lets start now."""

    def __init__(
        self,
        connection: Connection,
        busy: Mapping[str, int],
        per_task: int,
        rates_of: Mapping[str, Rate],
        now: float,
    ) -> None:
        self._connection = connection
        self._rates_of = rates_of
        self._here = now
        self._per_task = per_task
        self._left = {task: per_task - count for task, count in busy.items()}
        self._asked: set[str] = set()
        self.again_at: float | None = None

    @property
    def full(self) -> set[str]:
        """The ids of tasks of which no more may be taken."""
        return {task for task, left in self._left.items() if left <= 0}

    def take(self, task_id: str) -> bool:
        """Take one, if there is room."""
        if task_id in self._rates_of and task_id not in self._asked:
            self._ask(task_id)
        left = self._left.get(task_id, self._per_task)
        self._left[task_id] = left - 1
        return left > 0

    def _ask(self, task_id: str) -> None:
        self._asked.add(task_id)
        now = rates.clock(self._connection, self._here)
        room, at = rates.room(self._connection, task_id, self._rates_of[task_id], now)
        self._left[task_id] = min(self._left.get(task_id, self._per_task), room)
        if at is not None:
            # In this process's time, by which it waits.
            at += self._here - now
            self.again_at = at if self.again_at is None else min(at, self.again_at)


def claim(
    connection: Connection,
    *,
    now: float,
    free: int,
    busy: Mapping[str, int],
    per_task: int,
    but: Collection[str],
    rates_of: Mapping[str, Rate],
    lease: float,
    token: str,
) -> Claim:
    """Up to `free` due jobs, oldest first, at most `per_task` of one task beside the `busy` ones.

    None of a task whose id is in `but`, none that is paused, and none whose task's rate is used up. They
    are `sending` until the lease ends, `lease` seconds from now by the store's clock: that of one process
    may be wrong. `token` is the claim's.
    """
    # Two that looked for due jobs at the same moment would each stay within a limit that both together break.
    lock(connection, "claim")
    pauses = paused(connection)
    never = {*but, *(each.name for each in pauses if each.kind is Pausable.TASK)}
    routes = [each.name for each in pauses if each.kind is Pausable.ROUTE]
    room_of = _Room(connection, busy, per_task, rates_of, now)
    taken: list[Job] = []
    until = rates.clock(connection, now) + lease
    while len(taken) < free:
        wanted = free - len(taken)
        due = {"now": now, "full": sorted(room_of.full | never), "paused": routes, "free": wanted}
        rows = connection.execute(_DUE, due).all()
        some = [
            replace(job_of(row), state=JobState.SENDING, claim=token, lease_until=until)
            for row in rows
            if room_of.take(row.task_id)
        ]
        claimed = {"jobs": [job.id for job in some], "token": token, "lease": until}
        # A person may have taken one back meanwhile.
        held = set(connection.execute(_CLAIM, claimed).scalars()) if some else set()
        taken += [job for job in some if job.id in held]
        if len(rows) < wanted:
            break
    return Claim(token, tuple(taken), room_of.again_at)


def start(connection: Connection, job: Job, token: str, at: float, rate: Rate | None) -> int | None:
    """Write that an attempt begins; its id, or None where the claim is no longer held.

    None also where the task's rate is used up: the job waits then until more may start.
    """
    if rate is not None:
        # Claims leave room for each other, but one that starts late finds another span than it was made in.
        lock(connection, "rate", job.task_id)
        here, at = at, rates.clock(connection, at)
        if (until := rates.full_until(connection, job.task_id, rate, at)) is not None:
            hand_back(connection, job, token, at, due_at=until + here - at, reason=job.reason)
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
    done: Completion,
    next_: Decision,
    now: float,
) -> bool:
    """Complete an attempt and move its job on.

    If the claim has ended, another process has recorded the attempt as unknown. A late answer then still
    settles the job, unless another attempt has begun, the job has come to another end, a person has decided
    otherwise, or the answer is unknown too: these return False.
    """
    _lock_group(connection, job)
    completed = {
        "seconds": done.seconds,
        "outcome": done.outcome,
        "status": done.status,
        "detail": storable(done.detail),
        "theeye_job_id": storable(done.theeye_job_id),
    }
    connection.execute(_COMPLETE, {"attempt": attempt_id, **completed})
    unknowns = job.unknowns + (done.outcome is Outcome.UNKNOWN)
    moved: dict[str, object] = {
        "tries": job.tries + 1,
        "unknowns": unknowns,
        "reason": storable(next_.reason),
    }
    if next_.due_at is not None:
        moved["due_at"] = next_.due_at
    if done.theeye_job_id is not None:
        moved["theeye_job_id"] = completed["theeye_job_id"]
    job = replace(job, unknowns=unknowns)
    if _move(connection, _RECORD, job, {"job": job.id, "token": token}, next_.state, {**moved}, now):
        return True
    if done.outcome is Outcome.UNKNOWN:
        return False
    moved |= {"ended_at": None, "reason": storable("; ".join(filter(None, (next_.reason, LATE))))}
    # A person may have asked for the job again since. That decision counts, unless TheEye has this very job.
    same = [jobs.c.fresh_at == job.fresh_at]
    if done.outcome is Outcome.ACCEPTED:
        same = [
            jobs.c.task_id == job.task_id,
            jobs.c.arguments == orjson.dumps(job.arguments),
            jobs.c.group_name.is_not_distinct_from(job.group),
        ]
    held = {"job": job.id, "attempt": attempt_id}
    return _move(connection, _SETTLE.where(*same), job, held, next_.state, moved, now)


def hand_back(
    connection: Connection, job: Job, token: str, now: float, due_at: float | None, reason: str | None
) -> None:
    """Set a claimed job that was not started waiting again, due as before or at `due_at`."""
    values: dict[str, object] = {} if due_at is None else {"due_at": due_at, "reason": storable(reason)}
    _let_go(connection, job, token, JobState.WAITING, values, now)


def end_unsent(
    connection: Connection, job: Job, token: str, state: JobState, reason: str, now: float
) -> None:
    """Let a claimed job that was not started come to its end."""
    _let_go(connection, job, token, state, {"reason": storable(reason)}, now)


def _let_go(
    connection: Connection, job: Job, token: str, state: JobState, values: dict[str, object], now: float
) -> None:
    _lock_group(connection, job)
    connection.execute(_WAIT_FOR, {"job": job.id})
    _move(connection, _LET_GO, job, {"job": job.id, "token": token}, state, values, now)


def _move(
    connection: Connection,
    statement: Update,
    job: Job,
    held: Mapping[str, object],
    state: JobState,
    values: dict[str, object],
    now: float,
) -> bool:
    """Bring a job to its next state and let the next of its group go; False where `statement` finds no job.

    `held` are the values of the statement's conditions.
    """
    by = groups.replaced_by(connection, job) if state is JobState.WAITING and job.group is not None else None
    if by is not None:
        maybe = groups.MAYBE_SENT if job.unknowns else ""
        state, values = JobState.SKIPPED, {**values, "reason": f"{groups.superseded(by)}{maybe}"}
    values["state"] = state
    if state is not JobState.WAITING:
        values["ended_at"] = now
    is_held = connection.execute(statement, {**held, **values}).rowcount == 1
    if is_held and job.group is not None and state not in groups.AHEAD:
        groups.pass_on(connection, job.task_id, job.group, now)
    return is_held


def _lock_group(connection: Connection, job: Job) -> None:
    if job.group is not None:
        lock_all(connection, [groups.lock_of(job.task_id, job.group)])


def bring_forward(connection: Connection, now: float, longest: float, lease: float) -> int:
    """Make due what waits for longer than `longest` seconds, shorten leases to `lease`; how many jobs.

    Only a clock that was ahead makes either longer. It also stored the jobs that are younger than now. Leases
    go by the store's clock.
    """
    latest = {"farthest": now + longest, "ahead": now + JUMP_THRESHOLD, "now": now}
    until = {"farthest": rates.clock(connection, now) + lease}
    return sum(connection.execute(*each).rowcount for each in ((_DUE_NOW, latest), (_SHORTEN, until)))


def renew(connection: Connection, now: float) -> None:
    """Let the time for which jobs are tried again begin anew: by a corrected clock their age is wrong."""
    connection.execute(_RENEW, {"now": now})


def left_behind(connection: Connection, now: float, *, everything: bool) -> list[tuple[Job, Attempt | None]]:
    """Claimed jobs whose lease has ended (or all), each with the attempt that never ended."""
    ended = jobs.c.lease_until < rates.clock(connection, now)
    claimed = _CLAIMED if everything else _CLAIMED.where(ended)
    return [
        (job, None if row.open_id is None else Attempt(row.open_id, job.id, row.open_number, row.open_since))
        for row in connection.execute(claimed)
        for job in [job_of(row)]
    ]
