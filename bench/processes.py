"""Start and stop a program, with all its processes."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

#: Seconds that a start or a stop may take.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 15.0


class StartFailed(Exception):
    """A program is missing, ended before it answered, or did not answer in time."""


class Process:
    """One program in its own session, so that Ctrl-C reaches the bench alone."""

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, cwd: Path, environ: Mapping[str, str]
    ) -> None:
        """Start it. It inherits only PATH from the environment; its output goes to a file in `folder`."""
        self._name = name
        self._log = folder / f"{name}.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._process.pid

    def wait_until(self, works: Callable[[], bool]) -> None:
        """Wait until it works. Raises StartFailed with the end of its log."""
        deadline = time.monotonic() + START_TIMEOUT
        while not works():
            if self._process.poll() is not None:
                raise StartFailed(f"{self._name} ended with {self._process.returncode}\n{self._log_end()}")
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"{self._name} did not answer within {START_TIMEOUT:.0f} s\n{self._log_end()}"
                )
            time.sleep(0.05)

    def wait_for_port(self, port: int) -> None:
        """Wait until it accepts connections on 127.0.0.1. Raises StartFailed."""
        self.wait_until(lambda: _accepts(port))

    def wait_for_page(self, port: int, path: str) -> None:
        """Wait until it answers a GET with 200. Raises StartFailed."""
        self.wait_until(lambda: _answers(port, path))

    def wait_for_output(self, text: str) -> None:
        """Wait until its output contains a text. Raises StartFailed."""
        self.wait_until(lambda: text in self._log.read_text("utf-8", "replace"))

    def stop(self) -> None:
        """End it with SIGTERM, then with SIGKILL whatever is left of its session."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def _log_end(self) -> str:
        return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-10:])


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
