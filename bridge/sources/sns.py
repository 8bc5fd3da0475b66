"""Amazon SNS: the HTTPS subscription of a topic.

Source of the rules: https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html and
https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
"""

from __future__ import annotations

import re
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.x509 import Certificate, load_pem_x509_certificate

from bridge.core.errors import FetchFailed, SendError, SettingsError, Unreadable
from bridge.core.event import JSON, Request
from bridge.core.payload import parse_json
from bridge.sources.base.bodies import JSON_TYPE, JsonBody
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import fields
from bridge.sources.base.proofs import Credential, Proof
from bridge.sources.base.signed_time import TIME_TOLERANCE, clock_flaw
from bridge.sources.base.source_type import Fetch, Options, ParsedWebhook, SourceType, fetch_nothing, text_at

T = TypeVar("T")

_TYPE_HEADER = "x-amz-sns-message-type"

#: The signed fields of each type, in order. Subject is optional.
_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
_SIGNED = {
    "Notification": _NOTIFICATION,
    "SubscriptionConfirmation": _CONFIRMATION,
    "UnsubscribeConfirmation": _CONFIRMATION,
}

#: By ``SignatureVersion``.
_ALGORITHMS = {"1": SHA1, "2": SHA256}

#: Anyone can own sns.s3-<region>.amazonaws.com: it is a bucket of that name.
_HOST = r"sns\.(?![sS]3)[a-zA-Z0-9-]{3,63}\.amazonaws\.com(?:\.cn)?"
#: No query and no folder, so that a certificate has only one URL.
_CERTIFICATE_URL = re.compile(rf"https://({_HOST})(?::443)?(/[A-Za-z0-9_-]+\.pem)")
_SUBSCRIBE_URL = re.compile(rf"https://{_HOST}(?::443)?/\?[A-Za-z0-9_%&=.:~+-]+")

_ARN = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_.-]+")

_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")

#: Seconds that a message may be old: SNS retries for at most an hour and signs each message once.
MESSAGE_AGE_LIMIT = 3600.0 + TIME_TOLERANCE

#: The largest body, in bytes. It is parsed before it is verified. SNS's messages have 256 KiB before JSON
#: escapes them.
MESSAGE_SIZE_LIMIT = 2 * 1024**2
#: The most proven certificates in memory, and the most others. AWS has one or two for each region.
CERTIFICATES_LIMIT = 50
#: Seconds until a failed fetch is repeated.
FETCH_RETRY_INTERVAL = 60.0
#: The most failed fetches in memory. Forged messages with new URLs then push older ones out, and cannot block
#: the certificate of a true message.
FAILED_FETCHES_LIMIT = 100
#: The most requests that wait for a certificate at once.
WAITING_REQUESTS_LIMIT = 4
#: Seconds that a request waits for another's fetch.
FETCH_WAIT_TIMEOUT = 5.0


class Certificates:
    """Certificates by URL, fetched one at a time. Thread-safe.

    Certificates that verified a message are separate from the rest, which forged messages can add.
    """

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting = threading.BoundedSemaphore(WAITING_REQUESTS_LIMIT)
        #: Guards the two dictionaries below.
        self._changing = threading.Lock()
        #: Certificates that verified a message, the most recent last.
        self._proven: dict[str, Certificate] = {}
        #: Certificates that verified no message yet.
        self._unproven: dict[str, Certificate] = {}
        #: Times of failed fetches by URL.
        self._failed: dict[str, float] = {}

    def __call__(self, url: str) -> Certificate:
        """Return the certificate at this URL. Raises FetchFailed."""
        found = self._found(url)
        if found is not None:
            return found
        # Anyone who knows a topic can cause fetches, so only a few requests may wait at once.
        if not self._waiting.acquire(blocking=False):
            raise FetchFailed(
                f"no certificate of AWS: {WAITING_REQUESTS_LIMIT} requests already wait for a certificate"
            )
        try:
            if not self._lock.acquire(timeout=FETCH_WAIT_TIMEOUT):
                raise FetchFailed(
                    f"no certificate of AWS: another download took longer than {FETCH_WAIT_TIMEOUT:g} s"
                )
            try:
                return self._found(url) or self._new(url)
            finally:
                self._lock.release()
        finally:
            self._waiting.release()

    def mark_proven(self, url: str, certificate: Certificate) -> None:
        """Record that this certificate verified a message."""
        with self._changing:
            self._unproven.pop(url, None)
            _put(self._proven, url, certificate, CERTIFICATES_LIMIT)

    def _new(self, url: str) -> Certificate:
        now = self._clock()
        self._failed = {each: at for each, at in self._failed.items() if now - at < FETCH_RETRY_INTERVAL}
        if url in self._failed:
            raise FetchFailed(
                f"no certificate of AWS: a fetch failed less than {FETCH_RETRY_INTERVAL:g} s ago"
            )
        try:
            certificate = load_pem_x509_certificate(self._fetch(url))
        except (SendError, ValueError, UnsupportedAlgorithm) as error:
            _put(self._failed, url, now, FAILED_FETCHES_LIMIT)
            raise FetchFailed(f"no certificate of AWS at {url}: {error}") from error
        with self._changing:
            _put(self._unproven, url, certificate, CERTIFICATES_LIMIT)
        return certificate

    def _found(self, url: str) -> Certificate | None:
        with self._changing:
            return self._proven.get(url) or self._unproven.get(url)


