"""The demo: two webhooks on their way through the bridge to a stand-in TheEye, step by step."""

from __future__ import annotations

import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from bridge.config.load import load
from bridge.core.errors import DemoFailed
from bridge.core.event import Headers, Request
from bridge.core.job import Job, JobState
from bridge.core.secrets import Mask
from bridge.demo.arguments import Argument, StandInJob, StandInTask
from bridge.demo.server import ServerProcess
from bridge.demo.theeye import StandIn
from bridge.http.client import HttpAnswer, HttpClient
from bridge.outbox.store import Outbox
from bridge.process.watchdog import Watchdog
from bridge.report.explanation import explanation_lines
from bridge.report.jobs import job_lines
from bridge.routing.routing_table import RoutingTable
from bridge.sources.base.discovery import discover

HERE = Path(__file__).parent
TABLE = HERE / "table.yml"
#: The longest time until TheEye has a job, in seconds.
PATIENCE = 20.0
#: The signals that end the demo: Ctrl-C, `kill`, a closed terminal.
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Stop:
    """One stop of the tour: a webhook and the expected result."""

    title: str
    source: str
    #: The event, if a header names it.
    event: str | None
    body: bytes
    #: The arguments that the script of each job must receive, in the order of the jobs.
    scripts_see: tuple[tuple[str, ...], ...]


STOPS = (
    Stop(
        "GitHub pushes to main of acme/api",
        "github",
        "push",
        (HERE / "push.json").read_bytes(),
        (("acme/api", "main", "3b6e9a2d5f8c1047b3a6d9e2c5f80b1e4d7a0c36"),),
    ),
    Stop(
        "Alertmanager sends three alerts, two of them critical",
        "alerts",
        None,
        (HERE / "alerts.json").read_bytes(),
        (
            ("DiskFull on db1:9100", "The disk of db1 is full in two hours"),
            ("DiskFull on db2:9100", ""),
        ),
    ),
)


@dataclass(frozen=True)
class Stage:
    """The running parts of the demo."""

    table: RoutingTable
    theeye: StandIn
    bridge: ServerProcess
    outbox: Outbox
    client: HttpClient
    github_secret: str
    #: The page's.
    password: str
    database_url: str


def run(say: Say, *, once: bool) -> None:
    """Show every stop; unless `once`, stay up until a signal. Raises DemoFailed, BridgeError."""
    with (
        _clearing_up(),
        tempfile.TemporaryDirectory(prefix="bridge-demo-") as folder,
        _stage(Path(folder)) as stage,
    ):
        say(f"A stand-in TheEye listens on {stage.theeye.url}, the bridge on {stage.bridge.url}.")
        say(f"The routing table is {_shown(TABLE)}.")
        for number, stop in enumerate(STOPS, 1):
            say("")
            say(f"=== {number}. {stop.title}")
            _show(stop, stage, say)
        say("")
        say("Every step succeeded.")
        if not once:
            _stay_up(stage, say)


@contextmanager
def _clearing_up() -> Iterator[None]:
    """Leave every block inside in order if a signal ends the process; ignore further signals."""

    def end(number: int, *_: object) -> None:
        for each in ENDS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    before = {each: signal.getsignal(each) for each in ENDS}
    for each, handler in before.items():
        if handler is not signal.SIG_IGN:  # as under nohup
            signal.signal(each, end)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _stage(folder: Path) -> Iterator[Stage]:
    variables = {
        "DEMO_GITHUB_SECRET": secrets.token_hex(16),
        "DEMO_ALERTMANAGER_TOKEN": secrets.token_hex(16),
        "DEMO_DEPLOY_KEY": secrets.token_hex(32),
        "DEMO_PAGE_KEY": secrets.token_hex(32),
    }
    tasks = (
        StandInTask(
            "5f3c9a7be4b0a1c2d3e4f501",
            variables["DEMO_DEPLOY_KEY"],
            "deploy",
            (Argument("repository"), Argument("branch"), Argument("commit")),
        ),
        StandInTask(
            "5f3c9a7be4b0a1c2d3e4f502",
            variables["DEMO_PAGE_KEY"],
            "page",
            (Argument("what"), Argument("summary")),
            "text",
        ),
    )
    with StandIn(["acme"], tasks) as theeye, ExitStack() as parts:
        variables["DEMO_THEEYE_URL"] = theeye.url
        environ = {
            "BRIDGE_CONFIG": str(TABLE),
            "DATABASE_URL": f"sqlite:///{folder}/demo.db",
            "LOG_FORMAT": "text",
            "BRIDGE_ADMIN_PASSWORD": secrets.token_urlsafe(12),
            **variables,
        }
        bridge = ServerProcess(environ, folder)
        parts.callback(bridge.stop)
        bridge.start()
        outbox = Outbox(environ["DATABASE_URL"], beside_a_server=True)
        parts.callback(outbox.close)
        watchdog = Watchdog()
        parts.callback(watchdog.close)
        client = HttpClient(watchdog)
        parts.callback(client.close)
        table = load(TABLE, variables, discover()).table
        secret, password = variables["DEMO_GITHUB_SECRET"], environ["BRIDGE_ADMIN_PASSWORD"]
        yield Stage(table, theeye, bridge, outbox, client, secret, password, environ["DATABASE_URL"])


