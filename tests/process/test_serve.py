"""`serve`: the environment is checked, then the process becomes gunicorn."""

from __future__ import annotations

import http.client
import os
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli import main
from bridge.cli.serve import SETTINGS
from bridge.server.listen_address import every_interface
from tests.support.forked import run_program
from tests.support.pushes import VARIABLES, push, write_table
from tests.support.server import PATIENCE, Server


class ServeServer(Server):
    """It starts as the Procfile says."""

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "bridge", "serve", "--bind", "127.0.0.1", "--port", str(self.port)]


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
    done = run_program(server._command(), server._environ)
    assert done.returncode == 1
    assert done.stderr == f"Error: WEB_CONCURRENCY: found '{text}'; expected a number from 1 to 64\n"


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ([], []),
        (["--port", "9"], ["--bind", every_interface(9)]),
        (["--bind", "127.0.0.1"], ["--bind", "127.0.0.1:8123"]),
        (["--bind", "::1", "--port", "9"], ["--bind", "[::1]:9"]),
        (["--bind", "[::1]"], ["--bind", "[::1]:8123"]),
        (["--bind", "localhost"], ["--bind", "localhost:8123"]),
        (["--bind", "127.0.0.1:9"], ["--bind", "127.0.0.1:9"]),
        (["--bind", "unix:/run/bridge"], ["--bind", "unix:/run/bridge"]),
        (["-b", "127.0.0.1:9", "--workers=3"], ["-b", "127.0.0.1:9", "--workers=3"]),
    ],
    ids=" ".join,
)
def test_it_listens_where_its_options_say(
    monkeypatch: pytest.MonkeyPatch, options: list[str], given: list[str]
) -> None:
    """Options that it does not know are gunicorn's."""
    executed: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: executed.append(command))
    monkeypatch.setattr(os, "putenv", lambda *_: None)
    result = CliRunner().invoke(main, ["serve", *options], env={"PORT": "8123"})
    assert result.exit_code == 0, result.output
    (command,) = executed
    assert command[1:] == ["-m", "gunicorn", "-c", SETTINGS, *given, "bridge.wsgi:app"]


@pytest.mark.parametrize("address", ["127.0.0.1:9", "[::1]:9", "unix:/run/bridge", "fd://3"])
def test_an_address_with_a_port_excludes_another(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(os, "execv", lambda *_: None)
    result = CliRunner().invoke(main, ["serve", "--bind", address, "--port", "8"])
    assert result.exit_code == 2
    assert f"--bind: {address} has a port or names a socket: remove --port" in result.output
