"""``/hooks/<source>``, in front of Flask."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any

import orjson
from gunicorn.http.errors import ParseException
from werkzeug import Request as WerkzeugRequest
from werkzeug.exceptions import BadRequest
from werkzeug.sansio.utils import get_content_length

from bridge.core.client_network import network_of
from bridge.core.errors import TooLarge, Unreadable
from bridge.core.event import Headers, Request
from bridge.intake.answer import Answer
from bridge.intake.receive import Receiver
from bridge.process.settings import Settings
from bridge.web.api.problem import API_PATH
from bridge.web.client_address import client_address
from bridge.web.large_body_limiter import ArrivingBody, LargeBodyLimiter
from bridge.web.problem import error_response
from bridge.web.processing_limiter import ProcessingLimiter
from bridge.web.request_deadline import finish_read, request_guard

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

#: What a chunked body may take on the wire besides twice its size: each chunk costs CPU.
MAX_FRAMING_BYTES = 64 * 1024
#: How much of a body is read at once.
_READ_BYTES = 64 * 1024
#: The path of a source, as Flask's own rule has it.
_PATH = re.compile(r"/hooks/([^/]+)/?")


class Hooks:
    """The WSGI application that receives webhooks, and passes every other request to Flask.

    Flask's dispatch takes as long as everything else until a webhook is stored.
    """

    def __init__(self, receiver: Receiver, settings: Settings, flask: WSGIApplication) -> None:
        self._receiver = receiver
        self._settings = settings
        self._flask = flask
        self._limiter = LargeBodyLimiter.for_process(settings.web_concurrency, settings.max_body)
        self._processing = ProcessingLimiter()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = _PATH.fullmatch(environ.get("PATH_INFO", ""))
        is_api = environ.get("PATH_INFO", "").startswith(API_PATH)
        if path is None and environ["REQUEST_METHOD"] == "POST" and not is_api:
            return self._flask(environ, self._recording(environ, start_response))
        if path is None or environ["REQUEST_METHOD"] == "OPTIONS":
            return self._flask(environ, start_response)
        try:
            answer = self._receive(environ, path[1].encode("latin-1").decode("utf-8", "replace"))
        except Exception as error:  # noqa: BLE001 - logged, and answered without a traceback
            return error_response(error)(environ, start_response)
        body = orjson.dumps(answer.body)
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase.upper()}", headers)
        return [body]

    def _recording(self, environ: dict[str, Any], start_response: StartResponse) -> StartResponse:
        """Return a `start_response` that also records a refused webhook with the wrong path."""

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            if status[:3] in ("404", "405"):
                path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
                self._receiver.refuse_path(self._head(environ, ""), path, int(status[:3]), _length(environ))
            return start_response(status, headers, *rest)

        return start

    def _receive(self, environ: dict[str, Any], source: str) -> Answer:
        try:
            environ.get("HTTP_HOST", "").encode("idna")
        except UnicodeError as error:
            raise BadRequest from error  # as Flask answers for its own rules
        head, length = self._head(environ, source), _length(environ)
        return self._receiver.receive(head, self._body(environ, length, network_of(head.client)), length)

    def _head(self, environ: dict[str, Any], source: str) -> Request:
        request = WerkzeugRequest(environ) if environ.get("QUERY_STRING") else None
        return Request(
            source=source,
            headers=_headers(environ),
            query={} if request is None else {name: values[-1] for name, values in request.args.lists()},
            body=b"",
            received_at=self._receiver.clock(),
            client=client_address(
                environ.get("REMOTE_ADDR", ""),
                environ.get("HTTP_X_FORWARDED_FOR", ""),
                self._settings.trusted_proxies,
            ),
            method=environ["REQUEST_METHOD"],
        )

    @contextmanager
    def _body(self, environ: dict[str, Any], length: int | None, network: str) -> Iterator[bytes]:
        """Read the body of a request, and free its memory at the end. Raises Refusal."""
        limit = self._settings.max_body
        if length is not None and length > limit:
            raise TooLarge(f"the body has {length:,} bytes; expected at most {limit:,}")
        largest = limit if length is None else length
        with self._limiter.arriving(largest, network, request_guard.get()) as arriving:
            content = _read_body(environ, arriving, length, limit)
            with self._processing.turn(len(content)):
                yield content


def _length(environ: dict[str, Any]) -> int | None:
    return get_content_length(environ.get("CONTENT_LENGTH"), environ.get("HTTP_TRANSFER_ENCODING"))


def _headers(environ: dict[str, Any]) -> Headers:
    """Return the headers of a WSGI environment (PEP 3333), as werkzeug's EnvironHeaders has them."""
    given = {
        key[5:].replace("_", "-"): value
        for key, value in environ.items()
        if key.startswith("HTTP_") and key not in ("HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH")
    }
    for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(key):
            given[key.replace("_", "-")] = environ[key]
    return Headers(given.items())


def _read_body(environ: dict[str, Any], arriving: ArrivingBody, length: int | None, limit: int) -> bytes:
    """Return the whole body. Raises Unreadable, TooLarge, RequestTimeout or BodyMemoryFull."""
    # A bytes object that grows in place: joined pieces would need the memory twice.
    content, stream, size = BytesIO(), environ["wsgi.input"], 0
    connection = environ.get("gunicorn.socket")
    # A body of unknown length is read one byte past the limit, to see that it is longer.
    end = limit + 1 if length is None else length
    try:
        while size < end and (piece := stream.read(min(_READ_BYTES, end - size))):
            size += content.write(piece)
            arriving.grow(size)
            if length is None and getattr(connection, "received", 0) > 2 * size + MAX_FRAMING_BYTES:
                raise TooLarge("the body's chunks are too small")
    except OSError as error:
        finish_read()
        raise Unreadable("the connection ended before the body was complete") from error
    except ParseException as error:  # gunicorn parses a chunked body only now
        finish_read()
        raise Unreadable(f"the body's chunks are invalid: {error}") from error
    finish_read()
    if length is not None and size != length:
        raise Unreadable(f"the body has {size} bytes, but Content-Length says {length}")
    if size > limit:
        raise TooLarge(f"the body has more than {limit:,} bytes")
    arriving.finish(size)
    return content.getvalue()
