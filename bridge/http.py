"""The one outgoing HTTP client: an answer within a bounded time, or whether anything was sent.

TheEye's task keys stand in the path of its URLs. So no message, traceback or log record that
comes from here holds a URL's path or query, and what `requests` and `urllib3` say is replaced by
words of our own.
"""

from __future__ import annotations

import http.client
import io
import logging
import os
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import requests
from requests.adapters import DEFAULT_CA_BUNDLE_PATH, HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from bridge.errors import AnswerLost, NotSent, SendError
from bridge.event import Headers
from bridge.watchdog import Guard, Watchdog

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse
    from urllib3.response import HTTPResponse

#: The largest body of an answer, in bytes.
MAX_ANSWER = 20 * 1024**2

#: How long a kept connection may have been idle to be used again, in seconds.
MAX_IDLE = 2.0

USER_AGENT = "theeye-webhook-bridge"

CLOSED = "the connection was closed before the answer came"
CUT_OFF = "the answer broke off before its end"


@dataclass(frozen=True)
class Answer:
    """What came back, whatever its status. Its headers and body may hold secrets and are not printed."""

    status: int
    #: Of a header that came twice, the last.
    headers: Headers = field(repr=False)
    #: The bytes as they came, in the encoding that the headers name.
    body: bytes = field(repr=False)


