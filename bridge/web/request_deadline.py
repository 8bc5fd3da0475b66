"""How long a request may take to arrive."""

from __future__ import annotations

from contextvars import ContextVar

from bridge.core.errors import RequestTimeout
from bridge.process.watchdog import Guard

#: Within how many seconds a request's headers and body must have come, whole.
REQUEST_TIMEOUT_SECONDS = 20.0

#: The guard of the request that this thread handles; the server sets it, since it alone has the socket.
request_guard: ContextVar[Guard | None] = ContextVar("request_guard", default=None)


def finish_read() -> None:
    """No more is read: the request's time is no longer limited.

    Raises RequestTimeout where it ended before the request did: what was read is cut off then.
    """
    guard = request_guard.get()
    if guard is None:
        return
    guard.release()
    if guard.early:
        raise RequestTimeout(
            "too many requests were incomplete at once, and this one was the oldest of its network"
        )
    if guard.fired:
        raise RequestTimeout(f"the request did not come whole within {REQUEST_TIMEOUT_SECONDS:g} s")
