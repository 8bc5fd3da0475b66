"""Bad input to the real server: a 4xx each, nothing stored, no traceback, and it lives on."""

from __future__ import annotations

import socket
import sqlite3
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import orjson
import pytest

from tests.support.intake import (
    VARIABLES,
    changed,
    count_rows,
    github_headers,
    sample,
    signature,
    table,
    without,
)
from tests.support.server import Server

TABLE = """
sources:
  github: {secret: "${{ env.GITHUB_SECRET }}"}
  open: {type: generic, allow_unsigned: true, dedupe: off}
  closed: {type: generic, bearer_token: "${{ env.TOKEN }}"}
  alerts: {type: alertmanager, basic_auth: {username: maria, password: "${{ env.PASSWORD }}"}}
routes:
  - {source: github, task: TASK, secret_key: KEY, task_arguments: ["${{ payload.ref }}"]}
  - {source: open, loop: payload.alerts, task: TASK, secret_key: KEY, task_arguments: ["${{ item }}"]}
  - {source: alerts, loop: payload.alerts, task: TASK, secret_key: KEY, task_arguments: ["${{ item }}"]}
"""

PUSH = sample("github/push.json")
FIRING = sample("alertmanager/firing.json")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SIGNED = "X-Hub-Signature-256"

MEBIBYTE = 1024 * 1024

#: Bytes: the default of BRIDGE_MAX_BODY.
LIMIT = 25 * MEBIBYTE

#: Seconds within which the server must answer; what takes longer hangs.
PATIENCE = 30.0

CHUNKED = {"Transfer-Encoding": "chunked"}


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_problem(self) -> bool:
        return self.headers.get("content-type") == "application/problem+json"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("bad-input")
    config = folder / "routes.yml"
    config.write_text(table(TABLE), "utf-8")
    environ = {**VARIABLES, "LOG_LEVEL": "DEBUG", "LOG_FORMAT": "json"}
    with Server(config, folder / "bridge.db", environ) as running:
        yield running


def rows(server: Server) -> tuple[int, int]:
    with closing(sqlite3.connect(server.database)) as connection:
        return count_rows(connection)


@contextmanager
def unharmed(server: Server, events: int = 0) -> Iterator[None]:
    """Inside, as many events are stored as said, nothing is a 500, and the server answers afterwards."""
    before = rows(server)
    logged = len(server.log)
    yield
    (alive,) = exchange(server, request("/healthz", method="GET", body=None))
    assert alive.status == 200
    news = server.log[logged:]
    for line in news.splitlines():
        record = orjson.loads(line)
        assert record["level"] not in ("error", "critical"), line
        assert "exception" not in record, line
        assert record["logger"] != "py.warnings", line
    assert "Traceback" not in news
    assert "Booting worker" not in news
    assert rows(server)[0] == before[0] + events
    if not events:
        assert rows(server) == before


@pytest.fixture
def nothing_stored(server: Server) -> Iterator[None]:
    with unharmed(server):
        yield


def request(
    path: str | bytes,
    body: bytes | None = b"{}",
    headers: dict[str, Any] | None = None,
    method: str = "POST",
    framing: dict[str, Any] | None = None,
    close: bool = True,
) -> bytes:
    """The bytes of a request. A header's value may be a list, for one that comes more than once."""
    lines = {"Host": "bridge.example.com", "Content-Type": "application/json", **(headers or {})}
    if close:
        lines["Connection"] = "close"
    if framing is None:
        framing = {} if body is None else {"Content-Length": len(body)}
    path = path if isinstance(path, bytes) else path.encode("latin-1")
    head = method.encode() + b" " + path + b" HTTP/1.1\r\n"
    for name, value in {**lines, **framing}.items():
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                text = each if isinstance(each, bytes) else str(each).encode("latin-1")
                head += name.encode() + b": " + text + b"\r\n"
    return head + b"\r\n" + (body or b"")


