"""The processes of a bridge, and what befalls them."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Self

import psycopg

from tests.chaos.schedule import CLOCKS, ON_POSTGRESQL, ON_SQLITE, Action, What
from tests.chaos.table import ENVIRONMENT
from tests.support.clock import WallClock, find_compiler
from tests.support.daemon import find_program
from tests.support.disk import filled, small_disk
from tests.support.pgbouncer import PgBouncer
from tests.support.postgresql import Cluster
from tests.support.server import Program, Server, Worker
from tests.support.tables import in_threads

#: The limit of open files of each web process, and how many connections come in a crowd.
FILES, CROWD = 300, 400
#: From where they come: the pushes have another address.
CROWDS_ADDRESS = "127.0.0.9"
#: Web processes that end by themselves do so after so many requests.
MAX_REQUESTS = "--max-requests 400 --max-requests-jitter 200"
#: Bytes, of the disk of an SQLite store.
DISK = 256 * 1024**2
#: Seconds that a web process takes to start, at most.
STARTS_WITHIN = 10.0
#: Seconds by which the clock is wrong.
HOUR = 3600


class LimitedServer(Server):
    """A server whose processes may open only so many FILES."""

    def _command(self) -> list[str]:
        return ["sh", "-c", f'ulimit -n {FILES}; exec "$@"', "sh", *super()._command()]


class System:
    """On SQLite one web process that delivers, on PostgreSQL two that do not and two workers.

    The web processes and one worker are connected to PostgreSQL through a pooler in transaction mode. As a
    context manager it is running inside, and gone afterwards.
    """

    def __init__(self, config: Path, cluster: Cluster | None, *, ends: bool = False) -> None:
        """Without a `cluster` on SQLite, in the folder of `config`; its cluster is running already.

        With `ends`, web processes end by themselves now and then, and no clock is wrong.
        """
        self._cluster = cluster
        #: What this machine lacks for some of what goes wrong.
        self.lacking: list[str] = []
        self._running = ExitStack()
        self._clock = self._make_clock(config.parent)
        environ = {**ENVIRONMENT, **(self._clock.environ if self._clock else {})}
        web = {**environ, "GUNICORN_CMD_ARGS": MAX_REQUESTS if ends else ""}
        self.workers: list[Worker] = []
        if cluster is None:
            self._disk = self._make_disk(config.with_name("disk"))
            self._path = (self._disk or config.parent) / "bridge.db"
            self.server: Server = LimitedServer(config, self._path, web)
            whats: tuple[What, ...] = ON_SQLITE
        else:
            self._disk = None
            url = cluster.create_database()
            pooled = self._make_pooler(url)
            web |= {"BRIDGE_DELIVER": "false", "WEB_CONCURRENCY": "2"}
            self.server = LimitedServer(config, pooled, web)
            urls = enumerate((pooled, url), 1)
            self.workers = [Worker(config, of, environ, name=f"worker-{number}") for number, of in urls]
            self._direct_url = url
            whats = ON_POSTGRESQL
        without = {What.FILL_DISK} if self._disk is None else set()
        without |= set(CLOCKS) if ends or self._clock is None else set()
        #: What may befall them on this machine.
        self.whats = tuple(what for what in whats if what not in without)
        self._logs = [program.pipe_log() for program in self._programs]
        #: Held while a process is frozen: whoever needs to know that nothing is in flight takes it.
        self.thawed = threading.Lock()
        #: The last that each process said which ended by itself.
        self.crashed: list[str] = []

    def __enter__(self) -> Self:
        try:
            for program in self._programs:
                self._running.enter_context(program)
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def database_url(self) -> str:
        """Of the store, without the pooler."""
        return self.server.database_url if self._cluster is None else self._direct_url

    @property
    def log(self) -> str:
        """What all of them wrote."""
        return "".join(program.log for program in self._programs)

    @property
    def _programs(self) -> list[Program]:
        return [self.server, *self.workers]

    def happen(self, action: Action, ended: threading.Event) -> None:
        """Let that befall them, for as long as it lasts or until `ended`; then all of them run again."""
        self.revive()
        at_once: dict[What, Callable[[Action], object]] = {
            What.KILL_WEB: self._kill_web,
            What.KILL_WORKER: self._kill_worker,
            What.KILL_ALL: self._kill_all,
            What.RELOAD_WEB: lambda _: self.server.reload(),
            What.RESTART_WEB: lambda _: self._restart(self.server),
            What.RESTART_WORKER: lambda action: self._restart(self._worker(action)),
        }
        lasting: dict[What, Callable[[Action], AbstractContextManager[object]]] = {
            What.FREEZE_WEB: self._frozen_web,
            What.FREEZE_WORKER: self._frozen_worker,
            What.CROWD: lambda _: _crowd(self.server.port),
            What.STALL_LOG: self._unread_log,
            What.CLOCK_FORWARD: self._wrong_clock,
            What.CLOCK_BACK: self._wrong_clock,
            What.FILL_DISK: self._restarted_on_a_full_disk,
            What.LOCK_DATABASE: lambda _: _locked(self._path),
        }
        if (now := at_once.get(action.what)) is not None:
            now(action)
        elif action.what is What.LOSE_CLAIMS:
            with self._frozen_worker(action):
                _claimed_anew(self.database_url, ended, action.lasts)
        else:
            with lasting.get(action.what, self._without_database)(action):
                ended.wait(action.lasts)

    def revive(self) -> None:
        """Start what has ended by itself, as a platform does."""
        for program in self._programs:
            if not program.is_running:
                self._has_ended(program)
                program.kill()
                program.start()

    def _restart(self, program: Program) -> None:
        status = program.stop()
        if status:
            self._has_ended(program)
        program.start()

    def _has_ended(self, program: Program) -> None:
        """Note a process that ended by itself, and maybe was told to when it already did."""
        self.crashed.append(f"{type(program).__name__.lower()}: {program.log[-3000:]}")

    def _make_clock(self, folder: Path) -> WallClock | None:
        if find_compiler() is None:
            self.lacking.append("a C compiler")
            return None
        return WallClock(folder)

    def _make_disk(self, folder: Path) -> Path | None:
        try:
            return self._running.enter_context(small_disk(folder, DISK))
        except OSError:
            self.lacking.append("a file system that may be mounted")
            folder.rmdir()
            return None

    def _make_pooler(self, url: str) -> str:
        if find_program("pgbouncer") is None:
            self.lacking.append("PgBouncer")
            return url
        return self._running.enter_context(PgBouncer(url, size=20)).url

    def _web(self, action: Action) -> int:
        """One of the web processes that there are."""
        while not (workers := self.server.workers):
            time.sleep(0.01)
        return workers[int(action.chance * len(workers))]

    def _worker(self, action: Action) -> Worker:
        return self.workers[int(action.chance * len(self.workers))]

    def _kill_web(self, action: Action) -> None:
        with suppress(ProcessLookupError):  # it has just ended by itself
            self.server.kill_worker(self._web(action))

    def _kill_worker(self, action: Action) -> None:
        self._worker(action).kill()
        self._worker(action).start()

    def _kill_all(self, _: Action) -> None:
        in_threads([program.kill for program in self._programs])
        in_threads([program.start for program in self._programs])

    @contextmanager
    def _frozen_web(self, action: Action) -> Iterator[None]:
        pid = self._web(action)
        with self.thawed:
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGSTOP)
            yield
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    @contextmanager
    def _frozen_worker(self, action: Action) -> Iterator[None]:
        with self.thawed:
            self._worker(action).freeze()
            yield
            self._worker(action).thaw()

    @contextmanager
    def _unread_log(self, _: Action) -> Iterator[None]:
        for log in self._logs:
            log.stall()
        yield
        for log in self._logs:
            log.go_on()

    @contextmanager
    def _wrong_clock(self, action: Action) -> Iterator[None]:
        assert self._clock is not None
        # A process that begins meanwhile follows the wrong clock.
        time.sleep(STARTS_WITHIN)
        self._clock.move(HOUR if action.what is What.CLOCK_FORWARD else -HOUR)
        yield
        self._clock.move(0)

    @contextmanager
    def _restarted_on_a_full_disk(self, _: Action) -> Iterator[None]:
        assert self._disk is not None
        with filled(self._disk):
            self._restart(self.server)
            yield

    @contextmanager
    def _without_database(self, action: Action) -> Iterator[None]:
        cluster = self._cluster
        assert cluster is not None, f"{action.what}: there is no server of databases"
        go, come = {
            What.STOP_DATABASE: (cluster.stop, cluster.start),
            What.KILL_DATABASE: (cluster.kill, cluster.start),
            What.FREEZE_DATABASE: (cluster.freeze, cluster.thaw),
        }[action.what]
        go()
        yield
        come()


def _claimed_anew(url: str, ended: threading.Event, seconds: float) -> None:
    """End all leases, as if they were a minute older, and wait until another worker sends one of those jobs.

    Then what the frozen one says of it meets a newer claim. What it has locked stays as it is.
    """
    end = """
        UPDATE jobs SET lease_until = lease_until - 60
        WHERE id IN (SELECT id FROM jobs WHERE state = 'sending' FOR UPDATE SKIP LOCKED) RETURNING id
    """
    anew = """
        SELECT 1 FROM jobs JOIN attempts ON job_id = jobs.id AND outcome IS NULL
        WHERE jobs.id = ANY(%s) AND state = 'sending' AND lease_until > extract(epoch FROM clock_timestamp())
    """
    deadline = time.monotonic() + seconds
    with psycopg.connect(url, autocommit=True) as connection:
        jobs = [job for (job,) in connection.execute(end)]
        while time.monotonic() < deadline and not connection.execute(anew, [jobs]).fetchone():
            ended.wait(0.005 if jobs else seconds)


@contextmanager
def _crowd(port: int) -> Iterator[None]:
    """Inside, CROWD connections are open, of clients that send nothing."""
    with ExitStack() as opened:
        for _ in range(CROWD):
            with suppress(OSError):
                connection = socket.create_connection(("127.0.0.1", port), 1, (CROWDS_ADDRESS, 0))
                opened.enter_context(connection)
        yield


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Until it ends nobody writes."""
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
