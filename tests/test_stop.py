"""The real server is told to end while it sends: what is in flight finishes, within the time for it."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import os
import signal
import time
from pathlib import Path

import pytest

from bridge.demo.arguments import Argument, StandInTask
from bridge.demo.theeye import Fault, StandIn
from bridge.job import JobState
from bridge.outbox import Outbox
from tests.server import Server

VARIABLES = {"HOOK_SECRET": "stop-test-webhook-secret", "TASK_KEY": "k" * 64}
TASK = "5f3c9a7be4b0a1c2d3e4f501"

TABLE = """
theeye: {{url: "{url}", customer: acme, timeout: 20s}}
sources:
  github: {{secret: "${{{{ env.HOOK_SECRET }}}}"}}
tasks:
  deploy: {{id: {task}, secret_key: "${{{{ env.TASK_KEY }}}}", on_unknown: hold}}
routes:
  - {{source: github, event: push, task: deploy, task_arguments: ["${{{{ payload.after }}}}"]}}
"""


def server_of(tmp_path: Path, url: str, **environ: str) -> Server:
    config = tmp_path / "table.yml"
    config.write_text(TABLE.format(url=url, task=TASK))
    return Server(config, tmp_path / "bridge.db", {**VARIABLES, **environ})


def stand_in() -> StandIn:
    return StandIn(["acme"], [StandInTask(TASK, VARIABLES["TASK_KEY"], "deploy", (Argument("commit"),))])


def push(server: Server, commit: str) -> int:
    """The status of the answer; 0 where there was none."""
    body = f'{{"ref": "refs/heads/main", "before": "", "after": "{commit}"}}'.encode()
    signature = hmac.new(VARIABLES["HOOK_SECRET"].encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": commit,
        "X-Hub-Signature-256": f"sha256={signature}",
    }
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("POST", "/hooks/github", body, headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def end(server: Server, how: str) -> float:
    """Tell the server to end; after how many seconds it has."""
    begun = time.monotonic()
    if how == "SIGTERM":
        server.stop()
    else:  # what Ctrl-C does: every process of the group is told, and the workers by their master, too
        os.killpg(server.pid, signal.SIGINT)
        while server.is_running:
            assert time.monotonic() < begun + 30, server.log[-3000:]
            time.sleep(0.02)
    return time.monotonic() - begun


def states(server: Server) -> list[JobState]:
    outbox = Outbox(f"sqlite:///{server.database}", beside_a_server=True)
    found = [job.state for job in outbox.jobs()]
    outbox.close()
    return found


@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize(
    ("hangs", "stop", "state"), [(1.5, "20s", JobState.ACCEPTED), (30.0, "3s", JobState.UNKNOWN)]
)
def test_what_is_in_flight_finishes_or_is_recorded_as_unknown(
    tmp_path: Path, how: str, hangs: float, stop: str, state: JobState
) -> None:
    with stand_in() as theeye, server_of(tmp_path, theeye.url, BRIDGE_STOP=stop) as server:
        theeye.fault(Fault(hang=hangs))
        assert push(server, "abc") == 202
        theeye.wait_for_requests(1)
        took = end(server, how)
        assert states(server) == [state]
        assert took < 15, server.log[-3000:]
        assert "Traceback" not in server.log
        assert "SIGKILL" not in server.log


def test_ctrl_c_ends_it_every_time(tmp_path: Path) -> None:
    server = server_of(tmp_path, "http://127.0.0.1:1")
    for _ in range(4):
        with server:
            assert end(server, "Ctrl-C") < 10, server.log[-3000:]
    assert "SIGKILL" not in server.log


def test_a_worker_that_is_killed_alone_is_replaced_and_what_it_left_is_taken_up(tmp_path: Path) -> None:
    with stand_in() as theeye, server_of(tmp_path, theeye.url) as server:
        theeye.fault(Fault(hang=30.0, times=1))
        assert push(server, "one") == 202
        theeye.wait_for_requests(1)
        (worker,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        os.kill(int(worker), signal.SIGKILL)
        deadline = time.monotonic() + 20
        # At once, long before its lease ends; and it is held, not sent again.
        while states(server) != [JobState.UNKNOWN] or push(server, "two") != 202:
            assert time.monotonic() < deadline, server.log[-3000:]
            time.sleep(0.05)
        assert [job.values[0] for job in theeye.wait_for(1)] == ["two"]


def test_a_database_that_is_deleted_under_it_takes_nothing_on(tmp_path: Path) -> None:
    with stand_in() as theeye, server_of(tmp_path, theeye.url) as server:
        assert push(server, "one") == 202
        theeye.wait_for(1)
        for path in tmp_path.glob("bridge.db*"):
            path.rename(path.with_name(f"moved-{path.name}"))
        assert push(server, "two") == 503
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        assert response.status == 503
        assert b"was moved or deleted" in response.read()
        connection.close()
        for path in tmp_path.glob("moved-*"):
            path.rename(path.with_name(path.name.removeprefix("moved-")))
        assert push(server, "two") == 202
        theeye.wait_for(2)
