"""Svix: Standard Webhooks under the names that it had before the standard.

Source of the rules: https://docs.svix.com/receiving/verifying-payloads/how-manual
"""

from __future__ import annotations

from typing import ClassVar

from bridge.sources.guide import Guide
from bridge.sources.signatures import Proof
from bridge.sources.standard_webhooks import StandardSignature, StandardWebhooks


class Svix(StandardWebhooks):
    """As Standard Webhooks, with ``svix-id``, ``svix-timestamp`` and ``svix-signature``."""

    name: ClassVar[str] = "svix"
    guide: ClassVar[Guide] = Guide(
        title="Senders that use Svix under its own name",
        setup="""
            In the sender's portal, open *Endpoints* → *Add Endpoint*. Enter the source's URL and select the
            events that your routes name. The endpoint's page shows its *Signing Secret*, which begins with
            `whsec_`.
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
    )
    proofs: ClassVar[tuple[Proof, ...]] = (StandardSignature("svix-signature"),)
    id_header: ClassVar[str] = "svix-id"
    private_headers: ClassVar[tuple[str, ...]] = ("webhook-signature",)
