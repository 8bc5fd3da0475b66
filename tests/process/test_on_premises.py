"""TheEye on one's own premises, from the YAML to the job: its own CA, an HTTP proxy, http without TLS."""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from bridge.config.load import Loaded, load
from bridge.core.errors import ConfigError
from bridge.core.job import JobState, Outcome
from bridge.core.secrets import Mask, Secret
from bridge.http.client import HttpClient
from bridge.http.connection import tls_context
from bridge.process.watchdog import Watchdog
from bridge.sources.base.discovery import discover
from tests.process.test_http import OK, Server, answers
from tests.support.certificates import Certificates, make_certificates
from tests.support.delivery import TASK, Process, posts, probes
from tests.support.proxy import Proxy, TLSStandIn
from tests.support.tables import key_of, stand_in_task, wait_until
from tests.support.theeye import StandIn

TYPES = discover()
PASSWORD = "p@ss/word-of-the-proxy"
USER = f"bridge:{PASSWORD}"

TABLE = f"""\
theeye:
  customer: acme
  timeout: %s
%ssources:
  github:
    secret: ${{{{ env.GITHUB_SECRET }}}}
tasks:
  deploy:
    id: {TASK.id}
    secret_key: ${{{{ env.DEPLOY_KEY }}}}
routes:
  - {{source: github, event: push, task: deploy, task_arguments: [main]}}
"""


def load_table(folder: Path, theeye: str, proxy: str = "", timeout: str = "10s") -> Loaded:
    """The table with these lines below ``theeye:``; `proxy` is the variable THEEYE_PROXY."""
    config = folder / "table.yml"
    lines = "".join(f"  {line}\n" for line in theeye.splitlines())
    config.write_text(TABLE % (timeout, lines))
    variables = {"GITHUB_SECRET": "s1" * 16, "DEPLOY_KEY": key_of(TASK)}
    return load(config, variables | ({"THEEYE_PROXY": proxy} if proxy else {}), TYPES)


def problems_of(folder: Path, theeye: str, proxy: str = "") -> list[tuple[int, str, str | None]]:
    """The line, the message and the hint of each problem."""
    try:
        found = load_table(folder, theeye, proxy).problems
    except ConfigError as error:
        found = error.problems
    assert PASSWORD not in "".join(f"{each}{each.hint}" for each in found)
    return [(each.place.line, each.message, each.hint) for each in found]


def process_of(folder: Path, loaded: Loaded) -> Process:
    return Process(f"sqlite:///{folder / 'bridge.db'}", loaded.table, Mask(loaded.secrets))


def deliver(folder: Path, theeye: str, proxy: str = "") -> None:
    """Deliver one job by a table with these lines."""
    with closing(process_of(folder, load_table(folder, theeye, proxy)).start()) as process:
        process.wait_for(process.send(), JobState.ACCEPTED)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def secure(certificates: Certificates) -> Iterator[StandIn]:
    with TLSStandIn(certificates.server, ["acme"], [stand_in_task(TASK)]) as stand_in:
        yield stand_in


@pytest.fixture
def plain() -> Iterator[StandIn]:
    with StandIn(["acme"], [stand_in_task(TASK)]) as stand_in:
        yield stand_in


def port_of(theeye: StandIn) -> int:
    return int(theeye.url.rpartition(":")[2])


