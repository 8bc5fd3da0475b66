"""Explanations of an event's routes as text, nearest miss first, and as JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from bridge.core.event import JSON, Event
from bridge.core.exact_json import loads
from bridge.core.job import NewJob
from bridge.core.json_text import shorten
from bridge.core.redaction import REDACTED_REASON
from bridge.core.secrets import Mask
from bridge.report.lines import Line, Tone
from bridge.routing.check_result import CheckResult, Explanation
from bridge.routing.nearest_miss import nearest_first
from bridge.routing.routing_table import RoutingTable
from bridge.theeye.request import job_request


def explanation_lines(
    event: Event, explanations: Iterable[Explanation], table: RoutingTable, mask: Mask
) -> Iterator[Line]:
    """Yield the routes that match, with the requests that they send; then the others, nearest miss first."""
    title = f"event {event.full_name} of source {event.source}, delivery {event.delivery_id}"
    yield Line(title, Tone.TITLE)
    explanations = list(explanations)
    for each in nearest_first(one for one in explanations if one.route.source == event.source):
        yield Line("")
        yield from _route_lines(each, table, mask)
    others = [repr(one.route.name) for one in explanations if one.route.source != event.source]
    if others:
        yield Line("")
        yield Line(f"routes of other sources: {', '.join(others)}", Tone.ASIDE)


def _route_lines(each: Explanation, table: RoutingTable, mask: Mask) -> Iterator[Line]:
    dead = any(job.arguments is None for job in each.jobs)
    tone = Tone.NO if dead else Tone.YES if each.jobs else Tone.TITLE
    yield Line(f"route {each.route.name!r}: {_outcome(each)}", tone)
    yield from _result_lines(each.results, "  ", mask)
    for item in each.items:
        made = "" if item.matched and item.job is not None else ": no job"
        same = " (equal to an earlier item)" if item.matched and item.job is None else ""
        yield Line(f"    item {item.index}{made}{same}")
        yield from _result_lines(item.results, "      ", mask)
    for warning in each.warnings:
        yield Line(f"  warning: {warning}", Tone.WARNING)
    for job in each.jobs:
        yield from _job_lines(job, table)


def _outcome(each: Explanation) -> str:
    if not each.jobs:
        return "no job"
    dead = sum(job.arguments is None for job in each.jobs)
    count = f"{len(each.jobs)} job{'s' if len(each.jobs) > 1 else ''}"
    why = "arguments could not be built" if each.matched else "the event is over its budget"
    return f"{count}, {dead} of them dead: {why}" if dead else count


def _result_lines(results: Iterable[CheckResult], indent: str, mask: Mask) -> Iterator[Line]:
    for each in results:
        mark, tone = ("yes", Tone.YES) if each.passed else ("NO ", Tone.NO)
        yield Line(f"{indent}{mark} {_result_text(each, mask)}", tone)


def _result_text(result: CheckResult, mask: Mask) -> str:
    return f"{result.subject}: expected {result.expected}, got {shorten(mask(result.actual))}"


def _job_lines(job: NewJob, table: RoutingTable) -> Iterator[Line]:
    item = "" if job.item_index is None else f" for item {job.item_index}"
    if job.arguments is None:
        yield Line(f"  DEAD{item}: {job.reason}", Tone.NO)
        return
    if job.group is not None:
        yield Line(f"  in group {job.group!r}{', supersedes its waiting jobs' if job.latest else ''}")
    if job.once_within is not None:
        yield Line(f"  once within {job.once_within:.0f} s for the key {job.once_key or ''!r}")
    request = job_request(table.theeye, table.tasks[job.task_id], job.arguments)
    yield Line(f"  sends{item}: POST {request.shown_url}")
    yield Line(f"    {request.body.decode()}")


def unexpected_lines(
    explanations: Iterable[Explanation], expected: Collection[str], mask: Mask
) -> Iterator[Line]:
    """Yield each difference from the expectation that these routes match, and no others.

    A route that reads a redacted field always is one, since nobody can tell whether it matches.
    """
    for each in explanations:
        name = each.route.name
        unknown = [warning for warning in each.warnings if REDACTED_REASON in warning]
        if each.failures and unknown:
            yield Line(f"it cannot be decided whether the route matches: {unknown[0]}", Tone.NO)
        elif each.failures and name in expected:
            why = "; ".join(_result_text(result, mask) for result in each.failures)
            yield Line(f"route {name!r} was expected to match, but does not: {why}", Tone.NO)
        elif not each.failures and name not in expected:
            yield Line(f"route {name!r} was not expected to match, but does: {_outcome(each)}", Tone.NO)


def explanation_json(
    event: Event, explanations: Iterable[Explanation], table: RoutingTable, mask: Mask
) -> JSON:
    """Return the explanations as JSON, in the order of the table."""
    return {
        "event": {
            "source": event.source,
            "event": event.event or None,
            "action": event.action,
            "delivery_id": event.delivery_id,
        },
        "routes": [
            {
                "route": each.route.name,
                "matched": bool(each.jobs),
                "conditions": [_result_json(result, mask) for result in each.results],
                "items": [
                    {
                        "index": item.index,
                        "matched": item.matched,
                        "conditions": [_result_json(result, mask) for result in item.results],
                    }
                    for item in each.items
                ],
                "jobs": [_new_job_json(job, table) for job in each.jobs],
                "warnings": list(each.warnings),
            }
            for each in explanations
        ],
    }


def _result_json(result: CheckResult, mask: Mask) -> JSON:
    return {
        "subject": result.subject,
        "expected": result.expected,
        "actual": shorten(mask(result.actual)),
        "passed": result.passed,
    }


def _new_job_json(job: NewJob, table: RoutingTable) -> JSON:
    shown: dict[str, JSON] = {"task": job.task, "task_id": job.task_id, "item": job.item_index}
    if job.arguments is None:
        return {**shown, "reason": job.reason}
    request = job_request(table.theeye, table.tasks[job.task_id], job.arguments)
    shown |= {"group": job.group, "latest": job.latest, "once_key": job.once_key}
    sent = {"method": "POST", "url": request.shown_url, "body": loads(request.body)}
    return {**shown, "task_arguments": list(job.arguments), "request": sent}
