"""The sender that a command stands in for: its source by name, its URL, the headers of its webhook."""

from __future__ import annotations

import time
from urllib.parse import SplitResult, urlsplit

import click

from bridge.core.event import Headers, Request
from bridge.routing.routing_table import RoutingTable
from bridge.sources.base.source import Source

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


def hook_url(url: str, source: str) -> SplitResult:
    """The webhook's URL: as it is given, or at the bridge of this address. Raises BadParameter."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None  # what is wrong is not shown: it may be a password
    if not host or parts.scheme not in ("http", "https"):
        raise click.BadParameter("expected an address such as https://bridge.example.org", param_hint="--url")
    if "@" in parts.netloc:
        raise click.BadParameter(
            "a user or password in it would take the place of a proof", param_hint="--url"
        )
    path = parts.path if "/hooks/" in parts.path else f"{parts.path.rstrip('/')}/hooks/{source}"
    return parts._replace(path=path, fragment="")
