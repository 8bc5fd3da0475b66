"""Whether other processes deliver from the same SQLite file: a lock file beside it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Presence:
    """Held by every delivering process; the kernel lets go when the process ends, however it ends."""

    def __init__(self, database: Path) -> None:
        self._descriptor = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def is_alone(self) -> bool:
        """Whether no other process holds it. While this is true nobody else can arrive, until `share`."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def share(self) -> None:
        """Hold it together with others."""
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def close(self) -> None:
        os.close(self._descriptor)