def hook(body: bytes = b"{}", **how: Any) -> bytes:
    """A request to the source that asks for no proof."""
    return request("/hooks/open", body, **how)


def chunks(body: bytes, size: int = 65536, end: bytes = b"0\r\n\r\n") -> bytes:
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


def exchange(server: Server, data: bytes, *, end: bool = False) -> list[Answer]:
    """Send `data` (and, with `end`, no more), and every answer until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        with suppress(OSError):  # it may close before all is sent
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
        return answers(received(connection))


def received(connection: socket.socket) -> bytes:
    got = bytearray()
    with suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            got += piece
    return bytes(got)


def answers(raw: bytes) -> list[Answer]:
    found = []
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        length = int(headers.get("content-length", 0))
        found.append(Answer(int(status.split()[1]), headers, raw[:length]))
        raw = raw[length:]
    return found


def refused(server: Server, data: bytes, status: int, *, end: bool = False) -> Answer:
    """One answer, a problem of this status that says nothing but its class."""
    (answer,) = exchange(server, data, end=end)
    assert answer.status == status, answer
    assert answer.is_problem, answer
    problem = orjson.loads(answer.body)
    assert problem["status"] == status
    assert set(problem) == {"type", "title", "status"}
    return answer


def basic(pair: str) -> str:
    return "Basic " + b64encode(pair.encode()).decode()


GITHUB = github_headers(PUSH)


def github(body: bytes = PUSH, event: str = "push", path: str = "/hooks/github", **headers: Any) -> bytes:
    """A signed webhook, with other headers where given; None leaves one out."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(path, body, {**github_headers(body, event), **named})


@pytest.mark.usefixtures("nothing_stored")
class TestSignature:
    """401, whatever stands where the signature should."""

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(None, id="missing"),
            pytest.param("", id="empty"),
            pytest.param(signature(PUSH, "wrong"), id="another-secret"),
            pytest.param(signature(PUSH, ""), id="the-empty-secret"),
            pytest.param(signature(PUSH + b" "), id="another-body"),
            pytest.param(signature(PUSH, algorithm="sha1"), id="sha1"),
            pytest.param(signature(PUSH).upper(), id="upper-case"),
            pytest.param(signature(PUSH)[:-2], id="too-short"),
            pytest.param(signature(PUSH) + "00", id="too-long"),
            pytest.param(f"{signature(PUSH)},{signature(PUSH)}", id="doubled-in-one"),
            pytest.param([signature(PUSH), signature(PUSH)], id="doubled"),
            pytest.param([signature(PUSH, "wrong"), signature(PUSH)], id="doubled-wrong-first"),
            pytest.param([signature(PUSH), ""], id="doubled-one-empty"),
            pytest.param(b"sha256=" + b"\xff" * 64, id="non-ASCII"),
            pytest.param("sha256=é".encode(), id="UTF-8"),
            pytest.param("x" * 8000, id="very-long"),
        ],
    )
    def test_github(self, server: Server, value: Any) -> None:
        refused(server, github(X_Hub_Signature_256=value), 401)

    def test_an_underscore_is_no_hyphen(self, server: Server) -> None:
        headers = {**GITHUB, SIGNED: None, "X_Hub_Signature_256": GITHUB[SIGNED]}
        refused(server, request("/hooks/github", PUSH, headers), 401)

    def test_a_signature_over_the_json_in_a_form(self, server: Server) -> None:
        raw = b"payload=" + quote_plus(PUSH).encode()
        refused(server, request("/hooks/github", raw, {**GITHUB, **FORM}), 401)

    @pytest.mark.parametrize(
        "value",
        [
            None, "", "Bearer", "Bearer ", "Bearer wrong", VARIABLES["TOKEN"], f"Basic {VARIABLES['TOKEN']}",
            f"Bearer {VARIABLES['TOKEN']},Bearer {VARIABLES['TOKEN']}", [f"Bearer {VARIABLES['TOKEN']}"] * 2,
            b"Bearer \xff\xfe", f"Bearer {VARIABLES['TOKEN']}x",
        ],
    )  # fmt: skip
    def test_bearer(self, server: Server, value: Any) -> None:
        refused(server, request("/hooks/closed", b"{}", {"Authorization": value}), 401)

    @pytest.mark.parametrize(
        "value",
        [
            None, "Basic", "Basic ", "Basic !", "Basic =", "Basic bWFy", b"Basic \xff\xff\xff\xff",
            basic("maria"), basic("maria:"), basic("maria:wrong"), basic(f"eve:{VARIABLES['PASSWORD']}"),
            basic(f"maria:{VARIABLES['PASSWORD']}")[:-3], [basic(f"maria:{VARIABLES['PASSWORD']}")] * 2,
        ],
    )  # fmt: skip
    def test_basic(self, server: Server, value: Any) -> None:
        refused(server, request("/hooks/alerts", FIRING, {"Authorization": value}), 401)

    def test_in_the_query(self, server: Server) -> None:
        refused(server, request(f"/hooks/closed?token={VARIABLES['TOKEN']}"), 401)


