"""How long a request may take to arrive."""

from __future__ import annotations

from contextvars import ContextVar

from bridge.core.errors import RequestTimeout
from bridge.process.watchdog import Guard

#: Within how many seconds a request's headers and body must have come, whole.
ARRIVES_WITHIN = 20.0

#: The guard of the request that this thread handles; the server sets it, since it alone has the socket.
guard_of_request: ContextVar[Guard | None] = ContextVar("guard_of_request", default=None)


def has_arrived() -> None:
    """No more is read: the request's time is no longer limited.

    Raises RequestTimeout where it ended before the request did: what was read is cut off then.
    """
    guard = guard_of_request.get()
    if guard is None:
        return
    guard.release()
    if guard.early:
        raise RequestTimeout(
            "too many requests were incomplete at once, and this one was the oldest of its network"
        )
    if guard.fired:
        raise RequestTimeout(f"the request did not come whole within {ARRIVES_WITHIN:g} s")
