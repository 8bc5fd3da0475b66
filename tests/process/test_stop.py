"""The real server is told to end while it sends: what is in flight finishes, within the time for it."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from bridge.core.job import JobState
from bridge.outbox.store import Outbox
from tests.support import pushes
from tests.support.pushes import VARIABLES, stand_in, write_table
from tests.support.server import HeldServer, Server
from tests.support.tables import wait_until
from tests.support.theeye import Fault


def server_of(tmp_path: Path, url: str, **environ: str) -> Server:
    config = write_table(tmp_path, url, timeout="20s")
    return Server(config, tmp_path / "bridge.db", {**VARIABLES, **environ})


def push(server: Server, commit: str) -> int:
    """Push what is held, not sent again, where the answer is lost; the status of the answer."""
    return pushes.push(server.port, commit, "release").status


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
    outbox = Outbox(server.database_url, beside_a_server=True)
    found = [job.state for job in outbox.jobs()]
    outbox.close()
    return found


@pytest.mark.parametrize("how", ["max_requests", "a killed master"])
def test_a_worker_that_ends_without_a_signal_lets_its_sends_finish(tmp_path: Path, how: str) -> None:
    limit = {"GUNICORN_CMD_ARGS": "--max-requests 2"} if how == "max_requests" else {}
    with stand_in() as theeye, server_of(tmp_path, theeye.url, **limit) as server:
        theeye.fault(Fault(hang=4.0))
        theeye.fault(Fault(hang=4.0))
        assert push(server, "one") == 202
        wait_until(lambda: JobState.SENDING in states(server))
        if how == "max_requests":
            assert push(server, "two") == 202
        else:
            os.kill(server.pid, signal.SIGKILL)

        wait_until(lambda: not {JobState.WAITING, JobState.SENDING} & {*states(server)})
        assert {*states(server)} == {JobState.ACCEPTED}


@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize(
    ("hangs", "stop", "state"), [(1.5, "20s", JobState.ACCEPTED), (30.0, "3s", JobState.UNKNOWN)]
)
@pytest.mark.slow_unless(how="SIGTERM")
def test_what_is_in_flight_finishes_or_is_recorded_as_unknown(
    tmp_path: Path, how: str, hangs: float, stop: str, state: JobState
) -> None:
    with stand_in() as theeye, server_of(tmp_path, theeye.url, BRIDGE_STOP_TIMEOUT=stop) as server:
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
        server.kill_worker(*server.workers)
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
        status, found = server.get("/readyz")
        assert status == 503
        assert "was moved or deleted" in found["database"]
        for path in tmp_path.glob("moved-*"):
            path.rename(path.with_name(path.name.removeprefix("moved-")))
        assert push(server, "two") == 202
        theeye.wait_for(2)


def test_a_worker_that_is_told_before_it_has_handlers_ends_too(tmp_path: Path) -> None:
    with stand_in() as theeye:
        config = write_table(tmp_path, theeye.url)
        server = HeldServer(config, tmp_path / "bridge.db", {**VARIABLES, "BRIDGE_STOP_TIMEOUT": "10s"})
        server.gate.touch()
        with server:
            server.gate.unlink()
            os.kill(server.workers[0], signal.SIGKILL)
            wait_until(lambda: server.log.count("Booting worker") == 2, "the next worker")
            os.kill(server.pid, signal.SIGTERM)
            wait_until(lambda: "Handling signal: term" in server.log, "the master's word")
            time.sleep(0.5)  # that word is said before the worker is told
            server.gate.touch()
            wait_until(lambda: not server.is_running, "the end")
            pid = server.log.rpartition("Booting worker with pid: ")[2].partition('"')[0]
            assert f"Worker exiting (pid: {pid})" in server.log


def test_clients_that_are_waited_for_do_not_hold_up_the_end(tmp_path: Path) -> None:
    with (
        server_of(tmp_path, "http://127.0.0.1:1", BRIDGE_STOP_TIMEOUT="40s") as server,
        ExitStack() as opened,
    ):
        for begin in (b"", b"GET /healthz HTTP/1.1\r\n"):
            sock = opened.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            sock.sendall(begin)
        assert server.get("/healthz")[0] == 200
        assert end(server, "SIGTERM") < 15, server.log[-3000:]


def test_a_request_whose_head_has_begun_is_answered(tmp_path: Path) -> None:
    with server_of(tmp_path, "http://127.0.0.1:1") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
            sock.sendall(b"GET /healthz HTTP/1.1\r\n")
            assert server.get("/healthz")[0] == 200
            os.kill(server.pid, signal.SIGTERM)
            wait_until(lambda: "Handling signal: term" in server.log, "the master's word")
            time.sleep(0.5)  # that word is said before the worker is told
            sock.sendall(b"Host: x\r\n\r\n")
            answer = sock.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200 ")
        wait_until(lambda: not server.is_running, "the end")


def test_a_freeze_of_all_processes_ends_no_worker(tmp_path: Path) -> None:
    limit = {"GUNICORN_CMD_ARGS": "--timeout 2", "BRIDGE_STOP_TIMEOUT": "1s"}
    with stand_in() as theeye, server_of(tmp_path, theeye.url, **limit) as server:
        workers = server.workers
        theeye.fault(Fault(hang=60.0, times=1))
        assert push(server, "abc") == 202
        theeye.wait_for_requests(1)

        for _ in range(2):
            os.killpg(server.pid, signal.SIGSTOP)
            time.sleep(6)
            # The master first: otherwise the worker may report to it before it looks.
            os.kill(server.pid, signal.SIGCONT)
            time.sleep(1)
            os.killpg(server.pid, signal.SIGCONT)
        time.sleep(2)
        theeye.clear()

        wait_until(lambda: states(server) == [JobState.ACCEPTED])
        assert server.workers == workers
