"""Datadog: the webhooks integration.

Source of the rules: https://docs.datadoghq.com/integrations/webhooks/
"""

from __future__ import annotations

from hashlib import sha256

from bridge.core.event import JSON, Request
from bridge.sources.base.guide import Guide
from bridge.sources.base.proofs import BasicAuth, BearerToken, HeaderToken
from bridge.sources.base.source_type import ParsedWebhook, SourceType, text_at


class Datadog(SourceType):
    """Datadog signs nothing. It sends a token in a header or basic auth.

    The payload is the user's template, with field names as in the guide and in Datadog's default.
    """

    name = "datadog"
    guide = Guide(
        title="Datadog",
        setup="""
            Open Integrations → Webhooks → *New*. Set *URL* to the source's URL, *Custom Headers* to
            `{"Authorization": "Bearer …"}` with the token, *Encode as form* to off, and *Payload* to
            `{"id": "$ID", "event_type": "$EVENT_TYPE", "alert_transition": "$ALERT_TRANSITION", "alert_id":
            "$ALERT_ID", "alert_cycle_key": "$ALERT_CYCLE_KEY", "last_updated": "$LAST_UPDATED", "title":
            "$EVENT_TITLE", "tags": "$TAGS"}`. Add the fields that your tasks need. Then mention the webhook
            in a monitor's message, as `@webhook-<its name>`.
        """,
        route="""
            event: "*.Triggered"
            task_arguments:
              - ${{ payload.title }}
        """,
    )
    proofs = (BearerToken(), BasicAuth(), HeaderToken("X-Token"))
    options = ("header",)
    dedupe = 30.0

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        if not isinstance(payload, dict):
            raise self.unreadable("a JSON object; correct the payload template in Datadog")
        return ParsedWebhook(
            text_at(payload, "event_type") or "event",
            text_at(payload, "alert_transition"),
            _delivery(payload),
            fingerprint=sha256(request.body).hexdigest(),
        )


def _delivery(payload: JSON) -> str | None:
    """Return the id of an alert's event, if the template contains it."""
    cycle = [_text(payload.get(key)) for key in ("alert_cycle_key", "alert_transition", "last_updated")]
    return _text(payload.get("id")) or ("/".join(map(str, cycle)) if all(cycle) else None)


def _text(value: JSON) -> str | None:
    """Return a value of the template: text, or a number that it does not quote."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None
