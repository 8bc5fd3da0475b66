"""What a person may do to stored jobs and events: retry, cancel, resolve and replay, each one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bridge.core.errors import BodyGone, NoSuchEvent, NoSuchJob, OutboxError, WrongState
from bridge.core.job import Job, JobState, NewJob
from bridge.core.redaction import is_redacted
from bridge.intake.dead_jobs import dead_jobs
from bridge.outbox.operator_actions import CANCELABLE
from bridge.outbox.store import Outbox
from bridge.outbox.webhook import StoredJob
from bridge.routing.route import OnDead
from bridge.routing.routing_table import RoutingTable

#: The hint if a route no longer matches.
MAY_NEED = "its route may need a redacted field: let the sender send the webhook again"


@dataclass(frozen=True)
class Changed:
    """The result of one change."""

    #: What follows ``job 7`` in a sentence, or a whole sentence if it was not changed.
    text: str
    #: Whether it is the result that the person wants.
    is_done: bool
    #: Why it was not changed.
    error: OutboxError | None = None
    #: The jobs that a replay created.
    jobs: tuple[StoredJob, ...] = ()
    #: For each job of a replay that is dead, and each route that could not be evaluated, why.
    warnings: tuple[str, ...] = ()

    @property
    def is_changed(self) -> bool:
        return self.error is None

    def line(self, subject: str) -> str:
        """Return the result as a line."""
        return f"{subject} {self.text}" if self.is_changed else self.text


@dataclass(frozen=True)
class Order:
    """A change that may be made to many jobs."""

    #: Its name in the audit.
    name: str
    #: For the question.
    verb: str
    #: The states of the jobs that it accepts, the usual one first.
    states: tuple[JobState, ...]
    #: The oldest job of a group blocks the others: it is canceled last.
    newest_first: bool = False


ORDERS: Mapping[str, Order] = {
    "retry": Order("jobs retry", "retry", (JobState.DEAD,)),
    "cancel": Order(
        "jobs cancel", "cancel", CANCELABLE, newest_first=True,
    ),
    "sent": Order("jobs resolve --sent", "mark as accepted", (JobState.UNKNOWN,)),
    "again": Order("jobs resolve --again", "send again", (JobState.UNKNOWN,)),
}  # fmt: skip


class Changes:
    """Changes jobs and events of a store. Each event is routed once for all its jobs, if they follow."""

    def __init__(self, outbox: Outbox, table: RoutingTable | None) -> None:
        """`table` builds jobs again; `retry` and `replay` need it."""
        self._outbox = outbox
        self._given_table = table
        self._event_id: int | None = None
        self._made: Mapping[tuple[str, str], NewJob] = {}
        self._is_redacted = False

    def refusal(self, job_id: int, states: tuple[JobState, ...]) -> Changed | None:
        """Return why a job cannot be changed, or None. Such a job needs no entry of the audit."""
        try:
            job = self._outbox.job(job_id)
        except NoSuchJob as error:
            return Changed(str(error), is_done=False, error=error)
        if job.state in states:
            return None
        wrong = WrongState(f"job {job_id} is {job.state}, expected {' or '.join(states)}")
        return Changed(str(wrong), is_done=False, error=wrong)

    def replay_refusal(self, event_id: int) -> Changed | None:
        """Return that there is no such event, or None."""
        try:
            self._outbox.summary(event_id)
        except NoSuchEvent as error:
            return Changed(str(error), is_done=False, error=error)
        return None

    def change(self, order: str, job_id: int, entry: int, states: tuple[JobState, ...]) -> Changed:
        """Change one job by one of ORDERS; `states` are those that a person was shown."""
        try:
            if order == "retry":
                return self._retry(job_id, entry)
            if order == "cancel":
                self._outbox.cancel(job_id, states, entry=entry)
                return Changed("is canceled", is_done=True)
            return self._resolve(job_id, entry, sent=order == "sent")
        except (BodyGone, NoSuchJob, WrongState) as error:
            return Changed(str(error), is_done=False, error=error)

    def replay(self, event_id: int, entry: int) -> Changed:
        """Create an event's jobs again; its existing jobs do not change."""
        try:
            event = self._outbox.event(event_id)
        except (BodyGone, NoSuchEvent) as error:
            return Changed(str(error), is_done=False, error=error)
        source = self._table.sources.get(event.source)
        if source is None:
            return Changed(f"the table has no source {event.source!r}", is_done=False)
        if source.type.is_setup_event(event):
            return Changed(
                f"{event.full_name} is a test or confirmation of the sender: no jobs", is_done=True
            )
        routed = self._table.jobs_for(event)
        made = self._outbox.replay(event_id, routed.jobs, entry=entry)
        created = ", ".join(f"{job.id} ({job.route}: {job.state})" for job in made)
        dead = [text % fields for text, fields in dead_jobs(self._table, event_id, routed.jobs, made)]
        text, warnings = f"jobs {created}" if made else "no jobs", (*dead, *routed.warnings)
        return Changed(text, is_done=True, jobs=made, warnings=warnings)

    @property
    def _table(self) -> RoutingTable:
        if self._given_table is None:
            raise ValueError("no table")
        return self._given_table

    def _retry(self, job_id: int, entry: int) -> Changed:
        job = self._outbox.job(job_id)
        new, items = self._rebuilt(job), self._items(job)
        state = self._outbox.retry(job_id, new, items, entry=entry)
        if state is JobState.WAITING:
            return Changed("is waiting to be sent", is_done=True)
        reason = self._outbox.job(job_id).reason
        if new is None and items:
            return Changed(f"is {state}: {reason}", is_done=True)
        hint = f"; {MAY_NEED}" if new is None and self._is_redacted else ""
        stays = "stays" if state is JobState.DEAD else "is"
        return Changed(f"{stays} {state}: {reason}{hint}", is_done=False)

    def _resolve(self, job_id: int, entry: int, *, sent: bool) -> Changed:
        state = self._outbox.resolve(job_id, sent=sent, entry=entry)
        if state is JobState.SKIPPED:
            return Changed(f"is {state}: {self._outbox.job(job_id).reason}", is_done=False)
        return Changed("is accepted" if sent else "is waiting to be sent", is_done=True)

    def _rebuilt(self, job: Job) -> NewJob | None:
        """Return the job that the current table creates in place of `job`; None if it creates none."""
        if job.route == OnDead.NAME:
            died, dead = OnDead.parse_item_key(job.item_key)
            on_dead = self._table.on_dead
            return None if on_dead is None else on_dead.job_for(self._outbox.job(died), dead)
        if job.event_id != self._event_id:
            event = self._outbox.event(job.event_id)
            self._made = self._table.rebuild_jobs(event)
            self._is_redacted = is_redacted(event)
            self._event_id = job.event_id
        made = self._made.get((job.route, job.item_key))
        if made is None and (whole := self._made.get((job.route, ""))) is not None:
            # The route failed as a whole, so the reason is the same for each item.
            made = replace(whole, item_key=job.item_key, item_index=job.item_index)
            return made if made.arguments is None else None
        return made

    def _items(self, job: Job) -> list[NewJob]:
        """Return the jobs of single items of the last event, in place of the one job of its route."""
        if job.item_key or job.route == OnDead.NAME:
            return []
        return [made for (route, key), made in self._made.items() if key and route == job.route]
