"""Answer: the status and the body that a sender gets, with the reason why there is no job if it may know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bridge.core.event import JSON, Event, Request
from bridge.core.json_text import shorten
from bridge.intake.dead_jobs import dead_jobs
from bridge.outbox.webhook import StoredWebhook
from bridge.routing.nearest_miss import nearest_miss
from bridge.routing.routing_table import Routed, RoutingTable
from bridge.sources.base.source import Source
from bridge.sources.base.source_type import AnswerForm


@dataclass(frozen=True)
class Answer:
    """The HTTP status and the JSON body that the sender gets."""

    status: int
    body: dict[str, JSON]


def answer_to(
    source: Source, request: Request, event: Event, stored: StoredWebhook,
    explain: Callable[[], Mapping[str, JSON]],
) -> Answer:  # fmt: skip
    """Return 202 if the request created jobs or set some waiting, else 200.

    A sender that proves nothing gets the ids of the jobs alone. `explain` returns the part of the answer that
    ``answer: verdict`` adds.
    """
    reply = source.reply(request, event)
    if reply is not None:
        return Answer(200, reply)
    jobs: list[JSON] = [
        {"id": job.id, "route": job.route, "task": job.task} if source.required else {"id": job.id}
        for job in stored.jobs
    ]
    body: dict[str, JSON] = {"event": stored.event_id, "jobs": jobs, "duplicate": stored.duplicate}
    if source.answer is AnswerForm.VERDICT:
        body |= explain()
    return Answer(202 if jobs else 200, body)


def verdict(
    table: RoutingTable, event: Event, routed: Routed, stored: StoredWebhook, mask: Callable[[str], str]
) -> str:
    """Return a masked sentence about a webhook: its jobs, or why it has none."""
    if stored.jobs:
        counts = Counter(job.route for job in stored.jobs)
        routes = (f"{route} ({count})" if count > 1 else route for route, count in counts.items())
        jobs = f"{len(stored.jobs):,} job{'s' if len(stored.jobs) > 1 else ''}: {shorten(', '.join(routes))}"
        dead = "; ".join(
            text % of for text, of in dead_jobs(table, stored.event_id, routed.jobs, stored.jobs)
        )
        return f"{jobs}; {shorten(mask(dead))}" if dead else jobs
    if stored.is_refused and stored.note is not None:
        return f"no job: {mask(stored.note)}"
    if routed.jobs:
        return f"no new job: event {stored.event_id} has its jobs already"
    if not event.event:
        return "; ".join(routed.warnings)
    return f"no job: {_reason(table, event, mask)}"


def _reason(table: RoutingTable, event: Event, mask: Callable[[str], str]) -> str:
    source = table.sources[event.source]
    if source.type.is_setup_event(event):
        return "a test or confirmation of the sender"
    miss = nearest_miss(table.explain_misses(event), event.source, mask)
    if miss is None:
        return f"no route wants {mask(event.full_name)} from {event.source}"
    check = miss.check
    return (
        f"the nearest route is {miss.route}, but {check.subject} is {check.actual}, "
        f"expected {shorten(check.expected)}"
    )
