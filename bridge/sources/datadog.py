"""Datadog: the webhooks integration.

Source of the rules: https://docs.datadoghq.com/integrations/webhooks/
"""

from __future__ import annotations

from hashlib import sha256
from typing import ClassVar

from bridge.errors import Unreadable
from bridge.event import JSON, Request
from bridge.sources import Options, Reading, SourceType, read_json, text_at
from bridge.sources.guide import Guide
from bridge.sources.signatures import BasicAuth, BearerToken, HeaderToken, Proof


class Datadog(SourceType):
    """It signs nothing: a token in a header of one's own, or basic auth, proves it.

    The payload is the user's own template; the event, the action and the id stand where that of the guide
    has them, which are the names of Datadog's default too.
    """

    name: ClassVar[str] = "datadog"
    guide: ClassVar[Guide] = Guide(
        title="Datadog",
        setup="""
            Open Integrations → Webhooks → *New*. Set *URL* to the source's URL, *Custom Headers* to
            `{"Authorization": "Bearer …"}` with the token, *Encode as form* to off, and *Payload* to
            `{"id": "$ID", "event_type": "$EVENT_TYPE", "alert_transition": "$ALERT_TRANSITION", "alert_id":
            "$ALERT_ID", "alert_cycle_key": "$ALERT_CYCLE_KEY", "last_updated": "$LAST_UPDATED", "title":
            "$EVENT_TITLE", "tags": "$TAGS"}`. Add the fields that your tasks need. Then mention the webhook
            in a monitor's message, as `@webhook-<its name>`.
        """,
        example="""
sources:
  datadog:
    bearer_token: ${{ env.DATADOG_TOKEN }}
routes:
  - source: datadog
    event: "*.Triggered"
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.title }}
""",
    )
    proofs: ClassVar[tuple[Proof, ...]] = (BearerToken(), BasicAuth(), HeaderToken("X-Token"))
    options: ClassVar[tuple[str, ...]] = ("header",)
    dedupe: ClassVar[float | None] = 30.0

    def proofs_with(self, options: Options) -> tuple[Proof, ...]:
        *others, token = self.proofs
        return (*others, HeaderToken(options.header or token.header))

    def read(self, request: Request, options: Options) -> Reading:
        del options
        payload, body = read_json(request)
        if not isinstance(payload, dict):
            raise Unreadable("the template of a Datadog webhook is a JSON object")
        return Reading(
            event=text_at(payload, "event_type") or "event",
            action=text_at(payload, "alert_transition"),
            payload=payload,
            body=body,
            delivery_id=_delivery(payload),
            fingerprint=sha256(body).hexdigest(),
        )


def _delivery(payload: JSON) -> str | None:
    """What identifies an alert's event, where the template says it."""
    cycle = [_text(payload.get(key)) for key in ("alert_cycle_key", "alert_transition", "last_updated")]
    return _text(payload.get("id")) or ("/".join(map(str, cycle)) if all(cycle) else None)


def _text(value: JSON) -> str | None:
    """A template's value: text, or a number that stands there without quotes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None
