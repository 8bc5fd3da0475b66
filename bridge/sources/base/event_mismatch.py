"""Check that a body fits the event that a header names. Pure.

Most senders name the event in a header that they do not sign, so a signed body could be replayed as another
event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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


def event_mismatch(events: KnownEvents, markers: Markers | None, event: str, payload: JSON) -> str | None:
    """Return why a payload does not belong to this event; None if it may, or if the event is unknown.

    With `markers`, a payload belongs to the event with the most matching fields: one of `issue_comment` has
    all fields of `issues`, and `comment` too. A field that no event declares changes nothing.
    """
    if event not in events:
        return None
    missing = [key for key in events[event] if not _has(payload, key)]
    if missing:
        return f"without {', '.join(missing)}"
    if markers is None:
        return None
    return _other_text(markers, event, payload) or _other_event(events, markers, event, payload)


def _other_text(markers: Markers, event: str, payload: JSON) -> str | None:
    for path, texts in markers.texts.items():
        text = _at(payload, path)
        known = any(text in of_event for of_event in texts.values())
        if known and text not in texts.get(event, (text,)):
            return f"whose {path} is {text}"
    return None


def _other_event(events: KnownEvents, markers: Markers, event: str, payload: JSON) -> str | None:
    own = _evidence(events, markers, event, payload)
    fields = payload.keys() if isinstance(payload, dict) else ()
    for other, keys in events.items():
        # The first part of the first path alone excludes most events.
        if keys and keys[0].partition(".")[0] not in fields:
            continue
        if all(_has(payload, key) for key in keys):
            theirs = _evidence(events, markers, other, payload)
            if own[0] < theirs[0] or (not theirs[0] and not own[0] and own[1] < theirs[1]):
                return f"whose body is that of {other}"
    return None


def _evidence(events: KnownEvents, markers: Markers, event: str, payload: JSON) -> tuple[set[str], set[str]]:
    """Return the fields of an event that a payload has: its own, and those of the context."""
    keys = {*events[event], *markers.optional.get(event, ())} - {_ACTION}
    there = {key for key in keys if _has(payload, key)}
    return there.difference(markers.context), there.intersection(markers.context)


def _has(payload: JSON, path: str) -> bool:
    parent, _, key = path.rpartition(".")
    holder = _at(payload, parent) if parent else payload
    return isinstance(holder, dict) and key in holder


def _at(payload: JSON, path: str) -> JSON:
    for key in path.split("."):
        payload = payload.get(key) if isinstance(payload, dict) else None
    return payload
