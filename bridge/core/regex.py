"""Regular expressions of the table, in RE2's syntax: they run in time linear in the text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import re2

from bridge.core.budget import Budget
from bridge.core.errors import ExpressionError
from bridge.core.fields import reject_lone_surrogates

_REPLACEMENT = re.compile(r"\\(.?)|[^\\]+", re.DOTALL)
#: Syntax that RE2 rejects although other engines accept it, and the hint for each.
_NOT_IN_RE2 = (
    (r"\(\?<?[!=]",
     "RE2 does not support lookahead and lookbehind. In match, write {not: …}; in an expression, write "
     "`and not (…)`"),
    (r"\\[1-9]|\\k<|\(\?P=",
     "RE2 does not support backreferences: list the possible texts, such as (a a|b b)"),
    (r"\(\?>|[*+?}]\+", "RE2 does not support possessive or atomic groups: remove the + or ?>"),
    (r"\\Z", r"RE2 does not support \Z: write \z for the end of the text"),
    (r"\\G", r"RE2 does not support \G: remove it"),
    (r"\\R", r"RE2 does not support \R: write \r?\n for a line break"),
    (r"\(\?#", "RE2 does not support comments: remove (?#…)"),
    (r"^[*?]", "to match with * and ?, write the pattern without regex:; in a regular expression, write .*"),
)  # fmt: skip

#: Budget steps for a call of RE2, and for each group of the pattern.
_CALL = 16
_GROUP = 4
#: Bytes of text times instructions of the pattern in one step: once its cache of states is full, RE2 runs
#: every instruction for each byte.
_WORK_PER_STEP = 160
#: A further match in the same text costs one instruction more for each so many of the pattern.
_SMALL_PATTERN = 64


class CompiledRegex:
    """A pattern of RE2 that knows what its use costs."""

    def __init__(self, compiled: Any) -> None:
        self.search, self.match, self.fullmatch = compiled.search, compiled.match, compiled.fullmatch
        self._finditer = compiled.finditer
        self.groups: int = compiled.groups
        self._size: int = compiled.programsize
        self._call: int = _CALL + _GROUP * compiled.groups

    def steps(self, text: str) -> int:
        """Return the budget steps for one search of the text."""
        length = len(text) if text.isascii() else len(text.encode())
        return self._call + length * self._size // _WORK_PER_STEP

    def matches(self, text: str, budget: Budget) -> Iterator[Any]:
        """Yield every match. Raises OverBudget."""
        budget.charge(self.steps(text))
        size = len(text) if text.isascii() else len(text.encode())
        for match in self._finditer(text):
            # RE2 may read to the end of the text each time, to see that a match cannot be longer.
            look = (size - match.end()) * (_SMALL_PATTERN + self._size) // (_SMALL_PATTERN * _WORK_PER_STEP)
            budget.charge(self._call + look)
            yield match


def compile_regex(text: str) -> CompiledRegex:
    """Compile a pattern. Raises ExpressionError."""
    options = re2.Options()
    options.log_errors = False
    try:
        return CompiledRegex(re2.compile(reject_lone_surrogates(text), options))
    except re2.error as error:
        cause = error.args[0]
        cause = cause.decode("utf-8", "replace") if isinstance(cause, bytes) else str(cause)
        hint = next((hint for part, hint in _NOT_IN_RE2 if re.search(part, text)), None)
        raise ExpressionError(f"invalid regular expression {text!r}: {cause}", hint=hint) from error


def compile_replacement(text: str, regex: CompiledRegex) -> tuple[str | int, ...]:
    r"""Split a replacement into text and, for ``\0`` to ``\9``, numbers of groups of `regex`.

    As in RE2, ``\\`` is a backslash. Raises ExpressionError for any other escape.
    """
    pieces: list[str | int] = []
    for match in _REPLACEMENT.finditer(text):
        escaped = match[1]
        if escaped is None:
            pieces.append(match[0])
        elif escaped == "\\":
            pieces.append("\\")
        elif re.fullmatch("[0-9]", escaped) and int(escaped) <= regex.groups:
            pieces.append(int(escaped))
        else:
            raise ExpressionError(
                f"the replacement {text!r} has {match[0]!r}; the expression has {regex.groups} groups",
                hint=r"write \0 for the match, \1 to \9 for a group, \\ for a backslash",
            )
    return tuple(pieces)
