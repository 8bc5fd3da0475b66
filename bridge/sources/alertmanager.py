"""Prometheus Alertmanager: a ``webhook_config`` receiver.

Source of the rules: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config and
Alertmanager's notify/webhook and template packages.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import ClassVar

from bridge.core.event import JSON, Request
from bridge.core.exact_json import dumps
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import ALERT, ANNOTATIONS, LABELS, FieldTree, fields
from bridge.sources.base.proofs import BasicAuth, BearerToken, Proof
from bridge.sources.base.source_type import EVERY_EVENT, ParsedWebhook, SourceType, text_at

#: Fields of each notification, and of each alert in it. Grafana has them, too.
COMMON_FIELDS: Mapping[str, FieldTree] = {
    "groupLabels": LABELS, "commonLabels": LABELS, "commonAnnotations": ANNOTATIONS, "status": ALERT,
}  # fmt: skip
ALERT_FIELDS: Mapping[str, FieldTree] = {"labels": LABELS, "annotations": ANNOTATIONS, "status": ALERT}


class Alertmanager(SourceType):
    """Alertmanager signs nothing. It sends a bearer token or basic auth.

    The event is the group's status. A notification has no id, so a hash identifies it, without URLs, which
    differ within a high-availability pair. The window is short because the reminder after
    ``repeat_interval`` has the same bytes.
    """

    name = "alertmanager"
    guide = Guide(
        title="Prometheus Alertmanager",
        setup="""
            In Alertmanager's configuration, add an entry to the `webhook_configs` of a receiver. Set `url`
            to the source's URL. Under `http_config`, set `authorization: {credentials_file: …}` to a file
            with the token.
        """,
        route="""
            loop: payload.alerts
            match:
              item.labels.severity: critical
              item.status: firing
            task_arguments:
              - ${{ item.labels.alertname }}
        """,
    )
    proofs: ClassVar[tuple[Proof, ...]] = (BearerToken(), BasicAuth())
    events = {"firing": ("alerts",), "resolved": ("alerts",)}
    actions = {"firing": (), "resolved": ()}
    fields = {
        EVERY_EVENT: fields(
            "receiver externalURL version groupKey truncatedAlerts notification_reason routeLabels",
            **COMMON_FIELDS,
            alerts=[fields("startsAt endsAt generatorURL fingerprint", **ALERT_FIELDS)],
        )
    }
    dedupe = 30.0

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        del request
        status = text_at(payload, "status")
        if status not in ("firing", "resolved") or not isinstance(payload.get("alerts"), list):
            raise self.unreadable(
                "status firing or resolved, and a list alerts; for a custom payload, use type: generic"
            )
        return ParsedWebhook(status, fingerprint=self._fingerprint(payload))

    def route_warning(self, events: tuple[str, ...], *, loops: bool) -> tuple[str, str] | None:
        if loops and "resolved" in events:
            message = "event: resolved is the group's status; a firing group may contain resolved alerts"
            return message, "remove event, and match item.status: resolved"
        return None

    def _fingerprint(self, payload: JSON) -> str:
        alerts = sorted(map(dumps, map(self.item_identity, payload["alerts"])))
        hashed = [payload.get("receiver"), payload.get("groupKey"), [alert.decode() for alert in alerts]]
        return sha256(dumps(hashed)).hexdigest()

    def item_identity(self, item: JSON) -> JSON:
        """Return the fingerprint, which covers only the labels, with the alert's times."""
        if not isinstance(item, dict) or "fingerprint" not in item:
            return item
        identity = [item["fingerprint"], item.get("status"), item.get("startsAt")]
        return [*identity, item.get("endsAt")] if item.get("status") == "resolved" else identity
