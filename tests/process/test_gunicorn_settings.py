"""Settings of gunicorn with which the bridge would lose jobs or hang: the start refuses them, a line each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from gunicorn.config import Config

from bridge.server.gunicorn_config import timeout as own_timeout
from bridge.server.unsafe_settings import unsafe_settings
from bridge.server.web_worker import WebWorker
from tests.support.forked import run_program
from tests.support.pushes import VARIABLES, write_table
from tests.support.server import CHECKOUT, Server


def start(tmp_path: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Start gunicorn, which is to end by itself."""
    config = write_table(tmp_path, "http://127.0.0.1:1")
    server = Server(config, tmp_path / "bridge.db", {**VARIABLES, **environ})
    command = [*server._command()[:-1], *arguments, "bridge.wsgi:app"]
    return run_program(command, server._environ)


def lines_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What it wrote but the log."""
    return [line for line in done.stderr.splitlines() if not line.startswith("{")]


OUTSIDE = (
    "the bridge starts only in its own workers: use python -m bridge serve without preload_app, check_config"
)
REFUSED = """
gunicorn's worker_class is ThreadWorker: remove it; only WebWorker finishes its sends when it stops
gunicorn's reload is True: remove it; the bridge reloads its routing table by itself
gunicorn's worker_connections is 5000: set a number from 1 to 1000, because of the limit of open files
gunicorn's graceful_timeout is 5: remove it, or set at least 20; for a faster stop, set BRIDGE_STOP_TIMEOUT
gunicorn's timeout is 20: remove it, or set more than 20; a worker that stops may take BRIDGE_STOP_TIMEOUT
"""


def test_a_start_refuses_each_in_one_line(tmp_path: Path) -> None:
    arguments = "--worker-class gthread --reload --worker-connections 5000 --graceful-timeout 5"
    done = start(tmp_path, "--timeout", "20", GUNICORN_CMD_ARGS=arguments)
    assert lines_of(done) == REFUSED.strip().splitlines()
    assert done.returncode == 1
    assert "Booting worker" not in done.stderr
    assert not (tmp_path / "bridge.db").exists()


@pytest.mark.parametrize("argument", ["--preload", "--check-config"])
def test_nothing_starts_in_the_master(tmp_path: Path, argument: str) -> None:
    done = start(tmp_path, argument)
    assert lines_of(done) == [OUTSIDE]
    assert done.returncode == 4
    assert not (tmp_path / "bridge.db").exists()


def test_gunicorn_without_the_bridges_settings_ends(tmp_path: Path) -> None:
    config = tmp_path / "empty.py"
    config.write_text("")
    done = start(tmp_path, "-c", str(config))
    assert OUTSIDE in lines_of(done)
    assert done.returncode == 4
    assert not (tmp_path / "bridge.db").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", 40),
        ("reuse_port", True),
        ("workers", 0),
        ("worker_tmp_dir", "/nowhere"),
        ("worker_connections", 0),
        ("timeout", 90),
        ("graceful_timeout", 89),
    ],
)
def test_other_refused_values(name: str, value: object) -> None:
    config = usual(90)
    config.set(name, value)
    (line,) = unsafe_settings(config, 90.0)
    assert line.startswith(f"gunicorn's {name} is {value}: ")


@pytest.mark.parametrize(
    ("name", "value"), [("timeout", 0), ("max_requests", 10), ("keepalive", 2), ("threads", 41)]
)
def test_values_that_do_no_harm(name: str, value: object) -> None:
    config = usual(90)
    config.set(name, value)
    assert not [*unsafe_settings(config, 90.0)]


def test_a_limit_of_open_files_that_leaves_no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.server.unsafe_settings.connection_limit", lambda: -28)
    (line,) = unsafe_settings(usual(20), 20.0)
    assert line.endswith("raise the limit of open files (ulimit -n) to 1128")


def usual(stop: int) -> Config:
    """The bridge's settings with this BRIDGE_STOP_TIMEOUT."""
    config = Config()
    config.set("worker_class", WebWorker)
    config.set("threads", 64)
    config.set("timeout", max(own_timeout, stop + 10))
    config.set("graceful_timeout", stop)
    return config


#: Another server that loads the application, forks, and asks it in the child.
FORKS = """
import logging
import os
from bridge.wsgi import app

ask = lambda: app.test_client().get("/healthz").status_code
assert ask() == 200
if (pid := os.fork()) == 0:
    status = ask()
    logging.shutdown()
    os._exit(status - 500)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
bridge = app.extensions["bridge"]
bridge.delivery.stop(5)
bridge.close()
"""


def test_a_process_that_was_forked_after_the_start_refuses_requests(tmp_path: Path) -> None:
    config = write_table(tmp_path, "http://127.0.0.1:1")
    environ = {
        **os.environ, **VARIABLES, "BRIDGE_CONFIG": str(config),
        "DATABASE_URL": f"sqlite:///{tmp_path / 'bridge.db'}",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", FORKS], cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    assert done.stdout == "3\n"
    assert "forked after the bridge had started: load the application after the fork" in done.stderr
