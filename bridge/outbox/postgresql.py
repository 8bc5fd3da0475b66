"""The store in PostgreSQL: a small pool, each unit of work its own transaction, LISTEN and NOTIFY."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from uuid import uuid4

from psycopg import Connection as DriverConnection
from psycopg import Error as DriverError
from psycopg import OperationalError as DriverOperationalError
from psycopg.conninfo import make_conninfo
from psycopg.errors import DeadlockDetected, ReadOnlySqlTransaction
from psycopg.sql import SQL, Identifier
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import (
    DisconnectionError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from bridge.errors import StoreUnavailable
from bridge.outbox.database import Database, cause
from bridge.outbox.presence import Presence

T = TypeVar("T")

#: Connections of a process, besides the one that listens. Small plans of hosted databases allow 20 in all.
POOL = 5
#: How long, in seconds, a unit of work waits for a free connection. With one of the next two it is under the
#: 10 s after which GitHub does not wait for an answer.
PATIENCE = 3.0
#: How long, in seconds, connecting waits for an answer.
CONNECTS = 5.0
#: How long, in seconds, a statement or a commit waits for its answer: longer than for a lock, of which the
#: server says so itself.
ANSWERS = 6.0
#: The same where the question is only whether the connection is alive.
ANSWERS_AT_ONCE = 1.0
#: The same for a migration.
TAKES_ITS_TIME = 3600.0
#: How often a unit of work is tried that met another in a deadlock.
TRIES = 3
#: How long, in seconds, a connection may have been idle to be used unasked.
MAX_IDLE = 1.0
#: How often, in seconds, one who waits for an answer looks whether the connection is still open.
CHECKS = 0.1
#: The channel on which a process says that a job may be due.
CHANNEL = "bridge_jobs"
#: How often, in seconds, the listening thread looks whether it is to end.
LISTENS = 1.0
#: How long, in seconds, it waits before it connects again.
RECONNECTS = 2.0

#: What the database itself fails of, and not the unit of work; a right or a table that is missing, too.
_UNAVAILABLE = (OperationalError, InterfaceError, InternalError, ProgrammingError, PoolTimeoutError)

#: What each connection sets, since a database or a role may be set otherwise.
_SESSION = (
    # Not to lose what was committed last.
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') IN ('off', 'local')",
    # A snapshot that is older than a lock would not see what its last holder has written.
    "SET default_transaction_isolation = 'read committed'",
    # A process that is frozen, or cut off, in the middle of a transaction must not keep its locks from all
    # others; nor may they wait for it without a word.
    "SET idle_in_transaction_session_timeout = '10s'",
    "SET lock_timeout = '5s'",
)

_READ_ONLY = text("SELECT current_setting('transaction_read_only')")

log = logging.getLogger(__name__)


class _Deadlock(OperationalError):
    """Two transactions waited for each other, and this one was undone."""


class PostgreSQL(Database):
    """PostgreSQL, or what speaks its protocol."""

    def __init__(self, url: str) -> None:
        self._engine = connect(url)
        self._reads = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._closed = threading.Event()
        self._herald = Herald(self._reads)
        self._listener: threading.Thread | None = None

    def _write(self, work: Callable[[Connection], T]) -> T:
        if self._closed.is_set():
            raise StoreUnavailable("the store is closed")
        try:
            for _ in range(TRIES - 1):
                with suppress(_Deadlock):
                    return self._in_transaction(work)
            return self._in_transaction(work)
        except _UNAVAILABLE as error:
            raise StoreUnavailable(f"the store cannot be written: {_cause(error)}") from error

    def upgrade(self, work: Callable[[Connection], T]) -> T:
        def unhurried(connection: Connection) -> T:
            with _patience(connection.connection.driver_connection, TAKES_ITS_TIME):
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
            with self._reads.connect() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise StoreUnavailable(f"the store cannot be read: {_cause(error)}") from error

    def require(self) -> None:
        """Raises StoreUnavailable where nothing can be written: on a standby, say, after a failover."""
        self.read(_require_writes)

    def require_files(self) -> None:
        """Do nothing: the files are the server's."""

    def presence(self) -> Presence:
        return Presence()

    def announce(self) -> None:
        self._herald.announce()

    def listen(self, woken: Callable[[], None]) -> None:
        self._listener = threading.Thread(target=self._listen, args=(woken,), name="listen", daemon=True)
        self._listener.start()

    def close(self) -> None:
        self._closed.set()
        self._herald.close()
        if self._listener is not None:
            self._listener.join(timeout=2 * LISTENS)
        self._engine.dispose()

    def _listen(self, woken: Callable[[], None]) -> None:
        lost = False
        while not self._closed.is_set():
            try:
                with self._listening() as connection:
                    if lost:
                        woken()  # for what was announced meanwhile
                    lost = False
                    self._hear(connection, woken)
            except (SQLAlchemyError, DriverError) as error:
                if not lost and not self._closed.is_set():
                    log.warning("other processes are not heard, the poll serves: %s", cause(error))
                lost = True
                self._closed.wait(RECONNECTS)

    def _listening(self) -> Any:
        # Out of the pool: it is held for as long as the process lives.
        pooled = self._engine.raw_connection()
        connection: Any = pooled.driver_connection
        pooled.detach()
        connection.autocommit = True
        connection.execute(SQL("LISTEN {}").format(Identifier(CHANNEL)))
        return connection

    def _hear(self, connection: Any, woken: Callable[[], None]) -> None:
        while not self._closed.is_set():
            for notice in connection.notifies(timeout=LISTENS):
                if notice.payload != self._herald.name:
                    woken()


