"""The nginx configurations of docs/how-to/nginx.md, in front of a running bridge."""

from __future__ import annotations

import grp
import http.client
import os
import pwd
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from bridge.outbox.store import Outbox
from bridge.server import gunicorn_config as settings
from bridge.web.page.sign_in import FREE_TRIES
from tests.conftest import lacks
from tests.store.page.conftest import PASSWORD
from tests.support.daemon import PATIENCE, find_program, free_port, hold_port
from tests.support.documents import code_blocks
from tests.support.nginx import Nginx
from tests.support.page import PageClient, token_of
from tests.support.server import Server
from tests.support.tables import wait_until

COMPLETE, PAGE, ALLOW_LIST, CLIENT_CERTIFICATE = code_blocks("docs/how-to/nginx.md", "nginx")
_, CERTIFICATES = code_blocks("docs/how-to/nginx.md", "sh")

TOKEN = "a-token-that-no-log-may-have"

TABLE = """
theeye: {customer: acme}
sources:
  alerts: {type: generic, token: "${{ env.TOKEN }}", header: X-Token}
  other: {type: generic, token: "${{ env.TOKEN }}", header: X-Token}
routes:
  - source: alerts
    task: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.KEY }}
    task_arguments: []
"""

#: More requests than the bridge has threads.
STALLED = settings.threads + 16


@pytest.fixture(scope="module")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("bridge")
    (folder / "table.yml").write_text(TABLE)
    environ = {
        "TOKEN": TOKEN, "KEY": "k1" * 32, "BRIDGE_DELIVER": "false", "BRIDGE_TRUSTED_PROXIES": "1",
        "BRIDGE_ADMIN_PASSWORD": PASSWORD,
    }  # fmt: skip
    with Server(folder / "table.yml", folder / "bridge.db", environ) as server:
        yield server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what the documented commands make, and a certificate of the server."""
    folder = tmp_path_factory.mktemp("certificates")
    new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc"
    own = new + " -subj /CN={0} -keyout {0}.key -out {0}.pem"
    for commands in (CERTIFICATES, own.format("bridge"), own.format("stranger")):
        subprocess.run(["sh", "-ec", commands], cwd=folder, check=True, capture_output=True)
    return folder


@dataclass(frozen=True)
class Front:
    """nginx in front of the bridge."""

    port: int
    #: That of the health checks.
    private: int
    #: Where it writes.
    folder: Path

    def post(
        self,
        path: str = "/hooks/alerts",
        text: str = "",
        *,
        token: str = TOKEN,
        address: str = "127.0.0.1",
        certificate: Path | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """The status of a webhook that was not sent before; it comes from `address`."""
        body = orjson.dumps({"id": uuid4().hex, "text": text})
        with closing(self._tls(address, certificate)) as connection:
            types = {"Content-Type": "application/json", "X-Token": token}
            connection.request("POST", path, body, types | dict(headers or {}))
            return connection.getresponse().status

    def page(self, address: str) -> PageClient:
        """A person at the page, from `address`."""
        return PageClient(self._tls(address))

    def get(self, path: str, *, private: bool) -> int:
        of_private = http.client.HTTPConnection("127.0.0.1", self.private, timeout=PATIENCE)
        with closing(of_private if private else self._tls()) as connection:
            connection.request("GET", path)
            return connection.getresponse().status

    def connect(self) -> ssl.SSLSocket:
        """A connection on which nothing was sent."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        return _unverified().wrap_socket(plain)

    def _tls(self, address: str = "127.0.0.1", certificate: Path | None = None) -> http.client.HTTPConnection:
        context = _unverified()
        if certificate is not None:
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=context, source_address=(address, 0), timeout=PATIENCE
        )


