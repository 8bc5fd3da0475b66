"""The API's URLs: those of the OpenAPI file, whose operationId names a method of Reading or Changing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from flask import Blueprint, Flask, Response, g, request
from werkzeug.exceptions import Forbidden, Unauthorized

from bridge.app import Bridge
from bridge.core.event import JSON
from bridge.core.exact_json import dumps
from bridge.core.secrets import Mask
from bridge.process.api_tokens import ApiToken
from bridge.sources.base.proofs import any_equal
from bridge.web.api.call import read_call
from bridge.web.api.changing import Changing
from bridge.web.api.problem import API_PATH, api_error_response
from bridge.web.api.reading import Reading
from bridge.web.problem import error_response

#: The largest body of a request.
_MAX_BODY_BYTES = 64 * 1024
#: The converter of each variable of a path; of a number, such that every database can hold it.
_CONVERTERS = {"kind": "any(task, route)", "name": "path"}
_NUMBER = f"int(max={2**63 - 1})"
_CLOSED = "the API is closed; set BRIDGE_API_TOKENS to name:right:token, and restart the bridge"
_WRONG = "send a token of BRIDGE_API_TOKENS as Authorization: Bearer"


def add_api(app: Flask, bridge: Bridge) -> None:
    """Add the API to the application. Without BRIDGE_API_TOKENS it refuses every request."""
    blueprint = Blueprint("api", __name__, url_prefix=f"{API_PATH}v1")
    text = (Path(__file__).parent / "openapi.json").read_bytes()
    for path, operations in orjson.loads(text)["paths"].items():
        rule = re.sub(r"{(\w+)}", lambda found: f"<{_CONVERTERS.get(found[1], _NUMBER)}:{found[1]}>", path)
        for method, declared in operations.items():
            view = partial(_answer, bridge, Reading if method == "get" else Changing, declared)
            blueprint.add_url_rule(rule, declared["operationId"], view, methods=[method.upper()])
    blueprint.add_url_rule("/openapi.json", "openapi", lambda: Response(text, mimetype="application/json"))

    # Also for a path that does not exist.
    @blueprint.before_app_request
    def authenticate() -> None:
        if request.path.startswith(API_PATH) and request.endpoint != "api.openapi":
            request.max_content_length = _MAX_BODY_BYTES
            g.token = _require_token(bridge.settings.api_tokens)

    if (csrf := app.extensions.get("csrf")) is not None:
        # A browser does not send a bearer token by itself.
        csrf.exempt(blueprint)
    app.register_blueprint(blueprint)

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        is_api = request.path.startswith(API_PATH)
        return api_error_response(error, bridge.mask) if is_api else error_response(error)


def _require_token(tokens: tuple[ApiToken, ...]) -> ApiToken:
    """Return the token of the request. Raises Unauthorized without one, Forbidden without the right."""
    sent = request.authorization
    given = "" if sent is None or sent.type != "bearer" else sent.token or ""
    found = [each for each in tokens if any_equal(given.encode(), (each.secret.reveal().encode(),))]
    if not found:
        raise Unauthorized(_WRONG if tokens else _CLOSED)
    if request.method not in ("GET", "HEAD", "OPTIONS") and found[0].right != "write":
        raise Forbidden(f"the token {found[0].name} may only read")
    return found[0]


def _answer(
    bridge: Bridge, operations: type[Reading | Changing], declared: Mapping[str, Any], **place: int | str
) -> Response:
    of_call = operations(bridge, read_call(request, declared, g.token))
    operation: Callable[..., JSON] = getattr(of_call, declared["operationId"])
    body = dumps(_masked(operation(**place), bridge.mask))
    return Response(body, headers={"Cache-Control": "no-store"}, mimetype="application/json")


def _masked(value: JSON, mask: Mask) -> JSON:
    """Return the value without secrets. A mask of the JSON text would damage it if a secret is a number."""
    if isinstance(value, dict):
        return {mask(name): _masked(inner, mask) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(inner, mask) for inner in value]
    text = value if isinstance(value, str) else dumps(value).decode()
    return value if (masked := mask(text)) == text else masked
