"""Threads that wait for clients, on real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from bridge.process.watchdog import Watchdog
from bridge.server.client_socket import ClientSocket, ClientWait, SlowClientLimiter
from tests.support.tables import wait_until

#: More bytes than the sockets of a pair take on.
ANSWER = b"x" * 16 * 1024**2
#: Seconds after which something that should have happened counts as not happening.
PATIENCE = 10.0


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    watchdog = Watchdog()
    yield watchdog
    watchdog.close()


class Client:
    """Both ends of a connection whose request a thread handles."""

    def __init__(self, network: str, since: float, waits: SlowClientLimiter, watchdog: Watchdog) -> None:
        served, self.its = socket.socketpair()
        self.its.settimeout(PATIENCE)
        self.sock = ClientSocket(served.family, served.type, served.proto, fileno=served.detach())
        self.sock.limiter, self.sock.watchdog = waits, watchdog
        guard = watchdog.watch(self.sock, time.monotonic() + 3600, socket.SHUT_RD)
        self.sock.reading = ClientWait(network, since, guard)
        self.result: object = None

    def receives(self) -> None:
        self.result = self.sock.recv(10)

    def answers(self) -> None:
        try:
            self.sock.sendall(ANSWER)
            self.result = len(ANSWER)
        except OSError as error:
            self.result = error

    def close(self) -> None:
        self.sock.close()
        self.its.close()


def in_thread(work: object) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def ended(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def count(waits: SlowClientLimiter) -> int:
    return len(waits._waits)


def test_one_wait_too_many_ends_the_oldest_of_the_network_with_the_most(watchdog: Watchdog) -> None:
    waits = SlowClientLimiter(2)
    other, old, new = (Client(*each, waits, watchdog) for each in [("b", 1), ("a", 2), ("a", 3)])
    first, second = in_thread(other.receives), in_thread(old.receives)
    wait_until(lambda: count(waits) == 2, "both to wait")
    third = in_thread(new.receives)
    ended(second)
    assert old.result == b""
    assert old.sock.reading.guard.early
    for client in (other, new):
        client.its.sendall(b"x")
    ended(first, third)
    assert [other.result, new.result] == [b"x", b"x"]
    assert count(waits) == 0
    for client in (other, old, new):
        client.close()


def test_what_is_there_is_received_without_a_wait(watchdog: Watchdog) -> None:
    client = Client("a", 1, SlowClientLimiter(0), watchdog)
    client.its.sendall(b"x")
    client.receives()
    assert client.result == b"x"
    assert not client.sock.reading.guard.fired
    client.sock.sendall(b"an answer")
    assert client.its.recv(100) == b"an answer"
    client.close()


def test_a_wait_within_a_time_is_one_too(watchdog: Watchdog) -> None:
    """So gunicorn reads the rest of a body that nobody read."""
    waits = SlowClientLimiter(0)
    client = Client("a", 1, waits, watchdog)
    client.sock.settimeout(PATIENCE)
    client.receives()
    assert client.result == b""
    assert client.sock.reading.guard.early
    client.close()


def test_who_does_not_read_the_answer_gives_way(watchdog: Watchdog) -> None:
    waits = SlowClientLimiter(1)
    old, new = (Client(*each, waits, watchdog) for each in [("a", 1), ("a", 2)])
    first = in_thread(old.answers)
    wait_until(lambda: count(waits) == 1, "it to wait")
    second = in_thread(new.answers)
    ended(first)
    assert isinstance(old.result, BrokenPipeError)
    received = 0
    while received < len(ANSWER):
        received += len(new.its.recv(1024**2))
    ended(second)
    assert new.result == len(ANSWER)
    for client in (old, new):
        client.close()


def test_what_comes_after_the_time_is_up_is_not_read(watchdog: Watchdog) -> None:
    """What the system holds of it would let a client go on for as long as it sends."""
    client = Client("a", 1.0, SlowClientLimiter(1), watchdog)
    client.its.sendall(b"late")
    client.sock.settimeout(None)
    client.sock.reading.guard.fire()
    assert client.sock.recv(10) == b""
    client.close()