class HttpClient:
    """Sends requests and reads their answers, one at a time; keeps its connection between them.

    Each sending thread has its own; the watchdog is shared. It follows no redirect, sends nothing
    twice, keeps no cookie, and reads nothing from the environment (proxies, netrc, certificates).

    `ca_bundle` is a file of certificates to trust instead of the public ones; certificates are
    always verified.
    """

    def __init__(
        self,
        watchdog: Watchdog,
        ca_bundle: str | Literal[True] = True,
        *,
        max_idle: float = MAX_IDLE,
        max_answer: int = MAX_ANSWER,
    ) -> None:
        self._watchdog = watchdog
        self._adapter = _Adapter(ca_bundle, max_idle)
        self._max_answer = max_answer

    def post(self, url: str, headers: Mapping[str, str], body: bytes, timeout: float) -> Answer:
        """POST `body` and give the answer, within `timeout` seconds.

        The time bounds the whole attempt: connecting, the TLS handshake, writing, waiting, and an
        answer that comes a byte at a time; only the operating system's look-up of the host's name
        cannot be cut short, it counts but may overrun. Sent are `headers` and, where they are not
        among these, Host, User-Agent, Accept-Encoding (identity) and Content-Length.

        Raises NotSent where no byte of the request was handed to the connection, and AnswerLost
        where one was and no whole answer came back.
        """
        return self._ask("POST", url, headers, body, timeout)

    def get(self, url: str, headers: Mapping[str, str], timeout: float) -> Answer:
        """GET, with the limits and errors of `post`."""
        return self._ask("GET", url, headers, None, timeout)

    def close(self) -> None:
        """Close the connections that are kept."""
        self._adapter.close()

    def _ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> Answer:
        exchange = _Exchange(self._watchdog, timeout)
        answer: Answer | None = None
        try:
            answer = self._send(exchange, method, url, headers, body)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, what was written decides
            what = "the answer cannot be read" if exchange.written else "the request cannot be made"
            exchange.note(f"{what}: {type(error).__name__}")
        finally:
            exchange.end()
        # A shutdown by the watchdog looks like the regular end of a body without a length.
        if answer is None or exchange.fired:
            # Out here, so that the error has no context: that one's text holds the URL.
            raise exchange.failure()
        return answer

    def _send(
        self, exchange: _Exchange, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        request = requests.Request(
            method, url, {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"} | dict(headers), data=body
        ).prepare()
        self._adapter.exchange = exchange
        response: BaseHTTPResponse = self._adapter.send(request, stream=True, timeout=exchange.left()).raw
        with closing(response):  # one that was read to its end has handed its connection back by then
            return Answer(response.status, Headers(response.headers.items()), self._read(exchange, response))

    def _read(self, exchange: _Exchange, response: BaseHTTPResponse) -> bytes:
        body = bytearray()
        try:
            for piece in response.stream(65536, decode_content=False):
                body += piece
                if len(body) > self._max_answer:
                    break
        except Exception:
            exchange.note(CUT_OFF)
            raise
        if len(body) > self._max_answer:
            exchange.note(f"the answer is larger than {self._max_answer:,} bytes")
            raise ValueError
        return bytes(body)


class _Exchange:
    """One request and its answer: until when they may last, and how far they came."""

    def __init__(self, watchdog: Watchdog, timeout: float) -> None:
        self._watchdog = watchdog
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._line: socket.socket | None = None
        self._guard: Guard | None = None
        self._reason = ""
        #: What does not come if time runs out.
        self.awaited = "connection"
        #: The request, or a part of it, was handed to the connection.
        self.written = False

    @property
    def fired(self) -> bool:
        return self._guard is not None and self._guard.fired

    def left(self) -> float:
        """Seconds until the deadline. Raises TimeoutError when there are none."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def watch(self, sock: socket.socket) -> None:
        """Have the connection shut down at the deadline."""
        # A copy that nobody else closes: TLS empties the socket that it wraps, and urllib3 closes
        # a connection that the server will not keep before the answer's body is read.
        self._line = socket.socket(sock.family, sock.type, sock.proto, fileno=os.dup(sock.fileno()))
        self._guard = self._watchdog.watch(self._line, self._deadline)

    def end(self) -> None:
        """Take the connection out of the watchdog's reach."""
        if self._guard is not None:
            self._guard.release()
        if self._line is not None:
            self._line.close()

    def note(self, reason: str) -> None:
        """Why it failed, for a person. The first one, nearest to the cause, stays."""
        self._reason = self._reason or reason

    def failure(self) -> SendError:
        """The error to raise."""
        if time.monotonic() >= self._deadline:
            # Whatever broke then, broke because of the watchdog.
            self._reason = f"no {self.awaited} within {self._timeout:g} s"
        return AnswerLost(self._reason) if self.written else NotSent(self._reason)


class _Lines(io.BufferedReader):
    """A stream that remembers the last line that was read."""

    last = b""

    def readline(self, size: int | None = -1, /) -> bytes:
        self.last = super().readline(size)
        return self.last


class _Reply(http.client.HTTPResponse):
    """Does not take a stream's end for the end of the headers, nor a reply in between for the answer."""

    def __init__(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        self._lines = _Lines(self.fp.detach())
        self.fp = self._lines

    def begin(self) -> None:
        self._begin()
        while self.status < 200:
            # Taken for the answer, the answer itself would be taken for that of the next request.
            self.headers = None  # type: ignore[assignment]  # stands for "not read" in the base class
            self._begin()

    def _begin(self) -> None:
        super().begin()
        if self._lines.last not in (b"\r\n", b"\n"):
            raise http.client.RemoteDisconnected("")


class _Connection(HTTPConnection):
    """A connection that keeps to the deadline of its exchange, and tells it how far it came."""

    response_class = _Reply
    exchange: _Exchange
    #: When it was last handed back, in seconds of ``time.monotonic()``.
    idle_since = 0.0

    @property
    def place(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def _new_conn(self) -> socket.socket:
        self.exchange.awaited = f"connection to {self.place}"
        try:
            return self._reach()
        except (socket.gaierror, UnicodeError) as error:
            if isinstance(error, UnicodeError) or error.errno == socket.EAI_NONAME:
                self.exchange.note(f"the name {self.host} is not known")
            else:
                self.exchange.note(f"the name {self.host} cannot be looked up: {_words(error)}")
            raise
        except OSError as error:
            self.exchange.note(f"no connection to {self.place}: {_words(error)}")
            raise

    def _reach(self) -> socket.socket:
        """Connect to the first of the host's addresses that answers.

        Each has an equal part of the time that is left, so that one that swallows
        everything does not use up that of the others.
        """
        failure = OSError()
        found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        for tried, (family, kind, protocol, _, address) in enumerate(found):
            try:
                with ExitStack() as opened:
                    sock = opened.enter_context(socket.socket(family, kind, protocol))
                    for option in self.socket_options or ():
                        sock.setsockopt(*option)
                    sock.settimeout(self.exchange.left() / (len(found) - tried))
                    sock.connect(address)
                    sock.settimeout(self.exchange.left())
                    self.exchange.watch(sock)
                    opened.pop_all()
                    return sock
            except OSError as error:
                failure = error
        raise failure

    def send(self, data: Any) -> None:
        self.exchange.left()
        # Before it is done: a write that fails may have written a part.
        self.exchange.written = True
        self.exchange.awaited = "answer"
        try:
            super().send(data)
        except OSError:
            self.exchange.note(CLOSED)
            raise

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 does itself
        try:
            return super().getresponse()
        except OSError:
            self.exchange.note(CLOSED)
            raise
        except http.client.HTTPException:
            self.exchange.note("the answer is not HTTP that can be read")
            raise


class _TLSConnection(_Connection, HTTPSConnection):
    """The same inside TLS."""

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        self.exchange.awaited = f"TLS handshake with {self.place}"
        return sock

    def connect(self) -> None:
        try:
            super().connect()
            sock: Any = self.sock
            if sock.version() is None:
                # Python wraps a connection that was reset meanwhile, without a handshake.
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
    """Hands a connection to the exchange in hand; one that was idle for too long is made anew."""

    ConnectionCls = _Connection
    exchange: _Exchange
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
        # Not only when the request is sent: there, urllib3 passes over some errors.
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


class _Adapter(HTTPAdapter):
    """Makes the connections of one client."""

    exchange: _Exchange

    def __init__(self, ca_bundle: str | Literal[True], max_idle: float) -> None:
        self._ca_bundle = DEFAULT_CA_BUNDLE_PATH if ca_bundle is True else ca_bundle
        self._max_idle = max_idle
        super().__init__(pool_maxsize=1)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any
    ) -> None:
        # Made once, by hand: reading a bundle takes as long as a hundred requests, and the
        # makers in `ssl` and `urllib3` heed variables of the environment.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self._ca_bundle)
        super().init_poolmanager(connections, maxsize, block, ssl_context=context, **pool_kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing to add: the TLS context verifies, with the certificates that it was made with."""

    def get_connection_with_tls_context(self, *arguments: Any, **named: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*arguments, **named)
        pool.exchange = self.exchange
        pool.max_idle = self._max_idle
        return pool

    def close(self) -> None:
        pools = self.poolmanager.pools
        for pool in [pools[key] for key in pools.keys()]:  # noqa: SIM118 - not to be iterated over
            pool.close()
        super().close()


def _words(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _drop(_record: logging.LogRecord) -> bool:
    return False


def _silence() -> None:
    """Drop every record of `urllib3` and `requests`.

    Their records hold the path: at DEBUG each request's, at WARNING that of an answer whose
    headers are odd. A level could be set again by whoever configures logging, and propagation
    does not stop a handler on the logger itself, so each logger gets a filter. Nothing is lost:
    what they tell also comes as an exception.
    """
    for name in [*logging.root.manager.loggerDict]:
        if name.partition(".")[0] in ("urllib3", "requests"):
            logging.getLogger(name).addFilter(_drop)


_silence()