class Herald:
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
        self._thread.join(timeout=2 * CONNECTS)

    def _run(self) -> None:
        last = False
        while not last:
            self._changed.wait()
            self._changed.clear()
            last = self._closed
            if self._wanted:
                self._wanted = False
                self._notify()

    def _notify(self) -> None:
        notice = {"channel": CHANNEL, "name": self.name}
        try:
            with self._engine.connect() as connection:
                connection.execute(text("SELECT pg_notify(:channel, :name)"), notice)
        except SQLAlchemyError as error:
            log.warning("other processes are not woken, their poll serves: %s", cause(error))


class Session(DriverConnection[Any]):
    """A connection that does not wait for ever: a server that is frozen keeps it open and answers nothing."""

    #: How long the server may take for each answer, seconds.
    patience = ANSWERS

    def wait(self, gen: Any, interval: float = CHECKS, timeout: float | None = None) -> Any:
        """Raises psycopg's OperationalError where no answer came in time; the connection is closed then."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        begun = time.monotonic()
        try:
            return super().wait(gen, interval, self.patience)
        except DriverOperationalError as error:
            if time.monotonic() - begun < self.patience:
                raise
            self.close()
            raise DriverOperationalError(f"no answer within {self.patience:g} s") from error


@contextmanager
def _patience(session: Any, seconds: float) -> Iterator[None]:
    session.patience = seconds
    try:
        yield
    finally:
        session.patience = ANSWERS


def _require_writes(connection: Connection) -> None:
    if connection.execute(_READ_ONLY).scalar_one() == "on":
        connection.invalidate()  # a session keeps what it began with; the next one may write again
        raise StoreUnavailable("the store cannot be written: the database takes reads alone")


def _cause(error: BaseException) -> str:
    if isinstance(error, PoolTimeoutError):
        return f"no connection came free within {PATIENCE:g} s"
    return cause(error)


def connect(url: str) -> Engine:
    """An engine on psycopg; nothing is connected yet. Raises StoreUnavailable for odd options."""
    address = make_url(url).set(drivername="postgresql+psycopg")
    try:
        make_conninfo(**dict.fromkeys(address.query, ""))
        engine = _engine(address)
    except (SQLAlchemyError, DriverError) as error:
        raise StoreUnavailable(f"DATABASE_URL cannot be used: {str(error).strip()}") from error

    _use_sessions(engine)

    @event.listens_for(engine, "checkin")
    def _note(_connection: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _require_alive(connection: Any, record: Any, _fairy: Any) -> None:
        # One that died with its server is replaced before it is used. To ask each time would be a fifth of
        # a unit of work.
        if time.monotonic() - record.info.get("idle_since", math.inf) > MAX_IDLE:
            try:
                with _patience(connection, ANSWERS_AT_ONCE):
                    engine.dialect.do_ping(connection)
            except DriverError as error:
                raise DisconnectionError from error

    return engine


def _use_sessions(engine: Engine) -> None:
    @event.listens_for(engine, "do_connect")
    def _open(_dialect: Any, _record: Any, arguments: Any, parameters: Any) -> Session:
        return Session.connect(*arguments, **parameters)

    @event.listens_for(engine, "connect")
    def _prepare(session: Session, _record: Any) -> None:
        with session.cursor() as cursor:
            for statement in _SESSION:
                cursor.execute(statement)
        session.commit()

    @event.listens_for(engine, "handle_error")
    def _leave_read_only(context: ExceptionContext) -> None:
        # A session keeps what it began with: the next one may write again.
        if isinstance(context.original_exception, ReadOnlySqlTransaction):
            context.is_disconnect = True


def _engine(address: URL) -> Engine:
    return create_engine(
        address,
        pool_size=POOL,
        max_overflow=0,
        pool_timeout=PATIENCE,
        connect_args={
            "connect_timeout": int(CONNECTS),
            "tcp_user_timeout": int(2 * CONNECTS * 1000),
            # What waits for an answer has nothing to send: only probes notice that the way is cut.
            "keepalives_idle": int(CONNECTS),
            "keepalives_interval": int(CONNECTS),
            "keepalives_count": 2,
            "application_name": "bridge",
            "client_encoding": "utf8",
            # A pooler in front may give each transaction to another server process, which knows no
            # statement that was prepared before.
            "prepare_threshold": None,
        },
        hide_parameters=True,
    )
