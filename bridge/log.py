"""The log: a line a record, every line through the mask."""

from __future__ import annotations

import json
import logging
import sys

import orjson

from bridge.event import rfc3339
from bridge.settings import Mask


class MaskedFormatter(logging.Formatter):
    """``json``: an object a line; ``text``: words, and what takes more lines is indented below.

    Both escape what a terminal acts on or does not show: a sender or a stranger may have chosen it.
    """

    def __init__(self, form: str, mask: Mask) -> None:
        super().__init__()
        self._json = form == "json"
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        message = self._mask(_message(record))
        trace = self._mask(self.formatException(record.exc_info)) if record.exc_info else None
        time = rfc3339(record.created)
        if not self._json:
            line = f"{time} {record.levelname} {record.name}: {message}"
            whole = line if trace is None else f"{line}\n{trace}"
            # Indented, so that no event's text can look like a record.
            return "\n    ".join(map(escaped, whole.split("\n")))
        fields = {"time": time, "level": record.levelname.lower(), "logger": record.name, "message": message}
        if trace is not None:
            fields["exception"] = trace
        return escaped(orjson.dumps(fields).decode())


def escaped(line: str) -> str:
    """Return one line with JSON's escapes for characters that a terminal acts on or does not show.

    Those are control characters, line separators, and what changes the direction of text or has no width.
    """
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in line)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - whatever the arguments raise
        # Left to itself, logging prints the arguments as they are, past the mask.
        what = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        return f"{what} (its arguments cannot be shown: {type(error).__name__})"


def configure(level: str, form: str, mask: Mask) -> None:
    """Send every logger's records to standard error through `mask`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(MaskedFormatter(form, mask))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
