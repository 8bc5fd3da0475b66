"""No secret is seen anywhere, whatever fails: logs at DEBUG, the database's files, answers, commands."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import os
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from bridge.core.job import JobState
from bridge.demo.arguments import Argument, StandInTask
from bridge.outbox.store import Outbox
from tests.support.forked import run_program
from tests.support.server import Server
from tests.support.tables import wait_until
from tests.support.theeye import Answer, Fault, StandIn

HOOK_SECRET = "marked-hook-secret-7Qz"
OLD_SECRET = "marked-old-hook-secret-7Qz"
BEARER = "marked-bearer-token-7Qz"
PASSWORD = "marked password/7Qz+%"
KEYS = {name: f"markedkey{name}".ljust(64, "7") for name in ("one", "two", "three")}

SECRETS = {
    "HOOK_SECRET": HOOK_SECRET,
    "OLD_SECRET": OLD_SECRET,
    "BEARER": BEARER,
    "PASSWORD": PASSWORD,
    **{f"KEY_{name.upper()}": key for name, key in KEYS.items()},
}

TABLE = """
theeye: {{url: "{url}", customer: acme, timeout: 1s, retry: {{for: 24h, longest_wait: 1s}}}}
sources:
  github:
    secret: ["${{{{ env.HOOK_SECRET }}}}", "${{{{ env.OLD_SECRET }}}}"]
  alerts:
    type: generic
    any_of:
      bearer_token: ${{{{ env.BEARER }}}}
      basic_auth: {{username: monitor, password: "${{{{ env.PASSWORD }}}}"}}
tasks:
  one: {{id: 5f3c9a7be4b0a1c2d3e4f501, secret_key: "${{{{ env.KEY_ONE }}}}"}}
  two: {{id: 5f3c9a7be4b0a1c2d3e4f502, secret_key: "${{{{ env.KEY_TWO }}}}", on_unknown: hold}}
  three: {{id: 5f3c9a7be4b0a1c2d3e4f503, secret_key: "${{{{ env.KEY_THREE }}}}"}}
routes:
  - {{source: github, event: push, task: one, task_arguments: ["${{{{ payload.after }}}}"]}}
  - {{source: github, event: create, task: two, task_arguments: ["${{{{ payload.ref }}}}"]}}
  - {{source: github, event: delete, task: three, when: payload.ref | int > 5, task_arguments: [a]}}
  - {{source: github, event: delete, name: no, task: three, task_arguments: ["${{{{ payload.ref | int }}}}"]}}
  - {{source: alerts, task: three, task_arguments: ["${{{{ payload }}}}"]}}
