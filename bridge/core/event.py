"""Request, the raw facts of one POST, and Event, an authentic, parsed request; pure."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar, overload

T = TypeVar("T")

#: A value as orjson parses it: None, bool, int, float, str, list or dict.
JSON = Any


class Headers(Mapping[str, str]):
    """Header values by name, in any case. Read only."""

    __slots__ = ("_values",)

    def __init__(self, values: Iterable[tuple[str, str]] = ()) -> None:
        self._values = {name.lower(): value for name, value in values}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    # The base class raises and catches a KeyError for each header that is absent.
    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: str | T) -> str | T: ...
    def get(self, name: str, /, default: str | T | None = None) -> str | T | None:
        return self._values.get(name.lower(), default)

    def items(self) -> ItemsView[str, str]:
        """Return pairs of a name in lower case and its value."""
        return self._values.items()

    def without(self, names: Iterable[str]) -> Headers:
        """Return the headers except those of these names."""
        removed = {name.lower() for name in names}
        return Headers((name, value) for name, value in self._values.items() if name not in removed)


def rfc3339(seconds: float) -> str:
    """Format seconds since the epoch as RFC 3339 in UTC, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def full_name(event: str, action: str | None) -> str:
    """Return ``event.action``, or the event if it has no action; ``null`` if the event has no name."""
    return f"{event}.{action}" if action else event or "null"


@dataclass(frozen=True)
class Request:
    """The raw facts of one request."""

    #: The last part of the URL: the name of a source.
    source: str
    headers: Headers
    #: The last value of each parameter.
    query: Mapping[str, str]
    #: The bytes that signatures are computed over.
    body: bytes
    #: Seconds since the epoch.
    received_at: float
    #: The client's IP address; empty if unknown.
    client: str = ""
    method: str = "POST"
    #: The JSON value of a body that was parsed. Copies of a request share it: a signature inside the body
    #: needs the value before the source reads the body.
    parsed: dict[bytes, JSON] = field(default_factory=dict, repr=False, compare=False, kw_only=True)

    def with_body(self, body: bytes) -> Request:
        """Return the request with its body."""
        return Request(
            self.source, self.headers, self.query, body, self.received_at, self.client, parsed=self.parsed
        )


@dataclass(frozen=True)
class Event:
    """One authentic, parsed request."""

    source: str
    #: The sender's name of the event, such as ``push``; empty if it cannot be read.
    event: str
    #: Its sub-type, such as ``opened``, if the sender has one.
    action: str | None
    #: The sender's id of the webhook.
    delivery_id: str
    #: Without credentials and signatures.
    headers: Headers
    #: Without ``token``.
    query: Mapping[str, str]
    payload: JSON
    #: Seconds since the epoch.
    received_at: float
    #: The payload as JSON text, as it is stored.
    body: bytes = field(repr=False, default=b"")

    @property
    def full_name(self) -> str:
        """``event.action``, or the event if it has no action."""
        return full_name(self.event, self.action)

    @cached_property
    def scope(self) -> dict[str, JSON]:
        """The variables of paths and expressions, by name."""
        return {
            "payload": self.payload,
            "headers": self.headers,
            "query": self.query,
            "event": self.event or None,
            "action": self.action,
            "source": self.source,
            "delivery_id": self.delivery_id,
            "received_at": rfc3339(self.received_at),
        }
