"""`fake-theeye`: what it prints for the jobs of a server with the same table, and what it refuses."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli import main
from bridge.config.load import load
from bridge.demo.fake_theeye import FIXED, fake_theeye
from bridge.demo.theeye import StandIn
from bridge.sources.base.discovery import discover
from tests.support.daemon import hold_port
from tests.support.pushes import DEPLOY, RELEASE, VARIABLES, push, write_table
from tests.support.server import CHECKOUT, PATIENCE, Server

TABLE = """
theeye: {customer: acme, access_token: "${{ env.TOKEN }}"}
sources: {github: {secret: "${{ env.HOOK_SECRET }}"}}
on_dead: {task: tell, task_arguments: ["${{ job.id }}", "${{ dead }}"]}
tasks:
  deploy: {id: 5f3c9a7be4b0a1c2d3e4f501, secret_key: "${{ env.DEPLOY_KEY }}", arguments: [what, null, who]}
  tell: {id: 5f3c9a7be4b0a1c2d3e4f502, secret_key: "${{ env.RELEASE_KEY }}"}
  trial: {id: 5f3c9a7be4b0a1c2d3e4f503}
routes:
  - {source: github, event: push, task: deploy, task_arguments: {what: "${{ event }}", who: me}}
  - {name: short, source: github, event: push, task: tell, task_arguments: [one]}
  - {name: by token, source: github, event: push, task: trial, task_arguments: [one]}
"""


@contextmanager
def running(environ: dict[str, str], port: int) -> Iterator[subprocess.Popen[str]]:
    """The command as a user starts it, once it listens."""
    command = [sys.executable, "-m", "bridge", "fake-theeye", "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=CHECKOUT, env={"PATH": os.environ["PATH"], **environ}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        listens = f"A stand-in TheEye listens on http://127.0.0.1:{port}. Its tasks: deploy, release.\n"
        assert process.stdout.readline() == listens
        yield process
    finally:
        process.kill()
        process.communicate()


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().rstrip("\n") for _ in range(count)]


def post(port: int, path: str, **body: object) -> tuple[int, object]:
    """The status and the JSON that a job's request gets."""
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


@pytest.fixture
def port() -> Iterator[int]:
    with hold_port() as holder:
        yield holder.getsockname()[1]


def test_it_prints_what_the_script_of_a_servers_job_receives(tmp_path: Path, port: int) -> None:
    config = write_table(tmp_path, f"http://127.0.0.1:{port}")
    environ = {"BRIDGE_CONFIG": str(config), **VARIABLES}
    with (
        running(environ, port) as process,
        Server(config, tmp_path / "bridge.db", VARIABLES) as server,
    ):
        assert push(server.port, "a 'quoted' commit").status == 202
        assert lines(process, 2) == [
            "task deploy: the script receives 1 argument",
            "  $1 = \"a 'quoted' commit\"",
        ]
        # It refuses as TheEye does: the table's ids, keys and organization, each with its own alone.
        right, wrong = VARIABLES["DEPLOY_KEY"], VARIABLES["RELEASE_KEY"]
        order = {"task": DEPLOY, "customer": "acme", "task_arguments": ["x"]}
        assert post(port, f"/job/secret/{wrong}", **order) == (403, "invalid secret")
        assert post(port, f"/job/secret/{right}", **{**order, "task": "f" * 24}) == (404, "task not found")
        other = {**order, "customer": "other"}
        assert post(port, f"/job/secret/{right}", **other) == (404, "organization not found")
        assert post(port, f"/job/secret/{wrong}", **{**order, "task": RELEASE})[0] == 200
        assert lines(process, 5) == [
            'task deploy: refused with 403: "invalid secret"',
            f"task '{'f' * 24}': refused with 404: \"task not found\"",
            'task deploy: refused with 404: "organization not found"',
            "task release: the script receives 1 argument",
            '  $1 = "x"',
        ]


def test_a_task_has_the_arguments_of_the_table(tmp_path: Path) -> None:
    """Those that it names, with fixed ones; else as many as the longest of its routes and on_dead give."""
    (tmp_path / "table.yml").write_text(TABLE)
    variables = {**VARIABLES, "TOKEN": "token-of-a-user"}
    table = load(tmp_path, variables, discover()).table
    theeye = fake_theeye(table, 0, lambda *_: None)
    declared = {
        task.name: [argument.fixed or argument.name for argument in task.arguments] for task in theeye._tasks
    }
    assert declared == {
        "deploy": ["what", FIXED, "who"], "tell": ["argument 1", "argument 2"], "trial": ["argument 1"],
    }  # fmt: skip
    assert theeye._access_token == "token-of-a-user"


def test_a_port_in_use_is_an_error_of_one_line(tmp_path: Path) -> None:
    with StandIn([], []) as theeye:
        port = theeye.url.rpartition(":")[2]
        environ = {"BRIDGE_CONFIG": str(write_table(tmp_path, theeye.url)), **VARIABLES}
        result = CliRunner().invoke(main, ["fake-theeye", "--port", port], env=environ)
    assert result.exit_code == 1
    expected = f"Error: cannot listen on port {port}: Address already in use; choose another with --port\n"
    assert result.output == expected


@pytest.mark.parametrize("name", VARIABLES)
def test_an_unset_variable_is_an_error(tmp_path: Path, name: str) -> None:
    """The server would refuse it, too."""
    environ = {"BRIDGE_CONFIG": str(write_table(tmp_path, "http://127.0.0.1:1")), **VARIABLES, name: ""}
    result = CliRunner().invoke(main, ["fake-theeye"], env=environ)
    assert result.exit_code == 1
    assert name in result.output
