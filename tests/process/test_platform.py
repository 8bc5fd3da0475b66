"""The real server as platforms run it: their addresses, their disks, a read-only root, their stop time."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from bridge.core.budget import MAX_JOBS
from bridge.core.job import JobState
from bridge.outbox.store import Outbox
from tests.conftest import lacks
from tests.process.test_memory import TABLE as ALERTS
from tests.process.test_memory import notification, post
from tests.support.intake import VARIABLES as SENDERS
from tests.support.intake import table
from tests.support.pushes import VARIABLES, push, stand_in, write_table
from tests.support.server import PATIENCE, Server
from tests.support.tables import wait_until
from tests.support.theeye import Fault


class PlatformServer(Server):
    """Its environment alone says where it listens."""

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "bridge", "serve"]


def server_of(tmp_path: Path, **environ: str) -> PlatformServer:
    config = write_table(tmp_path, "http://127.0.0.1:1")
    return PlatformServer(config, tmp_path / "bridge.db", {**VARIABLES, **environ})


def status_of(connection: http.client.HTTPConnection) -> int:
    with closing(connection):
        connection.request("GET", "/healthz")
        return connection.getresponse().status


# Addresses


def test_it_listens_on_every_interface_and_logs_ipv4_addresses_as_such(tmp_path: Path) -> None:
    with server_of(tmp_path, GUNICORN_CMD_ARGS="--access-logfile -") as server:
        if Path("/proc/net/if_inet6").exists():
            assert status_of(http.client.HTTPConnection("::1", server.port, timeout=PATIENCE)) == 200
            assert f"Listening at: http://[::]:{server.port}" in server.log
        assert push(server.port, "one").status == 202
        wait_until(lambda: "127.0.0.1 POST /hooks/github 202" in server.log, "the line of the access log")
        assert "::ffff:" not in server.log


def test_it_listens_on_one_address(tmp_path: Path) -> None:
    server = server_of(tmp_path)
    server._environ |= {"PORT": "1", "BRIDGE_BIND": f"127.0.0.1:{server.port}"}
    with server:
        assert push(server.port, "one").status == 202
        assert f"Listening at: http://127.0.0.1:{server.port}" in server.log


class UnixConnection(http.client.HTTPConnection):
    """A connection to a socket in the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


class UnixServer(PlatformServer):
    """It listens on a socket in the file system."""

    def _works(self) -> bool:
        path = self._environ["BRIDGE_BIND"].removeprefix("unix:")
        try:
            return status_of(UnixConnection(path)) == 200
        except OSError:
            return False


def test_it_listens_on_a_unix_socket(tmp_path: Path) -> None:
    config = write_table(tmp_path, "http://127.0.0.1:1")
    environ = {**VARIABLES, "BRIDGE_BIND": f"unix:{tmp_path / 'bridge.sock'}"}
    with UnixServer(config, tmp_path / "bridge.db", environ) as server:
        with closing(UnixConnection(str(tmp_path / "bridge.sock"))) as connection:
            connection.request("POST", "/hooks/github", b"{}", {"Content-Type": "application/json"})
            assert connection.getresponse().status == 401
        assert server.stop() == 0


# Disks


def test_a_database_that_the_platform_deletes_is_trouble(tmp_path: Path) -> None:
    """Heroku sets WEB_CONCURRENCY, which must not mean several writers of one SQLite file."""
    with server_of(tmp_path, DYNO="web.1", WEB_CONCURRENCY="3") as server:
        status, answer = server.get("/readyz")
        assert status == 200
        (text,) = answer["trouble"]
        assert f"the SQLite database {tmp_path / 'bridge.db'} is on a disk that this platform deletes" in text
        (line,) = [line for line in server.log.splitlines() if text in line and "/readyz" not in line]
        assert '"level":"warning"' in line
        assert len(server.workers) == 1
        assert server.get("/readyz", token="")[1]["trouble"] == 1


class ReadOnlyServer(PlatformServer):
    """Nothing can be written but a volume, as in a container with a read-only root."""

    may_fork = False
    _MOUNTS = 'mount --bind {volume} {volume}; mount -o remount,bind,ro /; exec "$@"'

    def _command(self) -> list[str]:
        mounts = self._MOUNTS.format(volume=self._log.parent / "volume")
        return ["unshare", "--mount", "sh", "-ec", mounts, "sh", *super()._command()]


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "volume").mkdir()
    trial = ["unshare", "--mount", "mount", "-o", "remount,bind,ro", "/"]
    if subprocess.run(trial, check=False, capture_output=True).returncode:
        lacks("mount")
    return tmp_path / "volume"


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_it_runs_with_a_read_only_root(
    tmp_path: Path, volume: Path, store: str, request: pytest.FixtureRequest
) -> None:
    database = volume / "bridge.db" if store == "sqlite" else request.getfixturevalue("postgresql_url")
    with stand_in() as theeye:
        config = write_table(tmp_path, theeye.url)
        with ReadOnlyServer(config, database, VARIABLES) as server:
            with pytest.raises(OSError, match="Read-only"):
                Path(f"/proc/{server.pid}/root/{tmp_path}/file").touch()
            assert push(server.port, "one").status == 202
            assert [job.values[0] for job in theeye.wait_for(1)] == ["one"]
            assert "Traceback" not in server.log
            assert server.stop() == 0


def test_a_large_webhook_needs_no_other_folder(tmp_path: Path, volume: Path) -> None:
    """SQLite would write the journal of a long statement into a temporary folder."""
    config = tmp_path / "table.yml"
    config.write_text(table(ALERTS))
    with ReadOnlyServer(config, volume / "bridge.db", SENDERS) as server:
        status, answer = post(server, "alerts", notification(MAX_JOBS))
        assert status == 202, server.log[-1000:]
        assert len(answer["jobs"]) == MAX_JOBS


# The stop


@pytest.mark.slow
def test_a_stop_is_over_before_a_platform_kills(tmp_path: Path) -> None:
    """Heroku's SIGKILL comes 30 s after its SIGTERM, and every process of a dyno gets both."""
    with stand_in() as theeye:
        config = write_table(tmp_path, theeye.url, timeout="60s")
        with PlatformServer(config, tmp_path / "bridge.db", VARIABLES) as server:
            theeye.fault(Fault(hang=90.0))
            assert push(server.port, "one", "release").status == 202
            theeye.wait_for_requests(1)
            platform = threading.Timer(30.0, server.kill)
            platform.start()
            os.killpg(server.pid, signal.SIGTERM)
            assert server.stop() == 0
            platform.cancel()
            assert "SIGKILL" not in server.log
        with closing(Outbox(server.database_url)) as outbox:
            (job,) = outbox.jobs()
            assert job.state is JobState.UNKNOWN
