"""A table for pushes of GitHub, who pushes, and what must have come of it in the end."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bridge.core.job import Job, JobState, Outcome
from bridge.demo.arguments import Argument, StandInTask
from bridge.outbox.store import Outbox
from tests.support.theeye import StandIn

VARIABLES = {"HOOK_SECRET": "pushes-webhook-secret", "DEPLOY_KEY": "d1" * 32, "RELEASE_KEY": "r1" * 32}

#: Pushes of `main` are deployed, and again where the answer was lost; those of `release` are then held.
DEPLOY, RELEASE = "5f3c9a7be4b0a1c2d3e4f501", "5f3c9a7be4b0a1c2d3e4f502"

TABLE = """
theeye:
  url: {url}
  customer: acme
  timeout: {timeout}
  retry: {{for: 24h, longest_wait: 2s}}
sources:
  github: {{secret: "${{{{ env.HOOK_SECRET }}}}"}}
tasks:
  deploy: {{id: {deploy}, secret_key: "${{{{ env.DEPLOY_KEY }}}}", on_unknown: retry}}
  release: {{id: {release}, secret_key: "${{{{ env.RELEASE_KEY }}}}", on_unknown: hold}}
routes:
  - source: github
    match: {{payload.ref: refs/heads/main}}
    task: deploy
    task_arguments: ["${{{{ payload.after }}}}"]
  - source: github
    match: {{payload.ref: refs/heads/release}}
    task: release
    task_arguments: ["${{{{ payload.after }}}}"]
"""


def write_table(folder: Path, url: str, *, timeout: str = "5s", name: str = "table.yml") -> Path:
    """The table as a file, for TheEye at `url`."""
    path = folder / name
    path.write_text(TABLE.format(url=url, timeout=timeout, deploy=DEPLOY, release=RELEASE))
    return path


def stand_in() -> StandIn:
    """TheEye with the table's two tasks."""
    keys = {DEPLOY: VARIABLES["DEPLOY_KEY"], RELEASE: VARIABLES["RELEASE_KEY"]}
    tasks = [StandInTask(task, key, task, (Argument("commit"),)) for task, key in keys.items()]
    return StandIn(["acme"], tasks)


@dataclass(frozen=True)
class Answer:
    """What a push was answered."""

    #: 0 where there was no answer.
    status: int
    #: When the push began, seconds of ``time.monotonic()``.
    begun: float
    #: Seconds.
    took: float
    retry_after: str | None = None
    #: The ids that it names.
    jobs: tuple[int, ...] = ()
    #: And the routes that made them.
    routes: tuple[str, ...] = ()

    @property
    def is_taken(self) -> bool:
        return self.status in (200, 202)


class Client:
    """One sender, on a connection that it keeps as long as that works."""

    def __init__(
        self,
        port: int,
        timeout: float = 60.0,
        *,
        source: str = "github",
        secret: str = VARIABLES["HOOK_SECRET"],
    ) -> None:
        self._path = f"/hooks/{source}"
        self._secret = secret.encode()
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def push(self, commit: str, branch: str = "main", repository: str = "acme/api") -> Answer:
        """Push once."""
        pushed = {"ref": f"refs/heads/{branch}", "before": "", "after": commit}
        body = json.dumps({**pushed, "repository": {"full_name": repository}}).encode()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": f"delivery-of-{commit}",
            "X-Hub-Signature-256": "sha256=" + hmac.new(self._secret, body, hashlib.sha256).hexdigest(),
        }
        begun = time.monotonic()
        try:
            self._connection.request("POST", self._path, body, headers)
            response = self._connection.getresponse()
            answered = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return Answer(0, begun, time.monotonic() - begun)
        took = time.monotonic() - begun
        named = json.loads(answered)["jobs"] if response.status in (200, 202) else []
        ids, routes = tuple(job["id"] for job in named), tuple(job["route"] for job in named)
        return Answer(response.status, begun, took, response.getheader("Retry-After"), ids, routes)

    def close(self) -> None:
        self._connection.close()


