"""A webhook as its sender makes it, for the commands that need one: source, URL and headers."""

from __future__ import annotations

import time
from urllib.parse import SplitResult, urlsplit

import click

from bridge.core.event import Headers, Request
from bridge.routing.routing_table import RoutingTable
from bridge.sources.base.source import Source

named_event = click.option("--event", help="Name the event, if the sender names it in a header.")


def find_source(table: RoutingTable, name: str) -> Source:
    """Return the source of this name. Raises click.BadParameter if the table has none."""
    if name not in table.sources:
        message = f"no source is named {name!r}; known: {', '.join(table.sources) or 'none'}"
        raise click.BadParameter(message, param_hint="--source")
    return table.sources[name]


def sender_request(source: Source, event: str | None, body: bytes) -> Request:
    """Return the webhook of this body and event, without its signature.

    `event` may be ``event.action``, as routes and lists show it. Raises Unreadable if the sender names its
    events in a header and `event` is None.
    """
    headers = source.type.headers_for(None if event is None else event.partition(".")[0])
    return Request(source.name, Headers(headers.items()), {}, body, time.time())


def hook_url(url: str, source: str) -> SplitResult:
    """Return the webhook's URL; `url` is that, or the address of the bridge. Raises BadParameter."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None  # the message does not quote it: it may hold a password
    if not host or parts.scheme not in ("http", "https"):
        raise click.BadParameter("expected an address such as https://bridge.example.org", param_hint="--url")
    if "@" in parts.netloc:
        raise click.BadParameter(
            "remove the user and password: they would replace the credential of the request",
            param_hint="--url",
        )
    path = parts.path if "/hooks/" in parts.path else f"{parts.path.rstrip('/')}/hooks/{source}"
    return parts._replace(path=path, fragment="")
