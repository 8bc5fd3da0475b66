"""Problems: the errors and warnings of one table, collected while it loads."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.core.problem import Place, Problem, Severity
from bridge.core.suggestions import did_you_mean

#: The most names that a guess compares, and the most that a message lists.
_CANDIDATES_LIMIT = 500
_LISTED_LIMIT = 20


class Problems:
    """Collect every problem of one load."""

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
        """Return whether the line of the place has an error."""
        return any(
            problem.severity is Severity.ERROR
            and (problem.place.file, problem.place.line) == (place.file, place.line)
            for problem in self._found.values()
        )

    def has_problem_at(self, place: Place) -> bool:
        return any(problem.place == place for problem in self._found.values())

    def sorted(self) -> tuple[Problem, ...]:
        """Return the problems by file and place."""
        return tuple(
            sorted(
                self._found.values(), key=lambda each: (each.place.file, each.place.line, each.place.column)
            )
        )


def guess(word: str, names: Iterable[str]) -> tuple[str, str]:
    """Return the closest name as a question, and a list of the names; of many names, only the first."""
    known = sorted(names)[:_CANDIDATES_LIMIT]
    listed = ", ".join(known[:_LISTED_LIMIT]) or "none"
    return did_you_mean(word, known), f"{listed}, …" if len(known) > _LISTED_LIMIT else listed
