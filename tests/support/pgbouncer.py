"""PgBouncer in a separate process, between the bridge and a cluster of the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from tests.support.daemon import Daemon, free_port, listens, require_program
from tests.support.postgresql import USER

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


class PgBouncer(Daemon):
    """A pooler in front of the server of a URL."""

    def __init__(self, server_url: str, *, mode: str = "transaction", size: int = 3) -> None:
        """Raises FileNotFoundError where the machine has no PgBouncer."""
        self._program, self._server, self._port = (
            require_program("pgbouncer"),
            make_url(server_url),
            free_port(self),
        )
        # Not a folder of pytest's: those are closed to every user but the one who runs the tests.
        self._folder = Path(tempfile.mkdtemp(prefix="bridge-pgbouncer-"))
        self._folder.chmod(0o755)
        super().__init__(self._folder / "log")
        address = {"host": self._server.host, "port": self._server.port, "listen": self._port}
        users = self._folder / "users"
        users.write_text(f'"{USER}" ""\n')
        config = CONFIG.format(**address, mode=mode, size=size, user=USER, users=users)
        (self._folder / "pgbouncer.ini").write_text(config)

    @property
    def url(self) -> str:
        """What DATABASE_URL holds to reach the server's database through it."""
        return f"postgresql://{USER}@127.0.0.1:{self._port}/{self._server.database}"

    @property
    def admin_url(self) -> str:
        """Its own console, for commands such as RECONNECT."""
        return f"postgresql://{USER}@127.0.0.1:{self._port}/pgbouncer"

    def kill(self) -> None:
        super().kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _command(self) -> list[str]:
        return [self._program, str(self._folder / "pgbouncer.ini")]

    def _started(self) -> subprocess.Popen[bytes]:
        # It refuses to run as root.
        owner: dict[str, Any] = (
            {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        )
        return self._opened(self._log, cwd="/", **owner)

    def _works(self) -> bool:
        return listens(self._port)
