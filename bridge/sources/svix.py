"""Svix: Standard Webhooks with its older header names.

Source of the rules: https://docs.svix.com/receiving/verifying-payloads/how-manual
"""

from __future__ import annotations

from bridge.sources.base.guide import Guide
from bridge.sources.standard_webhooks import StandardSignature, StandardWebhooks


class Svix(StandardWebhooks):
    """As Standard Webhooks, with ``svix-id``, ``svix-timestamp`` and ``svix-signature``."""

    name = "svix"
    guide = Guide(
        title="Senders that use Svix under its own name",
        setup="""
            In the sender's portal → *Endpoints* → *Add Endpoint*: the source's URL and the events that your
            routes name. The endpoint's page shows its *Signing Secret*, which begins with `whsec_`.
        """,
        example="""
sources:
  clerk:
    type: svix
    secret: ${{ env.CLERK_WEBHOOK_SECRET }}
routes:
  - source: clerk
    event: user.created
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.data.id }}
""",
        events="the body's `type`; no action. None is known beforehand: every sender has its own.",
        identity="`svix-id`, the same when it is sent again.",
        repeats="""
            after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h more, unless the sender says otherwise, each
            time signed anew. A time more than 300 s from now is refused.
        """,
        traps=("Where the headers are named `webhook-…` instead, use `type: standard-webhooks`.",),
    )
    proofs = (StandardSignature("svix-signature"),)
    id_header = "svix-id"
    credential_headers = ("webhook-signature",)
