"""SourceType, the contract of one kind of sender: how it proves itself, and what its requests say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar
from uuid import uuid4

from bridge.core.errors import NotSent, Unreadable
from bridge.core.event import JSON, Event, Request
from bridge.core.fields import Path
from bridge.core.secrets import Secret
from bridge.sources.base.bodies import JSON_TYPE, Body, JsonBody, read_body
from bridge.sources.base.event_mismatch import Markers
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import FieldTree
from bridge.sources.base.proofs import HmacSignature, Proof

#: Among the fields of a type, those of whatever event.
EVERY_EVENT = "*"

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
class ParsedWebhook:
    """What a type reads from an authentic request. It has a delivery id or a fingerprint."""

    event: str
    action: str | None = None
    #: The sender's id of the webhook.
    delivery_id: str | None = None
    #: A hash that identifies a webhook without an id, within the source's `dedupe` window.
    fingerprint: str | None = None
    #: A URL that the bridge must fetch before the sender sends more.
    confirm_url: str | None = None


class SourceType(ABC):
    """One kind of sender."""

    #: As the table names it.
    name: ClassVar[str]
    #: What a user must know of it: a section of docs/sources.md.
    guide: ClassVar[Guide]
    #: The proofs that its sender can give.
    proofs: ClassVar[tuple[Proof, ...]]
    #: The keys of those whose secrets its sender gives out, so that nobody makes one up.
    sender_issued: ClassVar[tuple[str, ...]] = ()
    #: The header in which its sender names the event, where it does.
    event_header: ClassVar[str | None] = None
    #: The header with the delivery id.
    id_header: ClassVar[str | None] = None
    #: The shapes of body that its sender uses.
    bodies: ClassVar[tuple[Body, ...]] = (JsonBody(),)
    #: Headers with a signature or a credential besides those of `proofs`.
    credential_headers: ClassVar[tuple[str, ...]] = ()
    #: Keys at the top of its payloads that hold a credential: they are taken out.
    credential_fields: ClassVar[tuple[str, ...]] = ()
    #: The keys of Options that the table may set.
    options: ClassVar[tuple[str, ...]] = ()
    #: How ``secret:`` signs where its sender leaves that open and the table does not say it.
    default_signature: ClassVar[HmacSignature | None] = None
    #: What it signs where the table names a header with the time, and nothing more.
    default_signed_content: ClassVar[str] = "{ts}.{body}"
    #: Known events and the keys that their bodies must have (see recognition). Of another name `check` warns.
    events: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: What else tells their bodies apart, where the sender signs no event.
    markers: ClassVar[Markers | None] = None
    #: Of known events, or of EVERY_EVENT, the fields of the payload. Of another field `check` warns.
    fields: ClassVar[Mapping[str, FieldTree]] = {}
    #: Those that are tests or confirmations, which no route is asked about: the event, or event.action.
    setup_events: ClassVar[tuple[str, ...]] = ()
    #: How long, in seconds from the first sight, a webhook without an id counts as come again.
    dedupe: ClassVar[float | None] = None
    #: Whether an old body can come as a new webhook: its proof covers neither a delivery id nor the time.
    replayable: ClassVar[bool] = False
    #: Keys at the top of its payloads whose values differ each time that the same webhook is sent.
    volatile_fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, fetch: Fetch = fetch_nothing) -> None:
        self.fetch = fetch

    @property
    def content_types(self) -> tuple[str, ...]:
        """The content types of `bodies`."""
        return tuple(dict.fromkeys(name for body in self.bodies for name in body.content_types))

    @abstractmethod
    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        """Return what the request says. `payload` has no `credential_fields`. Raises Unreadable."""

    def read_with(self, request: Request, payload: JSON, options: Options) -> ParsedWebhook:
        """Do the same for a type whose names are in the fields that the table names."""
        del options
        return self.read(request, payload)

    def parse(self, request: Request) -> tuple[JSON, bytes]:
        """Return the payload and its JSON text. Raises Unreadable."""
        return read_body(request, self.bodies)

    def is_unsigned_test(self, request: Request) -> bool:
        """Whether it is a test that its sender never signs, told by its headers: answered, and not stored."""
        del request
        return False

    def is_setup_event(self, event: Event) -> bool:
        """Whether it is a test or confirmation, which no route is asked about."""
        return event.event in self.setup_events or event.full_name in self.setup_events

    def reply(self, event: Event, secrets: tuple[Secret, ...]) -> dict[str, JSON] | None:
        """Return the body of the 200 that the sender requires, or None if it accepts any 2xx.

        `secrets` are those that signed a setup event.
        """
        del event, secrets
        return None

    def headers_for(self, event: str | None) -> dict[str, str]:
        """Return the headers that the sender would send with this event, without those of its proofs.

        Raises Unreadable if the sender names the event in a header and `event` is None.
        """
        headers = {"Content-Type": JSON_TYPE}
        if self.event_header is not None:
            if event is None:
                message = f"{self.guide.title} names the event in the header {self.event_header}"
                raise Unreadable(f"{message}: add --event and its name")
            headers[self.event_header] = event
        if self.id_header is not None:
            headers[self.id_header] = str(uuid4())
        return headers

    def proofs_with(self, options: Options) -> tuple[Proof, ...]:
        """The proofs that its sender can give, under these options."""
        del options
        return self.proofs

    def route_warning(self, events: tuple[str, ...], *, loops: bool) -> tuple[str, str] | None:
        """What is likely not meant by a route for these events, and what to write instead."""
        del events, loops
        return None

    def default_replays(self, options: Options, proofs: Collection[str]) -> Replays | None:
        """What the table means where it does not say ``replays:``; None: nobody looks for them.

        `proofs` are the keys of those that every request must give.
        """
        del options, proofs
        return Replays.NOTE if self.replayable else None

    def item_identity(self, item: JSON) -> JSON:
        """What makes an item of a loop the same one when its webhook comes again."""
        return item


def required_headers(request: Request, *names: str) -> list[str]:
    """Return the values of these headers. Raises Unreadable if one is missing or empty."""
    missing = [name for name in names if not request.headers.get(name)]
    if missing:
        raise Unreadable(f"the request has no header {' and no '.join(missing)}")
    return [request.headers[name] for name in names]


def text_at(payload: JSON, *path: str) -> str | None:
    """The text at these keys of a payload; None where there is none, or an empty one."""
    for key in path:
        payload = payload.get(key) if isinstance(payload, dict) else None
    return payload if isinstance(payload, str) and payload else None
