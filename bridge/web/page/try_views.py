"""``/try`` and ``/build``: try the table on a payload, and build a route from an event."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flask import Blueprint, render_template, request
from werkzeug.datastructures import MultiDict

from bridge.app import Bridge, load_with
from bridge.config.new_route import NewRoute
from bridge.core.budget import BUDGET, Budget
from bridge.core.errors import ConfigError, Refusal
from bridge.core.event import Event, Headers, Request
from bridge.core.problem import Problem, Severity
from bridge.core.task import Task
from bridge.outbox.bounds import Window
from bridge.outbox.listing import EventFilter
from bridge.report.verdict import arguments_text
from bridge.routing.nearest_miss import nearest_first
from bridge.routing.route import Route
from bridge.sources.base.sample import completed, unknown_event
from bridge.web.page.payload_tree import tree
from bridge.web.query import BadQuery, Query

#: How many events a new route is tried on.
TRIED_EVENTS = 50
#: How long that may take, seconds.
TRIED_SECONDS = 1.0
#: The name of the file in messages about a new route.
NEW_FILE = "new route"
#: Stands for a task that is not chosen yet.
_ANY_TASK = "000000000000000000000001"
#: The largest payload that is pasted, bytes.
MAX_PASTED = 1024 * 1024


def add_try_views(blueprint: Blueprint, bridge: Bridge) -> None:
    """Add the views that try the table."""

    @blueprint.route("/try", methods=["GET", "POST"])
    def try_it() -> str:
        given = request.form if request.method == "POST" else MultiDict(_from_event(bridge))
        error = warning = None
        event: Event | None = None
        if request.method == "POST":
            try:
                event, warning = _read(bridge, given)
            except (Refusal, BadQuery) as refused:
                error = str(refused)
        explanations = () if event is None else bridge.table.explain(event)
        own = [each for each in explanations if event is not None and each.route.source == event.source]
        return render_template(
            "try.html", given=given, event=event, error=error, warning=warning,
            explanations=nearest_first(own), others=len(explanations) - len(own),
            known={name: [*source.type.events] for name, source in bridge.table.sources.items()},
        )  # fmt: skip

    @blueprint.get("/build/<id:event_id>")
    def build(event_id: int) -> str:
        event = bridge.outbox.event(event_id)
        return render_template(
            "build.html", event=event, event_id=event_id, tree=tree(event.payload, bridge.mask),
            tasks=bridge.table.tasks.values(), **_built(bridge, event, _start(bridge, event)),
        )  # fmt: skip

    @blueprint.post("/build/<id:event_id>")
    def rebuilt(event_id: int) -> str:
        event = bridge.outbox.event(event_id)
        return render_template(
            "build_result.html", event=event, event_id=event_id,
            tasks=bridge.table.tasks.values(), **_built(bridge, event, request.form),
        )  # fmt: skip


def _from_event(bridge: Bridge) -> Mapping[str, str]:
    """Return the form of a stored event, if the URL names one."""
    query = Query.of(request.args)
    if (number := query.number("event_id")) is None:
        return {"source": query.get("source") or ""}
    event = bridge.outbox.event(number)
    # A larger one could not be sent back.
    payload = event.body.decode("utf-8", "replace") if len(event.body) <= MAX_PASTED else ""
    return {"source": event.source, "event": event.full_name, "payload": payload}


def _read(bridge: Bridge, given: Mapping[str, str]) -> tuple[Event, str | None]:
    """Return the event that the server would create, and a warning. Raises Refusal, BadQuery."""
    source = bridge.table.sources.get(given.get("source", ""))
    if source is None:
        raise BadQuery("choose a source")
    body = given.get("payload", "").encode()
    if len(body) > MAX_PASTED:
        raise BadQuery(f"the payload has {len(body):,} bytes; at most {MAX_PASTED:,} can be pasted")
    headers = (line.partition(":") for line in given.get("headers", "").splitlines() if ":" in line)
    pairs = [(name.strip(), value.strip()) for name, _, value in headers]
    named = given.get("event", "").strip() or None
    asked = Request(source.name, Headers(pairs), {}, body, time.time())
    event, _ = source.read(completed(source, named, asked))
    return event, None if named is None else unknown_event(source.type, named)


def _start(bridge: Bridge, event: Event) -> MultiDict[str, str]:
    """Return the form of a route for this event's name, and for the first task."""
    first = next(iter(bridge.table.tasks.values()), None)
    return MultiDict({"event": event.full_name, "task": "" if first is None else first.name})