def push(port: int, commit: str, branch: str = "main") -> Answer:
    """Push once, on a connection of its own."""
    client = Client(port)
    try:
        return client.push(commit, branch)
    finally:
        client.close()


class Clients:
    """Push numbered commits, each again until it is taken; every second one to `release`."""

    def __init__(self, port: int, clients: int, *, commits: int | None = None) -> None:
        """`commits` is how many in all; without it they go on until `finish`."""
        self._port = port
        self._commits = commits
        # Guards what follows.
        self._changed = threading.Condition()
        self._begun = 0
        self._finishing = False
        self._taken: set[str] = set()
        self._answers: list[Answer] = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    @property
    def taken(self) -> set[str]:
        """The commits that were answered with 2xx."""
        with self._changed:
            return set(self._taken)

    @property
    def answers(self) -> list[Answer]:
        """Every one so far, oldest first."""
        with self._changed:
            return list(self._answers)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait_for(self, taken: int, timeout: float) -> None:
        """Until so many commits are taken. Raises AssertionError."""
        with self._changed:
            enough = self._changed.wait_for(lambda: len(self._taken) >= taken, timeout)
            assert enough, f"{len(self._taken)} of {taken} pushes were taken within {timeout:.0f} s"

    def finish(self, timeout: float) -> None:
        """Wait until all are taken; of an endless number, those that are begun. Raises AssertionError."""
        with self._changed:
            self._finishing = self._commits is None
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        assert not any(thread.is_alive() for thread in self._threads), f"no end within {timeout:.0f} s"

    def _run(self) -> None:
        client = Client(self._port)
        while (number := self._next()) is not None:
            commit = f"commit-{number:05}"
            while not self._note(commit, client.push(commit, ("main", "release")[number % 2])):
                time.sleep(0.02)
        client.close()

    def _next(self) -> int | None:
        with self._changed:
            if self._finishing or self._begun == self._commits:
                return None
            self._begun += 1
            return self._begun

    def _note(self, commit: str, answer: Answer) -> bool:
        with self._changed:
            self._answers.append(answer)
            if answer.is_taken:
                self._taken.add(commit)
            self._changed.notify_all()
        return answer.is_taken


def commit_of(job: Job) -> str:
    assert job.arguments is not None
    return str(job.arguments[0])


def wait_until_none_waits(outbox: Outbox, timeout: float) -> None:
    """Until every job has come to its end. Raises AssertionError."""
    deadline = time.monotonic() + timeout
    while (counts := outbox.counts()).keys() & {JobState.WAITING, JobState.SENDING}:
        assert time.monotonic() < deadline, f"after {timeout:.0f} s: {counts}"
        time.sleep(0.1)


def assert_promises(taken: set[str], outbox: Outbox, theeye: StandIn) -> int:
    """Nothing taken is missing, and each sending beyond the first is one whose answer was lost.

    How many answers were lost. Once no job waits any more, and TheEye had no fault but that it hung.
    """
    jobs = outbox.jobs(limit=2 * len(taken) + 100)
    # One that was committed, and whose client was never told, would be there too; all were told.
    assert sorted(map(commit_of, jobs)) == sorted(taken)
    got = Counter(job.values[0] for job in theeye.jobs)
    lost = 0
    for job in jobs:
        commit = commit_of(job)
        unknowns = sum(attempt.outcome is Outcome.UNKNOWN for attempt in outbox.attempts(job.id))
        lost += unknowns
        if job.task_id == RELEASE:
            assert got[commit] <= 1, f"{commit}, held, was sent again"
        assert got[commit] <= 1 + unknowns, f"{commit} was sent {got[commit]} times, {unknowns} are unknown"
        assert got[commit] <= 3
        if job.state is JobState.ACCEPTED or job.task_id == DEPLOY:
            assert got[commit], f"{commit} is {job.state} and is not there"
        if job.state is not JobState.ACCEPTED:
            assert job.state is JobState.UNKNOWN
            assert unknowns == (1 if job.task_id == RELEASE else 3), f"{commit}: {job.reason}"
    return lost
