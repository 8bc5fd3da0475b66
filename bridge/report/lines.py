"""Line, one line of text, and Tone, its meaning, which a terminal may color; and lines of a list."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum, auto
from typing import NamedTuple


class Tone(StrEnum):
    """The meaning of a line."""

    PLAIN = auto()
    TITLE = auto()
    YES = auto()
    NO = auto()
    WARNING = auto()
    ASIDE = auto()


class Line(NamedTuple):
    """One line of text."""

    text: str
    tone: Tone = Tone.PLAIN


def with_heading(heading: str, lines: Iterable[str], empty: str) -> list[str]:
    """Return the lines below their heading, or `empty` alone if there are none."""
    rows = list(lines)
    return [heading, *rows] if rows else [empty]


def one_line(text: str) -> str:
    """Return the text with a blank for each character that is not printable."""
    return "".join(character if character.isprintable() else " " for character in text)
