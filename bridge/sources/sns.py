"""Amazon SNS: the HTTPS subscription of a topic.

Source of the rules: https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html and
https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
"""

from __future__ import annotations

import re
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.x509 import Certificate, load_pem_x509_certificate

from bridge.errors import NotConfirmed, SendError, SettingsError, Unreadable
from bridge.event import JSON, Request
from bridge.payload import parse_json
from bridge.sources import Fetch, Options, Reading, SourceType, fetch_nothing, text_at
from bridge.sources.bodies import JSON_TYPE, Body, JsonBody
from bridge.sources.guide import Guide
from bridge.sources.payloads import Inside, fields
from bridge.sources.signatures import TOLERANCE, Known, Proof

T = TypeVar("T")

_TYPE_HEADER = "x-amz-sns-message-type"

#: What is signed of each type, in this order; a Subject only where there is one.
_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED = {
    "Notification": _NOTIFICATION,
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}

#: By ``SignatureVersion``.
_ALGORITHMS = {"1": SHA1, "2": SHA256}

#: S3 lets anybody be sns.s3-<region>.amazonaws.com, with a bucket of that name.
_HOST = r"sns\.(?![sS]3)[a-zA-Z0-9-]{3,63}\.amazonaws\.com(?:\.cn)?"
#: With no query and no further folder, so that one certificate has one URL.
_CERTIFICATE_URL = re.compile(rf"https://({_HOST})(?::443)?(/[A-Za-z0-9_-]+\.pem)")
_SUBSCRIBE_URL = re.compile(rf"https://{_HOST}(?::443)?/\?[A-Za-z0-9_%&=.:~+-]+")

_ARN = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]+")

_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")

#: How old a message may be, in seconds: SNS tries for at most an hour, and signs each message once.
OLDEST = 3600.0 + TOLERANCE

#: The largest body, in bytes: SNS's messages have 256 KiB, before JSON escapes them. It is parsed before
#: anything is proven.
MAX_MESSAGE = 2 * 1024**2
#: How many certificates are kept; AWS has one or two for each of its regions. So many others that were
#: fetched are remembered beside them.
MAX_CERTIFICATES = 50
#: How long a failed fetch is remembered, seconds.
FAILED_FOR = 60.0
#: How many failed fetches are remembered. Beyond it they are made again: forged messages with ever new
#: addresses must not keep a true one from its certificate.
MAX_FAILED = 100
#: How many requests may wait for a certificate at once.
MAX_WAITING = 4
#: How long a request waits for another's fetch, seconds.
PATIENCE = 5.0


class Certificates:
    """Certificates by URL, fetched one at a time. Safe to use from many threads.

    Those that proved a message are kept apart from the rest, which forged messages can make us fetch.
    """

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(MAX_WAITING)
        #: For the two below.
        self._changing = threading.Lock()
        #: Those that proved a message, the one that did so last at the end.
        self._kept: dict[str, Certificate] = {}
        #: Those that proved none so far.
        self._unproven: dict[str, Certificate] = {}
        #: When.
        self._failed: dict[str, float] = {}

    def __call__(self, url: str) -> Certificate:
        """The certificate at this URL. Raises NotConfirmed."""
        found = self._found(url)
        if found is not None:
            return found
        # Whoever knows a topic's name can make us look for certificates: few may wait for them at once.
        if not self._waiting.acquire(blocking=False):
            raise NotConfirmed(f"no certificate of AWS: {MAX_WAITING} requests wait for one already")
        try:
            if not self._lock.acquire(timeout=PATIENCE):
                raise NotConfirmed(f"no certificate of AWS: another is waited for longer than {PATIENCE:g} s")
            try:
                return self._found(url) or self._new(url)
            finally:
                self._lock.release()
        finally:
            self._waiting.release()

    def keep(self, url: str, certificate: Certificate) -> None:
        """To be called of one that proved a message."""
        with self._changing:
            self._unproven.pop(url, None)
            _put(self._kept, url, certificate, MAX_CERTIFICATES)

    def _new(self, url: str) -> Certificate:
        now = self._clock()
        self._failed = {each: at for each, at in self._failed.items() if now - at < FAILED_FOR}
        if url in self._failed:
            raise NotConfirmed(f"no certificate of AWS: a fetch failed less than {FAILED_FOR:g} s ago")
        try:
            certificate = load_pem_x509_certificate(self._fetch(url))
        except (SendError, ValueError, UnsupportedAlgorithm) as error:
            _put(self._failed, url, now, MAX_FAILED)
            raise NotConfirmed(f"no certificate of AWS at {url}: {error}") from error
        with self._changing:
            _put(self._unproven, url, certificate, MAX_CERTIFICATES)
        return certificate

    def _found(self, url: str) -> Certificate | None:
        with self._changing:
            return self._kept.get(url) or self._unproven.get(url)


