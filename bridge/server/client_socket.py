"""ClientSocket, and SlowClientLimiter, which limits how many threads wait for slow clients."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from bridge.process.waiting_list import WaitingList
from bridge.process.watchdog import Guard, Watchdog

#: How long a client may take to read its answer.
ANSWER_TIMEOUT_SECONDS = 20.0


@dataclass(eq=False)
class ClientWait:
    """One thread that waits for a client; `guard` ends the wait."""

    network: str
    since: float
    guard: Guard


class SlowClientLimiter:
    """Limits how many threads wait for clients at once. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._waits: WaitingList[ClientWait] = WaitingList()

    @contextmanager
    def waiting(self, wait: ClientWait) -> Iterator[None]:
        """Count `wait` inside. If there are too many, end one, which may be this one."""
        with self._lock:
            self._waits.add(wait)
            evicted = self._waits.victim() if len(self._waits) > self._limit else None
            if evicted is not None:
                # Removed at once, so that the next thread that begins to wait evicts another one.
                self._waits.discard(evicted)
        if evicted is not None:
            evicted.guard.fire()
        try:
            yield
        finally:
            with self._lock:
                self._waits.discard(wait)


class ClientSocket(socket.socket):
    """A client's socket: a read or write that would block counts as a wait of its thread."""

    limiter: SlowClientLimiter
    watchdog: Watchdog
    #: The wait for the request that a thread handles.
    reading: ClientWait
    #: Bytes that were received for that request.
    received = 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        timeout = self.gettimeout()
        if timeout == 0:
            return super().recv(size, flags)
        if self.reading.guard.fired:
            return b""  # the system may still have bytes, but they are late
        piece = self._receive(size, flags, timeout)
        self.received += len(piece)
        return piece

    def _receive(self, size: int, flags: int, timeout: float | None) -> bytes:
        if timeout is None:
            with suppress(BlockingIOError):
                return super().recv(size, flags | socket.MSG_DONTWAIT)
        with self.limiter.waiting(self.reading):
            return super().recv(size, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        self.sendall(data, flags)
        return len(data)

    def sendall(self, data: Any, flags: int = 0) -> None:
        try:
            sent = super().send(data, flags | socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return
        with (
            self.watchdog.watch(self, time.monotonic() + ANSWER_TIMEOUT_SECONDS) as guard,
            self.limiter.waiting(ClientWait(self.reading.network, self.reading.since, guard)),
        ):
            super().sendall(memoryview(data)[sent:], flags)