def _built(bridge: Bridge, event: Event, form: MultiDict[str, str]) -> dict[str, Any]:
    """Return the route that the form has built: its YAML, its problems, and which events match."""
    chosen = form.get("task", "")
    task = next((each for each in bridge.table.tasks.values() if each.name == chosen), None)
    new = NewRoute(
        source=event.source,
        name=form.get("name", "").strip(),
        event=form.get("event", "").strip(),
        loop=form.get("loop", "").strip(),
        conditions=tuple(zip(form.getlist("path"), form.getlist("value"), strict=False)),
        task=chosen if task is not None else form.get("task_id", "").strip(),
        key="" if task is not None else form.get("key", "").strip(),
        arguments=_arguments(task, form),
    )
    problems, route = _compiled(bridge, new)
    jobs = () if route is None else _jobs(bridge, route, event)
    if route is None:
        # Its conditions can be tried before its task and its arguments are chosen.
        _, route = _compiled(bridge, replace(new, task=_ANY_TASK, key="TASK_KEY", arguments=()))
    tried = [] if route is None else _tried(bridge, route, event.source)
    return {
        "form": form, "new": new, "task": task, "yaml": "\n".join(new.lines()), "problems": problems,
        "tried": tried, "matching": [each for each in tried if each[1]],
        "jobs": [arguments_text(job) if job.arguments is not None else job.reason for job in jobs],
    }  # fmt: skip


def _arguments(task: Task | None, form: MultiDict[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the arguments that have a value, with their names if the task has them."""
    values = form.getlist("argument")
    if task is None or task.arguments is None:
        return tuple(("", value) for value in values if value)
    names = [name for name in task.arguments if name is not None]
    return tuple((name, value) for name, value in zip(names, values, strict=False) if value)


def _compiled(bridge: Bridge, new: NewRoute) -> tuple[list[Problem], Route | None]:
    """Compile the route with the table on disk; return its problems, and the route if it is valid."""
    try:
        loaded = load_with(bridge.settings, {NEW_FILE: new.text().encode()})
    except ConfigError as error:
        # Those of the files come first: the new route may be fine.
        return [each for each in error.problems if each.severity is Severity.ERROR], None
    problems = [each for each in loaded.problems if each.place.file == NEW_FILE]
    made = [each for each in loaded.table.routes if each.place is not None and each.place.file == NEW_FILE]
    return problems, made[0] if made else None


def _tried(bridge: Bridge, route: Route, source: str) -> list[tuple[int, bool]]:
    """Return whether the route matches each of the last events of its source, the newest first."""
    listing = bridge.outbox.listing
    page = listing.events(EventFilter(Window(0.0), source=source))
    tried, end = [], time.monotonic() + TRIED_SECONDS
    for number, event in listing.whole_events([each.summary.id for each in page.rows[:TRIED_EVENTS]]):
        tried.append((number, bool(_jobs(bridge, route, event))))
        if time.monotonic() > end:
            break
    return tried


def _jobs(bridge: Bridge, route: Route, event: Event) -> tuple[Any, ...]:
    source = bridge.table.sources.get(event.source)
    if source is None:
        return ()
    named = source.named(event)
    return route.evaluate({**named.scope, BUDGET: Budget()}, source.type).jobs
