"""The deadline by which a request must have arrived."""

from __future__ import annotations

from contextvars import ContextVar

from bridge.core.errors import RequestTimeout
from bridge.process.watchdog import Guard

#: How long the head and the body of a request may take to arrive.
REQUEST_TIMEOUT_SECONDS = 20.0

#: The guard of the request that this thread handles; the server, which has the socket, sets it.
request_guard: ContextVar[Guard | None] = ContextVar("request_guard", default=None)


def finish_read() -> None:
    """End the deadline of this thread's request. Raises RequestTimeout if it ended first."""
    guard = request_guard.get()
    if guard is None:
        return
    guard.release()
    if guard.early:
        raise RequestTimeout("too many requests were incomplete, and this one was the oldest of its network")
    if guard.fired:
        raise RequestTimeout(f"the request was not complete within {REQUEST_TIMEOUT_SECONDS:g} s")
