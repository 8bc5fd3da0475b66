"""CircleCI: outbound webhooks of a project.

Source of the rules: https://circleci.com/docs/guides/integration/outbound-webhooks/ and its reference.
"""

from __future__ import annotations

from hashlib import sha256

from bridge.core.event import JSON, Request
from bridge.sources.base.bodies import JSON_TYPE
from bridge.sources.base.guide import Guide
from bridge.sources.base.proofs import HmacSignature
from bridge.sources.base.source_type import ParsedWebhook, SourceType, text_at


class CircleCI(SourceType):
    """An HMAC over the raw body in ``circleci-signature: v1=<hex>``; other versions are ignored.

    ``circleci-event-type`` is not signed, so the event is the body's ``type``.
    """

    name = "circleci"
    guide = Guide(
        title="CircleCI",
        setup="""
            Open Project Settings → *Webhooks* → *Add Webhook*. Set *Receiver URL* to the source's URL and
            *Secret token* to the secret. Select the events that your routes name.
        """,
        route="""
            event: workflow-completed
            match:
              payload.workflow.status: success
              payload.pipeline.vcs.branch: main
            task_arguments:
              - ${{ payload.project.slug }}
              - ${{ payload.pipeline.vcs.revision | default('') }}
        """,
    )
    proofs = (HmacSignature("circleci-signature", prefix="v1=", multiple=True),)
    event_header = "circleci-event-type"
    events = {
        "job-completed": ("id", "job"),
        "ping": (),
        "workflow-completed": ("id", "workflow"),
    }
    setup_events = ("ping",)
    dedupe = 30.0

    def headers_for(self, event: str | None) -> dict[str, str]:
        named = {} if event is None else {"circleci-event-type": event}
        return {"Content-Type": JSON_TYPE, **named}

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        event, delivery = text_at(payload, "type"), text_at(payload, "id")
        if event is None or (delivery is None and event != "ping"):
            raise self.unreadable("the fields type and id")
        return ParsedWebhook(event, delivery_id=delivery, fingerprint=sha256(request.body).hexdigest())
