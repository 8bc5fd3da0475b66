"""The command that runs stored events through an edited table: preview."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from bridge.cli.selection import since
from bridge.cli.terminal import Terminal, as_json
from bridge.core.event import JSON, Event, rfc3339
from bridge.dry_run.preview import Change, ChangeKind, Preview, preview
from bridge.process.log import escaped

#: How many events are run unless a person says it.
LAST = 1000
#: How many warnings the sum tells, the most frequent.
WARNINGS = 10


@click.command("preview")
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--last", type=click.IntRange(min=1), metavar="N", help=f"The newest N events.  [default: {LAST}]"
)
@since
@click.option("--fail-on-change", is_flag=True, help="Exit with 1 where anything would be another.")
@as_json
@click.pass_obj
def preview_table(
    terminal: Terminal,
    path: Path | None,
    last: int | None,
    since: float | None,
    fail_on_change: bool,
    in_json: bool,
) -> None:
    """Say what the table at PATH (default: BRIDGE_CONFIG) would make of stored events.

    Held against the jobs that the store has of each. Nothing is sent, and nothing stored. An event
    keeps the name, the action and the delivery id with which it was stored, whatever its source says now.
    """
    table = terminal.load(path).table
    last = LAST if last is None and since is None else last
    counts: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    told: list[JSON] = []
    with terminal.outbox() as outbox:
        for each in outbox.history(since=since, last=last):
            if not each.event.body:
                counts["without a body"] += 1
                continue
            found = preview(each.event, each.jobs, table, terminal.mask)
            _count(found, counts)
            warnings.update(found.warnings)
            if found.changes and in_json:
                told.append(_preview_json(each.id, each.event, found))
            elif found.changes:
                terminal.say(map(escaped, _preview_lines(each.id, each.event, found)))
    if in_json:
        keys = ("tried", "without a body", "differ", *ChangeKind, "match nothing", "uncertain")
        frequent = [{"warning": text, "events": events} for text, events in warnings.most_common(WARNINGS)]
        sums = {key.replace(" ", "_"): counts[key] for key in keys}
        terminal.say_json({**sums, "warnings": frequent, "events": told})
    else:
        terminal.say(map(escaped, _sum_lines(counts, warnings)))
    if fail_on_change and counts["certain"]:
        sys.exit(1)


def _count(found: Preview, counts: Counter[str]) -> None:
    certain = [change for change in found.changes if change.is_certain]
    counts["tried"] += 1
    counts["differ"] += bool(certain)
    counts["match nothing"] += bool(certain) and found.matches_nothing
    counts["certain"] += len(certain)
    counts["uncertain"] += len(found.changes) - len(certain)
    counts.update(change.kind for change in certain)


def _preview_lines(event_id: int, event: Event, found: Preview) -> Iterator[str]:
    nothing = "; it would match nothing" if found.matches_nothing else ""
    time = f"{rfc3339(event.received_at)[:19]}Z"
    yield f"event {event_id}  {time}  {event.full_name} of source {event.source}{nothing}"
    for change in found.changes:
        job = "a job" if change.job is None else f"job {change.job}"
        item = "" if change.item is None else f", item {change.item}"
        doubt = "" if change.is_certain else "  (uncertain: a field was redacted when it was stored)"
        yield f"  {change.kind:<7}  {job} of route {change.route!r}{item}{doubt}"
        yield from (f"           {line}" for line in _difference_lines(change))
    for warning in found.warnings:
        yield f"  warning: {warning}"


def _difference_lines(change: Change) -> Iterator[str]:
    for each in change.differences:
        match change.kind:
            case ChangeKind.NEW:
                yield f"{change.task}: {each.actual}"
            case ChangeKind.GONE:
                yield f"{change.task}: {each.expected}"
            case ChangeKind.CHANGED:
                yield f"{each.subject}: was {each.expected}, would be {each.actual}"


def _sum_lines(counts: Counter[str], warnings: Counter[str]) -> Iterator[str]:
    jobs = ", ".join(f"{counts[kind]} {kind}" for kind in ChangeKind)
    yield f"events run: {counts['tried']}; with other jobs: {counts['differ']} ({jobs})"
    yield "each kept the name, action and delivery id with which it was stored"
    if counts["match nothing"]:
        yield f"{counts['match nothing']} would match nothing, and made jobs"
    if counts["uncertain"]:
        yield f"not known of {counts['uncertain']} jobs, as a field was redacted when the event was stored"
    if counts["without a body"]:
        yield f"not run: {counts['without a body']} events, whose body is not kept"
    for text, events in warnings.most_common(WARNINGS):
        yield f"warning: {text} (of {events} events)"


def _preview_json(event_id: int, event: Event, found: Preview) -> JSON:
    return {
        "id": event_id,
        "source": event.source,
        "event": event.event,
        "action": event.action,
        "received_at": rfc3339(event.received_at),
        "matches_nothing": found.matches_nothing,
        "warnings": list(found.warnings),
        "changes": [
            {
                "kind": change.kind,
                "route": change.route,
                "task": change.task,
                "item": change.item,
                "job": change.job,
                "certain": change.is_certain,
                "differences": [
                    {"subject": each.subject, "before": each.expected, "after": each.actual}
                    for each in change.differences
                ],
            }
            for change in found.changes
        ],
    }
