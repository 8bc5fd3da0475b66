"""Standard Webhooks: a signature format that many senders share.

Source of the rules: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import uuid4

from bridge.core.event import JSON, Request
from bridge.core.secrets import Secret
from bridge.sources.base.guide import Guide
from bridge.sources.base.proofs import (
    MAX_SIGNATURES,
    Credential,
    Proof,
    any_equal,
    header_bytes,
    with_headers,
)
from bridge.sources.base.signed_time import seconds_flaw
from bridge.sources.base.source_type import ParsedWebhook, SourceType, required_headers, text_at

#: The types with this signature, by its header.
_FAMILIES = {"svix-signature": "svix", "webhook-signature": "standard-webhooks"}
#: The version that signs with a shared secret.
_VERSION = b"v1,"


@dataclass(frozen=True)
class StandardSignature(Proof):
    """An HMAC-SHA256 over id, time and body, in base64; the key is ``secret:``, as ``whsec_<base64>``.

    The header contains tokens separated by blanks, any of which may match. Other versions are ignored.
    """

    header: str = "webhook-signature"
    multiple: bool = True
    #: The message for an invalid secret.
    error_text: str = "a secret of Standard Webhooks must be whsec_ and base64"

    key = "secret"
    needs_body = True

    @property
    def is_timed(self) -> bool:
        return True

    @property
    def id_header(self) -> str:
        return self.header.replace("signature", "id")

    @property
    def timestamp_header(self) -> str:
        return self.header.replace("signature", "timestamp")

    def secret_error(self, secret: str) -> str | None:
        return None if _key(secret) else self.error_text

    def missing(self, request: Request) -> tuple[str, ...]:
        for other, name in _FAMILIES.items():
            if other in request.headers and self.header not in request.headers:
                return (f"{self.header}, but it has {other}: write type: {name}",)
        names = (self.header, self.id_header, self.timestamp_header)
        return tuple(name for name in names if not request.headers.get(name))

    def matches(self, request: Request, secrets: Iterable[Credential]) -> bool:
        tokens = (header_bytes(request, self.header) or b"").split(b" ")
        known = [token for token in tokens if token.startswith(_VERSION)][:MAX_SIGNATURES]
        identity = header_bytes(request, self.id_header)
        time = header_bytes(request, self.timestamp_header)
        if not identity or not time:
            return False
        expected = [_sign(identity, time, request.body, secret) for secret in secrets]
        return any(any_equal(token, expected) for token in known)

    def time_flaw(self, request: Request) -> str | None:
        time = header_bytes(request, self.timestamp_header)
        return seconds_flaw(self.timestamp_header, time, request.received_at)

    def sign(self, request: Request, secret: Credential) -> Request:
        identity = request.headers.get(self.id_header) or f"msg_{uuid4().hex}"
        time = str(int(request.received_at))
        signature = _sign(identity.encode("latin-1", "replace"), time.encode(), request.body, secret)
        return with_headers(
            request,
            {self.id_header: identity, self.timestamp_header: time, self.header: signature.decode()},
        )


def _key(secret: str) -> bytes | None:
    """Return the bytes of a base64 secret, with or without padding; None if it is not base64."""
    encoded = secret.removeprefix("whsec_")
    try:
        return b64decode(encoded + "=" * (-len(encoded) % 4), validate=True) or None
    except (binascii.Error, ValueError):
        return None


def _sign(identity: bytes, time: bytes, body: bytes, secret: Credential) -> bytes:
    key = _key(secret.reveal()) if isinstance(secret, Secret) else None
    if key is None:
        return b""  # the table rejects such a secret, and no token equals this
    signer = hmac.new(key, digestmod="sha256")
    for part in (identity, b".", time, b".", body):
        signer.update(part)
    return _VERSION + b64encode(signer.digest())


class StandardWebhooks(SourceType):
    """Any sender that follows the specification. The event is the body's ``type``."""

    name = "standard-webhooks"
    guide = Guide(
        title="Standard Webhooks (OpenAI and others)",
        is_one_sender=False,
        setup="""
            At the sender, set the endpoint to the source's URL. The sender shows a signing secret that
            begins with `whsec_`.
        """,
        source="openai",
        route="""
            event: batch.completed
            task_arguments:
              - ${{ payload.data.id }}
        """,
    )
    sender_issued = ("secret",)
    proofs = (StandardSignature(),)
    #: Some senders also send the headers of Svix.
    credential_headers = ("svix-signature",)
    id_header = "webhook-id"

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        (delivery,) = required_headers(request, str(self.id_header))
        event = text_at(payload, "type")
        if event is None:
            raise self.unreadable("the field type")
        return ParsedWebhook(event, delivery_id=delivery)
