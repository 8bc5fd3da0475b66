"""Presence: whether other processes deliver from the same store."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from bridge.core.errors import StoreUnavailable


class Presence:
    """Of a process that cannot see the others: for all it knows, there are some."""

    def is_alone(self) -> bool:
        """Whether no other process delivers. While this is true nobody else can arrive, until `share`."""
        return False

    def share(self) -> None:
        """Deliver together with others."""

    def leave(self) -> None:
        """Deliver no more."""


class FileLock(Presence):
    """A lock on an SQLite database file, which every delivering process shares.

    It cannot be removed apart from the database, as a lock file can. The kernel releases it when a process
    ends, however it ends. On Linux flock is independent of the locks of SQLite, which are those of fcntl:
    https://man7.org/linux/man-pages/man2/flock.2.html
    """

    def __init__(self, database: Path) -> None:
        """Raises StoreUnavailable where it cannot be opened."""
        try:
            self._descriptor = os.open(database, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreUnavailable(f"{database} cannot be opened: {error.strerror}") from error

    def is_alone(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # others hold it, or the file system has no such locks
            return False
        return True

    def share(self) -> None:
        with suppress(OSError):  # without such locks nobody is alone
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def leave(self) -> None:
        with suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file, once no connection of this process uses the database.

        Closing any descriptor of a file releases the process's fcntl locks on it:
        https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
        """
        os.close(self._descriptor)
