"""The processes of a bridge, and what befalls them."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg

from tests.chaos.schedule import ON_POSTGRESQL, ON_SQLITE, Action, What
from tests.chaos.table import ENVIRONMENT
from tests.postgresql import Cluster
from tests.server import Program, Server, Worker
from tests.tables import in_threads


class System:
    """On SQLite one web process that delivers, on PostgreSQL two that do not and two workers.

    As a context manager it is running inside, and gone afterwards.
    """

    def __init__(self, config: Path, cluster: Cluster | None) -> None:
        """Without a `cluster` on SQLite, in the folder of `config`; its cluster is running already."""
        self._cluster = cluster
        if cluster is None:
            self._path = config.with_name("bridge.db")
            self.server = Server(config, self._path, ENVIRONMENT)
            self.workers: list[Worker] = []
            self.whats: tuple[What, ...] = ON_SQLITE
        else:
            url = cluster.create_database()
            web = {**ENVIRONMENT, "BRIDGE_DELIVER": "false", "WEB_CONCURRENCY": "2"}
            self.server = Server(config, url, web)
            self.workers = [Worker(config, url, ENVIRONMENT, name=f"worker-{number}") for number in (1, 2)]
            self.whats = ON_POSTGRESQL
        self._running = ExitStack()
        #: Held while a process is frozen: whoever needs to know that nothing is in flight takes it.
        self.thawed = threading.Lock()
        #: The last that each process said which ended by itself.
        self.crashed: list[str] = []

    def __enter__(self) -> System:
        with ExitStack() as running:
            for program in self._programs:
                running.enter_context(program)
            self._running = running.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def database_url(self) -> str:
        return self.server.database_url

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
        match action.what:
            case What.KILL_WEB:
                workers = self.server.workers
                self.server.kill_worker(workers[int(action.chance * len(workers))])
            case What.KILL_WORKER:
                self._worker(action).kill()
                self._worker(action).start()
            case What.KILL_ALL:
                in_threads([program.kill for program in self._programs])
                in_threads([program.start for program in self._programs])
            case What.RELOAD_WEB:
                self.server.reload()
            case What.RESTART_WEB:
                self._restart(self.server)
            case What.RESTART_WORKER:
                self._restart(self._worker(action))
            case What.FREEZE_WORKER | What.LOSE_CLAIMS:
                with self.thawed:
                    self._worker(action).freeze()
                    if action.what is What.LOSE_CLAIMS:
                        _claimed_anew(self.database_url, ended, action.lasts)
                    else:
                        ended.wait(action.lasts)
                    self._worker(action).thaw()
            case What.LOCK_DATABASE:
                with _locked(self._path):
                    ended.wait(action.lasts)
            case _:
                self._without_database(action, ended)

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

    def _worker(self, action: Action) -> Worker:
        return self.workers[int(action.chance * len(self.workers))]

    def _without_database(self, action: Action, ended: threading.Event) -> None:
        cluster = self._cluster
        assert cluster is not None, f"{action.what}: there is no server of databases"
        go, come = {
            What.STOP_DATABASE: (cluster.stop, cluster.start),
            What.KILL_DATABASE: (cluster.kill, cluster.start),
            What.FREEZE_DATABASE: (cluster.freeze, cluster.thaw),
        }[action.what]
        go()
        ended.wait(action.lasts)
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
def _locked(path: Path) -> Iterator[None]:
    """Until it ends nobody writes."""
    with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
