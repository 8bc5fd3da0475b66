"""The cases of growth: each prepares one size, and yields a function that measures it once."""

from __future__ import annotations

import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import orjson
import psycopg
from werkzeug.test import create_environ, run_wsgi_app

from bench.growth_fill import ACCEPTED, DONE, ROUTES, TASK, fill_events, fill_lists, fill_waiting_jobs
from bench.load import BODY, NothingAccepted
from bench.measure import run_seconds
from bench.round import ask, warm_up
from bench.targets import PostgreSQLBridge
from bridge.config.load import load
from bridge.core.attempt_result import AttemptResult
from bridge.core.event import Headers, Request
from bridge.core.job import JobState, Outcome
from bridge.core.retry import Decision
from bridge.core.secrets import Mask
from bridge.outbox.claims import Claim
from bridge.outbox.store import Outbox
from bridge.outbox.webhook import StoredWebhook, Webhook
from bridge.process.settings import Retention
from bridge.sources.base.discovery import discover
from bridge.sources.base.source_type import Replays
from tests.support.intake import BEARER, JSON_HEADERS, VARIABLES, Intake, github_headers, table
from tests.support.page import HTML, PageClient, token_of
from tests.support.server import Server
from tests.support.tables import Clock, make_job, make_webhook

#: The figures of one round, by the title of their column.
Figures: TypeAlias = Mapping[str, float]
Measure: TypeAlias = Callable[[], Figures]

#: Routes of the event's own source and event.
ROUTES_OF_EVENT = 10
#: The most jobs of one claim, and of one task: as the 16 threads of a process ask for.
FREE, PER_TASK = 16, 8
#: The result of an attempt whose job waits again.
AWAY = AttemptResult(0.1, Outcome.UNAVAILABLE, 503, "", None)
#: How often a figure is taken in one round, which has the median.
REPEATS = 7
#: The default of BRIDGE_RETENTION, and the events that one run of `prune` deletes.
RETENTION, PRUNED = Retention(events=30 * 86400.0, bodies=7 * 86400.0), 500
#: The interval of a page that is open, the intervals of a figure, and the most open pages. A process that
#: mostly sleeps wakes to cold caches; with many pages, one costs what it costs beside other work.
POLL_SECONDS, POLLS, PAGES = 5.0, 4, 20
#: Seconds of load on processes.
LOAD_SECONDS = 4

SOURCES = """\
sources:
  github: {secret: "${{ env.GITHUB_SECRET }}"}
  alertmanager: {bearer_token: "${{ env.TOKEN }}"}
routes:
"""
ROUTE = """\
  - name: route %d
    source: %s
    event: %s
    match: {payload.ref: refs/heads/master, payload.repository.full_name: %s}
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.ref }}", "${{ payload.after }}"]
"""
LOOP = """\
  - source: alertmanager
    loop: payload.alerts
    match: {item.status: firing, item.labels.severity: critical}
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ item.labels.alertname }}", "${{ item.annotations.summary }}"]
"""
LIST_ROUTE = """\
  - {name: route %d, source: github, event: push, task: TASK, secret_key: KEY, task_arguments: []}
"""
LISTED = SOURCES + "".join(LIST_ROUTE % number for number in range(ROUTES))
PASSWORD = "a-password-of-the-bench"
#: The lists of the page, with each filter that has an index, and with some that have none.
LISTS = (
    "/", "/events?last=30d", "/events?last=30d&source=alertmanager", "/events?last=30d&q=72d3162e",
    "/events?last=30d&tab=none", "/events?last=30d&q=payload.a:2", "/jobs?last=30d",
    "/jobs?last=30d&state=dead",
    "/jobs?last=30d&route=route+1", "/jobs?last=30d&route=route+1&state=dead",
    "/jobs?last=30d&source=alertmanager", "/routes", "/refused",
)  # fmt: skip
PUSH = {"ref": "refs/heads/master", "before": "0" * 40, "repository": {"full_name": "acme/api"}}
AUTHOR = {"name": "Codertocat", "email": "codertocat@example.com", "username": "Codertocat"}
LABELS = {"alertname": "DiskFull", "severity": "critical"}
GROUP = {
    "version": "4", "groupKey": "{}:{}", "status": "firing", "receiver": "bridge", "groupLabels": {},
    "commonLabels": LABELS, "commonAnnotations": {}, "externalURL": "http://alertmanager:9093",
}  # fmt: skip


