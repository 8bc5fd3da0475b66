"""TheEye's Job API over HTTP."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from flask import Flask, Request, Response, abort, request
from werkzeug.exceptions import HTTPException

from bridge.core.event import JSON
from bridge.demo.arguments import Supervisor, Verdict, named


def create_app(supervisor: Supervisor, on_order: Callable[[JSON, Verdict], None]) -> Flask:
    """Return TheEye's Job API; `on_order` gets the task that a request names, and the answer."""
    app = Flask(__name__, static_folder=None)

    @app.get("/")
    def alive() -> Response:
        return _json(200, {"status": "ok"})

    @app.post("/job/secret/<key>")
    def order_by_key(key: str) -> Response:
        body = _body(request)
        return answered(body, supervisor.order_by_key(key, body, request.args))

    @app.post("/job")
    def order_by_token() -> Response:
        given = request.authorization
        token = given.token if given and given.type == "bearer" else request.args.get("access_token")
        body = _body(request)
        return answered(body, supervisor.order_by_token(token, body, request.args))

    @app.errorhandler(HTTPException)
    def no_such_thing(error: HTTPException) -> Response:
        if error.code == 404:
            return _json(404, {"code": "ResourceNotFound", "message": f"{request.path} does not exist"})
        return _json(error.code or 500, {"code": error.name.replace(" ", ""), "message": error.description})

    def answered(body: JSON, verdict: Verdict) -> Response:
        on_order(named("task", body, request.args), verdict)
        return _json(verdict.status, verdict.answer)

    return app


def _body(request: Request) -> JSON:
    """Return the request's JSON, None if it has none. Aborts with 406 or 400."""
    if request.headers.get("Accept", "").strip().lower() != "application/json":
        abort(_json(406, {"code": "NotAcceptable", "message": "Server accepts: application/json"}))
    if request.mimetype != "application/json" or not request.content_length:
        return None
    try:
        return orjson.loads(request.get_data())
    except orjson.JSONDecodeError as error:
        abort(_json(400, {"code": "InvalidContent", "message": f"Invalid JSON: {error}"}))


def _json(status: int, value: JSON) -> Response:
    return Response(orjson.dumps(value), status, content_type="application/json")
