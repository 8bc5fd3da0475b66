"""Check that a body fits the event that a header names. Pure.

Most senders name the event in a header that they do not sign, so a signed body could be replayed as another
event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from bridge.core.event import JSON

#: By known event, the fields that each of its bodies has, such as ``alert.rule``.
KnownEvents = Mapping[str, tuple[str, ...]]

#: Not evidence: the same event has an action in some releases of a sender and none in others.
_ACTION = "action"


@dataclass(frozen=True)
class Markers:
    """More evidence for the event of a body, besides the fields that it must have."""

    #: Fields that say where something happened. They count only between events without other fields.
    context: tuple[str, ...] = ()
    #: By event, fields that some of its bodies have.
    optional: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: By path, the values that an event's bodies have there. A value of no event is not evidence.
    texts: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)


class _Required(NamedTuple):
    """The fields that each body of an event has."""

    #: The event's position in the table, which is unique.
    position: int
    event: str
    fields: frozenset[str]
    #: Paths of more than one part.
    nested: tuple[str, ...]


class EventMatcher:
    """Compares bodies with the known events of one type of sender."""

    def __init__(self, events: KnownEvents, markers: Markers | None) -> None:
        self._events = events
        self._markers = markers
        #: The events by the first part of their first path, which excludes most.
        self._by_field: dict[str, list[_Required]] = {}
        #: Those that only fields which may be absent mark.
        self._of_any: list[_Required] = []
        for position, (event, keys) in enumerate(events.items()):
            nested = tuple(key for key in keys if "." in key)
            required = _Required(position, event, frozenset(keys).difference(nested), nested)
            for key in keys[:1]:
                self._by_field.setdefault(key.partition(".")[0], []).append(required)
            if not keys and markers is not None and markers.optional.get(event):
                self._of_any.append(required)

    def mismatch(self, event: str, payload: JSON) -> str | None:
        """Return why a payload does not belong to this event; None if it may, or if the event is unknown.

        With markers, a payload belongs to the event with the most matching fields: one of `issue_comment` has
        all fields of `issues`, and `comment` too. A field that no event declares changes nothing.
        """
        if event not in self._events:
            return None
        missing = [key for key in self._events[event] if not _has(payload, key)]
        if missing:
            return f"without {', '.join(missing)}{self._lookalike(payload)}"
        if self._markers is None or not isinstance(payload, dict):
            return None
        return _other_text(self._markers, event, payload) or self._other_event(self._markers, event, payload)

    def _lookalike(self, payload: JSON) -> str:
        """Return the event with the most required fields, all of which the payload has, for a message."""
        several = ((len(keys), event) for event, keys in self._events.items() if len(keys) > 1)
        fits = [each for each in several if all(_has(payload, key) for key in self._events[each[1]])]
        return f"; the body looks like that of {max(fits)[1]}" if fits else ""

    def _other_event(self, markers: Markers, event: str, payload: dict[str, JSON]) -> str | None:
        similar = [events for name, events in self._by_field.items() if name in payload]
        own = None
        for _, other, fields, nested in sorted(chain(self._of_any, *similar)):
            if other == event or not payload.keys() >= fields:
                continue
            if all(_has(payload, key) for key in nested):
                own = own or self._evidence(markers, event, payload)
                theirs = self._evidence(markers, other, payload)
                if own[0] < theirs[0] or (not theirs[0] and not own[0] and own[1] < theirs[1]):
                    return f"whose body is that of {other}"
        return None

    def _evidence(self, markers: Markers, event: str, payload: dict[str, JSON]) -> tuple[set[str], set[str]]:
        """Return the fields of an event that a payload has: its own, and those of the context."""
        keys = {*self._events[event], *markers.optional.get(event, ())} - {_ACTION}
        there = {key for key in keys if _has(payload, key)}
        return there.difference(markers.context), there.intersection(markers.context)


def _other_text(markers: Markers, event: str, payload: JSON) -> str | None:
    for path, texts in markers.texts.items():
        text = _at(payload, path)
        known = any(text in of_event for of_event in texts.values())
        if known and text not in texts.get(event, (text,)):
            return f"whose {path} is {text}"
    return None


def _has(payload: JSON, path: str) -> bool:
    if "." not in path:
        return isinstance(payload, dict) and path in payload
    parent, _, key = path.rpartition(".")
    holder = _at(payload, parent)
    return isinstance(holder, dict) and key in holder


def _at(payload: JSON, path: str) -> JSON:
    for key in path.split("."):
        payload = payload.get(key) if isinstance(payload, dict) else None
    return payload
