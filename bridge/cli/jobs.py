"""The jobs in the outbox, and what a person may do to them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import click

from bridge.cli.actor import Actor, as_actor
from bridge.cli.names import require_route
from bridge.cli.selection import Selection, jobs_since, of_route, some_jobs
from bridge.cli.terminal import NUMBER, Terminal, as_json, limited
from bridge.core.errors import BodyGone, NoSuchJob, WrongState
from bridge.core.job import Job, JobState, NewJob
from bridge.core.redaction import is_redacted
from bridge.outbox.operator_actions import CANCELABLE
from bridge.outbox.store import Outbox
from bridge.report import rows
from bridge.routing.route import OnDead
from bridge.routing.routing_table import RoutingTable

#: Why a route may not match that did.
MAY_NEED = "its route may need a field that was redacted: ask the sender to send it again"

#: What becomes of one job: what is said of it, and whether it is what was wanted. It gets the job's number
#: and that of the audit's entry.
Deed = Callable[[Outbox, int, int], tuple[str, bool]]


@dataclass(frozen=True)
class Order:
    """What a person wants done to some jobs."""

    actor: Actor
    selection: Selection
    #: As the audit calls it.
    name: str
    #: As the question calls it.
    asked: str
    #: Of the jobs that a filter finds, unless it says another.
    state: JobState
    newest_first: bool = False


@click.group()
def jobs() -> None:
    """The jobs in the outbox."""


@jobs.command("list")
@click.option("--state", type=click.Choice([*map(str, JobState)]), help="Only those in this state.")
@of_route
@jobs_since
@limited
@as_json
@click.pass_obj
def list_jobs(
    terminal: Terminal, state: str | None, route: str | None, since: float | None, limit: int, in_json: bool
) -> None:
    """The newest jobs first."""
    with terminal.outbox() as outbox:
        wanted = JobState(state) if state else None
        found = outbox.jobs(state=wanted, route=route, since=since, limit=limit)
        if route is not None and not found:
            require_route(terminal, outbox, route)
        paused = outbox.paused()
    if in_json:
        terminal.say_json([rows.job_json(job) for job in found])
    else:
        terminal.say([rows.job_line(job) for job in found] or ["no jobs"])
        for pause in paused:
            terminal.warn(rows.pause_line(pause, {job.task_id: job.task for job in found}))


@jobs.command("show")
@click.argument("job_id", type=NUMBER)
@as_json
@click.pass_obj
def show_job(terminal: Terminal, job_id: int, in_json: bool) -> None:
    """One job with its attempts."""
    with terminal.outbox() as outbox:
        job, attempts = outbox.job(job_id), outbox.attempts(job_id)
        paused = [pause for pause in outbox.paused() if pause.holds(job)]
    if in_json:
        shown = {**rows.job_json(job), "attempts": [rows.attempt_json(attempt) for attempt in attempts]}
        terminal.say_json(shown)
    else:
        terminal.say(rows.job_lines(job, attempts))
        for pause in paused:
            terminal.warn(rows.pause_line(pause, {job.task_id: job.task}))


@jobs.command("retry")
@some_jobs(JobState.DEAD)
@as_actor
@click.pass_obj
def retry_jobs(terminal: Terminal, selection: Selection, actor: Actor) -> None:
    """Send dead jobs again, with arguments built anew by today's table."""
    again = _Again(terminal.load().table)

    def retry(outbox: Outbox, job_id: int, entry: int) -> tuple[str, bool]:
        job = outbox.job(job_id)
        new, items = again.job(outbox, job), again.items(job)
        state = outbox.retry(job_id, new, items, entry=entry)
        if state is JobState.WAITING:
            return "waits to be sent", True
        if new is None and items:
            return f"is {state}: {outbox.job(job_id).reason}", True
        hint = f"; {MAY_NEED}" if new is None and again.event_is_redacted else ""
        stays = "stays" if state is JobState.DEAD else "is"
        return f"{stays} {state}: {outbox.job(job_id).reason}{hint}", False

    _do(terminal, Order(actor, selection, "jobs retry", "send again", JobState.DEAD), retry)


@jobs.command("cancel")
@some_jobs(*CANCELABLE)
@as_actor
@click.pass_obj
def cancel_jobs(terminal: Terminal, selection: Selection, actor: Actor) -> None:
    """Let jobs that wait, are dead or unknown never be sent. The newest first."""
    default = JobState.WAITING
    # What a filter found may be in another state by now, of which the person was not asked.
    states = CANCELABLE if selection.numbers else (selection.state or default,)

    def cancel(outbox: Outbox, job_id: int, entry: int) -> tuple[str, bool]:
        outbox.cancel(job_id, states, entry=entry)
        return "is canceled", True

    # The oldest of a group holds back the others: without it the next would be sent.
    _do(terminal, Order(actor, selection, "jobs cancel", "cancel", default, newest_first=True), cancel)