@pytest.mark.usefixtures("nothing_stored")
class TestBody:
    """400, whatever the body is, though it is signed."""

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"{", id="broken"),
            pytest.param(b'{"a":1}x', id="with-more-behind-it"),
            pytest.param(b"NaN", id="NaN"),
            pytest.param('{"a":1}'.encode("utf-16"), id="UTF-16"),
            pytest.param(b'{"a":"\x00"}', id="NUL"),
            pytest.param(b"\x00" * 100_000, id="NULs"),
            pytest.param(b'{"a":"\\ud800\\x"}', id="a-lone-surrogate-before-a-mistake"),
            pytest.param(b"[" * 65 + b"]" * 65, id="65-deep"),
            pytest.param(b"[" * 100_000, id="100,000-deep-open"),
            pytest.param(b"[" * 100_000 + b"]" * 100_000, id="100,000-deep"),
            pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="100,000-objects-deep"),
            pytest.param(b"9" * 1_000_000 + b"x", id="a-long-number"),
        ],
    )
    def test_broken_json(self, server: Server, body: bytes) -> None:
        refused(server, github(body), 400)
        refused(server, request("/hooks/open", body), 400)

    @pytest.mark.parametrize(
        "body", [b"", b"payload", b"payload=%", b"payload=%FF", b"a=b", b"&" * 1000, b"\xff"]
    )
    def test_a_broken_form(self, server: Server, body: bytes) -> None:
        refused(server, github(body, Content_Type=FORM["Content-Type"]), 400)


class TestUnreadableEvent:
    """200, stored without a name: a sender that gets a 4xx may disable its webhook."""

    def stored(self, server: Server, data: bytes) -> None:
        _, jobs = rows(server)
        (answer,) = exchange(server, data)
        assert answer.status == 200, answer
        stored = orjson.loads(answer.body)
        assert stored["jobs"] == []
        with closing(sqlite3.connect(server.database)) as connection:
            named = connection.execute("SELECT event FROM events WHERE id = ?", (stored["event"],)).fetchone()
        assert named == ("",)
        assert rows(server)[1] == jobs

    @pytest.mark.parametrize("key", ["ref", "before", "after"])
    def test_a_push_without_what_it_must_have(self, server: Server, key: str) -> None:
        self.stored(server, github(without(PUSH, key)))

    @pytest.mark.parametrize("event", ["pull_request", "ping", "", None, "x" * 256])
    def test_a_body_that_does_not_fit_its_event(self, server: Server, event: Any) -> None:
        self.stored(server, github(X_GitHub_Event=event))

    @pytest.mark.parametrize("delivery", [None, ""])
    def test_no_delivery_id(self, server: Server, delivery: Any) -> None:
        self.stored(server, github(X_GitHub_Delivery=delivery))

    @pytest.mark.parametrize(
        "body", [b"[1e999]", b"\xef\xbb\xbf{}", b'{"a":"\xff"}', b'{"\\udfff":"\\ud800"}', b'"\xed\xa0\x80"']
    )
    def test_json_that_orjson_does_not_read(self, server: Server, body: bytes) -> None:
        self.stored(server, github(body))

    def test_nul_in_an_action(self, server: Server) -> None:
        body = changed(sample("github/issues.opened.json"), action="a\x00b")
        self.stored(server, github(body, "issues"))

    @pytest.mark.parametrize("edit", [{"status": "x"}, {"alerts": {}}, {"alerts": None}])
    def test_what_alertmanager_does_not_send(self, server: Server, edit: dict[str, Any]) -> None:
        authorization = {"Authorization": basic(f"maria:{VARIABLES['PASSWORD']}")}
        self.stored(server, request("/hooks/alerts", changed(FIRING, **edit), authorization))


