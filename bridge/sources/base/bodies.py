"""Formats of a request's body: JSON or a form. Pure.

No sender signs Content-Type, so no body fits two formats: signed JSON cannot be replayed as a form, nor a
form as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import orjson

from bridge.core.errors import Unreadable
from bridge.core.event import JSON, Headers, Request
from bridge.core.payload import parse_form, parse_json

JSON_TYPE = "application/json"
FORM_TYPE = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class JsonBody:
    """JSON."""

    content_types: tuple[str, ...] = (JSON_TYPE,)

    def __str__(self) -> str:
        return f"JSON ({' or '.join(f'`{name}`' for name in self.content_types)})"


@dataclass(frozen=True)
class JsonForm:
    """A form whose only field contains JSON."""

    field: str

    content_types: ClassVar[tuple[str, ...]] = (FORM_TYPE,)
    max_fields: ClassVar[int] = 1

    def __str__(self) -> str:
        return f"a form with the single field `{self.field}`"

    def fits(self, fields: Mapping[str, str]) -> bool:
        """Return whether a form with these fields has this format."""
        return fields.keys() == {self.field}

    def text(self, fields: Mapping[str, str]) -> bytes:
        """Return the payload as JSON text."""
        return fields[self.field].encode()


@dataclass(frozen=True)
class FieldsForm:
    """A form whose fields are the payload."""

    #: Fields that the form must have. It may have others.
    required: tuple[str, ...]
    max_fields: int

    content_types: ClassVar[tuple[str, ...]] = (FORM_TYPE,)

    def __str__(self) -> str:
        names = ", ".join(f"`{name}`" for name in self.required)
        return f"a form that has {names}"

    def fits(self, fields: Mapping[str, str]) -> bool:
        """Return whether a form with these fields has this format."""
        return fields.keys() >= set(self.required)

    def text(self, fields: Mapping[str, str]) -> bytes:
        """Return the payload as JSON text."""
        return orjson.dumps(fields)


Body = JsonBody | JsonForm | FieldsForm


def content_type(headers: Headers) -> str:
    """Return the media type of the body in lower case, without parameters; empty if there is none."""
    return headers.get("Content-Type", "").partition(";")[0].strip().lower()


def has_no_body(request: Request) -> bool:
    """Return whether the request has no body (RFC 9110 8.3), also before the body is read."""
    length = request.headers.get("Content-Length", "")
    return length in ("", "0") and "Transfer-Encoding" not in request.headers and not request.body


def body_text(request: Request, bodies: Iterable[Body]) -> bytes:
    """Return the JSON text of a body in one of these formats, before it is parsed.

    Raises Unreadable for a form that has none of these formats.
    """
    forms = [body for body in bodies if not isinstance(body, JsonBody)]
    if not forms or content_type(request.headers) != FORM_TYPE:
        return request.body
    fields = parse_form(request.body, max(form.max_fields for form in forms))
    for form in forms:
        if form.fits(fields):
            return form.text(fields)
    raise Unreadable(f"the form has other fields; expected {', or '.join(map(str, forms))}")


def read_body(request: Request, bodies: Iterable[Body]) -> tuple[JSON, bytes]:
    """Return the payload of a body in one of these formats, and its JSON text. Raises Unreadable."""
    text = body_text(request, bodies)
    return parse_json(text), text
