"""Proofs of a sender: HMAC signatures, tokens, and ``Authorization``.

Proofs compare bytes in constant time. Comparing text would raise on a non-ASCII header.
"""

from __future__ import annotations

import binascii
import hmac
import re
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from bridge.core.event import Headers, Request
from bridge.core.fields import Path
from bridge.core.secrets import Secret
from bridge.sources.base.signed_time import field_flaw, seconds_flaw

#: The most signatures of one request that are checked.
MAX_SIGNATURES = 10


@dataclass(frozen=True)
class BasicCredentials:
    """A user name and a password of ``basic_auth``."""

    username: str
    password: Secret


#: What verifies a proof: a secret, a user name and password, or an allowed name such as a topic.
Credential = Secret | BasicCredentials | str


class Proof(ABC):
    """A kind of proof."""

    #: The table's key for its secrets.
    key: ClassVar[str]
    #: Whether verifying it needs the body.
    needs_body: ClassVar[bool] = False

    #: The name of its header, or its place in words.
    header: str
    #: Whether the header may contain several, of which any may match.
    multiple: bool = False

    @property
    def headers(self) -> tuple[str, ...]:
        """Return its headers, which are removed from the event."""
        return (self.header,)

    @property
    def is_timed(self) -> bool:
        """Return whether the time is signed."""
        return False

    def is_present(self, request: Request) -> bool:
        """Return whether the request has it, valid or not."""
        return self.header in request.headers

    def secret_error(self, secret: str) -> str | None:
        """Return what is wrong with a secret of the table, without showing it."""
        del secret
        return None

    def missing(self, request: Request) -> tuple[str, ...]:
        """Return the parts that the request lacks."""
        return () if self.is_present(request) else (self.header,)

    def verify(self, request: Request, secrets: Iterable[Credential]) -> bool:
        """Return whether any of `secrets` verifies the request. Raises as `matches`."""
        return self.flaw(request, secrets) is None

    def flaw(self, request: Request, secrets: Iterable[Credential]) -> str | None:
        """Return None if any of `secrets` verifies the request, else what a person should know.

        The text is empty unless the signature is valid, so a stranger learns nothing of the clock.
        """
        return self.time_flaw(request) if self.matches(request, secrets) else ""

    def time_flaw(self, request: Request) -> str | None:
        """Return why the signed time of a request is refused, or None."""
        del request
        return None

    def form_flaw(self, request: Request) -> str | None:
        """Return how the form of the proof differs from the expected one, without its value, for the log."""
        del request
        return None

    @abstractmethod
    def matches(self, request: Request, secrets: Iterable[Credential]) -> bool:
        """Return whether any of `secrets` made the proof, at any time.

        Raises ServiceUnavailable if verifying needs something that cannot be fetched.
        """

    @abstractmethod
    def sign(self, request: Request, secret: Credential) -> Request:
        """Return the request as a sender with this secret would send it at its `received_at`."""


def with_headers(request: Request, headers: Mapping[str, str]) -> Request:
    """Return the request with these headers added."""
    return replace(request, headers=Headers({**request.headers, **Headers(headers.items())}.items()))


def header_bytes(request: Request, name: str) -> bytes | None:
    """Return the header's bytes as received. WSGI decodes them as Latin-1."""
    value = request.headers.get(name)
    return None if value is None else value.encode("latin-1", "replace")


def any_equal(actual: bytes, expected: Iterable[bytes]) -> bool:
    """Return whether `actual` is one of `expected`; each is compared, in constant time."""
    matches = [hmac.compare_digest(actual, candidate) for candidate in expected]
    return any(matches)


