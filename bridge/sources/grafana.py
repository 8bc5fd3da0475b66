"""Grafana: a webhook contact point of its alerting.

Source of the rules: https://grafana.com/docs/grafana/latest/alerting/configure-notifications/ and the
packages receivers/webhook and http of grafana/alerting.
"""

from __future__ import annotations

from bridge.sources.alertmanager import Alertmanager
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import fields
from bridge.sources.base.proofs import BasicAuth, BearerToken, HmacSignature
from bridge.sources.base.source_type import EVERY_EVENT


class Grafana(Alertmanager):
    """Alertmanager's notification with more fields, and an optional signature."""

    name = "grafana"
    guide = Guide(
        title="Grafana",
        setup="""
            Alerting → Contact points → *Webhook*: *URL* the source's URL, *HTTP Method* POST; under *Optional
            settings* either *HMAC Signature* with a secret of your own, or *Authorization Header Credentials*
            with a token (scheme Bearer), or *HTTP Basic Authentication*. Where the form's *Header* or
            *Timestamp header* is set, write the same under `signature:` as `header` and `timestamp_header`.
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
        events="the group's `status`, `firing` or `resolved`; no action.",
        identity="""
            none that it sends. A hash over the receiver, the group's key and each alert's fingerprint, status
            and times stands for it, for 30 s from the first sight (`dedupe:`). An item is known by its
            fingerprint, status and times.
        """,
        repeats="""
            Grafana waits 30 s. What failed comes again with the group's next notification, after *Group
            interval*; after *Repeat interval* it reminds, with the same bytes.
        """,
        traps=(
            "A PUT is not taken: leave *HTTP Method* at POST.",
            """Set the timestamp header: without one a signed notification can be sent again by whoever has
            seen it. A time more than 300 s from now is refused.""",
            "A group that still fires may hold resolved alerts: match `item.status`, not the event.",
            "*Custom payload* needs `type: generic`.",
        ),
    )
    proofs = (
        HmacSignature("X-Grafana-Alerting-Signature"), BearerToken(), BasicAuth(),
    )  # fmt: skip
    options = ("signature",)
    default_signature = HmacSignature("X-Grafana-Alerting-Signature")
    default_signed_content = "{ts}:{body}"
    fields = {
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
