"""urllib3's connections, extended: they meet a deadline and note whether anything was written."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import requests
from requests.adapters import DEFAULT_CA_BUNDLE_PATH, HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from bridge.http.exchange import Exchange

if TYPE_CHECKING:
    from urllib3.response import HTTPResponse

CLOSED = "the connection was closed before the answer came"


class _Lines(io.BufferedReader):
    """A stream that remembers the last line that was read."""

    last = b""

    def readline(self, size: int | None = -1, /) -> bytes:
        self.last = super().readline(size)
        return self.last


class _Reply(http.client.HTTPResponse):
    """Reads past interim replies, and rejects headers that the stream's end cuts off."""

    def __init__(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        self._lines = _Lines(self.fp.detach())
        self.fp = self._lines

    def begin(self) -> None:
        self._begin()
        while self.status < 200:
            # An interim reply read as the answer would make the answer that of the next request.
            self.headers = None  # type: ignore[assignment]  # stands for "not read" in the base class
            self._begin()

    @property
    def ended_by_empty_line(self) -> bool:
        return self._lines.last in (b"\r\n", b"\n")

    def _begin(self) -> None:
        super().begin()
        if not self.ended_by_empty_line:
            raise http.client.RemoteDisconnected("")


class _Connection(HTTPConnection):
    """A connection that meets the deadline of its exchange, and notes there how far it came."""

    response_class = _Reply
    exchange: Exchange
    #: When its last answer was read, by ``time.monotonic()``.
    idle_since = 0.0

    @property
    def place(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'' if self.proxy is None else 'the proxy '}{host}:{self.port}"

    def _new_conn(self) -> socket.socket:
        self.exchange.awaited = f"connection to {self.place}"
        try:
            return self._connect()
        except (socket.gaierror, UnicodeError) as error:
            if isinstance(error, UnicodeError) or error.errno == socket.EAI_NONAME:
                self.exchange.note(f"the name {self.host} is not known")
            else:
                self.exchange.note(f"the name {self.host} cannot be looked up: {_words(error)}")
            raise
        except OSError as error:
            self.exchange.note(f"no connection to {self.place}: {_words(error)}")
            raise

    def _connect(self) -> socket.socket:
        """Connect to the first of the host's addresses that answers.

        Each gets an equal share of the remaining time, so that a silent one leaves time for the others.
        """
        failure = OSError()
        addresses = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            try:
                with ExitStack() as opened:
                    sock = opened.enter_context(socket.socket(family, kind, protocol))
                    for option in self.socket_options or ():
                        sock.setsockopt(*option)
                    sock.settimeout(self.exchange.remaining() / (len(addresses) - tried))
                    sock.connect(address)
                    sock.settimeout(self.exchange.remaining())
                    self.exchange.watch(sock)
                    opened.pop_all()
                    return sock
            except OSError as error:
                failure = error
        raise failure

    def send(self, data: Any) -> None:
        self.exchange.remaining()
        # Before the write: one that fails may have written a part.
        self.exchange.written = True
        self.exchange.awaited = "answer"
        try:
            super().send(data)
        except OSError:
            self.exchange.note(CLOSED)
            raise

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 does itself
        try:
            response = super().getresponse()
        except OSError:
            self.exchange.note(CLOSED)
            raise
        except http.client.HTTPException:
            self.exchange.note("the answer is not valid HTTP")
            raise
        reply: Any = response._original_response
        self.exchange.chunks_ended = lambda: response.chunked and reply.ended_by_empty_line
        return response


class _TLSConnection(_Connection, HTTPSConnection):
    """The same inside TLS."""

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        self.exchange.awaited = f"TLS handshake with {self.place}"
        return sock

    def _tunnel(self) -> None:
        try:
            super()._tunnel()
        except (OSError, http.client.HTTPException) as error:
            self.exchange.awaited = f"answer of {self.place}"
            self.exchange.note(f"{self.place}: {getattr(error, 'strerror', None) or error}")
            raise
        finally:
            # The proxy got a CONNECT, and nothing of the request.
            self.exchange.written = False
        self.exchange.awaited = f"TLS handshake with {self._tunnel_host}"

    def connect(self) -> None:
        try:
            super().connect()
            sock: Any = self.sock
            if sock.version() is None:
                # Python wraps a connection that was reset, without a handshake.
                raise ConnectionResetError
        except ssl.SSLCertVerificationError as error:
            self.exchange.note(f"TLS: certificate verify failed: {error.verify_message.rstrip('.')}")
            raise
        except ssl.SSLError as error:
            self.exchange.note(f"TLS: {(error.reason or 'handshake failed').replace('_', ' ').lower()}")
            raise
        except OSError:
            self.exchange.note("TLS: the connection was closed in the handshake")
            raise


class _Pool(HTTPConnectionPool):
    """Gives its connection the current exchange, and replaces one that was idle for too long."""

    ConnectionCls = _Connection
    exchange: Exchange
    max_idle: float

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        connection.exchange = self.exchange
        if not connection.is_closed:
            if time.monotonic() - connection.idle_since > self.max_idle:
                connection.close()
            else:
                self.exchange.watch(connection.sock)
        return connection

    def _validate_conn(self, conn: Any) -> None:
        # Connect here: urllib3 ignores some errors when it connects in the course of a request.
        if conn.is_closed:
            conn.connect()
        super()._validate_conn(conn)

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)


class _TLSPool(_Pool, HTTPSConnectionPool):
    """The same inside TLS."""

    ConnectionCls = _TLSConnection


def tls_context(ca_bundle: str | Literal[True] = True) -> ssl.SSLContext:
    """Return a context that trusts the certificates of a file, or the public ones.

    Threads may share it: to read the public ones takes as long as a hundred requests. `ssl` and `urllib3`
    would read variables of the environment.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH if ca_bundle is True else ca_bundle)
    return context


class Adapter(HTTPAdapter):
    """Makes the connections of one client."""

    exchange: Exchange

    def __init__(self, tls: ssl.SSLContext, max_idle: float, proxy: str | None = None) -> None:
        #: The proxy's URL by the scheme of a request's URL.
        self.proxies = {} if proxy is None else {"http": proxy, "https": proxy}
        self._tls = tls
        self._max_idle = max_idle
        #: The pool that was used last, by its origin.
        self._pools: dict[str, _Pool] = {}
        super().__init__(pool_maxsize=1)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any
    ) -> None:
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._tls, **pool_kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, ssl_context=self._tls, **proxy_kwargs)
        manager.pool_classes_by_scheme = self.poolmanager.pool_classes_by_scheme
        return manager

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Do nothing: the TLS context verifies."""

    def pool(self, origin: str, exchange: Exchange) -> HTTPConnectionPool:
        """Return the pool of an origin, such as https://api.theeye.io, for one request."""
        if origin not in self._pools:
            self.exchange = exchange
            request = requests.Request("GET", origin).prepare()
            pool = self.get_connection_with_tls_context(request, verify=True, proxies=self.proxies)
            self._pools = {origin: pool}
        pool = self._pools[origin]
        pool.exchange = exchange
        return pool

    def get_connection_with_tls_context(self, *arguments: Any, **named: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*arguments, **named)
        pool.exchange = self.exchange
        pool.max_idle = self._max_idle
        return pool

    def close(self) -> None:
        for pools in [manager.pools for manager in (self.poolmanager, *self.proxy_manager.values())]:
            for pool in [pools[key] for key in pools.keys()]:  # noqa: SIM118 - it forbids iteration
                pool.close()
        super().close()


def _words(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
