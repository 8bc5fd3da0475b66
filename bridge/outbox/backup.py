"""Back up an SQLite database while other processes use it; name the command that backs up PostgreSQL."""

from __future__ import annotations

import os
import shlex
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import make_url

from bridge.core.errors import EmptyStore, StoreUnavailable
from bridge.outbox import migrations
from bridge.outbox.database import store_name
from bridge.outbox.sqlite import read_only

_COUNTS = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM jobs)"


def back_up(url: str, target: Path | None, now: float) -> tuple[Path, int, int]:
    """Copy an SQLite database into a new file that only this user can read.

    `target` is the file, or a folder (by default the database's) for a file with the time in its name. Return
    the file, and how many events and jobs it has. Raises NoStore, StoreUnavailable.
    """
    path = Path(store_name(url))
    with read_only(url) as source:
        if migrations.revision(source) is None:
            raise EmptyStore("the database is empty")
        target = (target or path.parent).absolute()
        if target.is_dir():
            target /= f"{path.stem}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}{path.suffix}"
        if target.exists():
            raise StoreUnavailable(f"{target} exists: name another file")
        try:
            return target, *_copy(source, target)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"{path} cannot be backed up to {target}: {error}") from error


def _copy(source: Connection, target: Path) -> tuple[int, int]:
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(descriptor)
    copy = Path(name)
    try:
        with closing(sqlite3.connect(copy)) as destination:
            session: Any = source.connection.driver_connection
            # In one step: between steps, SQLite begins again whenever another process has written.
            session.backup(destination)
        counts = _verified(copy)
        copy.rename(target)
    finally:
        copy.unlink(missing_ok=True)
    return counts


def _verified(copy: Path) -> tuple[int, int]:
    """Return how many events and jobs the copy has. Raises StoreUnavailable if it is damaged."""
    # The copy is in WAL mode, too. Immutable, it needs no log, which some file systems do not support.
    with closing(sqlite3.connect(f"{copy.as_uri()}?immutable=1", uri=True)) as connection:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise StoreUnavailable(
                f"the database is damaged, and there is no backup of it: {found.splitlines()[-1]}"
            )
        events, jobs = connection.execute(_COUNTS).fetchone()
        return events, jobs


def pg_dump_command(url: str) -> str:
    """Return the command that backs up a PostgreSQL database, without its password."""
    address = make_url(url)._replace(password=None).difference_update_query(["password", "sslpassword"])
    return f"pg_dump --format=custom --file=bridge.dump {shlex.quote(address.render_as_string())}"
