"""Suggest the word that a misspelt one was probably meant to be; pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, among: Iterable[str], *, sure: bool = False) -> str:
    """Return ``; did you mean X?`` if one of `among` is close to `word`, else an empty text."""
    match = closest_match(word, among, sure=sure)
    return "" if match is None else f"; did you mean {match}?"


def closest_match(
    word: str, among: Iterable[str], *, sure: bool = False, cutoff: float | None = None
) -> str | None:
    """Return the word of `among` that is closest to `word`, or that begins with it.

    With `sure`, return only a very close word.
    """
    among = list(among)
    longer = [each for each in among if len(word) > 2 and each.startswith(word) and not (sure or cutoff)]
    cutoff = cutoff or (0.75 if sure else 0.6)
    return next(iter(get_close_matches(word, among, n=1, cutoff=cutoff) or longer), None)
