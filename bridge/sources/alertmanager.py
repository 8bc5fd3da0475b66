"""Prometheus Alertmanager: a ``webhook_config`` receiver.

Source of the rules: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config and
Alertmanager's notify/webhook and template packages.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import ClassVar

import orjson

from bridge.errors import Unreadable
from bridge.event import JSON, Request
from bridge.sources import Options, Reading, SourceType, read_json
from bridge.sources.signatures import BasicAuth, BearerToken, Proof


class Alertmanager(SourceType):
    """Alertmanager signs nothing: a bearer token or basic auth of its ``http_config`` proves it.

    The event is the group's status. A notification has no id: it is known by a hash over what it
    tells, without URLs, which differ between the two of a high-availability pair. The window is short because
    the reminder after ``repeat_interval`` has the same bytes and must pass.
    """

    name: ClassVar[str] = "alertmanager"
    proofs: ClassVar[tuple[Proof, ...]] = (BearerToken(), BasicAuth())
    events: ClassVar[Mapping[str, tuple[str, ...]]] = {"firing": ("alerts",), "resolved": ("alerts",)}
    dedupe: ClassVar[float | None] = 30.0

    def read(self, request: Request, options: Options) -> Reading:
        del options
        payload, body = read_json(request)
        return Reading(_status(payload), None, payload, body, fingerprint=self._fingerprint(payload))

    def advice(self, events: tuple[str, ...], *, loops: bool) -> tuple[str, str] | None:
        if loops and "resolved" in events:
            message = "event: resolved is the group's; one that still fires may hold resolved alerts"
            return message, "leave event out and match item.status: resolved"
        return None

    def _fingerprint(self, payload: JSON) -> str:
        alerts = sorted(map(orjson.dumps, map(self.item_identity, payload["alerts"])))
        told = [payload.get("receiver"), payload.get("groupKey"), [alert.decode() for alert in alerts]]
        return sha256(orjson.dumps(told)).hexdigest()

    def item_identity(self, item: JSON) -> JSON:
        """An alert's fingerprint is over its labels alone: only with its times it is one alert."""
        if not isinstance(item, dict) or "fingerprint" not in item:
            return item
        identity = [item["fingerprint"], item.get("status"), item.get("startsAt")]
        return [*identity, item.get("endsAt")] if item.get("status") == "resolved" else identity


def _status(payload: JSON) -> str:
    """The group's status. Raises Unreadable where the payload is not Alertmanager's own."""
    status = payload.get("status") if isinstance(payload, dict) else None
    if status not in ("firing", "resolved") or not isinstance(payload.get("alerts"), list):
        raise Unreadable(
            "an Alertmanager notification has status firing or resolved, and alerts; "
            "for a custom payload use type: generic"
        )
    return str(status)
