"""The commands ``events``: list, show and replay stored events."""

from __future__ import annotations

import sys

import click

from bridge.cli.actor import Actor, as_actor
from bridge.cli.names import require_source
from bridge.cli.selection import Selection, of_source, since, some_events
from bridge.cli.terminal import NUMBER, Terminal, as_json, limited
from bridge.core.errors import OutboxError, StoreUnavailable
from bridge.intake.dead_jobs import dead_jobs
from bridge.outbox.store import Outbox
from bridge.report.events import (
    EVENT_HEADING,
    REFUSED_HEADING,
    advice_lines,
    event_json,
    event_line,
    event_lines,
    refused_json,
    refused_line,
    whole_event_json,
)
from bridge.report.lines import with_heading
from bridge.routing.routing_table import RoutingTable


@click.group()
def events() -> None:
    """List, show and replay events."""


@events.command("list")
@of_source
@click.option("--refused", is_flag=True, help="List the last refused requests, with the reason.")
@since
@limited
@as_json
@click.pass_obj
def list_events(
    terminal: Terminal, source: str | None, refused: bool, since: float | None, limit: int, in_json: bool
) -> None:
    """List events, newest first."""
    if refused:
        _list_refused(terminal, source, since, limit, in_json)
        return
    with terminal.outbox(shows_name=True) as outbox:
        listed = outbox.events(source=source, since=since, limit=limit)
        if source is not None and not listed:
            require_source(terminal, outbox, source)
    if in_json:
        terminal.say_json([event_json(event) for event in listed])
    else:
        terminal.say(with_heading(EVENT_HEADING, map(event_line, listed), "no events"))


@events.command("show")
@click.argument("event_id", type=NUMBER)
@as_json
@click.pass_obj
def show_event(terminal: Terminal, event_id: int, in_json: bool) -> None:
    """Show an event with its jobs and its payload."""
    with terminal.outbox() as outbox:
        event = outbox.stored_event(event_id)
        summary = outbox.summary(event_id)
        made = outbox.jobs(event_id=event_id, limit=summary.jobs)[::-1]
    if in_json:
        terminal.say_json(whole_event_json(summary, event, made))
    else:
        terminal.say(event_lines(summary, event, made))


@events.command("replay")
@some_events()
@as_actor
@click.pass_obj
def replay_events(terminal: Terminal, selection: Selection, actor: Actor) -> None:
    """Create the jobs of stored events again, with the current table.

    Existing jobs do not change. Give event numbers, or a filter: --source or --since.
    """
    table = terminal.load().table
    with terminal.outbox() as outbox:
        chosen = selection.numbers or outbox.event_ids(source=selection.source, since=selection.since)
        if selection.source is not None and not chosen:
            require_source(terminal, outbox, selection.source)
        selection.confirm(chosen, "event", "replay")
        if not chosen:
            return
        action = actor.action("events replay", selection.target("events"), len(chosen))
        with outbox.audit.recording(action) as entry:
            done = [_replay(terminal, outbox, table, event_id, entry) for event_id in chosen]
    if not all(done):
        sys.exit(1)


def _replay(terminal: Terminal, outbox: Outbox, table: RoutingTable, event_id: int, entry: int) -> bool:
    """Replay one event and print the result; return whether it was possible."""
    try:
        event = outbox.event(event_id)
        source = table.sources.get(event.source)
        if source is None:
            terminal.warn(f"event {event_id}: the table has no source {event.source!r}")
            return False
        if source.type.is_setup_event(event):
            terminal.say(
                [f"event {event_id}: {event.full_name} is a test or confirmation of the sender: no jobs"]
            )
            return True
        routed = table.jobs_for(event)
        made = outbox.replay(event_id, routed.jobs, entry=entry)
    except StoreUnavailable:
        raise
    except OutboxError as error:
        terminal.warn(f"event {event_id}: {error}")
        return False
    created = ", ".join(f"{job.id} ({job.route}: {job.state})" for job in made)
    terminal.say([f"event {event_id}: {f'jobs {created}' if made else 'no jobs'}"])
    dead = [text % fields for text, fields in dead_jobs(table, event_id, routed.jobs, made)]
    for warning in (*dead, *routed.warnings):
        terminal.warn(f"event {event_id}: {warning}")
    return True


def _list_refused(
    terminal: Terminal, source: str | None, since: float | None, limit: int, in_json: bool
) -> None:
    with terminal.outbox(shows_name=True) as outbox:
        refused = outbox.refused(source=source, since=since, limit=limit)
        if source is not None and not refused:
            require_source(terminal, outbox, source)
    if in_json:
        terminal.say_json([refused_json(one) for one in refused])
    else:
        lines = map(refused_line, refused)
        terminal.say(with_heading(REFUSED_HEADING, lines, "no refused requests"))
        terminal.say(advice_lines(refused))
