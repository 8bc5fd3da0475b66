"""Source: a configured sender of webhooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256

from bridge.core.errors import NotAuthentic, SettingsError, Unreadable, UnsupportedContent, quoted
from bridge.core.event import JSON, Event, Headers, Request, rfc3339
from bridge.core.exact_json import dumps
from bridge.core.fields import Path
from bridge.core.redaction import Keep, redact, without_content
from bridge.core.secrets import Mask, Secret
from bridge.sources.base.bodies import JSON_TYPE, content_type, has_no_body
from bridge.sources.base.credentials import without_credentials
from bridge.sources.base.proofs import RequiredProof
from bridge.sources.base.source_type import AnswerForm, Options, ParsedWebhook, Replays, SourceType

#: Headers with credentials, for every type.
CREDENTIAL_HEADERS = ("Authorization", "Proxy-Authorization", "Cookie")

#: The longest name of an event, action or delivery, in characters.
MAX_NAME = 255
#: Hashed with the body of an event without a name. With a table that reads it, the same webhook is a new one.
_UNNAMED = b"unnamed\n"


@dataclass(frozen=True)
class Source:
    """A configured sender of webhooks."""

    #: The last part of its URL.
    name: str
    type: SourceType
    #: A request must pass all of these proofs, or one of them if `any_of`.
    required: tuple[RequiredProof, ...]
    any_of: bool = False
    #: Seconds in which the same webhook without an id is a duplicate; None disables this.
    dedupe: float | None = None
    options: Options = field(default_factory=Options)
    #: The events whose body, headers and query are stored.
    store_payload: Keep = Keep.FULL
    #: Fields whose values are not stored.
    redact: tuple[Path, ...] = ()
    #: What to do with an old body under a new delivery id; None means that it is not detected.
    replays: Replays | None = None
    #: The longest expected time between two webhooks, seconds.
    expect_every: float | None = None
    answer: AnswerForm = AnswerForm.IDS

    def verify_head(self, request: Request) -> None:
        """Check what does not need the body. Raises UnsupportedContent or NotAuthentic."""
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

    def sign(self, request: Request) -> Request:
        """Return the request as the sender sends it: with every proof, or with one if `any_of`.

        Raises SettingsError if a proof has no secret because its variable is not set.
        """
        required = self.required
        if self.any_of:
            required = (tuple(one for one in required if one.first) or required)[:1]
        for one in required:
            if one.first is None:
                raise SettingsError(f"the variable of {one.proof.key} is not set")
            request = one.proof.sign(request, one.first)
        return request

    def reply(self, request: Request, event: Event) -> dict[str, JSON] | None:
        """Return the body of the 200 that the sender requires, or None if it accepts any 2xx."""
        if not event.event:
            return None
        return self.type.reply(
            event, self._verifying_secrets(request) if self.type.is_setup_event(event) else ()
        )

    def read(
        self, request: Request, mask: Mask | None = None, *, any_event: bool = False
    ) -> tuple[Event, ParsedWebhook]:
        """Return the event of an authentic request, without credentials and the secrets of `mask`.

        Raises Unreadable; with `any_event` only for a body that cannot be parsed. An event that cannot be
        read then has no name, and the webhook has the problem: some senders disable a webhook after a 4xx.
        """
        request = self._without_credentials(request, mask)
        payload, body = self.type.parse(request)
        stripped = payload
        for path in self.type.credential_fields:
            stripped = _without(stripped, path.split("."))
        if stripped is not payload:
            payload, body = stripped, dumps(stripped)
        try:
            webhook = self._names(request, payload)
        except Unreadable as error:
            if not any_event:
                raise
            fingerprint = sha256(_UNNAMED + request.body).hexdigest()
            webhook = ParsedWebhook("", fingerprint=fingerprint, problem=str(error))
        identity = webhook.delivery_id or f"{webhook.fingerprint}@{rfc3339(request.received_at)}"
        event = Event(
            source=self.name,
            event=webhook.event,
            action=webhook.action,
            delivery_id=identity,
            headers=request.headers,
            query=request.query,
            payload=payload,
            received_at=request.received_at,
            body=body,
        )
        return event, webhook

    def named(self, event: Event) -> Event:
        """Return a stored event without a name as this table reads it."""
        if event.event:
            return event
        request = Request(self.name, event.headers, event.query, event.body, event.received_at)
        try:
            webhook = self._names(request, event.payload)
        except Unreadable:
            return event
        identity = webhook.delivery_id or event.delivery_id
        return replace(event, event=webhook.event, action=webhook.action, delivery_id=identity)

    def _names(self, request: Request, payload: JSON) -> ParsedWebhook:
        """Return the names of an event, which its payload must fit. Raises Unreadable."""
        webhook = self.type.read_with(request, payload, self.options)
        if not self.required and webhook.confirm_url is not None:
            # The bridge fetches nothing for an unknown sender.
            webhook = replace(webhook, confirm_url=None)
        for what, name in (("event", webhook.event), ("action", webhook.action)):
            _check_name(what, name)
        reason = self.type.event_matcher.mismatch(webhook.event, payload)
        if reason is not None:
            raise Unreadable(f"a {self.type.name} {webhook.event} {reason}")
        stored_id = _stored_id(webhook.delivery_id)
        return webhook if stored_id == webhook.delivery_id else replace(webhook, delivery_id=stored_id)

    @cached_property
    def has_event_in_body(self) -> bool:
        """Return whether the body alone names the event."""
        paths = (path for path in (self.options.event, self.options.action) if path is not None)
        return self.type.event_header is None and all(path.root == "payload" for path in paths)

    def digest(self, request: Request, event: Event) -> bytes:
        """Return the SHA-256 of the body as received, or of its payload without the volatile fields."""
        if not event.event:
            return sha256(_UNNAMED + request.body).digest()
        volatile = self.type.volatile_fields
        if not volatile or not isinstance(event.payload, dict):
            return sha256(request.body).digest()
        stable = {key: value for key, value in event.payload.items() if key not in volatile}
        return sha256(dumps(stable)).digest()

    def stored_form(self, event: Event, *, made_jobs: bool) -> Event:
        """Return the event as it is stored: redacted, or with an empty body."""
        if self.store_payload is Keep.NONE or (self.store_payload is Keep.MATCHED and not made_jobs):
            return without_content(event)
        return redact(event, self.redact) if self.redact else event

    def _verifying_secrets(self, request: Request) -> tuple[Secret, ...]:
        """Return the secrets that verify this request: during a rotation, the sender's."""
        return tuple(
            secret
            for one in self.required
            for secret in one.secrets
            if isinstance(secret, Secret) and one.proof.verify(request, (secret,))
        )

    def _check(self, required: Iterable[RequiredProof], request: Request) -> None:
        flaws = [one.flaw(request) for one in required]
        proven = [flaw is None for flaw in flaws]
        if flaws and not (any(proven) if self.any_of else all(proven)):
            reason = next(filter(None, flaws), None) or self._what_failed(request)
            raise NotAuthentic(f"source {self.name}: {reason}")

    def _what_failed(self, request: Request) -> str:
        """Return the reason for the log, which never says which secret failed."""
        proofs = [one.proof for one in self.required]
        if self.any_of:
            # The others are not needed.
            proofs = [proof for proof in proofs if proof.is_present(request)] or proofs
        absent = sorted({name for proof in proofs for name in proof.missing(request)})
        if absent:
            return f"the request has no {' and no '.join(absent)}"
        forms = "".join(
            f"; {flaw}" for flaw in dict.fromkeys(proof.form_flaw(request) for proof in proofs) if flaw
        )
        return f"{' or '.join(sorted({proof.header for proof in proofs}))} does not match{forms}"

    def _check_content(self, request: Request) -> None:
        encoding = request.headers.get("Content-Encoding", "identity")
        if encoding.strip().lower() != "identity":
            raise UnsupportedContent(f"Content-Encoding {quoted(encoding)}; expected none")
        content = content_type(request.headers)
        accepted = self._accepted_types
        if content in accepted or (not content and has_no_body(request)):
            return
        if not (JSON_TYPE in accepted and content.endswith("+json")):
            expected = f"expected {' or '.join(accepted)}: set it at the sender"
            raise UnsupportedContent(f"content type {quoted(content)}; {expected}")

    @cached_property
    def _accepted_types(self) -> tuple[str, ...]:
        # A browser sends forms across sites. Only a signature excludes that.
        signed = any(one.proof.needs_body for one in self.required)
        return tuple(name for name in self.type.content_types if signed or name == JSON_TYPE)

    def removes(self, path: Path) -> bool:
        """Return whether the path leads to a credential, which no event has."""
        if path.root == "payload":
            fields = self.type.credential_fields
            return any(f"{path.text}.".startswith(f"payload.{field}.") for field in fields)
        removed = {"headers": self._credential_headers, "query": ("token",)}.get(path.root)
        if removed is None or not path.steps:
            return False
        name = str(path.steps[0])
        left = without_credentials({name: ""}, self.options.names(path.root), None)
        return not left or name.lower() in map(str.lower, removed)

    @cached_property
    def _credential_headers(self) -> tuple[str, ...]:
        proofs = (name for proof in self.type.proofs_with(self.options) for name in proof.headers)
        return (*CREDENTIAL_HEADERS, *self.type.credential_headers, *proofs)

    def _without_credentials(self, request: Request, mask: Mask | None) -> Request:
        """Return the request without credentials, as the type and the table's paths read it."""
        headers: Mapping[str, str] = request.headers.without(self._credential_headers)
        query = {name: value for name, value in request.query.items() if name != "token"}
        headers = without_credentials(headers, self.options.names("headers"), mask)
        if query:
            query = without_credentials(query, self.options.names("query"), mask)
        return Request(
            request.source,
            Headers(headers.items()),
            query,
            request.body,
            request.received_at,
            request.client,
            parsed=request.parsed,
        )


def _without(payload: JSON, path: list[str]) -> JSON:
    """Return the payload without the field at this path, or the same object if it has none."""
    key, *rest = path
    if not isinstance(payload, dict) or key not in payload:
        return payload
    if not rest:
        return {name: value for name, value in payload.items() if name != key}
    inner = _without(payload[key], rest)
    return payload if inner is payload[key] else {**payload, key: inner}


def _stored_id(identity: str | None) -> str | None:
    """Return a sender's delivery id, or its hash if the store cannot index it."""
    if identity is None or (len(identity) <= MAX_NAME and "\x00" not in identity):
        return identity
    return f"sha256:{sha256(identity.encode(errors='surrogatepass')).hexdigest()}"


def _check_name(what: str, name: str | None) -> None:
    if name is None:
        return
    if not name or len(name) > MAX_NAME or "\x00" in name:
        raise Unreadable(f"the {what} must be 1 to {MAX_NAME} characters without NUL")
