"""What strangers can cause on a running server without a secret: few log lines, and nobody else's refusal."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from bridge.intake.refusal_log import MAX_CLIENTS
from bridge.outbox.store import Outbox
from tests.support.intake import JSON_HEADERS, VARIABLES, github_headers, sample, signature, table
from tests.support.server import PATIENCE, Server
from tests.support.tables import wait_until

TABLE = """
sources:
  github: {secret: "${{ env.GITHUB_SECRET }}"}
  closed: {type: generic, bearer_token: "${{ env.TOKEN }}"}
routes:
  - {source: github, task: TASK, secret_key: KEY, task_arguments: ["${{ payload.ref }}"]}
"""

PUSH = sample("github/push.json")
GOOD = github_headers(PUSH)
BAD = {**GOOD, "X-Hub-Signature-256": signature(PUSH, "a wrong secret")}
#: That each request passes.
PROXIES = 2
#: Lines of one kind, on a machine so slow that a flood takes some minutes.
FEW = 20


def through(client: str, forged: str = "198.51.100.1, 198.51.100.2") -> dict[str, str]:
    """The header of a request that passed two proxies, and in which the client wrote what it liked before."""
    return {"X-Forwarded-For": f"{forged}, {client}, 10.0.0.1"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    config = tmp_path / "routes.yml"
    config.write_text(table(TABLE), "utf-8")
    environ = {
        **VARIABLES, "LOG_FORMAT": "text", "BRIDGE_TRUSTED_PROXIES": str(PROXIES), "BRIDGE_DELIVER": "false",
    }  # fmt: skip
    with Server(config, tmp_path / "bridge.db", environ) as running:
        yield running


def send(
    server: Server,
    path: str,
    headers: Mapping[str, str] = JSON_HEADERS,
    body: bytes = b"{}",
    *,
    times: int = 1,
    method: str = "POST",
) -> Counter[int]:
    """How many of the requests, which share a connection, were answered with each status."""
    statuses: Counter[int] = Counter()
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as connection:
        for _ in range(times):
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            response.read()
            statuses[response.status] += 1
    return statuses


def lines(server: Server, *parts: str) -> list[str]:
    """The lines of the log that hold each of these parts."""
    return [line for line in server.log.splitlines() if all(part in line for part in parts)]


def exchange(server: Server, data: bytes) -> bytes:
    """What is answered to these bytes until the connection ends."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def told(server: Server, status: int) -> tuple[int, int]:
    """How many lines the log has of requests refused with this status, and how many they speak of."""
    found = lines(server, f"refused with {status}: ")
    counts = [re.search(r": ([\d,]+) more of these in the last ", line) for line in found]
    return len(found), sum(int(count[1].replace(",", "")) if count else 1 for count in counts)


class TestLog:
    """Two lines a minute of each kind: the first request, and a count of the others."""

    def test_a_flood_of_404_is_few_lines_and_a_401_beside_it_is_seen(self, server: Server) -> None:
        for number in range(10):
            assert send(server, f"/hooks/nowhere-{number}", times=200) == {404: 200}
            send(server, "/hooks/closed", {**JSON_HEADERS, "Authorization": "Bearer wrong"})
            assert lines(
                server, "refused with 401: source closed: Authorization does not match; client 127.0.0.1"
            )
        server.stop()
        for status, requests in ((404, 2000), (401, 10)):
            many, spoken_of = told(server, status)
            assert many <= FEW
            assert spoken_of == requests, "the counts do not add up"

    def test_a_flood_of_unreadable_heads_is_few_lines(self, server: Server) -> None:
        for number in range(300):
            exchange(server, b"GARBAGE %d\r\n\r\n" % number)
        server.stop()
        many, spoken_of = told(server, 400)
        assert many <= FEW
        assert spoken_of == 300, "the counts do not add up"
        assert lines(server, "refused with 400: Invalid HTTP request line: 'GARBAGE 0'; client 127.0.0.1")

    def test_what_many_clients_cause_is_bounded(self, server: Server) -> None:
        for number in range(600):
            client = f"203.0.{number // 250}.{number % 250}"
            send(server, "/hooks/nowhere", {**JSON_HEADERS, **through(client)})
        assert told(server, 404)[0] <= MAX_CLIENTS + FEW

        send(server, "/hooks/github", {**BAD, **through("192.0.2.99")}, PUSH)
        assert lines(server, "refused with 401: source github: X-Hub-Signature-256", "client 192.0.2.99")


