"""The one outgoing HTTP client: a whole answer in time, or an error that says whether anything was sent.

TheEye's task keys are in the path of its URLs. So no message, traceback or log record from here holds a URL's
path or query: what `requests` and `urllib3` say is replaced.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import requests
from requests.utils import check_header_validity

from bridge import __version__
from bridge.core.event import Headers
from bridge.core.secrets import Secret
from bridge.http.connection import Adapter, tls_context
from bridge.http.encoding import decode
from bridge.http.exchange import Exchange
from bridge.process.watchdog import Watchdog

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

#: The largest body of an answer.
MAX_ANSWER_BYTES = 20 * 1024**2

#: How long a connection may be idle and used again, seconds: a server may be about to close an older one.
IDLE_LIMIT = 2.0

USER_AGENT = f"theeye-bridge/{__version__}"
_HEADERS = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class HttpAnswer:
    """An answer of any status. Its headers and body may hold secrets, so that its repr leaves them out."""

    status: int
    #: The last one of each name.
    headers: Headers = field(repr=False)
    #: Decoded, unless the headers still name a Content-Encoding: that one is unknown, or the body is broken.
    body: bytes = field(repr=False)


class HttpClient:
    """Sends one request at a time and reuses its connection. Not thread-safe; the watchdog may be shared.

    It follows no redirect, sends nothing twice, stores no cookie, and reads nothing from the environment
    (proxies, netrc, certificates). `trust` is a file of certificates to trust instead of the public ones, or
    what `tls_context` returned.
    """

    def __init__(
        self,
        watchdog: Watchdog,
        trust: str | Literal[True] | ssl.SSLContext = True,
        *,
        max_idle: float = IDLE_LIMIT,
        max_answer: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._watchdog = watchdog
        self._tls = trust if isinstance(trust, ssl.SSLContext) else tls_context(trust)
        self._max_idle = max_idle
        self._max_answer = max_answer
        self._settings: tuple[ssl.SSLContext, Secret | None] = (self._tls, None)
        self._adapter = Adapter(self._tls, max_idle)

    def use(self, tls: ssl.SSLContext | None, proxy: Secret | None) -> None:
        """From now on trust `tls`, or `trust` without one, and send through the proxy with this URL."""
        settings = (tls or self._tls, proxy)
        if settings != self._settings:
            self._adapter.close()
            self._settings = settings
            self._adapter = Adapter(settings[0], self._max_idle, None if proxy is None else proxy.reveal())

    def post(self, url: str, headers: Mapping[str, str], body: bytes, timeout: float) -> HttpAnswer:
        """POST `body` and return the answer, within `timeout` seconds.

        The time bounds the whole attempt, from connecting to the answer's last byte; only the look-up of the
        host's name may overrun. Besides `headers` it sends Host, User-Agent, Accept-Encoding (identity) and
        Content-Length, unless `headers` has them.

        Raises NotSent if no byte of the request was written, else AnswerLost if no whole answer came back.
        """

        def send(exchange: Exchange) -> BaseHTTPResponse:
            # The pool itself: requests would spend as much time on the request as the pool does.
            origin, path = _origin_and_path(url)
            target = url if self._adapter.proxies and url[:5].lower() == "http:" else path
            sent = {**_HEADERS, **headers, "Content-Length": str(len(body))}
            for header in sent.items():
                check_header_validity(header)
            return self._adapter.pool(origin, exchange).urlopen(
                "POST",
                target,
                body=body,
                headers=sent,
                redirect=False,
                retries=False,
                assert_same_host=False,
                timeout=exchange.remaining(),
                preload_content=False,
                decode_content=False,
            )

        return self._request(send, timeout)

    def get(self, url: str, headers: Mapping[str, str], timeout: float) -> HttpAnswer:
        """GET, with the limits and errors of `post`."""

        def send(exchange: Exchange) -> BaseHTTPResponse:
            request = requests.Request("GET", url, {**_HEADERS, **headers}).prepare()
            adapter, timeout = self._adapter, exchange.remaining()
            adapter.exchange = exchange
            answer = adapter.send(request, stream=True, timeout=timeout, proxies=adapter.proxies)
            response: BaseHTTPResponse = answer.raw
            return response

        return self._request(send, timeout)

    def close(self) -> None:
        """Close the idle connections."""
        self._adapter.close()

    def _request(self, send: Callable[[Exchange], BaseHTTPResponse], timeout: float) -> HttpAnswer:
        exchange = Exchange(self._watchdog, timeout)
        answer: HttpAnswer | None = None
        try:
            answer = self._answer(exchange, send(exchange))
        except Exception as error:  # noqa: BLE001 - whatever went wrong, what was written decides
            what = "the answer cannot be read" if exchange.written else "the request cannot be made"
            exchange.note(f"{what}: {type(error).__name__}")
        finally:
            exchange.release()
        # The watchdog's shutdown looks like the regular end of a body without a length. A complete answer
        # counts, such as one that came while the process was frozen.
        if answer is None or (exchange.fired and not exchange.complete):
            # Outside the handler, so that the error has no context: the context's text holds the URL.
            raise exchange.failure()
        return answer

    def _answer(self, exchange: Exchange, response: BaseHTTPResponse) -> HttpAnswer:
        with closing(response):  # once read to its end, it has already returned its connection
            body, headers = self._read(exchange, response), Headers(response.headers.items())
            coding = response.headers.get("Content-Encoding", "")
            decoded = decode(body, coding, self._max_answer)
            if decoded is not None:
                self._limit(exchange, len(decoded))
                headers = headers.without(["Content-Encoding"])
            return HttpAnswer(response.status, headers, body if decoded is None else decoded)

    def _read(self, exchange: Exchange, response: BaseHTTPResponse) -> bytes:
        body = bytearray()
        try:
            for piece in response.stream(65536, decode_content=False):
                body += piece
                if len(body) > self._max_answer:
                    break
            exchange.complete = response.length_remaining == 0 or exchange.chunks_ended()
        except Exception:
            exchange.note("the answer broke off before its end")
            raise
        self._limit(exchange, len(body))
        return bytes(body)

    def _limit(self, exchange: Exchange, size: int) -> None:
        if size > self._max_answer:
            exchange.note(f"the answer is larger than {self._max_answer:,} bytes")
            raise ValueError


def _origin_and_path(url: str) -> tuple[str, str]:
    """Return a URL's scheme and host, and the rest of it."""
    end = url.find("/", url.index("//") + 2)
    return (url[:end], url[end:]) if end >= 0 else (url, "/")


def _silence() -> None:
    """Drop every log record of `urllib3` and `requests`: they hold a URL's path.

    A filter on each logger works whatever levels and handlers are configured later. The same facts come as
    exceptions.
    """
    for name in [*logging.root.manager.loggerDict]:
        if name.partition(".")[0] in ("urllib3", "requests"):
            logging.getLogger(name).addFilter(lambda _record: False)


_silence()
