"""Outbox: the durable store of events, jobs and attempts."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select

from bridge.errors import BodyGone, NoSuchEvent, NoSuchJob
from bridge.event import Event
from bridge.job import Attempt, Job, JobState, NewJob
from bridge.outbox import claims, deaths, groups, intake, migrations, pauses, people, processes, rates, trial
from bridge.outbox.audit import Action, Audit, AuditEntry
from bridge.outbox.claims import Claim, Completion
from bridge.outbox.database import Database
from bridge.outbox.filters import of_events, of_jobs, of_refused
from bridge.outbox.pauses import Pausable, Pause
from bridge.outbox.people import CANCELABLE
from bridge.outbox.postgresql import PostgreSQL
from bridge.outbox.presence import Presence
from bridge.outbox.processes import Process
from bridge.outbox.recorded import Recorded, history
from bridge.outbox.records import EventSummary, attempt_of, event_of, event_row, job_of, summary_of
from bridge.outbox.refusals import KEPT, RefusedRequest, keep, refused_of
from bridge.outbox.retention import Pruned, prune
from bridge.outbox.schema import IS_READY, attempts, events, jobs, refusals
from bridge.outbox.schema import processes as processes_table
from bridge.outbox.sqlite import SQLite
from bridge.outbox.webhook import Stored, StoredJob, Webhook
from bridge.retry import Decision
from bridge.route import OnDead, Rate
from bridge.settings import Retention

__all__ = [
    "CANCELABLE", "KEPT", "Action", "AuditEntry", "Claim", "Completion", "EventSummary", "Outbox",
    "Pausable", "Pause", "Process", "Pruned", "Recorded", "RefusedRequest", "Stored", "StoredJob",
    "Webhook",
]  # fmt: skip


class Outbox:
    """The store of one process. Every method may be called from any thread.

    Raises StoreUnavailable where the database cannot be reached or written.
    """

    def __init__(
        self, url: str, *, beside_a_server: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        """Opens the store and brings its schema up to date; `revisions` says from where to where."""
        self._clock = clock
        self._woken: Callable[[], None] = lambda: None
        self._database: Database
        if url.startswith("postgres"):
            self._database = PostgreSQL(url)
        else:
            self._database = SQLite(url, checkpoints=not beside_a_server)
        #: What people did.
        self.audit = Audit(self._database, clock)
        try:
            # Most starts find it up to date: to ask writes nothing, and waits for nobody who does.
            found = self._database.read(migrations.revision)
            up_to_date = found == migrations.HEAD
            self.revisions = (found, found) if up_to_date else self._database.upgrade(migrations.upgrade)
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Commit what has gathered and close the database."""
        self._database.close()

    def ping(self) -> None:
        """Raises StoreUnavailable where the database does not answer, lacks its tables, or takes no writes.

        That it takes them is tried only after a write has failed: whoever asks must not cost a commit.
        """
        self._database.require()
        # A bare SELECT 1 would not touch an SQLite file.
        self._database.read(lambda connection: connection.execute(select(events.c.id).limit(1)).first())
        self._database.prove(trial.run)

    def presence(self) -> Presence:
        """Says whether other processes deliver from this store."""
        return self._database.presence()

    def listen(self, woken: Callable[[], None]) -> None:
        """Call `woken` after a commit that left a job waiting: each one here, and those that are heard of."""
        self._woken = woken
        self._database.listen(woken)

    def _job_waits(self) -> None:
        self._woken()
        self._database.announce()

    # Intake

    def store(self, webhook: Webhook) -> Stored:
        """Store an event and its jobs in one transaction; returns once they are committed."""
        # Made here, as it compresses the body: one thread may write for all.
        row = event_row(webhook)
        self._database.require_files()
        stored = self._database.write(lambda session: intake.store(session, webhook, row, self._clock()))
        if any(job.state is JobState.WAITING for job in stored.jobs):
            self._job_waits()
        return stored

    def keep_refused(self, refused: Iterable[RefusedRequest]) -> None:
        """Store requests that were refused; of each source the last KEPT stay."""
        self._database.write(lambda connection: keep(connection, refused))

    def prune(self, retention: Retention, stop: Callable[[], bool], *, entry: int | None = None) -> Pruned:
        """Let go of what is older than it is kept, until `stop` says so; see retention.prune."""
        return prune(self._database, retention, self._clock(), stop, entry)

    # Delivery

    def beat(self, process: str, trouble: str | None) -> None:
        """Say that `process` delivers, and what keeps it from sending."""
        now = self._clock()
        self._database.write(lambda connection: processes.beat(connection, process, trouble, now))

    def leave(self, process: str) -> None:
        """Say that `process` delivers no more."""
        self._database.write(lambda connection: processes.leave(connection, process))

    def delivering(self, within: float) -> list[Process]:
        """The processes that said within so many seconds that they deliver."""
        seen = processes_table.c.beat_at >= self._clock() - within
        query = select(processes_table).where(seen).order_by(processes_table.c.id)
        return [Process(row.beat_at, row.trouble) for row in self._all(query)]

    def claim(
        self,
        *,
        free: int,
        busy: Mapping[str, int],
        per_task: int,
        lease: float,
        but: Collection[str] = (),
        rates: Mapping[str, Rate] | None = None,
    ) -> Claim:
        """Up to `free` due jobs; see claims.claim. `lease` in seconds; `rates` by the task's id."""
        claim = partial(claims.claim, now=self._clock(), token=uuid4().hex, lease=lease)
        return self._database.write(
            partial(claim, free=free, busy=busy, per_task=per_task, but=but, rates_of=rates or {})
        )

    def start(self, job: Job, token: str, at: float, rate: Rate | None = None) -> int | None:
        """Commit that an attempt begins; its id, or None where the claim is no longer held.

        None also where `rate` is used up: the job waits then until more may start.
        """

        def work(connection: Connection) -> int | None:
            # Units of work are not done in the order of their calls, but a rate is counted in theirs.
            begins = at if rate is None else self._clock()
            return claims.start(connection, job, token, begins, rate)

        return self._database.write(work)

    def record(self, job: Job, token: str, attempt_id: int, done: Completion, decision: Decision) -> bool:
        """Commit what an attempt came to; False where its job has moved on. See claims.record."""
        now = self._clock()
        return self._database.write(
            lambda connection: claims.record(connection, job, token, attempt_id, done, decision, now)
        )

    def hand_back(self, job: Job, token: str, due_at: float | None = None, reason: str | None = None) -> None:
        """Set a claimed job that was not started waiting again."""
        now = self._clock()
        self._database.write(lambda connection: claims.hand_back(connection, job, token, now, due_at, reason))

    def end_unsent(self, job: Job, token: str, state: JobState, reason: str) -> None:
        """Let a claimed job that was not started come to its end."""
        now = self._clock()
        self._database.write(lambda connection: claims.end_unsent(connection, job, token, state, reason, now))

    def left_behind(self, *, everything: bool) -> list[tuple[Job, Attempt | None]]:
        """Claimed jobs whose lease has ended (or all of them), with the attempt that never ended."""
        find = partial(claims.left_behind, now=self._clock(), everything=everything)
        return self._database.read(find)

    def now(self) -> float:
        """The store's time, by which leases go."""
        return self._database.read(lambda connection: rates.clock(connection, self._clock()))

    def bring_forward(self, longest: float, lease: float) -> int:
        """Make due what waits for longer than `longest` seconds; see claims.bring_forward."""
        bring = partial(claims.bring_forward, now=self._clock(), longest=longest, lease=lease)
        return self._database.write(bring)

    def renew(self) -> None:
        """Let the time for which jobs are tried again begin anew; see claims.renew."""
        self._database.write(partial(claims.renew, now=self._clock()))

    def next_due(self) -> float | None:
        """When the next job is due that no other of its group blocks, seconds since the epoch, or None."""
        at: float | None = self._all(select(func.min(jobs.c.due_at)).where(IS_READY))[0][0]
        return at

    def free_groups(self) -> int:
        """Let the groups go on that nobody has passed on; how many."""
        now = self._clock()
        stuck = self._database.read(groups.stuck)
        return sum(
            self._database.write(partial(groups.free, task_id=task, group=name, now=now))
            for task, name in stuck
        )

    def tell_of_deaths(self, on_dead: OnDead) -> int:
        """Make jobs of `on_dead` for what died and nobody was told of; how many."""
        now = self._clock()
        if not self._database.read(lambda connection: deaths.untold(connection, now)):
            return 0
        made = self._database.write(lambda connection: deaths.tell(connection, on_dead, now))
        if any(job.state is JobState.WAITING for job in made):
            self._job_waits()
        return len(made)

    # People

    # `entry` is the number of the audit's entry; see Audit.recording.

    def retry(
        self, job_id: int, again: NewJob | None, items: Sequence[NewJob] = (), *, entry: int | None = None
    ) -> JobState:
        """Set a dead job waiting as `again`, which today's table makes; its state now.

        Without `again` the `items` are stored instead: the jobs of single items, if the dead job stands for a
        whole route that was over its budget. The dead job is then skipped. Raises NoSuchJob, WrongState.
        """
        now = self._clock()
        state = self._database.write(
            lambda connection: people.retry(connection, job_id, again, now, items, entry)
        )
        if state is JobState.WAITING or items:
            self._job_waits()
        return state

    def resolve(self, job_id: int, *, sent: bool, entry: int | None = None) -> JobState:
        """Say of an unknown job that TheEye has it, or that it must be sent again; its state now.

        Raises NoSuchJob, WrongState.
        """
        now = self._clock()
        state, waits = self._database.write(
            lambda connection: people.resolve(connection, job_id, now, sent=sent, entry=entry)
        )
        if waits:
            self._job_waits()
        return state

    def cancel(
        self, job_id: int, expected: tuple[JobState, ...] = CANCELABLE, *, entry: int | None = None
    ) -> None:
        """Let a job that is in one of these states never be sent. Raises NoSuchJob, WrongState."""
        now = self._clock()
        if self._database.write(lambda connection: people.cancel(connection, job_id, expected, now, entry)):
            self._job_waits()

    def replay(
        self, event_id: int, new: Sequence[NewJob], *, entry: int | None = None
    ) -> tuple[StoredJob, ...]:
        """Store jobs of an event beside those that it has made. Raises NoSuchEvent."""
        now = self._clock()
        stored = self._database.write(lambda connection: people.replay(connection, event_id, new, now, entry))
        if any(job.state is JobState.WAITING for job in stored):
            self._job_waits()
        return stored

    def pause(self, kind: Pausable, name: str, *, entry: int | None = None) -> bool:
        """Let the jobs of a task (by its id) or a route wait; False where they do already."""
        now = self._clock()
        return self._database.write(lambda connection: pauses.pause(connection, kind, name, now, entry))

    def resume(self, kind: Pausable, name: str, *, entry: int | None = None) -> bool:
        """Let them go on; False where they were not paused."""
        now = self._clock()
        if not self._database.read(lambda connection: pauses.is_paused(connection, kind, name)):
            return False
        while self._database.write(lambda connection: pauses.renew(connection, kind, name, now)):
            pass  # a few at a time, so that nobody waits long; before any of them may go
        was = self._database.write(lambda connection: pauses.resume(connection, kind, name, entry))
        self._job_waits()
        return was

    def paused(self) -> list[Pause]:
        """What is paused now."""
        return self._database.read(pauses.paused)

    # Reading

    def named(self) -> list[tuple[str, str, str]]:
        """See pauses.named."""
        return self._database.read(pauses.named)

    def event(self, event_id: int) -> Event:
        """Raises NoSuchEvent, BodyGone."""
        event = self.rest_of_event(event_id)
        if not event.body:
            raise BodyGone(
                f"the body of event {event_id} is not kept (store_payload: of its source, or "
                f"BRIDGE_RETENTION); let {event.source} send it again: its dead jobs are then built anew, "
                "but for replayed ones; retry these afterwards, if store_payload: lets the body be stored"
            )
        return event

    def rest_of_event(self, event_id: int) -> Event:
        """The event as far as it is kept: without its body, that is empty. Raises NoSuchEvent."""
        rows = self._all(select(events).where(events.c.id == event_id))
        if not rows:
            raise NoSuchEvent(f"there is no event {event_id}")
        return event_of(rows[0])

    def summary(self, event_id: int) -> EventSummary:
        """Raises NoSuchEvent."""
        found = self._summaries(events.c.id == event_id, limit=1)
        if not found:
            raise NoSuchEvent(f"there is no event {event_id}")
        return found[0]

    def events(
        self, *, source: str | None = None, since: float | None = None, limit: int = 50
    ) -> list[EventSummary]:
        """The newest events first; `since` in seconds since the epoch."""
        return self._summaries(*of_events(source, since), limit=limit)

    def event_ids(self, *, source: str | None, since: float | None) -> list[int]:
        """The numbers of all such events, the oldest first."""
        query = select(events.c.id).where(*of_events(source, since)).order_by(events.c.id)
        return [row.id for row in self._all(query)]

    def _summaries(self, *wanted: ColumnElement[bool], limit: int) -> list[EventSummary]:
        made = select(func.count()).where(jobs.c.event_id == events.c.id).scalar_subquery().label("jobs")
        columns = [column for column in events.c if column.name not in ("body", "headers", "query")]
        query: Select[Any] = select(*columns, made).where(*wanted).order_by(events.c.id.desc()).limit(limit)
        return [summary_of(row) for row in self._all(query)]

    def history(self, *, since: float | None, last: int | None) -> Iterator[Recorded]:
        """The newest events first with the jobs of each; see recorded.history."""
        return history(self._database, since, last)

    def refused(
        self, *, source: str | None = None, since: float | None = None, limit: int = 50
    ) -> list[RefusedRequest]:
        """The newest refused requests first; `since` in seconds since the epoch."""
        query = select(refusals).where(*of_refused(source, since)).order_by(refusals.c.id.desc()).limit(limit)
        return [refused_of(row) for row in self._all(query)]

    def job(self, job_id: int) -> Job:
        """Raises NoSuchJob."""
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
        """The newest jobs first; see filters.of_jobs."""
        wanted = of_jobs(state, route, since)
        if event_id is not None:
            wanted.append(jobs.c.event_id == event_id)
        return self._jobs(*wanted, limit=limit)

    def job_ids(self, state: JobState, *, route: str | None, since: float | None) -> list[int]:
        """The numbers of all such jobs, the oldest first."""
        query = select(jobs.c.id).where(*of_jobs(state, route, since)).order_by(jobs.c.id)
        return [row.id for row in self._all(query)]

    def _jobs(self, *wanted: ColumnElement[bool], limit: int) -> list[Job]:
        query = select(jobs).where(*wanted).order_by(jobs.c.id.desc()).limit(limit)
        return [job_of(row) for row in self._all(query)]

    def attempts(self, job_id: int) -> list[Attempt]:
        """In their order."""
        query = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.number)
        return [attempt_of(row) for row in self._all(query)]

    def counts(self) -> dict[JobState, int]:
        """How many jobs are in each state."""
        query = select(jobs.c.state, func.count().label("jobs")).group_by(jobs.c.state)
        return {JobState(row.state): row.jobs for row in self._all(query)}

    def _all(self, query: Select[Any]) -> Sequence[Row[Any]]:
        return self._database.read(lambda connection: connection.execute(query).all())
