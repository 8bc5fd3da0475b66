"""The sender that a command stands in for: the source by its name, and the headers of its webhook."""

from __future__ import annotations

import click

from bridge.sources import Source
from bridge.table import RoutingTable

named_event = click.option("--event", help="The event, where its sender says it in a header, such as push.")


def find_source(table: RoutingTable, name: str) -> Source:
    """The source of this name. Raises click.BadParameter where the table has none."""
    if name not in table.sources:
        message = f"no source is named {name!r}; there are: {', '.join(table.sources) or 'none'}"
        raise click.BadParameter(message, param_hint="--source")
    return table.sources[name]


def sender_headers(source: Source, event: str | None) -> dict[str, str]:
    """The headers, besides those of its proofs, of a webhook that tells this event.

    `event` may be written ``event.action``, as routes and lists show it. Raises Unreadable where the
    sender names its events in a header and none is given.
    """
    return source.type.headers_for(None if event is None else event.partition(".")[0])
