"""One thread that writes, and commits together the units of work that have arrived (group commit).

Threads that commit one by one wait for each other's disk flush. One thread is several times faster, and
SQLite's single writer needs no lock time-outs. Units of one kind share their statements, too.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from bridge.core.errors import StoreUnavailable
from bridge.outbox.counters import counting, undone_on_error
from bridge.outbox.database import Batch, RunAlone, cause
from bridge.outbox.statement import Statement
from bridge.process.log_fields import Fields

A = TypeVar("A")
T = TypeVar("T")

#: The most units in one commit, so that no unit waits for too many others.
GROUP_LIMIT = 256
#: How long the writer waits for more units after a group of several, seconds. Fewer and larger commits cost
#: less CPU time; PostgreSQL's commit_delay does the same. A single unit is committed at once.
GATHER_TIME = 0.002
#: How long a caller waits for its commit to start, seconds.
START_TIMEOUT = 5.0
#: The execution option of a writer's connection.
WRITES_OPTION = "bridge_writes"

_SAVEPOINT = Statement(text("SAVEPOINT unit"))
_ROLLBACK = Statement(text("ROLLBACK TO SAVEPOINT unit"))
_RELEASE = Statement(text("RELEASE SAVEPOINT unit"))

log = logging.getLogger(__name__)


class _Unit:
    """A unit of work of a caller that waits. Two locks cost less than a future, whose waiters wake twice."""

    def __init__(self, batch: Batch[Any, Any] | None, argument: Any) -> None:
        #: The kind that shares its statements; None for a unit that runs in its own savepoint.
        self.batch = batch
        #: The unit for its batch, or what to run.
        self.argument = argument
        self._result: Any = None
        self._error: BaseException | None = None
        self._is_ended = False
        #: Acquired by the writer that runs the unit, or by the caller that gives up.
        self._taken = threading.Lock()
        #: Released once there is a result or an error.
        self._ended = threading.Lock()
        self._ended.acquire()

    def take(self) -> bool:
        """Return whether nobody else has taken the unit."""
        return self._taken.acquire(blocking=False)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end; return whether it came in time."""
        return self._ended.acquire(timeout=-1 if seconds is None else seconds)

    def outcome(self) -> Any:
        """Return the result, or raise the error."""
        if self._error is not None:
            raise self._error
        return self._result

    def succeed(self, result: Any) -> None:
        self._result = result
        self._is_ended = True
        self._ended.release()

    def fail(self, error: BaseException) -> None:
        """Do nothing if the unit has ended."""
        if not self._is_ended:
            self._error = error
            self._is_ended = True
            self._ended.release()


class _BatchFailed(Exception):
    """A batch raised an error that may concern only one of its units."""

    def __init__(self, units: list[_Unit]) -> None:
        super().__init__()
        self.units = units


