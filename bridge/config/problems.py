"""Problems: everything that is wrong with one table, collected while it loads."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.core.problem import Place, Problem, Severity
from bridge.core.suggestions import did_you_mean

#: How many names a guess is made among, and how many a message lists.
_GUESSED = 500
_LISTED = 20


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

    def has_error_on(self, place: Place) -> bool:
        """Whether there is an error on the place's line."""
        return any(
            problem.severity is Severity.ERROR
            and (problem.place.file, problem.place.line) == (place.file, place.line)
            for problem in self._found.values()
        )

    def sorted(self) -> tuple[Problem, ...]:
        """By file and place."""
        return tuple(
            sorted(
                self._found.values(), key=lambda each: (each.place.file, each.place.line, each.place.column)
            )
        )


def guess(word: str, names: Iterable[str]) -> tuple[str, str]:
    """What was probably meant, and what there is; of many names only some, for the time that each takes."""
    known = sorted(names)[:_GUESSED]
    listed = ", ".join(known[:_LISTED]) or "none"
    return did_you_mean(word, known), f"{listed}, …" if len(known) > _LISTED else listed