def test_more_jobs_than_one_event_may_make(server: Server) -> None:
    """The sender is answered; the route has one dead job that says why."""
    body = orjson.dumps({"alerts": list(range(10_001))})
    _, jobs = rows(server)
    with unharmed(server, events=1):
        (answer,) = exchange(server, request("/hooks/open", body))
        assert answer.status == 202
    assert rows(server)[1] == jobs + 1


@pytest.mark.usefixtures("nothing_stored")
class TestSize:
    """413 for what is longer than the limit; 400 at once for what is small but many."""

    LARGE = b"[" + b" " * (30 * MEBIBYTE) + b"]"
    MANY = b"[" + b"[]," * (LIMIT // 3 - 1) + b"0]"

    def test_30_mib(self, server: Server) -> None:
        for path in ("/hooks/open", "/hooks/github"):
            refused(server, request(path, self.LARGE), 413)

    def test_30_mib_in_chunks(self, server: Server) -> None:
        for path in ("/hooks/open", "/hooks/github"):
            refused(server, request(path, chunks(self.LARGE), framing=CHUNKED), 413)

    def test_chunks_of_a_byte(self, server: Server) -> None:
        """They keep a thread at work six times as long as their bytes would."""
        body = chunks(b"[" + b" " * 40_000 + b"]", 1)
        refused(server, request("/hooks/open", body, framing=CHUNKED), 413)

    def test_30_mib_in_chunks_that_are_json_up_to_the_limit(self, server: Server) -> None:
        body = b"{}" + b" " * (30 * MEBIBYTE)
        refused(server, request("/hooks/open", chunks(body), framing=CHUNKED), 413)

    @pytest.mark.parametrize("length", [LIMIT + 1, 2**31, 2**63, 2**64, 10**100])
    def test_a_length_beyond_the_limit_is_enough(self, server: Server, length: int) -> None:
        refused(server, request("/hooks/open", b"{}", framing={"Content-Length": length}), 413)

    def test_25_mib_of_empty_lists(self, server: Server) -> None:
        before = peak_memory(server)
        refused(server, request("/hooks/open", self.MANY), 400)
        refused(server, github(self.MANY), 400)
        refused(server, request("/hooks/open", chunks(self.MANY), framing=CHUNKED), 400)
        assert peak_memory(server) - before < 400 * MEBIBYTE

    def test_25_mib_of_empty_lists_in_a_form(self, server: Server) -> None:
        before = peak_memory(server)
        body = b"payload=" + b"%5B%5D%2C" * (LIMIT // 9 - 1)
        refused(server, github(body, Content_Type=FORM["Content-Type"]), 400)
        assert peak_memory(server) - before < 400 * MEBIBYTE

    def test_before_its_body_is_read(self, server: Server) -> None:
        """Nothing of the 20 MiB is sent, and there is an answer."""
        length = {"Content-Length": 20 * MEBIBYTE}
        refused(server, request("/hooks/closed", b"", framing=length), 401)
        refused(server, request("/hooks/nowhere", b"", framing=length), 404)
        refused(server, request("/hooks/open", b"", {"Content-Type": "text/plain"}, framing=length), 415)


@pytest.mark.usefixtures("nothing_stored")
class TestFraming:
    """A body that is not as long as it says, or in broken chunks."""

    @pytest.mark.parametrize("missing", [1, 100, 1_000_000])
    def test_shorter_than_it_says(self, server: Server, missing: int) -> None:
        for path, body in (("/hooks/open", b"{}"), ("/hooks/github", PUSH)):
            data = request(path, body, github_headers(body), framing={"Content-Length": len(body) + missing})
            refused(server, data, 400, end=True)

    def test_shorter_and_gone(self, server: Server) -> None:
        """Nobody is there any more to take the answer."""
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(request("/hooks/open", b"{}", framing={"Content-Length": 1000}))
                connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
                )

    def test_longer_than_it_says(self, server: Server) -> None:
        for length in (0, 1):
            refused(server, request("/hooks/open", b"{}", framing={"Content-Length": length}), 400)
        refused(server, github().replace(b"Content-Length: %d" % len(PUSH), b"Content-Length: 100"), 401)

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"2\r\n{}\r\n", id="without-an-end"),
            pytest.param(b"5\r\n{}", id="cut-in-a-chunk"),
            pytest.param(b"2\r\n{}", id="cut-after-a-chunk"),
            pytest.param(b"2", id="cut-in-a-size"),
            pytest.param(b"", id="nothing"),
            pytest.param(b"zz\r\n{}\r\n0\r\n\r\n", id="no-size"),
            pytest.param(b"\r\n{}\r\n0\r\n\r\n", id="an-empty-size"),
            pytest.param(b"-2\r\n{}\r\n0\r\n\r\n", id="a-negative-size"),
            pytest.param(b"0x2\r\n{}\r\n0\r\n\r\n", id="0x"),
            pytest.param(b"2 \r\n{}\r\n0\r\n\r\n", id="a-blank-after-a-size"),
            pytest.param(b"\xb2\r\n{}\r\n0\r\n\r\n", id="a-size-beyond-ASCII"),
            pytest.param(b"1\r\n{}\r\n0\r\n\r\n", id="longer-than-its-size"),
            pytest.param(b"2\n{}\n0\n\n", id="without-CR"),
            pytest.param(b"f" * 40 + b"\r\n{}", id="a-size-beyond-64-bits"),
            pytest.param(b"7" + b"f" * 15 + b"\r\n{}", id="a-size-of-63-bits"),
            pytest.param(b"2;" + b"x" * 20_000 + b"\r\n{}\r\n0\r\n\r\n", id="a-long-extension"),
            pytest.param(b'2;a="\r\n{}\r\n0\r\n\r\n', id="a-broken-extension"),
            pytest.param(b"2\r\n{}\r\n0\r\nContent-Length: 2\r\n\r\n", id="a-length-in-the-trailer"),
            pytest.param(b"2\r\n{}\r\n0\r\nAuthorization: x\r\n\r\n", id="a-credential-in-the-trailer"),
            pytest.param(b"2\r\n{}\r\n0\r\nX: \x00\r\n\r\n", id="NUL-in-the-trailer"),
            pytest.param(b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 50_000 + b"\r\n", id="a-long-trailer"),
        ],
    )
    def test_broken_chunks(self, server: Server, body: bytes) -> None:
        refused(server, request("/hooks/open", body, framing=CHUNKED), 400, end=True)

    def test_without_a_length_there_is_no_body(self, server: Server) -> None:
        refused(server, request("/hooks/open", b"{}", framing={}), 400)


