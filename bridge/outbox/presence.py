"""Presence: whether other processes deliver from the same store."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from bridge.errors import StoreUnavailable


class Presence:
    """Of a process that cannot see the others: for all it knows, there are some."""

    def is_alone(self) -> bool:
        """Whether no other process delivers. While this is true nobody else can arrive, until `share`."""
        return False

    def share(self) -> None:
        """Deliver together with others."""

    def close(self) -> None:
        """Deliver no more."""


class LockFile(Presence):
    """A file beside an SQLite database, held by every delivering process.

    The kernel lets go of it when a process ends, however it ends.
    """

    def __init__(self, database: Path) -> None:
        """Raises StoreUnavailable where it cannot be made."""
        path = f"{database}.lock"
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"{path} cannot be opened: {error.strerror}") from error

    def is_alone(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def share(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def close(self) -> None:
        os.close(self._descriptor)
