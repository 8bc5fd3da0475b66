"""CircleCI: outbound webhooks of a project.

Source of the rules: https://circleci.com/docs/guides/integration/outbound-webhooks/ and its reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import ClassVar

from bridge.errors import Unreadable
from bridge.event import Request
from bridge.sources import Options, Reading, SourceType, read_json, text_at
from bridge.sources.guide import Guide
from bridge.sources.signatures import HmacSignature, Proof


class CircleCI(SourceType):
    """An HMAC over the raw body in ``circleci-signature: v1=<hex>``; other versions are passed over.

    ``circleci-event-type`` is not signed: the event is the body's ``type``.
    """

    name: ClassVar[str] = "circleci"
    guide: ClassVar[Guide] = Guide(
        title="CircleCI",
        setup="""
            Open Project Settings → *Webhooks* → *Add Webhook*. Set *Receiver URL* to the source's URL and
            *Secret token* to the secret. Select the events that your routes name.
        """,
        example="""
sources:
  circleci:
    secret: ${{ env.CIRCLECI_WEBHOOK_SECRET }}
routes:
  - source: circleci
    event: workflow-completed
    match:
      payload.workflow.status: success
      payload.pipeline.vcs.branch: main
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.project.slug }}
      - ${{ payload.pipeline.vcs.revision | default('') }}
""",
    )
    proofs: ClassVar[tuple[Proof, ...]] = (HmacSignature("circleci-signature", prefix="v1=", several=True),)
    event_header: ClassVar[str | None] = "circleci-event-type"
    events: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "job-completed": ("id", "job"),
        "ping": (),
        "workflow-completed": ("id", "workflow"),
    }
    handshakes: ClassVar[tuple[str, ...]] = ("ping",)
    dedupe: ClassVar[float | None] = 30.0

    def headers_for(self, event: str | None) -> dict[str, str]:
        named = {} if event is None else {"circleci-event-type": event}
        return {**super().headers_for(event), **named}

    def read(self, request: Request, options: Options) -> Reading:
        del options
        payload, body = read_json(request)
        event, delivery = text_at(payload, "type"), text_at(payload, "id")
        is_ping = event == "ping"
        if event is None or (delivery is None and not is_ping):
            raise Unreadable("a CircleCI webhook has its event's name as type, and an id")
        return Reading(
            event=event,
            action=None,
            payload=payload,
            body=body,
            delivery_id=delivery,
            fingerprint=sha256(body).hexdigest(),
            handshake=is_ping,
        )
