"""Webhook, which the outbox stores, and StoredWebhook, the result."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import orjson

from bridge.core.event import Event
from bridge.core.job import JobState, NewJob
from bridge.core.metrics import OTHER_EVENT
from bridge.sources.base.source_type import Replays


@dataclass(frozen=True)
class Webhook:
    """An authentic webhook with the jobs that it creates."""

    event: Event
    #: Identifies the webhook if the sender sends no delivery id.
    fingerprint: str | None
    #: For how many seconds after its first webhook a fingerprint identifies the same one; None: never.
    window: float | None
    jobs: tuple[NewJob, ...]
    warnings: tuple[str, ...]
    #: SHA-256 of what the sender sent; see Source.digest.
    digest: bytes
    #: How to handle a known body under another delivery id; None: bodies are not compared.
    replays: Replays | None = None
    #: Whether the routing table defines the delivery id. Then the same id with another body is another
    #: webhook; with an id that the sender assigns it is the same one.
    has_chosen_id: bool = False
    #: Whether the body alone defines the event's name. Then the same body is the same event, even if the
    #: table names it otherwise now.
    has_event_in_body: bool = False
    #: The event's name in metrics, which have a limited number of names.
    event_label: str = OTHER_EVENT


@dataclass(frozen=True)
class StoredJob:
    """A job that a request created or set waiting."""

    id: int
    route: str
    task: str
    state: JobState


@dataclass(frozen=True)
class StoredWebhook:
    """The result of storing a webhook."""

    event_id: int
    #: Whether the event existed already.
    duplicate: bool
    jobs: tuple[StoredJob, ...]
    #: A remark on the request for a person.
    note: str | None = None
    #: Whether the webhook created no job because of `note`.
    is_refused: bool = False


def unique_delivery_id(event: Event, digest: bytes) -> str:
    """Return the stored delivery id of a webhook whose own belongs to another webhook."""
    return event.delivery_id + _suffix(event.event, event.action, digest)


def sender_delivery_id(stored: str, event: str, action: str | None, digest: bytes) -> str:
    """Return the delivery id that the sender sent, from the stored one."""
    return stored.removesuffix(_suffix(event, action, digest))


def _suffix(event: str, action: str | None, digest: bytes) -> str:
    """Return the same text for every delivery of one webhook."""
    return f"#{sha256(orjson.dumps([event, action]) + digest).hexdigest()[:12]}"
