"""Database: the interface of the outbox to SQLite and PostgreSQL, a subclass each."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

from sqlalchemy import URL, Connection, make_url
from sqlalchemy.exc import SQLAlchemyError

from bridge.core.errors import BridgeError, StoreUnavailable
from bridge.outbox.presence import Presence

A = TypeVar("A")
T = TypeVar("T")

#: Units of work of one kind that share their statements: each argument is one unit, each result one's result.
Batch: TypeAlias = Callable[[Connection, Sequence[A]], Sequence[T]]


def store_name(url: str) -> str:
    """Return the place of a store: the path of its file, or its URL without user, password and options."""
    parts = make_url(url)
    if parts.drivername.startswith("sqlite"):
        return str(Path(parts.database or "").resolve())
    return URL.create(
        "postgresql", host=parts.host, port=parts.port, database=parts.database
    ).render_as_string()


class RunAlone(Exception):
    """A batch failed and was undone: each of its units must run alone, so that only the faulty one fails."""


class Database(ABC):
    """One process's connections. Every method may be called from any thread."""

    #: When the last write failed, seconds of ``time.monotonic()``; None after a successful write check.
    _failed_at: float | None = None

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run a unit of work and return once it is committed.

        Undoes the changes and raises what `work` raises. Raises StoreUnavailable if nothing was committed, or
        may not have been: within 10 s, since some senders do not wait longer for an answer.
        """
        try:
            return self._write(work)
        except StoreUnavailable:
            self._failed_at = time.monotonic()
            raise

    def write_in_batch(self, batch: Batch[A, T], argument: A) -> T:
        """Run a unit of work that may share its statements with others, like `write`."""
        try:
            return self._write_in_batch(batch, argument)
        except RunAlone:
            return self.write(lambda connection: batch(connection, [argument])[0])
        except StoreUnavailable:
            self._failed_at = time.monotonic()
            raise

    def write_check(self, work: Callable[[Connection], object]) -> None:
        """Run a unit of work if a write has failed since the last check. Raises StoreUnavailable.

        Other writes are no check: a claim without jobs is committed on a full disk, too.
        """
        failed_at = self._failed_at
        if failed_at is None:
            return
        self.write(work)
        if self._failed_at == failed_at:
            self._failed_at = None

    @abstractmethod
    def _write(self, work: Callable[[Connection], T]) -> T:
        """Run `write` on this kind of database."""

    @abstractmethod
    def _write_in_batch(self, batch: Batch[A, T], argument: A) -> T:
        """Run `write_in_batch` on this kind of database. Raises RunAlone if a batch with others failed."""

    @abstractmethod
    def upgrade(self, work: Callable[[Connection], T]) -> T:
        """Run a unit of work like `write`, without a limit on its time."""

    @abstractmethod
    def read(self, work: Callable[[Connection], T]) -> T:
        """Run work that only reads. Raises StoreUnavailable."""

    def require_writable(self) -> None:
        """Raise StoreUnavailable if nothing can be written, or it would be lost with the process."""
        self.require_files()

    @abstractmethod
    def require_files(self) -> None:
        """Raise StoreUnavailable if a file of the database was moved or deleted. Contacts no server."""

    def presence(self) -> Presence:
        """Return a view of the other processes that deliver from this store."""
        return Presence()

    @abstractmethod
    def announce(self) -> None:
        """Notify other processes soon that a job may be due, if the database can."""

    @abstractmethod
    def listen(self, on_notice: Callable[[], None]) -> None:
        """Call `on_notice` whenever another process announces, until `close`, if the database can."""

    @abstractmethod
    def close(self) -> None:
        """Commit what is queued and close every connection."""


def cause(error: BaseException) -> str:
    """Return the driver's message in one line, without the statement and its values."""
    said = getattr(error, "orig", None) or error
    if said is error and not isinstance(error, (BridgeError, SQLAlchemyError, OSError)):
        return type(error).__name__
    return " ".join(str(said).split())
