"""One request and its answer: their deadline, and how far they came."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from bridge.core.errors import AnswerLost, NotSent, SendError
from bridge.process.watchdog import Guard, Watchdog


class Exchange:
    """The state of one request that the client and the connection share."""

    def __init__(self, watchdog: Watchdog, timeout: float) -> None:
        self._watchdog = watchdog
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._socket_copy: socket.socket | None = None
        self._guard: Guard | None = None
        self._reason = ""
        #: What is missing if the time ends now.
        self.awaited = "connection"
        #: Whether a part of the request may have been written.
        self.written = False
        #: Whether the answer was read to an end that it states itself.
        self.complete = False
        #: Returns whether the last line is the empty one that ends chunks and their trailers.
        self.chunks_ended: Callable[[], bool] = lambda: False

    @property
    def fired(self) -> bool:
        return self._guard is not None and self._guard.fired

    def remaining(self) -> float:
        """Return the seconds until the deadline. Raises TimeoutError after it."""
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        return remaining

    def watch(self, sock: socket.socket) -> None:
        """Shut the connection down at the deadline."""
        # A copy that nobody else closes: TLS detaches the socket that it wraps, and urllib3 closes a
        # connection that the server will not reuse before the body is read.
        self._socket_copy = socket.socket(sock.family, sock.type, sock.proto, fileno=os.dup(sock.fileno()))
        self._guard = self._watchdog.watch(self._socket_copy, self._deadline)

    def release(self) -> None:
        """Stop watching the connection."""
        if self._guard is not None:
            self._guard.release()
        if self._socket_copy is not None:
            self._socket_copy.close()

    def note(self, reason: str) -> None:
        """Note why the request failed. The first reason stays: it is nearest to the cause."""
        self._reason = self._reason or reason

    def failure(self) -> SendError:
        """Return the error to raise."""
        if time.monotonic() >= self._deadline:
            # The watchdog caused whatever else failed.
            self._reason = f"no {self.awaited} within {self._timeout:g} s"
        return AnswerLost(self._reason) if self.written else NotSent(self._reason)
