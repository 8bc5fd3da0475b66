"""Line, one line of text for a person, and Tone, what it says."""

from __future__ import annotations

from enum import StrEnum, auto
from typing import NamedTuple


class Tone(StrEnum):
    """What a line is, for a terminal to show in colour."""

    PLAIN = auto()
    TITLE = auto()
    YES = auto()
    NO = auto()
    WARNING = auto()
    ASIDE = auto()


class Line(NamedTuple):
    """One line for a person."""

    text: str
    tone: Tone = Tone.PLAIN
