"""What a sender wants to have fetched: within limits, one at a time, from whom the certificate says."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from bridge.app import table_watcher
from bridge.core.errors import NotSent, SendError
from bridge.http.fetch import MAX_FETCHED_BYTES, Fetcher
from bridge.process.settings import Settings
from tests.process.test_http import Behaviour, Server, answers, drips, read_request, says_nothing
from tests.support.certificates import certificate

#: Seconds: a time-out that is meant to be reached, and one that is not.
SHORT = 0.3
LONG = 20.0

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"


def reply(body: bytes, head: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n" % (head, len(body)) + body


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for this machine, which vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
    host = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        certificate(name, name, key, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )
    file = tmp_path_factory.mktemp("fetch") / "server.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + made)
    (file.parent / "bundle.pem").write_bytes(made)
    return file


#: Starts a server with TLS.
Serve = Callable[[Behaviour], Server]
#: Makes a Fetcher with a time-out; its server's certificate is trusted.
MakeFetcher = Callable[[float], Fetcher]


@pytest.fixture
def serve(file: Path) -> Iterator[Serve]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    servers: list[Server] = []

    def start(behave: Behaviour) -> Server:
        servers.append(Server(behave, context))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def make_fetcher(file: Path) -> Iterator[MakeFetcher]:
    fetchers: list[Fetcher] = []

    def make(timeout: float) -> Fetcher:
        fetchers.append(Fetcher(str(file.parent / "bundle.pem"), timeout))
        return fetchers[-1]

    yield make
    for fetcher in fetchers:
        fetcher.close()


def test_the_body_of_a_200(serve: Serve, make_fetcher: MakeFetcher) -> None:
    requests: list[bytes] = []
    server = serve(answers(OK, requests=requests))
    fetcher = make_fetcher(LONG)
    assert [fetcher(server.url), fetcher(server.url)] == [b"body", b"body"]
    assert {request.partition(b" ")[0] for request in requests} == {b"GET"}
    assert b"cookie" not in requests[1].lower()


@pytest.mark.parametrize("status", [201, 204, 206, 301, 302, 307, 400, 403, 404, 429, 500, 503])
def test_any_other_status_is_no_body(serve: Serve, make_fetcher: MakeFetcher, status: int) -> None:
    moved = f"HTTP/1.1 {status} X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".encode()
    requests: list[bytes] = []
    server = serve(answers(moved, OK, requests=requests))
    with pytest.raises(SendError, match=f"the answer is {status}, expected 200"):
        make_fetcher(LONG)(server.url)
    assert len(requests) == 1, "a redirect is not followed, nothing is asked twice"


def test_up_to_the_largest_body(serve: Serve, make_fetcher: MakeFetcher) -> None:
    server = serve(answers(reply(b"x" * MAX_FETCHED_BYTES), reply(b"x" * (MAX_FETCHED_BYTES + 1))))
    fetcher = make_fetcher(LONG)
    assert len(fetcher(server.url)) == MAX_FETCHED_BYTES == 65536
    with pytest.raises(SendError, match="the answer is larger than 65,536 bytes"):
        fetcher(server.url)


def test_a_compressed_body_is_left_as_it_is(serve: Serve, make_fetcher: MakeFetcher) -> None:
    """What is small here could be large in memory."""
    server = serve(answers(reply(b"raw", b"Content-Encoding: gzip\r\n")))
    assert make_fetcher(LONG)(server.url) == b"raw"


@pytest.mark.parametrize("behave", [says_nothing, drips(b"HTTP/1.1 200 OK\r\nX: ", b"a")])
def test_a_slow_answer_is_cut_off(serve: Serve, make_fetcher: MakeFetcher, behave: Behaviour) -> None:
    with pytest.raises(SendError, match=f"within {SHORT:g} s"):
        make_fetcher(SHORT)(serve(behave).url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{port}/", "HTTPS://127.0.0.1:{port}/", "file:///etc/passwd", ""]
)
def test_only_https_is_fetched(serve: Serve, make_fetcher: MakeFetcher, url: str) -> None:
    server = serve(answers(OK))
    with pytest.raises(NotSent, match="only https"):
        make_fetcher(LONG)(url.format(port=server.port))
    assert server.connections == 0


def test_a_certificate_that_nobody_vouches_for(serve: Serve) -> None:
    server = serve(answers(OK))
    fetcher = Fetcher(timeout=LONG)
    with pytest.raises(NotSent, match="TLS"):
        fetcher(server.url)
    fetcher.close()


def test_one_at_a_time_and_none_waits_for_ever(serve: Serve, make_fetcher: MakeFetcher) -> None:
    asked, go = threading.Event(), threading.Event()

    def behave(sock: socket.socket) -> None:
        read_request(sock)
        asked.set()
        assert go.wait(LONG)
        sock.sendall(OK)

    server = serve(behave)
    fetcher = make_fetcher(LONG)
    bodies: list[bytes] = []
    threads = [threading.Thread(target=lambda: bodies.append(fetcher(server.url))) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert asked.wait(LONG)
    assert server.connections == 1
    go.set()
    for thread in threads:
        thread.join(LONG)
    assert bodies == [b"body"] * 3


def test_the_tables_of_a_server_can_fetch(tmp_path: Path) -> None:
    """The last good one too, which the master reads and hands to its workers."""
    config = tmp_path / "table.yml"
    config.write_text("theeye: {customer: acme}\nsources: {sns: {allow_unsigned: true}}\n", "utf-8")
    table = table_watcher(Settings.from_environ({"BRIDGE_CONFIG": str(config)})).load().table
    assert isinstance(table.sources["sns"].type.fetch, Fetcher)


def test_a_turn_that_does_not_come(serve: Serve, make_fetcher: MakeFetcher) -> None:
    fetcher = make_fetcher(SHORT)
    held = fetcher._lock
    with held, pytest.raises(NotSent, match="other downloads took"):
        fetcher(serve(answers(OK)).url)
    assert fetcher(serve(answers(OK)).url) == b"body"
