"""The outgoing HTTP client, against servers made of raw sockets."""

from __future__ import annotations

import errno
import gc
import itertools
import logging
import re
import socket
import ssl
import struct
import threading
import time
import traceback
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from bridge import __version__
from bridge.core.errors import AnswerLost, NotSent, SendError
from bridge.http.client import HttpAnswer, HttpClient
from bridge.http.encoding import decode
from bridge.process.watchdog import Guard, Watchdog
from tests.support.certificates import Certificates, make_certificates

KEY = "5ecretkey0123456789"
PATH = f"/job/secret/{KEY}?customer=acme"
HEADERS = {"Accept": "application/json", "Content-Type": "application/json"}
BODY = b'{"task":"5f3c9a7be4b0a1c2d3e4f501","task_arguments":[]}'

#: Seconds: the time limit where it is meant to be reached, and where it is not.
SHORT = 0.2
LONG = 20.0

#: Seconds that an attempt with the SHORT limit may take; what drips here drips for twice as long.
PATIENCE = 5.0

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

#: What a server does with one connection.
Behaviour = Callable[[socket.socket], None]


class Server:
    """A server on this machine that does the same with every connection, each in its own thread."""

    def __init__(self, behave: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self._behave = behave
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        #: How many connections were made.
        self.connections = 0
        self.address: tuple[str, int] = self._listener.getsockname()
        self.port = self.address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}{PATH}"
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(sock)
            self._threads.append(threading.Thread(target=self._serve, args=[sock]))
            self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError):
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
            with sock:
                self._behave(sock)

    def stop_listening(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def stop(self) -> None:
        self.stop_listening()
        for sock in self._sockets:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(LONG)
            assert not thread.is_alive()
        for sock in self._sockets:
            sock.close()


#: Starts a server with the arguments of Server; makes a client with those of HttpClient.
Serve = Callable[..., Server]
Connect = Callable[..., HttpClient]


def read_request(sock: socket.socket) -> bytes:
    """One whole request; empty where the connection ended before one began."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    while length and len(body) < int(length[1]):
        body += sock.recv(65536)
    return head + b"\r\n\r\n" + body


def answers(*replies: bytes, requests: list[bytes] | None = None) -> Behaviour:
    """Answers each request of a connection with the next of `replies`, the last one over and over."""

    def behave(sock: socket.socket) -> None:
        for reply in itertools.chain(replies, itertools.repeat(replies[-1])):
            request = read_request(sock)
            if not request:
                return
            if requests is not None:
                requests.append(request)
            sock.sendall(reply)

    return behave


def answers_once(reply: bytes) -> Behaviour:
    """Answers one request and closes the connection."""

    def behave(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(reply)

    return behave


def drips(start: bytes, rest: bytes) -> Behaviour:
    """Answers with `start` at once, and then with `rest` over and over, one byte at a time."""

    def behave(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(start)
        end = time.monotonic() + 2 * PATIENCE
        for byte in itertools.cycle(rest):
            if time.monotonic() > end:
                return
            sock.sendall(bytes([byte]))
            time.sleep(SHORT / 10)

    return behave


def reads_nothing(sock: socket.socket) -> None:
    """Leaves what is sent in the buffers until they are full."""
    time.sleep(SHORT * 2)


def closes(sock: socket.socket) -> None:
    """Closes the connection once the request was read."""
    read_request(sock)


def reset(sock: socket.socket) -> None:
    """Makes the closing of `sock` a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def resets(sock: socket.socket) -> None:
    """Resets the connection once the request was read."""
    read_request(sock)
    reset(sock)


def resets_handshake(sock: socket.socket) -> None:
    """Resets the connection once the client has greeted."""
    sock.recv(65536)
    reset(sock)


def says_nothing(sock: socket.socket) -> None:
    """Reads the request and leaves the client waiting."""
    while sock.recv(65536):
        pass


@pytest.fixture(scope="module")
def watchdog() -> Iterator[Watchdog]:
    watchdog = Watchdog()
    yield watchdog
    watchdog.close()


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Server] = []

    def start(behave: Behaviour, tls: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(behave, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def connect(watchdog: Watchdog) -> Iterator[Connect]:
    """Makes clients, with the arguments of HttpClient behind the watchdog."""
    clients: list[HttpClient] = []

    def make(*arguments: str, **named: float) -> HttpClient:
        clients.append(HttpClient(watchdog, *arguments, **named))  # type: ignore[arg-type]  # both kinds of name
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Connect) -> HttpClient:
    return connect()


class Records(logging.Handler):
    """Every record as text, with all that hangs on it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{self.format(record)} {record.__dict__}")


@pytest.fixture(autouse=True)
def no_log_holds_the_key() -> Iterator[Records]:
    """Whatever a test does: with every logger at DEBUG and listened to, no record holds the key."""
    records = Records()
    names = [None, *logging.root.manager.loggerDict]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).addHandler(records)
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield records
    for name in names:
        logging.getLogger(name).removeHandler(records)
        logging.getLogger(name).setLevel(levels[name])
    assert KEY not in "\n".join(records.texts)


def post(client: HttpClient, url: str, timeout: float = LONG) -> HttpAnswer:
    return client.post(url, HEADERS, BODY, timeout)


def failure(
    client: HttpClient, url: str, timeout: float = LONG, body: bytes = BODY, headers: dict[str, str] = HEADERS
) -> SendError:
    """The error of a post that must fail, in time, and without the key in anything that hangs on it."""
    started = time.monotonic()
    with pytest.raises(SendError) as raised:
        client.post(url, headers, body, timeout)
    assert time.monotonic() - started < PATIENCE
    assert KEY not in "".join(traceback.format_exception(raised.value))
    assert KEY not in repr(raised.value.__dict__)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    return raised.value


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


# --- an answer


def test_the_answer_comes_back_whole(client: HttpClient, serve: Serve) -> None:
    server = serve(answers(OK))
    answer = post(client, server.url)
    assert answer == HttpAnswer(200, answer.headers, b"{}")
    assert dict(answer.headers) == {"content-type": "application/json", "content-length": "2"}
    assert "{}" not in repr(answer)


def test_what_is_sent_is_what_was_given_and_nothing_odd(client: HttpClient, serve: Serve) -> None:
    requests: list[bytes] = []
    server = serve(answers(OK, requests=requests))
    headers = {**HEADERS, "Authorization": "Bearer toktoktok", "X-Odd": " ".join("ab") + " é"}
    client.post(server.url, headers, BODY, LONG)
    client.post(server.url, {}, b"", LONG)
    client.get(server.url, {"user-agent": "probe"}, LONG)
    host = f"Host: 127.0.0.1:{server.port}\r\n".encode()
    common = f"User-Agent: theeye-bridge/{__version__}\r\nAccept-Encoding: identity\r\n".encode()
    assert requests == [
        b"POST " + PATH.encode() + b" HTTP/1.1\r\n" + host + common
        + b"Accept: application/json\r\nContent-Type: application/json\r\n"
        + b"Authorization: Bearer toktoktok\r\nX-Odd: a b \xe9\r\n"
        + b"Content-Length: " + str(len(BODY)).encode() + b"\r\n\r\n" + BODY,
        b"POST " + PATH.encode() + b" HTTP/1.1\r\n" + host + common + b"Content-Length: 0\r\n\r\n",
        b"GET " + PATH.encode() + b" HTTP/1.1\r\n" + host
        + b"user-agent: probe\r\nAccept-Encoding: identity\r\n\r\n",
    ]  # fmt: skip


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer(client: HttpClient, serve: Serve, status: int) -> None:
    requests: list[bytes] = []
    moved = f"HTTP/1.1 {status} Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".encode()
    server = serve(answers(moved, requests=requests))
    answer = post(client, server.url)
    assert (answer.status, answer.headers["Location"], answer.body) == (status, "/elsewhere", b"")
    assert len(requests) == 1


@pytest.mark.parametrize("status", [400, 408, 413, 429, 500, 503])
def test_no_status_is_tried_again(client: HttpClient, serve: Serve, status: int) -> None:
    requests: list[bytes] = []
    reply = f"HTTP/1.1 {status} No\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\nno".encode()
    server = serve(answers(reply, requests=requests))
    answer = post(client, server.url)
    assert (answer.status, answer.headers["retry-after"], answer.body) == (status, "0", b"no")
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n3;x=y\r\nabc\r\n0\r\n\r\n",
            b"{}abc",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nup to the end", b"up to the end"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", b"x"),
        (b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx", b"x"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nraw", b"raw"),
    ],
    ids=["chunked", "to the end", "not kept", "no content", "no reason", "bare line feeds", "encoded"],
)
def test_every_form_of_answer_is_read(client: HttpClient, serve: Serve, reply: bytes, body: bytes) -> None:
    assert post(client, serve(answers_once(reply)).url).body == body


def deflated(body: bytes, window: int) -> bytes:
    compressor = zlib.compressobj(wbits=window)
    return compressor.compress(body) + compressor.flush()


def encoded(coding: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("coding", "window"), [("gzip", 31), ("X-GZIP", 31), ("deflate", 15), ("deflate", -15), (" gzip", 31)]
)
def test_what_is_compressed_unasked_is_decoded(
    client: HttpClient, serve: Serve, coding: str, window: int
) -> None:
    body = b'{"id":"1"}' * 5
    answer = post(client, serve(answers_once(encoded(coding, deflated(body, window)))).url)
    assert (answer.body, "content-encoding" in answer.headers) == (body, False)


MEMBERS = (b"", b'{"id":', b"", b'"1"}')


@pytest.mark.parametrize("end", [b"", bytes(512), b"padding"])
def test_all_members_of_a_gzip_body_are_decoded(client: HttpClient, serve: Serve, end: bytes) -> None:
    body = b"".join(deflated(member, 31) for member in MEMBERS) + end
    answer = post(client, serve(answers_once(encoded("gzip", body))).url)
    assert (answer.body, "content-encoding" in answer.headers) == (b'{"id":"1"}', False)


def test_the_limit_is_of_all_members_together() -> None:
    assert len(decode(deflated(bytes(400), 31) * 3, "gzip", 1000) or b"") == 1001
    assert len(decode(deflated(bytes(500), 31) * 2, "gzip", 1000) or b"") == 1000


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("br", b"x"),
        ("gzip, gzip", deflated(b"x", 31)),
        ("gzip", deflated(b"x" * 50, 31)[:-1]),
        pytest.param("gzip", deflated(b"x", 31) + deflated(b"y", 31)[:-1], id="gzip, second member cut"),
        ("gzip", b""),
        ("deflate", b"x"),
    ],
)
def test_what_cannot_be_decoded_stays_as_it_came(
    client: HttpClient, serve: Serve, coding: str, body: bytes
) -> None:
    answer = post(client, serve(answers_once(encoded(coding, body))).url)
    assert (answer.body, answer.headers["Content-Encoding"]) == (body, coding)


@pytest.mark.parametrize("window", [31, 15, -15])
def test_a_small_answer_that_decodes_to_a_large_one(connect: Connect, serve: Serve, window: int) -> None:
    client, coding = connect(max_answer=100_000), "gzip" if window == 31 else "deflate"
    server = serve(answers(*(encoded(coding, deflated(bytes(size), window)) for size in (100_000, 100_001))))
    assert len(post(client, server.url).body) == 100_000
    error = failure(client, server.url)
    assert (type(error), str(error)) == (AnswerLost, "the answer is larger than 100,000 bytes")
    # No more of it than that is ever in memory.
    bomb = deflated(bytes(50_000_000), window)
    tracemalloc.start()
    try:
        assert len(decode(bomb, coding, 100_000) or b"") == 100_001
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_trailers_are_read(client: HttpClient, serve: Serve) -> None:
    chunks = b"2\r\n{}\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"
    server = serve(answers(CHUNKED + chunks))
    for _ in range(2):
        assert post(client, server.url).body == b"{}"
    assert server.connections == 1


def test_replies_in_between_are_passed_over(client: HttpClient, serve: Serve) -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    server = serve(answers(early + OK))
    for _ in range(2):
        answer = post(client, server.url)
        assert (answer.status, answer.body, "link" in answer.headers) == (200, b"{}", False)
    assert server.connections == 1


def test_an_answer_that_comes_before_all_was_written_is_read(client: HttpClient, serve: Serve) -> None:
    def behave(sock: socket.socket) -> None:
        sock.recv(10)
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass

    answer = client.post(serve(behave).url, HEADERS, b"x" * 2_000_000, LONG)
    assert (answer.status, answer.body) == (413, b"no")


# --- not sent


def test_refused(client: HttpClient, serve: Serve) -> None:
    server = serve(closes)
    server.stop_listening()
    error = failure(client, server.url)
    assert type(error) is NotSent
    assert str(error) == f"no connection to 127.0.0.1:{server.port}: connection refused"


def test_an_unknown_name(client: HttpClient) -> None:
    error = failure(client, f"http://nobody.invalid:8000{PATH}")
    assert type(error) is NotSent
    assert str(error).startswith("the name nobody.invalid ")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (socket.EAI_NONAME, "the name api.test is not known"),
        (socket.EAI_AGAIN, "the name api.test cannot be looked up: try later"),
    ],
)
def test_the_look_up_tells_an_unknown_name_from_a_broken_one(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    def getaddrinfo(*arguments: object, **named: object) -> object:
        raise socket.gaierror(code, "Try later")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    error = failure(client, f"http://api.test{PATH}")
    assert type(error) is NotSent
    assert str(error) == message


@pytest.fixture
def black_hole() -> Iterator[tuple[str, int]]:
    """An address that answers no attempt to connect: its queue is full."""
    with socket.socket() as listener, socket.socket() as first:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        first.connect(listener.getsockname())
        yield listener.getsockname()


def test_no_connection_in_time(client: HttpClient, black_hole: tuple[str, int]) -> None:
    error = failure(client, f"http://127.0.0.1:{black_hole[1]}{PATH}", SHORT)
    assert type(error) is NotSent
    assert str(error) == f"no connection to 127.0.0.1:{black_hole[1]} within 0.2 s"


NO_FAMILY = 12345


def addresses(
    monkeypatch: pytest.MonkeyPatch, *found: tuple[str, int], after: float = 0.0, first: int = socket.AF_INET
) -> None:
    """Let every name have these addresses, the first one of the family `first`."""

    def getaddrinfo(*arguments: object, **named: object) -> object:
        time.sleep(after)
        families = itertools.chain([first], itertools.repeat(socket.AF_INET))
        return [
            (family, socket.SOCK_STREAM, 0, "", address)
            for family, address in zip(families, found, strict=False)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_an_address_that_is_dead_leaves_time_for_the_next(
    client: HttpClient, serve: Serve, black_hole: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses(monkeypatch, black_hole, serve(answers(OK)).address)
    assert post(client, f"http://api.test{PATH}", 2 * SHORT).status == 200


def test_the_handshake_has_all_the_time_that_is_left(
    connect: Connect, serve: Serve, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(sock: socket.socket) -> None:
        time.sleep(0.1)
        with certificates.elsewhere.wrap_socket(sock, server_side=True) as tls:
            answers_once(OK)(tls)

    addresses(monkeypatch, *[serve(slow).address] * 100)
    assert post(connect(certificates.bundle), f"https://elsewhere.test{PATH}", PATIENCE).status == 200


def test_a_family_of_addresses_that_this_machine_lacks_is_passed_over(
    client: HttpClient, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(answers(OK))
    addresses(monkeypatch, server.address, server.address, first=NO_FAMILY)
    assert post(client, f"http://api.test{PATH}").status == 200


def test_many_dead_addresses_take_no_longer_than_one(
    client: HttpClient, black_hole: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses(monkeypatch, *[black_hole] * 40)
    error = failure(client, f"http://api.test{PATH}", SHORT)
    assert type(error) is NotSent
    assert str(error) == "no connection to api.test:80 within 0.2 s"


def test_nothing_is_sent_after_a_look_up_that_took_all_the_time(
    client: HttpClient, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(answers(OK))
    addresses(monkeypatch, server.address, after=0.02)
    error = failure(client, f"http://api.test{PATH}", 0.01)
    assert type(error) is NotSent
    assert server.connections == 0


def test_nothing_is_sent_after_a_connecting_that_took_all_the_time(serve: Serve) -> None:
    class Dozes(Watchdog):
        def watch(self, sock: socket.socket, deadline: float, how: int = socket.SHUT_RDWR) -> Guard:
            time.sleep(0.03)
            return Guard(self, sock, how)  # one that never fires

    requests: list[bytes] = []
    server = serve(answers(OK, requests=requests))
    with closing(HttpClient(Dozes())) as client:
        assert type(failure(client, server.url, 0.02)) is NotSent
    assert requests == []


def test_no_time_at_all(client: HttpClient, serve: Serve) -> None:
    server = serve(answers(OK))
    assert type(failure(client, server.url, 0)) is NotSent
    assert server.connections == 0


def test_a_handshake_that_never_comes(client: HttpClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        error = failure(client, f"https://127.0.0.1:{port}{PATH}", SHORT)
    assert type(error) is NotSent
    assert str(error) == f"no TLS handshake with 127.0.0.1:{port} within 0.2 s"


def test_a_handshake_that_drips(client: HttpClient, serve: Serve) -> None:
    def behave(sock: socket.socket) -> None:
        sock.recv(65536)
        # A record of the handshake that says it has 16,000 bytes.
        for byte in b"\x16\x03\x03\x3e\x80\x02\x00\x3e\x7c\x03\x03" + bytes(range(200)):
            sock.sendall(bytes([byte]))
            time.sleep(SHORT / 10)

    server = serve(behave)
    error = failure(client, server.url.replace("http:", "https:"), SHORT)
    assert type(error) is NotSent
    assert str(error) == f"no TLS handshake with 127.0.0.1:{server.port} within 0.2 s"


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        (lambda sock: sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "TLS: wrong version number"),
        (resets_handshake, "TLS: the connection was closed in the handshake"),
        (lambda sock: sock.recv(65536), "TLS: "),
    ],
    ids=["not TLS", "reset", "closed"],
)
def test_a_handshake_that_fails(client: HttpClient, serve: Serve, behave: Behaviour, message: str) -> None:
    error = failure(client, serve(behave).url.replace("http:", "https:"))
    assert type(error) is NotSent
    assert str(error).startswith(message)


def test_a_connection_that_is_reset_before_the_handshake(watchdog: Watchdog, serve: Serve) -> None:
    was_reset = threading.Event()

    class Waits(Watchdog):
        """Lets the server's reset come between connecting and the handshake."""

        def watch(self, sock: socket.socket, deadline: float, how: int = socket.SHUT_RDWR) -> Guard:
            assert was_reset.wait(LONG)
            return watchdog.watch(sock, deadline, how)

    def behave(sock: socket.socket) -> None:
        # The end of the stream before it: then the standard library does not even try a handshake.
        sock.shutdown(socket.SHUT_WR)
        reset(sock)
        sock.close()
        was_reset.set()

    client = HttpClient(Waits())
    error = failure(client, serve(behave).url.replace("http:", "https:"))
    assert type(error) is NotSent
    # Where the reset is seen first, the system calls it by its own name.
    assert str(error).endswith(("TLS: the connection was closed in the handshake", ": broken pipe"))


def test_a_certificate_of_nobody_we_trust(
    client: HttpClient, serve: Serve, certificates: Certificates
) -> None:
    server = serve(answers(OK), certificates.server)
    error = failure(client, server.url)
    assert type(error) is NotSent
    assert str(error) == "TLS: certificate verify failed: unable to get local issuer certificate"


def test_a_certificate_of_another_host(connect: Connect, serve: Serve, certificates: Certificates) -> None:
    server = serve(answers(OK), certificates.elsewhere)
    error = failure(connect(certificates.bundle), server.url)
    assert type(error) is NotSent
    assert "certificate is not valid for '127.0.0.1'" in str(error)


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1:port{PATH}",
        f"http://[::1{PATH}",
        f"http://{PATH}",
        f"ftp://127.0.0.1{PATH}",
        f"http://{'a' * 70}.test{PATH}",
        f"http://.test{PATH}",
    ],
)
def test_a_url_that_cannot_be_used(client: HttpClient, url: str) -> None:
    assert type(failure(client, url)) is NotSent


