"""A session with PostgreSQL, and the settings of its transactions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from psycopg import Connection as DriverConnection
from psycopg import Error as DriverError
from psycopg import OperationalError as DriverOperationalError
from psycopg.conninfo import make_conninfo
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.sql import SQL, Identifier
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext, make_url
from sqlalchemy.exc import SQLAlchemyError

from bridge.core.errors import StoreUnavailable
from bridge.outbox.pool import ElasticPool
from bridge.outbox.writer import WRITES_OPTION

#: How long connecting waits for an answer, seconds.
CONNECT_TIMEOUT = 5.0
#: How long a statement or a commit waits for its answer, seconds: longer than the server's lock_timeout.
ANSWER_TIMEOUT = 6.0
#: The same for the check whether an idle connection is alive.
LIVENESS_TIMEOUT = 1.0
#: How often a wait for an answer checks whether the connection is still open, seconds.
CLOSED_CHECK_INTERVAL = 0.1

#: The start of each transaction, in one round trip. Nothing is set for the session: a pooler shares sessions
#: with other programs.
_BEGIN = (
    # A snapshot older than a lock would not contain the changes of its last holder.
    "BEGIN ISOLATION LEVEL READ COMMITTED;"
    # A process that is frozen or cut off during a transaction must not block the others.
    "SET LOCAL idle_in_transaction_session_timeout = '10s';"
    "SET LOCAL lock_timeout = '5s';"
    # The role's may be too short.
    f"SET LOCAL statement_timeout = '{ANSWER_TIMEOUT:g}s';"
    # A lower value rounds timestamps, and a due job would wait for hours.
    "SET LOCAL extra_float_digits = 3;"
    # Otherwise the driver escapes the bytes in an array twice.
    "SET LOCAL standard_conforming_strings = on;"
    # A crash must not lose commits.
    "SET LOCAL synchronous_commit = "
)

# A batch that waits holds up every unit of its kind. After this its units run alone.
_BEGIN_BATCH = ";SET LOCAL lock_timeout = '1s'"

_SETTINGS = """
SELECT current_setting('server_encoding'), current_setting('transaction_isolation'),
  current_setting('synchronous_commit'), current_schema(), current_setting('search_path')
"""


class Session(DriverConnection[Any]):
    """A connection with a time-out for each answer: a frozen server keeps it open without answering."""

    #: Seconds.
    answer_timeout = ANSWER_TIMEOUT
    #: The synchronous_commit of its transactions.
    durability = "on"

    def wait(self, gen: Any, interval: float = CLOSED_CHECK_INTERVAL, timeout: float | None = None) -> Any:
        """Close the connection and raise psycopg's OperationalError if no answer comes in time."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        begun = time.monotonic()
        try:
            return super().wait(gen, interval, self.answer_timeout)
        except DriverOperationalError as error:
            if time.monotonic() - begun < self.answer_timeout:
                raise
            self.close()
            message = f"the database did not answer within {self.answer_timeout:g} s"
            raise DriverOperationalError(message) from error

    @property
    def begin_statements(self) -> str:
        """Return the statements that begin a transaction."""
        limit = ";SET LOCAL transaction_timeout = 0" if self.info.server_version >= 170000 else ""
        return f"{_BEGIN}{self.durability}{limit}"

    @property
    def is_alive(self) -> bool:
        """Return whether the server answers at once."""
        try:
            with self.with_answer_timeout(LIVENESS_TIMEOUT):
                self.execute("SELECT 1")
        except DriverError:
            return False
        return True

    @property
    def is_pooled(self) -> bool:
        """Return whether a pooler is in between: it reports another process than the one that answers."""
        row = self.execute("SELECT pg_backend_pid()").fetchone()
        return row is None or row[0] != self.info.backend_pid

    def listen(self, channel: str) -> None:
        """Receive the notices of a channel until the session ends."""
        if self.info.server_version >= 140000:
            self.execute("SET idle_session_timeout = 0")
        self.execute(SQL("LISTEN {}").format(Identifier(channel)))

    @contextmanager
    def with_answer_timeout(self, seconds: float) -> Iterator[None]:
        """Set the time-out of answers within the context."""
        self.answer_timeout = seconds
        try:
            yield
        finally:
            self.answer_timeout = ANSWER_TIMEOUT

    def require_settings(self) -> None:
        """Raise StoreUnavailable if this database cannot give the store's guarantees."""
        row = self.execute("SELECT current_setting('synchronous_commit')").fetchone()
        if row is not None and row[0] not in ("off", "local"):
            self.durability = row[0]
        if "options" in self.info.get_parameters() and self.is_pooled:
            raise StoreUnavailable(
                "DATABASE_URL or PGOPTIONS has options, but a pooler is in front of PostgreSQL and may "
                "ignore them: remove them, and set a search_path with ALTER ROLE"
            )
        self.execute(self.begin_statements)
        row = self.execute(_SETTINGS).fetchone()
        self.rollback()
        encoding, isolation, commit, schema, path = row or (None,) * 5
        if encoding != "UTF8":
            raise StoreUnavailable(
                f"the database's encoding is {encoding}, the bridge needs UTF8: create another database with "
                "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and name it in DATABASE_URL"
            )
        if schema is None:
            raise StoreUnavailable(
                f"search_path is {path}, and the role may use no such schema: create the schema, grant "
                "USAGE on it, or change the search_path of the role or database"
            )
        if isolation != "read committed" or commit in ("off", "local"):
            raise StoreUnavailable(
                f"PostgreSQL ignores what the bridge sets (isolation is {isolation}, not read committed; "
                f"synchronous_commit is {commit}, not on): name another database in DATABASE_URL"
            )

    @property
    def durability_risk(self) -> str | None:
        """Return why the server may lose commits in a crash, or None."""
        settings = "SELECT current_setting('fsync'), current_setting('full_page_writes')"
        fsync, full_page_writes = self.execute(settings).fetchone() or ("on", "on")
        if "off" not in (fsync, full_page_writes):
            return None
        return (
            f"PostgreSQL may lose data in a crash: fsync is {fsync} and full_page_writes is "
            f"{full_page_writes}, both must be on"
        )


