"""``POST /hooks/<source>``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import orjson
from flask import Blueprint, Response, request
from gunicorn.http.errors import ParseException

from bridge.core.client_network import network_of
from bridge.core.errors import TooLarge, Unreadable
from bridge.core.event import Headers, Request
from bridge.intake.receive import Receiver
from bridge.process.settings import Settings
from bridge.web.client_address import client_address
from bridge.web.large_body_limiter import ArrivingBody, LargeBodyLimiter
from bridge.web.processing_limiter import ProcessingLimiter
from bridge.web.request_deadline import finish_read, request_guard

#: What a chunked body may take on the wire besides twice its size: each chunk costs CPU.
MAX_FRAMING_BYTES = 64 * 1024
#: How much of a body is read at once.
_READ_BYTES = 64 * 1024


def hooks(receiver: Receiver, settings: Settings) -> Blueprint:
    """The URLs that senders post to."""
    blueprint = Blueprint("hooks", __name__)
    limiter = LargeBodyLimiter.for_process(settings.web_concurrency, settings.max_body)
    processing = ProcessingLimiter()

    @blueprint.post("/hooks/<source>", strict_slashes=False)
    def hook(source: str) -> Response:
        forwarded_for = request.headers.get("X-Forwarded-For", "")
        head = Request(
            source=source,
            headers=Headers(request.headers.items()),
            query={name: values[-1] for name, values in request.args.lists()},
            body=b"",
            received_at=receiver.clock(),
            client=client_address(request.remote_addr or "", forwarded_for, settings.trusted_proxies),
        )
        answer = receiver.receive(head, body(network_of(head.client)), request.content_length)
        return Response(orjson.dumps(answer.body), answer.status, content_type="application/json")

    @contextmanager
    def body(network: str) -> Iterator[bytes]:
        """Read the body of this thread's request, and free its memory at the end. Raises Refusal."""
        length, limit = request.content_length, settings.max_body
        if length is not None and length > limit:
            raise TooLarge(f"the body has {length:,} bytes; expected at most {limit:,}")
        with limiter.arriving(limit if length is None else length, network, request_guard.get()) as arriving:
            content = _read_body(arriving, length, limit)
            with processing.turn(len(content)):
                yield content

    return blueprint


def _read_body(arriving: ArrivingBody, length: int | None, limit: int) -> bytes:
    """Return the whole body. Raises Unreadable, TooLarge, RequestTimeout or BodyMemoryFull."""
    # A bytes object that grows in place: joined pieces would need the memory twice.
    content, stream, size = BytesIO(), request.environ["wsgi.input"], 0
    connection = request.environ.get("gunicorn.socket")
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
