"""The real processes, as a Procfile starts them, for tests that need them: gunicorn, and a worker."""

from __future__ import annotations

import fcntl
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from tests.support import daemon
from tests.support.daemon import Daemon
from tests.support.forked import Forked

CHECKOUT = Path(__file__).parents[2]

#: What shows the details of /readyz; `Server.get` sends it.
STATUS_TOKEN = "status-token-of-the-tests"
STATUS = {"Authorization": f"Bearer {STATUS_TOKEN}"}

PATIENCE, free_port = daemon.PATIENCE, daemon.free_port


class LogPipe:
    """A pipe whose reader copies what it reads to a file, until it stalls."""

    #: Bytes that the pipe has room for while nobody reads.
    SIZE = 4096

    def __init__(self, log: Path) -> None:
        self.path = log.with_name(f"{log.name}.pipe")
        os.mkfifo(self.path)
        # Also to write: reading must not end when a program does.
        self._pipe = os.open(self.path, os.O_RDWR)
        fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, self.SIZE)
        self._log = log
        self._may_read = threading.Event()
        self._may_read.set()
        threading.Thread(target=self._copy, daemon=True).start()

    def stall(self) -> None:
        """Read no more, until `go_on`."""
        self._may_read.clear()

    def go_on(self) -> None:
        self._may_read.set()

    def _copy(self) -> None:
        with self._log.open("ab", buffering=0) as log:
            while self._may_read.wait():
                log.write(os.read(self._pipe, self.SIZE))


class Program(Daemon):
    """One program of the bridge. The database stays over its starts."""

    #: Whether it may share memory with the tests, and start sooner.
    may_fork = True
    #: Where it runs.
    folder = CHECKOUT

    def __init__(
        self, name: str, config: Path, database: Path | str, environ: Mapping[str, str] | None
    ) -> None:
        """`database` is an SQLite file or a URL; `environ` holds the table's variables, and settings that
        differ from the defaults. Nothing else of this process's environment is handed on but PATH.
        """
        super().__init__(config.with_name(f"{config.name}.{name}.log"))
        self.database = database
        self.database_url = database if isinstance(database, str) else f"sqlite:///{database}"
        #: Where it writes its log.
        self._output = self._log
        self._environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "DATABASE_URL": self.database_url,
            "BRIDGE_CONFIG": str(config),
            "BRIDGE_STATUS_TOKEN": STATUS_TOKEN,
            **(environ or {}),
        }

    def pipe_log(self) -> LogPipe:
        """Let it write to a pipe from its next start on; what is read from it is its log."""
        pipe = LogPipe(self._log)
        self._output = pipe.path
        return pipe

    def set(self, name: str, value: str) -> None:
        """Set a variable of its environment from its next start on."""
        self._environ[name] = value

    def _started(self) -> subprocess.Popen[bytes] | Forked:
        command = self._command()
        if self.may_fork and Forked.can_run(command, self._environ):
            return Forked(command, self.folder, self._environ, self._output)
        return self._opened(self._output, cwd=self.folder, env=self._environ)


