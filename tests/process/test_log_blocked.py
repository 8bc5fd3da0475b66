"""Standard error is a pipe that nobody reads: intake, delivery and the end of the process go on."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.process.log import log_trouble
from bridge.process.log_queue import QueuedHandler
from tests.support import pushes
from tests.support.pushes import VARIABLES, stand_in, write_table
from tests.support.server import PATIENCE, Server, SetServer, Worker

#: Bytes that the pipe takes: less than any start logs.
PIPE = 4096
#: The process has ended by itself, and its master did not kill it after BRIDGE_STOP_TIMEOUT (20 s).
ENDS_WITHIN = 15.0


class UnreadLog:
    """The log of a program is a pipe that somebody has opened and does not read."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(self._reader, fcntl.F_SETPIPE_SZ, PIPE)

    def read(self) -> str:
        """What is in the pipe."""
        return os.read(self._reader, 1024**2).decode()

    def close(self) -> None:
        os.close(self._reader)


#: Fewer lines than the pushes of a test cause.
SHORT_QUEUE = """
import logging

logging.getLogger().handlers[0]._limit = 50
"""


class BlockedServer(SetServer):
    """A server with an UnreadLog."""

    log = ""


class BlockedWorker(Worker):
    """A worker with an UnreadLog."""

    log = ""

    def _works(self) -> bool:
        return True


def test_a_server_whose_log_is_not_read_receives_delivers_and_ends(tmp_path: Path) -> None:
    with stand_in() as theeye:
        config = write_table(tmp_path, theeye.url)
        server = BlockedServer(SHORT_QUEUE, config, tmp_path / "bridge.db", VARIABLES)
        unread = UnreadLog(server._log)
        with server:
            client = pushes.Client(server.port)
            assert {client.push(f"commit-{number}").status for number in range(60)} == {202}
            client.close()
            assert len(theeye.wait_for(60)) == 60
            status, answer = server.get("/readyz")
            assert status == 200
            assert "log lines are dropped" in " ".join(answer["trouble"])

            begun = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - begun < ENDS_WITHIN
        assert unread.read()
        unread.close()


def test_a_worker_whose_log_is_not_read_delivers_and_ends(tmp_path: Path) -> None:
    with stand_in() as theeye:
        config = write_table(tmp_path, theeye.url)
        database = tmp_path / "bridge.db"
        with Server(config, database, {**VARIABLES, "BRIDGE_DELIVER": "false"}) as server:
            worker = BlockedWorker(config, database, {**VARIABLES, "LOG_LEVEL": "DEBUG"})
            unread = UnreadLog(worker._log)
            with worker:
                for number in range(30):
                    assert pushes.push(server.port, f"commit-{number}").status == 202
                assert len(theeye.wait_for(30)) == 30
                begun = time.monotonic()
                assert worker.stop() == 0
                assert time.monotonic() - begun < ENDS_WITHIN
            unread.close()


class Pipe:
    """A logger that writes to a pipe, through a queue of ten lines."""

    def __init__(self) -> None:
        self._reads, self._writes = os.pipe()
        fcntl.fcntl(self._writes, fcntl.F_SETPIPE_SZ, PIPE)
        self.handler = QueuedHandler(self._writes, limit=10)
        self.logger = logging.Logger("test", logging.INFO)
        self.logger.addHandler(self.handler)

    def fill(self) -> int:
        """Log lines until they are dropped; how many there were."""
        count = 0
        while not self.handler.is_dropping:
            self.logger.info("%s %d", "x" * 1000, count)
            count += 1
            time.sleep(0.001)
        return count

    def read(self, until: str) -> list[str]:
        """The lines up to one that ends with `until`."""
        text = b""
        while not text.endswith(f"{until}\n".encode()):
            assert select.select([self._reads], [], [], PATIENCE)[0], f"nothing more after {text[-50:]!r}"
            text += os.read(self._reads, 1024**2)
        return text.decode().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.logger.removeHandler(pipe.handler)
    os.close(pipe._reads)  # what still waits cannot be written any more


def test_lines_that_were_dropped_are_counted_where_they_are_missing(pipe: Pipe) -> None:
    count = pipe.fill()
    for number in range(7):
        pipe.logger.info("dropped %d", number)
    lines = pipe.read(f" {count - 1}")
    assert [line.split()[-1] for line in lines] == [str(number) for number in range(count)]
    pipe.logger.info("after")
    assert pipe.read("after") == ["dropped 7 log lines while standard error was blocked", "after"]
    pipe.logger.info("last")
    assert pipe.read("last") == ["last"]


def test_a_pipe_that_another_process_made_non_blocking_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe._writes, False)
    count = pipe.fill()
    pipe.logger.info("dropped")
    lines = pipe.read(f" {count - 1}")
    assert lines == [f"{'x' * 1000} {number}" for number in range(count)]
    pipe.logger.info("%s after", "y" * 3 * PIPE)  # written in parts
    assert pipe.read("after") == [
        "dropped 1 log lines while standard error was blocked",
        f"{'y' * 3 * PIPE} after",
    ]


def test_the_thread_that_writes_receives_no_signal(pipe: Pipe) -> None:
    """Else a main thread that waits would not wake for it."""
    pipe.logger.info("begun")
    pipe.handler.flush()
    thread = pipe.handler._thread
    assert thread is not None
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    (blocked,) = re.findall(r"^SigBlk:\s*(\w+)$", status, re.MULTILINE)
    for number in signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1:
        assert int(blocked, 16) & 1 << number - 1


def test_an_end_does_not_wait_for_a_blocked_log(pipe: Pipe) -> None:
    pipe.fill()
    ended = time.monotonic()
    pipe.handler.flush()
    assert time.monotonic() - ended < PATIENCE
    pipe.handler.close()


def test_an_end_waits_for_lines_that_are_written(pipe: Pipe) -> None:
    pipe.logger.info("an error before the end")
    pipe.handler.flush()
    os.set_blocking(pipe._reads, False)
    assert os.read(pipe._reads, 1024) == b"an error before the end\n"


def test_a_forked_child_writes_its_own_lines_alone(pipe: Pipe) -> None:
    count = pipe.fill()
    if (pid := os.fork()) == 0:
        try:
            pipe.logger.info("child")
            os._exit(pipe.handler._items.qsize())
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) <= 1
    lines = pipe.read(f" {count - 1}")
    assert [line.split()[-1] for line in lines if line != "child"] == [str(each) for each in range(count)]


def test_without_a_queue_the_log_has_no_trouble() -> None:
    assert log_trouble() is None


def test_lines_are_written_together_where_other_processes_cannot_interrupt() -> None:
    """A pipe of packets returns each write by itself; only one of PIPE_BUF bytes at most is never split."""
    reading, writing = os.pipe2(os.O_DIRECT)
    handler = QueuedHandler(writing)
    lines = [f"{number} {'x' * 300}" for number in range(100)]
    for line in lines:
        handler.emit(logging.makeLogRecord({"msg": line}))
    handler.flush()
    os.close(writing)
    packets = list(iter(lambda: os.read(reading, 1024**2), b""))
    os.close(reading)
    assert b"".join(packets).decode().splitlines() == lines
    assert all(packet.endswith(b"\n") and len(packet) <= select.PIPE_BUF for packet in packets)
    assert len(packets) < len(lines)