class TestCAFile:
    def test_a_job_reaches_a_server_of_that_ca(
        self, tmp_path: Path, secure: StandIn, certificates: Certificates
    ) -> None:
        """The path is relative to the YAML file."""
        (tmp_path / "ca").mkdir()
        (tmp_path / "ca" / "own.pem").write_text("# é is no ASCII\n" + Path(certificates.bundle).read_text())
        deliver(tmp_path, f"url: {secure.url}\nca_file: ca/own.pem")

    def test_it_is_read_again_with_the_table_and_ends_the_outage(
        self, tmp_path: Path, secure: StandIn, certificates: Certificates
    ) -> None:
        without = load_table(tmp_path, f"url: {secure.url}")
        with closing(process_of(tmp_path, without).start()) as process:
            job = process.send()
            (attempt, *_) = process.wait_for_attempts(job, 1)
            assert attempt.outcome is Outcome.UNAVAILABLE
            assert "certificate verify failed" in str(attempt.detail)
            wait_until(lambda: process.delivery.trouble, "the outage")
            of_ca = f"url: {secure.url}\nca_file: {certificates.bundle}"
            process.delivery.use(load_table(tmp_path, of_ca).table)
            assert process.delivery.trouble is None
            process.wait_for(job, JobState.ACCEPTED)

    def test_it_replaces_the_public_ones(self, tmp_path: Path, certificates: Certificates) -> None:
        trust = load_table(tmp_path, f"ca_file: {certificates.bundle}").table.theeye.trust
        assert trust is not None
        assert len(trust.get_ca_certs()) == 1

    @pytest.mark.parametrize(
        ("name", "problem", "hint"),
        [
            ("none.pem", "cannot be read: No such file or directory", "the path is relative to {folder}"),
            ("folder", "cannot be read: Is a directory", "the path is relative to {folder}"),
            ("key.pem", "has no certificate in PEM", "it must contain -----BEGIN CERTIFICATE-----"),
            ("empty.pem", "has no certificate in PEM", "it must contain -----BEGIN CERTIFICATE-----"),
            ("broken.pem", "has no certificate in PEM", "it must contain -----BEGIN CERTIFICATE-----"),
        ],
    )
    def test_a_file_that_is_of_no_use_is_reported(
        self, tmp_path: Path, name: str, problem: str, hint: str
    ) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        (tmp_path / "empty.pem").write_text("")
        (tmp_path / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n")
        assert problems_of(tmp_path, f"ca_file: {name}") == [
            (4, f"ca_file: '{name}' {problem}", hint.format(folder=tmp_path))
        ]


class TestProxy:
    @pytest.fixture
    def proxy(self, secure: StandIn) -> Iterator[Proxy]:
        with Proxy(port_of(secure)) as proxy:
            yield proxy

    def test_a_job_and_a_probe_go_through_its_tunnel(
        self, tmp_path: Path, secure: StandIn, proxy: Proxy, certificates: Certificates
    ) -> None:
        text = f"url: {secure.url}\nca_file: {certificates.bundle}\nproxy: {proxy.url}"
        loaded = load_table(tmp_path, text)
        proxy.reply = b"HTTP/1.1 503 Maintenance\r\n\r\n"
        with closing(process_of(tmp_path, loaded).start()) as process:
            job = process.send()
            (attempt,) = process.wait_for_attempts(job, 1)
            assert attempt.outcome is Outcome.UNAVAILABLE, "nothing was sent, so nothing is unknown"
            assert attempt.detail == f"the proxy {proxy.address}: Tunnel connection failed: 503 Maintenance"
            wait_until(lambda: process.delivery.trouble, "the outage")
            proxy.reply = None
            process.wait_for(job, JobState.ACCEPTED)
        assert len(posts(secure)) == 1
        assert probes(secure)
        assert {head.split(b"\r\n")[0] for head in proxy.heads} == {
            f"CONNECT 127.0.0.1:{port_of(secure)} HTTP/1.0".encode()
        }
        assert key_of(TASK).encode() not in b"".join(proxy.heads)

    @pytest.mark.parametrize("is_secure", [True, False])
    def test_its_connection_is_used_for_several_requests(
        self, certificates: Certificates, is_secure: bool
    ) -> None:
        trust = tls_context(certificates.bundle)
        with ExitStack() as opened:
            server = Server(answers(OK), certificates.server if is_secure else None)
            opened.callback(server.stop)
            proxy = opened.enter_context(Proxy(server.port))
            watchdog = opened.enter_context(closing(Watchdog()))
            client = opened.enter_context(closing(HttpClient(watchdog)))
            url = server.url.partition("/job")[0]
            for _ in range(3):
                client.use(trust, Secret(proxy.url))
                assert client.post(f"{url}/job", {}, b"{}", 10.0).status == 200
                assert client.get(f"{url}/", {}, 10.0).status == 200
            assert (len(proxy.heads), server.connections) == (1, 1)

    @pytest.mark.parametrize(
        ("reply", "detail"),
        [
            (b"HTTP/1.1 407 Who are you\r\n\r\n", "Tunnel connection failed: 407 Who are you"),
            (b"", "Remote end closed connection without response"),
        ],
    )
    def test_an_attempt_that_it_refuses_is_not_sent(
        self, tmp_path: Path, secure: StandIn, proxy: Proxy, reply: bytes, detail: str
    ) -> None:
        proxy.reply = reply
        loaded = load_table(tmp_path, f"url: {secure.url}\nproxy: {proxy.url}")
        with closing(process_of(tmp_path, loaded).start()) as process:
            (attempt, *_) = process.wait_for_attempts(process.send(), 1)
        assert attempt.outcome is Outcome.UNAVAILABLE
        assert attempt.detail == f"the proxy {proxy.address}: {detail}"

    def test_one_that_says_nothing_costs_no_unknown_job(self, tmp_path: Path, secure: StandIn) -> None:
        with Proxy(port_of(secure)) as proxy:
            proxy._serve = lambda sock: None  # type: ignore[method-assign]  # reads and answers nothing
            loaded = load_table(tmp_path, f"url: {secure.url}\nproxy: {proxy.url}", timeout="1s")
            with closing(process_of(tmp_path, loaded).start()) as process:
                job = process.send()
                (attempt, *_) = process.wait_for_attempts(job, 1)
        assert attempt.outcome is Outcome.UNAVAILABLE
        assert attempt.detail == f"no answer of the proxy {proxy.address} within 1 s"

    def test_one_that_does_not_listen_is_named(self, tmp_path: Path, secure: StandIn) -> None:
        with Proxy(port_of(secure)) as gone:
            pass
        loaded = load_table(tmp_path, f"url: {secure.url}\nproxy: {gone.url}")
        with closing(process_of(tmp_path, loaded).start()) as process:
            (attempt, *_) = process.wait_for_attempts(process.send(), 1)
        assert attempt.detail == f"no connection to the proxy {gone.address}: connection refused"

    def test_its_password_comes_from_a_variable_and_is_masked(
        self,
        tmp_path: Path,
        secure: StandIn,
        proxy: Proxy,
        certificates: Certificates,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        url = f"http://bridge:p%40ss%2Fword-of-the-proxy@{proxy.address}"
        text = f"url: {secure.url}\nca_file: {certificates.bundle}\nproxy: ${{{{ env.THEEYE_PROXY }}}}"
        deliver(tmp_path, text, proxy=url)
        pair = b64encode(USER.encode()).decode()
        assert f"Proxy-Authorization: Basic {pair}".encode() in proxy.heads[0]
        loaded = load_table(tmp_path, text, proxy=url)
        mask = Mask(loaded.secrets)
        for secret in (PASSWORD, USER, pair, "p%40ss%2Fword-of-the-proxy"):
            assert secret not in mask(f"the proxy said {secret}!")
            assert secret not in caplog.text + repr(loaded)

    @pytest.mark.parametrize(
        "proxy",
        ["https://proxy:1", "proxy:3128", "http://", "http://proxy:x", "http://a:b@", "socks5://proxy:1",
         "http://proxy:1/path", "http://proxy:1?x", f"http://{USER}@proxy:1", "http://a b"],
    )  # fmt: skip
    def test_another_url_is_reported_without_its_value(self, tmp_path: Path, proxy: str) -> None:
        (problem,) = problems_of(tmp_path, "proxy: ${{ env.THEEYE_PROXY }}", proxy)
        assert problem == (
            4,
            "proxy: found no URL of an HTTP proxy, expected http://host:port",
            "such as http://proxy.internal:3128; in a password write @ as %40, and / as %2F",
        )

    def test_a_password_in_the_table_is_an_error(self, tmp_path: Path) -> None:
        assert problems_of(tmp_path, "proxy: http://bridge:literal-password@proxy:3128") == [
            (
                4,
                "proxy: found a literal secret, expected ${{ env.NAME }}",
                "write proxy: ${{ env.THEEYE_PROXY }} and set the variable THEEYE_PROXY to the URL",
            )
        ]

    def test_variables_for_proxies_change_nothing(
        self, tmp_path: Path, plain: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        deliver(tmp_path, f"url: {plain.url}")


class TestPlainHTTP:
    @pytest.mark.parametrize(
        "host", ["10.0.0.1", "192.168.1.9", "172.16.0.1", "169.254.1.1", "[fd00::1]", "[fe80::1]", "theeye",
                 "theeye.local", "theeye.office.lan", "theeye.internal"],
    )  # fmt: skip
    def test_an_address_of_a_local_network_needs_a_line_and_is_warned_about(
        self, tmp_path: Path, host: str
    ) -> None:
        assert problems_of(tmp_path, f"url: http://{host}:8080") == [
            (
                4,
                "url: found http, expected https: task keys are in the URL's path",
                "write https://, or allow_http: true below theeye: if you trust that whole network",
            )
        ]
        assert problems_of(tmp_path, f"url: http://{host}:8080\nallow_http: true") == [
            (
                4,
                "url: task keys are in the URL's path, and http is not encrypted: anyone in that network "
                "can read them",
                "write https:// and, for your own CA, ca_file:",
            )
        ]

    @pytest.mark.parametrize("host", ["8.8.8.8", "theeye.example", "[2001:4860::1]", "local.example"])
    def test_any_other_address_stays_an_error(self, tmp_path: Path, host: str) -> None:
        for more in ("", "\nallow_http: true", "\nallow_http: false"):
            assert problems_of(tmp_path, f"url: http://{host}:8080{more}") == [
                (4, "url: found http, expected https: task keys are in the URL's path", "write https://")
            ]

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
    def test_this_machine_needs_the_line_too_behind_a_proxy(self, tmp_path: Path, host: str) -> None:
        text = f"url: http://{host}:1\nproxy: http://10.0.0.1:3128"
        ((_, _, hint),) = problems_of(tmp_path, text)
        assert "allow_http: true" in str(hint)
        ((_, message, _),) = problems_of(tmp_path, f"{text}\nallow_http: true")
        assert "anyone in that network" in message

    @pytest.mark.parametrize("url", ["HTTPS://theeye.example", "https://8.8.8.8"])
    def test_https_is_never_an_error(self, tmp_path: Path, url: str) -> None:
        assert problems_of(tmp_path, f"url: {url}\nallow_http: true") == []

    def test_this_machine_needs_no_line(self, tmp_path: Path, plain: StandIn) -> None:
        assert problems_of(tmp_path, f"url: {plain.url}") == []
        deliver(tmp_path, f"url: {plain.url}")

    def test_a_job_is_sent_through_a_proxy_that_forwards(self, tmp_path: Path, plain: StandIn) -> None:
        """The name theeye.internal is known to the proxy alone."""
        with Proxy(port_of(plain)) as proxy:
            text = f"url: http://theeye.internal:8080\nallow_http: true\nproxy: {proxy.url}"
            deliver(tmp_path, text)
        lines = [head.split(b"\r\n") for head in proxy.heads]
        (first,) = {line[0].partition(b" HTTP")[0] for line in lines}
        assert first == (f"POST http://theeye.internal:8080/job/secret/{key_of(TASK)}?customer=acme".encode())
        assert b"Host: theeye.internal:8080" in lines[0]

    def test_a_407_of_such_a_proxy_is_an_outage_that_a_probe_ends(
        self, tmp_path: Path, plain: StandIn
    ) -> None:
        with Proxy(port_of(plain)) as proxy:
            proxy.reply = b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n"
            text = f"url: http://theeye.internal\nallow_http: true\nproxy: {proxy.url}"
            with closing(process_of(tmp_path, load_table(tmp_path, text)).start()) as process:
                job = process.send()
                (attempt, *_) = process.wait_for_attempts(job, 1)
                assert (attempt.outcome, attempt.status) == (Outcome.UNAVAILABLE, 407)
                wait_until(lambda: len(proxy.heads) > 2, "two probes")
                assert len([head for head in proxy.heads if head.startswith(b"POST")]) == 1
                proxy.reply = None
                process.wait_for(job, JobState.ACCEPTED)
        assert b"GET http://theeye.internal/ HTTP/1.1" in {head.split(b"\r\n")[0] for head in proxy.heads}
