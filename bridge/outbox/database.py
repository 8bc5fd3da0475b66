"""Database: what the outbox asks of a database, whichever it is.

Everything that differs between databases stands in the one subclass of each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from bridge.errors import BridgeError
from bridge.outbox.presence import Presence

T = TypeVar("T")


class Database(ABC):
    """One process's connections. Every method may be called from any thread."""

    @abstractmethod
    def write(self, work: Callable[[Connection], T]) -> T:
        """Run a unit of work and return once it is committed.

        Raises what `work` raises, its changes are undone then; and StoreUnavailable where nothing could be
        committed.
        """

    @abstractmethod
    def read(self, work: Callable[[Connection], T]) -> T:
        """Run work that only reads. Raises StoreUnavailable."""

    @abstractmethod
    def require(self) -> None:
        """Raises StoreUnavailable where what is written now would be lost with the process."""

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
