"""How long a request may take to arrive, and how much room large bodies have together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from bridge.errors import NoRoom, TooSlow
from bridge.watchdog import Guard

#: Within how many seconds a request's headers and body must have come, whole.
ARRIVES_WITHIN = 20.0

#: Bodies up to this size, in bytes, need no room.
SMALL = 1024**2
#: What larger ones share, in bytes.
SHARED = 64 * 1024**2
#: How long a large body waits for room, seconds.
WAITS_FOR_ROOM = 5.0

#: The guard of the request that this thread handles; the server sets it, since it alone has the socket.
guard_of_request: ContextVar[Guard | None] = ContextVar("guard_of_request", default=None)


def has_arrived() -> None:
    """No more is read: the request's time is no longer limited.

    Raises TooSlow where it ended before the request did: what was read is cut off then.
    """
    guard = guard_of_request.get()
    if guard is None:
        return
    guard.release()
    if guard.fired:
        raise TooSlow(f"the request did not come whole within {ARRIVES_WITHIN:g} s")


class Room:
    """What large bodies share."""

    def __init__(self, shared: int = SHARED, small: int = SMALL, patience: float = WAITS_FOR_ROOM) -> None:
        self._shared = shared
        self._small = small
        self._patience = patience
        self._left = shared
        self._freed = threading.Condition()

    @contextmanager
    def for_body(self, size: int | None, largest: int) -> Iterator[None]:
        """Room for a body of `size` bytes; one of unknown length counts as the `largest`.

        Raises NoRoom where there is none in time.
        """
        needed = min(largest if size is None else size, self._shared)
        if needed <= self._small:
            yield
            return
        with self._freed:
            if not self._freed.wait_for(lambda: self._left >= needed, self._patience):
                raise NoRoom(f"no room for a body of {needed:,} bytes within {self._patience:g} s")
            self._left -= needed
        try:
            yield
        finally:
            with self._freed:
                self._left += needed
                self._freed.notify_all()
