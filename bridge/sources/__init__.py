"""The contract that every source type keeps, their discovery, and Source, one as it is configured.

A type is one file of this folder that holds one subclass of SourceType. It declares how
its sender proves itself and reads the sender's requests; everything else (the shape of its part of
the table, the order of checks, what is stored) follows from the declaration.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from importlib import import_module
from pkgutil import iter_modules
from typing import ClassVar

import orjson

from bridge.errors import NotAuthentic, NotSent, SettingsError, Unreadable, UnsupportedContent, quoted
from bridge.event import JSON, Event, Headers, Request, rfc3339
from bridge.fields import Path
from bridge.keeping import Keep, emptied, redacted
from bridge.payload import parse_json
from bridge.settings import Mask, Secret
from bridge.sources.bodies import JSON_TYPE, Body, JsonBody, content_type, has_no_body
from bridge.sources.credentials import without_credentials
from bridge.sources.guide import Guide
from bridge.sources.payloads import Inside
from bridge.sources.recognition import Marks, misfit
from bridge.sources.signatures import HmacSignature, Proof, Required

#: Headers that hold credentials whatever the type.
CREDENTIAL_HEADERS = ("Authorization", "Proxy-Authorization", "Cookie")

#: Among the fields of a type, those of whatever event.
EVERY_EVENT = "*"

#: The longest name of an event, action or delivery, in characters.
MAX_NAME = 255

#: GETs an https URL and gives the body of a 200, within limits; raises SendError.
Fetch = Callable[[str], bytes]


def fetch_nothing(url: str) -> bytes:
    """Of a process that verifies nothing, such as a command's. Raises NotSent."""
    del url
    raise NotSent("nothing is fetched here")


class Replays(StrEnum):
    """What becomes of a body that came before under another delivery id."""

    #: It is another webhook, with a note on its event.
    NOTE = "note"
    #: It makes no job.
    REFUSE = "refuse"


@dataclass(frozen=True)
class Options:
    """What a table may set on a source of a type that takes it."""

    #: The header of ``token:``.
    header: str | None = None
    #: Where the event, the action and the delivery id are found.
    event: Path | None = None
    action: Path | None = None
    delivery_id: Path | None = None
    #: How ``secret:`` signs, where the table says it.
    signature: HmacSignature | None = None

    def names(self, root: str) -> frozenset[str]:
        """Which of the ``headers`` or the ``query`` the paths read, in lower case."""
        paths = [path for path in (self.event, self.action, self.delivery_id) if path and path.root == root]
        return frozenset(str(step).lower() for path in paths for step in path.steps[:1])


@dataclass(frozen=True)
class Reading:
    """What a type reads out of an authentic request."""

    event: str
    action: str | None
    payload: JSON
    #: The payload as JSON text.
    body: bytes
    #: What identifies the webhook to its sender; None where the sender has no id.
    delivery_id: str | None = None
    #: Without an id: the bytes of a hash that stands for it within a window.
    fingerprint: str | None = None
    #: A test or confirmation by the sender, which no route is asked about.
    handshake: bool = False
    #: What the sender wants to have fetched before it sends more.
    confirm: str | None = None
    #: Of a handshake: those of the source's secrets that it is proved with.
    secrets: tuple[Secret, ...] = ()


