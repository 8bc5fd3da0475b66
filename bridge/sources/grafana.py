"""Grafana: a webhook contact point of its alerting.

Source of the rules: https://grafana.com/docs/grafana/latest/alerting/configure-notifications/ and the
packages receivers/webhook and http of grafana/alerting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from bridge.errors import Unreadable
from bridge.event import Request
from bridge.sources import EVERY_EVENT, Options, Reading, read_json, text_at
from bridge.sources.alertmanager import Alertmanager
from bridge.sources.guide import Guide
from bridge.sources.payloads import Inside, fields
from bridge.sources.signatures import BasicAuth, BearerToken, HmacSignature, Proof


class Grafana(Alertmanager):
    """Alertmanager's notification with more in it, and a signature where one is set up."""

    name: ClassVar[str] = "grafana"
    guide: ClassVar[Guide] = Guide(
        title="Grafana",
        setup="""
            Open Alerting → Contact points and choose *Webhook*. Set *URL* to the source's URL and *HTTP
            Method* to POST. Under *Optional settings*, set one of: *HMAC Signature* with the secret,
            *Authorization Header Credentials* with the token (scheme Bearer), or *HTTP Basic
            Authentication*. If you set the form's *Header* or *Timestamp header*, write the same names
            under `signature:` as `header` and `timestamp_header`.
        """,
        example="""
sources:
  grafana:
    secret: ${{ env.GRAFANA_SECRET }}
    signature: {timestamp_header: X-Grafana-Alerting-Timestamp}
routes:
  - source: grafana
    loop: payload.alerts
    match:
      item.labels.severity: critical
      item.status: firing
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ item.labels.alertname }}
""",
    )
    proofs: ClassVar[tuple[Proof, ...]] = (
        HmacSignature("X-Grafana-Alerting-Signature"), BearerToken(), BasicAuth(),
    )  # fmt: skip
    options: ClassVar[tuple[str, ...]] = ("signature",)
    signs: ClassVar[HmacSignature | None] = HmacSignature("X-Grafana-Alerting-Signature")
    signs_with_time: ClassVar[str] = "{ts}:{body}"
    fields: ClassVar[Mapping[str, Inside]] = {
        EVERY_EVENT: fields(
            "receiver status orgId groupLabels commonLabels commonAnnotations externalURL version groupKey "
            "truncatedAlerts title state message appVersion extra",
            alerts=[
                fields(
                    "status labels annotations startsAt endsAt values valueString generatorURL fingerprint "
                    "silenceURL dashboardURL panelURL imageURL orgId ruleUID extra"
                )
            ],
        )
    }

    def proofs_with(self, options: Options) -> tuple[Proof, ...]:
        signature, *others = self.proofs
        return (options.signature or signature, *others)

    def read(self, request: Request, options: Options) -> Reading:
        del options
        payload, body = read_json(request)
        status = text_at(payload, "status")
        if status not in ("firing", "resolved") or not isinstance(payload.get("alerts"), list):
            raise Unreadable(
                "a notification of Grafana has status firing or resolved, and alerts; "
                "for a custom payload use type: generic"
            )
        return Reading(status, None, payload, body, fingerprint=self._fingerprint(payload))
