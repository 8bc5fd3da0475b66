"""Keeping: of which events the body is stored, and what a redacted field becomes; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from typing import Any

import orjson

from bridge.event import JSON, Event, Headers
from bridge.fields import MISSING, Each, Path, Step, take

#: Stands in the store for the value of a redacted field.
REDACTED = "<redacted by the bridge>"
#: Why neither an argument nor a condition takes it for a value.
WAS_REDACTED = "holds a field that was redacted when the event was stored; let the sender send it again"


class Keep(StrEnum):
    """Of which events of a source the body, the headers and the query are stored."""

    FULL = "full"
    #: Of those that made a job.
    MATCHED = "matched"
    NONE = "none"


def emptied(event: Event) -> Event:
    """The event without body, headers and query."""
    return replace(event, payload=None, body=b"", headers=Headers(), query={})


def redacted(event: Event, paths: Iterable[Path]) -> Event:
    """The event with REDACTED at each of these paths; the body stays as it is where none leads anywhere.

    Paths begin with payload, headers or query; of the latter two they name one header or parameter.
    """
    parts: dict[str, Any] = {
        "payload": event.payload,
        "headers": dict(event.headers),
        "query": dict(event.query),
    }
    for path in paths:
        steps = [_lowered(step) for step in path.steps] if path.root == "headers" else list(path.steps)
        parts[path.root] = _replaced(parts[path.root], steps)
    payload = parts["payload"]
    return replace(
        event,
        payload=payload,
        body=event.body if payload is event.payload else orjson.dumps(payload),
        headers=Headers(parts["headers"].items()),
        query=parts["query"],
    )


def is_redacted(event: Event) -> bool:
    """Whether a field of a stored event was redacted."""
    return REDACTED.encode() in event.body or REDACTED in (*event.headers.values(), *event.query.values())


def _lowered(step: Step) -> Step:
    return step.lower() if isinstance(step, str) else step


def _replaced(value: JSON, steps: list[Step]) -> JSON:
    """A copy with REDACTED where the steps lead; the value itself where they lead nowhere."""
    if not steps:
        return REDACTED
    step, *rest = steps
    if isinstance(step, Each):
        if not isinstance(value, list):
            return value
        elements = [_replaced(element, rest) for element in value]
        return value if all(new is old for new, old in zip(elements, value, strict=True)) else elements
    old = take(value, step)
    new = old if old is MISSING else _replaced(old, rest)
    if new is old:
        return value
    if isinstance(value, dict):
        return {**value, step: new}
    at = int(step) % len(value)
    return [*value[:at], new, *value[at + 1 :]]
