"""The bridge as it is deployed: gunicorn in processes of its own, on a free port of this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from bridge.core.errors import DemoFailed, SendError
from bridge.demo.guard import ENDS_WITHIN, STOP
from bridge.http.client import HttpClient
from bridge.process.watchdog import Watchdog

#: The longest time until the server is ready, in seconds.
READY_WITHIN = 30.0

#: The folder that holds the package `bridge`.
ROOT = Path(__file__).parents[2]


class ServerProcess:
    """One gunicorn with the bridge, from `start` until `stop`; its log goes to a file in `folder`.

    `environ` is its whole environment. A guard ends it and removes the folder if this process is killed.
    """

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self.port = _free_port()
        self.log = folder / "bridge.log"
        self._folder = folder
        self._environ = {**environ, "PORT": str(self.port)}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server and wait until it is ready. Raises DemoFailed with the end of its log."""
        command = [sys.executable, "-m", "bridge.demo.guard", str(self._folder)]
        command += [sys.executable, "-m", "gunicorn", "-c", "python:bridge.server.gunicorn_config"]
        command += ["--bind", f"127.0.0.1:{self.port}", "bridge.wsgi:app"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command is fixed
                command,
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in a terminal goes to the demo alone, which stops the server
            )
        watchdog = Watchdog()
        client = HttpClient(watchdog)
        deadline = time.monotonic() + READY_WITHIN
        while not _is_ready(client, self.url):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise DemoFailed(f"the bridge did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)
        client.close()
        watchdog.close()

    def stop(self) -> None:
        """Stop the server; kill it if it does not end."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(BrokenPipeError, subprocess.TimeoutExpired):
            process.communicate(STOP, timeout=ENDS_WITHIN + 5)
        # The rest, if it does not end or its guard was killed.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _is_ready(client: HttpClient, url: str) -> bool:
    try:
        return client.get(f"{url}/readyz", {}, timeout=2.0).status == 200
    except SendError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
