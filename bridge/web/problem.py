"""Errors as answers."""

from __future__ import annotations

import logging

import orjson
from flask import Response
from werkzeug.exceptions import HTTPException

from bridge.core.errors import Refusal, ServiceUnavailable, WrongMethod
from bridge.process.log_fields import Fields

#: The Retry-After of a 503.
RETRY_AFTER_SECONDS = 10

log = logging.getLogger(__name__)


def problem_response(status: int, title: str, headers: dict[str, str] | None = None, **more: str) -> Response:
    """Return an error as ``application/problem+json`` (RFC 9457), with `more` members."""
    body = orjson.dumps({"type": "about:blank", "title": title, "status": status, **more})
    return Response(body, status, headers, content_type="application/problem+json")


def error_response(error: Exception) -> Response:
    """Return the answer to a request that raised this error; log a defect."""
    if isinstance(error, Refusal):
        is_later = isinstance(error, ServiceUnavailable)
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if is_later else None
        headers = {"Allow": "POST, OPTIONS"} if isinstance(error, WrongMethod) else headers
        return problem_response(error.status, error.title, headers)
    if isinstance(error, HTTPException):
        response = problem_response(error.code or 500, error.name)
        for name, value in error.get_headers():
            if name.lower() == "allow":
                response.headers[name] = value
        return response
    log.error("a request failed", Fields("defect"), exc_info=error)
    return problem_response(500, "Internal Server Error")
