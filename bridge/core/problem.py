"""Problem, an error or a warning about the routing table, and its Place; pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """An ERROR makes the table invalid, a WARNING does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Place:
    """A position in a file; lines and columns count from 1, and are 0 for a file that does not exist."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True)
class Problem:
    """An error or a warning, with its place and a hint."""

    place: Place
    severity: Severity
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        text = f"{self.place}: {self.severity}: {self.message}"
        return text if self.hint is None else f"{text}\n    hint: {self.hint}"
