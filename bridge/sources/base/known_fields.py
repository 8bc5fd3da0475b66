"""Known fields of a sender's payloads, against which `check` compares a route's paths. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bridge.core.fields import Step

#: An object with exactly these fields, a list of such elements, or (None) anything.
FieldTree = Mapping[str, "FieldTree"] | list["FieldTree"] | None


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
    #: The object or list that lacks it.
    holder: Mapping[str, FieldTree] | list[FieldTree]


def find_unknown_step(known: FieldTree, steps: Iterable[Step]) -> UnknownStep | None:
    """Return the first step of the path that is not known; None if every step may exist."""
    for number, step in enumerate(steps):
        if known is None:
            return None
        if isinstance(known, list):
            if isinstance(step, str):
                return UnknownStep(number, known)
            (known,) = known
        elif isinstance(step, str) and step in known:
            known = known[step]
        else:
            return UnknownStep(number, known)
    return None
