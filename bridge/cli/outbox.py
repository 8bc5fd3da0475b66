"""The commands that read the outbox, and let a person settle a job: jobs and events."""

from __future__ import annotations

import sys

import click

from bridge import report
from bridge.cli.terminal import NUMBER, Terminal, as_json, limited
from bridge.job import JobState
from bridge.keeping import is_redacted

#: Nothing makes the others yet.
STATES = [str(state) for state in JobState if state not in (JobState.SKIPPED, JobState.CANCELED)]


@click.group()
def jobs() -> None:
    """The jobs in the outbox."""


@jobs.command("list")
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@limited
@as_json
@click.pass_obj
def list_jobs(terminal: Terminal, state: str | None, limit: int, in_json: bool) -> None:
    """The newest jobs first."""
    with terminal.outbox() as outbox:
        found = outbox.jobs(state=JobState(state) if state else None, limit=limit)
    if in_json:
        terminal.say_json([report.job_json(job) for job in found])
    else:
        terminal.say([report.job_line(job) for job in found] or ["no jobs"])


@jobs.command("show")
@click.argument("job_id", type=NUMBER)
@as_json
@click.pass_obj
def show_job(terminal: Terminal, job_id: int, in_json: bool) -> None:
    """One job with its attempts."""
    with terminal.outbox() as outbox:
        job, attempts = outbox.job(job_id), outbox.attempts(job_id)
    if in_json:
        shown = {**report.job_json(job), "attempts": [report.attempt_json(attempt) for attempt in attempts]}
        terminal.say_json(shown)
    else:
        terminal.say(report.job_lines(job, attempts))


@jobs.command("retry")
@click.argument("job_id", type=NUMBER)
@click.pass_obj
def retry_job(terminal: Terminal, job_id: int) -> None:
    """Send a dead job again, with arguments built anew by today's table."""
    table = terminal.load().table
    with terminal.outbox() as outbox:
        job = outbox.job(job_id)
        event = outbox.event(job.event_id)
        again = table.job_again(event, job.route, job.item_key) if event.source in table.sources else None
        waits = outbox.retry(job_id, again)
        reason = outbox.job(job_id).reason
    if not waits:
        terminal.warn(f"job {job_id} stays dead: {reason}")
        if again is None and is_redacted(event):
            terminal.warn(
                "    hint: its route may need a field that was redacted; let the sender send it again"
            )
        sys.exit(1)
    terminal.say([f"job {job_id} waits to be sent"])


@jobs.command("resolve")
@click.argument("job_id", type=NUMBER)
@click.option("--sent", "answer", flag_value="sent", help="TheEye has it.")
@click.option("--again", "answer", flag_value="again", help="TheEye does not have it: send it again.")
@click.pass_obj
def resolve_job(terminal: Terminal, job_id: int, answer: str | None) -> None:
    """Say of an unknown job whether TheEye has it."""
    if answer is None:
        raise click.UsageError("say --sent or --again")
    with terminal.outbox() as outbox:
        outbox.resolve(job_id, sent=answer == "sent")
    terminal.say([f"job {job_id} is accepted" if answer == "sent" else f"job {job_id} waits to be sent"])


@click.group()
def events() -> None:
    """The events in the outbox."""


@events.command("list")
@click.option("--source", help="Only those of this source.")
@click.option("--refused", is_flag=True, help="The last requests that were refused, and why.")
@limited
@as_json
@click.pass_obj
def list_events(terminal: Terminal, source: str | None, refused: bool, limit: int, in_json: bool) -> None:
    """The newest events first."""
    if refused:
        _list_refused(terminal, source, limit, in_json)
        return
    with terminal.outbox() as outbox:
        found = outbox.events(source=source, limit=limit)
    if in_json:
        terminal.say_json([report.event_json(event) for event in found])
    else:
        terminal.say([report.event_line(event) for event in found] or ["no events"])


@events.command("show")
@click.argument("event_id", type=NUMBER)
@as_json
@click.pass_obj
def show_event(terminal: Terminal, event_id: int, in_json: bool) -> None:
    """One event with its jobs and its payload."""
    with terminal.outbox() as outbox:
        event = outbox.rest_of_event(event_id)
        summary = outbox.summary(event_id)
        made = outbox.jobs(event_id=event_id, limit=summary.jobs)[::-1]
    if in_json:
        terminal.say_json(report.whole_event_json(summary, event, made))
    else:
        terminal.say(report.event_lines(summary, event, made))


def _list_refused(terminal: Terminal, source: str | None, limit: int, in_json: bool) -> None:
    with terminal.outbox() as outbox:
        found = outbox.refused(source=source, limit=limit)
    if in_json:
        terminal.say_json([report.refused_json(one) for one in found])
    else:
        terminal.say([report.refused_line(one) for one in found] or ["no refused requests"])
