"""The Flask application: webhooks and health checks."""

from __future__ import annotations

import logging

import orjson
from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from bridge.app import Bridge
from bridge.core.errors import Refusal, ServiceUnavailable
from bridge.web.health import health
from bridge.web.hooks import hooks

#: The Retry-After of a 503.
RETRY_AFTER_SECONDS = 10

log = logging.getLogger(__name__)


def create_app(bridge: Bridge) -> Flask:
    """Return the WSGI application of one process."""
    app = Flask(__name__, static_folder=None)
    # Otherwise Flask redirects /hooks//github, which some senders count as delivered.
    app.url_map.merge_slashes = False
    app.register_blueprint(hooks(bridge.receiver, bridge.settings))
    app.register_blueprint(health(bridge))
    app.register_error_handler(Refusal, _refused)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _defect)
    return app


def problem_response(status: int, title: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error as ``application/problem+json`` (RFC 9457)."""
    body = orjson.dumps({"type": "about:blank", "title": title, "status": status})
    return Response(body, status, headers, content_type="application/problem+json")


def _refused(error: Refusal) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if isinstance(error, ServiceUnavailable) else None
    return problem_response(error.status, error.title, headers)


def _http_error(error: HTTPException) -> Response:
    response = problem_response(error.code or 500, error.name)
    for name, value in error.get_headers():
        if name.lower() == "allow":
            response.headers[name] = value
    return response


def _defect(error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    return problem_response(500, "Internal Server Error")