@pytest.mark.usefixtures("nothing_stored")
class TestHead:
    """Where, how and what is sent."""

    @pytest.mark.parametrize(
        "path",
        [
            "/hooks/nowhere", "/hooks/", "/hooks", "/hooks//open", "/hooks/open/x",
            "/hooks/open//", "/hooks/op%00en", "/hooks/%00", "/hooks/%0A%0D", "/hooks/%FF%FE",
            "/hooks/%C3%28", "/hooks/open%2Fx", "/hooks/%2e%2e/hooks/open", "/hooks/../hooks/open",
            "/hooks/open;x", "/hooks/%zz", "/hooks/%", "/hooks/ope%6E%20", "/hooks/${{payload}}",
            "/hooks/{{7*7}}", "/hooks/__class__",
            "/hooks/'--", "/hooks/" + "a" * 3900, "/hooks/" + "%F0%9F%98%80" * 300, "/HOOKS/OPEN",
            "/hooks/open.json", "http://127.0.0.1/hooks/nowhere",
        ],
    )  # fmt: skip
    def test_no_such_source(self, server: Server, path: str) -> None:
        refused(server, request(path), 404)

    def test_the_root_is_no_source(self, server: Server) -> None:
        refused(server, request("/"), 405)

    @pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND"])
    def test_another_method(self, server: Server, method: str) -> None:
        answer = refused(server, request("/hooks/open", b"{}", method=method), 405)
        assert "POST" in answer.headers["allow"]

    def test_methods_without_a_body_in_the_answer(self, server: Server) -> None:
        for method, status in (("HEAD", 405), ("OPTIONS", 200)):
            raw = request("/hooks/open", b"{}", method=method)
            with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
                connection.sendall(raw)
                head, _, body = received(connection).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d" % status)
            assert body == b""

    @pytest.mark.parametrize(
        "content",
        [
            None, "", ";", b"\xff", "x" * 8000, "text/plain", "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x", "application/json, text/plain",
        ],
    )  # fmt: skip
    def test_another_type(self, server: Server, content: Any) -> None:
        refused(server, request("/hooks/open", b"{}", {"Content-Type": content}), 415)

    @pytest.mark.parametrize("encoding", ["gzip", "x" * 8000, b"\xff", ["identity", "gzip"]])
    def test_an_encoding(self, server: Server, encoding: Any) -> None:
        refused(server, request("/hooks/open", b"{}", {"Content-Encoding": encoding}), 415)

    @pytest.mark.parametrize(
        "query",
        ["%FF=%00", "&&&", "=", "a" * 3800, "a&" * 1900, "token=%00", "a[]=1&a[b]=2", "%zz", "?" * 50, "\\"],
    )
    def test_query_garbage(self, server: Server, query: str) -> None:
        refused(server, request(f"/hooks/nowhere?{query}"), 404)
        refused(server, request(f"/hooks/open?{query}", b"{"), 400)

    @pytest.mark.parametrize("host", ["..", "a" * 300, "a..b"])
    def test_a_host_that_is_none(self, server: Server, host: str) -> None:
        refused(server, request("/hooks/open", b"{}", {"Host": host}), 400)

    @pytest.mark.parametrize(
        "headers",
        [
            {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "x"},
            {"Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"},
            {"X-HTTP-Method-Override": "DELETE"},
            {"X-Forwarded-For": "\xff", "Forwarded": "for=\x7e"},
            {"Cookie": "session=" + "x" * 7000},
            {"Range": "bytes=0-"},
            {"If-Match": "*"},
            {"X-Hub-Signature-256": "x"},
        ],
    )
    def test_headers_that_change_nothing(self, server: Server, headers: dict[str, str]) -> None:
        refused(server, request("/hooks/open", b"{", headers), 400)


