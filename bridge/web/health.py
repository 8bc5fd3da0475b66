"""``GET /``, ``/healthz`` and ``/readyz``: for those who watch the process."""

from __future__ import annotations

import logging
from typing import Any

import orjson
from flask import Blueprint, Response, request

from bridge.app import Bridge
from bridge.core.errors import StoreUnavailable
from bridge.core.event import Headers, Request
from bridge.core.secrets import Secret
from bridge.process.log import log_trouble
from bridge.report.rows import pause_line
from bridge.sources.base.proofs import BearerToken

#: After how many seconds of silence a process that delivers is taken for gone: three of its beats.
PROCESS_TIMEOUT_SECONDS = 30.0

log = logging.getLogger(__name__)


def health(bridge: Bridge) -> Blueprint:
    """Alive: the process answers. Ready: its store answers and a table is in force."""
    blueprint = Blueprint("health", __name__)
    status = Readiness(bridge)

    # Without strict_slashes, a URL without a path is redirected.
    @blueprint.get("/", strict_slashes=False)
    def root() -> Response:
        # Load balancers request it, and end a process that answers 404.
        return Response("The bridge is running. Webhooks go to /hooks/<source>.\n", content_type="text/plain")

    @blueprint.get("/healthz")
    def alive() -> Response:
        return _answer(200, {"alive": True})

    @blueprint.get("/readyz")
    def ready() -> Response:
        return status.answer(Headers(request.headers.items()))

    return blueprint


class Readiness:
    """What ``/readyz`` answers: the details only to those who send BRIDGE_STATUS_TOKEN.

    They name hosts, paths, tasks and routes. Behind a proxy every request comes from this machine, so that
    the address of a request says nothing about who asks.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        #: What the log said last: it says each change once, however often somebody asks.
        self._logged: list[str] = []

    def answer(self, headers: Headers) -> Response:
        """The answer to a request with these headers."""
        try:
            self._bridge.outbox.ping()
            details = _details(self._bridge)
        except StoreUnavailable as error:
            ready, details = False, {"store": self._bridge.mask(str(error))}
        else:
            ready = True
        trouble: list[str] = details.get("trouble", [])
        self._log(trouble if ready else [details["store"]])
        token = self._bridge.settings.status_token
        if token is not None and _proves(headers, token):
            return _answer(200 if ready else 503, {"ready": ready, **details})
        how = (
            "set BRIDGE_STATUS_TOKEN"
            if token is None
            else "send BRIDGE_STATUS_TOKEN as Authorization: Bearer"
        )
        count = {"trouble": len(trouble)} if trouble else {}
        return _answer(200 if ready else 503, {"ready": ready, **count, "details": how})

    def _log(self, trouble: list[str]) -> None:
        before, self._logged = self._logged, trouble
        for text in trouble:
            if text not in before:
                log.warning("/readyz: %s", text)


def _details(bridge: Bridge) -> dict[str, Any]:
    """Return problems that do not stop intake: stored jobs wait until delivery works again."""
    processes = bridge.outbox.delivering(PROCESS_TIMEOUT_SECONDS)
    here = bridge.settings.deliver
    delivering = bridge.delivery.is_alive if here else bool(processes)
    trouble = {process.trouble for process in processes} | {
        bridge.delivery.trouble,
        bridge.table_trouble,
        log_trouble(),
    }
    if not delivering:
        trouble.add("a thread of delivery has ended: restart" if here else "no worker is seen: start one")
    tasks = {task.id: task.name for task in bridge.table.tasks.values()}
    trouble |= {pause_line(pause, tasks) for pause in bridge.outbox.paused()}
    told = sorted(bridge.mask(text) for text in trouble if text)
    return {"store": "answers", "delivering": delivering, **({"trouble": told} if told else {})}


def _proves(headers: Headers, token: Secret) -> bool:
    """Whether the request proves to know the token; compared in constant time."""
    return BearerToken().verify(Request("", headers, {}, b"", 0.0), (token,))


def _answer(status: int, body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), status, content_type="application/json")
