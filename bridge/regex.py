"""Regular expressions of the table, in RE2's syntax: they run in time linear in the text."""

from __future__ import annotations

import re
from typing import Any

import re2

from bridge.errors import ExpressionError
from bridge.fields import refuse_half_pairs

_REPLACEMENT = re.compile(r"\\(.?)|[^\\]+", re.DOTALL)


def compile_regex(text: str) -> Any:
    """A compiled pattern with `search`, `fullmatch`, …  Raises ExpressionError."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(refuse_half_pairs(text), options)
    except re2.error as error:
        cause = error.args[0]
        cause = cause.decode("utf-8", "replace") if isinstance(cause, bytes) else str(cause)
        raise ExpressionError(f"the regular expression {text!r} cannot be read: {cause}") from error


def compile_replacement(text: str, regex: Any) -> tuple[str | int, ...]:
    r"""The pieces of a replacement: text, and for ``\0`` to ``\9`` the number of a group of `regex`.

    As in RE2: ``\\`` is a backslash, nothing else may stand after one. Raises ExpressionError.
    """
    pieces: list[str | int] = []
    for found in _REPLACEMENT.finditer(text):
        escaped = found[1]
        if escaped is None:
            pieces.append(found[0])
        elif escaped == "\\":
            pieces.append("\\")
        elif re.fullmatch("[0-9]", escaped) and int(escaped) <= regex.groups:
            pieces.append(int(escaped))
        else:
            raise ExpressionError(
                f"the replacement {text!r} holds {found[0]!r}; the expression has {regex.groups} groups",
                hint=r"write \0 for what was found, \1 to \9 for a group, \\ for a backslash",
            )
    return tuple(pieces)
