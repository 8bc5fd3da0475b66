"""Clients that hold up a running server: what those of one network may take from another's."""

from __future__ import annotations

import http.client
import resource
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from gunicorn.config import Config

from bridge.server import gunicorn_config as settings
from bridge.server.connection import MAX_DISCARDED_BYTES, MAX_HEAD_BYTES
from bridge.server.connection_worker import (
    MAX_CONNECTIONS,
    MAX_WAITING_THREADS,
    THREADS,
    connection_limit,
)
from bridge.server.unsafe_settings import unsafe_settings
from bridge.server.web_worker import WebWorker
from tests.support.server import Server
from tests.support.tables import wait_until

MIB = 1024**2
TOKEN = "exhaustion-test-token"
TABLE = """
theeye: {url: "http://127.0.0.1:1", customer: acme}
sources:
  generic: {bearer_token: "${{ env.TOKEN }}", dedupe: off}
  gitea: {secret: "${{ env.TOKEN }}"}
"""
AUTHENTIC = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
ATTACKER, OTHER = "127.0.0.1", "127.0.0.2"
#: Seconds after which an answer counts as none.
PATIENCE = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("exhaustion")
    config = folder / "table.yml"
    config.write_text(TABLE)
    with Server(config, folder / "bridge.db", {"TOKEN": TOKEN, "BRIDGE_DELIVER": "false"}) as running:
        yield running


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def head(path: str = "/hooks/generic", method: str = "POST", **fields: object) -> bytes:
    lines = {"Host": "x", **AUTHENTIC, **{name.replace("_", "-"): text for name, text in fields.items()}}
    first = f"{method} {path} HTTP/1.1\r\n"
    return b"".join([first.encode(), *(f"{n}: {t}\r\n".encode() for n, t in lines.items()), b"\r\n"])


def connect(opened: ExitStack, server: Server, count: int, begin: bytes = b"") -> list[socket.socket]:
    """So many connections of the attacker's, that each send `begin`."""
    made = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", server.port), PATIENCE, source_address=(ATTACKER, 0))
        made.append(opened.enter_context(sock))
        sock.sendall(begin)
    return made


def ask(server: Server, method: str, path: str, body: bytes | None = None, source: str = OTHER) -> int:
    """The status that a client at another address is answered."""
    fields = {} if body is None else {"Content_Length": len(body)}
    request = head(path, method=method, **fields) + (body or b"")
    address = ("127.0.0.1", server.port)
    with socket.create_connection(address, PATIENCE, source_address=(source, 0)) as sock:
        # In one piece: a body that came later would be waited for.
        sock.sendall(request)
        response = http.client.HTTPResponse(sock)
        response.begin()
        return response.status


def answered(sockets: list[socket.socket], at_least: int = 0) -> list[bytes]:
    """What those were sent that are no longer waited for; empty for one that was closed.

    Waits until there are `at_least` so many.
    """
    got: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
        while ready := selector.select(PATIENCE if len(got) < at_least else 0.2):
            for key, _ in ready:
                selector.unregister(key.fileobj)
                try:
                    got.append(key.fileobj.recv(4096))  # type: ignore[union-attr]
                except ConnectionResetError:
                    got.append(b"")
    return got


def ended(sockets: list[socket.socket]) -> list[socket.socket]:
    """Those that the server has closed; what it sent before is discarded."""
    done = []
    for sock in sockets:
        sock.setblocking(False)
        with suppress(BlockingIOError):
            while sock.recv(4096):
                pass
            done.append(sock)
        sock.settimeout(PATIENCE)
    return done


def assert_answered(sock: socket.socket) -> None:
    """The whole of an answer comes, a 200 with JSON."""
    answer = b""
    while not answer.endswith(b"}"):
        answer += sock.recv(4096)
        assert answer
    assert answer.startswith(b"HTTP/1.1 200 ")


def threads_of(server: Server) -> int:
    (worker,) = server.workers
    return len(list(Path(f"/proc/{worker}/task").iterdir()))


def nothing(_: socket.socket) -> None:
    """Stay silent."""


def a_byte(sock: socket.socket) -> None:
    sock.sendall(b"P")


