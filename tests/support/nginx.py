"""nginx in a process of its own, for tests of the configurations in the docs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

#: Seconds that a start or a stop may take on a slow machine.
PATIENCE = 60.0


def find_program() -> str | None:
    """Its path. Debian installs it into a folder that PATH may lack."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


class Nginx:
    """nginx with everything that it writes in `folder`.

    As a context manager it is running inside, and gone afterwards however the test went.
    """

    def __init__(self, config: str, folder: Path, port: int) -> None:
        """`config` is the text of nginx.conf and listens on `port` of 127.0.0.1.

        Raises FileNotFoundError where the machine has no nginx.
        """
        program = find_program()
        if program is None:
            raise FileNotFoundError("no nginx on PATH or in /usr/sbin")
        file = folder / "nginx.conf"
        file.write_text(config)
        self.port = port
        self._log = folder / "start.log"
        started_with = f"daemon off; pid {folder / 'nginx.pid'};"
        self._command = [
            program,
            "-p",
            str(folder),
            "-c",
            str(file),
            "-e",
            str(self._log),
            "-g",
            started_with,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_until_it_listens(self._process)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE).close()
                return
            time.sleep(0.02)
        raise AssertionError(f"nginx does not listen\n{self._log.read_text()}")

    def _end(self) -> None:
        if self._process is None:
            return
        # Not SIGKILL first: its master then could not end its workers.
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE)
        self._process = None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
