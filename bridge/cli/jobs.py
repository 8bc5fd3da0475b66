"""The commands ``jobs``: list, show, retry, cancel and resolve stored jobs."""

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
from bridge.report.jobs import JOB_HEADING, attempt_json, job_json, job_line, job_lines, pause_line
from bridge.report.lines import with_heading
from bridge.routing.route import OnDead
from bridge.routing.routing_table import RoutingTable

#: The hint if a route no longer matches.
MAY_NEED = "its route may need a redacted field: let the sender send the webhook again"

#: Changes one job; gets its number and that of the audit's entry. Returns the result in words, and whether it
#: is the one that the person wants.
Change = Callable[[Outbox, int, int], tuple[str, bool]]


@dataclass(frozen=True)
class Order:
    """A person's order to change some jobs."""

    actor: Actor
    selection: Selection
    #: Its name in the audit.
    name: str
    #: The verb of the question.
    verb: str
    #: The default state for a filter.
    state: JobState
    newest_first: bool = False


@click.group()
def jobs() -> None:
    """List, show, retry, cancel and resolve jobs."""


@jobs.command("list")
@click.option(
    "--state",
    type=click.Choice([*map(str, JobState)]),
    metavar="STATE",
    help="Select only jobs in this state, such as dead.",
)
@of_route
@jobs_since
@limited
@as_json
@click.pass_obj
def list_jobs(
    terminal: Terminal, state: str | None, route: str | None, since: float | None, limit: int, in_json: bool
) -> None:
    """List jobs, newest first.

    STATE is waiting, sending, accepted, dead, unknown, skipped or canceled. For a job that has not ended,
    --since uses the time of its creation.
    """
    with terminal.outbox(shows_name=True) as outbox:
        wanted = JobState(state) if state else None
        listed = outbox.jobs(state=wanted, route=route, since=since, limit=limit)
        if route is not None and not listed:
            require_route(terminal, outbox, route)
        paused = outbox.paused()
    if in_json:
        terminal.say_json([job_json(job) for job in listed])
    else:
        terminal.say(with_heading(JOB_HEADING, map(job_line, listed), "no jobs"))
        for pause in paused:
            terminal.warn(pause_line(pause, {job.task_id: job.task for job in listed}))


@jobs.command("show")
@click.argument("job_id", type=NUMBER)
@as_json
@click.pass_obj
def show_job(terminal: Terminal, job_id: int, in_json: bool) -> None:
    """Show a job with its attempts."""
    with terminal.outbox() as outbox:
        job, attempts = outbox.job(job_id), outbox.attempts(job_id)
        paused = [pause for pause in outbox.paused() if pause.holds(job)]
    if in_json:
        shown = {**job_json(job), "attempts": [attempt_json(attempt) for attempt in attempts]}
        terminal.say_json(shown)
    else:
        terminal.say(job_lines(job, attempts))
        for pause in paused:
            terminal.warn(pause_line(pause, {job.task_id: job.task}))


@jobs.command("retry")
@some_jobs(JobState.DEAD)
@as_actor
@click.pass_obj
def retry_jobs(terminal: Terminal, selection: Selection, actor: Actor) -> None:
    """Retry dead jobs, with arguments from the current table.

    Give job numbers, or a filter: --state, --route or --since.
    """
    again = _Again(terminal.load().table)

    def retry(outbox: Outbox, job_id: int, entry: int) -> tuple[str, bool]:
        job = outbox.job(job_id)
        new, items = again.job(outbox, job), again.items(job)
        state = outbox.retry(job_id, new, items, entry=entry)
        if state is JobState.WAITING:
            return "is waiting to be sent", True
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
    """Cancel jobs that are waiting, dead or unknown.

    Give job numbers, or a filter: --state, --route or --since. For a job that has not ended, --since uses the
    time of its creation. The newest job is canceled first.
    """
    default = JobState.WAITING
    # A job may have another state by now, about which the person was not asked.
    states = CANCELABLE if selection.numbers else (selection.state or default,)

    def cancel(outbox: Outbox, job_id: int, entry: int) -> tuple[str, bool]:
        outbox.cancel(job_id, states, entry=entry)
        return "is canceled", True

    # The oldest job of a group blocks the others: cancel it last.
    _do(terminal, Order(actor, selection, "jobs cancel", "cancel", default, newest_first=True), cancel)


