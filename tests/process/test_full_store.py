"""The store cannot be written for a while: senders and /readyz say so, and nobody restarts anything."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import NullPool, create_engine, text

from bridge.core.errors import StoreUnavailable
from bridge.outbox.store import Outbox
from tests.conftest import lacks
from tests.support.disk import filled, small_disk
from tests.support.intake import beside
from tests.support.postgresql import Cluster
from tests.support.pushes import (
    VARIABLES,
    Answer,
    assert_promises,
    push,
    wait_until_none_waits,
    write_table,
)
from tests.support.server import Server
from tests.support.tables import claim_jobs, engine_of, in_threads, make_job, make_webhook, wait_until
from tests.support.theeye import Fault, StandIn

#: Within how many seconds a sender has its answer, whatever the store does: GitHub waits for 10.
SOON = 10.0
#: Seconds: a commit that waits so long is waited out.
SLOW = 3.0
#: A lease is 35 s.
LEASE_AND_MORE = 60.0
MIB = 1024**2


class Trouble(ABC):
    """A store, and what keeps it from being written."""

    #: Of its database.
    url: str
    #: What /readyz says then.
    words: str

    @abstractmethod
    def begin(self, server: Server) -> None: ...

    @abstractmethod
    def end(self, server: Server) -> None: ...


class FullDisk(Trouble):
    """Some file fills the disk of the store."""

    def __init__(self, url: str, folder: Path, words: str) -> None:
        self.url = url
        self.words = words
        self._folder = folder
        self._full = ExitStack()

    def begin(self, server: Server) -> None:
        self._full.enter_context(filled(self._folder))

    def end(self, server: Server) -> None:
        self._full.close()


class FileLimit(Trouble):
    """The write-ahead log may not grow: what stands for a full disk where none can be mounted."""

    words = "the database cannot be written: disk I/O error"

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self._log = path.with_name(f"{path.name}-wal")

    def begin(self, server: Server) -> None:
        self._limit(server, self._log.stat().st_size)

    def end(self, server: Server) -> None:
        self._limit(server, resource.RLIM_INFINITY)

    def _limit(self, server: Server, size: int) -> None:
        for pid in server.workers:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


class Held(Trouble):
    """Another program holds what every write needs."""

    def __init__(self, url: str, hold: str, words: str) -> None:
        self.url = url
        self.words = words
        self._hold = hold
        self._engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)

    def begin(self, server: Server) -> None:
        self._connection = self._engine.connect()
        self._connection.exec_driver_sql(self._hold)

    def end(self, server: Server) -> None:
        self._connection.close()


class ReadOnlySessions(Trouble):
    """Sessions are made that may not write, as hosts do with a database that has outgrown its plan."""

    words = "the database cannot be written: it is read-only"

    def __init__(self, url: str) -> None:
        self.url = url

    def begin(self, server: Server) -> None:
        take_reads_alone(self.url)

    def end(self, server: Server) -> None:
        take_writes_again(self.url)


def take_reads_alone(url: str) -> None:
    """Of every session that begins from now on; those that are there are ended."""
    database = url.rpartition("/")[2]
    with administration(url) as execute:
        execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")


def take_writes_again(url: str) -> None:
    """Of every session that begins from now on."""
    with administration(url) as execute:
        execute(f"ALTER DATABASE {url.rpartition('/')[2]} RESET default_transaction_read_only")


@contextmanager
def administration(url: str) -> Iterator[Callable[[str], Any]]:
    """Executes statements in the database beside it that every cluster has."""
    address = f"{url.rpartition('/')[0]}/postgres".replace("postgresql:", "postgresql+psycopg:")
    engine = create_engine(address, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield lambda statement: connection.execute(text(statement))


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Path]:
    """A file system of `size` bytes; for a machine on which none may be mounted, FileLimit stands in."""
    with ExitStack() as mounting:
        try:
            mounting.enter_context(small_disk(folder, size))
        except OSError:
            lacks("mount")
        yield folder


@pytest.fixture
def sqlite_on_a_full_disk(tmp_path: Path) -> Iterator[Trouble]:
    with mounted(tmp_path / "disk", 4 * MIB) as disk:
        said = "the database cannot be written: database or disk is full"
        yield FullDisk(f"sqlite:///{disk / 'bridge.db'}", disk, said)


@pytest.fixture
def sqlite_at_its_limit(tmp_path: Path) -> Trouble:
    return FileLimit(tmp_path / "bridge.db")


@pytest.fixture
def sqlite_held(tmp_path: Path) -> Trouble:
    url = f"sqlite:///{tmp_path / 'bridge.db'}"
    return Held(url, "BEGIN IMMEDIATE", "the database cannot be written: database is locked")


@pytest.fixture
def postgresql_on_a_full_disk(postgresql_cluster: Cluster) -> Iterator[Trouble]:
    """Of its tables alone: the server's log has a disk of its own."""
    # Not in one of pytest's folders: the server runs as another user.
    with tempfile.TemporaryDirectory(prefix="bridge-small-disk-") as folder:
        Path(folder).chmod(0o755)
        with mounted(Path(folder, "disk"), 16 * MIB) as disk:
            place = disk / "tables"
            place.mkdir()
            shutil.chown(place, "postgres", "postgres")  # whom the tests' server runs as, under root
            url = postgresql_cluster.url("small")
            with administration(url) as execute:
                execute(f"CREATE TABLESPACE small LOCATION '{place}'")
                execute("CREATE DATABASE small TABLESPACE small")
            yield FullDisk(url, disk, "No space left on device")
            postgresql_cluster.drop(url)
            with administration(url) as execute:
                execute("DROP TABLESPACE small")


