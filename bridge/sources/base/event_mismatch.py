"""Recognition: whether a body can be that of the event that a header names; pure.

Most senders name the event in a header that they do not sign. Whoever holds a signed body can then send it
again as another event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.core.event import JSON

#: By known event, the keys that each of its bodies has. A dot leads into an object: ``alert.rule``.
KnownEvents = Mapping[str, tuple[str, ...]]

#: It is no evidence: the same events come with it from one release of a sender, and without it from another.
_ACTION = "action"


@dataclass(frozen=True)
class Markers:
    """What tells the bodies of known events apart, besides the keys that each body must have."""

    #: Keys that say where something happened. They count only between events that have no other key.
    context: tuple[str, ...] = ()
    #: By event, the keys that some of its bodies have, and that are evidence for it.
    optional: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: By path, the texts that stand there in the bodies of an event. A text of no event is no evidence.
    texts: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)


def event_mismatch(events: KnownEvents, markers: Markers | None, event: str, payload: JSON) -> str | None:
    """Why a payload is not one of this event; None where it may be, or where the event is unknown.

    With `marks`, a payload belongs to the event whose keys explain the most of it: one of `issue_comment` has
    all keys of `issues`, and `comment` too. A key that no event declares changes nothing.
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
        found = _at(payload, path)
        known = any(found in of_event for of_event in texts.values())
        if known and found not in texts.get(event, (found,)):
            return f"whose {path} is {found}"
    return None


def _other_event(events: KnownEvents, markers: Markers, event: str, payload: JSON) -> str | None:
    own = _evidence(events, markers, event, payload)
    for other, keys in events.items():
        if all(_has(payload, key) for key in keys):
            theirs = _evidence(events, markers, other, payload)
            if own[0] < theirs[0] or (not theirs[0] and not own[0] and own[1] < theirs[1]):
                return f"whose body is that of {other}"
    return None


def _evidence(events: KnownEvents, markers: Markers, event: str, payload: JSON) -> tuple[set[str], set[str]]:
    """Which keys of a payload are those of an event: the keys of its own, and those of the context."""
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
