"""``GET /healthz`` and ``/readyz``: for those who watch the process."""

from __future__ import annotations

import orjson
from flask import Blueprint, Response

from bridge.app import Bridge
from bridge.errors import StoreUnavailable
from bridge.report import pause_line

#: After how many seconds of silence a process that delivers is taken for gone: three of its beats.
SILENT = 30.0


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
            found = _found(bridge)
        except StoreUnavailable as error:
            return _answer(503, {"ready": False, "store": bridge.mask(str(error))})
        return _answer(200, {"ready": True, "store": "answers", **found})

    return blueprint


def _found(bridge: Bridge) -> dict[str, object]:
    """What is told, but does not fail intake: what is stored is sent once delivery is back."""
    processes = bridge.outbox.delivering(SILENT)
    here = bridge.settings.deliver
    delivering = bridge.delivery.is_alive if here else bool(processes)
    trouble = {process.trouble for process in processes} | {bridge.delivery.trouble, bridge.table_trouble}
    if not delivering:
        trouble.add("a thread of delivery has ended: restart" if here else "no worker is seen: start one")
    tasks = {task.id: task.name for task in bridge.table.tasks.values()}
    trouble |= {pause_line(pause, tasks) for pause in bridge.outbox.paused()}
    told = sorted(bridge.mask(text) for text in trouble if text)
    return {"delivering": delivering, **({"trouble": told} if told else {})}


def _answer(status: int, body: dict[str, object]) -> Response:
    return Response(orjson.dumps(body), status, content_type="application/json")
