"""`serve`: the environment is checked, then the process becomes gunicorn."""

from __future__ import annotations

import http.client
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.pushes import VARIABLES, push, write_table
from tests.server import CHECKOUT, PATIENCE, Server


class ServeServer(Server):
    """It starts as the Procfile says."""

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "bridge", "serve", "--bind", f"127.0.0.1:{self.port}"]


def server_of(tmp_path: Path, **environ: str) -> ServeServer:
    config = write_table(tmp_path, "http://127.0.0.1:1")
    return ServeServer(config, tmp_path / "bridge.db", {**VARIABLES, **environ})


def test_it_serves(tmp_path: Path) -> None:
    """Also with a variable that is set to nothing, as a compose file may do."""
    with server_of(tmp_path, WEB_CONCURRENCY="") as server:
        assert len(server.workers) == 1
        assert push(server.port, "one").status == 202
        for method in ("GET", "HEAD"):
            with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as client:
                client.request(method, "/")
                assert client.getresponse().status == 200
        assert server.stop() == 0


@pytest.mark.parametrize("text", ["auto"])
def test_an_invalid_number_of_processes_is_an_error_of_one_line(tmp_path: Path, text: str) -> None:
    server = server_of(tmp_path, WEB_CONCURRENCY=text)
    done = subprocess.run(
        server._command(), cwd=CHECKOUT, env=server._environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == f"WEB_CONCURRENCY: found '{text}'; expected a number from 1 to 64\n"
