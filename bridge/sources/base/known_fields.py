"""What the fields of a sender's payloads are called, as far as that is known; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bridge.core.fields import Step

#: What may stand somewhere: an object with these fields alone, a list of such elements, or (None) anything.
FieldTree = Mapping[str, "FieldTree"] | list["FieldTree"] | None


def fields(names: str, **inner: FieldTree) -> Mapping[str, FieldTree]:
    """An object with the fields of these names, parted by blanks, and with those whose inside is known."""
    return {**dict.fromkeys(names.split()), **inner}


@dataclass(frozen=True)
class UnknownStep:
    """Where a path leaves what is known."""

    #: How many of the path's steps are there.
    steps: int
    #: What the next one is not in.
    holder: Mapping[str, FieldTree] | list[FieldTree]


def find_unknown_step(known: FieldTree, steps: Iterable[Step]) -> UnknownStep | None:
    """Where the path leaves what is known; None where it does not, or where anything may stand."""
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
