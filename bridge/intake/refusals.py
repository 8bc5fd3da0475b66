"""Refusals: logs refused requests, and stores the last ones of each source, for "why did it not fire".

Anybody can cause refusals. So no refusal costs a commit of its own, and few cost a log line: a thread writes
what has accumulated once per interval.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque

from bridge.core.errors import StoreUnavailable
from bridge.core.metrics import CAUSES, UNKNOWN_SOURCE
from bridge.intake.refusal_log import RefusalLog
from bridge.outbox.refused_requests import LIMIT_PER_SOURCE, RefusedRequest
from bridge.outbox.store import Outbox
from bridge.process.log_fields import Fields

#: How long refused requests accumulate before they are written.
WRITE_INTERVAL_SECONDS = 1.0

log = logging.getLogger(__name__)


class Refusals:
    """Accumulates refused requests and writes them from its own thread, which the first one starts."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        #: Guards the fields below.
        self._changed = threading.Condition()
        self._pending: dict[str, deque[RefusedRequest]] = {}
        #: The number of refused requests that are not written yet, by source and cause.
        self._counts: Counter[tuple[str, str]] = Counter()
        self._log = RefusalLog()
        self._closed = False
        self._thread: threading.Thread | None = None

    def log(self, status: int, source: str | None, client: str, reason: str) -> None:
        """Count a refusal, and log it, at once or as one of many. For the arguments see RefusalLog.add."""
        with self._changed:
            if not self._counts and not self._closed:
                self._wake()
            self._counts[source or UNKNOWN_SOURCE, CAUSES[status]] += 1
            fields = self._log.add(status, source, client, reason, time.monotonic())
            if fields is not None:
                self._wake()  # its count has to end
        if fields is not None:
            log.warning("refused with %(status)d: %(reason)s; client %(client)s", fields)

    def record(self, refused: RefusedRequest) -> None:
        """Store a refusal, soon. Its source must be in the table or empty, or sources have no limit."""
        with self._changed:
            if self._closed:
                return
            if not self._pending:
                self._wake()  # once per interval: to wake it costs more than to add a request
            self._pending.setdefault(refused.source, deque(maxlen=LIMIT_PER_SOURCE)).append(refused)

    def close(self) -> None:
        """Write what has accumulated, and accept no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="refusals", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            with self._changed:
                if not self._closed and not self._pending and not self._counts:
                    ends_at = self._log.ends_at
                    self._changed.wait(None if ends_at is None else max(0.0, ends_at - time.monotonic()))
                if self._pending or self._counts:
                    self._changed.wait_for(lambda: self._closed, timeout=WRITE_INTERVAL_SECONDS)
                pending, self._pending = self._pending, {}
                counts, self._counts = self._counts, Counter()
                is_last = self._closed
                lines = self._log.pop_ended(time.monotonic(), everything=is_last)
            for fields in lines:
                text = "refused with %(status)d: %(requests)d more of these in the last %(seconds).0f s"
                log.warning(text, fields)
            self._write([refused for of_source in pending.values() for refused in of_source], counts)

    def _write(self, refused: list[RefusedRequest], counts: Counter[tuple[str, str]]) -> None:
        try:
            if refused or counts:
                self._outbox.store_refused(refused, counts)
        except StoreUnavailable as error:
            if refused:
                fields = Fields("store", requests=len(refused), reason=error)
                log.warning("%(requests)d refused requests are not stored: %(reason)s", fields)
            with self._changed:  # the next interval writes them: a 503 must count, too
                self._counts.update(counts)
        except Exception:
            # A defect costs these requests, never the thread.
            log.exception("refused requests are not stored", Fields("defect"))
