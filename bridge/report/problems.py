"""Problems of the routing table, as JSON and as annotations of GitHub Actions."""

from __future__ import annotations

from bridge.core.event import JSON
from bridge.core.problem import Problem


def problem_json(problem: Problem) -> JSON:
    """A problem of the routing table."""
    place = problem.place
    return {
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "severity": problem.severity,
        "message": problem.message,
        "hint": problem.hint,
    }


def annotation(problem: Problem) -> str:
    """The problem as an annotation of GitHub Actions, which shows it in the pull request."""
    place = problem.place
    text = problem.message if problem.hint is None else f"{problem.message}\nhint: {problem.hint}"
    file = _for_actions(place.file).replace(":", "%3A").replace(",", "%2C")
    where = f"file={file},line={place.line},col={place.column}"
    return f"::{problem.severity} {where}::{_for_actions(text)}"


def _for_actions(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
