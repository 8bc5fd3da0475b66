"""The commands of ``python -m bridge``, on Click."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click
import orjson

from bridge import report
from bridge.config.load import Loaded, load
from bridge.demo import tour
from bridge.errors import BridgeError, ConfigError
from bridge.event import JSON, Headers, Request
from bridge.job import JobState
from bridge.log import configure
from bridge.outbox import Outbox
from bridge.problem import Problem
from bridge.settings import Mask, Settings
from bridge.sources import discover


@dataclass
class Terminal:
    """What a command was called with, and its output: all of it through one mask."""

    settings: Settings
    mask: Mask

    def say(self, lines: Iterable[str]) -> None:
        for line in lines:
            click.echo(self.mask(line))

    def say_json(self, value: JSON) -> None:
        click.echo(self.mask(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()))

    def load(self, path: Path | None = None, *, require_env: bool = False) -> Loaded:
        """The routing table. Raises ConfigError."""
        where = self.settings.config if path is None else path
        loaded = load(where, self.settings.variables, discover(), require_env=require_env)
        self.mask.learn(loaded.secrets)
        return loaded

    @contextmanager
    def outbox(self) -> Iterator[Outbox]:
        """The store, written to beside a server that may run."""
        outbox = Outbox(self.settings.database_url, beside_a_server=True)
        try:
            yield outbox
        finally:
            outbox.close()


class Commands(click.Group):
    """Prints the cause of an error, not a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BridgeError as error:
            terminal = ctx.obj if isinstance(ctx.obj, Terminal) else None
            text = str(error) if terminal is None else terminal.mask(str(error))
            click.echo(text, err=True)
            ctx.exit(1)


#: Nothing makes the others yet.
STATES = [str(state) for state in JobState if state not in (JobState.SKIPPED, JobState.CANCELED)]

as_json = click.option("--json", "in_json", is_flag=True, help="Print JSON.")
limited = click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(min=1), help="At most so many."
)


@click.group(cls=Commands)
@click.pass_context
def main(ctx: click.Context) -> None:
    """A webhook-to-job bridge: webhooks in, authentic and stored; jobs out, at TheEye."""
    mask = Mask()
    configure("WARNING", "text", mask)
    ctx.obj = Terminal(Settings.from_environ(), mask)


@main.command()
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--env", "require_env", is_flag=True, help="Unset variables are mistakes, not warnings.")
@click.pass_obj
def check(terminal: Terminal, path: Path | None, require_env: bool) -> None:
    """Say every mistake in the routing table at PATH (default: BRIDGE_CONFIG) with its place.

    Exits with 0 where there is none, with 1 where there are mistakes.
    """
    problems: tuple[Problem, ...]
    try:
        loaded = terminal.load(path, require_env=require_env)
    except ConfigError as error:
        terminal.say(str(problem) for problem in error.problems)
        raise SystemExit(1) from None
    problems = loaded.problems
    terminal.say(str(problem) for problem in problems)
    table = loaded.table
    counts = [f"{len(part)} {name}{'' if len(part) == 1 else 's'}" for part, name in (
        (table.sources, "source"), (table.tasks, "task"), (table.routes, "route"),
    )]  # fmt: skip
    terminal.say([f"{', '.join(counts)}; no mistakes, {len(problems)} warnings"])


@main.command()
@click.option("--source", required=True, help="The source that sent it, as the table names it.")
@click.option("--event", help="The event, where its sender says it in a header, such as push.")
@click.argument("file", type=click.File("rb", lazy=True))
@as_json
@click.pass_obj
def explain(terminal: Terminal, source: str, event: str | None, file: IO[bytes], in_json: bool) -> None:
    """Say what the table makes of the webhook body in FILE (- for standard input).

    For every route each condition, wanted and found; then the exact requests, without keys.
    """
    table = terminal.load().table
    if source not in table.sources:
        raise click.BadParameter(f"no source is named {source!r}; there are: {', '.join(table.sources)}")
    body = file.read()
    configured = table.sources[source]
    headers = configured.type.headers_for(None if event is None else event.partition(".")[0])
    request = Request(source, Headers(headers.items()), {}, body, time.time())
    found, _ = configured.read(request)
    explanations = table.explain(found)
    if in_json:
        terminal.say_json(report.explanation_json(found, explanations, table))
    else:
        terminal.say(report.explanation_lines(found, explanations, table))


@main.command()
@click.option("--once", is_flag=True, help="End after the tour: with 0, or with 1 where a step failed.")
def demo(once: bool) -> None:
    """Show a whole delivery on this machine, against a stand-in TheEye."""
    tour.run(click.echo, once=once)


@main.group()
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
@click.argument("job_id", type=int)
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
@click.argument("job_id", type=int)
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
        click.echo(terminal.mask(f"job {job_id} stays dead: {reason}"), err=True)
        sys.exit(1)
    terminal.say([f"job {job_id} waits to be sent"])


@jobs.command("resolve")
@click.argument("job_id", type=int)
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


@main.group()
def events() -> None:
    """The events in the outbox."""


@events.command("list")
@click.option("--source", help="Only those of this source.")
@limited
@as_json
@click.pass_obj
def list_events(terminal: Terminal, source: str | None, limit: int, in_json: bool) -> None:
    """The newest events first."""
    with terminal.outbox() as outbox:
        found = outbox.events(source=source, limit=limit)
    if in_json:
        terminal.say_json([report.event_json(event) for event in found])
    else:
        terminal.say([report.event_line(event) for event in found] or ["no events"])
