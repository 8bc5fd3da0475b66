"""Connections to the store, and every difference between databases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url

#: How long, in seconds, a statement waits for another process's lock.
BUSY_TIMEOUT = 10.0

#: The execution option of a connection whose transactions write.
WRITES = "bridge_writes"


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
