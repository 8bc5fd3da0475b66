"""Groups: jobs of one task that are sent one after the other, in the order of their commits.

Each function is part of a unit of work that holds the group's lock (`lock_name`), so that no two units see
the same end or head of a group. Of the waiting jobs all but the head are `blocked`: claims skip them.
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
from bridge.outbox import counters
from bridge.outbox.schema import BLOCKS_GROUP, jobs

#: The states of a job that blocks the later ones of its group.
BLOCKING = (JobState.WAITING, JobState.SENDING, JobState.UNKNOWN)

#: Orders jobs by age: the event's id, then the job's own.
Age = tuple[int, int]

MAYBE_SENT = "; an earlier attempt may have reached TheEye"
_SUPERSEDED = "superseded by job "

_IN_GROUP = (jobs.c.task_id == bindparam("of_task"), jobs.c.group_name == bindparam("of_group"))
_OF_TASK = (
    jobs.c.task_id == bindparam("of_task"),
    jobs.c.group_name.in_(bindparam("groups", expanding=True)),
)
_LAST_POSITIONS = (
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
# The retry window starts now: a job that was blocked for longer would die on the first busy answer.
_UNBLOCKED = {"blocked": False, "retry_window_start": bindparam("now")}
_UNBLOCK = update(jobs).where(jobs.c.id == bindparam("job")).values(_UNBLOCKED)
# Other names, since the columns in BLOCKS_GROUP, a literal for the index, do not name their table.
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
        # With state = 'waiting' the planner would read all waiting jobs.
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
    .returning(jobs.c.id, jobs.c.route, jobs.c.task)
)
_BEFORE = jobs.alias("before")
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
    .values(_UNBLOCKED)
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
    """Select the newest job of each group that TheEye has, may have, or will get."""
    of = asked.columns(of_task=Text, of_group=Text).subquery("asked")
    newest = (
        select(jobs.c.id)
        .where(
            jobs.c.task_id == of.c.of_task,
            jobs.c.group_name == of.c.of_group,
            jobs.c.state.in_((JobState.ACCEPTED, *BLOCKING)),
        )
        # An expression: for the plain column a planner would read the index of all events in its order.
        .order_by((jobs.c.event_id + 0).desc(), jobs.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return select(newest).select_from(of)


# By dialect. The groups are one parameter in JSON, so that thousands need one statement.
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


def lock_name(task_id: str, group: str) -> tuple[str, ...]:
    return ("group", task_id, group)


def superseded_reason(by: int) -> str:
    """Return the reason of a job that the job with this id supersedes."""
    return f"{_SUPERSEDED}{by}"


def assign_positions(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Put each row with a group at the group's end; block those that others precede."""
    by_group: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["group_name"] is not None:
            by_group.setdefault((row["task_id"], row["group_name"]), []).append(row)
    for task_id in {task_id for task_id, _ in by_group}:
        names = [group for of_task, group in by_group if of_task == task_id]
        parameters = {"of_task": task_id, "groups": names}
        last = {row.group_name: row.last for row in connection.execute(_LAST_POSITIONS, parameters)}
        blocked = set(connection.execute(_BLOCKED_GROUPS, parameters).scalars())
        for name in names:
            _append(by_group[task_id, name], last.get(name) or 0, blocked=name in blocked)


def _append(rows: list[dict[str, Any]], last: int, *, blocked: bool) -> None:
    for position, row in enumerate(rows, last + 1):
        row["position"] = position
        if row["state"] == JobState.WAITING:
            row["blocked"] = blocked
            blocked = True


def supersede_waiting(
    connection: Connection, stored: Sequence[tuple[int, dict[str, Any]]], now: float
) -> set[int]:
    """Skip the waiting jobs that the last `latest` one of their group supersedes; return their ids."""
    newest = {
        (row["task_id"], row["group_name"]): job_id
        for job_id, row in stored
        # A job that is not blocked has none before it.
        if row["latest"] and row["group_name"] is not None and row["blocked"]
    }
    if not newest:
        return set()
    some = {"some": list(newest.values()), "now": now}
    skipped = connection.execute(_SUPERSEDE, some).all()
    for row in skipped:
        counters.count_end(connection, row.route, row.task, JobState.SKIPPED)
    connection.execute(_UNBLOCK_HEADS, some)
    return {row.id for row in skipped}


def superseding_job(connection: Connection, job: Job) -> int | None:
    """Return the id of the later job that supersedes this one if it waits again."""
    parameters = {"of_task": job.task_id, "of_group": job.group, "after": job.position}
    found: int | None = connection.execute(_SUPERSEDING, parameters).scalar_one_or_none()
    return found


def skip_superseded(connection: Connection, rows: Iterable[tuple[dict[str, Any], Age]], now: float) -> None:
    """Skip those rows that would supersede a newer job, which TheEye has, may have, or will get.

    The position does not say which is newer: a job that is retried goes to its group's end.
    """
    by_group: dict[tuple[str, str], list[tuple[dict[str, Any], Age]]] = {}
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
    """Unblock the group's head after a job of it has ended; return whether a job was blocked."""
    head = connection.execute(_HEAD, {"of_task": task_id, "of_group": group}).first()
    if head is None or head.state != JobState.WAITING or not head.blocked:
        return False
    connection.execute(_UNBLOCK, {"job": head.id, "now": now})
    return True
