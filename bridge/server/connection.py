"""Connections of clients: heads are read before a thread is taken, and a thread that waits can be freed."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine
from gunicorn.workers.gthread import TConn

from bridge.core.client_network import network_of
from bridge.process.waiting_list import WaitingList
from bridge.process.watchdog import Guard, Watchdog

#: The longest head, in bytes: request line and headers together. nginx passes on no more by default.
MAX_HEAD_BYTES = 32 * 1024
#: How long a client may take to read its answer, seconds.
ANSWER_TIMEOUT_SECONDS = 20.0
#: How long a closed connection waits for its client to close it too, seconds (RFC 9112 9.6).
LINGER_TIMEOUT_SECONDS = 2.0
#: How many bytes of a client are discarded meanwhile: the largest body by default, and what frames it. With
#: bytes unread, a close resets the connection, and a proxy that still sends the body may lose the answer.
MAX_DISCARDED_BYTES = 32 * 1024**2
#: Bytes that are received at once before a thread is taken.
_PIECE = 16 * 1024
#: Bytes that are discarded at once.
_DISCARDED_PIECE = 64 * 1024

#: The end of a head; or a line break that no head may have, which gunicorn's parser refuses.
_HEAD_END = re.compile(rb"\r\n\r\n|(?<!\r)\n")


@dataclass(eq=False)
class ClientWait:
    """One thread that waits for a client."""

    network: str
    since: float
    guard: Guard


class SlowClientLimiter:
    """Bounds how many threads wait for clients at once. Safe to use from many threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._waits: WaitingList[ClientWait] = WaitingList()

    @contextmanager
    def waiting(self, wait: ClientWait) -> Iterator[None]:
        """Count `wait` inside; if there are too many, end the wait that gives way, which may be this one."""
        with self._lock:
            self._waits.add(wait)
            victim = self._waits.victim() if len(self._waits) > self._limit else None
            if victim is not None:
                # At once, so that the next thread that begins to wait ends another one.
                self._waits.discard(victim)
        if victim is not None:
            victim.guard.fire()
        try:
            yield
        finally:
            with self._lock:
                self._waits.discard(wait)


class ClientSocket(socket.socket):
    """A client's socket: what is done at once costs nothing more, and a thread that waits is counted."""

    waits: SlowClientLimiter
    watchdog: Watchdog
    #: The wait for the request that a thread handles.
    reading: ClientWait
    #: Bytes that were received for it.
    received = 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        timeout = self.gettimeout()
        if timeout == 0:
            return super().recv(size, flags)
        if self.reading.guard.fired:
            return b""  # what the system still holds is late, too
        piece = self._receive(size, flags, timeout)
        self.received += len(piece)
        return piece

    def _receive(self, size: int, flags: int, timeout: float | None) -> bytes:
        if timeout is None:
            with suppress(BlockingIOError):
                return super().recv(size, flags | socket.MSG_DONTWAIT)
        with self.waits.waiting(self.reading):
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
        with self.watchdog.watch(self, time.monotonic() + ANSWER_TIMEOUT_SECONDS) as guard:
            writing = ClientWait(self.reading.network, self.reading.since, guard)
            with self.waits.waiting(writing):
                super().sendall(memoryview(data)[sent:], flags)


class Connection(TConn):
    """A client's connection, as gunicorn's worker knows it; without TLS."""

    sock: ClientSocket
    parser: Any

    def __init__(
        self,
        cfg: Any,
        sock: socket.socket,
        client: Any,
        server: Any,
        waits: SlowClientLimiter,
        watchdog: Watchdog,
    ) -> None:
        own = ClientSocket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        own.waits, own.watchdog = waits, watchdog
        super().__init__(cfg, own, client, server)
        #: Of a Unix socket there is one for all.
        self.network = network_of(client[0]) if isinstance(client, tuple) else ""
        #: While the connection waits without a thread.
        self.guard: Guard | None = None
        self.expect_request()

    def expect_request(self) -> None:
        """Begin the next request."""
        #: When the request began, ``time.monotonic()``.
        self.since = time.monotonic()
        #: How long its head took to arrive, seconds.
        self.head_took = 0.0
        self._received = bytearray()
        self._is_head_whole = False
        self._discarded = 0

    def receive_head(self) -> bool:
        """Receive what is there; return whether the head is whole, or longer than it may be.

        Raises OSError, and EOFError if the client has closed the connection.
        """
        try:
            piece = self.sock.recv(_PIECE)
        except BlockingIOError:
            return False
        if not piece:
            raise EOFError
        # An end may begin in the piece before.
        searched = max(0, len(self._received) - 3)
        self._received += piece
        end = _HEAD_END.search(self._received, searched)
        self._is_head_whole = end is not None and end.end() <= MAX_HEAD_BYTES
        self.head_took = time.monotonic() - self.since
        return self._is_head_whole or len(self._received) > MAX_HEAD_BYTES

    def parse_received(self) -> None:
        """Hand what was received to gunicorn's parser.

        Raises LimitRequestLine or LimitRequestHeaders if the head is too long.
        """
        self.init()
        received, self._received = bytes(self._received), bytearray()
        if received and not self._is_head_whole:
            if b"\r\n" not in received:
                raise LimitRequestLine(len(received), self.cfg.limit_request_line)
            raise LimitRequestHeaders(f"the head is longer than {MAX_HEAD_BYTES:,} bytes")
        self.parser.unreader.unread(received)

    def discard_received(self) -> bool:
        """Discard what is there; return whether more of it may come. Raises OSError."""
        try:
            piece = self.sock.recv(_DISCARDED_PIECE)
        except BlockingIOError:
            return True
        self._discarded += len(piece)
        return bool(piece) and self._discarded < MAX_DISCARDED_BYTES
