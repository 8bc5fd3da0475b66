"""Grafana: a webhook contact point of its alerting.

Source of the rules: https://grafana.com/docs/grafana/latest/alerting/configure-notifications/ and the
packages receivers/webhook and http of grafana/alerting.
"""

from __future__ import annotations

from bridge.sources.alertmanager import ALERT_FIELDS, COMMON_FIELDS, Alertmanager
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import fields
from bridge.sources.base.proofs import BasicAuth, BearerToken, HmacSignature
from bridge.sources.base.source_type import EVERY_EVENT

_ALERT = fields(
    "startsAt endsAt values valueString generatorURL fingerprint silenceURL dashboardURL panelURL imageURL "
    "orgId ruleUID extra", **ALERT_FIELDS,
)  # fmt: skip


class Grafana(Alertmanager):
    """Alertmanager's notification with more fields, and an optional signature."""

    name = "grafana"
    guide = Guide(
        title="Grafana",
        setup="""
            Open Alerting → Contact points and choose *Webhook*. Set *URL* to the source's URL and *HTTP
            Method* to POST. Under *Optional settings*, set one of: *HMAC Signature* with the secret,
            *Authorization Header Credentials* with the token (scheme Bearer), or *HTTP Basic
            Authentication*. If you set the form's *Header* or *Timestamp header*, write the same names
            under `signature:` as `header` and `timestamp_header`.
        """,
        source_keys="signature: {timestamp_header: X-Grafana-Alerting-Timestamp}",
        route=Alertmanager.guide.route,
    )
    proofs = (
        HmacSignature("X-Grafana-Alerting-Signature"), BearerToken(), BasicAuth(),
    )  # fmt: skip
    options = ("signature",)
    default_signature = HmacSignature("X-Grafana-Alerting-Signature")
    default_signed_content = "{ts}:{body}"
    fields = {
        EVERY_EVENT: fields(
            "receiver orgId externalURL version groupKey truncatedAlerts title state message appVersion "
            "extra", alerts=[_ALERT], **COMMON_FIELDS,
        )
    }  # fmt: skip
