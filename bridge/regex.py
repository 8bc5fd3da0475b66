"""Regular expressions of the table, in RE2's syntax: they run in time linear in the text."""

from __future__ import annotations

from typing import Any

import re2

from bridge.errors import ExpressionError


def compile_regex(text: str) -> Any:
    """A compiled pattern with `search`, `fullmatch`, …  Raises ExpressionError."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        cause = error.args[0]
        cause = cause.decode("utf-8", "replace") if isinstance(cause, bytes) else str(cause)
        raise ExpressionError(f"the regular expression {text!r} cannot be read: {cause}") from error
