"""Problem: one mistake or warning in the routing table, at its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum


class Severity(StrEnum):
    """Whether the table can be used all the same."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Place:
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """What is wrong, where, and what to do."""

    place: Place
    severity: Severity
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        text = f"{self.place}: {self.severity}: {self.message}"
        return text if self.hint is None else f"{text}\n    hint: {self.hint}"


class Problems:
    """Collects every problem of one load."""

    def __init__(self) -> None:
        self._found: dict[tuple[Place, str], Problem] = {}

    def error(self, place: Place, message: str, hint: str | None = None) -> None:
        self._found.setdefault((place, message), Problem(place, Severity.ERROR, message, hint))

    def warning(self, place: Place, message: str, hint: str | None = None) -> None:
        self._found.setdefault((place, message), Problem(place, Severity.WARNING, message, hint))

    @property
    def has_errors(self) -> bool:
        return any(problem.severity is Severity.ERROR for problem in self._found.values())

    def sorted(self) -> tuple[Problem, ...]:
        """By file and place."""
        return tuple(
            sorted(
                self._found.values(), key=lambda each: (each.place.file, each.place.line, each.place.column)
            )
        )


def closest(word: str, known: Iterable[str], *, sure: bool = False) -> str | None:
    """The one of `known` that `word` was probably, or with `sure` almost certainly, meant to be."""
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=0.75 if sure else 0.6)), None)
