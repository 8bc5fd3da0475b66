"""`tests`: their shapes, and from these to RoutingTests."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, PlainValidator, WithJsonSchema

from bridge.config.arguments import ArgumentsBuilder
from bridge.config.document import Empty, Items, Node, Scalar, Section
from bridge.config.problems import Problems, guess
from bridge.config.readers import Arguments, Text, Title, found, read_section, read_text, refuse
from bridge.config.shapes import Shape
from bridge.errors import Unreadable
from bridge.event import JSON, Headers, Request
from bridge.payload import parse_json
from bridge.problem import Place
from bridge.route import Route
from bridge.routing_test import ExpectedJob, RoutingTest
from bridge.sources import Source

#: When a webhook of a test is received that does not say it.
_RECEIVED_AT = 0.0

_WORDS = {"true": True, "false": False, "null": None}
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")


def read_texts(value: Any) -> Section:
    section = read_section(value)
    for key, inner in section.items():
        if not isinstance(inner, Scalar):
            refuse(f"{key}: found {found(inner)}, expected text", at=inner.place)
    return section


def read_time(value: Any) -> float:
    text = read_text(value)
    if isinstance(text, Empty):
        return _RECEIVED_AT
    try:
        time = datetime.fromisoformat(text)
        seconds = time.timestamp() if time.tzinfo is not None else None
    except (ValueError, OverflowError):
        seconds = None
    if seconds is None:
        refuse(f"found {found(value)}, expected a time such as 2026-01-31T12:00:00Z")
    return seconds


def read_payload(value: Any) -> Node:
    """A file's name, or the payload itself."""
    if isinstance(value, Scalar) and not value.strip() and not isinstance(value, Empty):
        refuse("found blank text, expected the name of a file, or the payload itself")
    node: Node = value
    return node


def read_json(node: Node) -> JSON:
    """What stands there as data: without quotes true, false, null and numbers are those values."""
    if isinstance(node, Items):
        return [read_json(item) for item in node]
    if isinstance(node, Section):
        return {str(key): read_json(inner) for key, inner in node.items()}
    if node.plain and node in _WORDS:
        return _WORDS[node]
    if node.plain and _NUMBER.fullmatch(node):
        with suppress(orjson.JSONDecodeError):  # one that no JSON holds is text
            return orjson.loads(str(node))
    return str(node)


def read_list(value: Any) -> Any:
    if isinstance(value, Empty):
        return ()
    if not isinstance(value, Items):
        refuse(f"found {found(value)}, expected a list of jobs", "[] where it makes none")
    return value


_SCALAR = {"type": ["string", "number", "boolean"]}
Texts = Annotated[
    Section, PlainValidator(read_texts), WithJsonSchema({"type": "object", "additionalProperties": _SCALAR})
]
Time = Annotated[float | None, PlainValidator(read_time), WithJsonSchema({"type": "string"})]
Payload = Annotated[
    Scalar | Section | Items,
    PlainValidator(read_payload),
    WithJsonSchema({"type": ["string", "number", "boolean", "object", "array"]}),
]


class ExpectedShape(Shape):
    """An expected job."""

    route: Title
    """The name of the route that creates the job."""
    task_arguments: Arguments | None = None
    """The expected arguments, as a list in TheEye's order or a mapping by name. Default: not compared."""
    error: Text | None = None
    """A part of the error, if the arguments cannot be built."""


class RoutingTestShape(Shape):
    """A test of the routing table."""

    name: Title
    """A unique name."""
    source: Text
    """A name under sources."""
    event: Text | None = None
    """The event or event.action, if the sender names the event in a header."""
    headers: Texts | None = None
    """Headers to add to those of the source's type."""
    query: Texts | None = None
    """Query parameters of the URL."""
    delivery_id: Text | None = None
    """A delivery id instead of the sender's."""
    received_at: Time = None
    """When the webhook arrives, such as 2026-01-31T12:00:00Z. Default: 1970-01-01T00:00:00Z"""
    payload: Payload
    """A JSON file, relative to the folder of this YAML file, or the payload itself."""
    expect: Annotated[tuple[ExpectedShape, ...], BeforeValidator(read_list)]
    """The jobs that the table creates, in order; [] for none."""