def _put(entries: dict[str, T], url: str, entry: T, most: int) -> None:
    """Set it at the end; where there are more than `most` then, the first goes."""
    entries.pop(url, None)
    entries[url] = entry
    if len(entries) > most:
        del entries[next(iter(entries))]


@dataclass(frozen=True)
class SnsSignature(Proof):
    """An RSA signature that stands in the body, over some of its texts; the key is ``topic_arns:``.

    Whoever has an account at AWS can have SNS sign: only that the topic is allowed makes it a proof. The
    time of its making is signed too, not that of the attempt: it may be older than elsewhere (OLDEST).
    """

    #: The certificate at a URL; raises NotConfirmed.
    certificate: Callable[[str], Certificate]
    #: Called with the URL and the certificate that proved a message.
    keep: Callable[[str, Certificate], None]
    header: str = "Signature or TopicArn in its body"

    key: ClassVar[str] = "topic_arns"
    needs_body: ClassVar[bool] = True

    @property
    def headers(self) -> tuple[str, ...]:
        return ()

    def is_there(self, request: Request) -> bool:
        return len(request.body) <= MAX_MESSAGE and all(
            name in request.body for name in (b'"Signature"', b'"TopicArn"')
        )

    def flaw(self, secret: str) -> str | None:
        if _ARN.fullmatch(secret):
            return None
        return "a topic's ARN is such as arn:aws:sns:us-east-1:123456789012:alarms, found another"

    def holds(self, request: Request, secrets: Iterable[Known]) -> bool:
        topics = [str(topic) for topic in secrets]
        # JSON escapes no character of an ARN. A stranger who knows no topic causes no parsing.
        if not self.is_there(request) or not any(f'"{topic}"'.encode() in request.body for topic in topics):
            return False
        message = _message(request)
        if text_at(message, "TopicArn") not in topics:
            return False
        algorithm = _ALGORITHMS.get(text_at(message, "SignatureVersion") or "")
        signature = _decoded(text_at(message, "Signature") or "")
        url = _CERTIFICATE_URL.fullmatch(text_at(message, "SigningCertURL") or "")
        if algorithm is None or not signature or url is None:
            return False
        if not _is_timely(text_at(message, "Timestamp") or "", request.received_at):
            return False
        if url[1].lower().split(".")[1] != message["TopicArn"].split(":")[3]:
            return False  # a topic's region signs for it
        content = _content(message)
        if content is None:
            return False
        address = f"https://{url[1].lower()}{url[2]}"
        certificate = self.certificate(address)
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        key = certificate.public_key()
        if not isinstance(key, RSAPublicKey) or not _is_between(start, request.received_at, end):
            return False
        try:
            key.verify(signature, content, PKCS1v15(), algorithm())
        except (InvalidSignature, UnsupportedAlgorithm):
            return False
        self.keep(address, certificate)
        return True

    def prove(self, request: Request, secret: Known) -> Request:
        del request, secret
        raise SettingsError(
            "AWS alone can sign as SNS; publish to the topic, or see with explain what a message would do"
        )


def _is_between(start: datetime, seconds: float, end: datetime) -> bool:
    return start.timestamp() <= seconds <= end.timestamp()


def _is_timely(timestamp: str, now: float) -> bool:
    """Whether a time such as ``2012-04-26T20:45:04.751Z`` is that of a message that may still come."""
    if not _TIMESTAMP.fullmatch(timestamp):
        return False
    try:
        age = now - datetime.fromisoformat(timestamp).timestamp()
    except ValueError:
        return False  # such as the 13th month
    return -TOLERANCE <= age <= OLDEST


def _message(request: Request) -> JSON:
    """The body's JSON value; None where the body is not valid JSON."""
    try:
        return _parsed(request)
    except Unreadable:
        return None


