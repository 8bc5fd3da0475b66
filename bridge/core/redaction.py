"""Redaction of fields before an event is stored, and which events are stored without content; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, NoReturn, cast

from bridge.core.errors import EvaluationError
from bridge.core.event import JSON, Event, Headers
from bridge.core.exact_json import dumps
from bridge.core.fields import Each, Path, Step, child, path_text
from bridge.core.json_values import MISSING

#: The value that the store has in place of a redacted field.
REDACTED = "<redacted by the bridge>"
#: The reason for which neither a condition nor an argument can use such a field.
REDACTED_REASON = "was redacted when the event was stored; ask the sender to send it again"


class Keep(StrEnum):
    """The events of a source whose body, headers and query are stored."""

    FULL = "full"
    #: Events that created a job.
    MATCHED = "matched"
    NONE = "none"


class Redacted:
    """The value of a redacted field in a scope. Any use of it raises EvaluationError.

    A list or an object that contains it may be used: its length is known.
    """

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def __getattribute__(self, name: str) -> NoReturn:
        # isinstance reads __class__, so code that distinguishes types needs no case for this one.
        raise EvaluationError(f"{object.__getattribute__(self, 'path')} {REDACTED_REASON}")

    def _refuse(self, *_others: object) -> NoReturn:
        self.__getattribute__("path")

    __bool__ = __eq__ = __hash__ = __str__ = _refuse


@dataclass(frozen=True)
class RedactedEvent(Event):
    """A stored event with REDACTED in place of some fields."""

    @cached_property
    def scope(self) -> dict[str, JSON]:
        parts = {"payload": self.payload, "query": dict(self.query), "headers": dict(self.headers)}
        marked = {root: _marked(value, root, ()) for root, value in parts.items()}
        return {**super().scope, **marked, "headers": Headers(marked["headers"].items())}


def _marked(value: JSON, root: str, steps: tuple[Step, ...]) -> JSON:
    """Return a copy with a Redacted for each REDACTED."""
    if isinstance(value, dict):
        return {name: _marked(inner, root, (*steps, name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [_marked(inner, root, (*steps, at)) for at, inner in enumerate(value)]
    return Redacted(path_text(root, steps)) if value == REDACTED else value


def without_content(event: Event) -> Event:
    """Return the event without body, headers and query."""
    return replace(event, payload=None, body=b"", headers=Headers(), query={})


def redact(event: Event, paths: Iterable[Path]) -> Event:
    """Return the event with REDACTED at each of these paths, or the event itself if it has none of them.

    A path begins with payload, or names one header or one query parameter.
    """
    parts: dict[str, Any] = {
        "payload": event.payload,
        "headers": dict(event.headers),
        "query": dict(event.query),
    }
    before = dict(parts)
    for path in paths:
        steps = [_lowered(step) for step in path.steps] if path.root == "headers" else list(path.steps)
        parts[path.root] = _replaced(parts[path.root], steps)
    if all(parts[root] is before[root] for root in parts):
        return event
    payload = parts["payload"]
    return replace(
        RedactedEvent(**{field.name: getattr(event, field.name) for field in fields(event)}),
        payload=payload,
        body=event.body if payload is event.payload else dumps(payload),
        headers=Headers(parts["headers"].items()),
        query=parts["query"],
    )


def is_redacted(event: Event) -> bool:
    """Return whether a stored event has redacted fields."""
    return isinstance(event, RedactedEvent)


def _lowered(step: Step) -> Step:
    return step.lower() if isinstance(step, str) else step


def _replaced(value: JSON, steps: list[Step]) -> JSON:
    """Return a copy with REDACTED at the end of the steps, or the value itself if it has no such field."""
    if not steps:
        return REDACTED
    step, *rest = steps
    if isinstance(step, Each):
        if not isinstance(value, list):
            return value
        elements = [_replaced(element, rest) for element in value]
        return value if all(new is old for new, old in zip(elements, value, strict=True)) else elements
    old = child(value, step)
    new = old if old is MISSING else _replaced(old, rest)
    if new is old:
        return value
    if isinstance(value, dict):
        return {**value, step: new}
    at = cast(int, step) % len(value)
    return [*value[:at], new, *value[at + 1 :]]
