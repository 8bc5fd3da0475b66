"""Line, one line of text, and Tone, its meaning; a terminal may color it."""

from __future__ import annotations

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