"""

ARGUMENTS = (Argument("value"), Argument("fixed", "fixed-7Qz"))
TASKS = tuple(
    StandInTask(f"5f3c9a7be4b0a1c2d3e4f50{number}", key, name, ARGUMENTS)
    for number, (name, key) in enumerate(KEYS.items(), 1)
)


@pytest.fixture
def theeye() -> Iterator[StandIn]:
    with StandIn(["acme"], TASKS) as stand_in:
        yield stand_in


class Observed:
    """Everything that a stranger could read."""

    def __init__(self, tmp_path: Path, url: str) -> None:
        self.folder = tmp_path
        self.config = tmp_path / "table.yml"
        self.config.write_text(TABLE.format(url=url))
        self.database = tmp_path / "bridge.db"
        self.server = Server(self.config, self.database, {**SECRETS, "LOG_LEVEL": "DEBUG"})
        self.texts: list[bytes] = []

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        self.texts += [response.read(), str(response.getheaders()).encode()]
        connection.close()
        return response.status

    def push(self, event: str, body: bytes, delivery: str, secret: str = HOOK_SECRET) -> int:
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-GitHub-Event": event, "X-GitHub-Delivery": delivery}
        return self.post("/hooks/github", body, {**headers, "X-Hub-Signature-256": f"sha256={signature}"})

    def command(self, *arguments: str, config: Path | None = None, **more: str) -> int:
        environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "DATABASE_URL": f"sqlite:///{self.database}",
            "BRIDGE_CONFIG": str(config or self.config),
            **SECRETS,
            **more,
        }
        done = run_program([sys.executable, "-m", "bridge", *arguments], environ)
        self.texts += [done.stdout.encode(), done.stderr.encode()]
        return done.returncode

    def everything(self) -> bytes:
        files = [
            path for path in self.folder.iterdir() if path.name != self.config.name and path.suffix != ".yml"
        ]
        return b"\n".join([*self.texts, *(path.read_bytes() for path in files)])


def wait_for_outcomes(database: Path, count: int) -> None:
    """Until so many attempts have ended."""
    outbox = Outbox(f"sqlite:///{database}", beside_a_server=True)
    deadline = time.monotonic() + 30
    while True:
        ended = [attempt for job in outbox.jobs() for attempt in outbox.attempts(job.id) if attempt.outcome]
        if len(ended) >= count:
            break
        assert time.monotonic() < deadline, [outbox.attempts(job.id) for job in outbox.jobs()]
        time.sleep(0.05)
    outbox.close()


def spellings(secret: str) -> set[bytes]:
    texts = {secret, quote(secret), quote(secret, safe=""), b64encode(secret.encode()).decode()}
    texts.add(b64encode(f"monitor:{secret}".encode()).decode())
    texts.add(secret[:14])  # a part of one, where a text was cut
    return {text.encode() for text in texts}


def assert_nothing_is_seen(observed: Observed, more: frozenset[str] = frozenset()) -> None:
    seen = observed.everything()
    assert b"job 1" in seen, "the log was not searched"
    for name, secret in [*SECRETS.items(), *((text, text) for text in more)]:
        for spelling in spellings(secret):
            at = seen.find(spelling)
            assert at < 0, f"{name} is seen: {seen[max(0, at - 200) : at + 200]!r}"


def look_with_every_command(observed: Observed) -> None:
    body = observed.folder / "push.json"
    body.write_text('{"ref": "x", "before": "", "after": "abc"}')
    assert observed.command("check") == 0
    assert observed.command("explain", "--source", "github", "--event", "push", str(body)) == 0
    assert observed.command("explain", "--source", "github", "--event", "push", "--json", str(body)) == 0
    assert observed.command("jobs", "list") == 0
    assert observed.command("jobs", "list", "--json") == 0
    assert observed.command("events", "list", "--json") == 0
    assert observed.command("events", "list", "--refused") == 0
    assert observed.command("events", "list", "--refused", "--json") == 0
    for job_id in ("1", "2", "3"):
        observed.command("jobs", "show", job_id)
        observed.command("jobs", "show", "--json", job_id)
        observed.command("jobs", "retry", job_id)
        observed.command("jobs", "resolve", "--again", job_id)


def echo(task: StandInTask) -> Answer:
    """TheEye's own 404 for a slash after the key."""
    return Answer(
        404, f'{{"code":"ResourceNotFound","message":"/job/secret/{task.secret_key}/ is gone"}}'.encode()
    )


def test_whatever_fails_no_secret_is_seen(tmp_path: Path, theeye: StandIn) -> None:
    observed = Observed(tmp_path, theeye.url)
    moved = (("Location", f"http://127.0.0.1:1/job/secret/{KEYS['one']}?customer=acme"),)
    echo_at_the_cut = ("x" * 460 + KEYS["one"]).encode()
    theeye.fault(Fault(answer=echo(TASKS[0]), task_id=TASKS[0].id, times=1))
    theeye.fault(Fault(answer=Answer(302, KEYS["one"].encode(), moved), task_id=TASKS[0].id, times=1))
    theeye.fault(Fault(answer=Answer(400, echo_at_the_cut), task_id=TASKS[0].id, times=1))
    theeye.fault(Fault(answer=Answer(503, KEYS["one"].upper().encode()), task_id=TASKS[0].id, times=1))
    theeye.fault(Fault(hang=3, task_id=TASKS[1].id, times=1))
    theeye.fault(Fault(reset=True, task_id=TASKS[1].id, times=1))
    with observed.server:
        body = b'{"ref": "r", "before": "", "after": "abc"}'
        for number in range(4):  # the echo, the redirect, an echo at the cut, a 503 in upper case
            assert observed.push("push", body, f"push-{number}") == 202
        wait_for_outcomes(observed.database, 4)
        created = b'{"ref": "r", "ref_type": "branch", "master_branch": "main", "after": "abc"}'
        assert observed.push("create", created, "hangs", OLD_SECRET) == 202
        assert observed.push("create", created, "resets") == 202
        wait_for_outcomes(observed.database, 6)
        deleted = b'{"ref": "r", "ref_type": "branch", "after": "abc"}'
        assert observed.push("delete", deleted, "fails in an expression") == 202
        authorization = "Basic " + b64encode(f"monitor:{PASSWORD}".encode()).decode()
        assert observed.post("/hooks/alerts", b'{"a": 1}', {"Authorization": authorization}) == 202
        assert observed.post("/hooks/alerts", b'{"a": 2}', {"Authorization": f"Bearer {BEARER}"}) == 202
        wait_for_outcomes(observed.database, 8)
        theeye.refuse()
        assert observed.push("push", body, "refused connection") == 202
        wait_for_outcomes(observed.database, 9)
        refused_requests(observed, body)
        wait_until(lambda: refused_ones(observed) == [400, 401, 401, 401, 404, 415])
        assert theeye.received, "nothing was sent"
    look_with_every_command(observed)
    assert "no connection to" in observed.server.log
    assert_nothing_is_seen(observed, theeye.confidential)


