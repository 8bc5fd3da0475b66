"""Source, a configured sender of webhooks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256

import orjson

from bridge.core.errors import NotAuthentic, SettingsError, Unreadable, UnsupportedContent, quoted
from bridge.core.event import JSON, Event, Headers, Request, rfc3339
from bridge.core.fields import Path
from bridge.core.redaction import Keep, redact, without_content
from bridge.core.secrets import Mask, Secret
from bridge.sources.base.bodies import JSON_TYPE, content_type, has_no_body
from bridge.sources.base.credentials import without_credentials
from bridge.sources.base.recognition import misfit
from bridge.sources.base.signatures import Required
from bridge.sources.base.source_type import Options, Reading, Replays, SourceType

#: Headers that hold credentials whatever the type.
CREDENTIAL_HEADERS = ("Authorization", "Proxy-Authorization", "Cookie")

#: The longest name of an event, action or delivery, in characters.
MAX_NAME = 255


@dataclass(frozen=True)
class Source:
    """A configured sender of webhooks."""

    #: The last part of its URL.
    name: str
    type: SourceType
    #: All must hold, or any where `any_of`.
    required: tuple[Required, ...]
    any_of: bool = False
    #: Seconds; None turns it off.
    dedupe: float | None = None
    options: Options = field(default_factory=Options)
    #: Of which events the body, the headers and the query are stored.
    keep: Keep = Keep.FULL
    #: Fields whose values are not.
    redact: tuple[Path, ...] = ()
    #: What becomes of a body that came before under another delivery id; None: it is not looked for.
    replays: Replays | None = None

    def verify_head(self, request: Request) -> None:
        """Check what needs no body. Raises UnsupportedContent or NotAuthentic."""
        if self.type.is_unsigned_test(request):
            return
        if self.any_of and any(one.proof.needs_body for one in self.required):
            self._check_content(request)
            return
        heads = [one for one in self.required if not one.proof.needs_body]
        self._check(heads, request)
        self._check_content(request)

    def verify(self, request: Request) -> None:
        """Check everything. Raises UnsupportedContent or NotAuthentic."""
        self._check(self.required, request)
        self._check_content(request)

    def prove(self, request: Request) -> Request:
        """The request as its sender sends it: with every proof, or the first of `any_of` that has a secret.

        Raises SettingsError where one has no secret, as its variable is not set.
        """
        required = self.required
        if self.any_of:
            required = (tuple(one for one in required if one.first) or required)[:1]
        for one in required:
            if one.first is None:
                raise SettingsError(f"nothing to prove {one.proof.key} with: its variable is not set")
            request = one.proof.prove(request, one.first)
        return request

    def reply(self, reading: Reading) -> dict[str, JSON] | None:
        """What its sender wants to hear, with 200; None where any 2xx and any body will do."""
        return self.type.reply(reading)

    def read(self, request: Request, mask: Mask | None = None) -> tuple[Event, Reading]:
        """The event of an authentic request, as its type reads it. Raises Unreadable.

        No header and no query parameter of the event holds a secret that `mask` knows.
        """
        given = request
        request = self._without_credentials(given, mask)
        reading = self._without_private_keys(self.type.read(request, self.options))
        if reading.handshake:
            reading = replace(reading, secrets=self._proving(given))
        if not self.required:
            # Whoever asks is not known: nothing is fetched for them.
            reading = replace(reading, confirm=None)
        identity = reading.delivery_id or f"{reading.fingerprint}@{rfc3339(request.received_at)}"
        for what, name in (("event", reading.event), ("action", reading.action), ("delivery id", identity)):
            _check_name(what, name)
        reason = misfit(self.type.events, self.type.marks, reading.event, reading.payload)
        if reason is not None:
            raise Unreadable(f"a {self.type.name} {reading.event} {reason}")
        event = Event(
            source=self.name,
            event=reading.event,
            action=reading.action,
            delivery_id=identity,
            headers=request.headers,
            query=request.query,
            payload=reading.payload,
            received_at=request.received_at,
            body=reading.body,
        )
        return event, reading

    @property
    def has_event_in_body(self) -> bool:
        """Whether the body alone names the event."""
        paths = (path for path in (self.options.event, self.options.action) if path is not None)
        return self.type.event_header is None and all(path.root == "payload" for path in paths)

    def digest(self, request: Request, reading: Reading) -> bytes:
        """The SHA-256 of the body as it came, or of its payload without the keys that vary."""
        varying = self.type.varying_keys
        if not varying or not isinstance(reading.payload, dict):
            return sha256(request.body).digest()
        same = {key: value for key, value in reading.payload.items() if key not in varying}
        return sha256(orjson.dumps(same)).digest()

    def kept(self, event: Event, *, made_jobs: bool) -> Event:
        """The event as it is stored: where its body is not kept, that is empty."""
        if self.keep is Keep.NONE or (self.keep is Keep.MATCHED and not made_jobs):
            return without_content(event)
        return redact(event, self.redact) if self.redact else event

    def _proving(self, request: Request) -> tuple[Secret, ...]:
        """Those of its secrets that this request is proved with: of two in a rotation, the sender's."""
        return tuple(
            secret
            for one in self.required
            for secret in one.secrets
            if isinstance(secret, Secret) and one.proof.holds(request, (secret,))
        )

    def _check(self, required: Iterable[Required], request: Request) -> None:
        verdicts = [one.holds(request) for one in required]
        if verdicts and not (any(verdicts) if self.any_of else all(verdicts)):
            raise NotAuthentic(f"source {self.name}: {self._what_failed(request)}")

    def _what_failed(self, request: Request) -> str:
        """The class of reason, for the log: never which secret."""
        absent = sorted({one.proof.header for one in self.required if not one.proof.is_there(request)})
        if absent:
            return f"the request has no {' and no '.join(absent)}"
        return f"{' or '.join(sorted({one.proof.header for one in self.required}))} does not match"

    def _check_content(self, request: Request) -> None:
        encoding = request.headers.get("Content-Encoding", "identity")
        if encoding.strip().lower() != "identity":
            raise UnsupportedContent(f"Content-Encoding {quoted(encoding)}; expected none")
        content = content_type(request.headers)
        if not content and has_no_body(request):
            return
        # A form is what a browser sends across sites without asking; a signature rules that out.
        signed = any(one.proof.needs_body for one in self.required)
        taken = [name for name in self.type.content_types if signed or name == JSON_TYPE]
        if content not in taken and not (JSON_TYPE in taken and content.endswith("+json")):
            raise UnsupportedContent(f"content type {quoted(content)}; expected {' or '.join(taken)}")

    def _without_credentials(self, request: Request, mask: Mask | None) -> Request:
        """The request as an event may show it, and as its type and the table's paths read it."""
        proofs = (name for proof in self.type.proofs_with(self.options) for name in proof.headers)
        headers = request.headers.without([*CREDENTIAL_HEADERS, *self.type.private_headers, *proofs])
        query = {name: value for name, value in request.query.items() if name != "token"}
        return replace(
            request,
            headers=Headers(without_credentials(headers, self.options.names("headers"), mask).items()),
            query=without_credentials(query, self.options.names("query"), mask),
        )

    def _without_private_keys(self, reading: Reading) -> Reading:
        kept = reading.payload
        for path in self.type.private_keys:
            kept = _without(kept, path.split("."))
        if kept is reading.payload:
            return reading
        return replace(reading, payload=kept, body=orjson.dumps(kept))


def _without(payload: JSON, path: list[str]) -> JSON:
    """The payload without what stands at these keys; itself where nothing does."""
    key, *rest = path
    if not isinstance(payload, dict) or key not in payload:
        return payload
    if not rest:
        return {name: value for name, value in payload.items() if name != key}
    inner = _without(payload[key], rest)
    return payload if inner is payload[key] else {**payload, key: inner}


def _check_name(what: str, name: str | None) -> None:
    if name is None:
        return
    if not name or len(name) > MAX_NAME or "\x00" in name:
        raise Unreadable(f"the {what} must be 1 to {MAX_NAME} characters without NUL")
