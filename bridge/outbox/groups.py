"""Groups: jobs of one task that are sent one after the other, in the order of their commits.

Parts of units of work. Whoever changes a group holds its lock (`lock_of`), so that no two find the same end
of it, or the same head. Of those that wait all but the head are `blocked`: no claim looks at them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, select, update

from bridge.job import Job, JobState
from bridge.outbox.locks import lock_all
from bridge.outbox.schema import IS_AHEAD, jobs

#: The states of a job that holds back the later ones of its group.
AHEAD = (JobState.WAITING, JobState.SENDING, JobState.UNKNOWN)
#: How many groups one statement asks for.
_CHUNK = 500

MAYBE_SENT = "; an earlier attempt may have reached TheEye"

_IN_GROUP = (jobs.c.task_id == bindparam("of_task"), jobs.c.group_name == bindparam("of_group"))
_OF_TASK = (
    jobs.c.task_id == bindparam("of_task"),
    jobs.c.group_name.in_(bindparam("groups", expanding=True)),
)
_ENDS = (
    select(jobs.c.group_name, func.max(jobs.c.position).label("last"))
    .where(jobs.c.group_name.is_not(None), *_OF_TASK)
    .group_by(jobs.c.group_name)
)
_AHEAD = select(jobs.c.group_name).where(IS_AHEAD, *_OF_TASK).distinct()
_HEAD = (
    select(jobs.c.id, jobs.c.state, jobs.c.blocked)
    .where(IS_AHEAD, *_IN_GROUP)
    .order_by(jobs.c.position)
    .limit(1)
)
# The time for which it is tried again begins now: else one that was held up for longer would die on the first
# answer that TheEye is busy.
_UNBLOCK = update(jobs).where(jobs.c.id == bindparam("job")).values(blocked=False, fresh_at=bindparam("now"))
_REPLACE = (
    update(jobs)
    .where(
        IS_AHEAD, *_IN_GROUP, jobs.c.state == JobState.WAITING, jobs.c.position < bindparam("before"),
    )
    .values(
        state=JobState.SKIPPED,
        ended_at=bindparam("now"),
        reason=case((jobs.c.unknowns > 0, bindparam("maybe")), else_=bindparam("why")),
    )
    .returning(jobs.c.id)
)  # fmt: skip
_REPLACED_BY = (
    select(jobs.c.id)
    .where(
        IS_AHEAD, *_IN_GROUP, jobs.c.state == JobState.WAITING, jobs.c.latest,
        jobs.c.position > bindparam("after"),
    )
    .order_by(jobs.c.position.desc())
    .limit(1)
)  # fmt: skip
_NEWER = (
    select(jobs.c.id)
    .where(*_IN_GROUP, jobs.c.state.in_((JobState.ACCEPTED, *AHEAD)))
    .order_by(jobs.c.position.desc())
    .limit(1)
)

_HEADS = (
    select(jobs.c.task_id, jobs.c.group_name, func.min(jobs.c.position).label("position"))
    .where(IS_AHEAD)
    .group_by(jobs.c.task_id, jobs.c.group_name)
    .subquery()
)
_STUCK = (
    select(jobs.c.task_id, jobs.c.group_name)
    .join(
        _HEADS,
        (jobs.c.task_id == _HEADS.c.task_id)
        & (jobs.c.group_name == _HEADS.c.group_name)
        & (jobs.c.position == _HEADS.c.position),
    )
    .where(jobs.c.state == JobState.WAITING, jobs.c.blocked)
)


def lock_of(task_id: str, group: str) -> tuple[str, ...]:
    """The name of its lock."""
    return ("group", task_id, group)


def superseded(by: int) -> str:
    """Why a job is skipped whose place a newer one has taken."""
    return f"superseded by job {by}"


def join(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Give each row of a group its place at the group's end; those that cannot be sent yet are blocked."""
    by_group: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["group_name"] is not None:
            by_group.setdefault((row["task_id"], row["group_name"]), []).append(row)
    for task_id in {task_id for task_id, _ in by_group}:
        names = [group for of_task, group in by_group if of_task == task_id]
        for at in range(0, len(names), _CHUNK):
            asked = {"of_task": task_id, "groups": names[at : at + _CHUNK]}
            ends = {row.group_name: row.last for row in connection.execute(_ENDS, asked)}
            busy = set(connection.execute(_AHEAD, asked).scalars())
            for name in asked["groups"]:
                _place(by_group[task_id, name], ends.get(name) or 0, is_busy=name in busy)


def _place(rows: list[dict[str, Any]], last: int, *, is_busy: bool) -> None:
    for position, row in enumerate(rows, last + 1):
        row["position"] = position
        if row["state"] == JobState.WAITING:
            row["blocked"] = is_busy
            is_busy = True


def replace(connection: Connection, stored: Sequence[tuple[int, dict[str, Any]]], now: float) -> set[int]:
    """Let the newest of each group that replaces others do so; the ids of those that are skipped."""
    newest = {
        (row["task_id"], row["group_name"]): (job_id, row)
        for job_id, row in stored
        # One that is not blocked has none before it.
        if row["latest"] and row["group_name"] is not None and row["blocked"]
    }
    skipped: set[int] = set()
    for (task_id, group), (job_id, row) in newest.items():
        why = superseded(job_id)
        values = {"before": row["position"], "now": now, "why": why, "maybe": why + MAYBE_SENT}
        found = connection.execute(_REPLACE, {"of_task": task_id, "of_group": group, **values}).scalars()
        skipped.update(found)
        pass_on(connection, task_id, group, now)
    return skipped


def replaced_by(connection: Connection, job: Job) -> int | None:
    """The job that came meanwhile and replaces this one, were it to wait again."""
    asked = {"of_task": job.task_id, "of_group": job.group, "after": job.position}
    found: int | None = connection.execute(_REPLACED_BY, asked).scalar_one_or_none()
    return found


def newer(connection: Connection, task_id: str, group: str, than: Job) -> int | None:
    """A job of the group that came later and was accepted, or may still be."""
    is_there = than.group == group and than.task_id == task_id and than.position is not None
    later = jobs.c.position > than.position if is_there else jobs.c.id > than.id
    return _newest(connection, task_id, group, later)


def of_newer_event(connection: Connection, task_id: str, group: str, event_id: int) -> int | None:
    """A job of the group that a later event made, and that was accepted or may still be."""
    return _newest(connection, task_id, group, jobs.c.event_id > event_id)


def _newest(connection: Connection, task_id: str, group: str, which: ColumnElement[bool]) -> int | None:
    asked = {"of_task": task_id, "of_group": group}
    found: int | None = connection.execute(_NEWER.where(which), asked).scalar_one_or_none()
    return found


def pass_on(connection: Connection, task_id: str, group: str, now: float) -> bool:
    """Let the group's head be claimed, after a job of it has ended; whether one waited for that."""
    head = connection.execute(_HEAD, {"of_task": task_id, "of_group": group}).first()
    if head is None or head.state != JobState.WAITING or not head.blocked:
        return False
    connection.execute(_UNBLOCK, {"job": head.id, "now": now})
    return True


def stuck(connection: Connection) -> list[tuple[str, str]]:
    """The groups, by task and name, whose head is blocked with nothing before it.

    A process of the release before, which a rolling deploy leaves running for a while, passes nothing on.
    """
    return [(row.task_id, row.group_name) for row in connection.execute(_STUCK)]


def free(connection: Connection, task_id: str, group: str, now: float) -> bool:
    """Let a group go on: a unit of work; whether that was needed."""
    lock_all(connection, [lock_of(task_id, group)])
    return pass_on(connection, task_id, group, now)
