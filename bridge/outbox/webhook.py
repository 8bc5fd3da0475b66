"""Webhook, what is stored of one, and Stored, what storing it came to."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import orjson

from bridge.core.event import Event
from bridge.core.job import JobState, NewJob
from bridge.sources.base.source_type import Replays


@dataclass(frozen=True)
class Webhook:
    """What is stored of one webhook."""

    event: Event
    #: Stands for the delivery id where the sender has none.
    fingerprint: str | None
    #: How long from its first sight a fingerprint counts as the same webhook, seconds; None: never.
    window: float | None
    jobs: tuple[NewJob, ...]
    warnings: tuple[str, ...]
    #: SHA-256 of what the sender sent; see Source.digest.
    digest: bytes
    #: What becomes of a body that came before under another delivery id; None: it is not looked for.
    replays: Replays | None = None
    #: Whether the routing table says where the delivery id is found. Then the same id with another body is
    #: another webhook; an id that the sender assigns means the same one.
    has_chosen_id: bool = False
    #: Whether the body alone names the event: the same body is then the same event, whatever its name is now.
    has_event_in_body: bool = False


@dataclass(frozen=True)
class StoredJob:
    """A job that a request made or set waiting."""

    id: int
    route: str
    task: str
    state: JobState


@dataclass(frozen=True)
class Stored:
    """What storing a webhook came to."""

    event_id: int
    #: Whether the event was there already.
    duplicate: bool
    jobs: tuple[StoredJob, ...]
    #: What is odd about the request, for a person.
    note: str | None = None
    #: Whether that is why it made no job.
    is_refused: bool = False


def own_id(event: Event, digest: bytes) -> str:
    """The delivery id under which a webhook is stored whose chosen one is another webhook's."""
    return event.delivery_id + _mark(event.event, event.action, digest)


def chosen_id(delivery_id: str, event: str, action: str | None, digest: bytes) -> str:
    """The delivery id as the sender sent it, of a stored one."""
    return delivery_id.removesuffix(_mark(event, action, digest))


def _mark(event: str, action: str | None, digest: bytes) -> str:
    """The same each time that the same webhook comes."""
    return f"#{sha256(orjson.dumps([event, action]) + digest).hexdigest()[:12]}"
