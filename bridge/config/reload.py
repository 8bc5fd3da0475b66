"""Reload: an edited table comes into force in a running process, and one with mistakes does not."""

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

#: How often, in seconds, the files are looked at. What would wake at a save does not on every file system,
#: and a look costs a few system calls.
POLL_INTERVAL = 0.4
#: How often a table is read anew that was edited meanwhile, before a start goes on with what is there.
READ_ATTEMPTS_LIMIT = 5
#: What is told of a table that does not come into force.
REJECTED_TEXT = "the routing table has mistakes, the last good one stays in force"

log = logging.getLogger(__name__)


class TableWatcher:
    """The table at `config` as it is edited; each time it is read whole.

    Editors and `git` write more than one file, and some a file in more than one step. Half of a table may
    well have no mistakes, so what is no longer the same after LOOKS seconds is not read yet.
    """

    def __init__(
        self,
        config: Path,
        read: Callable[[], Loaded],
        extra_files: Callable[[], Collection[Path]] = frozenset,
    ) -> None:
        """`beside` are the files that were read so far for what stands in others than the table's."""
        self._config = config
        self._read = read
        self._extra_files = extra_files
        #: Those of them that are looked at.
        self._watched_files = extra_files()
        self._last_seen = self._last_loaded = self._fingerprint()

    def load(self) -> Loaded:
        """The table as it is. Raises ConfigError."""
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
        """The table, if it was edited since it was last read; to be asked every LOOKS seconds.

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
        """Whether it is still what was seen before it was read; then it is not read again."""
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
    """Lets one process go by the table as it is edited."""

    def __init__(
        self,
        watcher: TableWatcher,
        use: Callable[[Loaded], None],
        rejected: tuple[Problem, ...] = (),
        *,
        tick: Callable[[], object] = time.time,
    ) -> None:
        """`use` brings a table into force. `refused` are the mistakes of one that is not.

        `tick` is called at every look: the process's clock notices jumps by it.
        """
        self._watcher = watcher
        self._use = use
        #: Why the table is not in force that BRIDGE_CONFIG names; empty where it is.
        self.rejected = rejected
        self._asked = False
        self._tick = tick
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    @property
    def trouble(self) -> str | None:
        """Why it is not in force, for people: one line, with the first mistake; None where it is."""
        for problem in self.rejected:
            if problem.severity is Severity.ERROR:
                return f"{REJECTED_TEXT}; run check: {str(problem).splitlines()[0]}"
        return None

    def start(self) -> None:
        self._thread.start()

    def reload(self) -> None:
        """Read the table at the next look, edited or not.

        It takes no lock: a handler of signals may call it, also in the midst of itself.
        """
        self._asked = True

    def close(self) -> None:
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(POLL_INTERVAL):
            self._tick()
            self._look()

    def _look(self) -> None:
        asked, self._asked = self._asked, False
        try:
            loaded = self._watcher.load() if asked else self._watcher.load_if_edited()
            if loaded is not None:
                self._use(loaded)
                self.rejected = ()
                log.info(
                    "the routing table is loaded anew: %s, routes: %d",
                    loaded.version, len(loaded.table.routes),
                )  # fmt: skip
        except ConfigError as error:
            log_rejected_table(error.problems)
            self.rejected = error.problems
        except Exception:
            # A defect costs this edit, never those that come.
            log.exception("the routing table cannot be loaded anew")


def log_rejected_table(problems: tuple[Problem, ...]) -> None:
    """Say what is wrong with a table that does not come into force, with `check`'s own lines."""
    log.error("%s", REJECTED_TEXT)
    for problem in problems:
        log.error("%s", problem)
