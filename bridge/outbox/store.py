"""Outbox: the durable store of events, jobs and attempts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select

from bridge.core.attempt_result import AttemptResult
from bridge.core.errors import BodyGone, NoSuchEvent, NoSuchJob
from bridge.core.event import Event
from bridge.core.job import Attempt, Job, JobState, NewJob
from bridge.core.metrics import Series
from bridge.core.retry import Decision
from bridge.core.task import Rate
from bridge.outbox import (
    attempt_storage,
    claims,
    counters,
    dead_job_alerts,
    event_storage,
    migrations,
    operator_actions,
    pauses,
    processes,
    rates,
    write_check,
)
from bridge.outbox.activity import Activity
from bridge.outbox.attempt_storage import Ended, end_unstarted
from bridge.outbox.audit import Audit
from bridge.outbox.claims import Claim
from bridge.outbox.database import Database
from bridge.outbox.event_storage import NewEvent
from bridge.outbox.expectations import Expectations
from bridge.outbox.filters import of_events, of_jobs, of_refused
from bridge.outbox.history import EventWithJobs, history
from bridge.outbox.listing import Listing
from bridge.outbox.operator_actions import CANCELABLE
from bridge.outbox.pauses import Pausable, Pause
from bridge.outbox.postgresql import PostgreSQL
from bridge.outbox.presence import Presence
from bridge.outbox.processes import Process
from bridge.outbox.prune import Pruned, prune
from bridge.outbox.refused_requests import NO_COUNTS, RefusedRequest, refused_of, store_refused
from bridge.outbox.row_mapping import EventSummary, attempt_of, event_of, event_row, job_of, summary_of
from bridge.outbox.schema import attempts, events, jobs, refused_requests
from bridge.outbox.sqlite import SQLite
from bridge.outbox.webhook import StoredJob, StoredWebhook, Webhook
from bridge.process.settings import Retention
from bridge.routing.route import OnDead

P = ParamSpec("P")
T = TypeVar("T")


class Outbox:
    """The store of one process. Every method may be called from any thread.

    Times are seconds since the epoch. Raises StoreUnavailable if the database cannot be reached or written.
    """

    def __init__(
        self, url: str, *, beside_a_server: bool = False, create: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Open the store, or `create` it, and upgrade its schema; `revisions` are those before and after."""
        self._clock = clock
        self._on_waiting_job: Callable[[], None] = lambda: None
        self._database: Database
        #: How long the last webhooks took, by source; the next one's commit writes them.
        self._durations: deque[tuple[str, float]] = deque()
        if url.startswith("postgres"):
            self._database = PostgreSQL(url)
        else:
            self._database = SQLite(url, checkpoints=not beside_a_server, create=create)
        #: The record of people's actions.
        self.audit = Audit(self._database, clock)
        self.listing, self.activity = Listing(self._database), Activity(self._database)
        self.expectations = Expectations(self._database, clock)
        try:
            # Reading first: most starts have nothing to upgrade, and a read does not wait for a writer.
            found = self._database.read(migrations.revision)
            upgrade = partial(migrations.upgrade, create=create)
            self.revisions = (found, found) if found == migrations.HEAD else self._database.upgrade(upgrade)
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Commit what is queued and close the database."""
        self._database.close()

    def ping(self) -> None:
        """Raise StoreUnavailable if the database does not answer, lacks its tables, or accepts no writes.

        Writing is tested only after a write has failed, so that a health check costs no commit.
        """
        self._database.require_writable()
        # A bare SELECT 1 would not touch an SQLite file.
        self._database.read(lambda connection: connection.execute(select(events.c.id).limit(1)).first())
        self._database.write_check(write_check.run)

    def presence(self) -> Presence:
        """Return a view of the other processes that deliver from this store."""
        return self._database.presence()

    def listen(self, on_waiting_job: Callable[[], None]) -> None:
        """Call `on_waiting_job` after each commit of this process, or notice of another, that a job waits."""
        self._on_waiting_job = on_waiting_job
        self._database.listen(on_waiting_job)

    def _wake(self, *, waiting: bool) -> None:
        """Wake the dispatchers of all processes if a job waits."""
        if waiting:
            self._on_waiting_job()
            self._database.announce()

    def _write(
        self, unit: Callable[Concatenate[Connection, P], T], *arguments: P.args, **named: P.kwargs
    ) -> T:
        """Run a unit of work and return once it is committed."""
        return self._database.write(lambda connection: unit(connection, *arguments, **named))

    def _all(self, query: Select[Any]) -> Sequence[Row[Any]]:
        return self._database.read(lambda connection: connection.execute(query).all())

    # Intake

    def store(self, webhook: Webhook) -> StoredWebhook:
        """Store an event and its jobs in one transaction; return once they are committed."""
        # Outside the unit of work, which may run in the only thread that writes: this compresses the body.
        row = event_row(webhook)
        self._database.require_files()
        new = NewEvent(webhook, row, self._clock(), self.expectations.active, self._durations)
        stored = self._database.write_in_batch(event_storage.store, new)
        seconds = max(0.0, self._clock() - webhook.event.received_at)
        self._durations.append((webhook.event.source, seconds))
        self._wake(waiting=any(job.state is JobState.WAITING for job in stored.jobs))
        return stored

    def store_refused(
        self, refused: Iterable[RefusedRequest], counts: Mapping[tuple[str, str], int] = NO_COUNTS
    ) -> None:
        """Store refused requests; see refused_requests.store_refused."""
        self._write(store_refused, refused, counts)

    def prune(self, retention: Retention, stop: Callable[[], bool], *, entry: int | None = None) -> Pruned:
        """Delete what is older than its retention, until `stop` returns true; see prune.prune."""
        return prune(self._database, retention, self._clock(), stop, entry)

    # Delivery

    def heartbeat(self, process: str, trouble: str | None) -> None:
        """Record that `process` delivers, and why it cannot send."""
        self._write(processes.heartbeat, process, trouble, self._clock())

    def unregister(self, process: str) -> None:
        """Record that `process` no longer delivers."""
        self._write(processes.unregister, process)

    def delivering(self, within: float) -> list[Process]:
        """Return the processes with a heartbeat in the last `within` seconds."""
        return self._database.read(partial(processes.seen, since=self._clock() - within))

    def last_accepted_at(self) -> float:
        """Return when the last of the accepted attempts started; 0 if none of the newest was accepted."""
        return self._database.read(partial(processes.last_accepted_at, now=self._clock()))

    def claim(
        self,
        *,
        free: int,
        busy: Mapping[str, int],
        per_task: int,
        lease: float,
        can_send: Callable[[Job], bool],
        excluded_tasks: Collection[str] = (),
        rates: Mapping[str, Rate] | None = None,
    ) -> Claim:
        """Claim up to `free` due jobs for `lease` seconds, and start their attempts; see claims.claim.

        `rates` are by task id. `can_send` may run in another thread.
        """
        return self._write(
            claims.claim, clock=self._clock, token=uuid4().hex, lease=lease, free=free, busy=busy,
            per_task=per_task, excluded_tasks=excluded_tasks, rates_of=rates or {}, can_send=can_send,
        )  # fmt: skip

    def record(
        self, job: Job, token: str, attempt_id: int, result: AttemptResult, decision: Decision
    ) -> bool:
        """Commit the result of an attempt; return whether it decided the job's state.

        See attempt_storage.record.
        """
        end = Ended(job, token, attempt_id, result, decision, self._clock())
        return self._database.write_in_batch(attempt_storage.record, end)

    def release(self, job: Job, token: str, due_at: float | None = None, reason: str | None = None) -> None:
        """Release the claim of a job that was not started: it waits again."""
        self._write(end_unstarted, job, token, JobState.WAITING, self._clock(), due_at, reason)

    def end_unsent(self, job: Job, token: str, state: JobState, reason: str) -> None:
        """End a claimed job that was not started."""
        self._write(end_unstarted, job, token, state, self._clock(), reason=reason)

    def abandoned_claims(self, *, everything: bool) -> list[tuple[Job, Attempt | None]]:
        """Return the jobs whose lease has ended, or all claimed ones, each with its unfinished attempt."""
        find = partial(claims.abandoned_claims, now=self._clock(), everything=everything)
        return self._database.read(find)

    def store_time(self) -> float:
        """Return the store's time, which decides when leases end."""
        return self._database.read(lambda connection: rates.store_time(connection, self._clock()))

    def correct_future_times(self, longest: float, lease: float) -> int:
        """Correct times that only a clock that was ahead can have set; see claims.correct_future_times."""
        return self._write(claims.correct_future_times, self._clock(), longest, lease)

    def restart_retry_windows(self) -> None:
        """Let ``retry.for`` of all unfinished jobs start now; see claims.restart_retry_windows."""
        self._write(claims.restart_retry_windows, self._clock())

    def create_dead_job_alerts(self, on_dead: OnDead) -> int:
        """Create jobs of `on_dead` for dead jobs without an alert; return how many."""
        now = self._clock()
        if not self._database.read(lambda connection: dead_job_alerts.pending(connection, now)):
            return 0
        made = self._write(dead_job_alerts.create, on_dead, now)
        self._wake(waiting=any(job.state is JobState.WAITING for job in made))
        return len(made)

    # Actions of people: `entry` is the number of the audit entry, see Audit.recording.

    def retry(
        self, job_id: int, again: NewJob | None, items: Sequence[NewJob] = (), *, entry: int | None = None
    ) -> JobState:
        """Retry a dead job as `again`, which today's table builds; return its new state.

        Without `again`, the `items` are stored and the dead job is skipped: it was the job of a whole route
        that exceeded its budget. Raises NoSuchJob, WrongState.
        """
        state = self._write(operator_actions.retry, job_id, again, self._clock(), items, entry)
        self._wake(waiting=state is JobState.WAITING or bool(items))
        return state

    def resolve(self, job_id: int, *, sent: bool, entry: int | None = None) -> JobState:
        """Decide whether TheEye has an unknown job; otherwise it is sent again. Return its new state.

        Raises NoSuchJob, WrongState.
        """
        state, waits = self._write(operator_actions.resolve, job_id, self._clock(), sent=sent, entry=entry)
        self._wake(waiting=waits)
        return state

    def cancel(
        self, job_id: int, expected: tuple[JobState, ...] = CANCELABLE, *, entry: int | None = None
    ) -> None:
        """Cancel a job that is in one of the `expected` states. Raises NoSuchJob, WrongState."""
        waits = self._write(operator_actions.cancel, job_id, expected, self._clock(), entry)
        self._wake(waiting=waits)

    def replay(
        self, event_id: int, new: Sequence[NewJob], *, entry: int | None = None
    ) -> tuple[StoredJob, ...]:
        """Store jobs of an event in addition to those that it has. Raises NoSuchEvent."""
        stored = self._write(operator_actions.replay, event_id, new, self._clock(), entry)
        self._wake(waiting=any(job.state is JobState.WAITING for job in stored))
        return stored

    def pause(self, kind: Pausable, name: str, *, entry: int | None = None) -> bool:
        """Pause a task, by its id, or a route; return whether it was not paused before."""
        return self._write(pauses.pause, kind, name, self._clock(), entry)

    def resume(self, kind: Pausable, name: str, *, entry: int | None = None) -> bool:
        """Resume a task or a route; return whether it was paused."""
        now = self._clock()
        if not self._database.read(lambda connection: pauses.is_paused(connection, kind, name)):
            return False
        # Before any of the jobs may be sent, and in batches, so that no other writer waits long.
        after: int | None = 0
        while after is not None:
            after = self._write(pauses.restart_retry_windows, kind, name, now, after)
        was_paused = self._write(pauses.resume, kind, name, now, entry)
        self._wake(waiting=True)
        return was_paused

    def measure(self) -> dict[Series, float]:
        """Return the numbers of ``/metrics`` that the store has."""
        return self._database.read(partial(counters.measure, now=self._clock()))

    def paused(self) -> list[Pause]:
        """Return what is paused."""
        return self._database.read(pauses.paused)

    # Reading

    def routes_and_tasks(self) -> list[tuple[str, str, str]]:
        """Return the route, task id and task name of all stored jobs."""
        return self._database.read(pauses.routes_and_tasks)

    def event(self, event_id: int) -> Event:
        """Return an event with its body. Raises NoSuchEvent, BodyGone."""
        event = self.stored_event(event_id)
        if not event.body:
            raise BodyGone(
                f"the body of event {event_id} is not stored (store_payload, BRIDGE_RETENTION). Let the "
                "sender redeliver it: that rebuilds the original dead jobs. If the body is then stored, "
                "retry jobs of `events replay` with `jobs retry`"
            )
        return event

    def stored_event(self, event_id: int) -> Event:
        """Return an event as it is stored: its body may be empty. Raises NoSuchEvent."""
        for row in self._all(select(events).where(events.c.id == event_id)):
            return event_of(row)
        raise NoSuchEvent(f"there is no event {event_id}")

    def summary(self, event_id: int) -> EventSummary:
        """Return an event without its payload. Raises NoSuchEvent."""
        found = self._summaries(events.c.id == event_id, limit=1)
        if not found:
            raise NoSuchEvent(f"there is no event {event_id}")
        return found[0]

    def events(
        self, *, source: str | None = None, since: float | None = None, limit: int = 50
    ) -> list[EventSummary]:
        """Return the newest events first."""
        return self._summaries(*of_events(source, since), limit=limit)

    def event_ids(self, *, source: str | None, since: float | None) -> list[int]:
        """Return the ids of all such events, the oldest first."""
        query = select(events.c.id).where(*of_events(source, since)).order_by(events.c.id)
        return [row.id for row in self._all(query)]

    def _summaries(self, *wanted: ColumnElement[bool], limit: int) -> list[EventSummary]:
        made = select(func.count()).where(jobs.c.event_id == events.c.id).scalar_subquery().label("jobs")
        columns = [column for column in events.c if column.name not in ("body", "headers", "query")]
        query: Select[Any] = select(*columns, made).where(*wanted).order_by(events.c.id.desc()).limit(limit)
        return [summary_of(row) for row in self._all(query)]

    def history(self, *, since: float | None, last: int | None) -> Iterator[EventWithJobs]:
        """Return the newest events first, each with its jobs; see history.history."""
        return history(self._database, since, last)

    def refused(
        self, *, source: str | None = None, since: float | None = None, limit: int = 50
    ) -> list[RefusedRequest]:
        """Return the newest refused requests first."""
        query = select(refused_requests).where(*of_refused(source, since))
        newest = query.order_by(refused_requests.c.id.desc()).limit(limit)
        return [refused_of(row) for row in self._all(newest)]

    def job(self, job_id: int) -> Job:
        """Return a job. Raises NoSuchJob."""
        found = self._jobs(jobs.c.id == job_id, limit=1)
        if not found:
            raise NoSuchJob(f"there is no job {job_id}")
        return found[0]

    def jobs(
        self,
        *,
        state: JobState | None = None,
        route: str | None = None,
        since: float | None = None,
        event_id: int | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """Return the newest jobs first; see filters.of_jobs."""
        wanted = of_jobs(state, route, since)
        if event_id is not None:
            wanted.append(jobs.c.event_id == event_id)
        return self._jobs(*wanted, limit=limit)

    def job_ids(self, state: JobState, *, route: str | None, since: float | None) -> list[int]:
        """Return the ids of all such jobs, the oldest first."""
        query = select(jobs.c.id).where(*of_jobs(state, route, since)).order_by(jobs.c.id)
        return [row.id for row in self._all(query)]

    def _jobs(self, *wanted: ColumnElement[bool], limit: int) -> list[Job]:
        query = select(jobs).where(*wanted).order_by(jobs.c.id.desc()).limit(limit)
        return [job_of(row) for row in self._all(query)]

    def attempts(self, job_id: int) -> list[Attempt]:
        """Return the attempts of a job in their order."""
        query = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.number)
        return [attempt_of(row) for row in self._all(query)]

    def counts(self) -> dict[JobState, int]:
        """Return how many jobs are in each state."""
        query = select(jobs.c.state, func.count().label("jobs")).group_by(jobs.c.state)
        return {JobState(row.state): row.jobs for row in self._all(query)}
