"""``POST /hooks/<source>``."""

from __future__ import annotations

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
from bridge.web.large_body_limiter import (
    LARGE_BODIES_LIMIT_BYTES,
    SMALL_BODY_BYTES,
    ArrivingBody,
    LargeBodyLimiter,
    ProcessingLimiter,
)
from bridge.web.request_deadline import finish_read, request_guard

#: Besides twice the body, how many bytes a chunked one may take on the wire: each chunk costs CPU.
MAX_FRAMING_BYTES = 64 * 1024
#: Bytes of a body that are read at once.
_READ_BYTES = 64 * 1024


def hooks(receiver: Receiver, settings: Settings) -> Blueprint:
    """The URLs that senders post to; the limits of memory are one process's part of all web processes'."""
    max_body, web_processes = settings.max_body, settings.web_concurrency
    blueprint = Blueprint("intake", __name__)
    room = LargeBodyLimiter(
        max(LARGE_BODIES_LIMIT_BYTES // web_processes, max_body), SMALL_BODY_BYTES // web_processes
    )
    processing = ProcessingLimiter()

    @blueprint.post("/hooks/<source>", strict_slashes=False)
    def hook(source: str) -> Response:
        head = Request(
            source=source,
            headers=Headers(request.headers.items()),
            query={name: values[-1] for name, values in request.args.lists()},
            body=b"",
            received_at=receiver.clock(),
            client=client_address(
                request.remote_addr or "",
                request.headers.get("X-Forwarded-For", ""),
                settings.trusted_proxies,
            ),
        )
        with receiver.noting_refusals(head, request.content_length):
            table = receiver.admit(head)
            length, network = request.content_length, network_of(head.client)
            if length is not None and length > max_body:
                raise TooLarge(f"the body has {length:,} bytes, at most {max_body:,} are taken")
            with room.arriving(max_body if length is None else length, network, request_guard.get()) as body:
                whole = head.with_body(_read_body(body, length, max_body))
                with processing.of(len(whole.body)):
                    answer = receiver.receive(whole, table)
        return Response(orjson.dumps(answer.body), answer.status, content_type="application/json")

    return blueprint


def _read_body(arrival: ArrivingBody, length: int | None, limit: int) -> bytes:
    """Return the whole body. Raises Unreadable, TooLarge, RequestTimeout or BodyMemoryFull."""
    # A bytes object that grows in place: joined pieces would be held twice.
    body, stream, size = BytesIO(), request.environ["wsgi.input"], 0
    connection = request.environ.get("gunicorn.socket")
    # One byte more than the limit, for a body of unknown length that is longer.
    rest = limit + 1 if length is None else length
    try:
        while size < rest and (piece := stream.read(min(_READ_BYTES, rest - size))):
            size += body.write(piece)
            arrival.grow(size)
            if length is None and getattr(connection, "received", 0) > 2 * size + MAX_FRAMING_BYTES:
                raise TooLarge("the body's chunks are too small")
    except OSError as error:
        finish_read()
        raise Unreadable("the body broke off before its end") from error
    except ParseException as error:  # gunicorn reads a chunked body only now
        finish_read()
        raise Unreadable(f"the body's chunks cannot be read: {error}") from error
    finish_read()
    if length is not None and size != length:
        raise Unreadable(f"{size} bytes came, Content-Length says {length}")
    if size > limit:
        raise TooLarge(f"the body is longer than {limit:,} bytes")
    arrival.finish(size)
    return body.getvalue()
