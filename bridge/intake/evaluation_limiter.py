"""EvaluationLimiter: how many webhooks of one source are evaluated at the same time in this process."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager

from bridge.core.errors import SourceBusy

#: Webhooks of one source that are evaluated at once. They share one core: more would only be slower.
MAX_RUNNING = 4
#: Webhooks of one source that wait. With those that run, they take half of the request threads.
MAX_WAITING = 28
#: How long a webhook waits.
WAIT_TIMEOUT_SECONDS = 5.0


class _SourceLimiter:
    """The limit of one source: a context manager, inside which one webhook is evaluated."""

    def __init__(self, source: str, timeout: float) -> None:
        self._source = source
        self._timeout = timeout
        self._changed = threading.Condition(threading.Lock())
        self._running = 0
        self.waiting = 0

    def __enter__(self) -> None:
        with self._changed:
            if self._running >= MAX_RUNNING:
                self._wait()
            self._running += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify()

    def _wait(self) -> None:
        if self.waiting >= MAX_WAITING:
            most = MAX_RUNNING + MAX_WAITING
            raise SourceBusy(f"source {self._source}: {most} webhooks are already being evaluated or waiting")
        self.waiting += 1
        try:
            if not self._changed.wait_for(lambda: self._running < MAX_RUNNING, self._timeout):
                raise SourceBusy(
                    f"source {self._source}: no earlier webhook was evaluated within {self._timeout:g} s"
                )
        finally:
            self.waiting -= 1


class EvaluationLimiter:
    """Limits each source, so that a slow one leaves threads and CPU to the others. Thread-safe."""

    def __init__(self, timeout: float = WAIT_TIMEOUT_SECONDS) -> None:
        self._timeout = timeout
        self._by_source: dict[str, _SourceLimiter] = {}

    def slot(self, source: str) -> AbstractContextManager[None]:
        """Evaluate one webhook of `source` inside.

        Entering raises SourceBusy if too many webhooks wait already, or if no earlier one ends within the
        timeout.
        """
        found = self._by_source.get(source)
        return found or self._by_source.setdefault(source, _SourceLimiter(source, self._timeout))
