"""The commands that ask the routing table: check and explain."""

from __future__ import annotations

from pathlib import Path

import click

from bridge.cli.sender import find_source, named_event, sender_request
from bridge.cli.terminal import NUMBER, Terminal, as_json
from bridge.core.errors import ConfigError, UnknownSource
from bridge.core.event import Event
from bridge.core.problem import Problem
from bridge.core.suggestions import did_you_mean
from bridge.report import rows
from bridge.report.explanation import explanation_json, explanation_lines, unexpected_lines
from bridge.routing.routing_table import RoutingTable
from bridge.sources.base.source import Source


@click.command()
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--env", "require_env", is_flag=True, help="Unset variables are mistakes, not warnings.")
@as_json
@click.option("--github", "annotate", is_flag=True, help="Print annotations for GitHub Actions.")
@click.pass_obj
def check(terminal: Terminal, path: Path | None, require_env: bool, in_json: bool, annotate: bool) -> None:
    """Say every mistake in the routing table at PATH (default: BRIDGE_CONFIG) with its place.

    Exits with 0 where there is none, whatever it warns of, and with 1 where there are mistakes.
    """
    if in_json and annotate:
        raise click.UsageError("--json and --github do not go together")
    problems: tuple[Problem, ...]
    table = None
    try:
        loaded = terminal.load(path, require_env=require_env, with_tests=True)
        problems, table, version = loaded.problems, loaded.table, loaded.version
    except ConfigError as error:
        problems = error.problems
    if in_json:
        terminal.say_json([rows.problem_json(problem) for problem in problems])
    else:
        terminal.say(map(rows.annotation if annotate else str, problems))
    if table is None:
        raise SystemExit(1)
    if not in_json and not annotate:
        terminal.say([f"table {version.hash}: {_counted(table, len(problems))}"])


def _counted(table: RoutingTable, warnings: int) -> str:
    counts = [f"{len(part)} {name}{'' if len(part) == 1 else 's'}" for part, name in (
        (table.sources, "source"), (table.tasks, "task"), (table.routes, "route"),
    )]  # fmt: skip
    return f"{', '.join(counts)}; no mistakes, {warnings} warnings"


@click.command()
@click.option("--source", help="The source that sent FILE, as the table names it.")
@named_event
@click.argument("what", metavar="FILE|EVENT_ID")
@click.option(
    "--expect",
    "expected",
    metavar="ROUTE",
    multiple=True,
    help="Exit with 1 unless this route matches and no other; once for each that is expected.",
)
@click.option("--expect-none", is_flag=True, help="Exit with 1 if a route matches.")
@as_json
@click.pass_context
def explain(
    ctx: click.Context,
    source: str | None,
    event: str | None,
    what: str,
    expected: tuple[str, ...],
    expect_none: bool,
    in_json: bool,
) -> None:
    """Say what the table makes of a webhook.

    With --source of the body in FILE (- for standard input), without it of the stored event of this
    number. What comes of a file has no query, and no headers but those that name its event: a route that
    reads others is tried by `test`. For every route each condition, wanted and found; then the exact
    requests, without keys. Routes that match come first, then the others, the nearest miss first. With
    --expect what is not as expected is said on standard error, and what cannot be known of a stored event.
    """
    if expected and expect_none:
        raise click.UsageError("--expect-none goes without --expect")
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
    _find_routes(table, expected)
    explanations = table.explain(found)
    if in_json:
        terminal.say_json(explanation_json(found, explanations, table, terminal.mask))
    else:
        terminal.show(explanation_lines(found, explanations, table, terminal.mask))
    is_asked = expected or expect_none
    surprises = list(unexpected_lines(explanations, expected, terminal.mask)) if is_asked else []
    terminal.show(surprises, err=True)
    if surprises:
        raise SystemExit(1)


def _find_routes(table: RoutingTable, names: tuple[str, ...]) -> None:
    """Raises click.BadParameter where the table has none of a name."""
    known = [route.name for route in table.routes]
    for name in names:
        if name not in known:
            message = f"no route is named {name!r}{did_you_mean(name, known)}"
            raise click.BadParameter(message, param_hint="--expect")


def _sent(source: Source, event: str | None, body: bytes) -> Event:
    """The event that the server would make of this body, were it sent now."""
    found, _ = source.read(sender_request(source, event, body))
    if event is not None and event not in (found.event, found.full_name):
        raise click.BadParameter(f"the body is that of {found.full_name}", param_hint="--event")
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
