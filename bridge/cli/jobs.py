"""The commands ``jobs``: list, show, retry, cancel and resolve stored jobs."""

from __future__ import annotations

import sys
from collections import Counter

import click

from bridge.cli.actor import Actor, as_actor
from bridge.cli.names import require_route
from bridge.cli.selection import Selection, jobs_since, of_route, some_jobs
from bridge.cli.terminal import NUMBER, Terminal, as_json, limited
from bridge.core.job import JobState
from bridge.intake.changes import ORDERS, Changes
from bridge.outbox.operator_actions import CANCELABLE
from bridge.report.jobs import JOB_HEADING, attempt_json, job_json, job_line, job_lines, pause_line
from bridge.report.lines import with_heading
from bridge.routing.routing_table import RoutingTable


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
        found = outbox.jobs(state=wanted, route=route, since=since, limit=limit + 1)
        if route is not None and not found:
            require_route(terminal, outbox, route)
        paused = outbox.paused()
    with terminal.newest(found, limit) as listed:
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
    _do(terminal, "retry", selection, actor, terminal.load().table)


@jobs.command("cancel")
@some_jobs(*CANCELABLE)
@as_actor
@click.pass_obj
def cancel_jobs(terminal: Terminal, selection: Selection, actor: Actor) -> None:
    """Cancel jobs that are waiting, dead or unknown.

    Give job numbers, or a filter: --state, --route or --since. For a job that has not ended, --since uses the
    time of its creation. The newest job is canceled first.
    """
    _do(terminal, "cancel", selection, actor)


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
    _do(terminal, answer, selection, actor)


def _do(
    terminal: Terminal, name: str, selection: Selection, actor: Actor, table: RoutingTable | None = None
) -> None:
    """Change one job after the other and print each result. Exits with 1 if one has another result.

    `name` is one of ORDERS.
    """
    order = ORDERS[name]
    state = selection.state or order.states[0]
    # A job may have another state by now, about which the person was not asked.
    states = order.states if selection.numbers else (state,)
    with terminal.outbox() as outbox:
        chosen = selection.numbers or outbox.job_ids(state, route=selection.route, since=selection.since)
        if selection.route is not None and not chosen:
            require_route(terminal, outbox, selection.route)
        selection.confirm(chosen, f"{state} job", order.verb)
        if not chosen:
            return
        changes = Changes(outbox, table)
        refused = {each: why for each in selection.numbers if (why := changes.refusal(each, states))}
        target = selection.target("jobs", state)
        results: Counter[str] = Counter()
        is_done = True
        with actor.recording(outbox, order.name, target, chosen, refused) as entry:
            for job_id in sorted(chosen, reverse=True) if order.newest_first else chosen:
                changed = refused.get(job_id) or changes.change(name, job_id, entry, states)
                line = changed.line(f"job {job_id}")
                if changed.is_done:
                    terminal.say([line])
                else:
                    terminal.warn(line)
                results[changed.text.partition(":")[0] if changed.is_changed else "not changed"] += 1
                is_done = is_done and changed.is_done
    if results.total() > 1:
        terminal.say([", ".join(f"{result}: {count}" for result, count in results.items())])
    if not is_done:
        sys.exit(1)