@contextmanager
def routes(size: int, folder: Path, _: str) -> Iterator[Measure]:
    """Match and build jobs with so many routes, at most ROUTES_OF_EVENT of them of the event."""
    path = folder / "table.yml"
    path.write_text(table(SOURCES + "".join(map(_route, range(size)))))
    active = load(path, VARIABLES, discover()).table
    request = Request("github", Headers(github_headers(BODY).items()), {}, BODY, time.time())
    event, _parsed = active.sources["github"].read(request, Mask([]))

    def route_once() -> float:
        fresh = replace(event)  # without the values that an event computes once
        return _timed(lambda: active.jobs_for(fresh))[0] * 1000

    yield lambda: {"an event, µs": median(route_once() for _ in range(50 * REPEATS))}


def _route(number: int) -> str:
    if number < ROUTES_OF_EVENT:
        return ROUTE % (number, "github", "push", f"acme/{number}" if number else "Codertocat/Hello-World")
    source, event = (("github", "issues"), ("alertmanager", "firing"))[number % 2]
    return ROUTE % (number, source, event, f"acme/{number}")


@contextmanager
def waiting_jobs(size: int, _: Path, url: str) -> Iterator[Measure]:
    """Claim, and store a webhook, while so many jobs are due."""
    fill_waiting_jobs(url, size, time.time())
    with closing(Outbox(url)) as outbox:

        def claim(busy: Mapping[str, int]) -> float:
            milliseconds, claimed = _claim(outbox, PER_TASK, busy)
            for job in claimed.jobs:
                again = Decision(JobState.WAITING, job.due_at, None)
                outbox.record(job, claimed.token, claimed.attempts[job.id], AWAY, again)
            return milliseconds

        def store() -> float:
            milliseconds, stored = _store(outbox, time.time())
            for job in stored.jobs:
                outbox.cancel(job.id)
            return milliseconds

        yield lambda: {
            f"claim {FREE}, ms": median(claim({}) for _ in range(REPEATS)),
            f"claim {FREE}, a task at its limit, ms": median(
                claim({TASK.format(0): PER_TASK}) for _ in range(REPEATS)
            ),
            "store a webhook, ms": median(store() for _ in range(REPEATS)),
        }


@contextmanager
def stored_events(size: int, _: Path, url: str) -> Iterator[Measure]:
    """Store, claim, record, list and prune with so many events, each with a job and an attempt."""
    clock = Clock(time.time())
    fill_events(url, size, clock.now, RETENTION)
    with closing(Outbox(url, clock=clock)) as outbox:

        def prune() -> float:
            clock.now += RETENTION.events * PRUNED / size
            return _timed(lambda: outbox.prune(RETENTION, lambda: False))[0]

        def record(claimed: Claim) -> Iterator[float]:
            for job in claimed.jobs:
                attempt = claimed.attempts[job.id]
                yield _timed(partial(outbox.record, job, claimed.token, attempt, ACCEPTED, DONE))[0]

        def measure() -> Figures:
            stored = median(_store(outbox, clock.now)[0] for _ in range(FREE))
            milliseconds, claimed = _claim(outbox, FREE, {})
            return {
                "store a webhook, ms": stored,
                f"claim {FREE}, ms": milliseconds,
                "record an attempt, ms": median(record(claimed)),
                "list 50 events, ms": median(_timed(outbox.events)[0] for _ in range(REPEATS)),
                **({f"prune {PRUNED} events, ms": prune()} if size else {}),
            }

        yield measure


