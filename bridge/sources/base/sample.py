"""Complete a webhook as its sender would, for commands and tests; and check the name of its event."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from bridge.core.errors import Unreadable
from bridge.core.event import Headers, Request
from bridge.core.json_values import MISSING
from bridge.core.suggestions import did_you_mean
from bridge.sources.base.source import Source
from bridge.sources.base.source_type import SourceType


def completed(source: Source, event: str | None, request: Request) -> Request:
    """Return the request with the headers and parameters that the sender adds, without its proofs.

    `event` may be ``event.action``, as routes and lists show it. Values that the request has stay. Raises
    Unreadable if the sender names the event outside of the body, and neither `event` nor the request does.
    """
    named = event or request.headers.get(source.type.event_header or "")
    usual = source.type.headers_for(None if named is None else named.partition(".")[0])
    options, action = source.options, None
    if event is not None and options.action is not None and "." in event:
        event, _, action = event.rpartition(".")
    added = {"headers": usual, "query": {}}
    for path, value in (
        (options.event, event), (options.action, action), (options.delivery_id, str(uuid4())),
    ):  # fmt: skip
        if path is not None and path.root in added and path.steps and value is not None:
            added[path.root][str(path.steps[0])] = value
    headers = Headers([*usual.items(), *request.headers.items()])
    request = replace(request, headers=headers, query={**added["query"], **request.query})
    place, scope = options.event, {"headers": request.headers, "query": request.query}
    if place is not None and place.root in scope and place.value(scope) is MISSING:
        message = f"source {source.name} names the event in {place.text}"
        raise Unreadable(f"{message}: add --event and its name")
    return request


def unknown_event(source_type: SourceType, name: str) -> str | None:
    """Return a warning about an event that the type does not know, or None. Senders add events."""
    known = (*source_type.events, *source_type.setup_events)
    if not source_type.events or any(name == each or name.startswith(f"{each}.") for each in known):
        return None
    guesses = (did_you_mean(word, known) for word in (name, name.partition(".")[0]))
    return f"{source_type.name} has no known event {name!r}{next(filter(None, guesses), '')}"
