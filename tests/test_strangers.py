"""What strangers can cause on a running server without a secret: few log lines, and nobody else's refusal."""

from __future__ import annotations

import http.client
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from bridge.outbox import Outbox
from bridge.refusal_log import MAX_CLIENTS
from tests.intake import JSON_HEADERS, VARIABLES, github_headers, sample, signature, table
from tests.server import PATIENCE, Server
from tests.tables import wait_until

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
