"""A webhook as its sender makes it, for the commands that need one: source, URL and headers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any
from urllib.parse import SplitResult, urlsplit

import click

from bridge.cli.terminal import Terminal
from bridge.config.problems import guess
from bridge.core.event import Headers, Request
from bridge.routing.routing_table import RoutingTable
from bridge.sources.base.sample import completed, unknown_event
from bridge.sources.base.source import Source

#: A header's name and value: https://www.rfc-editor.org/rfc/rfc9110#section-5.5
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+=[\t\x20-\x7e\xa0-\xff]*")


@dataclass(frozen=True)
class Sent:
    """The parts of a webhook besides its body, as the options give them."""

    event: str | None
    headers: tuple[tuple[str, str], ...]
    query: dict[str, str]

    def __bool__(self) -> bool:
        return self.event is not None or bool(self.headers or self.query)

    def request(self, source: Source, body: bytes, terminal: Terminal) -> Request:
        """Return the webhook without its proofs, with what its sender would add. Warns of an unknown event.

        Raises Unreadable if the sender names the event outside of the body, and no option does.
        """
        given = Request(source.name, Headers(self.headers), self.query, body, time.time())
        request = completed(source, self.event, given)
        warning = None if self.event is None else unknown_event(source.type, self.event)
        if warning is not None:
            terminal.warn(f"warning: {warning}")
        return request


def _pairs(
    _context: click.Context, option: click.Parameter, texts: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    for text in texts:
        is_header = "--header" in option.opts
        if not (_HEADER.fullmatch(text) if is_header else text.partition("=")[0] and "=" in text):
            example = "X-Shop-Topic=orders/create" if is_header else "team=ops"
            raise click.BadParameter(f"expected NAME=VALUE, such as {example}")
    return tuple((name, value) for name, _, value in (text.partition("=") for text in texts))


def sent_webhook(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command a `sent`, from --event, --header and --query."""

    @wraps(command)
    def gather(*arguments: Any, event: str | None, headers: Any, query: Any, **options: Any) -> None:
        command(*arguments, sent=Sent(event, headers, dict(query)), **options)

    add_query = click.option(
        "--query", metavar="NAME=VALUE", multiple=True, callback=_pairs,
        help="Add a parameter of the URL. Repeatable.",
    )  # fmt: skip
    add_header = click.option(
        "--header", "headers", metavar="NAME=VALUE", multiple=True, callback=_pairs,
        help="Add a header. Repeatable.",
    )  # fmt: skip
    name_event = click.option("--event", help="Name the event, if the body does not name it.")
    return name_event(add_header(add_query(gather)))


def find_source(table: RoutingTable, name: str) -> Source:
    """Return the source of this name. Raises click.BadParameter if the table has none."""
    if name not in table.sources:
        meant, known = guess(name, table.sources)
        message = f"no source is named {name!r}{meant}; known: {known}"
        raise click.BadParameter(message, param_hint="--source")
    return table.sources[name]


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
