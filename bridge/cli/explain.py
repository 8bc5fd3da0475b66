"""The command ``explain``: show what the routing table does with one webhook."""

from __future__ import annotations

import click

from bridge.cli.sender import Sent, find_source, sent_webhook
from bridge.cli.terminal import NUMBER, Terminal, as_json
from bridge.config.problems import guess
from bridge.core.errors import UnknownSource
from bridge.core.event import Event
from bridge.core.suggestions import did_you_mean
from bridge.report.explanation import explanation_json, explanation_lines, unexpected_lines
from bridge.routing.routing_table import RoutingTable
from bridge.routing.silence import OnSilence
from bridge.sources.base.source import Source


@click.command()
@click.option("--source", help="Read FILE as a webhook of this source.")
@sent_webhook
@click.argument("what", metavar="FILE|EVENT_ID")
@click.option(
    "--expect",
    "expected",
    metavar="ROUTE",
    multiple=True,
    help="Exit 1 unless exactly these routes match. Repeatable.",
)
@click.option("--expect-none", is_flag=True, help="Exit with 1 if any route matches.")
@as_json
@click.pass_context
def explain(
    ctx: click.Context,
    source: str | None,
    sent: Sent,
    what: str,
    expected: tuple[str, ...],
    expect_none: bool,
    in_json: bool,
) -> None:
    """Show which routes a webhook matches, and why others do not.

    Give the number of a stored event, or --source and FILE: the body of a webhook (- for standard input).
    With FILE, the command adds the headers that name the event and the webhook's id. If a route reads other
    headers or the query, add --header or --query.

    For each route, the command prints every condition with its expected and actual value, and the exact
    requests without their keys. Routes that match come first. The other routes follow, the route that came
    closest to a match on top. With --expect or --expect-none, differences go to standard error. The command
    also prints the conditions that cannot be decided because a field is redacted.
    """
    if expected and expect_none:
        raise click.UsageError("--expect-none and --expect cannot be combined")
    terminal: Terminal = ctx.obj
    if source is not None:
        body = click.File("rb")(what, None, ctx).read()
        table = terminal.load().table
        subject = _sent(find_source(table, source), sent, body, terminal)
    elif sent:
        message = "use --event, --header and --query only with --source; a stored event already has these"
        raise click.UsageError(message)
    elif not what.isdecimal():
        raise click.UsageError(f"add --source for a file: {what!r} is not the number of an event")
    else:
        number = NUMBER(what, None, ctx)
        table = terminal.load().table
        subject = stored_event(terminal, number, table)
    _find_routes(table, expected)
    explanations = table.explain(subject)
    if in_json:
        terminal.say_json(explanation_json(subject, explanations, table, terminal.mask))
    else:
        terminal.show(explanation_lines(subject, explanations, table, terminal.mask))
    is_asked = expected or expect_none
    surprises = list(unexpected_lines(explanations, expected, terminal.mask)) if is_asked else []
    terminal.show(surprises, err=True)
    if surprises:
        raise SystemExit(1)


def _find_routes(table: RoutingTable, names: tuple[str, ...]) -> None:
    """Raise click.BadParameter if the table has no route of one of these names."""
    known = [route.name for route in table.routes]
    for name in names:
        if name not in known:
            message = f"no route is named {name!r}{did_you_mean(name, known)}"
            raise click.BadParameter(message, param_hint="--expect")


def _sent(source: Source, sent: Sent, body: bytes, terminal: Terminal) -> Event:
    """Return the event that the server would create from this body."""
    event, _ = source.read(sent.request(source, body, terminal))
    if sent.event not in (None, event.event, event.full_name):
        raise click.BadParameter(f"the body is of event {event.full_name}", param_hint="--event")
    return event


def stored_event(terminal: Terminal, event_id: int, table: RoutingTable) -> Event:
    """Return the event of this number. Raises NoSuchEvent, BodyGone; UnknownSource if the table lacks it."""
    with terminal.outbox() as outbox:
        stored = outbox.event(event_id)
    if stored.source == OnSilence.SOURCE:
        raise UnknownSource(f"event {event_id} reports a silence: on_silence creates its job, and no route")
    if stored.source not in table.sources:
        meant, known = guess(stored.source, table.sources)
        raise UnknownSource(
            f"event {event_id} is from source {stored.source!r}, which the table does not have; "
            f"known: {known}{meant}"
        )
    return stored
