"""The store in PostgreSQL: a small pool, each unit of work its own transaction, LISTEN and NOTIFY."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast
from uuid import uuid4

from psycopg import Error as DriverError
from psycopg.errors import DeadlockDetected
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import (
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from bridge.core.errors import StoreUnavailable
from bridge.outbox.database import Database, cause
from bridge.outbox.pool import POOL, SURPLUS_INTERVAL, ElasticPool, is_full
from bridge.outbox.presence import Presence
from bridge.outbox.session import CONNECT_TIMEOUT, Session, connect

T = TypeVar("T")

#: How long, in seconds, a statement of a migration waits for its answer.
MIGRATION_TIMEOUT = 3600.0
#: How often a unit of work is tried that met another in a deadlock.
DEADLOCK_ATTEMPTS = 3
#: The channel on which a process says that a job may be due.
CHANNEL = "bridge_jobs"
#: How often, in seconds, the listening thread looks whether it is to end.
LISTEN_TIMEOUT = 1.0
#: How long, in seconds, it waits before it connects again.
RECONNECT_INTERVAL = 2.0

#: What the database itself fails of, and not the unit of work; a right or a table that is missing, too.
_UNAVAILABLE = (OperationalError, InterfaceError, InternalError, ProgrammingError, PoolTimeoutError)

_READ_ONLY = text("SELECT current_setting('transaction_read_only')")

log = logging.getLogger(__name__)


class _Deadlock(OperationalError):
    """Two transactions waited for each other, and this one was undone."""


class PostgreSQL(Database):
    """PostgreSQL, or what speaks its protocol."""

    def __init__(self, url: str) -> None:
        self._engine = connect(url)
        self._closed = threading.Event()
        self._announcer = Announcer(self._engine)
        self._listener: threading.Thread | None = None

    def _write(self, work: Callable[[Connection], T]) -> T:
        if self._closed.is_set():
            raise StoreUnavailable("the store is closed")
        try:
            for _ in range(DEADLOCK_ATTEMPTS - 1):
                with suppress(_Deadlock):
                    return self._in_transaction(work)
            return self._in_transaction(work)
        except _UNAVAILABLE as error:
            raise StoreUnavailable(f"the store cannot be written: {_cause(error)}") from error

    def upgrade(self, work: Callable[[Connection], T]) -> T:
        def unhurried(connection: Connection) -> T:
            session: Any = connection.connection.driver_connection
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{MIGRATION_TIMEOUT:g}s'")
            with session.with_answer_timeout(MIGRATION_TIMEOUT):
                return work(connection)

        return self.write(unhurried)

    def _in_transaction(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engine.begin() as connection:
                return work(connection)
        except OperationalError as error:
            if isinstance(error.orig, DeadlockDetected):
                raise _Deadlock(error.statement, error.params, error.orig) from error
            raise

    def read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise StoreUnavailable(f"the store cannot be read: {_cause(error)}") from error

    def require_writable(self) -> None:
        """Raises StoreUnavailable where nothing can be written: on a standby, say, after a failover."""
        self.read(_require_writes)

    def require_files(self) -> None:
        """Do nothing: the files are the server's."""

    def presence(self) -> Presence:
        return Presence()

    def announce(self) -> None:
        self._announcer.announce()

    def listen(self, woken: Callable[[], None]) -> None:
        self._listener = threading.Thread(target=self._listen, args=(woken,), name="listen", daemon=True)
        self._listener.start()

    def close(self) -> None:
        self._closed.set()
        self._announcer.close()
        if self._listener is not None:
            self._listener.join(timeout=2 * LISTEN_TIMEOUT)
        self._engine.dispose()

    def _listen(self, woken: Callable[[], None]) -> None:
        lost, risk = False, None
        while not self._closed.is_set():
            try:
                with self._detached() as session:
                    if session.durability_risk != risk:
                        risk = session.durability_risk
                        log.warning("%s", risk)
                    if session.is_pooled:
                        log.info("a pooler is in front of PostgreSQL: the poll finds jobs of other processes")
                        return
                    session.listen(CHANNEL)
                    if lost:
                        woken()  # for what was announced meanwhile
                    lost = False
                    self._receive(session, woken)
            except (SQLAlchemyError, DriverError, StoreUnavailable) as error:
                if not lost and not self._closed.is_set():
                    log.warning("other processes are not heard, the poll serves: %s", cause(error))
                lost = True
                self._closed.wait(RECONNECT_INTERVAL)

    def _detached(self) -> Session:
        """Return a session out of the pool, that lives as long as the process."""
        pooled = self._engine.raw_connection()
        session: Any = pooled.driver_connection
        pooled.detach()
        return cast(Session, session)

    def _receive(self, session: Session, woken: Callable[[], None]) -> None:
        while not self._closed.is_set():
            for notice in session.notifies(timeout=LISTEN_TIMEOUT):
                if notice.payload != self._announcer.name:
                    woken()


class Announcer:
    """Announces from a thread of its own, so that many jobs at once are announced together.

    A NOTIFY inside each intake transaction would let only one of them commit at a time, since PostgreSQL
    keeps notifications in the order of commits.
    """

    def __init__(self, engine: Engine) -> None:
        #: What a process's announcements carry, so that it does not hear its own.
        self.name = uuid4().hex
        self._engine = engine
        self._changed = threading.Event()
        self._wanted = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="announce", daemon=True)
        self._thread.start()

    def announce(self) -> None:
        self._wanted = True
        self._changed.set()

    def close(self) -> None:
        """Announce what is still to be announced, then end."""
        self._closed = True
        self._changed.set()
        self._thread.join(timeout=2 * CONNECT_TIMEOUT)

    def _run(self) -> None:
        last = False
        while not last:
            self._changed.wait(timeout=SURPLUS_INTERVAL)
            self._changed.clear()
            last = self._closed
            if self._wanted:
                self._wanted = False
                self._notify()
            cast(ElasticPool, self._engine.pool).close_surplus()

    def _notify(self) -> None:
        notice = {"channel": CHANNEL, "name": self.name}
        try:
            with self._engine.begin() as connection:
                connection.execute(text("SELECT pg_notify(:channel, :name)"), notice)
        except (SQLAlchemyError, StoreUnavailable) as error:
            log.warning("other processes are not woken, their poll serves: %s", cause(error))


def _require_writes(connection: Connection) -> None:
    if connection.execute(_READ_ONLY).scalar_one() == "on":
        connection.invalidate()  # a session keeps what it began with; the next one may write again
        raise StoreUnavailable("the store cannot be written: the database takes reads alone")


def _cause(error: BaseException) -> str:
    if is_full(error):
        return (
            f"PostgreSQL accepts no more connections ({cause(error)}): raise the limit, or run fewer "
            f"processes; each needs up to {POOL + 1}"
        )
    return cause(error)
