"""Known fields of a sender's payloads, against which `check` compares a route's paths. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bridge.core.fields import Step
from bridge.core.suggestions import closest_match

#: An object with exactly these fields, a list of such elements, text that one of these patterns matches, or
#: (None) anything. A pattern is text with ``*``, after ``!`` one that no such text matches.
FieldTree = Mapping[str, "FieldTree"] | list["FieldTree"] | tuple[str, ...] | None

#: The key of an object that also has unknown fields.
ANY = "*"
#: A full ref of git, a branch or tag alone, and a name without its owner.
REF, BRANCH, NAME = ("refs/heads/*", "refs/tags/*"), ("!refs/*",), ("!*/*",)
#: A value that is true or false: no pattern of text matches it.
BOOLEAN: FieldTree = ()
#: A commit's files, and the states of an alert.
FILES: Mapping[str, FieldTree] = {key: [None] for key in ("added", "removed", "modified")}
ALERT = ("firing", "resolved")
#: How close a name must be to a known one to be misspelt, where other names are possible, too.
_MISSPELT = 0.88


def fields(names: str, **inner: FieldTree) -> Mapping[str, FieldTree]:
    """Return an object with these field names, separated by blanks, and with fields of known content."""
    return {**dict.fromkeys(names.split()), **inner}


def names(text: str) -> tuple[str, ...]:
    """Return the names in a text, which may share a prefix: ``user.{created deleted}`` are two."""
    return tuple(
        f"{prefix}{word}"
        for prefix, words in re.findall(r"([^\s{]+)(?:\{([^}]*)\})?", text)
        for word in words.split() or [""]
    )


@dataclass(frozen=True)
class UnknownStep:
    """The first step of a path that is not known."""

    #: The number of known steps before it.
    steps: int
    #: The object, list or text that lacks it.
    holder: Mapping[str, FieldTree] | list[FieldTree] | tuple[str, ...]


def find_unknown_step(known: FieldTree, steps: Iterable[Step]) -> UnknownStep | None:
    """Return the first step of the path that is not known; None if every step may exist."""
    for number, step in enumerate(steps):
        if known is None:
            return None
        if isinstance(known, list):
            if isinstance(step, str):
                return UnknownStep(number, known)
            (known,) = known
        elif isinstance(known, Mapping) and isinstance(step, str) and _may_have(known, step):
            known = known.get(step)
        else:
            return UnknownStep(number, known)
    return None


def _may_have(known: Mapping[str, FieldTree], step: str) -> bool:
    return step in known or (ANY in known and closest_match(step, known, cutoff=_MISSPELT) is None)


def known_at(known: FieldTree, steps: Iterable[Step]) -> FieldTree:
    """Return the tree at these steps, or None if it is unknown."""
    for step in steps:
        if isinstance(known, list) and not isinstance(step, str):
            known = known[0]
        else:
            known = known.get(str(step)) if isinstance(known, Mapping) else None
    return known
