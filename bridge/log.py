"""The log: a line a record, every line through the mask."""

from __future__ import annotations

import logging
import sys

import orjson

from bridge.event import rfc3339
from bridge.settings import Mask


class MaskedFormatter(logging.Formatter):
    """``json``: an object a line; ``text``: words, with the traceback of an exception below."""

    def __init__(self, form: str, mask: Mask) -> None:
        super().__init__()
        self._json = form == "json"
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        message = self._mask(record.getMessage())
        trace = self._mask(self.formatException(record.exc_info)) if record.exc_info else None
        time = rfc3339(record.created)
        if not self._json:
            line = f"{time} {record.levelname} {record.name}: {message}"
            return line if trace is None else f"{line}\n{trace}"
        fields = {"time": time, "level": record.levelname.lower(), "logger": record.name, "message": message}
        if trace is not None:
            fields["exception"] = trace
        return orjson.dumps(fields).decode()


def configure(level: str, form: str, mask: Mask) -> None:
    """Send every logger's records to standard error through `mask`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(MaskedFormatter(form, mask))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
