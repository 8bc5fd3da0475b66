"""The one outgoing HTTP client: an answer within a bounded time, or whether anything was sent.

TheEye's task keys stand in the path of its URLs. So no message, traceback or log record that
comes from here holds a URL's path or query, and what `requests` and `urllib3` say is replaced by
words of our own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import requests

from bridge.core.event import Headers
from bridge.http.connection import Adapter
from bridge.http.encoding import decode
from bridge.http.exchange import Exchange
from bridge.process.watchdog import Watchdog

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

#: The largest body of an answer, in bytes.
MAX_ANSWER_BYTES = 20 * 1024**2

#: How long a kept connection may have been idle to be used again, in seconds.
IDLE_LIMIT = 2.0

USER_AGENT = "theeye-webhook-bridge"

CUT_OFF = "the answer broke off before its end"


@dataclass(frozen=True)
class Answer:
    """What came back, whatever its status. Its headers and body may hold secrets and are not printed."""

    status: int
    #: Of a header that came twice, the last.
    headers: Headers = field(repr=False)
    #: Decoded. If the headers still name a Content-Encoding, it is not known or the body is broken, and these
    #: are the bytes as they came.
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
        max_idle: float = IDLE_LIMIT,
        max_answer: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._watchdog = watchdog
        self._adapter = Adapter(ca_bundle, max_idle)
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
        exchange = Exchange(self._watchdog, timeout)
        answer: Answer | None = None
        try:
            answer = self._send(exchange, method, url, headers, body)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, what was written decides
            what = "the answer cannot be read" if exchange.written else "the request cannot be made"
            exchange.note(f"{what}: {type(error).__name__}")
        finally:
            exchange.release()
        # A shutdown by the watchdog looks like the regular end of a body without a length. An answer that was
        # there by then is an answer, such as one that came while the process was frozen.
        if answer is None or (exchange.fired and not exchange.complete):
            # Out here, so that the error has no context: that one's text holds the URL.
            raise exchange.failure()
        return answer

    def _send(
        self, exchange: Exchange, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        request = requests.Request(
            method, url, {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"} | dict(headers), data=body
        ).prepare()
        self._adapter.exchange = exchange
        response: BaseHTTPResponse = self._adapter.send(
            request, stream=True, timeout=exchange.remaining()
        ).raw
        with closing(response):  # one that was read to its end has handed its connection back by then
            body, headers = self._read(exchange, response), Headers(response.headers.items())
            coding = response.headers.get("Content-Encoding", "")
            decoded = decode(body, coding, self._max_answer)
            if decoded is not None:
                self._limit(exchange, len(decoded))
                headers = headers.without(["Content-Encoding"])
            return Answer(response.status, headers, body if decoded is None else decoded)

    def _read(self, exchange: Exchange, response: BaseHTTPResponse) -> bytes:
        body = bytearray()
        try:
            for piece in response.stream(65536, decode_content=False):
                body += piece
                if len(body) > self._max_answer:
                    break
            exchange.complete = response.length_remaining == 0 or exchange.chunks_ended()
        except Exception:
            exchange.note(CUT_OFF)
            raise
        self._limit(exchange, len(body))
        return bytes(body)

    def _limit(self, exchange: Exchange, size: int) -> None:
        if size > self._max_answer:
            exchange.note(f"the answer is larger than {self._max_answer:,} bytes")
            raise ValueError


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
