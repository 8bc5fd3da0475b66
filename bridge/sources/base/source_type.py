"""SourceType: the contract of one type of sender. A new type subclasses it in a file of bridge/sources/."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import ClassVar
from uuid import uuid4

from bridge.core.errors import NotSent, Unreadable
from bridge.core.event import JSON, Event, Request
from bridge.core.fields import Path
from bridge.core.secrets import Secret
from bridge.sources.base.bodies import JSON_TYPE, Body, JsonBody, read_body
from bridge.sources.base.event_mismatch import EventMatcher, Markers
from bridge.sources.base.guide import Guide
from bridge.sources.base.known_fields import FieldTree
from bridge.sources.base.proofs import HeaderToken, HmacSignature, Proof

#: The key for the payload fields of every event.
EVERY_EVENT = "*"

#: Return the body of the 200 that an https URL answers, within limits. Raises SendError.
Fetch = Callable[[str], bytes]


def fetch_nothing(url: str) -> bytes:
    """Stand in for Fetch where no request is verified, as in a command. Raises NotSent."""
    del url
    raise NotSent("nothing is fetched here")


class Replays(StrEnum):
    """What to do with an old body under a new delivery id."""

    #: Process the webhook, with a note on its event.
    NOTE = "note"
    #: Create no job.
    REFUSE = "refuse"


class AnswerForm(StrEnum):
    """The content of the answer to an authentic webhook."""

    IDS = "ids"
    #: Besides the ids, why there is no job, and a link to the event.
    VERDICT = "verdict"


@dataclass(frozen=True)
class Options:
    """Settings of a source that only some types have."""

    #: The header of ``token:``.
    header: str | None = None
    #: The fields with the names of the event, the action and the delivery.
    event: Path | None = None
    action: Path | None = None
    delivery_id: Path | None = None
    #: The format of the signature with ``secret:``.
    signature: HmacSignature | None = None

    def names(self, root: str) -> frozenset[str]:
        """Return the ``headers`` or ``query`` names that the paths read, in lower case."""
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
    #: Why the event cannot be read; its name is then empty.
    problem: str | None = None


class SourceType(ABC):
    """A type of sender. Required: `name`, `guide`, `proofs` and `read`."""

    #: Its name in the table.
    name: ClassVar[str]
    #: How to set it up.
    guide: ClassVar[Guide]
    #: How its sender can prove itself.
    proofs: ClassVar[tuple[Proof, ...]]
    #: The keys of proofs whose secrets the sender issues.
    sender_issued: ClassVar[tuple[str, ...]] = ()
    #: The header with the event's name.
    event_header: ClassVar[str | None] = None
    #: The header with the delivery id.
    id_header: ClassVar[str | None] = None
    #: The formats of the body.
    bodies: ClassVar[tuple[Body, ...]] = (JsonBody(),)
    #: Headers with a credential, besides those of `proofs`. They are removed from the event.
    credential_headers: ClassVar[tuple[str, ...]] = ()
    #: Payload fields with a credential, such as ``token`` or ``data.code``. They are removed from the event.
    credential_fields: ClassVar[tuple[str, ...]] = ()
    #: The Options that the table may set.
    options: ClassVar[tuple[str, ...]] = ()
    #: The format of a signature that the table may set and does not set.
    default_signature: ClassVar[HmacSignature | None] = None
    #: The signed text, if the table sets a `timestamp_header` only.
    default_signed_content: ClassVar[str] = "{ts}.{body}"
    #: Known events and the fields that their bodies must have. `check` warns about an unknown event.
    events: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: Those of `events` that only older releases of the sender send. The docs mark them.
    retired_events: ClassVar[tuple[str, ...]] = ()
    #: By event, its known actions. `check` warns about others.
    actions: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: More evidence for the event of a body, if the sender does not sign the event's name.
    markers: ClassVar[Markers | None] = None
    #: The payload fields of known events, or of EVERY_EVENT. `check` warns about an unknown field.
    fields: ClassVar[Mapping[str, FieldTree]] = {}
    #: Tests and confirmations, which match no route: the event, or event.action.
    setup_events: ClassVar[tuple[str, ...]] = ()
    #: Seconds in which the same webhook without an id is a duplicate.
    dedupe: ClassVar[float | None] = None
    #: Whether an old body can be replayed: the proof covers neither the delivery id nor the time.
    replayable: ClassVar[bool] = False
    #: Top-level payload fields that differ between attempts of one webhook.
    volatile_fields: ClassVar[tuple[str, ...]] = ()

    def __init__(self, fetch: Fetch = fetch_nothing) -> None:
        self.fetch = fetch

    @cached_property
    def event_matcher(self) -> EventMatcher:
        """Return the matcher that compares a body with the event that the request names."""
        return EventMatcher(self.events, self.markers)

    @property
    def example_event(self) -> str:
        """Return the event of the guide's route, or the first known one."""
        named = re.search(r"^\s*event: (\S.*)", self.guide.route, re.MULTILINE)
        return named[1].strip("\"' ") if named else next(iter(self.events), "event")

    @property
    def content_types(self) -> tuple[str, ...]:
        """Return the content types of `bodies`."""
        return tuple(dict.fromkeys(name for body in self.bodies for name in body.content_types))

    @abstractmethod
    def read(self, request: Request, payload: JSON) -> ParsedWebhook:
        """Return what the request says. `payload` has no `credential_fields`. Raises Unreadable."""

    def read_with(self, request: Request, payload: JSON, options: Options) -> ParsedWebhook:
        """Return the same for a type whose `options` name the fields to read."""
        del options
        return self.read(request, payload)

    def unreadable(self, expected: str) -> Unreadable:
        """Return the error for a body that lacks what every webhook of this type has."""
        return Unreadable(f"the body is not a webhook of type {self.name}: expected {expected}")

    def parse(self, request: Request) -> tuple[JSON, bytes]:
        """Return the payload and its JSON text. Raises Unreadable."""
        return read_body(request, self.bodies)

    def is_unsigned_test(self, request: Request) -> bool:
        """Return whether the headers are those of a test that the sender never signs. It is not stored."""
        del request
        return False

    def is_setup_event(self, event: Event) -> bool:
        """Return whether the event is a test or confirmation, which matches no route."""
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
                raise Unreadable(f"{message}: add --event and its name, such as {self.example_event!r}")
            headers[self.event_header] = event
        if self.id_header is not None:
            headers[self.id_header] = str(uuid4())
        return headers

    def proofs_with(self, options: Options) -> tuple[Proof, ...]:
        """Return the proofs with the header and the signature format of the options."""

        def configured(proof: Proof) -> Proof:
            if isinstance(proof, HeaderToken) and options.header is not None:
                return HeaderToken(options.header)
            if isinstance(proof, HmacSignature) and options.signature is not None:
                return options.signature
            return proof

        return tuple(map(configured, self.proofs))

    def route_warning(self, events: tuple[str, ...], *, loops: bool) -> tuple[str, str] | None:
        """Return a likely mistake in a route for these events and what to write instead, or None."""
        del events, loops
        return None

    def default_replays(self, options: Options, proofs: Collection[str]) -> Replays | None:
        """Return the default of ``replays:``; None means that replays are not detected.

        `proofs` are the keys of the proofs that every request must pass.
        """
        del options, proofs
        return Replays.NOTE if self.replayable else None

    def item_identity(self, item: JSON) -> JSON:
        """Return what identifies an item of a loop when the webhook is sent again."""
        return item


def required_headers(request: Request, *names: str) -> list[str]:
    """Return the values of these headers. Raises Unreadable if one is missing or empty."""
    missing = [name for name in names if not request.headers.get(name)]
    if missing:
        raise Unreadable(f"the request has no header {' and no '.join(missing)}")
    return [request.headers[name] for name in names]


def text_at(payload: JSON, *path: str) -> str | None:
    """Return the text at these keys of a payload; None if it is missing, empty or not text."""
    for key in path:
        payload = payload.get(key) if isinstance(payload, dict) else None
    return payload if isinstance(payload, str) and payload else None
