"""Connection: a client's connection, whose request head is received before it gets a thread."""

from __future__ import annotations

import re
import socket
import time
from typing import Any

from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine
from gunicorn.workers.gthread import TConn

from bridge.core.client_network import network_of
from bridge.process.watchdog import Guard, Watchdog
from bridge.server.client_socket import ClientSocket, SlowClientLimiter

#: The longest request head, request line and headers together. By default nginx forwards no longer one.
MAX_HEAD_BYTES = 32 * 1024
#: How long a closed connection waits for its client to close it too (RFC 9112 9.6).
LINGER_TIMEOUT_SECONDS = 2.0
#: Bytes that are discarded meanwhile: the largest body by default, and its framing. To close a connection
#: with unread bytes resets it, and a proxy that still sends the body may lose the answer.
MAX_DISCARDED_BYTES = 32 * 1024**2
#: Bytes of a head that are received at once.
_HEAD_READ_BYTES = 16 * 1024
#: Bytes that are discarded at once.
_DISCARD_READ_BYTES = 64 * 1024

#: The end of a head; or a line break that is invalid in a head, which gunicorn's parser refuses.
_HEAD_END = re.compile(rb"\r\n\r\n|(?<!\r)\n")


class Connection(TConn):
    """A connection of gunicorn's worker, without TLS."""

    sock: ClientSocket
    parser: Any

    def __init__(
        self,
        cfg: Any,
        sock: socket.socket,
        client: Any,
        server: Any,
        limiter: SlowClientLimiter,
        watchdog: Watchdog,
    ) -> None:
        own = ClientSocket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        own.limiter, own.watchdog = limiter, watchdog
        super().__init__(cfg, own, client, server)
        #: All clients of a Unix socket share one.
        self.network = network_of(client[0]) if isinstance(client, tuple) else ""
        #: Set while the connection waits without a thread.
        self.guard: Guard | None = None
        self.expect_request()

    def expect_request(self) -> None:
        """Begin the next request."""
        #: When the request began, ``time.monotonic()``.
        self.since = time.monotonic()
        #: How long its head took to arrive, seconds.
        self.head_seconds = 0.0
        self._received = bytearray()
        self._is_head_complete = False
        self._discarded = 0

    def receive_head(self) -> bool:
        """Receive what has arrived; return whether the head is complete or too long.

        Raises OSError, and EOFError if the client has closed the connection.
        """
        try:
            piece = self.sock.recv(_HEAD_READ_BYTES)
        except BlockingIOError:
            return False
        if not piece:
            raise EOFError
        # The end may begin in the piece before.
        searched = max(0, len(self._received) - 3)
        self._received += piece
        end = _HEAD_END.search(self._received, searched)
        self._is_head_complete = end is not None and end.end() <= MAX_HEAD_BYTES
        self.head_seconds = time.monotonic() - self.since
        return self._is_head_complete or len(self._received) > MAX_HEAD_BYTES

    def parse_received(self) -> None:
        """Pass what was received to gunicorn's parser.

        Raises LimitRequestLine or LimitRequestHeaders if the head is too long.
        """
        self.init()
        received, self._received = bytes(self._received), bytearray()
        if received and not self._is_head_complete:
            if b"\r\n" not in received:
                raise LimitRequestLine(len(received), self.cfg.limit_request_line)
            raise LimitRequestHeaders(f"the head is longer than {MAX_HEAD_BYTES:,} bytes")
        self.parser.unreader.unread(received)

    def discard_received(self) -> bool:
        """Discard what has arrived; return whether more may come. Raises OSError."""
        try:
            piece = self.sock.recv(_DISCARD_READ_BYTES)
        except BlockingIOError:
            return True
        self._discarded += len(piece)
        return bool(piece) and self._discarded < MAX_DISCARDED_BYTES
