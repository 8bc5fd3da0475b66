"""Outbox: the durable store of events, jobs and attempts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Select, func, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from bridge.errors import NoSuchEvent, NoSuchJob, StoreUnavailable, WrongState
from bridge.event import Event
from bridge.job import Attempt, Job, JobState, NewJob
from bridge.outbox import claims, intake
from bridge.outbox.claims import Completion
from bridge.outbox.connect import WRITES, DatabaseFile, connect
from bridge.outbox.intake import Stored, StoredJob, Webhook
from bridge.outbox.presence import Presence
from bridge.outbox.records import EventSummary, attempt_of, event_of, job_of, summary_of
from bridge.outbox.schema import IS_WAITING, attempts, events, jobs, metadata
from bridge.outbox.writer import Writer
from bridge.retry import Decision

T = TypeVar("T")

__all__ = ["Completion", "EventSummary", "Outbox", "Stored", "StoredJob", "Webhook"]


class Outbox:
    """The store of one process. Every method may be called from any thread.

    Raises StoreUnavailable where the database cannot be reached or written. `woken` is called after a commit
    that left a job waiting which may be due now.
    """

    def __init__(
        self, url: str, *, beside_a_server: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._path = Path(make_url(url).database or "")
        self.woken: Callable[[], None] = lambda: None
        try:
            self._engine = connect(url, checkpoints=not beside_a_server)
            with self._engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
                metadata.create_all(connection)
        except (SQLAlchemyError, OSError) as error:
            raise StoreUnavailable(f"{url} cannot be opened: {getattr(error, 'orig', error)}") from error
        self._file = DatabaseFile(self._path)
        self._writer = Writer(self._engine, self._file.require)

    def close(self) -> None:
        """Commit what has gathered and close the database."""
        self._writer.close()
        self._engine.dispose()

    def ping(self) -> None:
        """Raises StoreUnavailable where the database does not answer, or lacks its tables."""
        self._file.require()
        # A bare SELECT 1 would not touch the file.
        self._read(lambda connection: connection.execute(select(events.c.id).limit(1)).first())

    def presence(self) -> Presence:
        """Says whether other processes deliver from this store."""
        return Presence(self._path)

    # Intake

    def store(self, webhook: Webhook) -> Stored:
        """Store an event and its jobs in one transaction; returns once they are committed."""
        stored = self._writer.write(lambda connection: intake.store(connection, webhook, self._clock()))
        if any(job.state is JobState.WAITING for job in stored.jobs):
            self.woken()
        return stored

    # Delivery

    def claim(
        self, *, free: int, busy: Mapping[str, int], per_task: int, lease: float
    ) -> tuple[str, list[Job]]:
        """A claim's token and up to `free` due jobs; see claims.claim. `lease` in seconds."""
        token = uuid4().hex
        now = self._clock()
        taken = self._writer.write(
            lambda connection: claims.claim(
                connection, now=now, free=free, busy=busy, per_task=per_task, lease=lease, token=token
            )
        )
        return token, taken

    def start(self, job: Job, token: str, at: float) -> int | None:
        """Commit that an attempt begins; its id, or None where the claim is no longer held."""
        return self._writer.write(lambda connection: claims.start(connection, job.id, token, at))

    def record(self, job: Job, token: str, attempt_id: int, done: Completion, decision: Decision) -> bool:
        """Commit what an attempt came to; False where the claim is no longer held."""
        return self._writer.write(
            lambda connection: claims.record(connection, job, token, attempt_id, done, decision)
        )

    def hand_back(
        self, job_id: int, token: str, due_at: float | None = None, reason: str | None = None
    ) -> None:
        """Set a claimed job that was not started waiting again."""
        self._writer.write(lambda connection: claims.hand_back(connection, job_id, token, due_at, reason))

    def give_up(self, job: Job, token: str, reason: str) -> None:
        """Let a claimed job that was not started die."""
        self._writer.write(lambda connection: claims.give_up(connection, job.id, token, reason))

    def left_behind(self, *, everything: bool) -> list[tuple[Job, Attempt | None]]:
        """Claimed jobs whose lease has ended (or all of them), with the attempt that never ended."""
        now = self._clock()
        return self._read(lambda connection: claims.left_behind(connection, now, everything=everything))

    def next_due(self) -> float | None:
        """When the next waiting job is due, seconds since the epoch; None where none waits."""
        due = select(func.min(jobs.c.due_at)).where(IS_WAITING)
        at: float | None = self._read(lambda connection: connection.execute(due).scalar_one())
        return at

    # People

    def retry(self, job_id: int, again: NewJob | None) -> bool:
        """Set a dead job waiting as `again`, which today's table makes; whether it waits now.

        Raises NoSuchJob, WrongState.
        """

        def work(connection: Connection) -> bool:
            self._expect(connection, job_id, JobState.DEAD)
            return intake.revive(connection, job_id, again, self._clock())

        waits = self._writer.write(work)
        if waits:
            self.woken()
        return waits

    def resolve(self, job_id: int, *, sent: bool) -> None:
        """Say of an unknown job that TheEye has it, or that it must be sent again.

        Raises NoSuchJob, WrongState.
        """
        now = self._clock()
        accepted = {"state": JobState.ACCEPTED, "reason": "a person said that TheEye has it"}
        again = {
            "state": JobState.WAITING, "reason": "a person said to send it again",
            "due_at": now, "fresh_at": now, "tries": 0, "unknowns": 0,
        }  # fmt: skip

        def work(connection: Connection) -> None:
            self._expect(connection, job_id, JobState.UNKNOWN)
            values = accepted if sent else again
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))

        self._writer.write(work)
        if not sent:
            self.woken()

    @staticmethod
    def _expect(connection: Connection, job_id: int, state: JobState) -> None:
        found = connection.execute(select(jobs.c.state).where(jobs.c.id == job_id)).scalar_one_or_none()
        if found is None:
            raise NoSuchJob(f"there is no job {job_id}")
        if found != state:
            raise WrongState(f"job {job_id} is {found}, expected {state}")

    # Reading

    def event(self, event_id: int) -> Event:
        """Raises NoSuchEvent."""
        row = self._read(
            lambda connection: connection.execute(select(events).where(events.c.id == event_id)).one_or_none()
        )
        if row is None:
            raise NoSuchEvent(f"there is no event {event_id}")
        return event_of(row)

    def events(self, *, source: str | None = None, limit: int = 50) -> list[EventSummary]:
        """The newest events first."""
        made = select(func.count()).where(jobs.c.event_id == events.c.id).scalar_subquery().label("jobs")
        columns = [column for column in events.c if column.name not in ("body", "headers", "query")]
        query: Select[Any] = select(*columns, made).order_by(events.c.id.desc()).limit(limit)
        if source is not None:
            query = query.where(events.c.source == source)
        rows = self._read(lambda connection: connection.execute(query).all())
        return [summary_of(row) for row in rows]

    def job(self, job_id: int) -> Job:
        """Raises NoSuchJob."""
        found = self._jobs(jobs.c.id == job_id, limit=1)
        if not found:
            raise NoSuchJob(f"there is no job {job_id}")
        return found[0]

    def jobs(
        self, *, state: JobState | None = None, event_id: int | None = None, limit: int = 50
    ) -> list[Job]:
        """The newest jobs first."""
        wanted = []
        if state is not None:
            wanted.append(jobs.c.state == state)
        if event_id is not None:
            wanted.append(jobs.c.event_id == event_id)
        return self._jobs(*wanted, limit=limit)

    def _jobs(self, *wanted: ColumnElement[bool], limit: int) -> list[Job]:
        query = select(jobs).where(*wanted).order_by(jobs.c.id.desc()).limit(limit)
        rows = self._read(lambda connection: connection.execute(query).all())
        return [job_of(row) for row in rows]

    def attempts(self, job_id: int) -> list[Attempt]:
        """In their order."""
        query = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.number)
        return [attempt_of(row) for row in self._read(lambda connection: connection.execute(query).all())]

    def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        rows = self._read(lambda connection: connection.execute(query).all())
        return {JobState(state): count for state, count in rows}

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise StoreUnavailable(f"the store cannot be read: {getattr(error, 'orig', error)}") from error
