"""The commands ``events``: list, show and replay stored events."""

from __future__ import annotations

import sys

import click

from bridge.cli.actor import Actor, as_actor
from bridge.cli.names import require_source
from bridge.cli.selection import Selection, of_source, since, some_events
from bridge.cli.terminal import NUMBER, Terminal, as_json, limited
from bridge.intake.changes import Changed, Changes
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
        found = outbox.events(source=source, since=since, limit=limit + 1)
        if source is not None and not found:
            require_source(terminal, outbox, source)
    with terminal.newest(found, limit) as listed:
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
        changes, target = Changes(outbox, table), selection.target("events")
        refused = {each: why for each in selection.numbers if (why := changes.replay_refusal(each))}
        with actor.recording(outbox, "events replay", target, chosen, refused) as entry:
            results = ((each, refused.get(each) or changes.replay(each, entry)) for each in chosen)
            done = [_print(terminal, event_id, replayed) for event_id, replayed in results]
    if not all(done):
        sys.exit(1)


def _print(terminal: Terminal, event_id: int, replayed: Changed) -> bool:
    """Print the result of a replay; return whether it was possible."""
    if replayed.is_done:
        terminal.say([f"event {event_id}: {replayed.text}"])
    for warning in (*(() if replayed.is_done else (replayed.text,)), *replayed.warnings):
        terminal.warn(f"event {event_id}: {warning}")
    return replayed.is_done


def _list_refused(
    terminal: Terminal, source: str | None, since: float | None, limit: int, in_json: bool
) -> None:
    with terminal.outbox(shows_name=True) as outbox:
        found = outbox.refused(source=source, since=since, limit=limit + 1)
        if source is not None and not found:
            require_source(terminal, outbox, source)
    with terminal.newest(found, limit) as refused:
        if in_json:
            terminal.say_json([refused_json(one) for one in refused])
        else:
            lines = map(refused_line, refused)
            terminal.say(with_heading(REFUSED_HEADING, lines, "no refused requests"))
            terminal.say(advice_lines(refused))