@pytest.fixture
def start(bridge: Server, certificates: Path, tmp_path: Path) -> Iterator[Callable[..., Front]]:
    """Starts nginx with the complete configuration, and the lines of `added` in its public server.

    With `page`, these lines are in the place of its last location.
    """
    if find_program("nginx") is None:
        lacks("nginx")
    with ExitStack() as running:

        def start(added: str = "", upstream: int = bridge.port, *, page: bool = False) -> Front:
            front = Front(free_port(running), free_port(running), tmp_path)
            hooks, others = (
                "        location /hooks/ {\n",
                "        location / {\n            return 404;\n        }\n",
            )
            place = others if page else hooks
            assert place in COMPLETE
            config = COMPLETE.replace(place, added if page else f"{added}\n{hooks}", 1)
            if added:
                config = config.replace("192.0.2.10", "127.0.0.1")
            user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
            elsewhere = "".join(
                f"{kind}_temp_path {tmp_path / kind};\n"
                for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            for name in ("bridge.pem", "bridge.key", "senders-ca.pem"):
                (tmp_path / name).write_bytes((certificates / name).read_bytes())
            config = replaced(
                config,
                {
                    "user www-data;": f"user {user} {group};",
                    "http {\n": f"http {{\n{elsewhere}",
                    "/var/log/nginx/": f"{tmp_path}/",
                    "/etc/nginx/": f"{tmp_path}/",
                    "127.0.0.1:8000": f"127.0.0.1:{upstream}",
                    "127.0.0.1:8081": f"127.0.0.1:{front.private}",
                    "listen 443 ssl": f"listen 127.0.0.1:{front.port} ssl",
                },
            )
            running.enter_context(Nginx(config, tmp_path, front.port))
            return front

        yield start


def replaced(text: str, replacements: dict[str, str]) -> str:
    """The text with other ports and paths; each must occur in it."""
    for old, new in replacements.items():
        assert old in text, f"docs/how-to/nginx.md has no {old!r} any more"
        text = text.replace(old, new)
    return text


def connections_to(port: int) -> int:
    """How many connections to a port of this machine are open."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    peers = [(line.split()[2], line.split()[3]) for line in lines]
    return sum(peer.endswith(f":{port:04X}") and state == "01" for peer, state in peers)


def events_of(bridge: Server) -> int:
    with closing(Outbox(bridge.database_url, beside_a_server=True)) as outbox:
        return len(outbox.events(limit=1000))


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_the_bridge_gets_only_whole_requests(bridge: Server, start: Callable[..., Front]) -> None:
    front = start()
    head = f"POST /hooks/alerts HTTP/1.1\r\nHost: x\r\nX-Token: {TOKEN}\r\nContent-Type: application/json\r\n"
    with ExitStack() as opened:
        stalled = [opened.enter_context(closing(front.connect())) for _ in range(STALLED)]
        for number, connection in enumerate(stalled):
            connection.sendall(
                [b"", b"P", head.encode(), f"{head}Content-Length: 2\r\n\r\n{{".encode()][number % 4]
            )
        assert front.post() == 202
        assert connections_to(bridge.port) == 0
        assert front.get("/healthz", private=True) == 200

        stalled[-1].sendall(b"}")
        assert stalled[-1].recv(64).startswith(b"HTTP/1.1 202 ")


def test_a_large_body_passes(start: Callable[..., Front]) -> None:
    assert start().post(text="x" * 2 * 1024**2) == 202


def test_a_refusal_of_a_large_body_arrives(start: Callable[..., Front]) -> None:
    """The bridge refuses a wrong token before it has read the body."""
    front = start()
    sizes = [(2 + number % 7) * 1024**2 for number in range(30)]
    statuses = [front.post(text="x" * size, token="wrong") for size in sizes]
    assert statuses == [401] * len(sizes)


def test_a_forged_address_is_replaced(bridge: Server, start: Callable[..., Front]) -> None:
    assert start().post(address="127.0.0.2", headers={"X-Forwarded-For": "192.0.2.1"}) == 202

    with closing(Outbox(bridge.database_url, beside_a_server=True)) as outbox:
        newest = outbox.event(outbox.events(limit=1)[0].id)
    assert newest is not None
    assert newest.headers["X-Forwarded-For"] == "127.0.0.2"


def test_health_checks_are_private(start: Callable[..., Front]) -> None:
    front = start()

    for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 401)):
        assert front.get(path, private=True) == status
        assert front.get(path, private=False) == 404
        assert front.get(f"/hooks/..{path}", private=False) == 404
        assert front.get(f"/hooks/%2e%2e{path}", private=False) == 404
    assert front.get("/hooks/alerts", private=True) == 404


def test_the_page_knows_that_the_browser_uses_tls(start: Callable[..., Front]) -> None:
    front = start(PAGE, page=True)
    with closing(front.page("127.0.0.1")) as person:
        cookie = person.get("/sign-in", {"X-Forwarded-Proto": "http"}).headers["Set-Cookie"]
        assert {"Secure", "HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
        # Without a host: the browser stays at this one, with TLS.
        assert person.get("/jobs?state=dead").location == "/sign-in?next=/jobs?state%3Ddead"
        assert person.sign_in(PASSWORD).location == "/"
        nothing = person.text("/events?source=alerts&q=nobody-sends-this-id")
        assert f"https://127.0.0.1:{front.port}/hooks/alerts" in nothing
        list_url = f"https://127.0.0.1:{front.port}/events?tab=none"
        confirm = person.get("/change?order=replay&tab=none", {"Referer": list_url}).text
        assert f'href="{list_url}">Back</a>' in confirm
        elsewhere = {"Referer": list_url.replace("127.0.0.1", "127.0.0.1.example.org")}
        assert 'href="/">Back</a>' in person.get("/change?order=replay", elsewhere).text
        pause = {"kind": "route", "name": "alerts * 5f3c9a7be4b0a1c2d3e4f501", "order": "pause"}
        assert person.post("/pause", pause).status == 400
        for order in ("pause", "resume"):
            form = {**pause, "order": order, "csrf_token": token_of(confirm)}
            assert person.post("/pause", form, {"Referer": list_url}).location == "/routes"
        for path in ("/healthz", "/readyz", "/metrics", "//metrics", "/%6detrics", "/hooks/../metrics"):
            assert person.get(path).status == 404, path
    with closing(front.page("127.0.0.2")) as stranger:
        assert stranger.get("/").status == 403


def test_wrong_passwords_slow_down_the_client_and_not_the_proxy(start: Callable[..., Front]) -> None:
    front = start(PAGE.replace("198.51.100.0/24", "127.0.0.0/8"), page=True)
    with closing(front.page("127.0.0.2")) as attacker, closing(front.page("127.0.0.3")) as person:
        forged = [{"X-Forwarded-For": f"192.0.2.{number}"} for number in range(FREE_TRIES + 2)]
        statuses = [attacker.sign_in("wrong", each).status for each in forged]
        assert statuses == [403] * (FREE_TRIES + 1) + [429]
        assert person.sign_in(PASSWORD).status == 303


def test_only_listed_addresses_send(bridge: Server, start: Callable[..., Front]) -> None:
    front = start(ALLOW_LIST)

    assert front.post() == 202
    assert front.post("/hooks/other", address="127.0.0.2") == 200
    before = events_of(bridge)
    assert front.post(address="127.0.0.2") == 403
    for path in (
        "/hooks/alerts?a=b",
        "/hooks/%61lerts",
        "/hooks//alerts",
        "//hooks/alerts",
        "/hooks/./alerts",
        "/hooks/other/../alerts",
        "/hooks/alerts/",
        "/hooks/alerts%2F",
        "/hooks/alerts//?a=b",
        "/hooks/alerts/.",
        "/hooks/%2561lerts",
    ):
        assert front.post(path, address="127.0.0.2") in (403, 404), path
    assert events_of(bridge) == before


def test_only_clients_with_a_certificate_send(
    bridge: Server, start: Callable[..., Front], certificates: Path
) -> None:
    front = start(CLIENT_CERTIFICATE)

    assert front.post(certificate=certificates / "alertmanager.pem") == 202
    assert front.post("/hooks/other") == 200
    before = events_of(bridge)
    assert front.post() == 403
    assert front.post("/hooks/%61lerts") == 403
    assert front.post("/hooks/alerts/") == 403
    assert front.post(certificate=certificates / "stranger.pem") == 400
    assert events_of(bridge) == before


def test_no_query_string_is_in_its_logs(start: Callable[..., Front]) -> None:
    asked = f"?token={TOKEN}"
    front = start(ALLOW_LIST)
    assert front.post(f"/hooks/alerts{asked}") == 202
    assert front.post(f"/hooks/alerts{asked}", token="") == 401
    assert front.post(f"/hooks/alerts{asked}", address="127.0.0.2") == 403
    assert front.post(f"/elsewhere{asked}") == 404
    assert front.post(f"/hooks/alerts{asked}", headers={"Content-Length": str(26 * 1024**2)}) == 413
    assert front.post(f"/hooks/alerts{asked}", headers={"Host": "a b"}) == 400

    assert logged_statuses(front, 6) == ["202", "401", "403", "404", "413", "400"]
    assert_no_token(front)


def test_no_query_string_is_logged_while_the_bridge_is_away(start: Callable[..., Front]) -> None:
    with hold_port() as upstream:
        front = start(upstream=upstream.getsockname()[1])
        assert front.post(f"/hooks/alerts?token={TOKEN}") == 502

    assert logged_statuses(front, 1) == ["502"]
    assert_no_token(front)


def logged_statuses(front: Front, requests: int) -> list[str]:
    """The statuses in the access log, which has a request only after its answer was sent."""
    log = front.folder / "access.log"
    wait_until(lambda: log.read_text().count("\n") >= requests, f"{requests} lines of the access log")
    return [line.rpartition('" ')[2].split()[0] for line in log.read_text().splitlines()]


def assert_no_token(front: Front) -> None:
    for log in front.folder.glob("*.log"):
        assert TOKEN not in log.read_text(), log.name
