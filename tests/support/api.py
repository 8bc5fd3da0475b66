"""A client of the API, which holds each answer against the OpenAPI file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from werkzeug.test import TestResponse

import bridge.web.api
from bridge.core.event import JSON

OPENAPI = Path(bridge.web.api.__file__).with_name("openapi.json")
SPECIFICATION: Mapping[str, Any] = orjson.loads(OPENAPI.read_bytes())
ROOT = "/api/v1"

READ, WRITE = "a-token-that-reads", "a-token-that-writes"
TOKENS = f"grafana:read:{READ},bot:write:{WRITE}"


def strict(value: JSON) -> JSON:
    """The same schema, to which a key that it does not declare is a mistake."""
    if isinstance(value, list):
        return [strict(each) for each in value]
    if not isinstance(value, dict):
        return value
    closed = {"additionalProperties": False} if isinstance(value.get("properties"), dict) else {}
    return {**closed, **{key: strict(inner) for key, inner in value.items()}}


_COMPONENTS = strict(SPECIFICATION["components"])


def operation_of(method: str, path: str) -> tuple[str, Mapping[str, Any]]:
    """The path of the file that a request has, and its operation."""
    for template, operations in SPECIFICATION["paths"].items():
        pattern = re.sub(r"\\{name\\}", ".+", re.escape(template))
        if method.lower() in operations and re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", pattern), path):
            return template, operations[method.lower()]
    raise AssertionError(f"the file has no {method} {path}")


def require_declared(method: str, path: str, response: TestResponse) -> None:
    """Raise unless the file declares the status and the body of an answer."""
    _, operation = operation_of(method, path)
    declared = operation["responses"][str(response.status_code)]
    if "$ref" in declared:
        declared = SPECIFICATION["components"]["responses"][declared["$ref"].rpartition("/")[2]]
    ((content_type, content),) = declared["content"].items()
    assert response.content_type == content_type
    schema = {**content["schema"], "components": _COMPONENTS}
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(
        orjson.loads(response.data)
    )


@dataclass
class Api:
    """A client with a token."""

    client: FlaskClient
    token: str = WRITE

    def send(
        self, method: str, path: str, body: JSON = None, query: Mapping[str, Any] | None = None
    ) -> TestResponse:
        """The answer to a request, which the file declares."""
        response = self.client.open(
            f"{ROOT}{path}", method=method, query_string=query,
            data=None if body is None else orjson.dumps(body),
            headers={"Authorization": f"Bearer {self.token}"},
        )  # fmt: skip
        require_declared(method, path, response)
        return response

    def get(self, path: str, **query: Any) -> Any:
        """The body of a good answer."""
        response = self.send("GET", path, query=query)
        assert response.status_code == 200, response.data
        return orjson.loads(response.data)

    def change(self, method: str, path: str, **body: Any) -> Any:
        """The body of a good answer."""
        response = self.send(method, path, body)
        assert response.status_code == 200, response.data
        return orjson.loads(response.data)

    def problem(self, method: str, path: str, body: JSON = None, **query: Any) -> tuple[int, str, str]:
        """The status, the code and the detail of an error."""
        response = self.send(method, path, body, query)
        found = orjson.loads(response.data)
        assert found["status"] == response.status_code
        return found["status"], found["code"], found["detail"]
