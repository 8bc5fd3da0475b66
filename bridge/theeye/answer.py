"""TheEye's answers: what each means for its job; pure.

The rules are those of TheEye's public page "Via API" and of what its supervisor 4.15.3 answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import orjson

from bridge.core.attempt_result import AttemptResult
from bridge.core.event import JSON
from bridge.core.job import Outcome
from bridge.core.retry import MAX_RETRY_AFTER

#: By these TheEye, or a proxy before it, says that it has not started the job.
NOT_STARTED_STATUSES = (407, 425, 429, 503)

#: How many bytes of an error's text are read. Whoever shows or stores it masks first and cuts then:
#: a cut could leave a part of a key that no mask knows.
MAX_ERROR_BYTES = 16 * 1024

_ON_HOLD = (
    "the job waits at TheEye for a person. If TheEye asks for an approval, the job then runs with its "
    "arguments. If it asks for input, the arguments are lost"
)


def read_answer(
    status: int, headers: Mapping[str, str], body: bytes, now: float, seconds: float
) -> AttemptResult:
    """Return the result of an attempt that was answered after `seconds`.

    `now` is seconds since the epoch. The result holds nothing of a job but its id, and its output if it will
    never run: the rest is full of secrets.
    """
    if status == 200:
        outcome, detail, theeye_job_id = _read_job(body, headers)
        return AttemptResult(seconds, outcome, status, detail, theeye_job_id)
    outcome = _outcome(status)
    detail = f"{status} {_error_text(body)}".rstrip()
    if 300 <= status < 400:
        detail = f"{status}, a redirect, which is never followed; check theeye.url"
    retry_after = None if outcome is Outcome.REFUSED else read_retry_after(headers, now)
    return AttemptResult(seconds, outcome, status, detail, None, retry_after)


def _outcome(status: int) -> Outcome:
    """Return what a status other than 200 means."""
    if status in NOT_STARTED_STATUSES:
        return Outcome.UNAVAILABLE
    if 300 <= status < 500 and status != 408:
        return Outcome.REFUSED
    return Outcome.UNKNOWN


def _read_job(body: bytes, headers: Mapping[str, str]) -> tuple[Outcome, str, str | None]:
    """Return a 200's outcome, detail and TheEye's id of the job."""
    try:
        job = orjson.loads(body)
    except orjson.JSONDecodeError:
        coding = headers.get("Content-Encoding")
        encoded = "" if coding is None else f": Content-Encoding: {coding}, expected gzip or deflate"
        return Outcome.UNKNOWN, f"200, but the answer cannot be read{encoded}", None
    if not isinstance(job, dict) or not all(
        isinstance(job.get(key), str) and job[key] for key in ("id", "lifecycle", "state")
    ):
        return Outcome.UNKNOWN, "200, but the answer is not a job", None
    if job["lifecycle"] == "terminated" or job["state"] == "error":
        detail = f"200, but the job will never run: {_text(job.get('output'))}".rstrip(": ")
        return Outcome.REFUSED, detail, job["id"]
    return Outcome.ACCEPTED, _ON_HOLD if job["lifecycle"] == "onhold" else "", job["id"]


def _error_text(body: bytes) -> str:
    """Return an error's text in either of TheEye's forms, or the beginning of a proxy's page."""
    body = body[:MAX_ERROR_BYTES]
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = " ".join(body.decode("utf-8", "replace").split())
    if isinstance(value, dict):
        return ": ".join(_text(value[key]) for key in ("message", "errors") if value.get(key))
    return _text(value)


def _text(value: JSON) -> str:
    """Return a value as text. TheEye encodes some texts as JSON twice."""
    if isinstance(value, str):
        try:
            inner = orjson.loads(value)
        except orjson.JSONDecodeError:
            inner = value
        return (inner if isinstance(inner, str) else value)[:MAX_ERROR_BYTES]
    return "" if value is None else orjson.dumps(value).decode()[:MAX_ERROR_BYTES]


def read_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that a Retry-After asks for, from a number or a date (RFC 9110 10.2.3)."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(text)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        seconds = (date - datetime.fromtimestamp(now, UTC)).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)