@jobs.command("resolve")
@some_jobs(JobState.UNKNOWN)
@click.option("--sent", "answer", flag_value="sent", help="Mark them as accepted: TheEye has them.")
@click.option("--again", "answer", flag_value="again", help="Send them again: TheEye does not have them.")
@as_actor
@click.pass_obj
def resolve_jobs(terminal: Terminal, selection: Selection, answer: str | None, actor: Actor) -> None:
    """Resolve unknown jobs: mark them as accepted, or send them again.

    Give job numbers, or a filter: --state, --route or --since. Add --sent or --again.
    """
    if answer is None:
        raise click.UsageError("add --sent if TheEye has the jobs, or --again if it does not")
    is_sent = answer == "sent"

    def resolve(outbox: Outbox, job_id: int, entry: int) -> tuple[str, bool]:
        state = outbox.resolve(job_id, sent=is_sent, entry=entry)
        if state is JobState.SKIPPED:
            return f"is {state}: {outbox.job(job_id).reason}", False
        return "is accepted" if is_sent else "is waiting to be sent", True

    verb = "mark as accepted" if is_sent else "send again"
    _do(terminal, Order(actor, selection, f"jobs resolve --{answer}", verb, JobState.UNKNOWN), resolve)


def _do(terminal: Terminal, order: Order, change: Change) -> None:
    """Change one job after the other and print each result. Exits with 1 if one has another result."""
    selection, state = order.selection, order.selection.state or order.state
    with terminal.outbox() as outbox:
        chosen = selection.numbers or outbox.job_ids(state, route=selection.route, since=selection.since)
        if selection.route is not None and not chosen:
            require_route(terminal, outbox, selection.route)
        selection.confirm(chosen, f"{state} job", order.verb)
        if not chosen:
            return
        action = order.actor.action(order.name, selection.target("jobs", state), len(chosen))
        with outbox.audit.recording(action) as entry:
            in_order = sorted(chosen, reverse=True) if order.newest_first else chosen
            done = [_do_one(terminal, change, outbox, job_id, entry) for job_id in in_order]
    results = Counter(result.partition(":")[0] for result, _ in done)
    if results.total() > 1:
        terminal.say([", ".join(f"{result}: {count}" for result, count in results.items())])
    if not all(is_done for _, is_done in done):
        sys.exit(1)


def _do_one(terminal: Terminal, change: Change, outbox: Outbox, job_id: int, entry: int) -> tuple[str, bool]:
    try:
        result, is_done = change(outbox, job_id, entry)
        line = f"job {job_id} {result}"
    except (BodyGone, NoSuchJob, WrongState) as error:
        result, is_done, line = "not changed", False, str(error)
    if is_done:
        terminal.say([line])
    else:
        terminal.warn(line)
    return result, is_done


class _Again:
    """The jobs that the current table creates from stored events; each event is routed once."""

    def __init__(self, table: RoutingTable) -> None:
        self._table = table
        self._event_id: int | None = None
        self._made: Mapping[tuple[str, str], NewJob] = {}
        #: Whether the last event has a redacted field.
        self.event_is_redacted = False

    def job(self, outbox: Outbox, job: Job) -> NewJob | None:
        """Return the job that the current table creates in place of `job`; None if it creates none."""
        if job.route == OnDead.NAME:
            return self._alert(outbox, job)
        if job.event_id != self._event_id:
            event = outbox.event(job.event_id)
            self._made = self._table.rebuild_jobs(event)
            self.event_is_redacted = is_redacted(event)
            self._event_id = job.event_id
        made = self._made.get((job.route, job.item_key))
        if made is None and (whole := self._made.get((job.route, ""))) is not None:
            # The route failed as a whole, so the reason is the same for each item.
            made = replace(whole, item_key=job.item_key, item_index=job.item_index)
            return made if made.arguments is None else None
        return made

    def items(self, job: Job) -> list[NewJob]:
        """Return the jobs of single items of the last event, in place of the one job of its route."""
        if job.item_key or job.route == OnDead.NAME:
            return []
        return [made for (route, key), made in self._made.items() if key and route == job.route]

    def _alert(self, outbox: Outbox, job: Job) -> NewJob | None:
        died, dead = OnDead.parse_item_key(job.item_key)
        return None if self._table.on_dead is None else self._table.on_dead.job_for(outbox.job(died), dead)
