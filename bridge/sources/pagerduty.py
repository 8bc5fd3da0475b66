"""PagerDuty: webhook subscriptions, version 3.

Source of the rules: https://developer.pagerduty.com/docs/webhooks-overview (events, signatures, behaviour).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from bridge.errors import Unreadable
from bridge.event import Request
from bridge.sources import EVERY_EVENT, Options, Reading, SourceType, read_json, text_at
from bridge.sources.guide import Guide
from bridge.sources.payloads import Inside, fields
from bridge.sources.signatures import HmacSignature, Proof


class PagerDuty(SourceType):
    """An HMAC over the raw body, once a secret, in ``X-PagerDuty-Signature: v1=<hex>[,v1=<hex>…]``.

    No time and no header is signed: what identifies it is the signed body's ``event.id``, not
    ``X-Webhook-Id``, with which a copy could be made to look new.
    """

    name: ClassVar[str] = "pagerduty"
    guide: ClassVar[Guide] = Guide(
        title="PagerDuty",
        setup="""
            Open *Integrations* → *Generic Webhooks (v3)* → *New Webhook*. Set *Webhook URL* to the source's
            URL. Select the scope and the events that your routes name. PagerDuty shows the secret once,
            after you save.
        """,
        example="""
sources:
  pagerduty:
    secret: ${{ env.PAGERDUTY_WEBHOOK_SECRET }}
routes:
  - source: pagerduty
    event: incident.triggered
    match:
      payload.event.data.urgency: high
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.event.data.id }}
      - ${{ payload.event.data.title }}
""",
    )
    issued: ClassVar[tuple[str, ...]] = ("secret",)
    proofs: ClassVar[tuple[Proof, ...]] = (
        HmacSignature("X-PagerDuty-Signature", prefix="v1=", several=True),
    )
    handshakes: ClassVar[tuple[str, ...]] = ("pagey.ping",)
    events: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        (
            "incident.acknowledged",
            "incident.annotated",
            "incident.conference_bridge.updated",
            "incident.custom_field_values.updated",
            "incident.delegated",
            "incident.escalated",
            "incident.incident_type.changed",
            "incident.priority_updated",
            "incident.reassigned",
            "incident.reopened",
            "incident.resolved",
            "incident.responder.added",
            "incident.responder.replied",
            "incident.service_updated",
            "incident.status_update_published",
            "incident.triggered",
            "incident.unacknowledged",
            "incident.workflow.completed",
            "incident.workflow.started",
            "pagey.ping",
            "service.created",
            "service.deleted",
            "service.updated",
        ),
        ("event",),
    )
    fields: ClassVar[Mapping[str, Inside]] = {
        EVERY_EVENT: {"event": fields("id event_type resource_type occurred_at agent client data")}
    }

    def read(self, request: Request, options: Options) -> Reading:
        del options
        payload, body = read_json(request)
        event, delivery = text_at(payload, "event", "event_type"), text_at(payload, "event", "id")
        if event is None or delivery is None:
            raise Unreadable("a PagerDuty webhook of version 3 has event.event_type and event.id")
        return Reading(
            event=event,
            action=None,
            payload=payload,
            body=body,
            delivery_id=delivery,
            handshake=event in self.handshakes,
        )
