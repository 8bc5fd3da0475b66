"""``send``: a webhook signed as its sender would, posted to the real server, and its answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.cli import main
from bridge.cli import send as sending
from bridge.core.errors import AnswerLost
from bridge.core.event import Headers
from tests.support.intake import FIXTURES, VARIABLES, basic, sample, signature, table
from tests.support.server import Server

TABLE = table("""
sources:
  github: {secret: ["${{ env.GITHUB_SECRET }}", "${{ env.GITHUB_SECRET_OLD }}"]}
  alerts: {type: alertmanager, bearer_token: "${{ env.TOKEN }}"}
  alerts-basic:
    {type: alertmanager, basic_auth: {username: "${{ env.USERNAME }}", password: "${{ env.PASSWORD }}"}}
  token: {type: generic, header: X-Shared, token: "${{ env.TOKEN }}"}
  bearer: {type: generic, bearer_token: "${{ env.TOKEN }}"}
  basic: {type: generic, basic_auth: {username: maria, password: "${{ env.PASSWORD }}"}}
  both: {type: generic, header: X-Shared, token: "${{ env.TOKEN }}", bearer_token: "${{ env.TOKEN_OLD }}"}
  either: {type: generic, any_of: {basic_auth: {username: maria, password: "${{ env.PASSWORD }}"},
    bearer_token: "${{ env.TOKEN }}"}}
  open: {type: generic, allow_unsigned: true}
routes:
  - {name: deploy, source: github, event: push, task: TASK, secret_key: KEY, task_arguments: []}
""")

SECRETS = {**VARIABLES, "USERNAME": "marius"}

PUSH, ALERTS, ORDER = (
    str(FIXTURES / path)
    for path in ("github/push.json", "alertmanager/firing.json", "generic/event__order.json")
)

#: How each source is sent to: its options and its file.
SENT = [
    ("github", ("--event", "push"), PUSH),
    ("github", ("--event", "pull_request.opened"), str(FIXTURES / "github/pull_request.opened.json")),
    ("alerts", (), ALERTS),
    ("alerts-basic", (), ALERTS),
    *((name, (), ORDER) for name in ("token", "bearer", "basic", "both", "either", "open")),
]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("send") / "table.yml"
    path.write_text(TABLE)
    return path


@pytest.fixture(scope="module")
def server(config: Path) -> Iterator[Server]:
    with Server(config, config.with_name("bridge.db"), SECRETS) as running:
        yield running


@dataclass
class Recorder:
    """Answers every POST alike, and keeps what came."""

    port: int = 0
    status: int = 200
    body: bytes = b""
    came: list[tuple[str, Headers, bytes]] = field(default_factory=list)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            recorder.came.append((self.path, Headers(self.headers.items()), body))
            self.send_response(recorder.status)
            self.send_header("Content-Length", str(len(recorder.body)))
            self.end_headers()
            self.wfile.write(recorder.body)

        def log_message(self, *arguments: object) -> None:
            """Nothing in the tests' output."""

    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        recorder.port = httpd.server_port
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield recorder
        finally:
            httpd.shutdown()
            thread.join()


def run(
    config: Path, port: int, *arguments: str, stdin: bytes | None = None, environ: Mapping[str, str] = SECRETS
) -> Result:
    """``send`` with these arguments, where `environ` holds all that is set of the table's variables."""
    unset = dict.fromkeys((*SECRETS, *(f"{name}_FILE" for name in SECRETS)))
    given = {"BRIDGE_CONFIG": str(config), "PORT": str(port)}
    return CliRunner().invoke(main, ("send", *arguments), input=stdin, env={**unset, **given, **environ})


def shows_a_secret(output: str) -> bool:
    secret = (
        SECRETS[name] for name in ("GITHUB_SECRET", "GITHUB_SECRET_OLD", "TOKEN", "TOKEN_OLD", "PASSWORD")
    )
    return any(text in output for text in secret)


@pytest.mark.parametrize(("source", "options", "file"), SENT)
def test_the_bridge_takes_what_is_sent(
    config: Path, server: Server, source: str, options: tuple[str, ...], file: str
) -> None:
    result = run(config, server.port, "--source", source, *options, file)
    status = 202 if "push" in options else 200
    assert result.output.startswith(f"{status} from {server.url}/hooks/{source}\n{{"), result.output
    assert ('"route":"deploy"' in result.output) == (status == 202)
    assert result.exit_code == 0
    assert not shows_a_secret(result.output)