class Writer:
    """Runs units of work in as few statements and commits as possible."""

    def __init__(
        self,
        engine: Engine,
        before_commit: Callable[[], None] = lambda: None,
        after_commit: Callable[[], None] = lambda: None,
        *,
        cause: Callable[[BaseException], str] = cause,
        conflicts: tuple[type[Exception], ...] = (),
    ) -> None:
        """Both callbacks raise StoreUnavailable if the commit would be lost, or is.

        `conflicts` are those OperationalErrors of the driver after which the units of a batch run alone.
        """
        self._cause = cause
        self._conflicts = conflicts
        self._engine = engine
        self._name = uuid4().hex
        self._before_commit = before_commit
        self._after_commit = after_commit
        self._units: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._connection: Connection | None = None
        self._had_several = False
        self._thread = threading.Thread(target=self._commit_all, name="outbox-writer", daemon=True)
        self.is_closed = False
        self._thread.start()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` and wait until it is committed.

        Raises what `work` raises, and undoes its changes alone. Raises StoreUnavailable if nothing was
        committed, or no commit started within START_TIMEOUT.
        """
        result: T = self._run(_Unit(None, work))
        return result

    def write_in_batch(self, batch: Batch[A, T], argument: A) -> T:
        """Run one unit of a batch, like `write`. Raises RunAlone if the batch failed."""
        result: T = self._run(_Unit(batch, argument))
        return result

    def _run(self, unit: _Unit) -> Any:
        if self.is_closed:
            raise StoreUnavailable("the database is closed")
        self._units.put(unit)
        if not unit.wait(START_TIMEOUT):
            # A unit that has not started must not run after its caller gave up. One that runs is waited for.
            if unit.take():
                why = f"the database cannot be written: no commit started within {START_TIMEOUT:.0f} s"
                raise StoreUnavailable(why)
            unit.wait()
        return unit.outcome()

    def close(self) -> None:
        """Commit what is queued, then end the thread."""
        self.is_closed = True
        self._units.put(None)
        self._thread.join()

    def _commit_all(self) -> None:
        # In a method of its own: no reference to the last group, which may be large, stays while this waits.
        while self._commit_next():
            pass
        if self._connection is not None:
            self._connection.close()

    def _commit_next(self) -> bool:
        """Wait for a group and commit it; return False after the last one."""
        gathered = self._gather()
        if gathered is None:
            return False
        group = [unit for unit in gathered if unit.take()]
        try:
            self._commit(group)
        except Exception as error:  # noqa: BLE001 - the callers get the cause, and this thread must go on
            why = f"the database cannot be written: {self._cause(error)}"
            fields = Fields("store", reason=why)
            log.error("%(reason)s", fields)  # noqa: TRY400 - a traceback would have the values, too
            for unit in group:
                unavailable = StoreUnavailable(why)
                unavailable.__cause__ = error
                unit.fail(unavailable)
        return True

    def _gather(self) -> list[_Unit] | None:
        first = self._units.get()
        if first is None:
            return None
        if self._had_several:
            self._let_more_arrive()
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
        self._had_several = len(group) > 1
        return group

    def _let_more_arrive(self) -> None:
        time.sleep(GATHER_TIME)

    def _commit(self, group: list[_Unit]) -> None:
        if not group:
            return
        try:
            with self._connected() as connection, connection.begin(), counting(connection, self._name):
                settled = self._run_batches(group, connection)
                settled += [_run_alone(unit, connection) for unit in group if unit.batch is None]
                self._before_commit()
        except _BatchFailed as failed:
            for unit in failed.units:
                unit.fail(RunAlone())
            self._commit([unit for unit in group if unit not in failed.units])
            return
        self._after_commit()
        for settle in settled:
            settle()

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """Yield a connection, which the next commit uses too if its units have arrived."""
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(**{WRITES_OPTION: True})
        is_done = False
        try:
            yield self._connection
            is_done = True
        finally:
            if not is_done or self._units.empty():
                self._connection.close()
                self._connection = None

    def _run_batches(self, group: list[_Unit], connection: Connection) -> list[Callable[[], None]]:
        """Run the batches of a group; return functions that give callers their results after the commit."""
        batches: dict[Batch[Any, Any], list[_Unit]] = {}
        for unit in group:
            if unit.batch is not None:
                batches.setdefault(unit.batch, []).append(unit)
        settled: list[Callable[[], None]] = []
        for batch, units in batches.items():
            try:
                results = batch(connection, [unit.argument for unit in units])
            except Exception as error:
                if isinstance(error, OperationalError) and not isinstance(error.orig, self._conflicts):
                    raise
                message = f"{len(units)} units of work run one by one, after: %(reason)s"
                log.warning(message, Fields("store", reason=self._cause(error)))
                raise _BatchFailed(units) from error
            settled += [partial(unit.succeed, result) for unit, result in zip(units, results, strict=True)]
        return settled


def _run_alone(unit: _Unit, connection: Connection) -> Callable[[], None]:
    """Run one unit in its savepoint; return a function that gives its caller the result after the commit."""
    _SAVEPOINT.count(connection, {})
    try:
        with undone_on_error(connection):
            result = unit.argument(connection)
    except OperationalError:
        # The whole group fails: SQLite may have undone the transaction.
        raise
    except Exception as error:  # noqa: BLE001 - raised in the caller
        _ROLLBACK.count(connection, {})
        _RELEASE.count(connection, {})
        return partial(unit.fail, error)
    _RELEASE.count(connection, {})
    return partial(unit.succeed, result)
