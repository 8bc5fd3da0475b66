"""Delete daily, in a thread of its own, what is older than its retention."""

from __future__ import annotations

import logging
import threading

from bridge.core.errors import StoreUnavailable
from bridge.outbox.store import Outbox
from bridge.process.clock import Clock
from bridge.process.log_fields import Fields
from bridge.process.settings import Retention

#: The time from one pass to the next, seconds.
PRUNE_INTERVAL = 86_400.0
#: How long the clock must have been steady since the start and since a jump, seconds: by a wrong clock, new
#: events may look old. Less than a day, because a platform may restart processes daily.
MIN_STEADY_TIME = 3600.0

log = logging.getLogger(__name__)


class Pruner:
    """Runs the passes of one process. Several processes share the work."""

    def __init__(
        self,
        outbox: Outbox,
        retention: Retention,
        clock: Clock,
        *,
        first: float = MIN_STEADY_TIME,
        every: float = PRUNE_INTERVAL,
    ) -> None:
        self._outbox = outbox
        self._retention = retention
        self._clock = clock
        self._first = first
        self._every = every
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Run no more passes; a running one ends after its unit of work."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        wait = self._first
        while not self._closed.wait(wait):
            wait = MIN_STEADY_TIME - self._clock.steady_for()
            if wait <= 0:
                self._pass()
                wait = self._every

    def _pass(self) -> None:
        try:
            pruned = self._outbox.prune(self._retention, self._closed.is_set)
        except StoreUnavailable as error:
            log.warning("retention failed: %(reason)s", Fields("prune", reason=error))
        except Exception:
            # A defect must not end the thread.
            log.exception("retention failed", Fields("defect"))
        else:
            if pruned:
                log.info(
                    "retention deleted %(events)d events, %(jobs)d jobs, %(bodies)d bodies",
                    Fields("prune", events=pruned.events, jobs=pruned.jobs, bodies=pruned.bodies),
                )
