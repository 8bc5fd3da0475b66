"""PagerDuty: webhook subscriptions, version 3.

Source of the rules: https://developer.pagerduty.com/docs/webhooks-overview (events, signatures, behaviour).
"""

from __future__ import annotations

from bridge.core.event import JSON, Request
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import fields, names
from bridge.sources.base.proofs import HmacSignature
from bridge.sources.base.source_type import EVERY_EVENT, ParsedWebhook, SourceType, text_at


class PagerDuty(SourceType):
    """An HMAC over the raw body for each secret, in ``X-PagerDuty-Signature: v1=<hex>[,v1=<hex>…]``.

    Neither time nor headers are signed, so the signed body's ``event.id`` identifies the webhook. A replay
    could change ``X-Webhook-Id``.
    """

    name = "pagerduty"
    guide = Guide(
        title="PagerDuty",
        setup="""
            Open *Integrations* → *Generic Webhooks (v3)* → *New Webhook*. Set *Webhook URL* to the source's
            URL. Select the scope and the events that your routes name. PagerDuty shows the secret once,
            after you save.
        """,
        route="""
            event: incident.triggered
            match:
              payload.event.data.urgency: high
            task_arguments:
              - ${{ payload.event.data.id }}
              - ${{ payload.event.data.title }}
        """,
    )
    sender_issued = ("secret",)
    proofs = (HmacSignature("X-PagerDuty-Signature", prefix="v1=", multiple=True),)
    setup_events = ("pagey.ping",)
    events = dict.fromkeys(
        names(
            """
            incident.{acknowledged annotated} incident.conference_bridge.updated
            incident.custom_field_values.updated incident.{delegated escalated} incident.incident_type.changed
            incident.{priority_updated reassigned reopened resolved} incident.responder.{added replied}
            incident.{service_updated status_update_published triggered unacknowledged}
            incident.workflow.{completed started} pagey.ping service.{created deleted updated}
            """
        ),
        ("event",),
    )
    fields = {EVERY_EVENT: {"event": fields("id event_type resource_type occurred_at agent client data")}}

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        del request
        event, delivery = text_at(payload, "event", "event_type"), text_at(payload, "event", "id")
        if event is None or delivery is None:
            raise self.unreadable("the fields event.event_type and event.id of webhooks v3")
        return ParsedWebhook(event, delivery_id=delivery)
