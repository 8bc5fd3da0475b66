"""Call, one request of the API, with the parameters and keys that the OpenAPI file declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from flask import Request
from gunicorn.http.errors import ParseException

from bridge.core.errors import quoted
from bridge.core.event import JSON
from bridge.core.suggestions import did_you_mean
from bridge.outbox.audit import Action
from bridge.process.api_tokens import ApiToken
from bridge.web.query import BadQuery, Query, is_storable


@dataclass(frozen=True)
class Call:
    """A request of the API."""

    path: str
    #: Its parameters, and the keys of its JSON body.
    query: Query
    token: ApiToken

    @property
    def limit(self) -> int:
        """The most rows of the answer."""
        return self.query.number("limit") or 50

    def next_url(self, **place: int | None) -> str | None:
        """Return the URL of the list's next page, which begins at `place`; None on the last page."""
        return None if None in place.values() else self.query.url(self.path, **place)

    def action(self, name: str, target: Mapping[str, JSON]) -> Action:
        """Return the action for the audit."""
        return Action(self.token.name, None, name, target, 1, self.query.get("reason"))


def read_call(request: Request, declared: Mapping[str, Any], token: ApiToken) -> Call:
    """Read a request of an operation that the OpenAPI file declares. Raises BadQuery."""
    shapes = {each["name"]: each["schema"] for each in declared["parameters"] if each["in"] == "query"}
    # A list fails as any other value that is not text.
    given: dict[str, JSON] = {key: each if each[1:] else each[0] for key, each in request.args.lists()}
    given |= _object(request)
    if "requestBody" in declared:
        body = declared["requestBody"]["content"]["application/json"]["schema"]
        shapes |= body["properties"]
        given = {**dict.fromkeys(body.get("required", ())), **given}
    return Call(request.path, Query({key: _text(key, each, shapes) for key, each in given.items()}), token)


def _object(request: Request) -> dict[str, JSON]:
    try:
        body = orjson.loads(request.get_data() or b"{}")
    except (ParseException, orjson.JSONDecodeError):  # the first: of invalid chunks
        raise BadQuery("the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise BadQuery("the body is not an object")
    return body


def _text(key: str, value: JSON, shapes: Mapping[str, Any]) -> str:
    """Return a value if it is text that fits its JSON Schema. Raises BadQuery."""
    if key not in shapes:
        known = ", ".join(shapes) or "none"
        raise BadQuery(f"{quoted(key)} is unknown; expected {known}{did_you_mean(key, shapes)}")
    shape = shapes[key]
    longest = shape.get("maxLength", 1000)
    if not isinstance(value, str) or not 0 < len(value) <= longest or not is_storable(value):
        raise BadQuery(
            f"{key} must be one text of 1 to {longest:,} characters, without NUL and lone surrogates"
        )
    if value not in shape.get("enum", [value]):
        raise BadQuery(f"{key} must be one of {', '.join(shape['enum'])}, got {quoted(value)}")
    if shape["type"] == "integer":
        low, high = shape["minimum"], shape["maximum"]
        if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
            raise BadQuery(f"{key} must be a number from {low} to {high}, got {quoted(value)}")
    return value
