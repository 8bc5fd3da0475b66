"""The commands that ask the routing table: check and explain."""

from __future__ import annotations

from pathlib import Path

import click

from bridge import report
from bridge.cli.sender import find_source, named_event, sender_request
from bridge.cli.terminal import NUMBER, Terminal, as_json
from bridge.errors import ConfigError, UnknownSource
from bridge.event import Event
from bridge.problem import Problem
from bridge.sources import Source
from bridge.table import RoutingTable


@click.command()
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--env", "require_env", is_flag=True, help="Unset variables are mistakes, not warnings.")
@click.pass_obj
def check(terminal: Terminal, path: Path | None, require_env: bool) -> None:
    """Say every mistake in the routing table at PATH (default: BRIDGE_CONFIG) with its place.

    Exits with 0 where there is none, with 1 where there are mistakes.
    """
    problems: tuple[Problem, ...]
    try:
        loaded = terminal.load(path, require_env=require_env, with_tests=True)
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


@click.command()
@click.option("--source", help="The source that sent FILE, as the table names it.")
@named_event
@click.argument("what", metavar="FILE|EVENT_ID")
@as_json
@click.pass_context
def explain(ctx: click.Context, source: str | None, event: str | None, what: str, in_json: bool) -> None:
    """Say what the table makes of a webhook.

    With --source of the body in FILE (- for standard input), without it of the stored event of this
    number. For every route each condition, wanted and found; then the exact requests, without keys.
    """
    terminal: Terminal = ctx.obj
    if source is not None:
        body = click.File("rb")(what, None, ctx).read()
        table = terminal.load().table
        found = _sent(find_source(table, source), event, body)
    elif event is not None:
        raise click.UsageError("--event goes with --source: a stored event has its own")
    elif not what.isdecimal():
        raise click.UsageError(f"say --source for a file: alone, {what!r} must be the number of an event")
    else:
        number = NUMBER(what, None, ctx)
        table = terminal.load().table
        found = stored_event(terminal, number, table)
    explanations = table.explain(found)
    if in_json:
        terminal.say_json(report.explanation_json(found, explanations, table))
    else:
        terminal.say(report.explanation_lines(found, explanations, table))


def _sent(source: Source, event: str | None, body: bytes) -> Event:
    """The event that the server would make of this body, were it sent now."""
    found, _ = source.read(sender_request(source, event, body))
    return found


def stored_event(terminal: Terminal, event_id: int, table: RoutingTable) -> Event:
    """The event of this number, if the table has its source. Raises NoSuchEvent, BodyGone, UnknownSource."""
    with terminal.outbox() as outbox:
        found = outbox.event(event_id)
    if found.source not in table.sources:
        there = ", ".join(table.sources) or "none"
        raise UnknownSource(
            f"event {event_id} came from source {found.source!r}, which today's table does not have; "
            f"there are: {there}"
        )
    return found
