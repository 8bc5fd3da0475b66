"""TheEye's answer to a job's request, and what it means for the job; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import orjson

from bridge.core.event import JSON
from bridge.core.job import Outcome

#: Statuses by which TheEye, or a proxy before it, says that it has not taken the job on.
NOT_STARTED_STATUSES = (425, 429, 503)

#: Of what an error's answer says, how many bytes are looked at. Who shows or stores them masks
#: first and cuts then: a cut before could leave a part of a key that no mask knows.
MAX_ERROR_BYTES = 16 * 1024

#: The longest Retry-After that is believed, in seconds.
MAX_RETRY_AFTER = 24 * 3600.0


@dataclass(frozen=True)
class Verdict:
    """What an answer means for its job."""

    outcome: Outcome
    #: In words; not masked yet.
    detail: str
    theeye_job_id: str | None = None
    #: Seconds, where the answer names a wait.
    retry_after: float | None = None


def read_answer(status: int, headers: Mapping[str, str], body: bytes, now: float) -> Verdict:
    """The outcome of an answer, from its status and its body. `now` is seconds since the epoch."""
    if status == HTTPStatus.OK:
        return _read_job(body, headers)
    detail = f"{status} {_said(body)}".rstrip()
    if status in NOT_STARTED_STATUSES:
        return Verdict(Outcome.UNAVAILABLE, detail, retry_after=read_retry_after(headers, now))
    if 300 <= status < 400:
        return Verdict(Outcome.REFUSED, f"{status}, a redirect, which is never followed; check theeye.url")
    if 400 <= status < 500 and status != HTTPStatus.REQUEST_TIMEOUT:
        return Verdict(Outcome.REFUSED, detail)
    return Verdict(Outcome.UNKNOWN, detail, retry_after=read_retry_after(headers, now))


def _read_job(body: bytes, headers: Mapping[str, str]) -> Verdict:
    try:
        job = orjson.loads(body)
    except orjson.JSONDecodeError:
        coding = headers.get("Content-Encoding")
        encoded = "" if coding is None else f": Content-Encoding: {coding}, expected gzip or deflate"
        return Verdict(Outcome.UNKNOWN, f"200, but the answer cannot be read{encoded}")
    if not isinstance(job, dict) or not all(
        isinstance(job.get(key), str) and job[key] for key in ("id", "lifecycle", "state")
    ):
        return Verdict(Outcome.UNKNOWN, "200, but the answer is no job")
    job_id, lifecycle, state = job["id"], job["lifecycle"], job["state"]
    if lifecycle == "terminated" or state == "error":
        detail = f"200, but the job will never run: {_words(job.get('output'))}".rstrip(": ")
        return Verdict(Outcome.REFUSED, detail, job_id)
    if lifecycle == "onhold":
        held = (
            "TheEye holds the job until a person acts there: an approval runs it with its arguments, "
            "a task that asks for input has dropped them"
        )
        return Verdict(Outcome.ACCEPTED, held, job_id)
    return Verdict(Outcome.ACCEPTED, "", job_id)


def _said(body: bytes) -> str:
    """What an error's body says, in both of TheEye's forms; a proxy's HTML as it is, cut."""
    body = body[:MAX_ERROR_BYTES]
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = " ".join(body.decode("utf-8", "replace").split())
    if isinstance(value, dict):
        parts = [_words(value[key]) for key in ("message", "errors") if value.get(key)]
        return ": ".join(parts)
    return _words(value)


def _words(value: JSON) -> str:
    """A value as text; TheEye wraps some texts in JSON twice."""
    if isinstance(value, str):
        try:
            inner = orjson.loads(value)
        except orjson.JSONDecodeError:
            inner = value
        return (inner if isinstance(inner, str) else value)[:MAX_ERROR_BYTES]
    return "" if value is None else orjson.dumps(value).decode()[:MAX_ERROR_BYTES]


def read_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The wait of a Retry-After in seconds, from seconds or a date (RFC 9110 10.2.3)."""
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
