"""The store in PostgreSQL: a small pool, a transaction for each unit of work, LISTEN and NOTIFY."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar, cast
from uuid import uuid4

from psycopg import Error as DriverError
from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from bridge.core.errors import StoreUnavailable
from bridge.outbox.counters import counting
from bridge.outbox.database import Batch, Database, cause
from bridge.outbox.pool import POOL_SIZE, SURPLUS_INTERVAL, ElasticPool, is_full
from bridge.outbox.session import CONNECT_TIMEOUT, Session, connect
from bridge.outbox.writer import Writer
from bridge.process.log_fields import Fields

A = TypeVar("A")
T = TypeVar("T")

#: How long a statement of a migration waits for its answer, seconds.
MIGRATION_TIMEOUT = 3600.0
#: How many times a unit of work runs if it ends in a deadlock.
DEADLOCK_ATTEMPTS = 3
#: The channel of the notices that a job may be due.
CHANNEL = "bridge_jobs"
#: How often the listening thread checks whether to end, seconds.
LISTEN_TIMEOUT = 1.0
#: How long it waits before it connects again, seconds.
RECONNECT_INTERVAL = 2.0

#: Errors of the database, not of the unit of work. A missing privilege or table is one, too.
_UNAVAILABLE = (OperationalError, InterfaceError, InternalError, ProgrammingError, PoolTimeoutError)

#: Errors of a batch that its units may not have, one by one.
_CONFLICTS = (DeadlockDetected, LockNotAvailable)

_READ_ONLY = text("SELECT current_setting('transaction_read_only')")

log = logging.getLogger(__name__)


class PostgreSQL(Database):
    """PostgreSQL, or a server with its protocol."""

    def __init__(self, url: str) -> None:
        self._engine = connect(url)
        self._closed = threading.Event()
        self._announcer = Announcer(self._engine)
        self._listener: threading.Thread | None = None
        self._lock = threading.Lock()
        #: One for each kind of batch, made when needed: a process that only receives records no results.
        self._writers: dict[Batch[Any, Any], Writer] = {}

    def _write(self, work: Callable[[Connection], T]) -> T:
        if self._closed.is_set():
            raise StoreUnavailable("the database is closed")
        attempts = count(1)
        while True:
            try:
                with self._engine.begin() as connection, counting(connection, self._announcer.name):
                    return work(connection)
            except _UNAVAILABLE as error:
                is_deadlock = isinstance(getattr(error, "orig", None), DeadlockDetected)
                if not is_deadlock or next(attempts) == DEADLOCK_ATTEMPTS:
                    raise StoreUnavailable(f"the database cannot be written: {_cause(error)}") from error

    def _write_in_batch(self, batch: Batch[A, T], argument: A) -> T:
        if self._closed.is_set():
            raise StoreUnavailable("the database is closed")
        with self._lock:
            if batch not in self._writers:
                self._writers[batch] = Writer(self._engine, cause=_cause, conflicts=_CONFLICTS)
        return self._writers[batch].write_in_batch(batch, argument)

    def upgrade(self, work: Callable[[Connection], T]) -> T:
        def without_limit(connection: Connection) -> T:
            session: Any = connection.connection.driver_connection
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{MIGRATION_TIMEOUT:g}s'")
            with session.with_answer_timeout(MIGRATION_TIMEOUT):
                return work(connection)

        return self.write(without_limit)

    def read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise StoreUnavailable(f"the database cannot be read: {_cause(error)}") from error

    def require_writable(self) -> None:
        """Raise StoreUnavailable if nothing can be written, such as on a standby after a failover."""
        self.read(_require_writes)

    def require_files(self) -> None:
        """Do nothing: the files are the server's."""

    def announce(self) -> None:
        self._announcer.announce()

    def listen(self, on_notice: Callable[[], None]) -> None:
        self._listener = threading.Thread(target=self._listen, args=(on_notice,), name="listen", daemon=True)
        self._listener.start()

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            for writer in self._writers.values():
                writer.close()
        self._announcer.close()
        if self._listener is not None:
            self._listener.join(timeout=2 * LISTEN_TIMEOUT)
        self._engine.dispose()

    def _listen(self, on_notice: Callable[[], None]) -> None:
        lost, risk = False, None
        while not self._closed.is_set():
            try:
                with self._detached() as session:
                    if session.durability_risk != risk:
                        risk = session.durability_risk
                        log.warning("%(reason)s", Fields("store", reason=risk))
                    if session.is_pooled:
                        message = "a pooler is in front of PostgreSQL: polling for jobs of other processes"
                        log.info(message, Fields("store"))
                        return
                    session.listen(CHANNEL)
                    if lost:
                        on_notice()  # another process may have announced meanwhile
                    lost = False
                    self._receive(session, on_notice)
            except (SQLAlchemyError, DriverError, StoreUnavailable) as error:
                if not lost and not self._closed.is_set():
                    message = "cannot LISTEN; this process polls for new jobs: %(reason)s"
                    log.warning(message, Fields("store", reason=cause(error)))
                lost = True
                self._closed.wait(RECONNECT_INTERVAL)

    def _detached(self) -> Session:
        """Return a session outside the pool."""
        pooled = self._engine.raw_connection()
        session: Any = pooled.driver_connection
        pooled.detach()
        return cast(Session, session)

    def _receive(self, session: Session, on_notice: Callable[[], None]) -> None:
        while not self._closed.is_set():
            for notice in session.notifies(timeout=LISTEN_TIMEOUT):
                if notice.payload != self._announcer.name:
                    on_notice()


class Announcer:
    """Sends notices from a thread of its own, one for many jobs.

    With a NOTIFY in each intake transaction only one could commit at a time, since PostgreSQL sends
    notifications in the order of commits.
    """

    def __init__(self, engine: Engine) -> None:
        #: The payload of this process's notices, to ignore its own.
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
        """Send a pending notice, then end."""
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
            message = "cannot NOTIFY; other processes poll for new jobs: %(reason)s"
            log.warning(message, Fields("store", reason=cause(error)))


def _require_writes(connection: Connection) -> None:
    if connection.execute(_READ_ONLY).scalar_one() == "on":
        connection.invalidate()  # a session stays read-only; the next one may be able to write
        raise StoreUnavailable("the database cannot be written: it is read-only")


def _cause(error: BaseException) -> str:
    if is_full(error):
        return (
            f"PostgreSQL accepts no more connections ({cause(error)}): raise the limit, or run fewer "
            f"processes; each needs up to {POOL_SIZE + 1}"
        )
    return cause(error)
