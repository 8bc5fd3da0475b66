"""The real server in a process of its own, as a Procfile starts it, for tests that need one."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

CHECKOUT = Path(__file__).parents[1]

#: Seconds that a start or a stop may take on a slow machine.
PATIENCE = 60.0


class Server:
    """gunicorn with the bridge, on a free port of this machine only.

    It may be started again after `stop` or `kill`: the port, the database and the log (which grows)
    stay. As a context manager it is running inside, and gone afterwards however the test went.
    """

    def __init__(self, config: Path, database: Path, environ: Mapping[str, str] | None = None) -> None:
        """`config` is a folder or file of YAML; `environ` holds the table's variables, and settings that
        differ from the defaults. Nothing else of this process's environment is handed on but PATH.
        """
        self.database = database
        self.port = _free_port()
        self._log = database.with_name(f"{database.name}.server.log")
        self._environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PORT": str(self.port),
            "DATABASE_URL": f"sqlite:///{database}",
            "BRIDGE_CONFIG": str(config),
            **(environ or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Everything that it wrote, over all its starts."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    @property
    def pid(self) -> int:
        """gunicorn's master, which leads a process group of its own."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether the master lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it answers. Raises AssertionError with its log where it ends first."""
        assert not self.is_running, "it runs already"
        command = [sys.executable, "-m", "gunicorn", "-c", "python:bridge.server"]
        command += ["--bind", f"127.0.0.1:{self.port}", "bridge.wsgi:app"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> int:
        """SIGTERM, as a platform stops it; gunicorn's exit status once every process has ended."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end within {PATIENCE:.0f} s after SIGTERM\n{self.log}") from None

    def kill(self) -> None:
        """SIGKILL to the master and its workers at once; nothing where it has ended."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE)
        _wait_until_closed(self.port)
        self._process = None

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was not started"
        return self._process

    def _wait_until_it_answers(self) -> None:
        process = self._running()
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise AssertionError(f"the server ended with {process.returncode}\n{self.log}")
            if self._answers():
                return
            time.sleep(0.02)
        raise AssertionError(f"no answer within {PATIENCE:.0f} s\n{self.log}")

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


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