class TestHeads:
    """While a head is waited for, no thread is."""

    @pytest.mark.parametrize(
        ("begin", "then"),
        [(b"", nothing), (b"", a_byte), (head()[:40], nothing), (head()[:-2], nothing)],
        ids=["silent", "a byte", "half a head", "all but the last line's end"],
    )
    def test_seventy_connections_of_one_address(
        self, server: Server, opened: ExitStack, begin: bytes, then: Callable[[socket.socket], None]
    ) -> None:
        assert ask(server, "GET", "/healthz") == 200
        before = threads_of(server)
        sockets = connect(opened, server, 70, begin)
        for sock in sockets:
            then(sock)
        assert [ask(server, "GET", "/healthz"), ask(server, "POST", "/hooks/generic", b"{}")] == [200, 200]
        assert answered(sockets) == []
        # The pool starts a thread whenever none is idle.
        assert threads_of(server) <= before + 2

    def test_more_silent_ones_of_one_address_than_the_server_accepts(
        self, server: Server, opened: ExitStack
    ) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        sockets = connect(opened, server, MAX_CONNECTIONS + 100)
        assert ask(server, "GET", "/healthz") == 200
        given_way = len(sockets) - (MAX_CONNECTIONS - 2)
        assert answered(sockets, given_way) == [b""] * given_way

    def test_those_of_a_next_request(self, server: Server, opened: ExitStack) -> None:
        request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        idle = connect(opened, server, 50, request)
        for sock in idle:
            assert_answered(sock)
        before = threads_of(server)
        for sock in idle:
            sock.sendall(request[:-1])
        assert ask(server, "GET", "/healthz") == 200
        assert answered(idle) == []
        assert threads_of(server) <= before + 2
        for sock in idle:
            sock.sendall(b"\n")
            assert_answered(sock)

    def test_a_head_that_does_not_end_is_refused(self, server: Server, opened: ExitStack) -> None:
        long_line, long_head = connect(opened, server, 2)
        long_line.sendall(b"GET /" + b"a" * MAX_HEAD_BYTES)
        assert long_line.recv(4096).startswith(b"HTTP/1.1 414 ")
        long_head.sendall(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (MAX_HEAD_BYTES // 6))
        assert long_head.recv(4096).startswith(b"HTTP/1.1 431 ")

    def test_a_head_that_ends_beyond_the_limit_is_refused(self, server: Server, opened: ExitStack) -> None:
        fields = {f"X-{number}": "x" * (MAX_HEAD_BYTES // 5) for number in range(5)}
        (sock,) = connect(opened, server, 1, head("/healthz", method="GET", **fields))
        assert sock.recv(4096).startswith(b"HTTP/1.1 431 ")

    def test_one_that_comes_in_pieces_is_read(self, server: Server, opened: ExitStack) -> None:
        (sock,) = connect(opened, server, 1)
        for byte in head(Content_Length=2):
            sock.sendall(bytes([byte]))
        sock.sendall(b"{")
        sock.sendall(b"}")
        assert_answered(sock)
        # The next head begins in the same piece as the body before it.
        sock.sendall(head(Content_Length=2) + b"{}" + head(Content_Length=2)[:-1])
        assert_answered(sock)
        sock.sendall(b"\n{}")
        assert_answered(sock)

    def test_a_bare_line_feed_is_refused_at_once(self, server: Server, opened: ExitStack) -> None:
        (sock,) = connect(opened, server, 1, b"GET / HTTP/1.1\r")
        sock.sendall(b"\nHost: x\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 400 ")


class TestBodies:
    """A thread waits for a body; not all of them do."""

    @pytest.mark.parametrize("begin", [head(Content_Length=100), head(Transfer_Encoding="chunked")])
    def test_seventy_withheld_by_one_address(self, server: Server, opened: ExitStack, begin: bytes) -> None:
        sockets = connect(opened, server, 70, begin)
        assert ask(server, "POST", "/hooks/generic", b"{}") == 200
        given_way = answered(sockets, 70 - MAX_WAITING_THREADS)
        assert len(given_way) == 70 - MAX_WAITING_THREADS
        assert all(each.startswith(b"HTTP/1.1 408 ") for each in given_way)

    def test_seventy_withheld_after_the_answer(self, server: Server, opened: ExitStack) -> None:
        """A refused request's body is read too, so that its connection can be used again."""
        sockets = connect(opened, server, 70, head("/hooks/nowhere", Content_Length=100))
        assert ask(server, "GET", "/healthz") == 200
        wait_until(lambda: len(ended(sockets)) >= 70 - MAX_WAITING_THREADS, "the oldest to give way")
        assert len(ended(sockets)) == 70 - MAX_WAITING_THREADS

    def test_those_of_another_address_are_waited_for(self, server: Server, opened: ExitStack) -> None:
        begin = head(Content_Length=2)
        slow = socket.create_connection(("127.0.0.1", server.port), PATIENCE, source_address=(OTHER, 0))
        opened.enter_context(slow)
        slow.sendall(begin)
        sockets = connect(opened, server, 2 * THREADS, begin)
        answered(sockets, THREADS)
        slow.sendall(b"{}")
        assert slow.recv(4096).startswith(b"HTTP/1.1 200 ")

    def test_seventy_that_do_not_close_after_the_answer(self, server: Server, opened: ExitStack) -> None:
        request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        sockets = connect(opened, server, 70, request)
        assert ask(server, "GET", "/healthz") == 200
        # The server has closed its side of each, and waits for none of them.
        wait_until(lambda: len(ended(sockets)) == 70, "the end of all")


class TestIdleConnections:
    """A proxy sends the next webhook on a connection that was idle; idle ones give way to new ones."""

    REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

    def test_it_is_open_longer_than_a_proxy_uses_it(self, server: Server, opened: ExitStack) -> None:
        assert settings.keepalive > 90
        (sock,) = connect(opened, server, 1, self.REQUEST)
        assert_answered(sock)
        time.sleep(3)  # gunicorn's own setting is 2
        sock.sendall(self.REQUEST)
        assert_answered(sock)

    def test_the_oldest_gives_way(self, tmp_path: Path, opened: ExitStack) -> None:
        (tmp_path / "table.yml").write_text(TABLE)
        environ = {"TOKEN": TOKEN, "GUNICORN_CMD_ARGS": "--worker-connections 65"}
        with Server(tmp_path / "table.yml", tmp_path / "bridge.db", environ) as server:
            sockets = connect(opened, server, 80, self.REQUEST)
            for sock in sockets[-60:]:
                assert_answered(sock)
            assert ask(server, "GET", "/healthz") == 200
            assert len(ended(sockets)) in range(16, 21)
            assert not ended(sockets[-60:])


def test_a_refused_body_without_end_is_cut_off(server: Server, opened: ExitStack) -> None:
    (sock,) = connect(opened, server, 1, head("/hooks/nowhere", Content_Length=1024 * MIB))
    assert sock.recv(4096).startswith(b"HTTP/1.1 404 ")
    sent = 0
    with suppress(ConnectionError):
        while sent < 1024 * MIB:
            sent += sock.send(b"x" * MIB)
    # The buffers of both sockets hold some, too.
    assert sent < MAX_DISCARDED_BYTES + 16 * MIB


def large(size: int) -> bytes:
    return b'{"a": "' + b"x" * (size - 9) + b'"}'


class TestLargeBodies:
    """Their room is taken by bytes that have come, and by senders that send."""

    def test_what_is_announced_takes_nothing(self, server: Server, opened: ExitStack) -> None:
        connect(opened, server, 3, head(Content_Length=25 * MIB))
        connect(opened, server, 3, head(Transfer_Encoding="chunked") + b"10\r\n" + b"x" * 16)
        pushes = [ask(server, "POST", "/hooks/generic", large(20 * MIB)) for _ in range(3)]
        assert pushes == [200] * 3
        assert ask(server, "POST", "/hooks/generic", large(20 * MIB), source=ATTACKER) == 200

    @pytest.mark.parametrize("sent", [2 * MIB, 24 * MIB])
    @pytest.mark.parametrize("source", [OTHER, ATTACKER])
    def test_those_that_stall_give_way(
        self, server: Server, opened: ExitStack, sent: int, source: str
    ) -> None:
        """Also those of the same address: behind a proxy, everybody has it."""
        begin = head("/hooks/gitea", Content_Length=25 * MIB, X_Gitea_Signature="0" * 64)
        stalled = connect(opened, server, 2, begin + b"x" * sent)
        assert ask(server, "POST", "/hooks/generic", large(24 * MIB), source=source) == 200
        assert [each[:13] for each in answered(stalled, 1)] == [b"HTTP/1.1 408 "]


@pytest.mark.parametrize(
    ("name", "value"), [("certfile", "x"), ("keyfile", "x"), ("http_protocols", "h1,h2")]
)
def test_tls_and_http2_are_refused_at_the_start(name: str, value: str) -> None:
    config = Config()
    config.set("worker_class", WebWorker)
    config.set("threads", 64)
    config.set(name, value)
    (line,) = unsafe_settings(config, 20.0)
    assert line.startswith(f"gunicorn's {name} is ")
    assert line.endswith("put a TLS proxy in front of it")


@pytest.mark.parametrize(
    ("files", "connections"),
    [(1024, 896), (256, 128), (10**6, MAX_CONNECTIONS), (resource.RLIM_INFINITY, 1000)],
)
def test_connections_leave_files_for_the_rest(
    monkeypatch: pytest.MonkeyPatch, files: int, connections: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert connection_limit() == connections
