"""The store in an SQLite file: WAL mode, and one thread of each process writes, with group commit."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from bridge.core.errors import NoStore, StoreUnavailable
from bridge.outbox.database import Batch, Database, cause, store_name
from bridge.outbox.presence import FileLock, Presence
from bridge.outbox.writer import WRITES_OPTION, Writer
from bridge.process.log_fields import Fields

A = TypeVar("A")
T = TypeVar("T")

log = logging.getLogger(__name__)

#: How long a statement waits for another process's lock, seconds. With the wait for a commit to start it is
#: under the 10 s that GitHub waits for an answer.
BUSY_TIMEOUT = 4.0
#: The settings that the store's guarantees need, checked on each new connection; synchronous 2 is FULL.
SETTINGS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


class SQLite(Database):
    """An SQLite file. Without `checkpoints` the process leaves checkpoints to the server beside it."""

    def __init__(self, url: str, *, checkpoints: bool, create: bool = True) -> None:
        self._path = Path(make_url(url).database or "")
        if not create and not self._path.exists():
            raise NoStore(f"{self._path} does not exist")
        try:
            self._engine = connect(url, checkpoints=checkpoints)
            with self._engine.connect() as connection:  # fails if it is not a database
                connection.exec_driver_sql("SELECT 1 FROM sqlite_schema LIMIT 1").all()  # opens every file
        except (SQLAlchemyError, OSError) as error:
            raise StoreUnavailable(f"{url} cannot be opened: {cause(error)}") from error
        _close_to_others(self._path)
        self._files = OpenFiles(self._path)
        self._log_saved = False
        self._locks: list[FileLock] = []
        event.listen(self._engine, "do_connect", self._require_same_files)
        self._writer = Writer(self._engine, self._require_own_files, self._save_commit)

    def _write(self, work: Callable[[Connection], T]) -> T:
        return self._writer.write(work)

    def _write_in_batch(self, batch: Batch[A, T], argument: A) -> T:
        return self._writer.write_in_batch(batch, argument)

    def upgrade(self, work: Callable[[Connection], T]) -> T:
        return self.write(work)  # a unit that runs has no time-out

    def read(self, work: Callable[[Connection], T]) -> T:
        self.require_files()
        try:
            with self._engine.connect() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise StoreUnavailable(f"the database cannot be read: {cause(error)}") from error

    def require_files(self) -> None:
        if self._writer.is_closed:  # SQLite has deleted its log
            raise StoreUnavailable("the database is closed")
        if changed := self._files.changed():
            self._files.require_database()
            self._save_log()
            raise StoreUnavailable(
                f"{changed[0]} was moved or deleted, and everything stored is saved in {self._path}; "
                "stop the bridge and start it again"
            )

    def _require_same_files(self, *_: object) -> None:
        """Refuse a connection to replaced files: it would corrupt the database."""
        if changed := self._files.changed():
            raise sqlite3.OperationalError(f"{changed[0]} was moved or deleted")

    def _require_own_files(self) -> None:
        """Raise StoreUnavailable if a commit would be lost, or another process uses other files."""
        self._files.require_database()
        if replaced := self._files.replaced():
            raise StoreUnavailable(f"{replaced[0]} is another file now; stop the bridge and start it again")

    def _save_commit(self) -> None:
        """Save a commit that went to a deleted log, even if another process has created a new log since."""
        self._log_saved = False
        self._save_log()

    def _save_log(self) -> None:
        """Copy a deleted log, whose file is still open, into the database. Raises StoreUnavailable."""
        # A new log at that path may hold commits of another process.
        if not self._files.changed() or (self._log_saved and self._files.replaced()):
            return
        try:
            with self._engine.connect() as connection:
                # On the driver's cursor, since a transaction would prevent the checkpoint. TRUNCATE leaves no
                # frame that this process could mistake for one of another process.
                cursor = connection.connection.cursor()
                (busy, *_) = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                cursor.close()
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise StoreUnavailable(f"the deleted {self._path}-wal cannot be saved: {cause(error)}") from error
        if busy:
            raise StoreUnavailable(f"the deleted {self._path}-wal cannot be saved yet: it is in use")
        self._log_saved = True

    def presence(self) -> Presence:
        lock = FileLock(self._path)
        self._locks.append(lock)
        return lock

    def announce(self) -> None:
        """Do nothing: SQLite has no notices, and other processes poll."""

    def listen(self, on_notice: Callable[[], None]) -> None:
        """Do nothing: this process polls."""

    def close(self) -> None:
        self._writer.close()
        self._engine.dispose()
        while self._locks:
            self._locks.pop().close()


class OpenFiles:
    """The files of an open database, to detect when one is moved, deleted or replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = {file: _identity(file) for file in _files(path)}

    def changed(self) -> list[Path]:
        """Return the paths that no longer name the opened file."""
        return [file for file, opened in self._opened.items() if _identity(file) != opened]

    def replaced(self) -> list[Path]:
        """Return the paths that name another file."""
        return [file for file in self.changed() if file.exists()]

    def require_database(self) -> None:
        """Raise StoreUnavailable if the database itself is not at its path."""
        if _identity(self._path) != self._opened[self._path]:
            raise StoreUnavailable(f"{self._path} was moved or deleted; put it back, or restart the bridge")


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def connect(url: str, *, checkpoints: bool = True) -> Engine:
    """Return an engine in WAL mode with ``synchronous=FULL``; create a missing file, private to this user.

    A connection with the execution option WRITES_OPTION begins its transactions with ``BEGIN IMMEDIATE``.
    """
    path = Path(make_url(url).database or "")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _make_file(path)
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False},
        # Errors are logged, and must not contain payloads.
        hide_parameters=True,
    )

    @event.listens_for(engine, "do_connect")
    def _require_writable(*_arguments: Any) -> None:
        # SQLite would open the file read-only, and the pool would keep that connection after it is writable.
        for file in _files(path):
            if file.exists() and not os.access(file, os.W_OK):
                raise sqlite3.OperationalError(
                    f"the bridge cannot write to {file}; check its owner and permissions"
                )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # The driver must not begin transactions by itself.
        connection.isolation_level = None
        cursor = connection.cursor()
        _use_wal(cursor)
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA temp_store=MEMORY")  # no other folder need be writable
        for name, expected in SETTINGS.items():
            (actual,) = cursor.execute(f"PRAGMA {name}").fetchone()
            if actual != expected:
                raise sqlite3.OperationalError(
                    f"PRAGMA {name} is {actual}, not {expected}: put the database on a local file system"
                )
        if not checkpoints:
            cursor.execute("PRAGMA wal_autocheckpoint=0")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES_OPTION, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def read_only(url: str) -> Iterator[Connection]:
    """Yield a connection to an existing file that cannot write. Raises NoStore, StoreUnavailable.

    It is safe beside any other process with any release of SQLite. It never checkpoints, not even when it is
    the last connection to close: that needs a lock that a file opened to read cannot have.
    """
    path = Path(store_name(url))
    if not path.exists():
        raise NoStore(f"{path} does not exist")
    address = f"{path.as_uri()}?mode=ro"
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT),
        poolclass=NullPool,
        hide_parameters=True,
    )
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise StoreUnavailable(f"{path} cannot be read: {cause(error)}") from error


def _files(path: Path) -> tuple[Path, ...]:
    """Return the database, and the files that SQLite creates beside it with the same mode."""
    return path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _make_file(path: Path) -> None:
    """Create an empty database that only this user can read, if there is none. Raises OSError."""
    # Without opening an existing file: closing it would release the locks of this process's connections.
    with suppress(FileExistsError):
        os.close(os.open(path.resolve(), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def _close_to_others(path: Path) -> None:
    """Remove other users' access to an existing database, such as a restored one, but not to its folder."""
    for file in _files(path.resolve()):
        try:
            mode = file.stat().st_mode
            if mode & 0o077:
                file.chmod(mode & 0o700)
        except FileNotFoundError:
            pass
        except OSError as error:
            why = f"{file} is open to other users; run chmod 600 on it: {error.strerror}"
            log.warning("%(reason)s", Fields("store", reason=why))


def _use_wal(cursor: sqlite3.Cursor) -> None:
    """Set WAL mode, waiting for another process that does so: SQLite's busy time-out does not apply."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
