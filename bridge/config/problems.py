"""Problems: everything that is wrong with one table, collected while it loads."""

from __future__ import annotations

from bridge.problem import Place, Problem, Severity


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
