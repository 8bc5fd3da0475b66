"""The errors of the API, each with a code that does not change."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from flask import Response
from werkzeug.exceptions import Forbidden, HTTPException, MethodNotAllowed, NotFound, Unauthorized

from bridge.core.errors import BodyGone, NoSuchEvent, NoSuchJob, StoreUnavailable, WrongState
from bridge.core.secrets import Mask
from bridge.process.log_fields import Fields
from bridge.web.problem import RETRY_AFTER_SECONDS, problem_response
from bridge.web.query import BadQuery

#: The beginning of every path of the API.
API_PATH = "/api/"
#: The status and the code of each error; the first class that fits counts.
CODES: Mapping[type[Exception], tuple[int, str]] = {
    BadQuery: (400, "invalid_parameter"), Unauthorized: (401, "unauthenticated"),
    Forbidden: (403, "forbidden"), NotFound: (404, "not_found"), NoSuchEvent: (404, "not_found"),
    NoSuchJob: (404, "not_found"), MethodNotAllowed: (405, "method_not_allowed"),
    WrongState: (409, "wrong_state"), BodyGone: (410, "body_gone"),
    StoreUnavailable: (503, "store_unavailable"), HTTPException: (400, "invalid_parameter"),
    Exception: (500, "internal"),
}  # fmt: skip
_SCHEME = 'Bearer realm="theeye-bridge"'
_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": _SCHEME},
    403: {"WWW-Authenticate": f'{_SCHEME}, error="insufficient_scope"'},
    503: {"Retry-After": str(RETRY_AFTER_SECONDS)},
}

log = logging.getLogger(__name__)


def api_error_response(error: Exception, mask: Mask) -> Response:
    """Return the answer to a request that raised this error; log a defect."""
    status, code = next(found for kind, found in CODES.items() if isinstance(error, kind))
    detail = str(error.description) if isinstance(error, HTTPException) else str(error)
    if code == "internal":
        detail = "the log of the bridge has the error"
        log.error("a request of the API failed", Fields("defect"), exc_info=error)
    headers = {**_HEADERS.get(status, {}), "Cache-Control": "no-store"}
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(error.valid_methods or ())
    return problem_response(status, HTTPStatus(status).phrase, headers, detail=mask(detail), code=code)
