"""Find the stored event of a webhook, and the first event with its body. Parts of a unit of work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select

from bridge.outbox import locks
from bridge.outbox.schema import events
from bridge.outbox.webhook import Webhook


@dataclass(frozen=True)
class KnownEvent:
    """The fields of a stored event that identify a webhook."""

    id: int
    delivery_id: str
    event: str
    action: str | None
    digest: bytes


_KNOWN = select(events.c.id, events.c.delivery_id, events.c.event, events.c.action, events.c.digest).where(
    events.c.source == bindparam("source")
)
# Locked, so that the second of two redeliveries sees the jobs of the first.
_BY_DELIVERY = _KNOWN.where(events.c.delivery_id == bindparam("delivery_id")).with_for_update()
_BY_FINGERPRINT = (
    _KNOWN.where(
        events.c.fingerprint == bindparam("fingerprint"),
        events.c.received_at.between(bindparam("earliest"), bindparam("latest")),
    )
    .order_by(events.c.received_at.desc())
    .limit(1)
    .with_for_update()
)
_BY_DIGEST = _KNOWN.where(events.c.digest == bindparam("digest")).order_by(events.c.id).limit(1)


def lock(connection: Connection, webhook: Webhook) -> None:
    """Wait until no other transaction holds the lock of the same fingerprint or body."""
    if webhook.fingerprint is not None:
        locks.lock(connection, "fingerprint", webhook.event.source, webhook.fingerprint)
    if webhook.replays is not None:
        locks.lock(connection, "digest", webhook.event.source, webhook.digest.hex())


def by_delivery(connection: Connection, source: str, delivery_id: str) -> KnownEvent | None:
    return _first(connection, _BY_DELIVERY, source=source, delivery_id=delivery_id)


def by_fingerprint(connection: Connection, webhook: Webhook) -> KnownEvent | None:
    """Return the event of the same fingerprint within the window."""
    event, window = webhook.event, webhook.window
    if webhook.fingerprint is None or window is None:
        return None
    return _first(
        connection,
        _BY_FINGERPRINT,
        source=event.source,
        fingerprint=webhook.fingerprint,
        earliest=event.received_at - window,
        latest=event.received_at + window,
    )


def by_digest(connection: Connection, webhook: Webhook) -> KnownEvent | None:
    """Return the first event of the same body, if the source detects replays. It may be the webhook's own."""
    if webhook.replays is None:
        return None
    return _first(connection, _BY_DIGEST, source=webhook.event.source, digest=webhook.digest)


def differs(known: KnownEvent, webhook: Webhook) -> bool:
    """Return whether the webhook is another one than the stored event."""
    if known.digest != webhook.digest:
        return True
    event = webhook.event
    # If the body defines the event's name, an edit of the table may have changed the name.
    return not webhook.has_event_in_body and (known.event, known.action) != (event.event, event.action)


def _first(connection: Connection, query: Select[Any], **wanted: object) -> KnownEvent | None:
    row = connection.execute(query, wanted).one_or_none()
    return None if row is None else KnownEvent(**row._mapping)