class SourceType(ABC):
    """One kind of sender."""

    #: As the table names it.
    name: ClassVar[str]
    #: How to set it up.
    guide: ClassVar[Guide]
    #: The proofs that its sender can give.
    proofs: ClassVar[tuple[Proof, ...]]
    #: The keys of those whose secrets its sender gives out, so that nobody makes one up.
    issued: ClassVar[tuple[str, ...]] = ()
    #: The header in which its sender names the event, where it does.
    event_header: ClassVar[str | None] = None
    #: The shapes of body that its sender uses.
    bodies: ClassVar[tuple[Body, ...]] = (JsonBody(),)
    #: Headers with a signature or a credential besides those of `proofs`.
    private_headers: ClassVar[tuple[str, ...]] = ()
    #: Keys at the top of its payloads that hold a credential: they are taken out.
    private_keys: ClassVar[tuple[str, ...]] = ()
    #: The keys of Options that the table may set.
    options: ClassVar[tuple[str, ...]] = ()
    #: How ``secret:`` signs where its sender leaves that open and the table does not say it.
    signs: ClassVar[HmacSignature | None] = None
    #: What it signs where the table names a header with the time, and nothing more.
    signs_with_time: ClassVar[str] = "{ts}.{body}"
    #: Known events and the keys that their bodies must have (see recognition). Of another name `check` warns.
    events: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: What else tells their bodies apart, where the sender signs no event.
    marks: ClassVar[Marks | None] = None
    #: Of known events, or of EVERY_EVENT, the fields of the payload. Of another field `check` warns.
    fields: ClassVar[Mapping[str, Inside]] = {}
    #: Those that are tests or confirmations, which no route is asked about: the event, or event.action.
    handshakes: ClassVar[tuple[str, ...]] = ()
    #: How long, in seconds from the first sight, a webhook without an id counts as come again.
    dedupe: ClassVar[float | None] = None
    #: Whether an old body can come as a new webhook: its proof covers neither a delivery id nor the time.
    replayable: ClassVar[bool] = False
    #: Keys at the top of its payloads whose values differ each time that the same webhook is sent.
    varying_keys: ClassVar[tuple[str, ...]] = ()

    def __init__(self, fetch: Fetch = fetch_nothing) -> None:
        self.fetch = fetch

    @property
    def content_types(self) -> tuple[str, ...]:
        """The content types of `bodies`."""
        return tuple(dict.fromkeys(name for body in self.bodies for name in body.content_types))

    @abstractmethod
    def read(self, request: Request, options: Options) -> Reading:
        """What the request says. Raises Unreadable."""

    def is_unsigned_test(self, request: Request) -> bool:
        """Whether it is a test that its sender never signs, told by its headers: answered, and not stored."""
        del request
        return False

    def is_handshake(self, event: Event) -> bool:
        """Whether it is a test or confirmation, which no route is asked about."""
        return event.event in self.handshakes or event.full_name in self.handshakes

    def reply(self, reading: Reading) -> dict[str, JSON] | None:
        """What its sender wants to hear, with 200; None where any 2xx and any body will do."""
        del reading
        return None

    def headers_for(self, event: str | None) -> dict[str, str]:
        """The headers, besides those of its proofs, with which its sender would send this event.

        `event` is the event's name where the sender says it in a header. Raises Unreadable where it
        must be given and is not.
        """
        del event
        return {"Content-Type": JSON_TYPE}

    def proofs_with(self, options: Options) -> tuple[Proof, ...]:
        """The proofs that its sender can give, under these options."""
        del options
        return self.proofs

    def advice(self, events: tuple[str, ...], *, loops: bool) -> tuple[str, str] | None:
        """What is likely not meant by a route for these events, and what to write instead."""
        del events, loops
        return None

    def usual_replays(self, options: Options, proofs: Collection[str]) -> Replays | None:
        """What the table means where it does not say ``replays:``; None: nobody looks for them.

        `proofs` are the keys of those that every request must give.
        """
        del options, proofs
        return Replays.NOTE if self.replayable else None

    def item_identity(self, item: JSON) -> JSON:
        """What makes an item of a loop the same one when its webhook comes again."""
        return item


def discover(fetch: Fetch = fetch_nothing) -> dict[str, SourceType]:
    """Every type by its name: the one that each module of this folder defines, if it does."""
    types: dict[str, SourceType] = {}
    for module in iter_modules(__path__):
        name = f"{__name__}.{module.name}"
        for value in vars(import_module(name)).values():
            if isinstance(value, type) and issubclass(value, SourceType) and value.__module__ == name:
                types[value.name] = value(fetch)
    return types


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
    store_payload: Keep = Keep.FULL
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
        if self.store_payload is Keep.NONE or (self.store_payload is Keep.MATCHED and not made_jobs):
            return emptied(event)
        return redacted(event, self.redact) if self.redact else event

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


def read_json(request: Request) -> tuple[JSON, bytes]:
    """The payload of a JSON body and its bytes. Raises Unreadable."""
    return parse_json(request.body), request.body


def text_at(payload: JSON, *path: str) -> str | None:
    """The text at these keys of a payload; None where there is none, or an empty one."""
    for key in path:
        payload = payload.get(key) if isinstance(payload, dict) else None
    return payload if isinstance(payload, str) and payload else None