@pytest.mark.parametrize(("source", "options", "file"), [each for each in SENT if each[0] != "open"])
def test_a_wrong_secret_is_refused(
    config: Path, server: Server, source: str, options: tuple[str, ...], file: str
) -> None:
    wrong = {**{name: f"not {value}" for name, value in SECRETS.items()}, "TASK_KEY": VARIABLES["TASK_KEY"]}
    result = run(config, server.port, "--source", source, *options, file, environ=wrong)
    assert result.output.startswith(f"401 from {server.url}/hooks/{source}\n"), result.output
    assert "hint: this shell's secret may differ from the server's" in result.stderr
    assert "The request is not authentic" in result.output
    assert result.exit_code == 1
    assert "not <secret>" not in result.output
    assert not shows_a_secret(result.output)


def test_what_is_sent_is_the_senders_own(config: Path, recorder: Recorder) -> None:
    body = b'{"ref" : "\xc3\xa9"}\r\n'
    run(config, recorder.port, "--source", "github", "--event", "push.made", "-", stdin=body)
    run(config, recorder.port, "--source", "alerts-basic", ALERTS)
    run(config, recorder.port, "--source", "both", ORDER)
    (github, alerts, both) = recorder.came
    assert (github[0], github[2]) == ("/hooks/github", body)
    assert github[1]["X-Hub-Signature-256"] == signature(body)
    assert github[1]["X-GitHub-Event"] == "push"
    assert github[1]["Content-Type"] == "application/json"
    assert (alerts[0], alerts[2]) == ("/hooks/alerts-basic", sample("alertmanager/firing.json"))
    assert alerts[1]["Authorization"] == basic("marius", VARIABLES["PASSWORD"])["Authorization"]
    assert both[1]["X-Shared"] == VARIABLES["TOKEN"]
    assert both[1]["Authorization"] == f"Bearer {VARIABLES['TOKEN_OLD']}"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("", "/hooks/open"),
        ("/", "/hooks/open"),
        ("/bridge/", "/bridge/hooks/open"),
        ("/?a=b#c", "/hooks/open?a=b"),
        ("/hooks/another?a=b", "/hooks/another?a=b"),
        ("/x/hooks/another/", "/x/hooks/another/"),
    ],
)
def test_the_url_is_the_bridges_or_the_webhooks_own(
    config: Path, recorder: Recorder, url: str, path: str
) -> None:
    where = f"http://127.0.0.1:{recorder.port}"
    result = run(config, 1, "--source", "open", "--url", f"{where}{url}", ORDER)
    assert [each[0] for each in recorder.came] == [path]
    assert result.output == f"200 from {where}{path}\n"


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000",
        "localhost",
        "ftp://127.0.0.1",
        "http://",
        "http://[::1",
        "http://a:b",
        "http://u:pa55@a",
    ],
)
def test_what_is_no_url_is_a_usage_error(config: Path, url: str) -> None:
    result = run(config, 1, "--source", "open", "--url", url, ORDER)
    assert result.exit_code == 2
    assert "Invalid value for --url" in result.output
    assert "pa55" not in result.output


@pytest.mark.parametrize(("status", "code"), [(200, 0), (202, 0), (299, 0), (301, 1), (404, 1), (503, 1)])
def test_only_2xx_is_success(config: Path, recorder: Recorder, status: int, code: int) -> None:
    recorder.status = status
    result = run(config, recorder.port, "--source", "open", ORDER)
    assert (result.exit_code, f"{status} from http" in result.output) == (code, True)
    assert len(recorder.came) == 1


def test_the_answer_is_shown_without_secrets_and_control_characters(config: Path, recorder: Recorder) -> None:
    recorder.body = f"one {VARIABLES['TOKEN']}\r\ntwo \x1b[2J\n".encode() + b"\xff"
    url = f"http://127.0.0.1:{recorder.port}/hooks/open?token=abcdef"
    result = run(config, 1, "--source", "open", "--url", url, ORDER)
    assert result.output == f"200 from {url[:-6]}<secret>\none <secret>\ntwo  [2J\n\ufffd\n"