def refused_ones(observed: Observed) -> list[int]:
    """The status of each refused request that is kept."""
    outbox = Outbox(f"sqlite:///{observed.database}", beside_a_server=True)
    statuses = sorted(refused.status for refused in outbox.refused())
    outbox.close()
    return statuses


def refused_requests(observed: Observed, body: bytes) -> None:
    """Requests with a right secret at a wrong place."""
    assert observed.push("push", body, "wrong", "wrong secret") == 401
    assert observed.post(f"/hooks/github?token={HOOK_SECRET}", body, {"X-Token": HOOK_SECRET}) == 401
    assert observed.post("/hooks/alerts", body, {"Authorization": f"Bearer {BEARER}, Bearer {BEARER}"}) == 401
    assert (
        observed.post("/hooks/alerts", body, {"Authorization": f"Bearer {BEARER}", "Content-Type": "x/y"})
        == 415
    )
    assert observed.post(f"/hooks/{BEARER}", body, {}) == 404
    assert observed.post("/hooks/alerts", b"{", {"Authorization": f"Bearer {BEARER}"}) == 400


@pytest.mark.slow
def test_a_tls_error_shows_no_key(tmp_path: Path, theeye: StandIn) -> None:
    observed = Observed(tmp_path, theeye.url.replace("http://", "https://"))
    with observed.server:
        assert observed.push("push", b'{"ref": "r", "before": "", "after": "abc"}', "tls") == 202
        wait_for_outcomes(observed.database, 1)
    look_with_every_command(observed)
    assert "TLS" in observed.server.log
    assert_nothing_is_seen(observed)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bob:{}@127.0.0.1:1/bridge",
        "postgres://bob:{}@127.0.0.1:1/bridge?sslmode=require",
        "postgres://bob:{}@127.0.0.1:1/bridge?schema=public",
        "postgresql:///bridge?host=/nowhere&user=bob&password={}",
        "postgresql://bob:{}@here@127.0.0.1:1/bridge",
        "postgresql://bob:{}@127.0.0.1:many/bridge",
        "mysql://bob:{}@127.0.0.1/bridge",
    ],
)
@pytest.mark.slow_unless(
    url=["postgresql://bob:{}@127.0.0.1:1/bridge", "postgresql://bob:{}@here@127.0.0.1:1/bridge"]
)
def test_no_command_shows_the_databases_password(tmp_path: Path, theeye: StandIn, url: str) -> None:
    password = "marked-store-password-7Qz"
    observed = Observed(tmp_path, theeye.url)
    for command in (["jobs", "list"], ["db", "upgrade"], ["worker"]):
        assert observed.command(*command, DATABASE_URL=url.format(password)) == 1

    seen = b"\n".join(observed.texts)
    assert b"marked" not in seen
    assert b"Traceback" not in seen
    assert seen.count(b"the database cannot be read: ") + seen.count(b"DATABASE_URL") == 3


def test_a_table_with_literal_secrets_is_refused_without_showing_them(
    tmp_path: Path, theeye: StandIn
) -> None:
    observed = Observed(tmp_path, theeye.url)
    literal = tmp_path / "literal.yml"
    table = observed.config.read_text()
    for name, value in SECRETS.items():
        table = table.replace(f"${{{{ env.{name} }}}}", value)
    literal.write_text(table)
    with observed.server:
        assert observed.push("push", b'{"ref": "r", "before": "", "after": "abc"}', "one") == 202
        wait_for_outcomes(observed.database, 1)
    assert observed.command("check", str(literal)) == 1
    assert observed.command("explain", "--source", "github", str(literal), config=literal) == 1
    starts = Server(literal, tmp_path / "other.db", SECRETS)
    with pytest.raises(AssertionError, match="the server ended with"):
        starts.start()
    assert "a literal secret" in starts.log
    assert_nothing_is_seen(observed)


def test_the_database_is_searched_where_arguments_are_stored(tmp_path: Path, theeye: StandIn) -> None:
    """The search itself finds what is stored: without this the tests above could see nothing by mistake."""
    observed = Observed(tmp_path, theeye.url)
    with observed.server:
        assert observed.push("push", b'{"ref": "r", "before": "", "after": "stored-7Qz"}', "one") == 202
        wait_for_outcomes(observed.database, 1)
        outbox = Outbox(f"sqlite:///{observed.database}", beside_a_server=True)
        assert outbox.counts() == {JobState.ACCEPTED: 1}
        outbox.close()
    assert b"stored-7Qz" in observed.everything()