@pytest.mark.usefixtures("nothing_stored")
class TestRefusedByGunicorn:
    """What its parser does not take never reaches the bridge: its own answer, or a closed connection."""

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"\x00\x01\x02\r\n\r\n", id="garbage"),
            pytest.param(b"\x16\x03\x01\x02\x00\x01" + b"\x00" * 200 + b"\r\n\r\n", id="TLS"),
            pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
            pytest.param(b"POST /hooks/open\r\n\r\n", id="HTTP/0.9"),
            pytest.param(b"POST /hooks/open HTTP/9.9\r\n\r\n", id="HTTP/9.9"),
            pytest.param(hook(method="post"), id="a-method-in-lower-case"),
            pytest.param(request("/hooks/open x"), id="a-blank-in-the-path"),
            pytest.param(request(b"/hooks/\xff"), id="a-path-beyond-ASCII"),
            pytest.param(request(b"/hooks/open\x00"), id="NUL-in-the-path"),
            pytest.param(request("/hooks/" + "a" * 9000), id="a-long-path"),
            pytest.param(hook(headers={"X-A": b"a\x00b"}), id="NUL-in-a-header"),
            pytest.param(hook(headers={"X-A": b"a\nX-B: b"}), id="LF-in-a-header"),
            pytest.param(hook(headers={"X-A": b"a\rX-B: b"}), id="CR-in-a-header"),
            pytest.param(hook(headers={"X-A": b"a\r\n b"}), id="a-folded-header"),
            pytest.param(hook(headers={"X A": "b"}), id="a-blank-in-a-header's-name"),
            pytest.param(hook(headers={"X-A": "a" * 9000}), id="a-long-header"),
            pytest.param(hook(headers={"X-A": ["a"] * 200}), id="many-headers"),
            pytest.param(hook(headers={"Host": ["a", "b"]}), id="two-hosts"),
            pytest.param(hook(headers={"Content-Type": ["application/json"] * 2}), id="two-types"),
            pytest.param(hook(headers={"Expect": "magic"}), id="an-expectation"),
            pytest.param(hook(framing={"Content-Length": -1}), id="a-negative-length"),
            pytest.param(hook(framing={"Content-Length": "2x"}), id="no-length"),
            pytest.param(hook(framing={"Content-Length": "+2"}), id="a-signed-length"),
            pytest.param(hook(framing={"Content-Length": "\xb2"}), id="a-superscript-length"),
            pytest.param(hook(framing={"Content-Length": "9" * 5000}), id="a-long-length"),
            pytest.param(hook(framing={"Content-Length": [2, 2]}), id="two-lengths"),
            pytest.param(hook(framing={"Content-Length": "2, 2"}), id="two-lengths-in-one"),
            pytest.param(
                hook(chunks(b"{}"), framing={**CHUNKED, "Content-Length": 2}),
                id="chunks-and-a-length",
            ),
            pytest.param(hook(chunks(b"{}"), framing={"Transfer-Encoding": "gzip"}), id="gzip-transfer"),
            pytest.param(
                hook(chunks(b"{}"), framing={"Transfer-Encoding": "chunked, chunked"}),
                id="chunked-twice",
            ),
            pytest.param(
                hook(chunks(b"{}"), framing={"Transfer-Encoding": "chunked, identity"}),
                id="chunked-not-last",
            ),
            pytest.param(hook(chunks(b"{}"), framing={"Transfer-Encoding": "\x0bchunked"}), id="VT-chunked"),
            pytest.param(
                hook(chunks(b"{}"), framing=CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0"),
                id="chunks-in-HTTP/1.0",
            ),
        ],
    )
    def test_a_request_that_is_none(self, server: Server, data: bytes) -> None:
        found = exchange(server, data, end=True)
        assert len(found) <= 1
        for answer in found:
            assert 400 <= answer.status < 500 or answer.status in (501, 505), answer

    def test_a_connection_without_a_request(self, server: Server) -> None:
        assert exchange(server, b"", end=True) == []
        assert exchange(server, b"POST /hooks/op", end=True) == []
        assert exchange(server, b"POST /hooks/open HTTP/1.1\r\nHost: x\r\n", end=True) == []