@contextmanager
def lists(size: int, folder: Path, url: str) -> Iterator[Measure]:
    """Answer each list of the page with so many events and jobs, over the whole retention."""
    fill_lists(url, size, time.time(), RETENTION)
    with closing(Intake(LISTED, folder, url=url)) as intake:
        client = intake.app({"BRIDGE_ADMIN_PASSWORD": PASSWORD}).test_client()
        token = token_of(client.get("/sign-in", headers=HTML).text)
        client.post("/sign-in", data={"csrf_token": token, "password": PASSWORD}, headers=HTML)

        def answer(path: str) -> float:
            milliseconds, response = _timed(lambda: client.get(path, headers=HTML))
            if response.status_code != 200:
                raise NothingAccepted(f"{path}: {response.status}")
            return milliseconds

        yield lambda: {f"{path}, ms": median(answer(path) for _ in range(REPEATS)) for path in LISTS}


@contextmanager
def page(size: int, folder: Path, url: str) -> Iterator[Measure]:
    """Leave the overview open in a browser, with so many events and jobs."""
    fill_lists(url, size, time.time(), RETENTION)
    path = folder / "table.yml"
    path.write_text(table(LISTED))
    environ = {**VARIABLES, "BRIDGE_ADMIN_PASSWORD": PASSWORD, "WEB_CONCURRENCY": "1"}
    with (
        Server(path, url, environ) as server,
        closing(PageClient(HTTPConnection("127.0.0.1", server.port))) as person,
    ):
        person.sign_in(PASSWORD)
        programs = {"the bridge": server.pid}
        if url.startswith("postgresql"):
            programs["PostgreSQL"] = _postmaster(url)

        def cpu(pages: int) -> dict[str, float]:
            before = {name: run_seconds([pid]) for name, pid in programs.items()}
            began = time.monotonic()
            for _ in range(POLLS * max(1, pages)):
                if pages:
                    person.text("/")
                time.sleep(POLL_SECONDS / max(1, pages))
            minutes = (time.monotonic() - began) / 60
            return {name: (run_seconds([pid]) - before[name]) / minutes for name, pid in programs.items()}

        def measure() -> Figures:
            nobody, one, all_pages = cpu(0), cpu(1), cpu(PAGES)
            return {
                **{f"{name}, nobody": value for name, value in nobody.items()},
                **{f"{name}, a page": one[name] - value for name, value in nobody.items()},
                **{
                    f"{name}, each of {PAGES} pages": (all_pages[name] - value) / PAGES
                    for name, value in nobody.items()
                },
            }

        cpu(1)  # the first answers import modules and compile templates and statements
        yield measure


def _postmaster(url: str) -> int:
    with psycopg.connect(url) as connection:
        (found,) = connection.execute("SELECT pg_read_file('postmaster.pid')").fetchone() or ("",)
    return int(found.split()[0])


@contextmanager
def bodies(size: int, folder: Path, url: str) -> Iterator[Measure]:
    """Receive and store a signed push of so many bytes."""
    with _app(ROUTE % (0, "github", "push", "acme/api"), folder, url) as post:

        def push(body: bytes) -> float:
            return post("github", body, github_headers(body, delivery=str(uuid.uuid4())), 1)

        def peak(body: bytes) -> float:
            tracemalloc.start()
            try:
                push(body)
                return tracemalloc.get_traced_memory()[1] / 1024**2
            finally:
                tracemalloc.stop()

        yield lambda: {
            "a webhook, ms": median(push(_push(size)) for _ in range(REPEATS)),
            "peak memory, MiB": peak(_push(size)),
        }