@pytest.mark.parametrize("value", [f"{KEY}\r\nX: y", f" {KEY}", f"{KEY}\N{SNOWMAN}"])
def test_a_header_that_cannot_be_sent(client: HttpClient, serve: Serve, value: str) -> None:
    error = failure(client, serve(answers(OK)).url, headers={"Authorization": value})
    assert type(error) is NotSent
    assert str(error).startswith("the request cannot be made: ")


# --- the answer lost


STATUS_LINE = drips(b"", b"HTTP/1.1 200 OK" + b"." * 1000)
NOT_KEPT = drips(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n", b".")
TO_THE_END = drips(b"HTTP/1.1 200 OK\r\n\r\n", b".")


@pytest.mark.parametrize(
    ("tls", "behave"),
    [
        pytest.param(False, STATUS_LINE, id="status line"),
        pytest.param(True, STATUS_LINE, id="status line, tls"),
        pytest.param(False, drips(b"HTTP/1.1 200 OK\r\n", b"X-Drip: drop\r\n"), id="headers"),
        pytest.param(False, drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="replies in between"),
        pytest.param(False, drips(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"."), id="body"),
        pytest.param(False, NOT_KEPT, id="body of a connection that is not kept"),
        pytest.param(True, NOT_KEPT, id="body of a connection that is not kept, tls"),
        pytest.param(False, TO_THE_END, id="body without a length"),
        pytest.param(True, TO_THE_END, id="body without a length, tls"),
        pytest.param(
            False,
            drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n.\r\n"),
            id="chunks",
        ),
        pytest.param(
            False,
            drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Drip: drop\r\n"),
            id="trailers",
        ),
        pytest.param(False, says_nothing, id="nothing"),
    ],
)
def test_no_whole_answer_in_time(
    connect: Connect, serve: Serve, certificates: Certificates, tls: bool, behave: Behaviour
) -> None:
    server = serve(behave, certificates.server if tls else None)
    error = failure(connect(certificates.bundle), server.url, SHORT)
    assert type(error) is AnswerLost
    assert str(error) == "no answer within 0.2 s"


def test_writing_is_bounded_too(client: HttpClient, serve: Serve) -> None:
    error = failure(client, serve(reads_nothing).url, SHORT, b"x" * 20_000_000)
    assert type(error) is AnswerLost
    assert str(error) == "no answer within 0.2 s"


def test_a_first_write_that_fails_may_have_written_a_part(
    client: HttpClient, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sendall(sock: socket.socket, data: bytes) -> None:
        sock.send(data[:10])
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    server = serve(says_nothing)
    monkeypatch.setattr(socket.socket, "sendall", sendall)
    error = failure(client, server.url)
    assert type(error) is AnswerLost
    assert str(error) == CLOSED


CLOSED = "the connection was closed before the answer came"
BROKE_OFF = "the answer broke off before its end"
NOT_HTTP = "the answer is not valid HTTP"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        pytest.param(resets, CLOSED, id="reset"),
        pytest.param(closes, CLOSED, id="closed"),
        pytest.param(answers_once(b"HTTP/1.1 404 Not Found\r\n"), CLOSED, id="after the status line"),
        pytest.param(answers_once(b"HTTP/1.1 404 Not Fo"), CLOSED, id="in the status line"),
        pytest.param(
            answers_once(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3"), CLOSED, id="in the headers"
        ),
        pytest.param(answers_once(b"HTTP/1.1 100 Continue\r\n\r\n"), CLOSED, id="after a reply in between"),
        pytest.param(answers_once(f"{PATH} is not known\r\n\r\n".encode()), NOT_HTTP, id="not HTTP"),
        pytest.param(answers_once(bytes(range(256))), NOT_HTTP, id="bytes"),
        pytest.param(answers_once(b"HTTP/1.1 2000 OK\r\n\r\n"), NOT_HTTP, id="no status"),
        pytest.param(answers_once(b"HTTP/3 200 OK\r\n\r\n"), NOT_HTTP, id="another HTTP"),
        pytest.param(answers_once(b"HTTP/1.1 200 " + b"." * 70_000), NOT_HTTP, id="a long line"),
        pytest.param(answers_once(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 101), NOT_HTTP, id="many headers"),
        pytest.param(
            answers_once(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), BROKE_OFF, id="in the body"
        ),
        pytest.param(answers_once(CHUNKED + b"2\r\n{}\r\n"), BROKE_OFF, id="before the last chunk"),
        pytest.param(answers_once(CHUNKED + b"9\r\n{}"), BROKE_OFF, id="in a chunk"),
        pytest.param(answers_once(CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"), BROKE_OFF, id="no chunk"),
        pytest.param(
            answers_once(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}}"),
            "the answer cannot be read: InvalidHeader",
            id="two lengths",
        ),
    ],
)
def test_no_whole_answer(client: HttpClient, serve: Serve, behave: Behaviour, message: str) -> None:
    server = serve(behave)
    error = failure(client, server.url)
    assert type(error) is AnswerLost
    assert str(error) == message
    assert server.connections == 1


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_an_answer_that_is_too_large(connect: Connect, serve: Serve, chunked: bool) -> None:
    def reply(size: int) -> bytes:
        body = b"x" * size
        if chunked:
            return CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, body)

    client = connect(max_answer=100_000)
    server = serve(answers(reply(100_000), reply(100_001)))
    assert len(post(client, server.url).body) == 100_000
    assert type(failure(client, server.url)) is AnswerLost

    server = serve(answers(reply(100_000), reply(300_000), OK))
    assert len(post(client, server.url).body) == 100_000
    error = failure(client, server.url)
    assert type(error) is AnswerLost
    assert str(error) == "the answer is larger than 100,000 bytes"
    # The rest of it must not be taken for the answer to the next.
    assert len(post(client, server.url).body) == 100_000
    assert server.connections == 2


def test_the_limit_of_an_answer_is_20_mib(client: HttpClient, serve: Serve) -> None:
    reply = b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * (20 * 1024 * 1024 + 1)
    assert len(post(client, serve(answers_once(reply[:-1])).url).body) == 20 * 1024 * 1024
    assert type(failure(client, serve(answers_once(reply)).url)) is AnswerLost


def test_a_get_fails_in_the_same_way(client: HttpClient, serve: Serve) -> None:
    with pytest.raises(AnswerLost, match=CLOSED):
        client.get(serve(closes).url, {}, LONG)


# --- the kept connection


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_connection_is_used_again(
    connect: Connect, serve: Serve, certificates: Certificates, tls: bool
) -> None:
    chunked = CHUNKED + b"2\r\n{}\r\n0\r\n\r\n"
    server = serve(
        answers(OK, chunked, b"HTTP/1.1 204 No Content\r\n\r\n", OK), certificates.server if tls else None
    )
    client = connect(certificates.bundle, max_idle=LONG)
    for _ in range(5):
        post(client, server.url)
    assert client.get(server.url, {}, LONG).status == 200
    assert server.connections == 1


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_connection_that_was_idle_for_too_long_is_not(
    connect: Connect, serve: Serve, certificates: Certificates, tls: bool
) -> None:
    server = serve(answers(OK), certificates.server if tls else None)
    client = connect(certificates.bundle, max_idle=0.02)
    post(client, server.url)
    time.sleep(0.03)
    post(client, server.url)
    assert server.connections == 2


def test_too_long_is_two_seconds(client: HttpClient, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(answers(OK))
    now, ahead = time.monotonic(), 0.0
    monkeypatch.setattr("bridge.http.connection.time.monotonic", lambda: now + ahead)
    for step, connections in [(0.0, 1), (1.5, 1), (2.1, 2)]:
        ahead += step
        post(client, server.url)
        assert server.connections == connections


def test_a_kept_connection_that_the_server_closed_is_not_written_to(client: HttpClient, serve: Serve) -> None:
    closed = threading.Event()

    def behave(sock: socket.socket) -> None:
        answers_once(OK)(sock)
        sock.close()
        closed.set()

    server = serve(behave)
    post(client, server.url)
    assert closed.wait(LONG)
    server.stop_listening()
    assert type(failure(client, server.url)) is NotSent


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_kept_connection_has_the_same_time_limit(
    connect: Connect, serve: Serve, certificates: Certificates, tls: bool
) -> None:
    def behave(sock: socket.socket) -> None:
        answers_once(OK)(sock)
        drips(b"HTTP/1.1 200 OK\r\n", b"X-Drip: drop\r\n")(sock)

    server = serve(behave, certificates.server if tls else None)
    client = connect(certificates.bundle, max_idle=LONG)
    post(client, server.url)
    error = failure(client, server.url, SHORT)
    assert type(error) is AnswerLost
    assert str(error) == "no answer within 0.2 s"
    assert server.connections == 1


def test_a_kept_connection_that_breaks_under_the_request_is_an_answer_lost(
    client: HttpClient, serve: Serve
) -> None:
    def behave(sock: socket.socket) -> None:
        answers_once(OK)(sock)
        resets(sock)

    server = serve(behave)
    post(client, server.url)
    assert type(failure(client, server.url)) is AnswerLost
    assert server.connections == 1


def test_a_limit_that_was_kept_leaves_the_connection_alone(watchdog: Watchdog, serve: Serve) -> None:
    guards: list[Guard] = []

    class Remembers(Watchdog):
        def watch(self, sock: socket.socket, deadline: float, how: int = socket.SHUT_RDWR) -> Guard:
            guards.append(watchdog.watch(sock, deadline, how))
            return guards[-1]

    server = serve(answers(OK))
    with closing(HttpClient(Remembers(), max_idle=LONG)) as client:
        post(client, server.url, SHORT)
        time.sleep(SHORT * 1.2)
        post(client, server.url)
    assert server.connections == 1
    assert [guard.fired for guard in guards] == [False, False]


@pytest.mark.parametrize("behave", [closes, answers_once(CHUNKED + b"zz\r\n")])
def test_a_failure_does_not_spoil_the_next_request(
    client: HttpClient, serve: Serve, behave: Behaviour
) -> None:
    tried = itertools.count()

    def fails_once(sock: socket.socket) -> None:
        (behave if next(tried) == 0 else answers(OK))(sock)

    server = serve(fails_once)
    failure(client, server.url)
    assert [post(client, server.url).status for _ in range(2)] == [200, 200]
    assert server.connections == 2


def test_closing_closes_the_kept_connections(
    client: HttpClient, serve: Serve, request: pytest.FixtureRequest
) -> None:
    ended = threading.Event()
    tried = itertools.count()

    def behave(sock: socket.socket) -> None:
        if next(tried) == 0:
            closes(sock)
        else:
            answers(OK)(sock)
            ended.set()

    # A failure leaves cycles behind that hold the pool: the collector must not be what closes it.
    request.addfinalizer(gc.enable)
    gc.disable()
    server = serve(behave)
    failure(client, server.url)
    post(client, server.url)
    assert not ended.is_set()
    client.close()
    assert ended.wait(PATIENCE)


# --- what does not come in from outside


def test_the_environment_plays_no_part(
    client: HttpClient,
    serve: Serve,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    proxied = serve(answers(OK))
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxied.port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, certificates.bundle)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    requests: list[bytes] = []
    post(client, serve(answers(OK, requests=requests)).url)
    assert b"authorization" not in requests[0].lower()
    assert type(failure(client, serve(answers(OK), certificates.server).url)) is NotSent
    assert proxied.connections == 0


def test_no_cookie_is_kept(client: HttpClient, serve: Serve) -> None:
    requests: list[bytes] = []
    reply = OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: a=b; Path=/\r\n\r\n")
    server = serve(answers(reply, requests=requests))
    post(client, server.url)
    post(client, server.url)
    assert len(requests) == 2
    assert b"cookie" not in requests[1].lower()


def test_what_the_libraries_log_at_debug_is_dropped_and_others_are_heard(
    client: HttpClient, serve: Serve, no_log_holds_the_key: Records
) -> None:
    odd = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nno header\r\n\r\n{}"  # warned about, with its URL
    post(client, serve(answers(odd)).url)
    logging.getLogger("bridge.test").debug("heard")
    assert [text for text in no_log_holds_the_key.texts if "heard" in text]
    assert not [text for text in no_log_holds_the_key.texts if "urllib3" in text]


def test_only_verified_certificates_can_be_asked_for(watchdog: Watchdog) -> None:
    with pytest.raises(TypeError):
        HttpClient(watchdog, False)  # type: ignore[arg-type]  # the mistake that is tested
