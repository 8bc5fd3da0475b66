"""LargeBodyLimiter: how much memory large bodies share while they arrive."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from operator import attrgetter
from typing import Self

from bridge.core.errors import BodyMemoryFull
from bridge.process.waiting_list import WaitingList
from bridge.process.watchdog import Guard

#: Bodies up to this size are not limited; divided by the number of web processes.
SMALL_BODY_BYTES = 1024**2
#: What larger bodies share; divided likewise, but never less than the largest body.
LARGE_BODIES_LIMIT_BYTES = 64 * 1024**2
#: How long a body waits for memory.
WAIT_TIMEOUT_SECONDS = 5.0
#: How many bodies wait for memory at once: each blocks a thread.
MAX_WAITING_BODIES = 16
#: A body has stalled if fewer than PROGRESS_BYTES of it arrive within STALL_TIMEOUT_SECONDS.
PROGRESS_BYTES = 256 * 1024
STALL_TIMEOUT_SECONDS = 1.0


class ArrivingBody:
    """One body that arrives: a context manager that frees its memory at the end."""

    def __init__(self, limiter: LargeBodyLimiter, largest: int, network: str, guard: Guard | None) -> None:
        self._limiter = limiter
        #: The largest size that it may have, in bytes.
        self._largest = largest
        self.network = network
        self.guard = guard
        #: When it began, got memory or last made progress, ``time.monotonic()``.
        self.since = time.monotonic()
        self._next_progress = PROGRESS_BYTES
        #: Bytes of memory that are reserved for it.
        self.reserved = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish(0)

    def grow(self, size: int) -> None:
        """Record that `size` bytes have arrived. Raises BodyMemoryFull if there is no memory for the rest."""
        if size >= self._next_progress:
            self.since = time.monotonic()
            self._next_progress = size + PROGRESS_BYTES
        if size > self._limiter.small and not self.reserved:
            self._limiter.reserve(self, self._largest)

    def finish(self, size: int) -> None:
        """Record that the body is complete, with `size` bytes."""
        if self.reserved:
            self._limiter.release(self, size)


class LargeBodyLimiter:
    """Reserves memory for large bodies while they arrive. Thread-safe.

    A body counts once more than `small` of its bytes have arrived: a size that is announced but not sent
    costs the others nothing. A body that waits evicts one that has stalled or, after STALL_TIMEOUT_SECONDS,
    one of a network that has reserved more than its own.
    """

    def __init__(
        self,
        shared: int = LARGE_BODIES_LIMIT_BYTES,
        small: int = SMALL_BODY_BYTES,
        wait_timeout: float = WAIT_TIMEOUT_SECONDS,
        max_waiting: int = MAX_WAITING_BODIES,
    ) -> None:
        self.small = small
        self._shared = self._free = shared
        self._wait_timeout = wait_timeout
        self._max_waiting = max_waiting
        self._changed = threading.Condition()
        self._waiting: WaitingList[ArrivingBody] = WaitingList()
        #: Incomplete bodies with reserved memory.
        self._arriving: WaitingList[ArrivingBody] = WaitingList()

    @classmethod
    def for_process(cls, web_processes: int, max_body: int) -> LargeBodyLimiter:
        """Return the limiter of one of several web processes, which share the limits."""
        shared = max(LARGE_BODIES_LIMIT_BYTES // web_processes, max_body)
        return cls(shared, SMALL_BODY_BYTES // web_processes)

    def arriving(self, largest: int, network: str, guard: Guard | None) -> ArrivingBody:
        """Return a body of up to `largest` bytes, which is read and processed inside.

        `network` is the client's; `guard` ends its connection if the body is evicted.
        """
        return ArrivingBody(self, largest, network, guard)

    def reserve(self, body: ArrivingBody, size: int) -> None:
        """Wait for memory and reserve it. Raises BodyMemoryFull if there is none in time."""
        needed = min(size, self._shared)
        began = time.monotonic()
        with self._changed:
            self._waiting.add(body)
            if len(self._waiting) > self._max_waiting:
                # Of the largest network, the body that has waited the shortest.
                self._waiting.discard(max(self._waiting.largest(), key=attrgetter("since")))
                self._changed.notify_all()
            try:
                while self._free < needed:
                    now = time.monotonic()
                    if body not in self._waiting or now >= began + self._wait_timeout:
                        raise BodyMemoryFull(
                            f"no memory for a body of {needed:,} bytes within {self._wait_timeout:g} s"
                        )
                    self._evict_for(body, needed, now, has_waited=now >= began + STALL_TIMEOUT_SECONDS)
                    self._changed.wait(min(STALL_TIMEOUT_SECONDS / 4, began + self._wait_timeout - now))
            finally:
                self._waiting.discard(body)
            self._free -= needed
            body.reserved = needed
            body.since = time.monotonic()
            self._arriving.add(body)

    def release(self, body: ArrivingBody, size: int) -> None:
        """Free what is reserved for a body, complete or refused, beyond its `size`."""
        with self._changed:
            self._arriving.discard(body)
            if body.reserved > size:
                self._free += body.reserved - size
                body.reserved = size
                self._changed.notify_all()

    def _evict_for(self, body: ArrivingBody, needed: int, now: float, *, has_waited: bool) -> None:
        """End the connection of one arriving body, if one is due: its thread frees the memory."""
        evicted = min(self._arriving, key=attrgetter("since"), default=None)
        if evicted is not None and now - evicted.since < STALL_TIMEOUT_SECONDS:
            largest = self._arriving.largest(_reserved)
            own = _reserved(self._arriving.of(body.network))
            has_more = _reserved(largest) > own + needed
            evicted = min(largest, key=attrgetter("since")) if has_waited and has_more else None
        if evicted is not None:
            self._arriving.discard(evicted)
            if evicted.guard is not None:
                evicted.guard.fire()


def _reserved(bodies: Collection[ArrivingBody]) -> int:
    return sum(body.reserved for body in bodies)