@pytest.fixture
def postgresql_read_only(postgresql_url: str) -> Trouble:
    return ReadOnlySessions(postgresql_url)


@pytest.fixture
def postgresql_held(postgresql_url: str) -> Trouble:
    hold = "LOCK TABLE events IN SHARE MODE"  # which still lets them be read
    return Held(
        postgresql_url, hold, "the database cannot be written: canceling statement due to lock timeout"
    )


@pytest.fixture
def trouble(request: pytest.FixtureRequest) -> Trouble:
    found: Trouble = request.getfixturevalue(request.param)
    return found


class Sender:
    """Pushes commits; each that was refused can be pushed again."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.taken: set[str] = set()
        self.refused: dict[str, Answer] = {}

    def push(self, commit: str) -> bool:
        """Whether it was taken."""
        answer = push(self._server.port, commit)
        if answer.is_taken:
            self.taken.add(commit)
        else:
            self.refused[commit] = answer
        return answer.is_taken

    def push_until_refused(self) -> None:
        """What fits into the pages that are there is still stored."""
        assert not all(self.push(f"commit-{number}") for number in range(200)), "nothing was refused"


KINDS = [
    "sqlite_on_a_full_disk",
    "sqlite_at_its_limit",
    "sqlite_held",
    "postgresql_on_a_full_disk",
    "postgresql_read_only",
    "postgresql_held",
]


@pytest.mark.parametrize("trouble", KINDS, indirect=True)
@pytest.mark.slow_unless(trouble=["sqlite_on_a_full_disk", "postgresql_held"])
def test_nothing_is_taken_that_is_not_stored_and_it_goes_on_by_itself(
    tmp_path: Path, theeye: StandIn, trouble: Trouble
) -> None:
    config = write_table(tmp_path, theeye.url)
    # One process: each learns of it by a write of its own.
    with Server(config, trouble.url, {**VARIABLES, "WEB_CONCURRENCY": "1"}) as server:
        sender = Sender(server)
        pids = server.workers
        assert sender.push("before")
        theeye.wait_for(1)
        assert server.get("/readyz")[0] == 200

        trouble.begin(server)
        sender.push_until_refused()
        more = [partial(sender.push, f"more-{number}") for number in range(3)]
        readiness = partial(server.get, "/readyz", timeout=SOON)
        answers: list[object] = in_threads([*more, readiness])
        ((status, told),) = (answer for answer in answers if isinstance(answer, tuple))
        assert status == 503
        assert trouble.words in told["database"]
        assert server.get("/healthz") == (200, {"alive": True})
        refused = dict(sender.refused)
        assert {(answer.status, answer.retry_after) for answer in refused.values()} == {(503, "10")}
        assert max(answer.took for answer in refused.values()) < SOON

        trouble.end(server)
        wait_until(lambda: server.get("/readyz")[0] == 200, "readiness")
        assert all(map(sender.push, refused))
        with closing(Outbox(trouble.url, beside_a_server=True)) as outbox:
            wait_until_none_waits(outbox, LEASE_AND_MORE)
            assert_promises(sender.taken, outbox, theeye)
        assert server.workers == pids, "a web process was replaced"
        assert server.stop() == 0
        assert "Traceback" not in server.log


@pytest.mark.parametrize("trouble", ["sqlite_held"], indirect=True)
def test_a_restart_that_cannot_write_serves_and_recovers_claims_once_it_can(
    tmp_path: Path, theeye: StandIn, trouble: Trouble
) -> None:
    config = write_table(tmp_path, theeye.url)
    with Server(config, trouble.url, {**VARIABLES, "WEB_CONCURRENCY": "1"}) as server:
        sender = Sender(server)
        theeye.fault(Fault(hang=60.0))
        assert all(sender.push(f"in-flight-{number}") for number in range(4))
        theeye.wait_for_requests(4)
        server.kill()
        theeye.clear()
        trouble.begin(server)
        server.start()
        assert server.get("/healthz") == (200, {"alive": True})
        assert not sender.push("refused")
        assert server.get("/readyz")[0] == 503
        cannot_claim = "jobs cannot be claimed: the database cannot be written"
        wait_until(lambda: cannot_claim in server.log, "the dispatcher's line")
        assert "cannot start, next try" not in server.log
        pids = server.workers
        trouble.end(server)
        with closing(Outbox(trouble.url, beside_a_server=True)) as outbox:
            wait_until_none_waits(outbox, LEASE_AND_MORE / 3)  # before a lease ends
            assert_promises(sender.taken, outbox, theeye)
        assert server.get("/readyz")[0] == 200
        assert server.workers == pids


@pytest.mark.parametrize("trouble", ["sqlite_held", "postgresql_held"], indirect=True)
@pytest.mark.slow_unless(trouble="postgresql_held")
def test_who_meets_a_slow_commit_is_answered_after_it(
    tmp_path: Path, theeye: StandIn, trouble: Trouble
) -> None:
    config = write_table(tmp_path, theeye.url)
    with Server(config, trouble.url, VARIABLES) as server:
        sender = Sender(server)
        trouble.begin(server)
        ending = threading.Timer(SLOW, trouble.end, [server])
        ending.start()
        in_threads([partial(sender.push, f"commit-{number}") for number in range(8)])
        ending.join()
        assert sender.refused == {}
        theeye.wait_for(8)


def test_who_writes_nothing_learns_all_the_same_that_it_may_write_again(postgresql_url: str) -> None:
    """A session stays read-only, and nobody sends a webhook to what is not ready."""
    with closing(Outbox(postgresql_url)) as outbox:
        take_reads_alone(postgresql_url)
        with pytest.raises(StoreUnavailable):  # of a session that was ended
            outbox.ping()
        with pytest.raises(StoreUnavailable, match=ReadOnlySessions.words):
            outbox.ping()
        take_writes_again(postgresql_url)
        outbox.ping()


def set_writable(folder: Path, *, writable: bool) -> None:
    """Of a file system of its own, or of the files in it where none may be mounted."""
    if os.getuid() == 0:
        how = "rw" if writable else "ro"
        subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True, capture_output=True)
    else:
        for file in folder.glob("bridge.db*"):
            file.chmod(0o600 if writable else 0o400)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """One that `set_writable` takes."""
    folder = tmp_path / "disk"
    if os.getuid() == 0:
        with mounted(folder, 4 * MIB):
            yield folder
    else:
        folder.mkdir()
        yield folder


def test_a_file_that_may_not_be_written_is_named_at_the_start(
    tmp_path: Path, theeye: StandIn, folder: Path
) -> None:
    server = Server(write_table(tmp_path, theeye.url), folder / "bridge.db", VARIABLES)
    with server:
        assert push(server.port, "abc").status == 202
        theeye.wait_for(1)
        server.stop()
    set_writable(folder, writable=False)
    with pytest.raises(AssertionError, match=r"the server ended with \d+"):
        server.start()
    assert "bridge.db; check its owner and permissions" in server.log
    assert "Traceback" not in server.log


def test_a_worker_that_is_killed_while_the_file_is_read_only_starts_once_it_is_not(
    tmp_path: Path, theeye: StandIn, folder: Path
) -> None:
    server = Server(write_table(tmp_path, theeye.url), folder / "bridge.db", VARIABLES)
    with server:
        assert push(server.port, "abc").status == 202
        wait_until(lambda: "now accepted" in server.log, "the record: else it is sent again later")
        os.kill(server.workers[0], signal.SIGKILL)
        wait_until(lambda: is_read_only(folder), "no file that is open")
        wait_until(lambda: "cannot start, next try in 2 s: " in server.log, "a worker that cannot start")
        assert "the bridge cannot write to " in server.log
        set_writable(folder, writable=True)
        assert push(server.port, "def").status == 202
        theeye.wait_for(2)
        assert "Traceback" not in server.log


def is_read_only(folder: Path) -> bool:
    """A file system that holds a file open for writing cannot be made so."""
    try:
        set_writable(folder, writable=False)
    except subprocess.CalledProcessError:
        return False
    return True


class TestTrial:
    """Whether the store can be written is tried only where there is a doubt."""

    @pytest.fixture(params=["sqlite", "postgresql"])
    def url(self, request: pytest.FixtureRequest, tmp_path: Path) -> str:
        if request.param == "sqlite":
            return f"sqlite:///{tmp_path / 'bridge.db'}"
        url: str = request.getfixturevalue("postgresql_url")
        return url

    @pytest.fixture
    def outbox(self, url: str) -> Iterator[Outbox]:
        with closing(Outbox(url)) as outbox:
            yield outbox

    @pytest.fixture
    def writes(self, outbox: Outbox) -> Iterator[list[str]]:
        """Grows by each statement that writes."""
        written: list[str] = []

        def note(_c: object, _u: object, statement: str, *_: object) -> None:
            if not statement.startswith(("SELECT", "BEGIN")):
                written.append(statement)

        sqlalchemy.event.listen(engine_of(outbox), "before_cursor_execute", note)
        yield written

    def test_all_is_well_and_asking_costs_no_write(self, outbox: Outbox, writes: list[str]) -> None:
        outbox.store(make_webhook(make_job()))
        writes.clear()
        outbox.ping()
        assert writes == []

    def test_after_a_failure_it_is_tried_until_it_succeeds(
        self, outbox: Outbox, url: str, writes: list[str]
    ) -> None:
        self.fail(outbox, url)
        writes.clear()
        outbox.ping()
        assert any("INSERT INTO events" in write for write in writes)
        assert outbox.events() == []
        writes.clear()
        outbox.ping()
        assert writes == []

    def test_a_commit_of_nothing_proves_nothing(self, outbox: Outbox, url: str, writes: list[str]) -> None:
        self.fail(outbox, url)
        assert claim_jobs(outbox)[1] == []
        writes.clear()
        outbox.ping()
        assert any("INSERT INTO events" in write for write in writes)

    @staticmethod
    def fail(outbox: Outbox, url: str) -> None:
        """Let a write fail, and mend what it failed of."""
        with beside(url) as connection:
            connection.execute(text("ALTER TABLE processes RENAME TO away"))
        with pytest.raises(StoreUnavailable):
            outbox.heartbeat("one", None)
        with beside(url) as connection:
            connection.execute(text("ALTER TABLE away RENAME TO processes"))
