"""Answers requests whose head is invalid, and which Flask never sees; gunicorn would echo and log each."""

from __future__ import annotations

from http import HTTPStatus

from gunicorn.http.errors import (
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)

from bridge.app import Bridge
from bridge.web.client_address import client_address
from bridge.web.problem import problem_response

#: All other errors of a head are a 400.
_STATUSES: dict[type[ParseException], int] = {
    LimitRequestLine: 414,
    ExpectationFailed: 417,
    LimitRequestHeaders: 431,
    UnsupportedTransferCoding: 501,
}
_MAX_REASON_CHARACTERS = 200


def refuse_head(error: ParseException, peer: str, bridge: Bridge) -> bytes:
    """Log the refusal, and return the bytes of its answer. `peer` is the address of the connection."""
    status = _STATUSES.get(type(error), 400)
    # Masked before it is cut: no mask finds a part of a secret.
    reason = bridge.mask(str(error))[:_MAX_REASON_CHARACTERS]
    bridge.refusals.log(status, None, client_address(peer, "", 0), reason)
    response = problem_response(status, HTTPStatus(status).phrase, {"Connection": "close"})
    return f"HTTP/1.1 {response.status}\r\n{response.headers}".encode("latin-1") + response.get_data()
