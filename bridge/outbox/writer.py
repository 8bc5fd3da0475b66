"""One thread that writes: units of work that have gathered are committed together.

Many threads that commit each for itself wait for each other's disk flush; one that commits what has
gathered is several times faster and keeps SQLite's single writer busy without lock time-outs.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from bridge.core.errors import StoreUnavailable
from bridge.outbox.database import cause

T = TypeVar("T")

#: The most units in one commit, so that no unit waits for very many others.
GROUP_LIMIT = 256
#: How long, in seconds, a caller waits for its commit to begin.
START_TIMEOUT = 5.0
#: The execution option of a connection whose transactions write.
WRITES_OPTION = "bridge_writes"

log = logging.getLogger(__name__)


@dataclass
class _Unit:
    work: Callable[[Connection], Any]
    done: Future[Any] = field(default_factory=Future)


class Writer:
    """Runs units of work, each in its savepoint, in as few commits as their arrival allows."""

    def __init__(
        self, engine: Engine, before_commit: Callable[[], None], after_commit: Callable[[], None]
    ) -> None:
        """Both raise StoreUnavailable where a commit would not last, or does not."""
        self._engine = engine
        self._before_commit = before_commit
        self._after_commit = after_commit
        self._units: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="outbox-writer", daemon=True)
        self._closed = False
        self._thread.start()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` and wait until it is committed.

        Raises what `work` raises (its own changes are undone, its neighbours' are not), and
        StoreUnavailable where nothing could be committed, or no commit began within START_TIMEOUT.
        """
        if self._closed:
            raise StoreUnavailable("the store is closed")
        unit = _Unit(work)
        self._units.put(unit)
        try:
            result: T = unit.done.result(timeout=START_TIMEOUT)
        except FutureTimeoutError as error:
            # If it has not begun, it must not be done behind its caller's back; else its end counts.
            if unit.done.cancel():
                why = f"the store cannot be written: no commit began within {START_TIMEOUT:.0f} s"
                raise StoreUnavailable(why) from error
            result = unit.done.result()
        return result

    def close(self) -> None:
        """Commit what has gathered, then end the thread."""
        self._closed = True
        self._units.put(None)
        self._thread.join()

    def _run(self) -> None:
        # Nothing of a group is left here while the next one is waited for: its bodies may be large.
        while self._commit_next():
            pass

    def _commit_next(self) -> bool:
        """Wait for a group and commit it; whether there may be another."""
        gathered = self._gather()
        if gathered is None:
            return False
        group = [unit for unit in gathered if unit.done.set_running_or_notify_cancel()]
        try:
            self._commit(group)
        except Exception as error:  # noqa: BLE001 - this thread must live; the callers get the cause
            log.error("the store cannot be written: %s", cause(error))  # noqa: TRY400 - the callers carry the traceback
            for unit in group:
                if not unit.done.done():
                    unavailable = StoreUnavailable(f"the store cannot be written: {cause(error)}")
                    unavailable.__cause__ = error
                    unit.done.set_exception(unavailable)
        return True

    def _gather(self) -> list[_Unit] | None:
        first = self._units.get()
        if first is None:
            return None
        group = [first]
        while len(group) < GROUP_LIMIT:
            try:
                unit = self._units.get_nowait()
            except queue.Empty:
                break
            if unit is None:
                self._units.put(None)  # for the next round
                break
            group.append(unit)
        return group

    def _commit(self, group: list[_Unit]) -> None:
        writing = self._engine.connect().execution_options(**{WRITES_OPTION: True})
        with writing as connection, connection.begin():
            settled = [_run(unit, connection) for unit in group]
            self._before_commit()
        self._after_commit()
        for settle in settled:
            settle()


def _run(unit: _Unit, connection: Connection) -> Callable[[], None]:
    """Run one unit in its savepoint; what is returned tells its caller, once all is committed."""
    connection.exec_driver_sql("SAVEPOINT unit")
    try:
        result = unit.work(connection)
    except OperationalError:
        # The store's own failure is everybody's: SQLite may have undone the whole transaction.
        raise
    except Exception as error:  # noqa: BLE001 - the unit's caller gets it
        connection.exec_driver_sql("ROLLBACK TO unit")
        connection.exec_driver_sql("RELEASE unit")
        return partial(unit.done.set_exception, error)
    connection.exec_driver_sql("RELEASE unit")
    return partial(unit.done.set_result, result)