def _show(stop: Stop, stage: Stage, say: Say) -> None:
    source = stage.table.sources[stop.source]
    headers = Headers(source.type.headers_for(stop.event).items())
    request = source.sign(Request(stop.source, headers, {}, stop.body, time.time()))
    url = f"{stage.bridge.url}/hooks/{stop.source}"
    proofs = ", ".join(one.proof.header for one in source.required)
    say(f"POST {url}, {len(stop.body)} bytes, authenticated by {proofs}")
    already = len(stage.theeye.jobs)
    answer = stage.client.post(url, request.headers, request.body, PATIENCE)
    say(f"The bridge answered {answer.status} {answer.body.decode()}")
    job_ids = _expect_jobs(answer, len(stop.scripts_see))
    say("")
    say("The routes:")
    event, _ = source.read(request)
    for why in explanation_lines(event, stage.table.explain(event), stage.table, Mask()):
        say(f"  {why.text}")
    say("")
    say("The result:")
    for job_id in job_ids:
        job = _wait_for(stage.outbox, job_id)
        for line in job_lines(job, stage.outbox.attempts(job_id)):
            say(f"  {line}")
    _show_scripts(stop, stage.theeye.wait_for(already + len(job_ids), PATIENCE)[already:], say)


def _expect_jobs(answer: HttpAnswer, count: int) -> list[int]:
    made = orjson.loads(answer.body).get("jobs", []) if answer.status == 202 else []
    if len(made) != count:
        raise DemoFailed(f"expected 202 with {count} jobs, got {answer.status} with {len(made)}")
    return [job["id"] for job in made]


def _wait_for(outbox: Outbox, job_id: int) -> Job:
    deadline = time.monotonic() + PATIENCE
    while (job := outbox.job(job_id)).state is not JobState.ACCEPTED:
        if time.monotonic() > deadline or job.state is JobState.DEAD:
            raise DemoFailed(f"expected job {job_id} to be accepted, got {job.state}: {job.reason}")
        time.sleep(0.05)
    return job


def _show_scripts(stop: Stop, jobs: tuple[StandInJob, ...], say: Say) -> None:
    seen = sorted(job.script_arguments or () for job in jobs)
    for arguments in seen:
        say(f"  the task's script receives {list(arguments)}")
    if seen != sorted(stop.scripts_see):
        raise DemoFailed(f"expected scripts to receive {stop.scripts_see}, got {seen}")


def _shown(path: Path) -> Path:
    """Return the path as a person in this folder writes it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _stay_up(stage: Stage, say: Say) -> None:
    try:
        _invite(stage, say)
        signal.pause()
    except KeyboardInterrupt:
        say("")


def _invite(stage: Stage, say: Say) -> None:
    """Print how to open the page, and how to send another push."""
    url = f"{stage.bridge.url}/hooks/github"
    say("")
    say("The demo runs until you press Ctrl-C. This page shows the events, the jobs and the reasons:")
    say("")
    say(f"  {stage.bridge.url}/")
    say(f"  password: {stage.password}")
    say("")
    say("Send another push, signed as GitHub signs it:")
    say("")
    say(f"  body={HERE / 'push.json'}")
    say(f"  signature=$(openssl dgst -sha256 -hmac {stage.github_secret} < $body | sed 's/.*= //')")
    say(f"  curl -i {url} --data-binary @$body -H 'Content-Type: application/json' \\")
    say("    -H 'X-GitHub-Event: push' -H \"X-GitHub-Delivery: $(date +%s%N)\" \\")
    say('    -H "X-Hub-Signature-256: sha256=$signature"')
    say("")
    say("Then list the jobs:")
    say("")
    say(f"  DATABASE_URL={stage.database_url} {sys.executable} -m bridge jobs list")
    say("")
    say(f"The log of the bridge is {stage.bridge.log}.")