@dataclass(frozen=True)
class HmacSignature(Proof):
    """An HMAC of the raw body in a header, such as ``sha256=<hex>``; the key is ``secret:``.

    With a `timestamp_header`, the time is signed too, and a time too far from now is rejected. With
    `multiple`, the header contains signatures separated by commas, and those with another prefix are ignored.
    """

    header: str
    algorithm: str = "sha256"
    prefix: str = ""
    #: ``hex`` or ``base64``.
    encoding: str = "hex"
    timestamp_header: str | None = None
    #: The field of the body with the time.
    timestamp_field: Path | None = None
    #: The signed text, with ``{ts}`` and ``{body}``.
    signed: str = "{body}"
    multiple: bool = False

    key: ClassVar[str] = "secret"
    needs_body: ClassVar[bool] = True

    @property
    def headers(self) -> tuple[str, ...]:
        return (self.header,) if self.timestamp_header is None else (self.header, self.timestamp_header)

    def missing(self, request: Request) -> tuple[str, ...]:
        return tuple(name for name in self.headers if name not in request.headers)

    def matches(self, request: Request, secrets: Iterable[Credential]) -> bool:
        time, signatures = self.time_and_signatures(request)
        if time is None:
            return False
        # Other versions do not count, or many of them would hide the right one.
        known = [each for each in signatures if each.startswith(self.prefix.encode())][:MAX_SIGNATURES]
        expected = [self.signature_text(request, time, secret) for secret in secrets]
        return any(any_equal(signature, expected) for signature in known)

    def time_flaw(self, request: Request) -> str | None:
        flaw = None if self.timestamp_field is None else field_flaw(self.timestamp_field, request)
        if flaw is not None or not self.is_timed:
            return flaw
        time, _ = self.time_and_signatures(request)
        return seconds_flaw(self.timestamp_header or f"t= in {self.header}", time, request.received_at)

    def form_flaw(self, request: Request) -> str | None:
        digits = {"hex": rb"[0-9a-f]+", "base64": rb"[0-9A-Za-z+/]+=*"}[self.encoding]
        size = hmac.new(b"", digestmod=self.algorithm).digest_size
        length = 2 * size if self.encoding == "hex" else -(-size // 3) * 4
        prefix = self.prefix.encode()
        _, signatures = self.time_and_signatures(request)
        known = [each.removeprefix(prefix) for each in signatures if each.startswith(prefix)]
        if not signatures or any(len(each) == length and re.fullmatch(digits, each) for each in known):
            return None
        after = f"{self.prefix} and " if prefix else ""
        without = f" without {self.prefix}" if prefix and not known else ""
        found = len(known[0]) if known else len(signatures[0])
        return f"expected {after}{length} {self.encoding} digits, found {found} characters{without}"

    def sign(self, request: Request, secret: Credential) -> Request:
        time = str(int(request.received_at)) if self.is_timed else ""
        headers = {self.header: self.signature_text(request, time.encode(), secret).decode()}
        if self.timestamp_header is not None:
            headers[self.timestamp_header] = time
        return with_headers(request, headers)

    @property
    def is_timed(self) -> bool:
        return self.timestamp_header is not None

    def time_and_signatures(self, request: Request) -> tuple[bytes | None, list[bytes]]:
        """Return the signed time (empty if none is signed, None if it is missing) and the signatures."""
        value = header_bytes(request, self.header)
        time = b"" if self.timestamp_header is None else header_bytes(request, self.timestamp_header)
        if value is None:
            return time, []
        return time, [each.strip(b" ") for each in value.split(b",")] if self.multiple else [value]

    def content(self, request: Request) -> bytes:
        """Return the signed part of the request."""
        return request.body

    def signature_text(self, request: Request, time: bytes, secret: Credential) -> bytes:
        """Return the signature in the header's format."""
        before, _, after = self.signed.partition("{body}")
        signer = hmac.new(secret_bytes(secret), digestmod=self.algorithm)
        signer.update(before.encode().replace(b"{ts}", time))
        signer.update(self.content(request))
        signer.update(after.encode().replace(b"{ts}", time))
        encoded = signer.hexdigest().encode() if self.encoding == "hex" else b64encode(signer.digest())
        return self.prefix.encode() + encoded


@dataclass(frozen=True)
class TimeInSignature(HmacSignature):
    """An HmacSignature whose header also has the time: ``t=<time>,v1=<hex>`` or ``ts=<time>;h1=<hex>``.

    The header may contain several signatures, and those with another prefix are ignored.
    """

    #: The characters of which any may separate the header's parts.
    separators: str = ","

    @property
    def is_timed(self) -> bool:
        return True

    def missing(self, request: Request) -> tuple[str, ...]:
        has_time = self.time_and_signatures(request)[0] is not None
        return super().missing(request) or (() if has_time else (f"{self.header} with exactly one t=",))

    def sign(self, request: Request, secret: Credential) -> Request:
        time = str(int(request.received_at))
        signature = self.signature_text(request, time.encode(), secret).decode()
        return with_headers(request, {self.header: f"t={time},{signature}"})

    def time_and_signatures(self, request: Request) -> tuple[bytes | None, list[bytes]]:
        """Return the signed time, None if it is missing or doubled, and the signatures."""
        value = header_bytes(request, self.header) or b""
        parts = [part.strip(b" ") for part in re.split(f"[{self.separators}]".encode(), value)]
        times = [part.partition(b"=")[2] for part in parts if part.startswith((b"t=", b"ts="))]
        return times[0] if len(times) == 1 else None, parts


@dataclass(frozen=True)
class HeaderToken(Proof):
    """A shared token in a header; the key is ``token:``."""

    header: str

    key: ClassVar[str] = "token"

    def matches(self, request: Request, secrets: Iterable[Credential]) -> bool:
        found = header_bytes(request, self.header)
        return found is not None and any_equal(found, map(secret_bytes, secrets))

    def sign(self, request: Request, secret: Credential) -> Request:
        return with_headers(request, {self.header: secret_bytes(secret).decode("latin-1")})


@dataclass(frozen=True)
class UrlToken(Proof):
    """A shared token as ``?token=`` of the URL; the key is ``url_token:``.

    Proxies log URLs, so this is for senders that support nothing else.
    """

    header: str = "token in its URL"

    key: ClassVar[str] = "url_token"

    @property
    def headers(self) -> tuple[str, ...]:
        return ()

    def is_present(self, request: Request) -> bool:
        return "token" in request.query

    def matches(self, request: Request, secrets: Iterable[Credential]) -> bool:
        found = request.query.get("token")
        if found is None:
            return False
        return any_equal(found.encode(errors="surrogatepass"), map(secret_bytes, secrets))

    def sign(self, request: Request, secret: Credential) -> Request:
        token = secret_bytes(secret).decode("utf-8", "surrogateescape")
        return replace(request, query={**request.query, "token": token})


@dataclass(frozen=True)
class _Authorization(Proof):
    """Credentials in the ``Authorization`` header, after their scheme in any case (RFC 9110 11.4)."""

    header: str = "Authorization"

    scheme: ClassVar[str]

    def form_flaw(self, request: Request) -> str | None:
        words = [word.lower() for word in (header_bytes(request, self.header) or b"").split()]
        # An unknown scheme may be a secret.
        known = {word.encode(): word.title() for word in ("bearer", "basic", "token", "digest", "apikey")}
        found = known.get(words[0] if words else b"", "no known scheme")
        if found != self.scheme:
            return f"expected {self.scheme}, found {found}"
        return f"found {self.scheme} twice" if words[1:2] == words[:1] else None

    def matches(self, request: Request, secrets: Iterable[Credential]) -> bool:
        found, _, credentials = (header_bytes(request, self.header) or b"").partition(b" ")
        if found.lower() != self.scheme.lower().encode():
            return False
        return any_equal(self.decoded(credentials.strip(b" ")), map(secret_bytes, secrets))

    def decoded(self, credentials: bytes) -> bytes:
        """Return the token, or the user name and the password."""
        return credentials


@dataclass(frozen=True)
class BearerToken(_Authorization):
    """``Authorization: Bearer <token>`` (RFC 6750 2.1); the key is ``bearer_token:``."""

    key: ClassVar[str] = "bearer_token"
    scheme: ClassVar[str] = "Bearer"

    def sign(self, request: Request, secret: Credential) -> Request:
        return with_headers(request, {self.header: "Bearer " + secret_bytes(secret).decode("latin-1")})


@dataclass(frozen=True)
class BasicAuth(_Authorization):
    """``Authorization: Basic <base64 of user:password>`` (RFC 7617); the key is ``basic_auth:``."""

    key: ClassVar[str] = "basic_auth"
    scheme: ClassVar[str] = "Basic"

    def decoded(self, credentials: bytes) -> bytes:
        try:
            return b64decode(credentials, validate=True)
        except binascii.Error:
            return b""  # every user name and password has a colon

    def sign(self, request: Request, secret: Credential) -> Request:
        return with_headers(request, {self.header: "Basic " + b64encode(secret_bytes(secret)).decode()})


def secret_bytes(secret: Credential) -> bytes:
    """Return the bytes of a secret, or of a user name and password joined by a colon."""
    if isinstance(secret, BasicCredentials):
        return _encoded(f"{secret.username}:{secret.password.reveal()}")
    return _encoded(secret.reveal() if isinstance(secret, Secret) else secret)


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _is_whole(secret: Credential) -> bool:
    """Return False for a user name whose variable is not set: it is ``<NAME>``."""
    return not isinstance(secret, BasicCredentials) or not re.fullmatch(r"<\w+>", secret.username)


@dataclass(frozen=True)
class RequiredProof:
    """A proof that a source requires, with secrets of which any may match."""

    proof: Proof
    secrets: tuple[Credential, ...]

    @property
    def first(self) -> Credential | None:
        """Return the first secret whose variable is set, or None."""
        return next(filter(_is_whole, self.secrets), None)

    def verify(self, request: Request) -> bool:
        return self.flaw(request) is None

    def flaw(self, request: Request) -> str | None:
        return self.proof.flaw(request, self.secrets)
