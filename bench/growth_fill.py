"""Fill a store with many rows in few statements: copies of those that the bridge itself has stored."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

from sqlalchemy import NullPool, Table, create_engine, text

from bridge.core.attempt_result import AttemptResult
from bridge.core.job import JobState, Outcome
from bridge.core.retry import Decision
from bridge.outbox.schema import attempts, events, jobs
from bridge.outbox.store import Outbox
from bridge.process.settings import Retention
from tests.support.tables import make_job, make_webhook

#: The tasks of the waiting jobs, by number.
TASKS = 10
TASK = "task-{}"

ACCEPTED = AttemptResult(0.1, Outcome.ACCEPTED, 200, "", "5f3c9a7be4b0a1c2d3e4f5aa")
DONE = Decision(JobState.ACCEPTED, None, None)

#: Values in SQL of the copy with number n, from 1, by column. The ids of senders and digests are in no order.
_MIXED = "(n * 2654435761 % 4294967296)"
_AT = "(:now - :events + n * :events / :count)"
_WAITING_JOB = {
    "item_key": "CAST(n AS TEXT)",
    "task_id": f"'{TASK.format('')}' || (n % {TASKS})",
    "due_at": "(:now - 1000 + n * 0.001)",
}
_EVENT = {
    "delivery_id": f"'72d3162e-cc78-11e3-81ab-' || {_MIXED}",
    "digest": f"CAST('a digest of 32 bytes: ' || {_MIXED} AS BYTES)",
    "received_at": _AT,
    "body": f"CASE WHEN {_AT} < :now - :bodies THEN CAST('' AS BYTES) ELSE body END",
}
_JOB = {"event_id": "n + 1", **dict.fromkeys(("created_at", "due_at", "retry_window_start", "ended_at"), _AT)}
_ATTEMPT = {"job_id": "n + 1", "started_at": _AT}


def fill_waiting_jobs(url: str, count: int, now: float) -> None:
    """Store so many due jobs of TASKS tasks in turn."""
    if count:
        with closing(Outbox(url, clock=lambda: now)) as outbox:
            outbox.store(make_webhook(make_job("refs/heads/master"), received_at=now))
        _copy_rows(url, {jobs: _WAITING_JOB}, count=count, now=now)


#: What a list meets: ROUTES routes, and one job in a hundred that needs a person.
ROUTES = 20
_MIXED_EVENT = {"source": "CASE WHEN n % 10 = 0 THEN 'alertmanager' ELSE 'github' END"}
_MIXED_JOB = {
    "route": f"'route ' || (n % {ROUTES})",
    "state": "CASE WHEN n % 100 = 0 THEN 'dead' WHEN n % 100 = 1 THEN 'unknown' ELSE 'accepted' END",
}


def fill_lists(url: str, count: int, now: float, retention: Retention) -> None:
    """Store events as `fill_events` does, of two sources, with jobs of ROUTES routes in three states."""
    _fill_events(
        url, count, now, retention, {events: {**_EVENT, **_MIXED_EVENT}, jobs: {**_JOB, **_MIXED_JOB}}
    )


def fill_events(url: str, count: int, now: float, retention: Retention) -> None:
    """Store so many events, received at even intervals, each with an accepted job and its attempt."""
    _fill_events(url, count, now, retention, {events: _EVENT, jobs: _JOB})


def _fill_events(
    url: str, count: int, now: float, retention: Retention, changed: Mapping[Table, Mapping[str, str]]
) -> None:
    if count:
        with closing(Outbox(url, clock=lambda: now)) as outbox:
            outbox.store(make_webhook(make_job("refs/heads/master"), payload={"a": 1}, received_at=now))
            claim = outbox.claim(free=1, busy={}, per_task=1, lease=60, can_send=lambda _: True)
            (job,) = claim.jobs
            outbox.record(job, claim.token, claim.attempts[job.id], ACCEPTED, DONE)
        copies = {**changed, attempts: _ATTEMPT}
        _copy_rows(url, copies, count=count, now=now, events=retention.events, bodies=retention.bodies)


def _copy_rows(url: str, copies: Mapping[Table, Mapping[str, str]], **values: float) -> None:
    """Copy the only row of each table until there are `count`; the database assigns the ids, in order."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    is_sqlite = engine.dialect.name == "sqlite"
    with engine.begin() as connection:
        if is_sqlite:
            connection.exec_driver_sql("PRAGMA cache_size = -1000000")  # kilobytes
        for table, changed in copies.items():
            columns = {each.name: each.name for each in table.c if each.name != "id"} | dict(changed)
            statement = (
                f"INSERT INTO {table.name} ({', '.join(columns)})"
                " WITH RECURSIVE numbers(n) AS"
                " (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :count)"
                f" SELECT {', '.join(columns.values())} FROM numbers, {table.name}"
                " WHERE id = 1 AND n < :count"
            ).replace("BYTES", "BLOB" if is_sqlite else "BYTEA")
            connection.execute(text(statement), values)
    if not is_sqlite:
        # As the server does by itself after a while.
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
            connection.execute(text("CHECKPOINT"))
