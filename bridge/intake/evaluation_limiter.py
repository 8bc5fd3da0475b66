"""Slots: how many webhooks of one source are evaluated at the same time in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from bridge.core.errors import SourceBusy

#: Webhooks of one source that are evaluated at once: they share one core, so that more would only be slower.
MAX_RUNNING = 4
#: Webhooks of one source that wait for that: with those that run, half of the threads that answer requests.
MAX_WAITING = 28
#: Seconds that a webhook waits.
WAIT_TIMEOUT_SECONDS = 5.0


class _SourceLimiter:
    """Those of one source."""

    def __init__(self) -> None:
        self.places = BoundedSemaphore(MAX_RUNNING + MAX_WAITING)
        self.running = BoundedSemaphore(MAX_RUNNING)


class EvaluationLimiter:
    """The slots of every source, so that a slow source leaves threads and CPU to the others."""

    def __init__(self, timeout: float = WAIT_TIMEOUT_SECONDS) -> None:
        self._timeout = timeout
        self._by_source: dict[str, _SourceLimiter] = {}

    @contextmanager
    def slot(self, source: str) -> Iterator[None]:
        """Evaluate one webhook inside. Raises SourceBusy if too many wait, or none ends in time."""
        slots = self._by_source.get(source) or self._by_source.setdefault(source, _SourceLimiter())
        if not slots.places.acquire(blocking=False):
            raise SourceBusy(
                f"source {source}: {MAX_RUNNING + MAX_WAITING} webhooks are evaluated or wait for it"
            )
        try:
            if not slots.running.acquire(timeout=self._timeout):
                raise SourceBusy(
                    f"source {source}: no earlier webhook was evaluated within {self._timeout:g} s"
                )
            try:
                yield
            finally:
                slots.running.release()
        finally:
            slots.places.release()
