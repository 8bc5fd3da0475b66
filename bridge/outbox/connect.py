"""Connections to the store, and every difference between databases."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url

from bridge.errors import StoreUnavailable

#: How long, in seconds, a statement waits for another process's lock.
BUSY_TIMEOUT = 10.0

#: The execution option of a connection whose transactions write.
WRITES = "bridge_writes"


class DatabaseFile:
    """The file that was opened, to notice when it is another one, or none, at its path."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened = self._identity()

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def require(self) -> None:
        """Raises StoreUnavailable where what is written now would be lost with the process."""
        if self._identity() != self._opened:
            raise StoreUnavailable(f"{self._path} was moved or deleted; put it back, or restart the bridge")


def connect(url: str, *, checkpoints: bool = True) -> Engine:
    """An engine on SQLite in WAL mode with ``synchronous=FULL``; the file's folder is made.

    A connection with the execution option WRITES begins its transactions with ``BEGIN IMMEDIATE``. Without
    `checkpoints` the process never checkpoints: that is left to the server beside it.
    """
    path = Path(make_url(url).database or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False},
        # An error's text goes to the log: an event's payload does not belong there.
        hide_parameters=True,
    )

    @event.listens_for(engine, "do_connect")
    def _require_writable(*_arguments: Any) -> None:
        # SQLite would open a file that may not be written for reading alone, and the pool would keep
        # that connection when it may be written again.
        for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            if file.exists() and not os.access(file, os.W_OK):
                raise sqlite3.OperationalError(f"{file} may not be written")

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # The driver would begin transactions by itself, too late and too weakly.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        if not checkpoints:
            cursor.execute("PRAGMA wal_autocheckpoint=0")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
