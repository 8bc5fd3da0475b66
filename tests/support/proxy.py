"""An HTTP proxy on 127.0.0.1, and the stand-in TheEye with TLS."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from contextlib import suppress
from typing import Any, Self

from tests.support.theeye import StandIn

END = b"\r\n\r\n"


class TLSStandIn(StandIn):
    """TheEye with a certificate."""

    def __init__(self, tls: ssl.SSLContext, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._tls = tls

    @property
    def url(self) -> str:
        return super().url.replace("http:", "https:")

    def listen(self) -> None:
        super().listen()
        assert self._server is not None
        self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)


class Proxy:
    """Tunnels CONNECT and forwards requests of http:// URLs; all of them reach one port of this machine."""

    def __init__(self, port: int) -> None:
        self._upstream = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        #: The head of each connection's first request.
        self.heads: list[bytes] = []
        #: What it answers instead of doing its work; empty bytes: it closes the connection.
        self.reply: bytes | None = None
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"http://{self.address}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._sockets):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, *self._sockets):
            sock.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._sockets.append(sock)
                self._start(self._serve, sock)

    def _start(self, work: Any, *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError):
            data = b""
            while END not in data:
                if not (piece := sock.recv(65536)):
                    return
                data += piece
            head, _, rest = data.partition(END)
            self.heads.append(head)
            if self.reply is not None:
                sock.sendall(self.reply)
                sock.shutdown(socket.SHUT_RDWR)
                return
            upstream = socket.create_connection(self._upstream)
            self._sockets.append(upstream)
            self._start(self._pump, upstream, sock)
            if head.startswith(b"CONNECT "):
                sock.sendall(b"HTTP/1.1 200 Connection established" + END)
            else:
                upstream.sendall(re.sub(rb" http://[^/]+", b" ", head, count=1) + END + rest)
            self._pump(sock, upstream)

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                target.sendall(piece)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
