"""Presence: detects other processes that deliver from the same store."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from bridge.core.errors import StoreUnavailable


class Presence:
    """The presence on a database where processes cannot see each other: there may be others."""

    def is_alone(self) -> bool:
        """Return whether no other process delivers. If so, none can start to deliver before `share`."""
        return False

    def share(self) -> None:
        """Let others deliver, too."""

    def leave(self) -> None:
        """Stop delivering."""


class FileLock(Presence):
    """A lock on an SQLite database file, which every delivering process shares.

    Unlike a lock file it cannot be deleted apart from the database. The kernel releases it when the process
    ends. On Linux, flock is independent of SQLite's fcntl locks:
    https://man7.org/linux/man-pages/man2/flock.2.html
    """

    def __init__(self, database: Path) -> None:
        """Raises StoreUnavailable if the file cannot be opened."""
        try:
            self._descriptor = os.open(database, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreUnavailable(f"{database} cannot be opened: {error.strerror}") from error

    def is_alone(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # others have it, or the file system has no locks
            return False
        return True

    def share(self) -> None:
        with suppress(OSError):  # without locks no process is alone
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
