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
        title="Svix (Clerk, Resend and others)",
        is_one_sender=False,
        setup="""
            In the sender's portal, open *Endpoints* → *Add Endpoint*. Enter the source's URL and select the
            events that your routes name. The endpoint's page shows its *Signing Secret*, which begins with
            `whsec_`.
        """,
        source="clerk",
        route="""
            event: user.created
            task_arguments:
              - ${{ payload.data.id }}
        """,
    )
    proofs = (StandardSignature("svix-signature"),)
    id_header = "svix-id"
    credential_headers = ("webhook-signature",)
