"""``POST /hooks/<source>``."""

from __future__ import annotations

import orjson
from flask import Blueprint, Response, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from bridge.errors import TooLarge, Unreadable
from bridge.event import Headers, Request
from bridge.receive import Receiver
from bridge.web.arrival import Room, has_arrived
from bridge.web.client import client_address


def intake(receiver: Receiver, proxies: int) -> Blueprint:
    """The URLs that senders post to, through so many trusted proxies."""
    blueprint = Blueprint("intake", __name__)
    room = Room()

    @blueprint.post("/hooks/<source>", strict_slashes=False)
    def hook(source: str) -> Response:
        head = Request(
            source=source,
            headers=Headers(request.headers.items()),
            query={name: values[-1] for name, values in request.args.lists()},
            body=b"",
            received_at=receiver.clock(),
            client=client_address(
                request.remote_addr or "", request.headers.get("X-Forwarded-For", ""), proxies
            ),
        )
        with receiver.noting_refusals(head, request.content_length):
            table = receiver.admit(head)
            with room.for_body(request.content_length, request.max_content_length or 0):
                answer = receiver.receive(head.with_body(_read_body()), table)
        return Response(orjson.dumps(answer.body), answer.status, content_type="application/json")

    return blueprint


def _read_body() -> bytes:
    """The body, whole and within its limits. Raises Unreadable, TooLarge or TooSlow."""
    limit = request.max_content_length
    if limit is not None and request.content_length is None:
        # Of a chunked body Werkzeug gives what is within its limit and is silent about the rest.
        request.max_content_length = limit + 1
    try:
        body = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise TooLarge(
            f"the body has {request.content_length:,} bytes, at most {limit:,} are taken"
        ) from None
    except ClientDisconnected as error:
        has_arrived()
        raise Unreadable("the body broke off before its end") from error
    except ParseException as error:  # gunicorn reads a chunked body only now
        has_arrived()
        raise Unreadable(f"the body's chunks cannot be read: {error}") from error
    has_arrived()
    if request.content_length is not None and len(body) != request.content_length:
        raise Unreadable(f"{len(body)} bytes came, Content-Length says {request.content_length}")
    if limit is not None and len(body) > limit:
        raise TooLarge(f"the body is longer than {limit:,} bytes")
    return body
