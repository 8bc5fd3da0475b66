"""Test whether the store can be written, with a webhook's worth of bytes: a unit of work."""

from __future__ import annotations

import os
import time
from uuid import uuid4

from sqlalchemy import Connection, delete, insert

from bridge.core.event import Event, Headers
from bridge.outbox.row_mapping import event_row
from bridge.outbox.schema import events
from bridge.outbox.webhook import Webhook

#: Large enough that the database needs new pages from the disk.
SIZE_BYTES = 16 * 1024


def run(connection: Connection) -> None:
    """Store an event, and delete it in the same transaction."""
    # Random bytes cannot be compressed.
    event = Event("", "", None, uuid4().hex, Headers(), {}, None, time.time(), os.urandom(SIZE_BYTES))
    made = insert(events).returning(events.c.id)
    event_id = connection.execute(made, event_row(Webhook(event, None, None, (), (), b""))).scalar_one()
    connection.execute(delete(events).where(events.c.id == event_id))
