"""One request and its answer: until when they may last, and how far they came."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from bridge.core.errors import AnswerLost, NotSent, SendError
from bridge.process.watchdog import Guard, Watchdog


class Exchange:
    """What the connection and the client tell each other about one request."""

    def __init__(self, watchdog: Watchdog, timeout: float) -> None:
        self._watchdog = watchdog
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._socket_copy: socket.socket | None = None
        self._guard: Guard | None = None
        self._reason = ""
        #: What does not come if time runs out.
        self.awaited = "connection"
        #: The request, or a part of it, was handed to the connection.
        self.written = False
        #: The answer was read to an end that it states itself.
        self.complete = False
        #: Whether the last line that was read is the empty one that ends chunks and their trailers.
        self.chunks_ended: Callable[[], bool] = lambda: False

    @property
    def fired(self) -> bool:
        return self._guard is not None and self._guard.fired

    def remaining(self) -> float:
        """Seconds until the deadline. Raises TimeoutError when there are none."""
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        return remaining

    def watch(self, sock: socket.socket) -> None:
        """Have the connection shut down at the deadline."""
        # A copy that nobody else closes: TLS empties the socket that it wraps, and urllib3 closes
        # a connection that the server will not keep before the answer's body is read.
        self._socket_copy = socket.socket(sock.family, sock.type, sock.proto, fileno=os.dup(sock.fileno()))
        self._guard = self._watchdog.watch(self._socket_copy, self._deadline)

    def release(self) -> None:
        """Take the connection out of the watchdog's reach."""
        if self._guard is not None:
            self._guard.release()
        if self._socket_copy is not None:
            self._socket_copy.close()

    def note(self, reason: str) -> None:
        """Why it failed, for a person. The first one, nearest to the cause, stays."""
        self._reason = self._reason or reason

    def failure(self) -> SendError:
        """The error to raise."""
        if time.monotonic() >= self._deadline:
            # Whatever broke then, broke because of the watchdog.
            self._reason = f"no {self.awaited} within {self._timeout:g} s"
        return AnswerLost(self._reason) if self.written else NotSent(self._reason)
