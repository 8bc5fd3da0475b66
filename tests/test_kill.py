"""kill -9 of the whole server while webhooks come in: nothing is lost, nothing needless sent twice."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.demo.arguments import Argument, StandInTask
from bridge.demo.theeye import Fault, StandIn
from bridge.job import Job, JobState, Outcome
from bridge.outbox import Outbox
from tests.server import Server

WEBHOOKS = 500
KILLS = 5
CLIENTS = 8
#: How long all of it may take, seconds: less than a lease (5 s + 30 s), since what a crash left
#: claimed must come free at start-up.
PATIENCE = 30.0

SECRET = "kill-test-webhook-secret"
KEY = "k" * 64
TASK = "5f3c9a7be4b0a1c2d3e4f501"

TABLE = """
theeye:
  url: {url}
  customer: acme
  timeout: 5s
  retry: {{for: 24h, longest_wait: 2s}}
sources:
  github:
    secret: ${{{{ env.HOOK_SECRET }}}}
tasks:
  deploy:
    id: {task}
    secret_key: ${{{{ env.TASK_KEY }}}}
    on_unknown: {on_unknown}
routes:
  - source: github
    event: push
    task: deploy
    task_arguments:
      - ${{{{ payload.after }}}}
"""


class Sender:
    """Sends numbered pushes, each again until it is answered with 2xx, as many clients at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._numbers = iter(range(WEBHOOKS))
        self._lock = threading.Lock()
        self.acknowledged: set[str] = set()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def is_done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (number := self._next()) is not None:
            commit = f"commit-{number:04}"
            while not self._is_taken(commit):
                time.sleep(0.02)
            with self._lock:
                self.acknowledged.add(commit)

    def _next(self) -> int | None:
        with self._lock:
            return next(self._numbers, None)

    def _is_taken(self, commit: str) -> bool:
        body = json.dumps({"ref": "refs/heads/main", "before": "", "after": commit}).encode()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": f"delivery-of-{commit}",
            "X-Hub-Signature-256": "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest(),
        }
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("POST", "/hooks/github", body, headers)
            return connection.getresponse().status in (200, 202)
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@pytest.fixture
def theeye() -> Iterator[StandIn]:
    with StandIn(["acme"], [StandInTask(TASK, KEY, "deploy", (Argument("commit"),))]) as stand_in:
        # Long enough that a kill finds sends in flight.
        stand_in.fault(Fault(hang=0.03))
        yield stand_in


def run_with_kills(tmp_path: Path, theeye: StandIn, on_unknown: str) -> tuple[set[str], list[Job], Outbox]:
    """What was answered 2xx, and the jobs once none waits any more."""
    config = tmp_path / "table.yml"
    config.write_text(TABLE.format(url=theeye.url, task=TASK, on_unknown=on_unknown))
    server = Server(config, tmp_path / "bridge.db", {"HOOK_SECRET": SECRET, "TASK_KEY": KEY})
    moments = random.Random(20261124)
    with server:
        sender = Sender(server.port)
        sender.start()
        for _ in range(KILLS):
            time.sleep(moments.uniform(0.2, 0.9))
            server.kill()
            server.start()
        deadline = time.monotonic() + PATIENCE
        outbox = Outbox(f"sqlite:///{tmp_path / 'bridge.db'}", beside_a_server=True)
        while not sender.is_done or outbox.counts().keys() & {JobState.WAITING, JobState.SENDING}:
            assert time.monotonic() < deadline, f"{outbox.counts()}\n{server.log[-3000:]}"
            time.sleep(0.1)
    return sender.acknowledged, outbox.jobs(limit=WEBHOOKS * 2), outbox


@pytest.mark.timeout(60)
def test_nothing_is_answered_before_it_is_committed(tmp_path: Path, theeye: StandIn) -> None:
    config = tmp_path / "table.yml"
    config.write_text(TABLE.format(url=theeye.url, task=TASK, on_unknown="retry"))
    database = tmp_path / "bridge.db"
    with Server(config, database, {"HOOK_SECRET": SECRET, "TASK_KEY": KEY}) as server:
        sender = Sender(server.port)
        other = sqlite3.connect(database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # nobody else can commit now
        sender.start()
        time.sleep(1.0)
        assert not sender.acknowledged
        assert other.execute("SELECT count(*) FROM events").fetchone() == (0,)
        server.kill()
        other.execute("ROLLBACK")
        other.close()
        server.start()
        deadline = time.monotonic() + PATIENCE
        while not sender.is_done:
            assert time.monotonic() < deadline, server.log[-3000:]
            time.sleep(0.05)
        assert len(theeye.wait_for(WEBHOOKS, PATIENCE)) == WEBHOOKS


def commit_of(job: Job) -> str:
    assert job.arguments is not None
    return str(job.arguments[0])


@pytest.mark.timeout(180)
def test_nothing_is_lost_and_only_what_was_in_flight_is_sent_twice(tmp_path: Path, theeye: StandIn) -> None:
    acknowledged, jobs, outbox = run_with_kills(tmp_path, theeye, "retry")

    assert len(acknowledged) == WEBHOOKS
    assert sorted(map(commit_of, jobs)) == sorted(acknowledged)
    got = Counter(job.values[0] for job in theeye.jobs)
    assert set(got) == acknowledged
    assert {job.state for job in jobs} <= {JobState.ACCEPTED, JobState.UNKNOWN}
    lost_answers = 0
    for job in jobs:
        outcomes = Counter(attempt.outcome for attempt in outbox.attempts(job.id))
        lost_answers += outcomes[Outcome.UNKNOWN]
        # Each sending beyond the first is explained by an answer that was lost.
        assert got[commit_of(job)] <= 1 + outcomes[Outcome.UNKNOWN] <= 3
    assert lost_answers, "no kill found a send in flight: the test has shown nothing"
    outbox.close()


@pytest.mark.timeout(180)
def test_with_hold_nothing_is_sent_twice(tmp_path: Path, theeye: StandIn) -> None:
    acknowledged, jobs, outbox = run_with_kills(tmp_path, theeye, "hold")

    assert len(acknowledged) == WEBHOOKS
    assert sorted(map(commit_of, jobs)) == sorted(acknowledged)
    got = Counter(job.values[0] for job in theeye.jobs)
    assert max(got.values()) == 1
    held = {commit_of(job) for job in jobs if job.state is JobState.UNKNOWN}
    assert {commit_of(job) for job in jobs if job.state is JobState.ACCEPTED} == acknowledged - held
    assert acknowledged - held <= set(got)
    assert held, "no kill found a send in flight: the test has shown nothing"
    outbox.close()