def _push(size: int) -> bytes:
    """Return the body of a push, which no other push has, of so many bytes."""
    push = {**PUSH, "after": _sha(uuid.uuid4().hex), "note": "", "commits": []}
    left = size - len(orjson.dumps(push))
    each = len(orjson.dumps(_commit(""))) + 1
    commits = [_commit(f"{push['after']}{number}") for number in range(left // each)]
    return orjson.dumps({**push, "commits": commits, "note": "." * (left % each)})


def _commit(name: str) -> dict[str, Any]:
    sha = _sha(name)
    return {
        "id": sha, "message": f"Update {sha[:7]}", "timestamp": "2026-01-02T15:04:05Z",
        "author": AUTHOR, "committer": AUTHOR, "added": [], "removed": [],
        "modified": [f"src/{sha[7:12]}.md"],
    }  # fmt: skip


def _sha(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:40]


@contextmanager
def alerts(size: int, folder: Path, url: str) -> Iterator[Measure]:
    """Receive and store an Alertmanager group of so many alerts, each of which becomes a job."""
    with _app(LOOP, folder, url) as post:

        def group() -> float:
            body = orjson.dumps({**GROUP, "alerts": [_alert(number) for number in range(size)]})
            return post("alertmanager", body, {**JSON_HEADERS, **BEARER}, size)

        def measure() -> Figures:
            milliseconds = median(group() for _ in range(REPEATS))
            return {"a webhook, ms": milliseconds, "a job, µs": milliseconds * 1000 / size}

        yield measure


def _alert(number: int) -> dict[str, Any]:
    return {
        "status": "firing", "fingerprint": uuid.uuid4().hex[:16],
        "labels": {**LABELS, "instance": f"db-{number}"},
        "annotations": {"summary": f"The disk of db-{number} is full"}, "generatorURL": "http://prometheus:9090",
        "startsAt": "2026-01-02T15:04:05Z", "endsAt": "0001-01-01T00:00:00Z",
    }  # fmt: skip


@contextmanager
def processes(size: int, folder: Path, _: str) -> Iterator[Measure]:
    """Load so many web processes, with as many workers."""
    target = PostgreSQLBridge(folder, processes=size)
    try:
        target.start()
        warm_up(target)

        def measure() -> Figures:
            sample = ask(target, LOAD_SECONDS)
            return {"accepted/s": sample.accepted, "delivered/s": sample.delivered or 0.0}

        yield measure
    finally:
        target.stop()


#: Posts a body to a source, and returns milliseconds. Raises NothingAccepted if it has not so many jobs.
Post: TypeAlias = Callable[[str, bytes, Mapping[str, str], int], float]


@contextmanager
def _app(rows: str, folder: Path, url: str) -> Iterator[Post]:
    with closing(Intake(SOURCES + rows, folder, url=url)) as intake:
        app = intake.app()

        def post(source: str, body: bytes, headers: Mapping[str, str], jobs: int) -> float:
            environ = create_environ(f"/hooks/{source}", method="POST", data=body, headers=dict(headers))
            milliseconds, answer = _timed(lambda: run_wsgi_app(app, environ, buffered=True))
            made = orjson.loads(b"".join(answer[0])).get("jobs", ())
            if len(made) != jobs:
                raise NothingAccepted(f"{source}: {answer[1]}, jobs: {len(made)}; expected {jobs}")
            return milliseconds

        yield post


def _store(outbox: Outbox, now: float) -> tuple[float, StoredWebhook]:
    """Store a new webhook with one job; return milliseconds, too."""
    name = uuid.uuid4()
    job, digest = make_job("refs/heads/master"), sha256(name.bytes).digest()
    webhook: Webhook = make_webhook(
        job, delivery_id=str(name), digest=digest, replays=Replays.NOTE, received_at=now
    )
    return _timed(lambda: outbox.store(webhook))


def _claim(outbox: Outbox, per_task: int, busy: Mapping[str, int]) -> tuple[float, Claim]:
    return _timed(
        lambda: outbox.claim(free=FREE, busy=busy, per_task=per_task, lease=600, can_send=lambda _: True)
    )


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return how many milliseconds the work took, and its result."""
    began = time.perf_counter()
    result = work()
    return (time.perf_counter() - began) * 1000, result