class RoutingTestBuilder:
    """Takes the tests of one table one after the other; mistakes are reported and passed over."""

    def __init__(self, arguments: ArgumentsBuilder, problems: Problems, *, read_payloads: bool) -> None:
        """Without `read_payloads` no test is kept."""
        self._arguments = arguments
        self._problems = problems
        self._read_payloads = read_payloads
        self._names: dict[str, Place] = {}
        self.tests: list[RoutingTest] = []

    def add(
        self, place: Place, shape: RoutingTestShape, source: Source | None, routes: Mapping[str, Route]
    ) -> None:
        """`source` and `routes` as far as they could be built."""
        self._check_name(shape.name)
        if source is not None:
            self._check_event(place, shape, source)
        expected = [self._expected(job, routes) for job in shape.expect]
        body = self._body(shape.payload) if self._read_payloads else None
        if body is None:
            return
        headers, query = (
            {str(name): str(value) for name, value in (given or {}).items()}
            for given in (shape.headers, shape.query)
        )
        request = Request(
            str(shape.source), Headers(headers.items()), query, body, shape.received_at or _RECEIVED_AT
        )
        event = None if shape.event is None else str(shape.event)
        delivery_id = None if shape.delivery_id is None else str(shape.delivery_id)
        test = RoutingTest(str(shape.name), place, request, event, delivery_id, tuple(expected))
        self.tests.append(test)

    def check_route(self, name: Scalar, known: Collection[str]) -> None:
        """Report a route that the table does not have."""
        if not isinstance(name, Empty) and name not in known:
            guessed, listed = guess(name, known)
            self._problems.error(name.place, f"unknown route {found(name)}{guessed}", f"routes: {listed}")

    def _check_name(self, name: Title) -> None:
        if isinstance(name, Empty):
            return
        first = self._names.setdefault(str(name), name.place)
        if first is not name.place:
            message = f"two tests are named {str(name)!r}; the first at {first}"
            self._problems.error(name.place, message, "give one another name:")

    def _check_event(self, place: Place, shape: RoutingTestShape, source: Source) -> None:
        header = source.type.event_header
        if shape.event is not None or any(
            header and name.lower() == header.lower() for name in shape.headers or ()
        ):
            return
        try:
            source.type.headers_for(None)
        except Unreadable:
            message = f"event is missing: {source.type.name} says it in a header"
            self._problems.error(place, message, "write event: and its name, such as push")

    def _expected(self, shape: ExpectedShape, routes: Mapping[str, Route]) -> ExpectedJob:
        if shape.error is not None and shape.task_arguments is not None:
            message = "error stands beside task_arguments: a job whose arguments cannot be built has none"
            self._problems.error(shape.error.place, message, "leave one of them out")
        arguments = None
        if shape.route in routes and isinstance(shape.task_arguments, Items | Section):
            task = routes[shape.route].task
            arguments = self._arguments.expected(shape.task_arguments, task, read_json)
        return ExpectedJob(str(shape.route), arguments, None if shape.error is None else str(shape.error))

    def _body(self, payload: Node) -> bytes | None:
        """The payload as JSON text; None, reported, where it cannot be read."""
        if isinstance(payload, Empty):
            return None
        if not isinstance(payload, Scalar):
            return orjson.dumps(read_json(payload))
        folder = Path(payload.place.file).parent
        path = folder / payload
        try:
            if not path.resolve().is_relative_to(folder.resolve()):
                message = f"payload: {found(payload)} is outside of the table's folder"
                self._problems.error(payload.place, message, "put the file beside the one that names it")
                return None
            body = path.read_bytes()
            parse_json(body)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no name of a file"
            self._problems.error(
                payload.place, f"payload: {found(payload)} cannot be read: {reason}",
                f"it is looked for in {folder}",
            )  # fmt: skip
            return None
        except Unreadable as error:
            self._problems.error(payload.place, f"payload: {found(payload)}: {error}")
            return None
        return body
