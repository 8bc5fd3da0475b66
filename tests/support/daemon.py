"""A program that runs beside a test, in a separate process group."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import weakref
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from tests.support.forked import Forked

#: Seconds that a start, a stop or an answer may take on a slow machine.
PATIENCE = 60.0


class Daemon(ABC):
    """One program, that leads a process group.

    It may be started again after `stop` or `kill`: its log grows. As a context manager it is running inside,
    and gone afterwards however the test went.
    """

    def __init__(self, log: Path) -> None:
        """`log` is the file for all that it writes."""
        self._log = log
        self._log_begins = 0
        self._process: subprocess.Popen[bytes] | Forked | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def log(self) -> str:
        """Everything that it wrote, over all its starts."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether the process that was started lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it works. Raises AssertionError with its log where it ends first."""
        assert not self.is_running, "it runs already"
        self._log_begins = len(self.log)
        self._process = self._started()
        try:
            self._wait_until_it_works()
        except BaseException:
            self.kill()
            raise

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal, as a platform does, and return its exit status."""
        process = self._running()
        process.send_signal(how)
        try:
            return process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end within {PATIENCE:.0f} s after {how.name}\n{self.log}") from None

    def kill(self) -> None:
        """SIGKILL to every process of it at once; nothing where it has ended."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE)
        self._process = None

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the command."""

    @abstractmethod
    def _works(self) -> bool:
        """Whether it has come up."""

    def _started(self) -> subprocess.Popen[bytes] | Forked:
        return self._opened(self._log)

    def _opened(self, output: Path, **more: Any) -> subprocess.Popen[bytes]:
        with output.open("ab") as log:
            return subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **more,
            )

    @property
    def _log_of_this_start(self) -> str:
        return self.log[self._log_begins :]

    def _running(self) -> subprocess.Popen[bytes] | Forked:
        assert self._process is not None, "it was not started"
        return self._process

    def _wait_until_it_works(self) -> None:
        process = self._running()
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if process.poll() is not None:
                what = type(self).__name__.lower()
                raise AssertionError(f"the {what} ended with {process.returncode}\n{self.log}")
            if self._works():
                return
            time.sleep(0.02)
        raise AssertionError(f"it does not work within {PATIENCE:.0f} s\n{self.log}")


def find_program(*names: str) -> str | None:
    """The path of the first that is there. Debian installs some into a folder that PATH may lack."""
    places = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    return next(filter(None, (shutil.which(name, path=places) for name in names)), None)


def require_program(*names: str) -> str:
    """The path of the first that is there. Raises FileNotFoundError where none is."""
    found = find_program(*names)
    if found is None:
        raise FileNotFoundError(f"no {' or '.join(names)} on PATH or in /usr/sbin")
    return found


def hold_port() -> socket.socket:
    """A socket that keeps a free port of 127.0.0.1 while it is open, and accepts no connection.

    A program can listen there meanwhile if it sets SO_REUSEADDR, as servers do.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


def free_port(user: object) -> int:
    """A port of 127.0.0.1 that is given to no one else while `user` lives."""
    holder = hold_port()
    weakref.finalize(user, holder.close)
    port: int = holder.getsockname()[1]
    return port


def listens(port: int) -> bool:
    """Return whether a program of this machine accepts connections there."""
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
        return True
    return False
