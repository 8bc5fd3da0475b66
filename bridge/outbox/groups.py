"""Groups: jobs of one task that are sent one after the other, in the order of their commits.

Parts of units of work. Whoever changes a group holds its lock (`lock_name`), so that no two find the same end
of it, or the same head. Of those that wait all but the head are `blocked`: no claim looks at them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from sqlalchemy import (
    Connection,
    Select,
    Text,
    TextClause,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    select,
    text,
    update,
)

from bridge.core.job import Job, JobState
from bridge.outbox.locks import lock_all
from bridge.outbox.schema import BLOCKS_GROUP, jobs

#: The states of a job that holds back the later ones of its group.
BLOCKING = (JobState.WAITING, JobState.SENDING, JobState.UNKNOWN)

#: What makes one job newer than another: its event's id, and of two of one event its own.
Recency = tuple[int, int]

MAYBE_SENT = "; an earlier attempt may have reached TheEye"
_SUPERSEDED = "superseded by job "

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
_BLOCKED_GROUPS = select(jobs.c.group_name).where(BLOCKS_GROUP, *_OF_TASK).distinct()
_HEAD = (
    select(jobs.c.id, jobs.c.state, jobs.c.blocked)
    .where(BLOCKS_GROUP, *_IN_GROUP)
    .order_by(jobs.c.position)
    .limit(1)
)
# The time for which it is tried again begins now: else one that was held up for longer would die on the first
# answer that TheEye is busy.
_UNBLOCK = (
    update(jobs)
    .where(jobs.c.id == bindparam("job"))
    .values(blocked=False, retry_window_start=bindparam("now"))
)
# Its columns have other names, since those of BLOCKS_GROUP, which the index needs, say not whose they are.
_NEWEST = (
    select(
        jobs.c.id.label("newest"),
        jobs.c.task_id.label("of_task"),
        jobs.c.group_name.label("of_group"),
        jobs.c.position.label("before"),
    )
    .where(jobs.c.id.in_(bindparam("some", expanding=True)))
    .subquery("newest")
)
_SUPERSEDE = (
    update(jobs)
    .where(
        BLOCKS_GROUP,
        # Not that it waits: the planner would begin with all that do.
        jobs.c.state.not_in((JobState.SENDING, JobState.UNKNOWN)),
        jobs.c.task_id == _NEWEST.c.of_task,
        jobs.c.group_name == _NEWEST.c.of_group,
        jobs.c.position < _NEWEST.c.before,
    )
    .values(
        state=JobState.SKIPPED,
        ended_at=bindparam("now"),
        reason=literal(_SUPERSEDED)
        + cast(_NEWEST.c.newest, Text)
        + case((jobs.c.window_unknowns > 0, MAYBE_SENT), else_=""),
    )
    .returning(jobs.c.id)
)
_BEFORE = jobs.alias("before")
# Those that have replaced others are the heads now, where what is before them is not on its way or unknown.
_UNBLOCK_HEADS = (
    update(jobs)
    .where(
        jobs.c.id.in_(bindparam("some", expanding=True)),
        ~exists().where(
            BLOCKS_GROUP,
            _BEFORE.c.task_id == jobs.c.task_id,
            _BEFORE.c.group_name == jobs.c.group_name,
            _BEFORE.c.position < jobs.c.position,
        ),
    )
    .values(blocked=False, retry_window_start=bindparam("now"))
)
_SUPERSEDING = (
    select(jobs.c.id)
    .where(
        BLOCKS_GROUP, *_IN_GROUP, jobs.c.state == JobState.WAITING, jobs.c.latest,
        jobs.c.position > bindparam("after"),
    )
    .order_by(jobs.c.position.desc())
    .limit(1)
)  # fmt: skip


def _newest_of(asked: TextClause) -> Select[Any]:
    """The newest job of each group that was accepted, or may be."""
    of = asked.columns(of_task=Text, of_group=Text).subquery("asked")
    newest = (
        select(jobs.c.id)
        .where(
            jobs.c.task_id == of.c.of_task,
            jobs.c.group_name == of.c.of_group,
            jobs.c.state.in_((JobState.ACCEPTED, *BLOCKING)),
        )
        # No column: a planner would go through the index of all events to have them in order.
        .order_by((jobs.c.event_id + 0).desc(), jobs.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return select(newest).select_from(of)


# By dialect: what is asked about is one list in JSON, so that thousands are one statement.
_NEWEST_OF = {
    "postgresql": _newest_of(
        text("SELECT * FROM json_to_recordset(CAST(:asked AS json)) AS asked (of_task text, of_group text)")
    ),
    "sqlite": _newest_of(
        text(
            "SELECT json_extract(value, '$.of_task') AS of_task,"
            " json_extract(value, '$.of_group') AS of_group FROM json_each(:asked)"
        )
    ),
}
_JOBS = select(jobs.c.id, jobs.c.event_id, jobs.c.task_id, jobs.c.group_name).where(
    jobs.c.id.in_(bindparam("some", expanding=True))
)

_HEADS = (
    select(jobs.c.task_id, jobs.c.group_name, func.min(jobs.c.position).label("position"))
    .where(BLOCKS_GROUP)
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


def lock_name(task_id: str, group: str) -> tuple[str, ...]:
    """The name of its lock."""
    return ("group", task_id, group)


def superseded_reason(by: int) -> str:
    """Why a job is skipped whose place a newer one has taken."""
    return f"{_SUPERSEDED}{by}"


def assign_positions(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Give each row of a group its place at the group's end; those that cannot be sent yet are blocked."""
    by_group: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["group_name"] is not None:
            by_group.setdefault((row["task_id"], row["group_name"]), []).append(row)
    for task_id in {task_id for task_id, _ in by_group}:
        names = [group for of_task, group in by_group if of_task == task_id]
        asked = {"of_task": task_id, "groups": names}
        ends = {row.group_name: row.last for row in connection.execute(_ENDS, asked)}
        busy = set(connection.execute(_BLOCKED_GROUPS, asked).scalars())
        for name in names:
            _place(by_group[task_id, name], ends.get(name) or 0, is_busy=name in busy)


