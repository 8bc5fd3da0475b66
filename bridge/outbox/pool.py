"""The connections of one process to PostgreSQL: opened when needed, closed when idle."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from psycopg import Error as DriverError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry, Pool

#: Connections of a process, besides the one that listens. Small hosted databases allow 20 in total.
POOL_SIZE = 5
#: How long a unit of work waits for a connection, seconds.
POOL_TIMEOUT = 3.0
#: How long a connection may have been idle to be used without a check, seconds.
UNCHECKED_IDLE = 1.0
#: How long a connection is idle before the pool closes it, all but the one used last, and how often the pool
#: checks, seconds. Together they are under POOL_TIMEOUT, so that at the server's connection limit a process
#: gets a connection that another closes.
SURPLUS_IDLE = 2.0
SURPLUS_INTERVAL = 0.5
#: How long the pool opens no connection after the server reached its connection limit, seconds.
REFUSAL_INTERVAL = 0.1

#: Errors of a PostgreSQL or pooler at its limit. For a failed connect, libpq gives no SQLSTATE.
_FULL = (
    "too many clients",
    "too many connections",
    "remaining connection slots",
    "no more connections allowed",
)


class ElasticPool(Pool):
    """At most POOL_SIZE sessions; the last one that was returned is the first to be used again.

    If the server accepts no more connections, a caller waits for a session of this process or until the
    server accepts one, whichever comes first.
    """

    def __init__(self, creator: Any, **options: Any) -> None:
        super().__init__(creator, **options)
        self._timeout = POOL_TIMEOUT
        self._changed = threading.Condition()
        #: With the times at which they were returned, by ``time.monotonic()``.
        self._idle: list[tuple[ConnectionPoolEntry, float]] = []
        #: How many are idle, in use or being opened.
        self._open = 0
        self._refused_until = 0.0
        self._disposed = False

    def close_surplus(self) -> None:
        """Close sessions that were idle for SURPLUS_IDLE, all but the one used last."""
        before = time.monotonic() - SURPLUS_IDLE
        self._close_idle(lambda index, since: index < len(self._idle) - 1 and since < before)

    def close_idle(self) -> None:
        """Close all idle sessions: when one has died, the others most likely did too."""
        self._close_idle(lambda _index, _since: True)

    def dispose(self) -> None:
        """Close idle sessions now, and the others when they are returned."""
        self._disposed = True
        self.close_idle()

    def recreate(self) -> Pool:
        return ElasticPool(
            self._creator,
            reset_on_return=self._reset_on_return,
            _dispatch=self.dispatch,
            dialect=self._dialect,
        )

    def status(self) -> str:
        return f"{self._open} sessions, {len(self._idle)} of them idle"

    def _do_get(self) -> ConnectionPoolEntry:
        deadline = time.monotonic() + self._timeout
        refusal: DriverError | None = None
        while True:
            found = self._wait(deadline, refusal)
            if found is None:
                try:
                    return self._create_connection()
                except BaseException as error:
                    self._forget()
                    if not isinstance(error, DriverError) or not is_full(error):
                        raise
                    refusal = error
                    self._refused_until = time.monotonic() + REFUSAL_INTERVAL
                continue
            entry, since = found
            session: Any = entry.dbapi_connection
            if time.monotonic() - since <= UNCHECKED_IDLE or session.is_alive:
                return entry
            entry.close()
            self._forget()
            self.close_idle()

    def _wait(self, deadline: float, refusal: DriverError | None) -> tuple[ConnectionPoolEntry, float] | None:
        """Return an idle session and since when it is idle, or None if the caller may open one."""
        with self._changed:
            while not self._idle:
                now = time.monotonic()
                has_room = self._open < POOL_SIZE
                if has_room and now >= self._refused_until:
                    self._open += 1
                    return None
                if now >= deadline:
                    message = f"no database connection was free within {self._timeout:g} s"
                    raise refusal or PoolTimeoutError(message)
                self._changed.wait((min(deadline, self._refused_until) if has_room else deadline) - now)
            return self._idle.pop()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        if self._disposed:
            record.close()
        if record.dbapi_connection is None:
            self._forget()
            return
        with self._changed:
            self._idle.append((record, time.monotonic()))
            self._changed.notify()

    def _close_idle(self, is_chosen: Callable[[int, float], bool]) -> None:
        """Close the idle sessions that `is_chosen` selects by their index and time."""
        with self._changed:
            chosen = [entry for index, entry in enumerate(self._idle) if is_chosen(index, entry[1])]
            self._idle = [entry for entry in self._idle if entry not in chosen]
        for entry, _ in chosen:
            entry.close()
            self._forget()

    def _forget(self) -> None:
        """Count one session less."""
        with self._changed:
            self._open -= 1
            self._changed.notify()


def is_full(error: BaseException) -> bool:
    """Return whether the server, or a pooler, is at its connection limit."""
    return any(words in str(error) for words in _FULL)