def _put(entries: dict[str, T], url: str, entry: T, most: int) -> None:
    """Set the last entry, and remove the first if there are more than `most`."""
    entries.pop(url, None)
    entries[url] = entry
    if len(entries) > most:
        del entries[next(iter(entries))]


@dataclass(frozen=True)
class SnsSignature(Proof):
    """An RSA signature in the body, over some of its fields; the key is ``topic_arns:``.

    Any AWS account can make SNS sign, so the topic must be allowed. The signed time is that of the message,
    not of the attempt, so it may be older than elsewhere (MESSAGE_AGE_LIMIT).
    """

    #: Return the certificate at a URL. Raises FetchFailed.
    certificate: Callable[[str], Certificate]
    #: Called with the URL and the certificate that verified a message.
    mark_proven: Callable[[str, Certificate], None]
    header: str = "Signature or TopicArn in its body"

    key = "topic_arns"
    needs_body = True

    @property
    def headers(self) -> tuple[str, ...]:
        return ()

    def is_present(self, request: Request) -> bool:
        return len(request.body) <= MESSAGE_SIZE_LIMIT and all(
            name in request.body for name in (b'"Signature"', b'"TopicArn"')
        )

    def secret_error(self, secret: str) -> str | None:
        if _ARN.fullmatch(secret):
            return None
        return "a topic must be an ARN such as arn:aws:sns:us-east-1:123456789012:alarms"

    def matches(self, request: Request, secrets: Iterable[Credential]) -> bool:
        topics = [str(topic) for topic in secrets]
        # JSON escapes no character of an ARN. Without an allowed topic, the body is not parsed.
        if not self.is_present(request) or not any(f'"{topic}"'.encode() in request.body for topic in topics):
            return False
        message = _message(request)
        if text_at(message, "TopicArn") not in topics:
            return False
        algorithm = _ALGORITHMS.get(text_at(message, "SignatureVersion") or "")
        signature = _decoded(text_at(message, "Signature") or "")
        url = _CERTIFICATE_URL.fullmatch(text_at(message, "SigningCertURL") or "")
        if algorithm is None or not signature or url is None:
            return False
        signed_at = _seconds(text_at(message, "Timestamp") or "")
        if signed_at is None:
            return False  # SNS signs no such time, so nothing is fetched
        if url[1].lower().split(".")[1] != message["TopicArn"].split(":")[3]:
            return False  # the topic's region must sign
        content = _content(message)
        if content is None:
            return False
        address = f"https://{url[1].lower()}{url[2]}"
        certificate = self.certificate(address)
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        key = certificate.public_key()
        if not isinstance(key, RSAPublicKey) or not _is_between(start, signed_at, end):
            return False
        try:
            key.verify(signature, content, PKCS1v15(), algorithm())
        except (InvalidSignature, UnsupportedAlgorithm):
            return False
        self.mark_proven(address, certificate)
        return True

    def time_flaw(self, request: Request) -> str | None:
        seconds = _seconds(text_at(_message(request), "Timestamp") or "") or 0.0
        return clock_flaw("the body's Timestamp", seconds, request.received_at, MESSAGE_AGE_LIMIT)

    def sign(self, request: Request, secret: Credential) -> Request:
        del request, secret
        raise SettingsError("only AWS can sign for SNS; publish to the topic, or use `explain`")


def _is_between(start: datetime, seconds: float, end: datetime) -> bool:
    return start.timestamp() <= seconds <= end.timestamp()


