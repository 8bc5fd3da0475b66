"""The memory that bodies of one process share: those that arrive, and those that are processed."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from operator import attrgetter

from bridge.core.errors import BodyMemoryFull
from bridge.process.waiting_list import WaitingList
from bridge.process.watchdog import Guard

MIB = 1024**2

#: Bodies up to this size, in bytes, need no room; divided by the number of web processes.
SMALL_BODY_BYTES = MIB
#: What larger ones share, in bytes; divided likewise, but never less than the largest body.
LARGE_BODIES_LIMIT_BYTES = 64 * MIB
#: How long a body waits for room, seconds.
WAIT_TIMEOUT_SECONDS = 5.0
#: How many bodies wait for room at once: each holds a thread.
MAX_WAITING_BODIES = 16
#: A body has stalled if fewer than PROGRESS_BYTES of its bytes arrive within STALL_TIMEOUT_SECONDS seconds.
PROGRESS_BYTES = 256 * 1024
STALL_TIMEOUT_SECONDS = 1.0
#: How many bytes of bodies are verified, parsed and stored at once; a larger body alone. A body takes
#: several times its size meanwhile.
PROCESSING_LIMIT_BYTES = 2 * MIB
#: Smaller bodies are processed without a turn, in bytes: all threads together hold few of them, and most
#: webhooks must not wait for the large ones of others.
UNQUEUED_BODY_BYTES = 64 * 1024


class ArrivingBody:
    """One body that arrives."""

    def __init__(self, room: LargeBodyLimiter, largest: int, network: str, guard: Guard | None) -> None:
        self._room = room
        #: How many bytes it may have.
        self._largest = largest
        self.network = network
        self.guard = guard
        #: When it began, had room or last advanced by a PROGRESS_BYTES, ``time.monotonic()``.
        self.since = time.monotonic()
        self._next_step = PROGRESS_BYTES
        #: The room that it has, in bytes.
        self.reserved = 0

    def grow(self, size: int) -> None:
        """Record that `size` bytes have arrived. Raises BodyMemoryFull if the rest gets no memory."""
        if size >= self._next_step:
            self.since = time.monotonic()
            self._next_step = size + PROGRESS_BYTES
        if size > self._room.small and not self.reserved:
            self._room.reserve(self, self._largest)

    def finish(self, size: int) -> None:
        """Note that the body is whole: it has `size` bytes."""
        self._room.release(self, size)


class LargeBodyLimiter:
    """The room that large bodies share while they arrive. Safe to use from many threads.

    A body counts once more than `small` of its bytes have arrived: what a sender announces and does not send
    takes nothing from others. A body that waits for room gets that of one that has stalled, or after
    STALL_TIMEOUT_SECONDS that of a network which has more than its own.
    """

    def __init__(
        self,
        shared: int = LARGE_BODIES_LIMIT_BYTES,
        small: int = SMALL_BODY_BYTES,
        wait_timeout: float = WAIT_TIMEOUT_SECONDS,
        waiting: int = MAX_WAITING_BODIES,
    ) -> None:
        self.small = small
        self._left = shared
        self._shared = shared
        self._wait_timeout = wait_timeout
        self._limit = waiting
        self._changed = threading.Condition()
        self._waiting: WaitingList[ArrivingBody] = WaitingList()
        #: Those with room that are not whole yet.
        self._arriving: WaitingList[ArrivingBody] = WaitingList()

    @contextmanager
    def arriving(self, largest: int, network: str, guard: Guard | None) -> Iterator[ArrivingBody]:
        """A body of up to `largest` bytes arrives and is processed inside.

        `network` is its sender's, `guard` ends its connection when it gives way.
        """
        arrival = ArrivingBody(self, largest, network, guard)
        try:
            yield arrival
        finally:
            self.release(arrival, 0)

    def reserve(self, arrival: ArrivingBody, size: int) -> None:
        """Reserve room, as soon as there is some. Raises BodyMemoryFull where there is none in time."""
        needed = min(size, self._shared)
        began = time.monotonic()
        with self._changed:
            self._waiting.add(arrival)
            if len(self._waiting) > self._limit:
                # It has waited the shortest.
                self._waiting.discard(max(self._waiting.largest(), key=attrgetter("since")))
                self._changed.notify_all()
            try:
                while self._left < needed:
                    now = time.monotonic()
                    if arrival not in self._waiting or now >= began + self._wait_timeout:
                        raise BodyMemoryFull(
                            f"no room for a body of {needed:,} bytes within {self._wait_timeout:g} s"
                        )
                    self._make_room(arrival, needed, now, has_waited=now >= began + STALL_TIMEOUT_SECONDS)
                    self._changed.wait(min(STALL_TIMEOUT_SECONDS / 4, began + self._wait_timeout - now))
            finally:
                self._waiting.discard(arrival)
            self._left -= needed
            arrival.reserved = needed
            arrival.since = time.monotonic()
            self._arriving.add(arrival)

    def release(self, arrival: ArrivingBody, size: int) -> None:
        """Leave a body that is whole, or refused, no more room than the `size` that it has."""
        with self._changed:
            self._arriving.discard(arrival)
            if arrival.reserved > size:
                self._left += arrival.reserved - size
                arrival.reserved = size
                self._changed.notify_all()

    def _make_room(self, arrival: ArrivingBody, needed: int, now: float, *, has_waited: bool) -> None:
        """Have one arriving body give way, if one is to: its thread frees the room."""
        victim = min(self._arriving, key=attrgetter("since"), default=None)
        if victim is not None and now - victim.since < STALL_TIMEOUT_SECONDS:
            largest = self._arriving.largest(_reserved)
            own = _reserved(self._arriving.of(arrival.network))
            takes_more = _reserved(largest) > own + needed
            victim = min(largest, key=attrgetter("since")) if has_waited and takes_more else None
        if victim is not None:
            self._arriving.discard(victim)
            if victim.guard is not None:
                victim.guard.fire()


def _reserved(arrivals: Collection[ArrivingBody]) -> int:
    return sum(arrival.reserved for arrival in arrivals)


class ProcessingLimiter:
    """Bounds how many bytes of bodies are processed at once, first come, first served. Thread-safe."""

    def __init__(
        self,
        limit: int = PROCESSING_LIMIT_BYTES,
        wait_timeout: float = WAIT_TIMEOUT_SECONDS,
        unqueued: int = UNQUEUED_BODY_BYTES,
    ) -> None:
        self._unqueued = unqueued
        self._limit = limit
        self._left = limit
        self._wait_timeout = wait_timeout
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Process a body of `size` bytes inside. Raises BodyMemoryFull if its turn does not come in time."""
        if size < self._unqueued:
            yield
            return
        needed = min(size, self._limit)
        turn = object()
        with self._changed:
            self._queue.append(turn)
            try:
                if not self._changed.wait_for(
                    lambda: self._queue[0] is turn and self._left >= needed, self._wait_timeout
                ):
                    raise BodyMemoryFull(
                        f"a body of {size:,} bytes was not processed within {self._wait_timeout:g} s"
                    )
                self._left -= needed
            finally:
                self._queue.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._left += needed
                self._changed.notify_all()
