"""One session with PostgreSQL, and how each of its transactions begins."""

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

#: How long, in seconds, connecting waits for an answer.
CONNECT_TIMEOUT = 5.0
#: How long, in seconds, a statement or a commit waits for its answer: longer than for a lock, of which the
#: server says so itself.
ANSWER_TIMEOUT = 6.0
#: The same where the question is only whether the connection is alive.
LIVENESS_TIMEOUT = 1.0
#: How often, in seconds, one who waits for an answer looks whether the connection is still open.
CLOSED_CHECK_INTERVAL = 0.1

#: How each transaction begins, in one round trip. Nothing is set for the whole session: a pooler gives each
#: transaction another session, and a session to other programs.
_BEGIN = (
    # A snapshot that is older than a lock would not see what its last holder has written.
    "BEGIN ISOLATION LEVEL READ COMMITTED;"
    # A process that is frozen, or cut off, in the middle of a transaction must not keep its locks from all
    # others; nor may they wait for it without a word.
    "SET LOCAL idle_in_transaction_session_timeout = '10s';"
    "SET LOCAL lock_timeout = '5s';"
    # A role's own may be shorter than a statement needs.
    f"SET LOCAL statement_timeout = '{ANSWER_TIMEOUT:g}s';"
    # A lower value rounds the timestamps that are read: a due job would wait for hours.
    "SET LOCAL extra_float_digits = 3;"
    # Not to lose what was committed last.
    "SET LOCAL synchronous_commit = "
)

_SETTINGS = """
SELECT current_setting('server_encoding'), current_setting('transaction_isolation'),
  current_setting('synchronous_commit'), current_schema(), current_setting('search_path')
"""


class Session(DriverConnection[Any]):
    """A connection that does not wait for ever: a server that is frozen keeps it open and answers nothing."""

    #: How long the server may take for each answer, seconds.
    answer_timeout = ANSWER_TIMEOUT
    #: The synchronous_commit of its transactions.
    durability = "on"

    def wait(self, gen: Any, interval: float = CLOSED_CHECK_INTERVAL, timeout: float | None = None) -> Any:
        """Raises psycopg's OperationalError where no answer came in time; the connection is closed then."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        begun = time.monotonic()
        try:
            return super().wait(gen, interval, self.answer_timeout)
        except DriverOperationalError as error:
            if time.monotonic() - begun < self.answer_timeout:
                raise
            self.close()
            raise DriverOperationalError(f"no answer within {self.answer_timeout:g} s") from error

    @property
    def begin_statements(self) -> str:
        """The statements that begin a transaction."""
        limit = ";SET LOCAL transaction_timeout = 0" if self.info.server_version >= 170000 else ""
        return f"{_BEGIN}{self.durability}{limit}"

    @property
    def is_alive(self) -> bool:
        """Whether the server answers at once."""
        try:
            with self.with_answer_timeout(LIVENESS_TIMEOUT):
                self.execute("SELECT 1")
        except DriverError:
            return False
        return True

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler is in between: it names a process that is not the one that answers."""
        row = self.execute("SELECT pg_backend_pid()").fetchone()
        return row is None or row[0] != self.info.backend_pid

    def listen(self, channel: str) -> None:
        """Receive the notices of a channel, for as long as the session lives."""
        if self.info.server_version >= 140000:
            self.execute("SET idle_session_timeout = 0")
        self.execute(SQL("LISTEN {}").format(Identifier(channel)))

    @contextmanager
    def with_answer_timeout(self, seconds: float) -> Iterator[None]:
        """Give the server another time for each answer."""
        self.answer_timeout = seconds
        try:
            yield
        finally:
            self.answer_timeout = ANSWER_TIMEOUT

    def require_settings(self) -> None:
        """Raises StoreUnavailable if this database cannot keep the store's promises."""
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
        """What may make the server itself lose what it has committed."""
        settings = "SELECT current_setting('fsync'), current_setting('full_page_writes')"
        fsync, full_page_writes = self.execute(settings).fetchone() or ("on", "on")
        if "off" not in (fsync, full_page_writes):
            return None
        return (
            f"PostgreSQL may lose data in a crash: fsync is {fsync} and full_page_writes is "
            f"{full_page_writes}, both must be on"
        )


def connect(url: str) -> Engine:
    """An engine on psycopg; nothing is connected yet. Raises StoreUnavailable for odd options."""
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
        connection.exec_driver_sql(session.begin_statements)

    @event.listens_for(engine, "handle_error")
    def _close_idle(context: ExceptionContext) -> None:
        # A session keeps what it began with: the next one may write again.
        if isinstance(context.original_exception, ReadOnlySqlTransaction):
            context.is_disconnect = True
        # SQLAlchemy would close sessions at each checkout until the wall clock passes the time of this error.
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
            # What waits for an answer has nothing to send: only probes notice that the way is cut.
            "keepalives_idle": int(CONNECT_TIMEOUT),
            "keepalives_interval": int(CONNECT_TIMEOUT),
            "keepalives_count": 2,
            "application_name": "bridge",
            "client_encoding": "utf8",
            # A pooler in front may give each transaction to another server process, which knows no
            # statement that was prepared before.
            "prepare_threshold": None,
        },
        hide_parameters=True,
    )
