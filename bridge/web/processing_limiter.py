"""ProcessingLimiter: how many bytes of bodies are verified, parsed and stored at the same time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from bridge.core.errors import BodyMemoryFull

#: Bytes of bodies that are processed at once; a larger body runs alone. Each takes several times its size.
PROCESSING_LIMIT_BYTES = 2 * 1024**2
#: Smaller bodies do not wait for a turn: all threads together hold little of them, and most webhooks must
#: not wait for large ones of others.
UNQUEUED_BODY_BYTES = 64 * 1024
#: How long a body waits for its turn.
WAIT_TIMEOUT_SECONDS = 5.0


class ProcessingLimiter:
    """Limits the bytes that are processed at once; first come, first served. Thread-safe."""

    def __init__(
        self,
        limit: int = PROCESSING_LIMIT_BYTES,
        wait_timeout: float = WAIT_TIMEOUT_SECONDS,
        unqueued: int = UNQUEUED_BODY_BYTES,
    ) -> None:
        self._limit = self._free = limit
        self._wait_timeout = wait_timeout
        self._unqueued = unqueued
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()

    def turn(self, size: int) -> AbstractContextManager[None]:
        """Process a body of `size` bytes inside. Raises BodyMemoryFull if its turn does not come in time."""
        return nullcontext() if size < self._unqueued else self._queued_turn(size)

    @contextmanager
    def _queued_turn(self, size: int) -> Iterator[None]:
        needed = min(size, self._limit)
        turn = object()
        with self._changed:
            self._queue.append(turn)
            try:
                if not self._changed.wait_for(
                    lambda: self._queue[0] is turn and self._free >= needed, self._wait_timeout
                ):
                    raise BodyMemoryFull(
                        f"a body of {size:,} bytes was not processed within {self._wait_timeout:g} s"
                    )
                self._free -= needed
            finally:
                self._queue.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += needed
                self._changed.notify_all()
