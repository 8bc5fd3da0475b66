"""Watchdog: one thread that shuts connections down at their deadlines.

A socket's own time-out counts each read and each write, so a peer that sends one byte a second
never meets it. What bounds a whole exchange must stand outside of it.
"""

from __future__ import annotations

import heapq
import itertools
import socket
import threading
import time
from contextlib import suppress
from typing import Self

#: Released entries that may stay in the heap before it is cleared of them.
RELEASED_LIMIT = 64


class Guard:
    """One connection under watch, until `release` or until it fired.

    As a context manager it releases at the end of the block.
    """

    __slots__ = ("__weakref__", "_sock", "_watchdog", "early", "fired", "how")

    def __init__(self, watchdog: Watchdog, sock: socket.socket, how: int) -> None:
        self._watchdog = watchdog
        self._sock: socket.socket | None = sock
        self.how = how
        #: The deadline came first: the connection was shut down. Set before that is done, so that
        #: whoever reads the end of the stream sees it; never changes after `release`.
        self.fired = False
        #: `fire` did it, before the deadline.
        self.early = False

    def fire(self) -> None:
        """Shut the connection down now, unless it was released or has fired."""
        self._watchdog._fire_early(self)

    def release(self) -> None:
        """Leave the connection alone from now on. A second call does nothing."""
        self._watchdog._release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


class Watchdog:
    """Shuts connections down at their deadlines.

    Its one daemon thread starts with the first connection, or by `start`; `close` ends it, after
    which nothing that is still under watch is shut down any more. A thread does not survive a
    fork: a process that forks makes its watchdog afterwards. Safe to use from many threads.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        #: By deadline; the number keeps entries of one deadline from comparing their guards.
        self._heap: list[tuple[float, int, Guard]] = []
        self._numbers = itertools.count()
        #: How many guards in the heap are released.
        self._released = 0
        self._thread: threading.Thread | None = None
        self._closed = False

    def start(self) -> None:
        """Start the thread, if it has not started. Raises RuntimeError after `close`."""
        with self._changed:
            self._start()

    def watch(self, sock: socket.socket, deadline: float, how: int = socket.SHUT_RDWR) -> Guard:
        """Shut `sock` down (`how`, as in ``socket.shutdown``) at `deadline`, unless it is released before.

        `deadline` is a time of ``time.monotonic()``; one that has passed fires at once. A socket
        that was closed in the meantime does no harm. Raises RuntimeError after `close`.
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
        """End the thread, and wait for its end. A second call does nothing."""
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
                self._leave()

    def _fire_early(self, guard: Guard) -> None:
        with self._changed:
            if guard._sock is not None:
                guard.early = True
                self._fire(guard)
                self._leave()

    def _leave(self) -> None:
        """Note that an entry of the heap is without its socket."""
        self._released += 1
        # It stays where it is: the thread need not be woken, and most are passed
        # by in time. Where deadlines are far off and exchanges short, they must not pile up.
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
        # Under the lock, so that once `release` has returned its connection is left alone. A
        # shutdown does not block.
        sock, guard._sock = guard._sock, None
        if sock is None:
            self._released -= 1
            return
        guard.fired = True
        with suppress(OSError):  # closed, or ended by its peer
            # The base class's: an SSLSocket's own drops its TLS state, under the feet of the
            # thread that uses it.
            socket.socket.shutdown(sock, guard.how)
