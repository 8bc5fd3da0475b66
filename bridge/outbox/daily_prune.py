"""Retention: once a day, what is older than it is kept is let go of, by a thread of its own."""

from __future__ import annotations

import logging
import threading

from bridge.core.errors import StoreUnavailable
from bridge.outbox.store import Outbox
from bridge.process.clock import Clock
from bridge.process.settings import Retention

#: How long, in seconds, after one pass the next comes.
PRUNE_INTERVAL = 86_400.0
#: How long, in seconds, the clock must have been steady since the start and since a jump: what looks old by
#: a wrong clock may be new. Less than a day, because a platform may start processes anew every day.
MIN_STEADY_TIME = 3600.0

log = logging.getLogger(__name__)


class Pruner:
    """Makes one process's passes; where several processes do, each finds what the others have left."""

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
        """Make no more passes; one that runs ends after its unit of work."""
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
            log.warning("what is old is not deleted now: %s", error)
        except Exception:
            # A defect costs this pass, never the thread.
            log.exception("what is old is not deleted now")
        else:
            if pruned:
                log.info(
                    "deleted as older than it is kept: %d events, %d jobs, %d bodies",
                    pruned.events, pruned.jobs, pruned.bodies,
                )  # fmt: skip
