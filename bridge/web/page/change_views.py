"""``/change``: a person's change of jobs or events, with its count, its reason and its progress."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from flask import Blueprint, redirect, render_template, request, session, url_for

from bridge.app import Bridge
from bridge.core.errors import quoted
from bridge.core.event import JSON, rfc3339
from bridge.core.job import JobState
from bridge.intake.changes import ORDERS, Changed, Changes
from bridge.outbox.audit import Action, AuditEntry
from bridge.outbox.bounds import Shown
from bridge.outbox.listing import SCANNED, EventFilter, JobFilter
from bridge.outbox.pauses import Pausable
from bridge.web.query import BadQuery, Query

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as BaseResponse

#: How many jobs or events one request changes: a browser asks for the next part until all are done.
PART = 50
#: The longest reason, in characters.
REASON_CHARACTERS = 500
#: The name of a replay among the orders.
REPLAY = "replay"
#: In the target of an entry of the audit that the page made.
BY = "page"
#: The parameters of a filter.
_FILTER = ("source", "event", "route", "task", "state", "tab", "q", "from", "to")
#: The orders by their names in the audit.
_ORDER_NAMES = {"events replay": REPLAY, **{order.name: name for name, order in ORDERS.items()}}


@dataclass(frozen=True)
class Selection:
    """The jobs or events of a change."""

    #: A name of ORDERS, or REPLAY.
    order: str
    #: A number, or the filter with absolute times and the bounds of what was counted.
    target: Mapping[str, JSON]
    count: int = 0
    #: Whether the filter looked only at the newest SCANNED.
    is_partial: bool = False

    @property
    def what(self) -> str:
        return "events" if self.order == REPLAY else "jobs"

    @property
    def verb(self) -> str:
        return "replay" if self.order == REPLAY else ORDERS[self.order].verb

    @property
    def audit_name(self) -> str:
        return "events replay" if self.order == REPLAY else ORDERS[self.order].name

    @property
    def states(self) -> tuple[JobState, ...]:
        """The states of the jobs that a person was shown."""
        if self.order == REPLAY:
            return ()
        state = self.target.get("state")
        return ORDERS[self.order].states if state is None else (JobState(state),)

    @property
    def falls(self) -> bool:
        """Whether the newest are changed first."""
        return self.order != REPLAY and ORDERS[self.order].newest_first

    def bounded(self, bridge: Bridge) -> Selection:
        """Return the selection with the bounds of its present jobs or events. Raises BadQuery."""
        if self._numbers:
            return replace(self, count=len(self._numbers))
        wanted, listing = self._filter(), bridge.outbox.listing
        if isinstance(wanted, EventFilter):
            shown = listing.shown_events(wanted)
        else:
            shown = listing.shown_jobs(wanted)
        bounds = {key: value for key, value in asdict(shown).items() if value is not None}
        count, is_partial = bounds.pop("count"), bounds.pop("is_partial")
        return replace(self, count=count, is_partial=is_partial, target={**self.target, **bounds})

    def part(self, bridge: Bridge, reached: int | None) -> Sequence[int]:
        """Return the next ids, at most PART, after the one that was reached. Raises BadQuery."""
        if self._numbers:
            return self._numbers if reached is None else []
        wanted, listing = self._filter(), bridge.outbox.listing
        if isinstance(wanted, EventFilter):
            return listing.event_ids(wanted, reached, PART)
        return listing.job_ids(wanted, reached, PART, falls=self.falls)

    def share(self, reached: int | None) -> float:
        """Return about how much is done, of 1: ids are not counted again."""
        if reached is None or self._shown is None:
            return float(reached is not None)
        oldest, newest = self._shown.oldest, self._shown.newest
        done = newest - reached if self.falls else reached - oldest
        return (done + 1) / (newest - oldest + 1)

    @property
    def _numbers(self) -> list[int]:
        return [int(each) for each in self.target.get(self.what, ())]

    def _filter(self) -> EventFilter | JobFilter:
        query = Query({key: str(value) for key, value in self.target.items()})
        of_list: EventFilter | JobFilter = query.events() if self.order == REPLAY else query.jobs()
        return replace(of_list, shown=self._shown)

    @property
    def _shown(self) -> Shown | None:
        if "newest" not in self.target:
            return None
        return Shown(0, self.target["oldest"], self.target["newest"], self.target.get("ended_at"))


def _selection(bridge: Bridge, query: Query) -> Selection:
    """Return what the URL of a list or of a button selects.

    Raises BadQuery, and OutboxError for one job or event that cannot be changed: the audit has no entry then.
    """
    order = query.get("order") or ""
    if order != REPLAY and order not in ORDERS:
        raise BadQuery(f"order must be one of {', '.join((*ORDERS, REPLAY))}, got {quoted(order)}")
    if (number := query.number("id")) is not None:
        if order == REPLAY:
            bridge.outbox.summary(number)
            return Selection(order, {"events": [number]})
        refused = Changes(bridge.outbox, bridge.table).refusal(number, ORDERS[order].states)
        if refused is not None and refused.error is not None:
            raise refused.error
        return Selection(order, {"jobs": [number]})
    window = query.window(time.time())
    target: dict[str, JSON] = {key: value for key in _FILTER if (value := query.get(key))}
    target["from"] = rfc3339(window.since)
    if order != REPLAY:
        state = query.state or ORDERS[order].states[0]
        if state not in ORDERS[order].states:
            raise BadQuery(f"you cannot {ORDERS[order].verb} jobs that are {state}")
        target["state"] = str(state)
    if query.get("newest") is not None:
        target |= {"oldest": query.number("oldest") or 0, "newest": query.number("newest")}
        target |= {"ended_at": ended} if (ended := query.seconds("ended_at")) is not None else {}
    return Selection(order, target)


def add_change_views(blueprint: Blueprint, bridge: Bridge) -> None:
    """Add the views of changes."""
    audit = bridge.outbox.audit

    @blueprint.get("/change")
    def confirm() -> str:
        selection = _selection(bridge, Query.of(request.args)).bounded(bridge)
        back = _own_page(request.referrer) or url_for("page.overview")
        return render_template(
            "confirm.html", selection=selection, count=selection.count, scanned=SCANNED, back=back
        )

    @blueprint.post("/change")
    def begin() -> BaseResponse:
        selection = _selection(bridge, Query.of(request.form)).bounded(bridge)
        if not request.form.get("reason", "").strip():
            raise BadQuery("a change needs a reason")
        target = {**selection.target, "by": BY}
        entry = audit.begin(_action(selection.audit_name, target, selection.count))
        return redirect(url_for("page.change", number=entry), 303)

    @blueprint.route("/change/<id:number>", methods=["GET", "POST"])
    def change(number: int) -> str | tuple[str, int]:
        entry = audit.entry(number)
        order = None if entry is None else _ORDER_NAMES.get(entry.action.name)
        # A command has its own entries, with its own filters.
        if entry is None or order is None or entry.action.target.get("by") != BY:
            return render_template("error.html", title="There is no such change", hint=""), 404
        selection, lines = Selection(order, entry.action.target), []
        if request.method == "POST" and entry.ended_at is None:
            lines = _do_part(bridge, selection, entry)
            entry = audit.entry(number) or entry
        share = 1.0 if entry.ended_at is not None else selection.share(entry.reached)
        return render_template("change.html", selection=selection, entry=entry, lines=lines, share=share)

    @blueprint.post("/pause")
    def pause() -> BaseResponse:
        query = Query.of(request.form)
        try:
            kind = Pausable(query.get("kind") or "")
        except ValueError as error:
            raise BadQuery("kind must be task or route") from error
        name, is_pause = query.get("name") or "", query.get("order") == "pause"
        known = bridge.table.tasks if kind is Pausable.TASK else [each.name for each in bridge.table.routes]
        is_paused = any((each.kind, each.name) == (kind, name) for each in bridge.outbox.paused())
        if name not in known and not is_paused:
            raise BadQuery(f"there is no {kind} {quoted(name)}")
        action = _action("pause" if is_pause else "resume", {str(kind): name}, None)
        with audit.recording(action) as entry:
            (bridge.outbox.pause if is_pause else bridge.outbox.resume)(kind, name, entry=entry)
        return redirect(url_for("page.routes"), 303)


def _own_page(url: str | None) -> str | None:
    """Return the URL if it is on this host: by https, too, which a proxy in front may use."""
    own = (f"http://{request.host}/", f"https://{request.host}/")
    return url if url is not None and request.host and url.startswith(own) else None


def _action(name: str, target: Mapping[str, JSON], selected: int | None) -> Action:
    """Return an action of the person who is signed in."""
    reason = request.form.get("reason", "").strip()
    if len(reason) > REASON_CHARACTERS:
        raise BadQuery(f"the reason has {len(reason):,} characters, expected at most {REASON_CHARACTERS}")
    return Action(session.get("name") or "page", None, name, target, selected, reason or None)


def _do_part(bridge: Bridge, selection: Selection, entry: AuditEntry) -> list[tuple[int, Changed]]:
    """Change the next jobs or events; return the results."""
    audit = bridge.outbox.audit
    part = selection.part(bridge, entry.reached)
    results: list[tuple[int, Changed]] = []
    changes, reached = Changes(bridge.outbox, bridge.table), entry.reached
    for number in part:
        # Two tabs, or a page that is loaded again, must not replay an event twice.
        if not audit.advance(entry.id, reached, number):
            return results
        reached = number
        if selection.order == REPLAY:
            results.append((number, changes.replay(number, entry.id)))
        else:
            changed = changes.change(selection.order, number, entry.id, selection.states)
            results.append((number, changed))
    if len(part) < PART:
        audit.end(entry.id)
    return results
