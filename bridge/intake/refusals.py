"""Refusals: refused requests are logged, and the last of each source are kept, for "why did it not fire".

Anybody can cause a refusal, so that none costs a commit, and not each one a log line: what has gathered is
written once in a while.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from bridge.core.errors import StoreUnavailable
from bridge.intake.refusal_log import RefusalLog
from bridge.outbox.refused_requests import KEPT, RefusedRequest
from bridge.outbox.store import Outbox

#: How long, in seconds, refused requests gather before they are written.
WRITE_INTERVAL_SECONDS = 1.0

log = logging.getLogger(__name__)


class Refusals:
    """Gathers refused requests and writes them from a thread of its own, which the first one starts."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        # Guards what follows.
        self._changed = threading.Condition()
        self._gathered: dict[str, deque[RefusedRequest]] = {}
        self._log = RefusalLog()
        self._closed = False
        self._thread: threading.Thread | None = None

    def log(self, status: int, source: str | None, client: str, reason: str) -> None:
        """Log one, at once or as one of many. `source` must be one of the table's, or None.

        `client` is the IP address that the request came from, empty where it is not known.
        """
        with self._changed:
            line = self._log.add(status, source, client, reason, time.monotonic())
            if line is not None:
                self._start()  # its count has to end
        if line is not None:
            log.warning("%s", line)

    def note(self, refused: RefusedRequest) -> None:
        """Keep one; its source must be one of the table's, or the sources would have no end."""
        with self._changed:
            if self._closed:
                return
            if not self._gathered:
                self._start()  # once for all that gather: to wake it costs more than to add one
            self._gathered.setdefault(refused.source, deque(maxlen=KEPT)).append(refused)

    def close(self) -> None:
        """Write what has gathered, and keep no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        last = False
        while not last:
            with self._changed:
                if not self._closed and not self._gathered:
                    self._changed.wait(self._rest())
                if self._gathered:
                    self._changed.wait_for(lambda: self._closed, timeout=WRITE_INTERVAL_SECONDS)
                gathered, self._gathered = self._gathered, {}
                last = self._closed
                lines = self._log.pop_ended(time.monotonic(), everything=last)
            for line in lines:
                log.warning("%s", line)
            self._write([refused for of_source in gathered.values() for refused in of_source])

    def _rest(self) -> float | None:
        """Seconds until a count of the log ends; None where nothing is counted."""
        at = self._log.ends_at
        return None if at is None else max(0.0, at - time.monotonic())

    def _write(self, refused: list[RefusedRequest]) -> None:
        try:
            if refused:
                self._outbox.keep_refused(refused)
        except StoreUnavailable as error:
            log.warning("%d refused requests are not kept: %s", len(refused), error)
        except Exception:
            # A defect costs what has gathered, never the thread.
            log.exception("%d refused requests are not kept", len(refused))