class TestClient:
    """Behind two proxies it is the second from the right, whatever a client writes on the left."""

    def test_it_is_in_the_line_of_each_refused_request_and_each_event(self, server: Server) -> None:
        send(server, "/hooks/github", {**GOOD, **through("203.0.113.9")}, PUSH)
        send(server, "/hooks/github", {**BAD, **through("[2001:db8::9]:4711")}, PUSH)
        send(server, "/hooks/nowhere", {**JSON_HEADERS, **through("203.0.113.10")})
        send(server, "/hooks/nowhere", {**JSON_HEADERS, "X-Forwarded-For": "203.0.113.11"})

        assert len(lines(server, "event 1: push ", "from github, client 203.0.113.9, new, jobs: 1")) == 1
        assert len(lines(server, "refused with 401", "; client 2001:db8::9")) == 1
        assert len(lines(server, "refused with 404", "; client 203.0.113.10")) == 1
        # It passed fewer proxies than there are: the client may have written the header itself.
        assert len(lines(server, "refused with 404", "; client 127.0.0.1")) == 1
        assert lines(server, "198.51.100.") == lines(server, "203.0.113.11") == []

    def test_it_is_among_the_refused_requests(self, server: Server) -> None:
        send(server, "/hooks/github", {**BAD, **through("203.0.113.9")}, PUSH)
        with closing(Outbox(server.database_url, beside_a_server=True)) as outbox:
            (refused,) = wait_until(outbox.refused, "the refused request")
        assert (refused.source, refused.status, refused.client) == ("github", 401, "203.0.113.9")

    def test_the_headers_of_proxies_change_no_path_and_cause_no_500(self, server: Server) -> None:
        """gunicorn itself obeys a proxy on the same machine, which may hand on what a client wrote."""
        for headers in (
            {"SCRIPT_NAME": "/x"},
            {"SCRIPT_NAME": "/healthz"},
            {"Script_Name": "/hooks", "PATH_INFO": "/healthz"},
            {"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "off"},
        ):
            assert send(server, "/healthz", headers, b"", method="GET") == {200: 1}, headers


class TestNoSourceIsSwitchedOff:
    def test_5000_bad_signatures_do_not_keep_a_good_one_out(self, server: Server) -> None:
        """GitHub sends nothing again: a limit on 401 would let a stranger switch a source off."""
        stranger = through("203.0.113.9")
        assert send(server, "/hooks/github", {**BAD, **stranger}, PUSH, times=5000) == {401: 5000}
        assert send(server, "/hooks/github", {**GOOD, **stranger}, PUSH) == {202: 1}
        assert told(server, 401)[0] <= FEW

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [("POST", "/hooks/nowhere", 404), ("GET", "/hooks/github", 405), ("GET", "/healthz", 200)],
    )
    def test_nor_do_other_requests_of_its_address(
        self, server: Server, method: str, path: str, status: int
    ) -> None:
        assert send(server, path, times=1000, method=method) == {status: 1000}
        assert send(server, "/hooks/github", GOOD, PUSH) == {202: 1}


class TestUnreadableHeads:
    """They reach no application: gunicorn's own answer would hold what the request held, in HTML."""

    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (b"GET /hooks/x?token=s3same HTTP/9.9\r\n\r\n", 400),
            (b"s3same\r\n\r\n", 400),
            (b"GET /healthz HTTP/1.1\r\ns3same\r\n\r\n", 400),
            (b"GET /healthz HTTP/1.1\r\ns3same: \x00\r\n\r\n", 400),
            (b"GET /" + b"s3same" * 1000 + b" HTTP/1.1\r\n\r\n", 414),
            (b"GET /healthz HTTP/1.1\r\nExpect: s3same\r\n\r\n", 417),
            (b"GET /healthz HTTP/1.1\r\nX: " + b"s3same" * 2000 + b"\r\n\r\n", 431),
            (b"GET /healthz HTTP/1.1\r\nTransfer-Encoding: s3same\r\n\r\n", 501),
        ],
        ids=["version", "line", "header", "value", "long line", "expectation", "long header", "coding"],
    )
    def test_the_answer_is_a_problem_that_echoes_nothing(
        self, server: Server, head: bytes, status: int
    ) -> None:
        raw = exchange(server, head)
        first, _, body = raw.partition(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nContent-Type: application/problem+json" in first
        assert b"\r\nConnection: close" in first
        assert json.loads(body)["status"] == status
        assert b"s3same" not in raw
        (line,) = lines(server, f"refused with {status}")
        assert len(line) < 400

    def test_its_log_line_is_masked(self, server: Server) -> None:
        exchange(server, b"token=s3same&%s\r\n\r\n" % VARIABLES["TOKEN"].encode())
        assert lines(server, "refused with 400: Invalid HTTP request line: 'token=<secret>&<secret>'")
        assert lines(server, "s3same") == lines(server, VARIABLES["TOKEN"]) == []
