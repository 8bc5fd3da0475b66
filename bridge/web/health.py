"""``GET /healthz`` and ``/readyz``: for those who watch the process."""

from __future__ import annotations

import orjson
from flask import Blueprint, Response

from bridge.app import Bridge
from bridge.errors import StoreUnavailable


def health(bridge: Bridge) -> Blueprint:
    """Alive: the process answers. Ready: its store answers and a table is in force."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    def alive() -> Response:
        return _answer(200, {"alive": True})

    @blueprint.get("/readyz")
    def ready() -> Response:
        try:
            bridge.outbox.ping()
        except StoreUnavailable as error:
            return _answer(503, {"ready": False, "store": bridge.mask(str(error))})
        # Told, but not failing intake: what is stored is sent once delivery is back.
        return _answer(200, {"ready": True, "store": "answers", "delivering": bridge.delivery.is_alive})

    return blueprint


def _answer(status: int, body: dict[str, object]) -> Response:
    return Response(orjson.dumps(body), status, content_type="application/json")
