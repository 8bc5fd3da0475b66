"""``/events`` and ``/events/<id>``: what came in, and why it ran or not."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flask import Blueprint, render_template, request

from bridge.app import Bridge
from bridge.core.errors import Refusal
from bridge.core.event import Event
from bridge.core.problem import Place
from bridge.dry_run.recorder import record, yaml_lines
from bridge.outbox.listing import SCANNED, ListedEvent
from bridge.report.commands import curl_command, send_command
from bridge.report.verdict import Verdict, verdict_of_jobs
from bridge.routing.nearest_miss import Miss, nearest_first, nearest_miss
from bridge.routing.routing_table import RoutingTable
from bridge.web.page.payload_tree import tree
from bridge.web.page.sign_in import base_url
from bridge.web.query import EVENT_TABS, SPANS, Query

#: How long one list may take to find out why events made no job, seconds.
EXPLAIN_SECONDS = 0.1
#: How many of these answers are remembered.
_REMEMBERED = 2000


@dataclass(frozen=True)
class Row:
    """A row of the list of events."""

    listed: ListedEvent
    verdict: Verdict
    #: Why the nearest route made no job.
    miss: Miss | None = None


class Verdicts:
    """What came of events. An answer is remembered until the table changes. Thread-safe enough: a lost
    answer is found again.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._table: RoutingTable | None = None
        self._misses: OrderedDict[int, tuple[Verdict, Miss | None]] = OrderedDict()

    def rows(self, listed: Iterable[ListedEvent]) -> list[Row]:
        listed = list(listed)
        without = self._without_jobs([each.summary.id for each in listed if not each.jobs])
        return [
            Row(each, verdict_of_jobs(each.jobs, each.summary.jobs, self._bridge.table))
            if each.jobs
            else Row(each, *without.get(each.summary.id, _not_asked(each)))
            for each in listed
        ]

    def _without_jobs(self, ids: list[int]) -> Mapping[int, tuple[Verdict, Miss | None]]:
        table = self._bridge.table
        if table is not self._table:
            self._table, self._misses = table, OrderedDict()
        unknown = [each for each in ids if each not in self._misses]
        end = time.monotonic() + EXPLAIN_SECONDS
        for event_id, event in self._bridge.outbox.listing.whole_events(unknown):
            self._misses[event_id] = self._why(event, table)
            if time.monotonic() > end:
                break
        while len(self._misses) > _REMEMBERED:
            self._misses.popitem(last=False)
        return {each: self._misses[each] for each in ids if each in self._misses}

    def _why(self, event: Event, table: RoutingTable) -> tuple[Verdict, Miss | None]:
        source = table.sources.get(event.source)
        if source is None:
            return Verdict("none", "no source", f"the table has no source {event.source}"), None
        if source.type.is_setup_event(event):
            return Verdict("none", "setup", "a test or confirmation of the sender: no route is checked"), None
        if not event.event:
            return Verdict("none", "unreadable", "its event could not be read"), None
        explanations = table.explain(event)
        if any(each.jobs for each in explanations):
            return Verdict("none", "no job", "the active table would create jobs: replay it"), None
        miss = nearest_miss(explanations, event.source, self._bridge.mask)
        if miss is None:
            return Verdict("none", "no route", f"no route wants {event.full_name} from {event.source}"), None
        return Verdict("none", "no route", f"nearest: {miss.route}"), miss


def _not_asked(each: ListedEvent) -> tuple[Verdict, None]:
    if each.summary.warnings:
        return Verdict("none", "no job", each.summary.warnings[0]), None
    return Verdict("none", "no job", "open it to see why"), None


def add_event_views(blueprint: Blueprint, bridge: Bridge) -> None:
    """Add the views of events."""
    verdicts = Verdicts(bridge)

    @blueprint.get("/events")
    def events() -> str:
        query = Query.of(request.args)
        wanted = query.events()
        listing = bridge.outbox.listing
        page = listing.events(wanted, query.before)
        return render_template(
            "events.html", query=query, page=page, rows=verdicts.rows(page.rows),
            wanted=wanted, counts=listing.count_events(wanted), tabs=EVENT_TABS, spans=SPANS, scanned=SCANNED,
            routes=[route.name for route in bridge.table.routes],
        )  # fmt: skip

    @blueprint.get("/events/newer")
    def newer_events() -> str:
        """How many events have arrived since the list was shown."""
        query = Query.of(request.args)
        page = bridge.outbox.listing.events(query.events())
        newest = query.number("upto") or 0
        count = sum(1 for each in page.rows if each.summary.id > newest)
        return render_template(
            "newer.html", count=count, more=page.before is not None and count == len(page.rows),
            url=query.url("/events"),
        )  # fmt: skip

    @blueprint.get("/events/<id:event_id>")
    def event(event_id: int) -> str:
        return render_template("event.html", **_event_page(bridge, event_id))


def _event_page(bridge: Bridge, event_id: int) -> dict[str, object]:
    """Return all that the page of one event shows."""
    outbox, table, mask = bridge.outbox, bridge.table, bridge.mask
    summary, stored = outbox.summary(event_id), outbox.stored_event(event_id)
    jobs = outbox.jobs(event_id=event_id, limit=min(summary.jobs, SCANNED))[::-1]
    source = table.sources.get(stored.source)
    explanations = table.explain(stored) if source is not None and stored.body else ()
    own = [each for each in explanations if each.route.source == stored.source]
    verdict = verdict_of_jobs(jobs, summary.jobs, table) if jobs else None
    url = base_url(request, bridge.settings)
    return {
        "summary": summary, "event": stored, "jobs": jobs, "verdict": verdict,
        "has_source": source is not None,
        "explanations": nearest_first(own), "others": len(explanations) - len(own),
        "tree": tree(stored.payload, mask) if stored.body else None,
        "size": len(stored.body),
        "curl": curl_command(stored, url, mask), "send": send_command(stored, url, event_id, mask),
        "yaml": _test_yaml(bridge, event_id, stored),
    }  # fmt: skip


def _test_yaml(bridge: Bridge, event_id: int, stored: Event) -> str | None:
    """Return the event as a test of the table, or None if it cannot become one."""
    if not stored.body or stored.source not in bridge.table.sources:
        return None
    name = f"{stored.full_name} {event_id}"
    try:
        test = record(name, Place("", 1, 1), stored, bridge.table, bridge.mask)
    except Refusal:
        return None
    lines = list(yaml_lines(test, f"tests/event-{event_id}.json", bridge.table))
    return None if any(bridge.mask(line) != line for line in lines) else "\n".join(lines)
