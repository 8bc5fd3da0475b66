"""Aws: a stand-in for what signs SNS's messages, with a key and a certificate of its own.

It signs with the library's own calls, as AWS's documentation says, and not with the code under test.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from bridge.core.errors import NotSent
from bridge.core.event import Request

CERTIFICATE_URL = (
    "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-7506a1e35b36ef5a444dd1a8e7cc3ed8.pem"
)

_SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type",
    ),
}  # fmt: skip
_SIGNED["UnsubscribeConfirmation"] = _SIGNED["SubscriptionConfirmation"]


def a_topic(name: str) -> str:
    """A topic's ARN."""
    return f"arn:aws:sns:us-east-1:123456789012:{name}"


class Aws:
    """Signs, and hands out its certificate to whoever fetches."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.certificate = self.certify(self._key.public_key())
        #: The URLs that were fetched.
        self.fetched: list[str] = []

    def certify(
        self,
        key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
        start: datetime = datetime(2012, 1, 1, tzinfo=UTC),
        end: datetime = datetime(2036, 1, 1, tzinfo=UTC),
    ) -> bytes:
        """A certificate for `key`, as PEM."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .sign(self._key, SHA256())
            .public_bytes(Encoding.PEM)
        )

    def of_another_time(self, start: datetime, end: datetime) -> bytes:
        """The same key's certificate, valid at another time."""
        return self.certify(self._key.public_key(), start, end)

    def fetch(self, url: str) -> bytes:
        """The certificate, or what else AWS says at this URL. Raises NotSent."""
        self.fetched.append(url)
        if url.endswith(".pem"):
            return self.certificate
        if "Action=ConfirmSubscription" in url:
            return b"<ConfirmSubscriptionResponse/>"
        raise NotSent("no connection")

    def sign(self, message: dict[str, Any], version: str = "2", fields: Iterable[str] = ()) -> dict[str, Any]:
        """The message with its signature. `fields` are signed; without them, those that its type says."""
        names = tuple(fields) or _SIGNED.get(str(message.get("Type")), ())
        content = "".join(f"{name}\n{message[name]}\n" for name in names if name in message)
        algorithm = SHA1() if version == "1" else SHA256()
        signature = self._key.sign(content.encode("utf-8", "replace"), PKCS1v15(), algorithm)
        return {
            "SigningCertURL": CERTIFICATE_URL,
            **message,
            "SignatureVersion": version,
            "Signature": b64encode(signature).decode(),
        }

    def prove(self, request: Request, topic: str) -> Request:
        """The request as SNS sends it for the topic of this name; what is no message is left as it is."""
        try:
            message = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            return request
        if not isinstance(message, dict) or message.get("TopicArn") != a_topic(topic):
            return request
        return request.with_body(orjson.dumps(self.sign(message)))
