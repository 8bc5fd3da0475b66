"""Slow senders and large bodies: what they may take from the others."""

from __future__ import annotations

import http.client
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bridge.outbox.store import Outbox
from bridge.web.request_deadline import REQUEST_TIMEOUT_SECONDS
from tests.support.server import Server

MIB = 1024**2
TOKEN = "arrival-test-token"
TABLE = """
theeye: {url: "http://127.0.0.1:1", customer: acme}
sources:
  generic: {bearer_token: "${{ env.TOKEN }}", dedupe: off}
"""
HEAD = "\r\n".join(
    [
        "POST /hooks/generic HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {TOKEN}",
        "Content-Type: application/json",
        "",
    ]
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("arrival")
    config = folder / "table.yml"
    config.write_text(TABLE)
    with Server(config, folder / "bridge.db", {"TOKEN": TOKEN}) as running:
        yield running


def post(server: Server, body: bytes) -> int:
    """The status; 0 where the connection was closed while the body was still being sent."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    try:
        connection.request("POST", "/hooks/generic", body, headers)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def rows(server: Server) -> int:
    outbox = Outbox(f"sqlite:///{server.database}", beside_a_server=True)
    count = len(outbox.events(limit=1000))
    outbox.close()
    return count


def drip(server: Server, head: bytes, count: int) -> list[socket.socket]:
    sockets = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]
    for sock in sockets:
        sock.sendall(head)
    return sockets


def test_who_sends_a_byte_a_second_is_ended_and_the_others_are_served(server: Server) -> None:
    before = rows(server)
    sockets = drip(server, HEAD.encode(), 20)  # the headers never end
    sockets += drip(server, f"{HEAD}Content-Length: 1000\r\n\r\n".encode(), 20)
    answers: dict[socket.socket, bytes] = {}
    begun = time.monotonic()
    served = 0
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
        while len(answers) < len(sockets):
            assert time.monotonic() < begun + REQUEST_TIMEOUT_SECONDS + 20
            for key, _ in selector.select(timeout=1.0):
                ended = key.fileobj
                assert isinstance(ended, socket.socket)
                try:
                    answers[ended] = ended.recv(4096)
                except ConnectionResetError:
                    answers[ended] = b""
                selector.unregister(ended)
            for sock in sockets:
                if sock not in answers:
                    with suppress(OSError):  # it is seen as ended above
                        sock.sendall(b"a")
            served += post(server, b"{}") == 200
    for sock in sockets:
        sock.close()
    assert time.monotonic() - begun >= REQUEST_TIMEOUT_SECONDS - 1
    assert served >= 10
    assert all(answers[sock] == b"" for sock in sockets[:20])
    # A byte that comes after the answer resets the connection, and may take the answer with it.
    late = [answers[sock] for sock in sockets[20:] if answers[sock]]
    assert late
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in late), late
    assert all(b"application/problem+json" in answer for answer in late)
    assert rows(server) == before + served
    assert "Traceback" not in server.log


def peak_memory(server: Server) -> int:
    """The most that a worker has held at once, bytes."""
    (worker,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    status = Path(f"/proc/{worker}/status").read_text()
    (peak,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(peak) * 1024


def test_sixteen_bodies_of_25_mib_at_once_leave_memory_within_bounds(server: Server) -> None:
    body = b'{"a": "' + b"x" * (25 * MIB - 100) + b'"}'
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(post(server, body))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 16
    assert set(statuses) <= {0, 200, 503}
    assert statuses.count(200) >= 2
    assert peak_memory(server) < 600 * MIB
    assert post(server, b"{}") == 200
