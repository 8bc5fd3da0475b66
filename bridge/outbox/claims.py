"""Taking jobs to send and recording what became of them: units of work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection, bindparam, exists, insert, select, update

from bridge.job import Attempt, Job, JobState, Outcome
from bridge.outbox.locks import lock
from bridge.outbox.records import attempt_of, job_of, storable
from bridge.outbox.schema import IS_READY, attempts, jobs
from bridge.retry import Decision


@dataclass(frozen=True)
class Completion:
    """What an attempt came to: all but its start."""

    #: Seconds.
    seconds: float
    outcome: Outcome
    status: int | None
    #: Masked.
    detail: str
    theeye_job_id: str | None


_DUE = (
    select(jobs)
    .where(
        IS_READY,
        jobs.c.due_at <= bindparam("now"),
        jobs.c.task_id.not_in(bindparam("saturated", expanding=True)),
    )
    .order_by(jobs.c.due_at, jobs.c.id)
    .limit(bindparam("free"))
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
# A claim may have started since it was found to be left behind.
_UNSTARTED = ~exists().where(attempts.c.job_id == jobs.c.id, attempts.c.outcome.is_(None))
_LET_GO = _RECORD.where(_UNSTARTED)
# In a statement before: one that had to wait for a start would not see its attempt, newer than itself.
_WAIT_FOR = select(jobs.c.id).where(jobs.c.id == bindparam("job")).with_for_update()


def claim(
    connection: Connection,
    *,
    now: float,
    free: int,
    busy: Mapping[str, int],
    per_task: int,
    but: Collection[str],
    lease: float,
    token: str,
) -> list[Job]:
    """Up to `free` due jobs, oldest first, at most `per_task` of one task beside the `busy` ones.

    None of a task whose id is in `but`. They are `sending` until the lease ends, `lease` seconds from now;
    `token` is the claim's.
    """
    # Two that looked for due jobs at the same moment would each stay within a limit that both together break.
    lock(connection, "claim")
    taken: list[Job] = []
    load = Counter(busy)
    until = now + lease
    while len(taken) < free:
        full = {task for task, count in load.items() if count >= per_task} | set(but)
        room = free - len(taken)
        rows = connection.execute(_DUE, {"now": now, "saturated": sorted(full), "free": room}).all()
        some = []
        for row in rows:
            if load[row.task_id] < per_task:
                load[row.task_id] += 1
                some.append(replace(job_of(row), state=JobState.SENDING, claim=token, lease_until=until))
        claimed = {"jobs": [job.id for job in some], "token": token, "lease": until}
        # A person may have taken one back meanwhile.
        held = set(connection.execute(_CLAIM, claimed).scalars()) if some else set()
        taken += [job for job in some if job.id in held]
        if len(rows) < room:
            break
    return taken


def start(connection: Connection, job_id: int, token: str, now: float) -> int | None:
    """Write that an attempt begins; its id, or None where the claim is no longer held."""
    number = connection.execute(_START, {"job": job_id, "token": token}).scalar_one_or_none()
    if number is None:
        return None
    row = {"job_id": job_id, "number": number, "started_at": now}
    attempt_id: int = connection.execute(_INSERT_ATTEMPT, row).scalar_one()
    return attempt_id


def record(
    connection: Connection, job: Job, token: str, attempt_id: int, done: Completion, next_: Decision
) -> bool:
    """Complete an attempt and move its job on; False where the claim is no longer held."""
    completed = {
        "seconds": done.seconds,
        "outcome": done.outcome,
        "status": done.status,
        "detail": storable(done.detail),
        "theeye_job_id": storable(done.theeye_job_id),
    }
    connection.execute(_COMPLETE, {"attempt": attempt_id, **completed})
    moved: dict[str, object] = {
        "state": next_.state,
        "reason": storable(next_.reason),
        "tries": job.tries + 1,
        "unknowns": job.unknowns + (done.outcome is Outcome.UNKNOWN),
    }
    if next_.due_at is not None:
        moved["due_at"] = next_.due_at
    if done.theeye_job_id is not None:
        moved["theeye_job_id"] = completed["theeye_job_id"]
    return connection.execute(_RECORD, {"job": job.id, "token": token, **moved}).rowcount == 1


def hand_back(
    connection: Connection, job_id: int, token: str, due_at: float | None, reason: str | None
) -> None:
    """Set a claimed job that was not started waiting again, due as before or at `due_at`."""
    values: dict[str, object] = {"state": JobState.WAITING}
    if due_at is not None:
        values |= {"due_at": due_at, "reason": storable(reason)}
    connection.execute(_WAIT_FOR, {"job": job_id})
    connection.execute(_LET_GO, {"job": job_id, "token": token, **values})


def give_up(connection: Connection, job_id: int, token: str, reason: str) -> None:
    """Let a claimed job that was not started die."""
    values = {"state": JobState.DEAD, "reason": storable(reason)}
    connection.execute(_WAIT_FOR, {"job": job_id})
    connection.execute(_LET_GO, {"job": job_id, "token": token, **values})


def left_behind(connection: Connection, now: float, *, everything: bool) -> list[tuple[Job, Attempt | None]]:
    """Claimed jobs whose lease has ended (or all), each with the attempt that never ended."""
    claimed = select(jobs).where(jobs.c.state == JobState.SENDING)
    if not everything:
        claimed = claimed.where(jobs.c.lease_until < now)
    found: list[tuple[Job, Attempt | None]] = []
    for row in connection.execute(claimed.order_by(jobs.c.id)).all():
        still_open = select(attempts).where(attempts.c.job_id == row.id, attempts.c.outcome.is_(None))
        open_attempt = connection.execute(still_open.order_by(attempts.c.number.desc()).limit(1)).first()
        found.append((job_of(row), None if open_attempt is None else attempt_of(open_attempt)))
    return found