def connect(url: str) -> Engine:
    """Return an engine without a connection. Raises StoreUnavailable for invalid options."""
    address = make_url(url).set(drivername="postgresql+psycopg")
    try:
        make_conninfo(**dict.fromkeys(address.query, ""))
        engine = _engine(address)
    except (SQLAlchemyError, DriverError) as error:
        raise StoreUnavailable(f"DATABASE_URL cannot be used: {str(error).strip()}") from error

    @event.listens_for(engine, "do_connect")
    def _open(_dialect: Any, _record: Any, arguments: Any, parameters: Any) -> Session:
        return Session.connect(*arguments, **parameters)

    @event.listens_for(engine, "connect")
    def _read_back(session: Session, _record: Any) -> None:
        try:
            session.require_settings()
        except BaseException:
            session.close()
            raise

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        session: Any = connection.connection.driver_connection
        is_batch = connection.get_execution_options().get(WRITES_OPTION, False)
        connection.exec_driver_sql(session.begin_statements + (_BEGIN_BATCH if is_batch else ""))

    @event.listens_for(engine, "handle_error")
    def _close_idle(context: ExceptionContext) -> None:
        # A session stays read-only: the next one may be able to write.
        if isinstance(context.original_exception, ReadOnlySqlTransaction):
            context.is_disconnect = True
        # SQLAlchemy would compare sessions with this error by the wall clock, which may jump.
        context.invalidate_pool_on_disconnect = False
        if context.is_disconnect:
            cast(ElasticPool, engine.pool).close_idle()

    return engine


def _engine(address: URL) -> Engine:
    return create_engine(
        address,
        poolclass=ElasticPool,
        # The driver begins no transaction by itself.
        isolation_level="AUTOCOMMIT",
        use_native_hstore=False,
        connect_args={
            "connect_timeout": int(CONNECT_TIMEOUT),
            "tcp_user_timeout": int(2 * CONNECT_TIMEOUT * 1000),
            # While the client waits for an answer, only probes detect a broken network.
            "keepalives_idle": int(CONNECT_TIMEOUT),
            "keepalives_interval": int(CONNECT_TIMEOUT),
            "keepalives_count": 2,
            "application_name": "bridge",
            "client_encoding": "utf8",
            # A pooler may give each transaction another server process, without the prepared statements.
            "prepare_threshold": None,
        },
        hide_parameters=True,
    )
