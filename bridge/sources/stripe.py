"""Stripe: webhook endpoints and event destinations.

Source of the rules: https://docs.stripe.com/webhooks (signatures, best practices) and Stripe's libraries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bridge.errors import Unreadable
from bridge.event import Request
from bridge.sources import Options, Reading, SourceType, read_json, text_at
from bridge.sources.guide import Guide
from bridge.sources.signatures import HmacSignature, Known, Proof, header_bytes, with_headers


@dataclass(frozen=True)
class StripeSignature(HmacSignature):
    """``t=<time>,v1=<hex>[,v1=<hex>…]`` in one header, over ``<time>.<body>``; the key is ``secret:``.

    The secret is text as a whole, its ``whsec_`` too. ``v0`` is of test events of old and is passed over.
    """

    header: str = "Stripe-Signature"
    prefix: str = "v1="
    signed: str = "{ts}.{body}"
    several: bool = True

    @property
    def is_timed(self) -> bool:
        return True

    def prove(self, request: Request, secret: Known) -> Request:
        time = str(int(request.received_at))
        signature = self.sign(request, time.encode(), secret).decode()
        return with_headers(request, {self.header: f"t={time},{signature}"})

    def found(self, request: Request) -> tuple[bytes | None, list[bytes]]:
        """The signed time, None where it is missing or stands twice, and the signatures."""
        value = header_bytes(request, self.header) or b""
        parts = [part.strip(b" ") for part in value.split(b",")]
        times = [part.removeprefix(b"t=") for part in parts if part.startswith(b"t=")]
        signatures = [part for part in parts if part.startswith(self.prefix.encode())]
        return times[0] if len(times) == 1 else None, signatures


class Stripe(SourceType):
    """The event is the body's ``type``, its id the body's ``id``; also of a thin event."""

    name: ClassVar[str] = "stripe"
    guide: ClassVar[Guide] = Guide(
        title="Stripe",
        setup="""
            Workbench → *Webhooks* → *Add destination*: choose the events that your routes name, *Webhook
            endpoint*, and the source's URL. *Signing secret* then shows a text that begins with `whsec_`.
        """,
        example="""
sources:
  stripe:
    secret: ${{ env.STRIPE_WEBHOOK_SECRET }}
routes:
  - source: stripe
    event: checkout.session.completed
    match:
      payload.livemode: true
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.data.object.id }}
""",
        events="the body's `type`, such as `payment_intent.succeeded`; no action.",
        identity="the body's `id` (`evt_…`), the same when it is sent again.",
        repeats="""
            until it hears 2xx, for up to three days with growing waits; in a sandbox three times over some
            hours. Each time is signed anew; one more than 300 s from now is refused.
        """,
        traps=(
            "Events come in no certain order, and one change may make two events with ids of their own.",
            "Every endpoint has a secret of its own, test and live too, and so has `stripe listen`.",
            "While a secret is rolled, the old one signs too for up to a day; the new one is enough.",
            "With Connect, `payload.account` says whose event it is.",
        ),
    )
    proofs: ClassVar[tuple[Proof, ...]] = (StripeSignature(),)

    def read(self, request: Request, options: Options) -> Reading:
        del options
        payload, body = read_json(request)
        event, delivery = text_at(payload, "type"), text_at(payload, "id")
        if event is None or delivery is None:
            raise Unreadable("a Stripe event has its name as type, and an id")
        return Reading(event=event, action=None, payload=payload, body=body, delivery_id=delivery)