class Server(Program):
    """gunicorn with the bridge, on a free port of this machine only, which stays over its starts."""

    def __init__(self, config: Path, database: Path | str, environ: Mapping[str, str] | None = None) -> None:
        """`config` is a folder or file of YAML; for the rest see Program."""
        self.port = free_port(self)
        super().__init__("server", config, database, {"PORT": str(self.port), **(environ or {})})

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def workers(self) -> list[int]:
        """The pids of gunicorn's workers; the master's is `pid`."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(child) for child in children.split()]

    def get(self, path: str, timeout: float = PATIENCE, token: str = STATUS_TOKEN) -> tuple[int, Any]:
        """The status and the JSON that are answered to who has `token`. Raises OSError or HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            response = connection.getresponse()
            return response.status, orjson.loads(response.read())
        finally:
            connection.close()

    def reload(self) -> None:
        """SIGHUP, and wait until every worker is another one."""
        before = set(self.workers)
        self._running().send_signal(signal.SIGHUP)
        self._wait_for_others(before)

    def kill_worker(self, pid: int) -> None:
        """SIGKILL to one of gunicorn's workers, and wait until the master has started another."""
        os.kill(pid, signal.SIGKILL)
        self._wait_for_others({pid})

    def end_worker(self, pid: int) -> None:
        """SIGTERM to one of gunicorn's workers, and wait until the master has started another."""
        os.kill(pid, signal.SIGTERM)
        self._wait_for_others({pid})

    def kill(self) -> None:
        was_started = self._process is not None
        super().kill()
        if was_started:
            _wait_until_closed(self.port)

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "gunicorn", "-c", "python:bridge.server.gunicorn_config"]
        return [*command, "--bind", f"127.0.0.1:{self.port}", "bridge.wsgi:app"]

    def _works(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return self.get("/healthz", timeout=5)[0] == 200
        return False

    def _wait_for_others(self, gone: set[int]) -> None:
        # Not how many there were: one that was killed before may not have its successor yet.
        by_default = "2" if self.database_url.startswith("postgresql") else "1"
        count = int(self._environ.get("WEB_CONCURRENCY", by_default))
        deadline = time.monotonic() + PATIENCE
        while set(workers := self.workers) & gone or len(workers) != count:
            assert time.monotonic() < deadline, f"its workers are {workers}\n{self.log}"
            time.sleep(0.02)


#: gunicorn's settings: the bridge's, and what a test adds.
_SETTINGS = """
import time
from pathlib import Path

from bridge.server import gunicorn_config as server
from bridge.server.gunicorn_config import *
"""

#: A process begins to start only once a file is there.
_HELD = """
def post_fork(arbiter, worker):
    server.post_fork(arbiter, worker)
    while not Path({gate!r}).exists():
        time.sleep(0.01)
"""

#: The master loads a table for so many seconds.
SLOW = """
def when_ready(arbiter):
    read = arbiter.watcher._read
    arbiter.watcher._read = lambda: [time.sleep({seconds}), read()][1]
    server.when_ready(arbiter)
"""


class SetServer(Server):
    """Its settings are the bridge's and `added` ones."""

    def __init__(self, added: str, config: Path, database: Path | str, environ: Mapping[str, str]) -> None:
        super().__init__(config, database, environ)
        self._settings = config.with_name("settings.py")
        self._settings.write_text(_SETTINGS + added)

    def _command(self) -> list[str]:
        return [
            part.replace("python:bridge.server.gunicorn_config", str(self._settings))
            for part in super()._command()
        ]


class HeldServer(SetServer):
    """Its processes begin to start once `gate` is there: what they find is not what the master found."""

    def __init__(self, config: Path, database: Path | str, environ: Mapping[str, str]) -> None:
        self.gate = config.with_name("gate")
        super().__init__(_HELD.format(gate=str(self.gate)), config, database, environ)


class Worker(Program):
    """``python -m bridge worker``."""

    def __init__(
        self,
        config: Path,
        database: Path | str,
        environ: Mapping[str, str] | None = None,
        *,
        name: str = "worker",
    ) -> None:
        """`name` tells the logs of several apart; for the rest see Program."""
        super().__init__(name, config, database, environ)

    def freeze(self) -> None:
        """SIGSTOP, and wait until it holds; `kill` ends a frozen one, too."""
        self._running().send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + PATIENCE
        while self._state() != "T":
            assert time.monotonic() < deadline, "it goes on after SIGSTOP"
            time.sleep(0.001)

    def thaw(self) -> None:
        """SIGCONT."""
        self._running().send_signal(signal.SIGCONT)

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "bridge", "worker"]

    def _works(self) -> bool:
        return '"message":"delivering"' in self._log_of_this_start

    def _state(self) -> str:
        # The program's name before it stands in brackets and may hold any sign.
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]


def _wait_until_closed(port: int) -> None:
    """Killed workers may outlive their master by a moment; the last one to go closes the port."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:
            pass
        time.sleep(0.005)
    raise AssertionError(f"a process that listens on port {port} outlived SIGKILL")