class TestKeepAlive:
    """A refusal leaves the connection usable, or closes it; what it carried never becomes a request."""

    GOOD = request("/hooks/open", b'{"alerts":[]}')

    def test_a_good_request_after_each_refusal(self, server: Server) -> None:
        bad = [
            request("/hooks/open", b"{", close=False),
            request("/hooks/nowhere", b"{}" * 100, close=False),
            request("/hooks/closed", b"{}" * 100, close=False),
            request("/hooks/open", b"{}", {"Content-Type": "text/plain"}, close=False),
            request("/hooks/open", b"{}", method="PUT", close=False),
            request("/hooks/closed", chunks(b"{}" * 100), framing=CHUNKED, close=False),
            request("/nowhere", b"{}" * 100, close=False),
        ]
        with unharmed(server, events=len(bad) + 1):
            for data in bad:
                first, second = exchange(server, data + self.GOOD)
                assert first.is_problem
                assert second.status == 200
            found = exchange(server, b"".join(bad) + self.GOOD)
            assert [answer.status for answer in found] == [400, 404, 401, 415, 405, 401, 404, 200]

    def test_a_request_in_a_body_that_is_not_read(self, server: Server) -> None:
        with unharmed(server):
            for size in (0, 1_000, 200_000):
                inner = self.GOOD + b" " * size
                for path in ("/hooks/nowhere", "/hooks/closed", "/nowhere"):
                    (only,) = exchange(server, request(path, inner, close=False), end=True)
                    assert only.is_problem

    def test_a_request_behind_broken_chunks(self, server: Server) -> None:
        with unharmed(server):
            for body in (b"zz\r\n", b"5\r\n{}\r\n", b"2\r\n{}xx"):
                data = request("/hooks/open", body + self.GOOD, framing=CHUNKED, close=False)
                assert len(exchange(server, data, end=True)) == 1

    def test_a_large_body_that_is_not_read_closes_the_connection(self, server: Server) -> None:
        with unharmed(server):
            data = request("/hooks/nowhere", b" " * MEBIBYTE, close=False)
            (answer,) = exchange(server, data + self.GOOD)
            assert answer.status == 404

    def test_an_expectation_of_100(self, server: Server) -> None:
        with unharmed(server, events=1):
            first, second = exchange(server, request("/hooks/open", b"{}", {"Expect": "100-continue"}))
            assert (first.status, second.status) == (100, 200)

    def test_an_expectation_whose_body_never_comes(self, server: Server) -> None:
        """The refusal does not wait for it."""
        with unharmed(server):
            head = request("/hooks/closed", b"", {"Expect": "100-continue"}, framing={"Content-Length": 1000})
            found = exchange(server, head)
            assert [answer.status for answer in found] == [100, 401]


