"""Limits of open files: the server raises its own, and outlives one that it reaches."""

from __future__ import annotations

import os
import resource
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.pushes import VARIABLES, push, write_table
from tests.support.server import PATIENCE, Server
from tests.support.tables import wait_until

#: A shell's limit, lower than what connections need.
SOFT = 200


class LimitedServer(Server):
    """It starts with a soft limit of SOFT open files."""

    def _command(self) -> list[str]:
        return ["sh", "-c", f'ulimit -Sn {SOFT}; exec "$@"', "sh", *super()._command()]


@pytest.fixture
def server(tmp_path: Path) -> LimitedServer:
    config = write_table(tmp_path, "http://127.0.0.1:1")
    return LimitedServer(config, tmp_path / "bridge.db", {**VARIABLES, "BRIDGE_DELIVER": "false"})


def connect(opened: ExitStack, server: Server, count: int) -> list[socket.socket]:
    """Idle connections."""
    address, sockets = ("127.0.0.1", server.port), []
    for number in range(count):
        sockets.append(opened.enter_context(socket.create_connection(address, PATIENCE)))
        if number % 50 == 0:  # the system queues only so many that the server has not accepted
            assert server.get("/healthz")[0] == 200
    return sockets


def is_open(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return bool(sock.recv(1))
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def test_more_connections_than_the_soft_limit_are_served(server: LimitedServer) -> None:
    with server, ExitStack() as opened:
        idle = connect(opened, server, SOFT + 100)
        assert push(server.port, "one").status == 202
        assert all(is_open(sock) for sock in idle)


def cpu_ticks(pid: int) -> int:
    """CPU time that a process has used, in ticks of the system."""
    # utime and stime: fields 14 and 15 of proc_pid_stat(5). The program's name may contain spaces.
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


@pytest.mark.parametrize("idle", [0, 50])
def test_a_worker_outlives_the_limit(server: LimitedServer, idle: int) -> None:
    """With idle connections to close, and with none."""
    with server, ExitStack() as opened:
        (worker,) = server.workers
        assert push(server.port, "one").status == 202
        connect(opened, server, idle)
        assert push(server.port, "two").status == 202
        used = len([*Path(f"/proc/{worker}/fd").iterdir()])
        soft, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        # Without idle connections, below every descriptor that may become free: nothing is accepted.
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (used - idle if idle else 3, hard))
        address = ("127.0.0.1", server.port)
        sockets = [opened.enter_context(socket.create_connection(address, PATIENCE)) for _ in range(100)]
        wait_until(
            lambda: (
                "no new connections until a file descriptor is free" in server.log
                or not all(map(is_open, sockets))
            )
        )
        ticks = cpu_ticks(worker)
        time.sleep(1)
        assert cpu_ticks(worker) - ticks < os.sysconf("SC_CLK_TCK") / 4  # the worker does not spin
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (soft, hard))
        assert push(server.port, "three").status == 202
        assert server.workers == [worker]
        assert server.log.count("no new connections until a file descriptor is free") <= 1
