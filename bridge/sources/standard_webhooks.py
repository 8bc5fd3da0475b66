"""Standard Webhooks: one way to sign, shared by many senders.

Source of the rules: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar
from uuid import uuid4

from bridge.errors import Unreadable
from bridge.event import Request
from bridge.settings import Secret
from bridge.sources import Options, Reading, SourceType, read_json, text_at
from bridge.sources.guide import Guide
from bridge.sources.signatures import (
    MAX_SIGNATURES,
    Known,
    Proof,
    any_equal,
    header_bytes,
    is_timely,
    with_headers,
)

#: Of the version that signs with a shared secret.
_VERSION = b"v1,"


@dataclass(frozen=True)
class StandardSignature(Proof):
    """An HMAC-SHA256 over id, time and body, in base64; the key is ``secret:``, as ``whsec_<base64>``.

    The header holds tokens with blanks between, any of which may match; one that is no ``v1,<base64>`` is
    passed over, so that a bad one in front of a good one does not matter.
    """

    header: str = "webhook-signature"
    several: bool = True
    #: What is said of a secret that is none.
    flawed: str = "a secret of Standard Webhooks is whsec_ and base64, found another"

    key: ClassVar[str] = "secret"
    needs_body: ClassVar[bool] = True

    @property
    def is_timed(self) -> bool:
        return True

    @property
    def id_header(self) -> str:
        return self.header.replace("signature", "id")

    @property
    def timestamp_header(self) -> str:
        return self.header.replace("signature", "timestamp")

    def flaw(self, secret: str) -> str | None:
        return None if _key(secret) else self.flawed

    def holds(self, request: Request, secrets: Iterable[Known]) -> bool:
        tokens = (header_bytes(request, self.header) or b"").split(b" ")[:MAX_SIGNATURES]
        identity = header_bytes(request, self.id_header)
        time = header_bytes(request, self.timestamp_header)
        if not identity or not time or not is_timely(time, request.received_at):
            return False
        expected = [_sign(identity, time, request.body, secret) for secret in secrets]
        return any(any_equal(token, expected) for token in tokens if token.startswith(_VERSION))

    def prove(self, request: Request, secret: Known) -> Request:
        identity = request.headers.get(self.id_header) or f"msg_{uuid4().hex}"
        time = str(int(request.received_at))
        signature = _sign(identity.encode("latin-1", "replace"), time.encode(), request.body, secret)
        return with_headers(
            request,
            {self.id_header: identity, self.timestamp_header: time, self.header: signature.decode()},
        )


def _key(secret: str) -> bytes | None:
    """The bytes that a secret stands for, with or without padding; None where it is no base64."""
    encoded = secret.removeprefix("whsec_")
    try:
        return b64decode(encoded + "=" * (-len(encoded) % 4), validate=True) or None
    except (binascii.Error, ValueError):
        return None


def _sign(identity: bytes, time: bytes, body: bytes, secret: Known) -> bytes:
    key = _key(secret.reveal()) if isinstance(secret, Secret) else None
    if key is None:
        return b""  # the table refuses such a secret; nothing that is sent equals this
    signer = hmac.new(key, digestmod="sha256")
    for part in (identity, b".", time, b".", body):
        signer.update(part)
    return _VERSION + b64encode(signer.digest())


class StandardWebhooks(SourceType):
    """Any sender that keeps to the specification. The event is the body's ``type``."""

    name: ClassVar[str] = "standard-webhooks"
    guide: ClassVar[Guide] = Guide(
        title="Standard Webhooks (OpenAI, Clerk, Resend and others)",
        setup="""
            At the sender, set the endpoint to the source's URL. The sender shows a signing secret that
            begins with `whsec_`.
        """,
        example="""
sources:
  openai:
    type: standard-webhooks
    secret: ${{ env.OPENAI_WEBHOOK_SECRET }}
routes:
  - source: openai
    event: batch.completed
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.data.id }}
""",
    )
    issued: ClassVar[tuple[str, ...]] = ("secret",)
    proofs: ClassVar[tuple[Proof, ...]] = (StandardSignature(),)
    #: Some send both brands' headers.
    private_headers: ClassVar[tuple[str, ...]] = ("svix-signature",)
    #: In which the delivery's id stands.
    id_header: ClassVar[str] = "webhook-id"

    def headers_for(self, event: str | None) -> dict[str, str]:
        return {**super().headers_for(event), self.id_header: f"msg_{uuid4().hex}"}

    def read(self, request: Request, options: Options) -> Reading:
        del options
        payload, body = read_json(request)
        event = text_at(payload, "type")
        delivery = request.headers.get(self.id_header)
        if event is None or not delivery:
            raise Unreadable(f"a Standard Webhook has its event's name as type, and {self.id_header}")
        return Reading(event=event, action=None, payload=payload, body=body, delivery_id=delivery)
