"""Known fields of a sender's payloads, against which `check` compares a route's paths. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bridge.core.fields import Step
from bridge.core.suggestions import closest_match

#: An object with exactly these fields, a list of such elements, text that these patterns allow, or (None)
#: anything. A pattern is text with ``*``: any of them matches, but none after a ``!``.
FieldTree = Mapping[str, "FieldTree"] | list["FieldTree"] | tuple[str, ...] | None

#: The key of an object that also has unknown fields, and its value if all of these are the same.
ANY = "*"
#: A full ref of git, a branch or tag alone, a name without its owner, one with it, and any text.
REF, BRANCH, NAME = ("refs/heads/*", "refs/tags/*"), ("!refs/*",), ("!*/*",)
OWNED, TEXT = ("*/*", "!*:*", "!*/*/*"), ("*",)
#: A value that is true or false: no pattern of text matches it.
BOOLEAN: FieldTree = ()
#: A commit's files, whose paths begin at the repository's root.
FILES: Mapping[str, FieldTree] = {key: [("!/*", "!./*")] for key in ("added", "removed", "modified")}
#: The states of an alert, its labels and its annotations.
ALERT = ("firing", "resolved")
LABELS: FieldTree = dict.fromkeys(("severity", "alertname", ANY), TEXT)
ANNOTATIONS: FieldTree = dict.fromkeys(("summary", "description", ANY), TEXT)
#: How close a name must be to a known one to be misspelt, where other names are possible, too.
_MISSPELT = 0.88


def fields(names: str, **inner: FieldTree) -> Mapping[str, FieldTree]:
    """Return an object with these field names, separated by blanks, and with fields of known content."""
    return {**dict.fromkeys(names.split()), **inner}


def keyed(text: str) -> Mapping[str, tuple[str, ...]]:
    """Return the words by name: ``push(ref after) fork(forkee)`` has the fields of two events."""
    return {name: tuple(keys.split()) for name, keys in re.findall(r"([^\s(]+)\(([^)]*)\)", text)}


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
            known = known.get(step, known.get(ANY))
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
        elif isinstance(known, Mapping) and isinstance(step, str):
            known = known.get(step, known.get(ANY))
        else:
            known = None
    return known