def _place(rows: list[dict[str, Any]], last: int, *, is_busy: bool) -> None:
    for position, row in enumerate(rows, last + 1):
        row["position"] = position
        if row["state"] == JobState.WAITING:
            row["blocked"] = is_busy
            is_busy = True


def supersede_waiting(
    connection: Connection, stored: Sequence[tuple[int, dict[str, Any]]], now: float
) -> set[int]:
    """Let the newest of each group that replaces others do so; the ids of those that are skipped."""
    newest = {
        (row["task_id"], row["group_name"]): job_id
        for job_id, row in stored
        # One that is not blocked has none before it.
        if row["latest"] and row["group_name"] is not None and row["blocked"]
    }
    if not newest:
        return set()
    some = {"some": list(newest.values()), "now": now}
    skipped = set(connection.execute(_SUPERSEDE, some).scalars())
    connection.execute(_UNBLOCK_HEADS, some)
    return skipped


def superseding_job(connection: Connection, job: Job) -> int | None:
    """The job that came meanwhile and replaces this one, were it to wait again."""
    asked = {"of_task": job.task_id, "of_group": job.group, "after": job.position}
    found: int | None = connection.execute(_SUPERSEDING, asked).scalar_one_or_none()
    return found


def skip_superseded(
    connection: Connection, rows: Iterable[tuple[dict[str, Any], Recency]], now: float
) -> None:
    """Let those rows be skipped that would replace a newer job, which was accepted or may still be.

    Not its place says which is newer: one that is asked for again goes to its group's end.
    """
    by_group: dict[tuple[str, str], list[tuple[dict[str, Any], Recency]]] = {}
    for row, age in rows:
        if row["latest"] and row["group_name"] is not None and row["state"] == JobState.WAITING:
            by_group.setdefault((row["task_id"], row["group_name"]), []).append((row, age))
    if not by_group:
        return
    asked = orjson.dumps([{"of_task": task_id, "of_group": group} for task_id, group in by_group]).decode()
    found = connection.execute(_NEWEST_OF[connection.dialect.name], {"asked": asked}).scalars()
    newest = {"some": [job_id for job_id in found if job_id is not None]}
    for job in connection.execute(_JOBS, newest):
        for row, age in by_group[job.task_id, job.group_name]:
            if (job.event_id, job.id) > age:
                row.update(state=JobState.SKIPPED, reason=superseded_reason(job.id), ended_at=now)


def unblock_head(connection: Connection, task_id: str, group: str, now: float) -> bool:
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
    lock_all(connection, [lock_name(task_id, group)])
    return unblock_head(connection, task_id, group, now)