def _seconds(timestamp: str) -> float | None:
    """Return a time such as ``2012-04-26T20:45:04.751Z`` in seconds since the epoch, or None."""
    try:
        return datetime.fromisoformat(timestamp).timestamp() if _TIMESTAMP.fullmatch(timestamp) else None
    except ValueError:
        return None  # such as the 13th month


def _message(request: Request) -> JSON:
    """Return the body's JSON value; None if the body is not valid JSON."""
    try:
        return _parsed(request)
    except Unreadable:
        return None


def _parsed(request: Request) -> JSON:
    """Return the body's JSON value, parsed once per request. Raises Unreadable."""
    if request.body not in request.parsed:
        request.parsed[request.body] = parse_json(request.body)
    return request.parsed[request.body]


def _content(message: JSON) -> bytes | None:
    """Return the signed text of a message; None if it is not a message of SNS."""
    content = ""
    for name in _SIGNED.get(text_at(message, "Type") or "", ()):
        value = message.get(name)
        if value is None and name == "Subject":
            continue
        # With a line break outside Message, one signed text could be read as another message.
        if not isinstance(value, str) or ("\n" in value and name != "Message"):
            return None
        content += f"{name}\n{value}\n"
    return content.encode() or None


def _decoded(signature: str) -> bytes:
    """Return the bytes of a signature; empty if it is not base64."""
    try:
        return b64decode(signature, validate=True)
    except ValueError:
        return b""


def _no_certificate(url: str) -> Certificate:
    raise FetchFailed(f"nothing is fetched here, such as {url}")


def _mark_none(url: str, certificate: Certificate) -> None:
    del url, certificate


class Sns(SourceType):
    """The event is the message's type. The bridge confirms the subscription of an allowed topic."""

    name = "sns"
    guide = Guide(
        title="Amazon SNS",
        setup="""
            Set `topic_arns`, or the variable that it names, to the topic's ARN, and start the bridge. Then
            open SNS → Topics → the topic → *Create subscription*. Set the protocol to HTTPS, *Endpoint* to
            the source's URL and *Enable raw message delivery* to off. The bridge confirms subscriptions of
            topics that the table names, and refuses others.
        """,
        route="""
            event: Notification
            match:
              payload.Subject: "ALARM: *"
            task_arguments:
              - ${{ payload.Subject | default('') }}
              - ${{ payload.Message }}
        """,
    )
    sender_issued = ("topic_arns",)
    proofs = (SnsSignature(_no_certificate, _mark_none),)
    event_header = _TYPE_HEADER
    bodies = (JsonBody(("text/plain", JSON_TYPE)),)
    setup_events = ("SubscriptionConfirmation", "UnsubscribeConfirmation")
    credential_fields = ("Token", "SubscribeURL", "UnsubscribeURL")
    events = dict.fromkeys(_SIGNED, ("Message", "MessageId", "Timestamp", "TopicArn", "Type"))
    fields = {
        "Notification": fields(
            "Type MessageId TopicArn Subject Timestamp SignatureVersion Signature SigningCertURL "
            "UnsubscribeURL MessageAttributes",
            Message=("*",),
        )
    }

    def __init__(self, fetch: Fetch = fetch_nothing) -> None:
        super().__init__(fetch)
        certificates = Certificates(fetch)
        self._proofs = (SnsSignature(certificates, certificates.mark_proven),)

    def proofs_with(self, options: Options) -> tuple[Proof, ...]:
        del options
        return self._proofs

    def headers_for(self, event: str | None) -> dict[str, str]:
        return {"Content-Type": "text/plain; charset=UTF-8", _TYPE_HEADER: event or "Notification"}

    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        event, delivery = text_at(payload, "Type"), text_at(payload, "MessageId")
        if event not in _SIGNED or delivery is None:
            raise self.unreadable(f"the fields MessageId, and Type with one of {', '.join(_SIGNED)}")
        if request.headers.get(_TYPE_HEADER) != event:
            raise Unreadable(f"{_TYPE_HEADER} is not the Type of the body, {event}")
        confirm_url = None
        if event == "SubscriptionConfirmation":
            confirm_url = text_at(_parsed(request), "SubscribeURL")
            if confirm_url is None or not _SUBSCRIBE_URL.fullmatch(confirm_url):
                raise Unreadable("the SubscribeURL is not a URL of SNS")
        return ParsedWebhook(event, delivery_id=delivery, confirm_url=confirm_url)

    def parse(self, request: Request) -> tuple[JSON, bytes]:
        return _parsed(request), request.body
