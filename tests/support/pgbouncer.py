"""PgBouncer in a process of its own, between the bridge and a cluster of the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy.engine import make_url

from tests.support.nginx import free_port
from tests.support.postgresql import USER

#: Seconds that a start or a stop may take on a slow machine.
PATIENCE = 60.0

#: `server_round_robin`: one client's transactions go through all the sessions. `server_login_retry`: a server
#: that was away is tried again after a second, not 15.
CONFIG = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = trust
auth_file = {users}
ignore_startup_parameters = options
pool_mode = {mode}
default_pool_size = {size}
server_round_robin = 1
server_login_retry = 1
admin_users = {user}
"""


def find_program() -> str | None:
    """Its path. Debian installs it into a folder that PATH may lack."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")


class PgBouncer:
    """A pooler in front of the server of a URL.

    As a context manager it is running inside, and gone afterwards however the test went.
    """

    def __init__(self, server_url: str, *, mode: str = "transaction", size: int = 3) -> None:
        """Raises FileNotFoundError where the machine has no PgBouncer."""
        program = find_program()
        if program is None:
            raise FileNotFoundError("no pgbouncer on PATH or in /usr/sbin")
        self._server = make_url(server_url)
        self._port = free_port()
        # Not a folder of pytest's: those are closed to every user but the one who runs the tests.
        self._folder = Path(tempfile.mkdtemp(prefix="bridge-pgbouncer-"))
        self._folder.chmod(0o755)
        self._log = self._folder / "log"
        config = self._folder / "pgbouncer.ini"
        address = {"host": self._server.host, "port": self._server.port, "listen": self._port}
        users = self._folder / "users"
        users.write_text(f'"{USER}" ""\n')
        config.write_text(CONFIG.format(**address, mode=mode, size=size, user=USER, users=users))
        self._command = [program, str(config)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # It refuses to run as root.
        owner: dict[str, Any] = (
            {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        )
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", **owner
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

    @property
    def url(self) -> str:
        """What DATABASE_URL holds to reach the server's database through it."""
        return f"postgresql://{USER}@127.0.0.1:{self._port}/{self._server.database}"

    @property
    def admin_url(self) -> str:
        """Its own console, for commands such as RECONNECT."""
        return f"postgresql://{USER}@127.0.0.1:{self._port}/pgbouncer"

    @property
    def log(self) -> str:
        """Everything that it wrote."""
        return self._log.read_text("utf-8", "replace")

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE).close()
                return
            time.sleep(0.02)
        raise AssertionError(f"pgbouncer does not listen\n{self.log}")

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None
        shutil.rmtree(self._folder)
