"""The sender that a command stands in for: the source by its name, and the headers of its webhook."""

from __future__ import annotations

import time

import click

from bridge.event import Headers, Request
from bridge.sources import Source
from bridge.table import RoutingTable

named_event = click.option("--event", help="The event, where its sender says it in a header, such as push.")


def find_source(table: RoutingTable, name: str) -> Source:
    """The source of this name. Raises click.BadParameter where the table has none."""
    if name not in table.sources:
        message = f"no source is named {name!r}; there are: {', '.join(table.sources) or 'none'}"
        raise click.BadParameter(message, param_hint="--source")
    return table.sources[name]


def sender_request(source: Source, event: str | None, body: bytes) -> Request:
    """The webhook with this body that tells this event, without its proofs.

    `event` may be written ``event.action``, as routes and lists show it. Raises Unreadable where the
    sender names its events in a header and none is given.
    """
    headers = source.type.headers_for(None if event is None else event.partition(".")[0])
    return Request(source.name, Headers(headers.items()), {}, body, time.time())
