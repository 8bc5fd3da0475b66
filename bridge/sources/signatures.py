"""How a sender proves itself: HMAC signatures, tokens, what stands in ``Authorization``.

Each kind of proof is declared by a source's type and checks a request in constant time, over
bytes: a text comparison would raise on a non-ASCII header.
"""

from __future__ import annotations

import binascii
import hmac
import re
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from bridge.errors import SettingsError
from bridge.event import Request
from bridge.settings import Secret


@dataclass(frozen=True)
class Credentials:
    """A user name and a password, of ``basic_auth``."""

    username: str
    password: Secret


class Proof(ABC):
    """One kind of proof, as a type declares it."""

    #: The key under which the table holds its secrets.
    key: ClassVar[str]
    #: Whether it can be checked only once the body is read.
    needs_body: ClassVar[bool] = False

    #: The header it stands in, which is taken off before the event exists.
    header: str

    @abstractmethod
    def holds(self, request: Request, secrets: Iterable[Secret | Credentials]) -> bool:
        """Whether the request proves itself with any of `secrets`; never raises."""

    @abstractmethod
    def prove(self, body: bytes, secret: Secret | Credentials) -> dict[str, str]:
        """The header that a sender of `body` would send."""


def header_bytes(request: Request, name: str) -> bytes | None:
    """The header's bytes as they came: WSGI hands them over as Latin-1."""
    value = request.headers.get(name)
    return None if value is None else value.encode("latin-1", "replace")


def any_equal(found: bytes, expected: Iterable[bytes]) -> bool:
    """Whether `found` is one of `expected`; every one is compared, in constant time."""
    matches = [hmac.compare_digest(found, candidate) for candidate in expected]
    return any(matches)


@dataclass(frozen=True)
class HmacSignature(Proof):
    """An HMAC of the raw body in a header, such as ``sha256=<hex>``; the key is ``secret:``."""

    header: str
    algorithm: str = "sha256"
    prefix: str = ""

    key: ClassVar[str] = "secret"
    needs_body: ClassVar[bool] = True

    def holds(self, request: Request, secrets: Iterable[Secret | Credentials]) -> bool:
        found = header_bytes(request, self.header)
        return found is not None and any_equal(
            found, [self._sign(request.body, secret) for secret in secrets]
        )

    def prove(self, body: bytes, secret: Secret | Credentials) -> dict[str, str]:
        return {self.header: self._sign(body, secret).decode()}

    def _sign(self, body: bytes, secret: Secret | Credentials) -> bytes:
        digest = hmac.new(_bytes(secret), body, self.algorithm).hexdigest()
        return f"{self.prefix}{digest}".encode()


@dataclass(frozen=True)
class HeaderToken(Proof):
    """A shared token, as it is, in a header; the key is ``token:``."""

    header: str

    key: ClassVar[str] = "token"

    def holds(self, request: Request, secrets: Iterable[Secret | Credentials]) -> bool:
        found = header_bytes(request, self.header)
        return found is not None and any_equal(found, map(_bytes, secrets))

    def prove(self, body: bytes, secret: Secret | Credentials) -> dict[str, str]:  # noqa: ARG002 - not signed
        return {self.header: _bytes(secret).decode("latin-1")}


def _authorization(request: Request, header: str, scheme: bytes) -> bytes | None:
    """The credentials of an ``Authorization`` of this scheme (RFC 9110 11.4: in any case)."""
    value = header_bytes(request, header)
    if value is None:
        return None
    found, _, credentials = value.partition(b" ")
    return credentials.strip(b" ") if found.lower() == scheme else None


@dataclass(frozen=True)
class BearerToken(Proof):
    """``Authorization: Bearer <token>`` (RFC 6750 2.1); the key is ``bearer_token:``."""

    header: str = "Authorization"

    key: ClassVar[str] = "bearer_token"

    def holds(self, request: Request, secrets: Iterable[Secret | Credentials]) -> bool:
        found = _authorization(request, self.header, b"bearer")
        return found is not None and any_equal(found, map(_bytes, secrets))

    def prove(self, body: bytes, secret: Secret | Credentials) -> dict[str, str]:  # noqa: ARG002 - not signed
        return {self.header: "Bearer " + _bytes(secret).decode("latin-1")}


@dataclass(frozen=True)
class BasicAuth(Proof):
    """``Authorization: Basic <base64 of user:password>`` (RFC 7617); the key is ``basic_auth:``."""

    header: str = "Authorization"

    key: ClassVar[str] = "basic_auth"

    def holds(self, request: Request, secrets: Iterable[Secret | Credentials]) -> bool:
        found = _authorization(request, self.header, b"basic")
        if found is None:
            return False
        try:
            pair = b64decode(found, validate=True)
        except binascii.Error:
            return False
        return any_equal(pair, map(_bytes, secrets))

    def prove(self, body: bytes, secret: Secret | Credentials) -> dict[str, str]:  # noqa: ARG002 - not signed
        return {self.header: "Basic " + b64encode(_bytes(secret)).decode()}


def _bytes(secret: Secret | Credentials) -> bytes:
    if isinstance(secret, Credentials):
        return f"{secret.username}:{secret.password.reveal()}".encode(errors="surrogateescape")
    return secret.reveal().encode(errors="surrogateescape")


def _is_whole(secret: Secret | Credentials) -> bool:
    """False where ``<NAME>`` stands for a user name whose variable is not set."""
    return isinstance(secret, Secret) or not re.fullmatch(r"<\w+>", secret.username)


@dataclass(frozen=True)
class Required:
    """A proof that a configured source asks for, with the secrets of which any may match."""

    proof: Proof
    secrets: tuple[Secret | Credentials, ...]

    @property
    def first(self) -> Secret | Credentials | None:
        """The first secret that is there; None where no variable of theirs is set."""
        return next(filter(_is_whole, self.secrets), None)

    def holds(self, request: Request) -> bool:
        return self.proof.holds(request, self.secrets)


def signing_headers(required: Iterable[Required], body: bytes) -> Mapping[str, str]:
    """What a sender that knows the first secret of each would send with `body`.

    Raises SettingsError where one has no secret, as its variable is not set.
    """
    headers: dict[str, str] = {}
    for one in required:
        secret = one.first
        if secret is None:
            raise SettingsError(f"nothing to prove {one.proof.key} with: its variable is not set")
        headers.update(one.proof.prove(body, secret))
    return headers