@pytest.mark.parametrize(
    ("source", "options", "file", "unset"),
    [
        ("github", ("--event", "push"), PUSH, ("GITHUB_SECRET", "GITHUB_SECRET_OLD")),
        ("alerts", (), ALERTS, ("TOKEN",)),
        ("alerts-basic", (), ALERTS, ("USERNAME",)),
        ("alerts-basic", (), ALERTS, ("PASSWORD",)),
        ("both", (), ORDER, ("TOKEN_OLD",)),
        ("either", (), ORDER, ("TOKEN", "PASSWORD")),
    ],
)
def test_nothing_is_sent_without_a_secret(
    config: Path, recorder: Recorder, source: str, options: tuple[str, ...], file: str, unset: tuple[str, ...]
) -> None:
    environ = {name: value for name, value in SECRETS.items() if name not in unset}
    result = run(config, recorder.port, "--source", source, *options, file, environ=environ)
    assert result.exit_code == 1
    assert f"source {source}: the variable of " in result.output
    for name in unset:
        assert f"warning: the variable {name} is not set" in result.output
    assert recorder.came == []


def test_one_secret_that_is_there_is_enough_where_any_will_do(config: Path, recorder: Recorder) -> None:
    environ = {name: SECRETS[name] for name in ("GITHUB_SECRET_OLD", "TOKEN")}
    run(config, recorder.port, "--source", "either", ORDER, environ=environ)
    run(config, recorder.port, "--source", "github", "--event", "push", PUSH, environ=environ)
    (either, github) = recorder.came
    assert either[1]["Authorization"] == f"Bearer {SECRETS['TOKEN']}"
    expected = signature(sample("github/push.json"), SECRETS["GITHUB_SECRET_OLD"])
    assert github[1]["X-Hub-Signature-256"] == expected


def test_where_nothing_listens_it_says_so(config: Path, recorder: Recorder) -> None:
    result = run(config, 1, "--source", "open", ORDER)
    assert result.exit_code == 1
    why = "no connection to 127.0.0.1:1: connection refused"
    hint = "start the bridge, or add --url"
    assert result.output == f"Error: cannot send to http://127.0.0.1:1/hooks/open: {why}\n    hint: {hint}\n"
    with_url = run(config, 1, "--source", "open", "--url", "http://127.0.0.1:1", ORDER)
    assert with_url.output.endswith("\n    hint: start the bridge, or correct --url\n")


def test_a_lost_answer_is_told_from_what_was_not_sent(
    config: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "HttpClient", Mute)
    result = run(config, recorder.port, "--source", "open", ORDER)
    assert result.exit_code == 1
    assert (
        "/hooks/open: no answer within 30 s\n    hint: the bridge may have stored the webhook"
        in result.output
    )


class Mute:
    """A client whose every answer is lost."""

    def __init__(self, _watchdog: object) -> None:
        pass

    def post(self, url: str, headers: Mapping[str, str], body: bytes, timeout: float) -> None:
        raise AnswerLost(f"no answer within {timeout:g} s")

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://bridge.invalid", True),
        ("http://192.0.2.1", True),
        ("https://bridge.invalid", False),
        ("http://localhost:1", False),
        ("http://[::1]:1", False),
        ("http://127.0.0.2:1", False),
    ],
)
def test_http_to_another_machine_is_warned_of(
    config: Path, monkeypatch: pytest.MonkeyPatch, url: str, warned: bool
) -> None:
    monkeypatch.setattr(sending, "HttpClient", Mute)
    result = run(config, 1, "--source", "both", "--url", url, ORDER)
    text = "warning: X-Shared and Authorization and the body can be read by others on the network"
    assert (text in result.stderr) == warned


def test_what_cannot_be_sent_says_why(config: Path, recorder: Recorder) -> None:
    assert "add --event and its name" in run(config, recorder.port, "--source", "github", PUSH).output
    nobody = run(config, recorder.port, "--source", "nobody", PUSH)
    assert nobody.exit_code == 2
    assert "no source is named 'nobody'; known: alerts, alerts-basic" in nobody.output
    assert run(config, recorder.port, "--source", "open", "nowhere.json").exit_code == 2
    assert recorder.came == []
