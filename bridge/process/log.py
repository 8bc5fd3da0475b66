"""The log: one masked line for each record."""

from __future__ import annotations

import json
import logging
import os
import stat
import sys
from typing import TYPE_CHECKING

import orjson

from bridge.core.event import rfc3339
from bridge.core.secrets import Mask
from bridge.process.log_fields import Fields, Value
from bridge.process.log_queue import QueuedHandler

if TYPE_CHECKING:
    from bridge.process.settings import Settings

#: The file descriptor of standard error.
_STANDARD_ERROR = 2
#: A longer field is cut, characters.
MAX_FIELD_LENGTH = 200
#: The colours of levels on a terminal (ECMA-48, SGR).
_COLORS = {"DEBUG": 36, "INFO": 32, "WARNING": 33, "ERROR": 31, "CRITICAL": 31}


class MaskedFormatter(logging.Formatter):
    """Formats records as ``json``, an object on a line, or as ``text``, with further lines indented.

    Both escape characters that a terminal acts on or hides: a sender may have chosen them.
    """

    def __init__(self, form: str, mask: Mask, *, is_colored: bool = False) -> None:
        super().__init__()
        self._json = form == "json"
        self._mask = mask
        self._is_colored = is_colored

    def format(self, record: logging.LogRecord) -> str:
        shown = self._shown(record)
        trace = self._mask(self.formatException(record.exc_info)) if record.exc_info else None
        time, level = rfc3339(record.created), record.levelname
        if self._json:
            line = {"time": time, "level": level.lower(), "logger": record.name, **shown}
            if trace is not None:
                line["exception"] = trace
            return escaped(orjson.dumps(line).decode())
        whole = _text(record, shown) if trace is None else f"{_text(record, shown)}\n{trace}"
        if self._is_colored:
            level = f"\x1b[{_COLORS.get(level, 0)}m{level}\x1b[0m"
        # Indented, so that an event's text cannot look like a record.
        return f"{time} {level} " + "\n    ".join(map(escaped, whole.split("\n")))

    def _shown(self, record: logging.LogRecord) -> dict[str, Value]:
        """Return the action, the message and the fields, masked. A field is cut after that, never before."""
        shown: dict[str, Value] = {"action": "library", "message": _message(record)}
        if isinstance(record.args, Fields):
            shown |= {name: value for name, value in record.args.items() if value is not None}
        texts = {name: str(value) for name, value in shown.items() if not isinstance(value, (int, float))}
        together = "\n".join(texts.values())
        if self._mask(together) != together:  # one call, for the many records without a secret
            texts = {name: self._mask(text) for name, text in texts.items()}
        shown |= texts
        for name, text in texts.items():
            if len(text) > MAX_FIELD_LENGTH and name != "message":
                shown[name] = f"{text[:MAX_FIELD_LENGTH]}…"
        return shown


def _text(record: logging.LogRecord, shown: dict[str, Value]) -> str:
    """Return the message, and each field that it does not contain. It has words for true and false."""
    if not isinstance(record.args, Fields):
        return f"{record.name}: {shown['message']}"
    more = [
        f" {name}={_quoted(str(value))}"
        for name, value in shown.items()
        if name not in ("action", "message")
        and f"%({name})" not in record.msg
        and not isinstance(value, bool)
    ]
    return f"{shown['action']}: {shown['message']}{''.join(more)}"


def _quoted(text: str) -> str:
    return text if text.isprintable() and not set(' "=') & set(text) else orjson.dumps(text).decode()


def escaped(line: str) -> str:
    """Escape, as JSON does, characters that a terminal acts on or hides.

    These are control characters, line separators, and characters without width or that change the direction.
    """
    if line.isprintable():
        return line
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in line)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - whatever the arguments raise
        # Otherwise logging prints the arguments unmasked.
        what = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        return f"{what} (its arguments cannot be shown: {type(error).__name__})"


def configure(level: str, form: str, mask: Mask, *, queued: bool = False, is_colored: bool = False) -> None:
    """Write every logger's records to standard error, through `mask`.

    With `queued`, for servers, a standard error that blocks does not block the threads that log.
    """
    root = logging.getLogger()
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if queued and _may_block(_STANDARD_ERROR):
        # One queue, so that lines stay in order.
        handler = _queued_handler() or QueuedHandler(_STANDARD_ERROR)
    handler.setFormatter(MaskedFormatter(form, mask, is_colored=is_colored))
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    # The formatter shows none of these (Logging HOWTO, "Optimization"); each record would look them up.
    logging._srcfile = None
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False


def configure_server(settings: Settings, mask: Mask) -> None:
    """Write the log of a server or worker: text on a terminal, in colour, and JSON elsewhere."""
    is_terminal = os.isatty(_STANDARD_ERROR)
    form = settings.log_format or ("text" if is_terminal else "json")
    is_colored = is_terminal and not settings.is_colorless
    configure(settings.log_level, form, mask, queued=True, is_colored=is_colored)


def log_trouble() -> str | None:
    """Return what is wrong with the log, or None."""
    handler = _queued_handler()
    if handler is None or not handler.is_dropping:
        return None
    return "log lines are dropped because standard error is not read: restart the program that reads it"


def _may_block(descriptor: int) -> bool:
    """Whether a write may wait for a reader: all but regular files do."""
    try:
        return not stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:  # it is closed
        return False


def _queued_handler() -> QueuedHandler | None:
    return next((each for each in logging.getLogger().handlers if isinstance(each, QueuedHandler)), None)