class TestLivesOn:
    """Whatever came before, and beside."""

    def test_senders_that_stop_half_way_do_not_stop_the_others(self, server: Server) -> None:
        with unharmed(server, events=1):
            halves = [
                request("/hooks/open", b'{"a', framing={"Content-Length": 100}),
                request("/hooks/open", b"2\r\n{", framing=CHUNKED),
                b"POST /hooks/open HTTP/1.1\r\nHost: x\r\n",
            ]
            connections = []
            for _ in range(10):
                for half in halves:
                    connections.append(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE))
                    connections[-1].sendall(half)
            (answer,) = exchange(server, request("/hooks/open", b"{}"))
            assert answer.status == 200
            for connection in connections:
                connection.close()

    def test_a_signed_push_is_taken(self, server: Server) -> None:
        with unharmed(server, events=1):
            (answer,) = exchange(server, github())
            assert answer.status == 202
            assert orjson.loads(answer.body)["jobs"]

    def test_no_secret_is_in_the_log(self, server: Server) -> None:
        assert "refused with 401" in server.log
        for name, value in VARIABLES.items():
            assert value not in server.log, name


def peak_memory(server: Server) -> int:
    """Bytes: the largest resident set so far of any of the server's processes."""
    peak = 0
    for path in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError, KeyError):  # it has ended, or is the kernel's
            fields = dict(line.split(":", 1) for line in path.read_text().splitlines())
            if int(fields["NSpgid"].split()[-1]) == server.pid:
                peak = max(peak, int(fields["VmHWM"].split()[0]) * 1024)
    if not peak:
        pytest.skip("this system does not tell a process's memory")
    return peak
