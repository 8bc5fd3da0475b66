"""Database: what the outbox asks of a database, whichever it is.

Everything that differs between databases stands in the one subclass of each.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from bridge.core.errors import BridgeError, StoreUnavailable
from bridge.outbox.presence import Presence

T = TypeVar("T")


class Database(ABC):
    """One process's connections. Every method may be called from any thread."""

    #: When a write failed for the last time since the store was proved, seconds of ``time.monotonic()``.
    _failed_at: float | None = None

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run a unit of work and return once it is committed.

        Raises what `work` raises, its changes are undone then; and StoreUnavailable where nothing could be
        committed, or is not known to be: within 10 s, after which some senders do not wait for an answer.
        """
        try:
            return self._write(work)
        except StoreUnavailable:
            self._failed_at = time.monotonic()
            raise

    def write_check(self, work: Callable[[Connection], object]) -> None:
        """Run a unit of work where a write has failed and nothing was proved since. Raises StoreUnavailable.

        Other writes write_check nothing: a claim that finds no job is committed on a full disk, too.
        """
        failed_at = self._failed_at
        if failed_at is None:
            return
        self.write(work)
        if self._failed_at == failed_at:
            self._failed_at = None

    @abstractmethod
    def _write(self, work: Callable[[Connection], T]) -> T:
        """What `write` does."""

    @abstractmethod
    def upgrade(self, work: Callable[[Connection], T]) -> T:
        """The same for a unit of work that takes its time."""

    @abstractmethod
    def read(self, work: Callable[[Connection], T]) -> T:
        """Run work that only reads. Raises StoreUnavailable."""

    @abstractmethod
    def require_writable(self) -> None:
        """Raises StoreUnavailable where what is written now would be lost with the process."""

    @abstractmethod
    def require_files(self) -> None:
        """Raises StoreUnavailable where a file of the database was moved or deleted. Asks no server."""

    @abstractmethod
    def presence(self) -> Presence:
        """Says whether other processes deliver from this store."""

    @abstractmethod
    def announce(self) -> None:
        """Tell other processes that a job may be due; soon, and as far as the database can."""

    @abstractmethod
    def listen(self, woken: Callable[[], None]) -> None:
        """Call `woken` whenever another process announces, until `close`; as far as the database can."""

    @abstractmethod
    def close(self) -> None:
        """Commit what has gathered and close every connection."""


def cause(error: BaseException) -> str:
    """The driver's own words in one line, without the statement and its values."""
    said = getattr(error, "orig", None) or error
    if said is error and not isinstance(error, (BridgeError, SQLAlchemyError, OSError)):
        return type(error).__name__
    return " ".join(str(said).split())
