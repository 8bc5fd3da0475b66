"""The log: a line a record, every line through the mask."""

from __future__ import annotations

import json
import logging
import os
import stat
import sys

import orjson

from bridge.core.event import rfc3339
from bridge.core.secrets import Mask
from bridge.process.log_queue import QueuedHandler

#: The file descriptor of standard error.
_STANDARD_ERROR = 2


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


def configure(level: str, form: str, mask: Mask, *, queued: bool = False) -> None:
    """Send every logger's records to standard error through `mask`.

    With `queued`, for servers, standard error may block without blocking those who log.
    """
    root = logging.getLogger()
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if queued and _may_block(_STANDARD_ERROR):
        # A process has one queue, so that its lines stay in order.
        handler = _queued_handler() or QueuedHandler(_STANDARD_ERROR)
    handler.setFormatter(MaskedFormatter(form, mask))
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)


def log_trouble() -> str | None:
    """Return what is wrong with the log, or None."""
    handler = _queued_handler()
    if handler is None or not handler.is_dropping:
        return None
    return "log lines are dropped because standard error is blocked: read it, or restart what reads it"


def _may_block(descriptor: int) -> bool:
    """Whether a write waits for whoever reads: all but regular files do."""
    try:
        return not stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:  # it is closed
        return False


def _queued_handler() -> QueuedHandler | None:
    return next((each for each in logging.getLogger().handlers if isinstance(each, QueuedHandler)), None)
