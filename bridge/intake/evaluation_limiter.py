"""EvaluationLimiter: how many webhooks of one source are evaluated at the same time in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from bridge.core.errors import SourceBusy

#: Webhooks of one source that are evaluated at once. They share one core: more would only be slower.
MAX_RUNNING = 4
#: Webhooks of one source that wait. With those that run, they take half of the request threads.
MAX_WAITING = 28
#: How long a webhook waits.
WAIT_TIMEOUT_SECONDS = 5.0


class _SourceLimiter:
    def __init__(self) -> None:
        self.admitted = BoundedSemaphore(MAX_RUNNING + MAX_WAITING)
        self.running = BoundedSemaphore(MAX_RUNNING)


class EvaluationLimiter:
    """Limits each source, so that a slow one leaves threads and CPU to the others. Thread-safe."""

    def __init__(self, timeout: float = WAIT_TIMEOUT_SECONDS) -> None:
        self._timeout = timeout
        self._by_source: dict[str, _SourceLimiter] = {}

    @contextmanager
    def slot(self, source: str) -> Iterator[None]:
        """Evaluate one webhook of `source` inside.

        Raises SourceBusy if too many wait already, or if none of those before it ends within the timeout.
        """
        limiter = self._by_source.get(source) or self._by_source.setdefault(source, _SourceLimiter())
        if not limiter.admitted.acquire(blocking=False):
            most = MAX_RUNNING + MAX_WAITING
            raise SourceBusy(f"source {source}: {most} webhooks are already being evaluated or waiting")
        try:
            if not limiter.running.acquire(timeout=self._timeout):
                raise SourceBusy(
                    f"source {source}: no earlier webhook was evaluated within {self._timeout:g} s"
                )
            try:
                yield
            finally:
                limiter.running.release()
        finally:
            limiter.admitted.release()
