"""A PostgreSQL cluster of the tests' own: on 127.0.0.1 alone, in a folder that ends with it.

No cluster of the machine is touched, and none needs to run. Needs Linux: it freezes and kills a server
with every process of it, and finds those in /proc.
"""

from __future__ import annotations

import os
import pwd
import select
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

from tests.support.daemon import PATIENCE, free_port

USER = "bridge"

#: Where Debian keeps the programs of each version, outside PATH.
DEBIAN = Path("/usr/lib/postgresql")


def find_programs() -> Path | None:
    """The folder with initdb, postgres and the client programs: PATH's, else Debian's newest."""
    on_path = shutil.which("initdb")
    if on_path:
        folder = Path(on_path).resolve().parent
        if (folder / "postgres").exists():
            return folder
    versions = [folder.parent for folder in DEBIAN.glob("*/bin") if (folder / "initdb").exists()]
    return max(versions, key=lambda version: float(version.name)) / "bin" if versions else None


class Cluster:
    """One server with its databases, for whoever is on this machine: trust authentication.

    As a context manager it is running inside, and gone with its folder afterwards however the test went.
    It may be started again after `stop` or `kill`: the port and the data stay.
    """

    def __init__(self, *, fsync: bool = True) -> None:
        """Without `fsync` it is faster, and a machine that dies loses data; a server that dies does not.

        Raises FileNotFoundError where the machine has no PostgreSQL.
        """
        programs = find_programs()
        if programs is None:
            raise FileNotFoundError(f"no initdb with postgres beside it on PATH or in {DEBIAN}/*/bin")
        self._programs = programs
        self._fsync = fsync
        self._names = (f"test_{number}" for number in count(1))
        self._port = free_port(self)
        self._folder: Path | None = None
        self._postmaster: subprocess.Popen[bytes] | None = None
        self._frozen: list[int] = []

    def __enter__(self) -> Cluster:
        try:
            self._make()
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    @property
    def log(self) -> str:
        """Everything that it wrote, over all its starts."""
        path = self._home / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    @property
    def is_running(self) -> bool:
        """Whether the postmaster lives, frozen or not."""
        return self._postmaster is not None and self._postmaster.poll() is None

    @property
    def pid(self) -> int:
        """The postmaster, whose children are all other processes of it."""
        return self._running().pid

    def url(self, database: str) -> str:
        """What DATABASE_URL holds for that database."""
        return f"postgresql://{USER}@127.0.0.1:{self._port}/{database}"

    def create_database(self, copied: str = "template1") -> str:
        """Make a database under a fresh name, as a copy of the empty one or of another; returns its URL.

        Nobody may be connected to the other one.
        """
        name = next(self._names)
        self._run("createdb", *self._address, f"--template={copied.rpartition('/')[2]}", name)
        return self.url(name)

    def drop(self, url: str) -> None:
        """Drop the database of that URL, if it is there, and end every session in it."""
        self._run("dropdb", *self._address, "--force", "--if-exists", url.rpartition("/")[2])

    def move(self, url: str) -> str:
        """Back up a database with pg_dump, drop it, and restore it with psql; the URL of the new one."""
        backup = self.back_up(url)
        self.drop(url)
        return self.restore(backup)

    def back_up(self, url: str) -> str:
        """Back up a database with pg_dump; the name of the file."""
        database = url.rpartition("/")[2]
        self._run("pg_dump", *self._address, f"--file={database}.sql", database)
        return f"{database}.sql"

    def restore(self, backup: str) -> str:
        """Restore a backup with psql; the URL of the new database."""
        restored = self.create_database()
        options = "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={backup}"
        self._run("psql", *self._address, *options, restored.rpartition("/")[2])
        return restored

    def start(self) -> None:
        """Start it and wait until it answers. Raises AssertionError with its log where it ends first."""
        assert not self.is_running, "it runs already"
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self._port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "fsync": "on" if self._fsync else "off",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self._home / "log").open("ab") as log:
            self._postmaster = subprocess.Popen(
                [self._programs / "postgres", "-D", self._home / "data", *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._conditions,
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Stop it at once and orderly, as an administrator does ("fast"): open transactions are lost."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to all its processes at once; nothing where it has ended."""
        if self._postmaster is None:
            return
        self.freeze()  # so that the postmaster starts no process while they are counted
        pids, self._frozen = self._frozen, []
        watched = [_Watched(pid) for pid in pids]
        for process in watched:
            process.kill()
        self._postmaster.kill()
        self._postmaster.wait(PATIENCE)
        self._postmaster = None
        # It starts anew only where no process of the old one has its shared memory.
        for process in watched:
            process.wait()

    def freeze(self) -> None:
        """SIGSTOP to every process of it: connections stay open and are accepted, nothing answers."""
        postmaster = self._running()
        if postmaster.poll() is not None or self._frozen:
            return
        _freeze(postmaster.pid)
        self._frozen = _children(postmaster.pid)
        for pid in self._frozen:
            _freeze(pid)

    def thaw(self) -> None:
        """SIGCONT to all that `freeze` stopped."""
        pids, self._frozen = self._frozen, []
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        self._running().send_signal(signal.SIGCONT)

    @property
    def _home(self) -> Path:
        assert self._folder is not None, "the cluster is there only inside its with block"
        return self._folder

    @property
    def _address(self) -> tuple[str, ...]:
        return ("--host=127.0.0.1", f"--port={self._port}", f"--username={USER}")

    @property
    def _conditions(self) -> dict[str, Any]:
        """How each of its processes runs: as Debian's user where the tests run as root, whom it refuses."""
        environ = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
        owner = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        return {"cwd": self._home, "env": environ, **owner}

    def _make(self) -> None:
        # Not one of pytest's: those are closed to every user but the one who runs the tests.
        self._folder = Path(tempfile.mkdtemp(prefix="bridge-postgresql-"))
        if os.getuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", f"--username={USER}"]
        self._run("initdb", *options, f"--pgdata={self._home / 'data'}")

    def _remove(self) -> None:
        if self._folder is None:
            return
        try:
            # A killed one leaves the kernel a segment of shared memory, which only its next start takes away.
            if not self.is_running and (self._home / "data" / "postmaster.pid").exists():
                self.start()
            self._end(signal.SIGQUIT)
        finally:
            self.kill()
            shutil.rmtree(self._folder)
            self._folder = None

    def _end(self, how: signal.Signals) -> None:
        if self._postmaster is None:
            return
        self.thaw()
        self._postmaster.send_signal(how)
        try:
            self._postmaster.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end within {PATIENCE:.0f} s after {how.name}\n{self.log}") from None
        self._postmaster = None

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._postmaster is not None, "it was not started"
        return self._postmaster

    def _wait_until_it_answers(self) -> None:
        postmaster = self._running()
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if postmaster.poll() is not None:
                raise AssertionError(f"the server ended with {postmaster.returncode}\n{self.log}")
            ready: list[str | Path] = [self._programs / "pg_isready", "--quiet", *self._address]
            if subprocess.run(ready, check=False, timeout=PATIENCE, **self._conditions).returncode == 0:
                return
            time.sleep(0.02)
        raise AssertionError(f"no answer within {PATIENCE:.0f} s\n{self.log}")

    def _run(self, program: str, *arguments: str) -> None:
        """Raises AssertionError with what the program wrote where it fails."""
        done = subprocess.run(
            [self._programs / program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=PATIENCE,
            **self._conditions,
        )
        written = done.stdout.decode("utf-8", "replace")
        assert done.returncode == 0, f"{program} ended with {done.returncode}\n{written}"


class StorePool:
    """Copies of one store, each emptied and used again: a new copy costs six times as much."""

    #: Differs from the original's if anything but rows was changed. Copies have the original's oids.
    _FINGERPRINT = """
        SELECT
            (SELECT array_agg(concat_ws(' ', oid, relname, relnatts, relacl) ORDER BY oid)::text
                FROM pg_class WHERE relnamespace = 'public'::regnamespace),
            (SELECT count(*) FROM pg_trigger),
            (SELECT count(*) FROM pg_constraint),
            (SELECT count(*) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'),
            (SELECT count(*) FROM pg_db_role_setting JOIN pg_database ON setdatabase = pg_database.oid
                WHERE datname = current_database())
    """
    _END_SESSIONS = """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid != pg_backend_pid()
    """
    _TABLES = """
        SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables
        WHERE schemaname = 'public' AND tablename != 'alembic_version'
    """

    def __init__(self, cluster: Cluster, original: str) -> None:
        """`original` is the URL of a store without webhooks."""
        self._cluster = cluster
        self._original = original
        self._free: list[str] = []
        with closing(psycopg.connect(original)) as connection:
            self._fingerprint = connection.execute(self._FINGERPRINT).fetchone()

    def acquire(self) -> str:
        """Return the URL of a store without webhooks, which nobody else uses."""
        return self._free.pop() if self._free else self._cluster.create_database(self._original)

    def release(self, url: str) -> None:
        """End every session in the store and empty it, or drop it if its tables or settings were changed."""
        if self._empty(url):
            self._free.append(url)
        else:
            self._cluster.drop(url)

    def _empty(self, url: str) -> bool:
        with closing(psycopg.connect(url, autocommit=True)) as connection:
            if connection.execute(self._FINGERPRINT).fetchone() != self._fingerprint:
                return False
            connection.execute(self._END_SESSIONS)
            (tables,) = connection.execute(self._TABLES).fetchone() or ("",)
            connection.execute(f"TRUNCATE {tables} RESTART IDENTITY".encode())
        return True


class _Watched:
    """A process that is not this one's child: its number may be another's as soon as it has ended."""

    def __init__(self, pid: int) -> None:
        self._descriptor = os.pidfd_open(pid)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def wait(self) -> None:
        """Until it has ended."""
        try:
            ended, _, _ = select.select([self._descriptor], [], [], PATIENCE)
            assert ended, f"a process of the server outlived SIGKILL by {PATIENCE:.0f} s"
        finally:
            os.close(self._descriptor)


def _children(pid: int) -> list[int]:
    """Exact only while that process is stopped."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _freeze(pid: int) -> None:
    """SIGSTOP, and wait until it holds."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + PATIENCE
    while _state(pid) not in "TZ":
        assert time.monotonic() < deadline, f"process {pid} goes on after SIGSTOP"
        time.sleep(0.001)


def _state(pid: int) -> str:
    """One letter, as proc(5) has it: T is stopped, Z has ended."""
    # The program's name before it stands in brackets and may hold any sign.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
