"""The writer commits what has gathered together, and every failure reaches those whom it concerns alone."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Connection, Engine

from bridge.core.errors import StoreUnavailable
from bridge.outbox import sqlite
from bridge.outbox import writer as writing
from bridge.outbox.sqlite import connect
from bridge.outbox.writer import Writer
from tests.support.tables import PATIENCE, in_threads, wait_until

Work = Callable[[Connection], Any]

TABLES = """
CREATE TABLE notes (text TEXT NOT NULL UNIQUE);
CREATE TABLE parents (id INTEGER PRIMARY KEY);
CREATE TABLE children (parent INTEGER NOT NULL REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED);
"""


class Boom(Exception):
    """What a unit of work raises."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bridge.db"


@pytest.fixture
def engine(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.05)
    engine = connect(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as other:
        other.executescript(TABLES)
    yield engine
    engine.dispose()


def test_a_file_that_may_not_be_written_is_not_opened_for_reading_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool would keep that connection, and fail with it when the file may be written again."""
    with monkeypatch.context() as readonly:
        readonly.setattr("os.access", lambda *_: False)
        with pytest.raises(sqlalchemy.exc.OperationalError, match="the bridge cannot write to "):
            engine.connect()
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO notes VALUES ('it is writable')")


@pytest.fixture
def commits(engine: Engine) -> list[int]:
    """Grows by one with each commit."""
    counted: list[int] = []
    sqlalchemy.event.listen(engine, "commit", lambda _: counted.append(1))
    return counted


@pytest.fixture
def writer(engine: Engine) -> Iterator[Writer]:
    running = Writer(engine, lambda: None, lambda: None)
    yield running
    running.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as running:
        yield running


class Group:
    """Holds the writer in a unit of work until the units that are given meanwhile have gathered."""

    def __init__(self, writer: Writer, pool: ThreadPoolExecutor) -> None:
        self._writer = writer
        self._pool = pool
        self._held = threading.Event()
        self._release = threading.Event()
        self._first = pool.submit(writer.write, self._hold)
        self._held.wait(PATIENCE)

    def _hold(self, _: Connection) -> None:
        self._held.set()
        self._release.wait(PATIENCE)

    def gather(self, *works: Work) -> list[Future[Any]]:
        futures: list[Future[Any]] = []
        for work in works:
            futures.append(self._pool.submit(self._writer.write, work))
            wait_until(lambda: self._writer._units.qsize() == len(futures), "the unit")
        return futures

    def commit(self) -> None:
        self._release.set()
        self._first.result(PATIENCE)


@pytest.fixture
def group(writer: Writer, pool: ThreadPoolExecutor) -> Iterator[Group]:
    gathered = Group(writer, pool)
    yield gathered
    gathered._release.set()


def note(text: str) -> Work:
    """A unit of work that writes a note and returns it."""

    def work(connection: Connection) -> str:
        connection.exec_driver_sql("INSERT INTO notes VALUES (?)", (text,))
        return text

    return work


def note_and_raise(text: str, error: Exception) -> Work:
    def work(connection: Connection) -> None:
        note(text)(connection)
        raise error

    return work


def statement(sql: str) -> Work:
    return lambda connection: connection.exec_driver_sql(sql) and None


def notes(path: Path) -> list[str]:
    """What another process reads."""
    with closing(sqlite3.connect(path)) as other:
        return [text for (text,) in other.execute("SELECT text FROM notes ORDER BY rowid")]


class TestCommits:
    def test_what_a_unit_returns_comes_back_and_is_committed(self, writer: Writer, path: Path) -> None:
        assert writer.write(note("a")) == "a"
        assert notes(path) == ["a"]

    def test_what_has_gathered_is_one_commit(self, group: Group, path: Path, commits: list[int]) -> None:
        futures = group.gather(*(note(str(number)) for number in range(30)))
        group.commit()

        assert [future.result(PATIENCE) for future in futures] == [str(number) for number in range(30)]
        assert len(commits) == 2
        assert notes(path) == [str(number) for number in range(30)]

    def test_after_several_units_more_are_waited_for(
        self,
        group: Group,
        writer: Writer,
        pool: ThreadPoolExecutor,
        commits: list[int],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        waits, end_of_wait = threading.Event(), threading.Event()

        def wait() -> None:
            waits.set()
            end_of_wait.wait(PATIENCE)

        monkeypatch.setattr(writer, "_let_more_arrive", wait)
        futures = group.gather(note("a"), note("b"))
        group.commit()
        for future in futures:
            future.result(PATIENCE)
        assert not waits.is_set()

        third = pool.submit(writer.write, note("c"))
        assert waits.wait(PATIENCE)
        fourth = pool.submit(writer.write, note("d"))
        wait_until(lambda: writer._units.qsize() == 1, "the unit")
        end_of_wait.set()

        assert [third.result(PATIENCE), fourth.result(PATIENCE)] == ["c", "d"]
        assert len(commits) == 3

    def test_a_single_unit_is_committed_at_once(
        self, writer: Writer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waited: list[bool] = []
        monkeypatch.setattr(writer, "_let_more_arrive", lambda: waited.append(True))
        for text in "abc":
            writer.write(note(text))
        assert not waited

    def test_a_group_has_its_limit(
        self, group: Group, commits: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writing, "GROUP_LIMIT", 4)
        futures = group.gather(*(note(str(number)) for number in range(10)))
        group.commit()

        for future in futures:
            future.result(PATIENCE)
        assert len(commits) == 1 + 3

    def test_nobody_hears_of_success_before_the_commit(
        self, group: Group, engine: Engine, path: Path
    ) -> None:
        (future,) = group.gather(note("a"))
        seen: list[tuple[bool, list[str]]] = []
        sqlalchemy.event.listen(engine, "commit", lambda _: seen.append((future.done(), notes(path))))
        group.commit()

        future.result(PATIENCE)
        assert seen == [(False, []), (False, [])]
        assert notes(path) == ["a"]

    def test_many_threads_at_once(self, writer: Writer, path: Path, commits: list[int]) -> None:
        def write(first: int) -> None:
            for n in range(25):
                writer.write(note(f"{first}-{n}"))

        in_threads([partial(write, first) for first in range(16)])

        assert len(notes(path)) == 400
        assert len(commits) < 400


def test_a_close_during_a_commit_leaves_no_connection_open(
    group: Group, writer: Writer, engine: Engine, pool: ThreadPoolExecutor
) -> None:
    closing_writer = pool.submit(writer.close)
    wait_until(lambda: writer._units.qsize() == 1, "the end of the queue")
    group.commit()
    closing_writer.result(PATIENCE)
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # of SQLite's QueuePool


class TestUnitsThatFail:
    def test_a_failing_unit_undoes_itself_and_not_its_neighbours(self, group: Group, path: Path) -> None:
        before, failing, after = group.gather(note("before"), note_and_raise("gone", Boom()), note("after"))
        group.commit()

        assert before.result(PATIENCE) == "before"
        assert after.result(PATIENCE) == "after"
        with pytest.raises(Boom):
            failing.result(PATIENCE)
        assert notes(path) == ["before", "after"]

    def test_its_caller_gets_the_very_error(self, writer: Writer) -> None:
        error = Boom("of its own")
        with pytest.raises(Boom) as caught:
            writer.write(note_and_raise("gone", error))
        assert caught.value is error

    def test_a_constraint_is_its_own_affair(self, group: Group, path: Path) -> None:
        first, second, third = group.gather(note("same"), note("same"), note("other"))
        group.commit()

        assert first.result(PATIENCE) == "same"
        with pytest.raises(sqlalchemy.exc.IntegrityError):
            second.result(PATIENCE)
        assert third.result(PATIENCE) == "other"
        assert notes(path) == ["same", "other"]

    def test_one_that_swallows_an_error_keeps_the_rest_of_its_work(self, writer: Writer, path: Path) -> None:
        writer.write(note("a"))

        def work(connection: Connection) -> None:
            note("b")(connection)
            with pytest.raises(sqlalchemy.exc.IntegrityError):
                note("a")(connection)
            note("c")(connection)

        writer.write(work)

        assert notes(path) == ["a", "b", "c"]


class TestCommitsThatFail:
    def test_a_commit_that_fails_is_everybodys(self, group: Group, path: Path) -> None:
        orphan = statement("INSERT INTO children VALUES (7)")
        futures = group.gather(note("a"), orphan, note("b"), note_and_raise("c", Boom()))
        group.commit()

        for future in futures:
            with pytest.raises(
                StoreUnavailable, match=r"^the database cannot be written: FOREIGN KEY constraint"
            ):
                future.result(PATIENCE)
        assert notes(path) == []

    def test_what_the_store_cannot_do_is_everybodys(self, group: Group, path: Path) -> None:
        futures = group.gather(note("a"), statement("INSERT INTO gone VALUES (1)"), note("b"))
        group.commit()

        for future in futures:
            with pytest.raises(
                StoreUnavailable, match=r"^the database cannot be written: no such table: gone$"
            ):
                future.result(PATIENCE)
        assert notes(path) == []

    def test_afterwards_it_writes_again(self, writer: Writer, path: Path) -> None:
        for sql in ("INSERT INTO children VALUES (7)", "INSERT INTO gone VALUES (1)"):
            with pytest.raises(StoreUnavailable):
                writer.write(statement(sql))

        assert writer.write(note("a")) == "a"
        assert notes(path) == ["a"]

    def test_a_database_that_another_process_holds(self, writer: Writer, path: Path) -> None:
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(
                StoreUnavailable, match=r"^the database cannot be written: database is locked$"
            ):
                writer.write(note("a"))
            other.rollback()

        assert writer.write(note("b")) == "b"
        assert notes(path) == ["b"]

    def test_a_full_disk_is_told_without_what_was_to_be_written(
        self, writer: Writer, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        writer.write(statement("PRAGMA max_page_count = 8"))
        with pytest.raises(
            StoreUnavailable, match=r"^the database cannot be written: database or disk is full$"
        ) as caught:
            writer.write(note("payload-of-an-event " * 4000))

        assert "disk is full" in caplog.text
        assert "payload-of-an-event" not in caplog.text
        assert "payload-of-an-event" not in str(caught.value.__cause__)
        assert notes(path) == []

    def test_a_caller_does_not_wait_for_ever_and_then_it_is_not_done(
        self, group: Group, writer: Writer, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writing, "START_TIMEOUT", 0.02)
        (future,) = group.gather(note("late"))
        with pytest.raises(StoreUnavailable, match=r"no commit started within 0 s$"):
            future.result(PATIENCE)
        monkeypatch.undo()
        group.commit()

        writer.write(note("next"))

        assert notes(path) == ["next"]


class TestClose:
    def test_what_has_gathered_is_committed(self, group: Group, writer: Writer, path: Path) -> None:
        futures = group.gather(*(note(str(number)) for number in range(5)))
        closing_it = threading.Thread(target=writer.close)
        closing_it.start()
        wait_until(lambda: writer.is_closed)
        group.commit()
        closing_it.join(PATIENCE)

        assert [future.result(PATIENCE) for future in futures] == ["0", "1", "2", "3", "4"]
        assert notes(path) == ["0", "1", "2", "3", "4"]

    def test_nothing_is_taken_on_afterwards(self, writer: Writer, path: Path) -> None:
        writer.close()
        with pytest.raises(StoreUnavailable, match=r"^the database is closed$"):
            writer.write(note("a"))
        assert notes(path) == []

    def test_its_thread_ends_and_a_second_close_does_nothing(self, engine: Engine) -> None:
        before = threading.active_count()
        writer = Writer(engine, lambda: None, lambda: None)
        assert threading.active_count() == before + 1
        writer.close()
        writer.close()
        assert threading.active_count() == before


class TestConnections:
    """`kill -9` cannot show what a power cut does; the settings that promise it are read back."""

    def pragmas(self, engine: Engine) -> dict[str, Any]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "wal_autocheckpoint")
        with engine.connect() as first, engine.connect() as second:
            read = [
                {name: one.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names}
                for one in (first, second)
            ]
        assert read[0] == read[1]
        return read[0]

    def test_what_a_server_sets(self, path: Path) -> None:
        engine = connect(f"sqlite:///{path}")
        full = 2
        assert self.pragmas(engine) == {
            "journal_mode": "wal",
            "synchronous": full,
            "foreign_keys": 1,
            "busy_timeout": 4_000,
            "wal_autocheckpoint": 1000,
        }
        engine.dispose()

    def test_beside_a_server_nothing_is_checkpointed(self, path: Path) -> None:
        engine = connect(f"sqlite:///{path}", checkpoints=False)
        assert self.pragmas(engine)["wal_autocheckpoint"] == 0
        assert self.pragmas(engine)["synchronous"] == 2
        engine.dispose()

    def test_the_folder_is_made(self, tmp_path: Path) -> None:
        engine = connect(f"sqlite:///{tmp_path}/a/b/bridge.db")
        with engine.connect():
            assert (tmp_path / "a" / "b" / "bridge.db").exists()
        engine.dispose()

    def test_a_write_takes_the_lock_before_it_reads(self, group: Group, path: Path) -> None:
        """Two that read first and write then would decide on the same rows."""
        with closing(sqlite3.connect(path, timeout=0)) as other:
            with pytest.raises(sqlite3.OperationalError, match="database is locked"):
                other.execute("BEGIN IMMEDIATE")
            # Readers do not wait for it.
            assert other.execute("SELECT count(*) FROM notes").fetchone() == (0,)
            group.commit()
            wait_until(lambda: can_write(other), "the lock")

    def test_a_read_takes_no_lock(self, engine: Engine, writer: Writer, path: Path) -> None:
        with engine.connect() as reading:
            assert reading.exec_driver_sql("SELECT count(*) FROM notes").scalar_one() == 0
            assert writer.write(note("a")) == "a"
            # What it reads is of one moment.
            assert reading.exec_driver_sql("SELECT count(*) FROM notes").scalar_one() == 0


def can_write(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    connection.rollback()
    return True
