"""The page's URLs, its session and its headers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any

from flask import (
    Blueprint,
    Flask,
    Response,
    make_response,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask_wtf.csrf import CSRFError, CSRFProtect
from gunicorn.http.errors import ParseException
from markupsafe import Markup
from werkzeug.exceptions import NotFound
from werkzeug.routing import IntegerConverter, Map
from werkzeug.wrappers import Response as BaseResponse

from bridge.app import Bridge
from bridge.core.errors import BodyGone, NoSuchEvent, NoSuchJob, StoreUnavailable, WrongState
from bridge.core.secrets import Mask
from bridge.web.api.problem import API_PATH
from bridge.web.page.change_views import add_change_views
from bridge.web.page.event_views import add_event_views
from bridge.web.page.format import filters
from bridge.web.page.job_views import add_job_views
from bridge.web.page.overview import add_overview
from bridge.web.page.sign_in import (
    CookieSessions,
    TryLimiter,
    address_of,
    base_url,
    is_password,
    is_signed_in,
    renew,
    session_key,
    sign_in,
)
from bridge.web.page.table_views import add_table_views
from bridge.web.page.try_views import MAX_PASTED, add_try_views
from bridge.web.query import BadQuery

#: No inline script or style, and nothing from another host: https://www.w3.org/TR/CSP3/
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
#: The largest form of a stranger, and of most pages: each of its fields takes many times its size.
SMALL_FORM_BYTES = 64 * 1024
#: The largest form: a pasted payload, with each of its characters encoded.
MAX_FORM_BYTES = 4 * MAX_PASTED
#: How long a browser may keep a file whose URL has its checksum, seconds.
_STATIC_SECONDS = 365 * 86400
#: The URLs that need no session.
_OPEN = ("page.sign_in_form", "page.static")


class _Id(IntegerConverter):
    """The number of an event, a job or an action: a database has no larger one."""

    def __init__(self, url_map: Map) -> None:
        super().__init__(url_map, max=2**63 - 1)


def add_page(app: Flask, bridge: Bridge) -> None:
    """Add the page to the application. Without BRIDGE_ADMIN_PASSWORD it only explains how to open it."""
    password = bridge.settings.admin_password
    static = None if password is None else "static"
    blueprint = Blueprint(
        "page", __name__, template_folder="templates", static_folder=static, static_url_path="/static"
    )
    for name, function in filters(bridge.mask).items():
        blueprint.add_app_template_filter(function, name)
    blueprint.after_request(_with_headers)
    # A payload may hold a secret. It is masked before it is escaped: later, its letters may differ.
    app.jinja_env.finalize = partial(_masked, bridge.mask)
    for error in _ERRORS:
        blueprint.register_error_handler(error, _error_page)
    assets = {
        file.name: sha256(file.read_bytes()).hexdigest()[:12]
        for file in (Path(__file__).parent / "static").iterdir()
    }
    blueprint.add_app_template_global(
        lambda name: url_for("page.static", filename=name, v=assets[name]), "asset"
    )
    if password is None:
        blueprint.add_url_rule("/", view_func=_closed, endpoint="closed", strict_slashes=False)
        app.register_blueprint(blueprint)
        return
    app.url_map.converters["id"] = _Id
    app.secret_key = session_key(password)
    app.session_interface = CookieSessions(bridge.settings)
    app.config.update(
        SESSION_COOKIE_NAME="bridge", SESSION_COOKIE_HTTPONLY=True, SESSION_COOKIE_SAMESITE="Strict",
        WTF_CSRF_TIME_LIMIT=None, MAX_CONTENT_LENGTH=SMALL_FORM_BYTES, MAX_FORM_MEMORY_SIZE=SMALL_FORM_BYTES,
    )  # fmt: skip
    app.before_request(_no_such_page)
    app.before_request(_allow_large_form)  # first: the next reads the form
    CSRFProtect(app)
    blueprint.before_request(_require_session)
    _add_sign_in(blueprint, bridge)
    add_overview(blueprint, bridge)
    add_event_views(blueprint, bridge)
    add_job_views(blueprint, bridge)
    add_change_views(blueprint, bridge)
    add_table_views(blueprint, bridge)
    add_try_views(blueprint, bridge)
    blueprint.context_processor(lambda: _context(bridge))
    app.register_blueprint(blueprint)


def _add_sign_in(blueprint: Blueprint, bridge: Bridge) -> None:
    tries = TryLimiter()

    @blueprint.route("/sign-in", methods=["GET", "POST"])
    def sign_in_form() -> BaseResponse | str | tuple[str, int]:
        if request.method == "GET":
            return render_template("sign_in.html", error=None)
        client = address_of(request, bridge.settings)
        if (wait := tries.wait(client)) > 0:
            error = f"Too many wrong passwords from your address. Try again in {int(wait) + 1} s."
            return render_template("sign_in.html", error=error), 429
        password = bridge.settings.admin_password
        if password is None or not is_password(request.form.get("password", ""), password):
            tries.failed(client)
            return render_template("sign_in.html", error="The password is wrong."), 403
        tries.succeeded(client)
        sign_in(time.time(), request.form.get("name", ""))
        return redirect(_local(request.args.get("next", "")) or url_for("page.overview"), 303)

    @blueprint.post("/sign-out")
    def sign_out() -> BaseResponse:
        session.clear()
        return redirect(url_for("page.sign_in_form"), 303)


def _context(bridge: Bridge) -> dict[str, object]:
    """Return what every template may use."""
    return {
        "sources": tuple(bridge.table.sources),
        "now": time.time(),
        "signed_in": is_signed_in(time.time()),
        "base_url": base_url(request, bridge.settings),
    }


def _local(target: str) -> str | None:
    """Return a path on this host, or None: a link must not lead elsewhere after the sign-in."""
    is_path = target.startswith("/") and not target.startswith("//") and "\\" not in target
    return target if is_path and target.isprintable() else None


def _allow_large_form() -> None:
    if request.endpoint in ("page.try_it", "page.rebuilt") and is_signed_in(time.time()):
        request.max_content_length = request.max_form_memory_size = MAX_FORM_BYTES


def _no_such_page() -> Response | None:
    """Answer a mistyped address; programs get JSON."""
    is_page = isinstance(request.routing_exception, NotFound) and not request.path.startswith(API_PATH)
    if not is_page or request.method not in ("GET", "HEAD") or not _is_browser():
        return None
    title, hint = "There is no such page", f"Check the address: {request.path}"
    return _with_headers(make_response(render_template("error.html", title=title, hint=hint), 404))


def _require_session() -> BaseResponse | None:
    now = time.time()
    if request.endpoint in _OPEN:
        return None
    if is_signed_in(now):
        renew(now)
        return None
    if not _is_browser():
        return (
            _running()
            if request.path == "/"
            else Response("Sign in with a browser.\n", 401, mimetype="text/plain")
        )
    if request.headers.get("HX-Request"):
        # A redirect would be swapped into the page.
        return Response(status=401, headers={"HX-Refresh": "true"})
    if request.method != "GET" or request.path == "/":
        return redirect(url_for("page.sign_in_form"), 303)
    return redirect(url_for("page.sign_in_form", next=request.full_path.rstrip("?")), 303)


def _masked(mask: Mask, value: object) -> object:
    return mask(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _with_headers(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers[name] = value
    if request.endpoint == "page.static" and response.status_code < HTTPStatus.BAD_REQUEST:
        response.headers["Cache-Control"] = f"public, max-age={_STATIC_SECONDS}, immutable"
    return response


def _closed() -> Response | str:
    return render_template("closed.html") if _is_browser() else _running()


def _is_browser() -> bool:
    return "text/html" in request.headers.get("Accept", "") or "HX-Request" in request.headers


def _running() -> Response:
    """Answer a load balancer, which ends a process that answers 404."""
    return Response("The bridge is running. Webhooks go to /hooks/<source>.\n", mimetype="text/plain")


#: The status and the title for each error.
_ERRORS: Mapping[type[Exception], tuple[int, str]] = {
    ParseException: (400, "The form cannot be read"),
    BadQuery: (400, "This request is not valid"),
    CSRFError: (400, "The form has expired"),
    BodyGone: (404, "The payload is not stored"),
    NoSuchEvent: (404, "There is no such event"),
    NoSuchJob: (404, "There is no such job"),
    WrongState: (409, "The job is in another state"),
    StoreUnavailable: (503, "The database does not answer"),
}
_HINTS: Mapping[type[Exception], Callable[[Any], str]] = {
    CSRFError: lambda _: "Reload the page before the form, and send it again.",
}


def _error_page(error: Exception) -> tuple[str, int]:
    status, title = next(found for kind, found in _ERRORS.items() if isinstance(error, kind))
    hint = _HINTS.get(type(error), str)(error)
    return render_template("error.html", title=title, hint=hint), status
