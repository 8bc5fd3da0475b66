"""Keeping: of which events the body is stored, and what a redacted field becomes; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, NoReturn

import orjson

from bridge.core.errors import EvaluationError
from bridge.core.event import JSON, Event, Headers
from bridge.core.fields import Each, Path, Step, child, path_text
from bridge.core.json_values import MISSING

#: Stands in the store for the value of a redacted field.
REDACTED = "<redacted by the bridge>"
#: Why neither an argument nor a condition takes it for a value.
REDACTED_REASON = "was redacted when the event was stored; ask the sender to send it again"


class Keep(StrEnum):
    """Of which events of a source the body, the headers and the query are stored."""

    FULL = "full"
    #: Of those that made a job.
    MATCHED = "matched"
    NONE = "none"


class Redacted:
    """The value of a redacted field, as paths and expressions see it: to look at it raises EvaluationError.

    It may be passed on in the list or object that holds it: of how many elements that is, is known.
    """

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def __getattribute__(self, name: str) -> NoReturn:
        # isinstance asks for __class__: what tells types apart needs to know nothing of this one.
        raise EvaluationError(f"{object.__getattribute__(self, 'path')} {REDACTED_REASON}")

    def _refuse(self, *_others: object) -> NoReturn:
        self.__getattribute__("path")

    __bool__ = __eq__ = __hash__ = __str__ = _refuse


@dataclass(frozen=True)
class RedactedEvent(Event):
    """An event with REDACTED in the place of some fields; only the store has it."""

    @cached_property
    def scope(self) -> dict[str, JSON]:
        seen = {"payload": self.payload, "query": dict(self.query), "headers": dict(self.headers)}
        hidden = {root: _hidden(value, root, ()) for root, value in seen.items()}
        return {**super().scope, **hidden, "headers": Headers(hidden["headers"].items())}


def _hidden(value: JSON, root: str, steps: tuple[Step, ...]) -> JSON:
    """A copy with Redacted for each REDACTED."""
    if isinstance(value, dict):
        return {name: _hidden(inner, root, (*steps, name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [_hidden(inner, root, (*steps, at)) for at, inner in enumerate(value)]
    return Redacted(path_text(root, steps)) if value == REDACTED else value


def without_content(event: Event) -> Event:
    """The event without body, headers and query."""
    return replace(event, payload=None, body=b"", headers=Headers(), query={})


def redact(event: Event, paths: Iterable[Path]) -> Event:
    """The event with REDACTED at each of these paths; the event itself where none leads anywhere.

    Paths begin with payload, headers or query; of the latter two they name one header or parameter.
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
        body=event.body if payload is event.payload else orjson.dumps(payload),
        headers=Headers(parts["headers"].items()),
        query=parts["query"],
    )


def is_redacted(event: Event) -> bool:
    """Whether a field of a stored event was redacted."""
    return isinstance(event, RedactedEvent)


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
    old = child(value, step)
    new = old if old is MISSING else _replaced(old, rest)
    if new is old:
        return value
    if isinstance(value, dict):
        return {**value, step: new}
    at = int(step) % len(value)
    return [*value[:at], new, *value[at + 1 :]]