@jobs.command("resolve")
@some_jobs(JobState.UNKNOWN)
@click.option("--sent", "answer", flag_value="sent", help="TheEye has them.")
@click.option("--again", "answer", flag_value="again", help="TheEye does not have them: send them again.")
@as_actor
@click.pass_obj
def resolve_jobs(terminal: Terminal, selection: Selection, answer: str | None, actor: Actor) -> None:
    """Say of unknown jobs whether TheEye has them."""
    if answer is None:
        raise click.UsageError("say --sent, where TheEye has them, or --again, where it does not")
    is_sent = answer == "sent"

    def resolve(outbox: Outbox, job_id: int, entry: int) -> tuple[str, bool]:
        state = outbox.resolve(job_id, sent=is_sent, entry=entry)
        if state is JobState.SKIPPED:
            return f"is {state}: {outbox.job(job_id).reason}", False
        return "is accepted" if is_sent else "waits to be sent", True

    asked = "take for accepted" if is_sent else "send again"
    _do(terminal, Order(actor, selection, f"jobs resolve --{answer}", asked, JobState.UNKNOWN), resolve)


def _do(terminal: Terminal, order: Order, deed: Deed) -> None:
    """Do it to one after the other and say what came of it; ends with 1 where one came to something else."""
    selection, state = order.selection, order.selection.state or order.state
    with terminal.outbox() as outbox:
        chosen = selection.numbers or outbox.job_ids(state, route=selection.route, since=selection.since)
        if selection.route is not None and not chosen:
            require_route(terminal, outbox, selection.route)
        selection.confirm(chosen, f"{state} job", order.asked)
        if not chosen:
            return
        action = order.actor.action(order.name, selection.target("jobs", state), len(chosen))
        with outbox.audit.recording(action) as entry:
            in_order = sorted(chosen, reverse=True) if order.newest_first else chosen
            done = [_do_one(terminal, deed, outbox, job_id, entry) for job_id in in_order]
    said = Counter(came_to.partition(":")[0] for came_to, _ in done)
    if said.total() > 1:
        terminal.say([", ".join(f"{came_to}: {count}" for came_to, count in said.items())])
    if not all(is_done for _, is_done in done):
        sys.exit(1)


def _do_one(terminal: Terminal, deed: Deed, outbox: Outbox, job_id: int, entry: int) -> tuple[str, bool]:
    try:
        came_to, is_done = deed(outbox, job_id, entry)
        line = f"job {job_id} {came_to}"
    except (BodyGone, NoSuchJob, WrongState) as error:
        came_to, is_done, line = "left alone", False, str(error)
    if is_done:
        terminal.say([line])
    else:
        terminal.warn(line)
    return came_to, is_done


class _Again:
    """The jobs that today's table makes of stored events; an event's are made once for all of its jobs."""

    def __init__(self, table: RoutingTable) -> None:
        self._table = table
        self._event_id: int | None = None
        self._made: Mapping[tuple[str, str], NewJob] = {}
        #: Whether a field of the event that was asked for last is not what the sender sent.
        self.event_is_redacted = False

    def job(self, outbox: Outbox, job: Job) -> NewJob | None:
        """What the table makes today in place of a job; None where it makes none."""
        if job.route == OnDead.NAME:
            return self._telling(outbox, job)
        if job.event_id != self._event_id:
            event = outbox.event(job.event_id)
            self._made = self._table.rebuild_jobs(event)
            self.event_is_redacted = is_redacted(event)
            self._event_id = job.event_id
        made = self._made.get((job.route, job.item_key))
        if made is None and (whole := self._made.get((job.route, ""))) is not None:
            # The route is not evaluated to its end, so nothing is known of its items but why.
            made = replace(whole, item_key=job.item_key, item_index=job.item_index)
            return made if made.arguments is None else None
        return made

    def items(self, job: Job) -> list[NewJob]:
        """The jobs for single items of the event asked for last, in place of the one of its route."""
        if job.item_key or job.route == OnDead.NAME:
            return []
        return [made for (route, key), made in self._made.items() if key and route == job.route]

    def _telling(self, outbox: Outbox, job: Job) -> NewJob | None:
        died, dead = OnDead.parse_item_key(job.item_key)
        return None if self._table.on_dead is None else self._table.on_dead.job_for(outbox.job(died), dead)
