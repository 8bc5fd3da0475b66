"""`tests`: their models, and the RoutingTests built from these."""

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
from bridge.config.compile import WORDS
from bridge.config.document import Invalid, Items, Node, Scalar, Section
from bridge.config.models import Model
from bridge.config.problems import Problems, guess
from bridge.config.readers import Arguments, Text, Title, describe, read_section, read_text, reject
from bridge.core.errors import Unreadable
from bridge.core.event import JSON, Headers, Request
from bridge.core.exact_json import dumps, loads
from bridge.core.payload import parse_json
from bridge.core.problem import Place
from bridge.dry_run.routing_test import ExpectedJob, RoutingTest
from bridge.routing.route import Route
from bridge.sources.base.sample import completed
from bridge.sources.base.source import Source

#: The default of `received_at`.
_RECEIVED_AT = 0.0

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")


def read_texts(value: Any) -> Section:
    section = read_section(value)
    for key, inner in section.items():
        if not isinstance(inner, Scalar):
            reject(f"{key}: found {describe(inner)}, expected text", at=inner.place)
    return section


def read_time(value: Any) -> float:
    text = read_text(value)
    if isinstance(text, Invalid):
        return _RECEIVED_AT
    try:
        time = datetime.fromisoformat(text)
        seconds = time.timestamp() if time.tzinfo is not None else None
    except (ValueError, OverflowError):
        seconds = None
    if seconds is None:
        reject(f"found {describe(value)}, expected a time such as 2026-01-31T12:00:00Z")
    return seconds


def read_payload(value: Any) -> Node:
    """Read a file's name, or the payload itself."""
    if isinstance(value, Scalar) and not value.strip() and not isinstance(value, Invalid):
        reject("found blank text, expected the name of a file, or the payload itself")
    node: Node = value
    return node


def read_json(node: Node) -> JSON:
    """Return the value as JSON. Without quotes, true, false, null and numbers are those values."""
    if isinstance(node, Items):
        return [read_json(item) for item in node]
    if isinstance(node, Section):
        return {str(key): read_json(inner) for key, inner in node.items()}
    if node.plain and node in WORDS:
        return WORDS[node]
    if node.plain and _NUMBER.fullmatch(node):
        with suppress(orjson.JSONDecodeError):  # a number that JSON does not allow is text
            return loads(str(node).encode())
    return str(node)


def read_list(value: Any) -> Any:
    if isinstance(value, Invalid):
        return ()
    if not isinstance(value, Items):
        reject(
            f"found {describe(value)}, expected a list of jobs",
            "write expect: [{route: a}], or [] if it creates no job",
        )
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


class ExpectedJobModel(Model):
    """An expected job."""

    route: Title
    """The name of the route that creates the job."""
    task_arguments: Arguments | None = None
    """The expected arguments, as a list in TheEye's order or a mapping by name. Default: not compared."""
    error: Text | None = None
    """A part of the error, if the arguments cannot be built."""


class RoutingTestModel(Model):
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
    expect: Annotated[tuple[ExpectedJobModel, ...], BeforeValidator(read_list)]
    """The jobs that the table creates, in order; [] for none."""


class RoutingTestBuilder:
    """Build the tests of one table. Mistakes are reported and skipped."""

    def __init__(self, arguments: ArgumentsBuilder, problems: Problems, *, read_payloads: bool) -> None:
        """Without `read_payloads`, `tests` stays empty."""
        self._arguments = arguments
        self._error = problems.error
        self._read_payloads = read_payloads
        self._names: dict[str, Place] = {}
        self.tests: list[RoutingTest] = []

    def add(
        self, place: Place, model: RoutingTestModel, source: Source | None, routes: Mapping[str, Route]
    ) -> None:
        """Add a test. `source` and `routes` are those that could be built."""
        self._check_name(model.name)
        if source is not None:
            self._check_event(place, model, source)
        expected = [self._expected(job, routes) for job in model.expect]
        body = self._body(model.payload) if self._read_payloads else None
        if body is None:
            return
        headers, query = _texts(model.headers), _texts(model.query)
        request = Request(
            str(model.source), Headers(headers.items()), query, body, model.received_at or _RECEIVED_AT
        )
        event = None if model.event is None else str(model.event)
        delivery_id = None if model.delivery_id is None else str(model.delivery_id)
        test = RoutingTest(str(model.name), place, request, event, delivery_id, tuple(expected))
        self.tests.append(test)

    def check_route(self, name: Scalar, known: Collection[str]) -> None:
        """Report an unknown route."""
        if not isinstance(name, Invalid) and name not in known:
            guessed, listed = guess(name, known)
            self._error(name.place, f"unknown route {describe(name)}{guessed}", f"routes: {listed}")

    def _check_name(self, name: Title) -> None:
        if isinstance(name, Invalid):
            return
        first = self._names.setdefault(str(name), name.place)
        if first is not name.place:
            message = f"two tests are named {str(name)!r}; the first at {first}"
            self._error(name.place, message, "change one of the names")

    def _check_event(self, place: Place, model: RoutingTestModel, source: Source) -> None:
        if model.event is not None:
            return
        headers, query = _texts(model.headers), _texts(model.query)
        try:
            completed(source, None, Request(source.name, Headers(headers.items()), query, b"", _RECEIVED_AT))
        except Unreadable:
            message = f"event is required: the body of {source.type.name} does not name the event"
            hint = f"write event: and its name, such as {source.type.example_event}"
            self._error(place, message, hint)

    def _expected(self, model: ExpectedJobModel, routes: Mapping[str, Route]) -> ExpectedJob:
        if model.error is not None and model.task_arguments is not None:
            message = "error and task_arguments exclude each other: with an error, a job has no arguments"
            self._error(model.error.place, message, "remove one of them")
        arguments = None
        if model.route in routes and isinstance(model.task_arguments, Items | Section):
            task = routes[model.route].task
            arguments = self._arguments.expected(model.task_arguments, task, read_json)
        return ExpectedJob(str(model.route), arguments, None if model.error is None else str(model.error))

    def _body(self, payload: Node) -> bytes | None:
        """Return the payload as JSON text, or None if it cannot be read, which is reported."""
        if isinstance(payload, Invalid):
            return None
        if not isinstance(payload, Scalar):
            return dumps(read_json(payload))
        folder = Path(payload.place.file).parent
        path = folder / payload
        try:
            if not path.resolve().is_relative_to(folder.resolve()):
                message = f"payload: {describe(payload)} is outside of the table's folder"
                self._error(payload.place, message, "put the file into the folder of this YAML file")
                return None
            body = path.read_bytes()
            parse_json(body)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a file's name"
            hint = f"the path is relative to {folder}"
            if payload.startswith(("{", "[")):
                hint = "write the payload as a mapping, without quotes around it, or the name of a file"
            message = f"payload: {describe(payload)} cannot be read: {reason}"
            self._error(payload.place, message, hint)
            return None
        except Unreadable as error:
            self._error(payload.place, f"payload: {describe(payload)}: {error}")
            return None
        return body


def _texts(given: Texts | None) -> dict[str, str]:
    return {str(name): str(value) for name, value in (given or {}).items()}
