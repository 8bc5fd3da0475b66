"""Watchdog: one thread that shuts connections down at their deadlines.

A socket's own time-out bounds each read and write: a peer that sends a byte a second never reaches it.
"""

from __future__ import annotations

import heapq
import itertools
import socket
import threading
import time
from contextlib import suppress
from typing import Self

#: How many released guards may stay in the heap.
RELEASED_LIMIT = 64


class Guard:
    """Watches one connection until it is released or has fired. A context manager that releases it."""

    __slots__ = ("__weakref__", "_sock", "_watchdog", "early", "fired", "how")

    def __init__(self, watchdog: Watchdog, sock: socket.socket, how: int) -> None:
        self._watchdog = watchdog
        self._sock: socket.socket | None = sock
        self.how = how
        #: Whether the connection was shut down. Set before the shutdown, so that whoever reads the stream's
        #: end sees it. It never changes after `release`.
        self.fired = False
        #: Whether `fire` did it, before the deadline.
        self.early = False

    def fire(self) -> None:
        """Shut the connection down now, unless it was released or has fired."""
        self._watchdog._fire_early(self)

    def release(self) -> None:
        """Stop watching the connection. A second call does nothing."""
        self._watchdog._release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


class Watchdog:
    """Shuts connections down at their deadlines. Safe to use from any thread.

    Its daemon thread starts with the first connection, or by `start`, and ends with `close`: no connection is
    shut down after that. A thread does not survive a fork, so create a watchdog after forking.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        #: By deadline; the number prevents a comparison of guards.
        self._heap: list[tuple[float, int, Guard]] = []
        self._numbers = itertools.count()
        #: How many guards in the heap were released.
        self._released = 0
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(self) -> None:
        """Start the thread, if it has not started. Raises RuntimeError after `close`."""
        with self._changed:
            self._start()

    def watch(self, sock: socket.socket, deadline: float, how: int = socket.SHUT_RDWR) -> Guard:
        """Shut `sock` down (`how`, as in ``socket.shutdown``) at `deadline`, unless it is released first.

        `deadline` is by ``time.monotonic()``; a past one fires at once. The socket may be closed meanwhile.
        Raises RuntimeError after `close`.
        """
        guard = Guard(self, sock, how)
        entry = (deadline, next(self._numbers), guard)
        with self._changed:
            self._start()
            heapq.heappush(self._heap, entry)
            if self._heap[0] is entry:
                self._changed.notify()
        return guard

    def close(self) -> None:
        """End the thread and wait for it. A second call does nothing."""
        with self._changed:
            self._closed = True
            self._heap.clear()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        if self._closed:
            raise RuntimeError("the watchdog is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
            self._thread.start()

    def _release(self, guard: Guard) -> None:
        with self._changed:
            if guard._sock is not None:
                guard._sock = None
                self._count_released()

    def _fire_early(self, guard: Guard) -> None:
        with self._changed:
            if guard._sock is not None:
                guard.early = True
                self._fire(guard)
                self._count_released()

    def _count_released(self) -> None:
        """Count a released guard. The heap is cleaned once most of it is released."""
        self._released += 1
        # Removing it at once would cost a search and wake the thread, but released guards must not pile up.
        if self._released > RELEASED_LIMIT and self._released * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2]._sock is not None]
            heapq.heapify(self._heap)
            self._released = 0

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                while self._heap and self._heap[0][0] <= now:
                    self._fire(heapq.heappop(self._heap)[2])
                wait = self._heap[0][0] - now if self._heap else threading.TIMEOUT_MAX
                self._changed.wait(min(wait, threading.TIMEOUT_MAX))

    def _fire(self, guard: Guard) -> None:
        # Under the lock, so that no connection is shut down after `release`. A shutdown does not block.
        sock, guard._sock = guard._sock, None
        if sock is None:
            self._released -= 1
            return
        guard.fired = True
        with suppress(OSError):  # already closed, or ended by its peer
            # The base class's: SSLSocket.shutdown drops the TLS state that another thread uses.
            socket.socket.shutdown(sock, guard.how)
