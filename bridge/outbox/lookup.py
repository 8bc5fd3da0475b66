"""Find the stored event of a webhook, and the first event with its body. Parts of a unit of work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select, true

from bridge.outbox.schema import events
from bridge.outbox.statement import ForRows, Given, Statement
from bridge.outbox.webhook import Webhook


@dataclass(frozen=True)
class KnownEvent:
    """The fields of a stored event that identify a webhook."""

    id: int
    source: str
    delivery_id: str
    event: str
    action: str | None
    digest: bytes


_KNOWN = select(
    events.c.id, events.c.source, events.c.delivery_id, events.c.event, events.c.action, events.c.digest
)
_OF_SOURCE = _KNOWN.where(events.c.source == bindparam("source"))
# Locked, so that the second of two redeliveries sees the jobs of the first.
_BY_DELIVERY = Statement(_OF_SOURCE.where(events.c.delivery_id == bindparam("delivery_id")).with_for_update())
_BY_FINGERPRINT = Statement(
    _OF_SOURCE.where(
        events.c.fingerprint == bindparam("fingerprint"),
        events.c.received_at.between(bindparam("earliest"), bindparam("latest")),
    )
    .order_by(events.c.received_at.desc())
    .limit(1)
    .with_for_update()
)


def _first_of_digest(dialect: str, given: Given) -> Select[Any]:
    of_digest = _KNOWN.where(events.c.source == given["source"], events.c.digest == given["digest"])
    first = of_digest.order_by(events.c.id).limit(1)
    if dialect == "sqlite":
        return first
    lateral = first.lateral("first")
    return select(lateral).select_from(given["source"].table.join(lateral, true()))


_BY_DIGEST = ForRows({"source": events.c.source, "digest": events.c.digest}, _first_of_digest)


def lock_names(webhook: Webhook) -> Iterable[tuple[str, ...]]:
    """Return the names of the locks of the webhook's fingerprint and body."""
    if webhook.fingerprint is not None:
        yield "fingerprint", webhook.event.source, webhook.fingerprint
    if webhook.replays is not None:
        yield "digest", webhook.event.source, webhook.digest.hex()


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


def by_digest(connection: Connection, webhooks: Iterable[Webhook]) -> dict[tuple[str, bytes], KnownEvent]:
    """Return the first event of each body, by source and digest, where the source detects replays.

    It may be the webhook's own.
    """
    keys = {(each.event.source, each.digest) for each in webhooks if each.replays is not None}
    rows = _BY_DIGEST.rows_for(connection, [{"source": source, "digest": digest} for source, digest in keys])
    return {(row.source, row.digest): KnownEvent(*row) for row in rows}


def differs(known: KnownEvent, webhook: Webhook) -> bool:
    """Return whether the webhook is another one than the stored event."""
    if known.digest != webhook.digest:
        return True
    event = webhook.event
    # If the body defines the event's name, an edit of the table may have changed the name.
    return not webhook.has_event_in_body and (known.event, known.action) != (event.event, event.action)


def _first(connection: Connection, query: Statement, **wanted: object) -> KnownEvent | None:
    row = query.first(connection, wanted)
    return None if row is None else KnownEvent(*row)