def _parsed(request: Request) -> JSON:
    """The body's JSON value, parsed once for a request. Raises Unreadable."""
    if request.body not in request.parsed:
        request.parsed[request.body] = parse_json(request.body)
    return request.parsed[request.body]


def _content(message: JSON) -> bytes | None:
    """What is signed of a message; None where it is none of SNS's."""
    content = ""
    for name in _SIGNED.get(text_at(message, "Type") or "", ()):
        value = message.get(name)
        if value is None and name == "Subject":
            continue
        # A line break elsewhere than in Message would let one signed text be read as another message.
        if not isinstance(value, str) or ("\n" in value and name != "Message"):
            return None
        content += f"{name}\n{value}\n"
    return content.encode() or None


def _decoded(signature: str) -> bytes:
    """The bytes of a signature; none where it is no base64."""
    try:
        return b64decode(signature, validate=True)
    except ValueError:
        return b""


def _no_certificate(url: str) -> Certificate:
    raise NotConfirmed(f"nothing is fetched here, such as {url}")


def _keep_none(url: str, certificate: Certificate) -> None:
    del url, certificate


class Sns(SourceType):
    """The event is the message's type; a topic's subscription is confirmed by itself."""

    name: ClassVar[str] = "sns"
    guide: ClassVar[Guide] = Guide(
        title="Amazon SNS",
        setup="""
            Write the topic's ARN into the table and start the bridge. Then open SNS → Topics → the topic →
            *Create subscription*. Set the protocol to HTTPS, *Endpoint* to the source's URL and *Enable raw
            message delivery* to off. The bridge confirms subscriptions of topics that the table names, and
            refuses others.
        """,
        example="""
sources:
  alarms:
    type: sns
    topic_arns:
      - arn:aws:sns:us-east-1:123456789012:alarms
routes:
  - source: alarms
    event: Notification
    match:
      payload.Subject: "ALARM: *"
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    task_arguments:
      - ${{ payload.Subject | default('') }}
      - ${{ payload.Message }}
""",
    )
    issued: ClassVar[tuple[str, ...]] = ("topic_arns",)
    proofs: ClassVar[tuple[Proof, ...]] = (SnsSignature(_no_certificate, _keep_none),)
    event_header: ClassVar[str | None] = _TYPE_HEADER
    bodies: ClassVar[tuple[Body, ...]] = (JsonBody(("text/plain", JSON_TYPE)),)
    handshakes: ClassVar[tuple[str, ...]] = ("SubscriptionConfirmation", "UnsubscribeConfirmation")
    private_keys: ClassVar[tuple[str, ...]] = ("Token", "SubscribeURL", "UnsubscribeURL")
    events: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        _SIGNED, ("Message", "MessageId", "Timestamp", "TopicArn", "Type")
    )
    fields: ClassVar[Mapping[str, Inside]] = {
        "Notification": fields(
            "Type MessageId TopicArn Subject Message Timestamp SignatureVersion Signature SigningCertURL "
            "UnsubscribeURL MessageAttributes"
        )
    }

    def __init__(self, fetch: Fetch = fetch_nothing) -> None:
        super().__init__(fetch)
        certificates = Certificates(fetch)
        self._proofs = (SnsSignature(certificates, certificates.keep),)

    def proofs_with(self, options: Options) -> tuple[Proof, ...]:
        del options
        return self._proofs

    def headers_for(self, event: str | None) -> dict[str, str]:
        return {"Content-Type": "text/plain; charset=UTF-8", _TYPE_HEADER: event or "Notification"}

    def read(self, request: Request, options: Options) -> Reading:
        del options
        payload, body = _parsed(request), request.body
        event, delivery = text_at(payload, "Type"), text_at(payload, "MessageId")
        if event not in _SIGNED or delivery is None:
            raise Unreadable(f"an SNS message has MessageId, and as Type one of {', '.join(_SIGNED)}")
        if request.headers.get(_TYPE_HEADER) != event:
            raise Unreadable(f"the Type is {event}, {_TYPE_HEADER} says another")
        confirm = None
        if event == "SubscriptionConfirmation":
            confirm = text_at(payload, "SubscribeURL")
            if confirm is None or not _SUBSCRIBE_URL.fullmatch(confirm):
                raise Unreadable("the SubscribeURL is none of SNS's own")
        return Reading(
            event=event,
            action=None,
            payload=payload,
            body=body,
            delivery_id=delivery,
            handshake=event in self.handshakes,
            confirm=confirm,
        )
