"""The command ``preview``: compare the jobs of stored events with those of an edited table."""

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

#: The default number of events.
LAST = 1000
#: The summary shows this many of the most frequent warnings.
WARNINGS = 10


@click.command("preview")
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--last", type=click.IntRange(min=1), metavar="N", help=f"Compare the newest N events.  [default: {LAST}]"
)
@since
@click.option("--fail-on-change", is_flag=True, help="Exit with 1 if a difference is certain.")
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
    """Compare stored jobs with those that a table would create.

    PATH is the edited table's folder or file, by default BRIDGE_CONFIG. The command evaluates stored events
    with this table. It sends and stores nothing. Each event is evaluated with its stored name, action and
    delivery id. A difference is uncertain if a redacted field may cause it.
    """
    table = terminal.load(path).table
    last = LAST if last is None and since is None else last
    counts: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    changed: list[JSON] = []
    with terminal.outbox(shows_name=True) as outbox:
        for each in outbox.history(since=since, last=last):
            if not each.event.body:
                counts["without_body"] += 1
                continue
            result = preview(each.event, each.jobs, table, terminal.mask)
            _count(result, counts)
            warnings.update(result.warnings)
            if result.changes and in_json:
                changed.append(_preview_json(each.id, each.event, result))
            elif result.changes:
                terminal.say(map(escaped, _preview_lines(each.id, each.event, result)))
    if in_json:
        keys = ("compared", "without_body", "different", *map(str, ChangeKind), "unmatched", "uncertain")
        frequent = [{"warning": text, "events": events} for text, events in warnings.most_common(WARNINGS)]
        sums = {key: counts[key] for key in keys}
        terminal.say_json({**sums, "warnings": frequent, "events": changed})
    else:
        terminal.say(map(escaped, _sum_lines(counts, warnings)))
    if fail_on_change and counts["certain"]:
        sys.exit(1)


def _count(result: Preview, counts: Counter[str]) -> None:
    certain = [change for change in result.changes if change.is_certain]
    counts["compared"] += 1
    counts["different"] += bool(certain)
    counts["unmatched"] += bool(certain) and result.matches_nothing
    counts["certain"] += len(certain)
    counts["uncertain"] += len(result.changes) - len(certain)
    counts.update(change.kind for change in certain)


def _preview_lines(event_id: int, event: Event, result: Preview) -> Iterator[str]:
    nothing = "; it would create no job" if result.matches_nothing else ""
    time = f"{rfc3339(event.received_at)[:19]}Z"
    yield f"event {event_id}  {time}  {event.full_name} of source {event.source}{nothing}"
    for change in result.changes:
        job = "a job" if change.job is None else f"job {change.job}"
        item = "" if change.item is None else f", item {change.item}"
        doubt = "" if change.is_certain else "  (uncertain: a stored field is redacted)"
        yield f"  {change.kind:<7}  {job} of route {change.route!r}{item}{doubt}"
        yield from (f"           {line}" for line in _difference_lines(change))
    for warning in result.warnings:
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
    compared = "1 event" if counts["compared"] == 1 else f"{counts['compared']} events"
    yield f"compared {compared}; {counts['different']} would create different jobs ({jobs})"
    yield "each event was evaluated with its stored name, action and delivery id"
    if counts["unmatched"]:
        yield f"events with jobs that would now create none: {counts['unmatched']}"
    if counts["uncertain"]:
        yield f"uncertain differences: {counts['uncertain']}, because a stored field is redacted"
    if counts["without_body"]:
        yield f"events without a stored body, which were not compared: {counts['without_body']}"
    for text, events in warnings.most_common(WARNINGS):
        yield f"warning: {text} (of {events} events)"


def _preview_json(event_id: int, event: Event, result: Preview) -> JSON:
    return {
        "id": event_id,
        "source": event.source,
        "event": event.event or None,
        "action": event.action,
        "received_at": rfc3339(event.received_at),
        "unmatched": result.matches_nothing,
        "warnings": list(result.warnings),
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
            for change in result.changes
        ],
    }
