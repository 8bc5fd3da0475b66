"""Reload of an edited table in a running process. An invalid table is rejected."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from bridge.config.files import Fingerprint, edited_at, fingerprint
from bridge.config.load import Loaded
from bridge.core.errors import ConfigError
from bridge.core.problem import Problem, Severity
from bridge.process.log_fields import Fields

#: Seconds between two checks of the files. A check costs a few system calls, and notification of a save does
#: not work on every file system.
POLL_INTERVAL = 0.4
#: The most attempts to read a table that is edited meanwhile.
READ_ATTEMPTS_LIMIT = 5
REJECTED_TEXT = "the routing table is invalid; the last valid one stays active"
RELOAD_FAILED_TEXT = "the routing table cannot be reloaded; the last valid one stays active"

log = logging.getLogger(__name__)


class TableWatcher:
    """Load the table at `config` again after edits.

    Editors and `git` write several files, and some a file in several steps. A part of an edit may be a valid
    table, so files are read only if they stay the same for POLL_INTERVAL seconds.
    """

    def __init__(
        self,
        config: Path,
        read: Callable[[], Loaded],
        extra_files: Callable[[], Collection[Path]] = frozenset,
    ) -> None:
        """`extra_files` returns the other files that the table has read, such as secrets."""
        self._config = config
        self._read = read
        self._extra_files = extra_files
        self._watched_files = extra_files()
        self._last_seen = self._last_loaded = self._fingerprint()

    def load(self) -> Loaded:
        """Return the table as it is now. Raises ConfigError."""
        for _ in range(READ_ATTEMPTS_LIMIT):
            if abs(time.time() - edited_at(self._fingerprint())) < POLL_INTERVAL:
                time.sleep(POLL_INTERVAL)
            self._last_seen = self._fingerprint()
            try:
                loaded = self._read()
            except ConfigError:
                if self._is_unchanged():
                    raise
            else:
                if self._is_unchanged():
                    return loaded
        return self._read()

    def load_if_edited(self) -> Loaded | None:
        """Return the table if it was edited. Call this every POLL_INTERVAL seconds.

        Raises ConfigError, once for each edit.
        """
        before, self._last_seen = self._last_seen, self._fingerprint()
        if self._last_seen == self._last_loaded or self._last_seen != before:
            return None
        try:
            loaded = self._read()
        except ConfigError:
            if self._is_unchanged():
                raise
            return None
        return loaded if self._is_unchanged() else None

    def _is_unchanged(self) -> bool:
        """Return whether no file changed during the read. Then it counts as loaded."""
        if self._fingerprint() != self._last_seen:
            return False
        if (known := self._extra_files()) != self._watched_files:
            self._watched_files = known
            self._last_seen = self._fingerprint()
        self._last_loaded = self._last_seen
        return True

    def _fingerprint(self) -> Fingerprint:
        return fingerprint(self._config, self._watched_files)


class Reloader:
    """Reload the table in one process when it is edited."""

    def __init__(
        self,
        watcher: TableWatcher,
        use: Callable[[Loaded], None],
        rejected: tuple[Problem, ...] = (),
        *,
        tick: Callable[[], object] = time.time,
    ) -> None:
        """`use` activates a table. `rejected` are the problems of the current files, if they are invalid.

        `tick` is called at every check, so that the process's clock notices jumps.
        """
        self._watcher = watcher
        self._use = use
        #: The problems of the table that BRIDGE_CONFIG names; empty if it is active.
        self.rejected = rejected
        self._reload_requested = False
        self._tick = tick
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    @property
    def trouble(self) -> str | None:
        """Return one line with the first error of a rejected table, or None."""
        for problem in self.rejected:
            if problem.severity is Severity.ERROR:
                return f"{REJECTED_TEXT}; run check: {str(problem).splitlines()[0]}"
        return None

    def start(self) -> None:
        self._thread.start()

    def reload(self) -> None:
        """Read the table at the next check, edited or not. Safe in a signal handler: it uses no lock."""
        self._reload_requested = True

    def close(self) -> None:
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(POLL_INTERVAL):
            self._tick()
            self._look()

    def _look(self) -> None:
        reload_requested, self._reload_requested = self._reload_requested, False
        try:
            loaded = self._watcher.load() if reload_requested else self._watcher.load_if_edited()
            if loaded is not None:
                self._use(loaded)
                self.rejected = ()
                version, routes = loaded.version.hash, len(loaded.table.routes)
                fields = Fields("reload", table_hash=version, routes=routes)
                log.info("the routing table is reloaded: %(table_hash)s, routes: %(routes)d", fields)
        except ConfigError as error:
            log_rejected_table(error.problems)
            self.rejected = error.problems
        except Exception:
            # After a defect, later edits must still be loaded.
            log.exception(RELOAD_FAILED_TEXT, Fields("defect"))


def log_rejected_table(problems: tuple[Problem, ...]) -> None:
    """Log the problems of a rejected table, in the format of `check`."""
    log.error(REJECTED_TEXT, Fields("reload_rejected"))
    for problem in problems:
        log.error("%(reason)s", Fields("table_problem", reason=str(problem)))
