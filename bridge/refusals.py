"""Refusals: the last refused requests of each source are kept, for "why did it not fire".

Anybody can cause a refusal, so that none costs a commit: what has gathered is written once in a while.
"""

from __future__ import annotations

import logging
import threading
from collections import deque

from bridge.errors import StoreUnavailable
from bridge.outbox import KEPT, Outbox, RefusedRequest

#: How long, in seconds, refused requests gather before they are written.
GATHERS = 1.0

log = logging.getLogger(__name__)


class Refusals:
    """Gathers refused requests and writes them from a thread of its own, which the first one starts."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        # Guards what follows.
        self._changed = threading.Condition()
        self._gathered: dict[str, deque[RefusedRequest]] = {}
        self._closed = False
        self._thread: threading.Thread | None = None

    def note(self, refused: RefusedRequest) -> None:
        """Keep one; its source must be one of the table's, or the sources would have no end."""
        with self._changed:
            if self._closed:
                return
            self._gathered.setdefault(refused.source, deque(maxlen=KEPT)).append(refused)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Write what has gathered, and keep no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._gathered)
                self._changed.wait_for(lambda: self._closed, timeout=GATHERS)
                gathered, self._gathered = self._gathered, {}
                last = self._closed
            self._write([refused for of_source in gathered.values() for refused in of_source])
            if last:
                return

    def _write(self, refused: list[RefusedRequest]) -> None:
        try:
            if refused:
                self._outbox.keep_refused(refused)
        except StoreUnavailable as error:
            log.warning("%d refused requests are not kept: %s", len(refused), error)
        except Exception:
            # A defect costs what has gathered, never the thread.
            log.exception("%d refused requests are not kept", len(refused))
