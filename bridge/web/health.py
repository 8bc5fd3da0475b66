"""``/healthz`` and ``/readyz``: health checks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from flask import Blueprint, Response, request

from bridge.app import Bridge
from bridge.core.errors import StoreUnavailable
from bridge.core.event import Headers, Request
from bridge.delivery.target import outage_began_before
from bridge.process.database_disk import disk_trouble
from bridge.process.log import log_trouble
from bridge.process.log_fields import Fields
from bridge.process.settings import Settings
from bridge.report.jobs import pause_line
from bridge.sources.base.proofs import BearerToken

#: A process that delivers counts as gone after so long without a heartbeat: three intervals.
PROCESS_TIMEOUT_SECONDS = 30.0

#: Why jobs are not delivered: by this process, or by a worker.
_NO_THREAD = "a delivery thread of this process has stopped: restart the bridge"
_NO_WORKER = f"no process that delivers was seen in the last {PROCESS_TIMEOUT_SECONDS:.0f} s: start a worker"

log = logging.getLogger(__name__)


def health(bridge: Bridge) -> Blueprint:
    """The URLs of the health checks."""
    blueprint = Blueprint("health", __name__)
    readiness = Readiness(bridge)

    @blueprint.get("/healthz")
    def alive() -> Response:
        return _json(200, {"alive": True})

    @blueprint.get("/readyz")
    def ready() -> Response:
        return readiness.answer(Headers(request.headers.items()))

    return blueprint


class Readiness:
    """Answers ``/readyz``, with details for clients that send BRIDGE_STATUS_TOKEN.

    The details name hosts, paths, tasks and routes. The address of a client proves nothing: behind a proxy
    every request comes from this machine.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        #: The problems of the last request: each is logged once.
        self._logged: list[str] = []

    def answer(self, headers: Headers) -> Response:
        """Answer a request with these headers: 200 if the store answers, else 503."""
        try:
            self._bridge.outbox.ping()
            status, details = 200, details_of(self._bridge)
            trouble: list[str] = details.get("trouble", [])
            self._log(trouble)
        except StoreUnavailable as error:
            status, details, trouble = 503, {"database": self._bridge.mask(str(error))}, []
            self._log([details["database"]])
        body: dict[str, Any] = {"ready": status == 200}
        hint = token_hint(self._bridge.settings, headers)
        if hint is None:
            return _json(status, {**body, **details})
        if trouble:
            body["trouble"] = len(trouble)
        return _json(status, {**body, "details": hint})

    def _log(self, trouble: list[str]) -> None:
        before, self._logged = self._logged, trouble
        for text in trouble:
            if text not in before:
                log.warning("/readyz: %(reason)s", Fields("trouble", reason=text))


def token_hint(settings: Settings, headers: Headers) -> str | None:
    """Return what a client must do to see details; None if it sent BRIDGE_STATUS_TOKEN."""
    token = settings.status_token
    if token is None:
        return "set BRIDGE_STATUS_TOKEN"
    # BearerToken compares in constant time.
    is_sent = BearerToken().verify(Request("", headers, {}, b"", 0.0), (token,))
    return None if is_sent else "send BRIDGE_STATUS_TOKEN as Authorization: Bearer"


def details_of(bridge: Bridge) -> dict[str, Any]:
    """Return problems that do not stop intake: stored jobs wait until delivery works again."""
    texts = troubles(bridge)
    return {"database": "answers", "delivering": _delivers(bridge), **({"trouble": texts} if texts else {})}


def _delivers(bridge: Bridge) -> bool:
    if bridge.settings.deliver:
        return bridge.delivery.is_alive
    return bool(bridge.outbox.delivering(PROCESS_TIMEOUT_SECONDS))


def troubles(bridge: Bridge) -> list[str]:
    """Return the problems besides single jobs, a line each, masked. Raises StoreUnavailable."""
    processes = bridge.outbox.delivering(PROCESS_TIMEOUT_SECONDS)
    trouble = {process.trouble for process in processes}
    trouble |= {bridge.delivery.trouble, bridge.table_trouble, log_trouble(), disk_trouble(bridge.settings)}
    trouble |= {each.trouble for each in bridge.outbox.expectations.watched() if each.is_overdue}
    if not _delivers(bridge):
        trouble.add(_NO_THREAD if bridge.settings.deliver else _NO_WORKER)
    tasks = {task.id: task.name for task in bridge.table.tasks.values()}
    trouble |= {pause_line(pause, tasks) for pause in bridge.outbox.paused()}
    return sorted(map(bridge.mask, _current(bridge, filter(None, trouble))))


def _current(bridge: Bridge, trouble: Iterable[str]) -> Iterator[str]:
    """Yield the troubles, with at most one outage: the longest that has not ended for any process."""
    began = {text: outage_began_before(text) for text in trouble}
    yield from (text for text, at in began.items() if at is None)
    outages = sorted((at, text) for text, at in began.items() if at is not None)
    if outages:
        last = bridge.outbox.last_accepted_at()
        yield from [text for at, text in outages if at > last][:1]


def _json(status: int, body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), status, content_type="application/json")
