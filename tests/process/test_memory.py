"""Large bodies, many alerts in one and a long backlog: memory and work stay within bounds."""

from __future__ import annotations

import http.client
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy
from sqlalchemy import Connection, text

from bridge.core.attempt_result import AttemptResult
from bridge.core.budget import MAX_JOBS
from bridge.core.job import JobState, NewJob, Outcome
from bridge.core.retry import Decision
from bridge.outbox.schema import jobs as jobs_table
from bridge.outbox.store import Outbox
from bridge.outbox.webhook import Webhook
from tests.support.intake import BEARER, JSON_HEADERS, VARIABLES, Intake, beside, sample, table
from tests.support.server import Server as ForkedServer
from tests.support.statements import executed
from tests.support.tables import (
    NOW,
    attempt_of,
    claim_jobs,
    dead_job,
    engine_of,
    in_threads,
    items,
    make_job,
    make_webhook,
    next_due,
    wait_until,
)

MIB = 1024**2
#: How many jobs wait.
BACKLOG = 100_000

TABLE = """
sources:
  generic: {bearer_token: "${{ env.TOKEN }}", dedupe: off}
  alerts: {type: alertmanager, bearer_token: "${{ env.TOKEN }}"}
  gitea: {secret: "${{ env.TOKEN }}"}
routes:
  - name: page
    source: alerts
    loop: payload.alerts
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ item.labels.instance }}"]
"""


def notification(alerts: int) -> bytes:
    """One of Alertmanager's with so many different alerts."""
    payload = orjson.loads(sample("alertmanager/firing.json"))
    like = payload["alerts"][0]
    payload["alerts"] = [
        {
            **like,
            "labels": {**like["labels"], "instance": f"worker-{number}"},
            "fingerprint": f"{number:016x}",
        }
        for number in range(alerts)
    ]
    return orjson.dumps(payload)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "table.yml"
    path.write_text(table(TABLE))
    return path


class Server(ForkedServer):
    """Of its own memory alone."""

    may_fork = False


def post(server: ForkedServer, source: str, body: bytes) -> tuple[int, Any]:
    """The status and the JSON that are answered."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", f"/hooks/{source}", body, {**JSON_HEADERS, **BEARER})
        response = connection.getresponse()
        return response.status, orjson.loads(response.read())
    finally:
        connection.close()


def peak_memory(server: Server) -> int:
    """The most that its one worker has held at once, bytes."""
    (worker,) = server.workers
    status = Path(f"/proc/{worker}/status").read_text()
    (peak,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(peak) * 1024


@contextmanager
def measuring(server: Server) -> Iterator[Callable[[], int]]:
    """The most that all its processes together hold inside, bytes: what they share counts once."""
    processes = [server.pid, *server.workers]
    ended = threading.Event()
    peaks = [0]

    def measure() -> None:
        while not ended.wait(0.005):
            peaks.append(sum(map(proportional_memory, processes)))

    measuring = threading.Thread(target=measure)
    measuring.start()
    try:
        yield lambda: max(peaks)
    finally:
        ended.set()
        measuring.join()


def proportional_memory(process: int) -> int:
    """The process's own memory and its part of what it shares, bytes."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    (size,) = [line.split()[1] for line in lines if line.startswith("Pss:")]
    return int(size) * 1024


class TestAllProcesses:
    """At a platform's default settings: two on PostgreSQL, one on SQLite, that deliver too."""

    @staticmethod
    def values(number: int) -> bytes:
        """As many objects as JSON may hold."""
        items = b",".join(b'"%07d":{"a":%d.5}' % (key, key) for key in range(200_000))
        return b'{"n":%d,%s}' % (number, items)

    @pytest.fixture
    def server(self, config: Path, url: str) -> Iterator[Server]:
        with Server(config, url, VARIABLES) as server:
            yield server

    @pytest.mark.parametrize("fill", [b"\\", b"x", b"%41"])
    @pytest.mark.slow_unless(url="sqlite", fill=b"%41")
    def test_forms_of_strangers(self, server: Server, fill: bytes) -> None:
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Gitea-Signature": "0" * 64,
            "X-Gitea-Event": "push",
            "X-Gitea-Delivery": "1",
        }
        body = b"payload=" + fill * ((25 * MIB - 100) // len(fill))
        with measuring(server) as peak:
            statuses = in_threads([lambda: post_any(server, "gitea", body, headers)] * 6)
        assert set(statuses) <= {0, 401, 503}
        assert 401 in statuses
        assert peak() < 450 * MIB

    @pytest.mark.parametrize("kind", ["text", "values"])
    @pytest.mark.slow_unless(url="sqlite", kind="values")
    def test_authentic_ones_at_once(self, server: Server, kind: str) -> None:
        text = b'{"a": "' + b"x" * (25 * MIB - 100) + b'"}'
        bodies = [text if kind == "text" else self.values(number) for number in range(8)]
        headers = {**JSON_HEADERS, **BEARER}
        with measuring(server) as peak:
            posting = [partial(post_any, server, "generic", body, headers) for body in bodies]
            statuses = in_threads(posting)
        assert set(statuses) <= {0, 200, 503}
        assert 200 in statuses
        assert peak() < 450 * MIB


def post_any(server: Server, source: str, body: bytes, headers: dict[str, str]) -> int:
    """The status; 0 where the connection was closed while the body was still being sent."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", f"/hooks/{source}", body, headers)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def test_bodies_of_25_mib_one_after_another(config: Path, tmp_path: Path) -> None:
    with Server(config, tmp_path / "bridge.db", VARIABLES) as server:
        for number in range(12):
            body = b'{"a": "%02d%s"}' % (number, b"x" * (25 * MIB - 100))
            assert post(server, "generic", body)[0] == 200
        assert peak_memory(server) < 450 * MIB


def note_thread(threads: list[str], _: Connection) -> None:
    threads.append(threading.current_thread().name)


class TestManyAlerts:
    @pytest.mark.slow_unless(url="postgresql")
    def test_as_many_as_are_allowed_are_one_commit(self, tmp_path: Path, url: str) -> None:
        with closing(Intake(TABLE, tmp_path, url=url)) as intake:
            threads: list[str] = []
            note = partial(note_thread, threads)
            sqlalchemy.event.listen(engine_of(intake.outbox), "commit", note)
            answer = intake.post("alerts", notification(MAX_JOBS), {**JSON_HEADERS, **BEARER})
            # A notice to other processes may be sent before or after this.
            assert len([name for name in threads if name != "announce"]) == 1
            assert answer.status == 202
            jobs = answer.body["jobs"]
            assert len({job["id"] for job in jobs}) == MAX_JOBS
            assert intake.rows() == (1, MAX_JOBS)

    def test_one_more_is_one_dead_job_that_says_so(self, config: Path, tmp_path: Path) -> None:
        with Server(config, tmp_path / "bridge.db", VARIABLES) as server:
            status, answer = post(server, "alerts", notification(MAX_JOBS + 1))
            assert (status, len(answer["jobs"])) == (202, 1)
            assert count(server.database_url) == (1, 1)
            assert post(server, "alerts", notification(MAX_JOBS))[0] == 202
            assert peak_memory(server) < 350 * MIB


class TestManyGroups:
    """Each job of a webhook has a group of its own: however many there are, they take as many statements."""

    @staticmethod
    def jobs(number: int, **more: Any) -> list[NewJob]:
        return [replace(job, group=job.item_key, latest=True, **more) for job in items(number)]

    def replaced(self, outbox: Outbox, number: int) -> Webhook:
        """Each of the webhook's jobs replaces one."""
        outbox.store(make_webhook(*self.jobs(number), delivery_id=f"before {number}"))
        return make_webhook(*self.jobs(number), delivery_id=f"{number}")

    def revived(self, outbox: Outbox, number: int) -> Webhook:
        """Each was dead, and replaces one."""
        outbox.store(make_webhook(*self.jobs(number), delivery_id=f"before {number}"))
        dead = self.jobs(number, arguments=None, reason="no")
        outbox.store(make_webhook(*dead, delivery_id=f"{number}"))
        return make_webhook(*self.jobs(number), delivery_id=f"{number}")

    def superseded(self, outbox: Outbox, number: int) -> Webhook:
        """Each was missing, and a newer one has replaced it."""
        outbox.store(make_webhook(delivery_id=f"{number}"))
        outbox.store(make_webhook(*self.jobs(number), delivery_id=f"after {number}"))
        return make_webhook(*self.jobs(number), delivery_id=f"{number}")

    def gone(self, outbox: Outbox, number: int) -> Webhook:
        """The dead jobs are no longer made."""
        dead = self.jobs(number, arguments=None, reason="no")
        outbox.store(make_webhook(*dead, delivery_id=f"{number}"))
        return make_webhook(delivery_id=f"{number}")

    @pytest.mark.parametrize("what", [replaced, revived, superseded, gone])
    def test_as_many_statements_as_few(
        self, outbox: Outbox, what: Callable[[TestManyGroups, Outbox, int], Webhook]
    ) -> None:
        counted = []
        for number in (2, 300):
            webhook = what(self, outbox, number)
            with executed() as statements:
                outbox.store(webhook)
            # SQLite inserts row by row.
            counted.append([each for each, _ in statements if " jobs" in each and "INSERT" not in each])
        assert len(counted[0]) == len(counted[1]) > 1


def count(url: str) -> tuple[int, int]:
    """How many events and jobs are stored."""
    with beside(url) as connection:
        counted = text("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM jobs)")
        events, jobs = connection.execute(counted).one()
    return events, jobs


class TestBacklog:
    """A hundred thousand jobs wait."""

    def test_while_theeye_is_out(self, config: Path, tmp_path: Path) -> None:
        server = Server(config, tmp_path / "bridge.db", VARIABLES)
        with server:
            assert post(server, "alerts", notification(1))[0] == 202
            wait_until(lambda: is_out(server), "the outage")
            without = peak_memory(server)
            server.stop()
            multiply(server.database_url)
            server.start()
            wait_until(lambda: is_out(server), "the outage")
            assert post(server, "alerts", notification(2))[0] == 202
            assert peak_memory(server) < without + 32 * MIB

    @pytest.mark.parametrize("analyzed", [False, True])
    def test_no_request_of_delivery_reads_through_it(self, url: str, analyzed: bool) -> None:
        """On PostgreSQL also with statistics of the planner, which it renews when it likes."""
        with closing(Outbox(url, clock=lambda: NOW)) as outbox:
            if url.startswith("postgresql"):
                with beside(url) as connection:
                    # Statistics of the single job that is there first would last until the next ones.
                    connection.execute(text("ALTER TABLE jobs SET (autovacuum_enabled = false)"))
            outbox.store(make_webhook(make_job("x")))
            multiply(url)
        if analyzed and url.startswith("postgresql"):
            with beside(url) as connection:
                connection.execute(text("ANALYZE"))
        with reading(url) as read:
            with closing(Outbox(url, clock=lambda: NOW)) as outbox:
                assert outbox.abandoned_claims(everything=True) == []
                next_due(outbox)
                token, (job, *_) = claim_jobs(outbox, 8)
                attempt = attempt_of(outbox, job)
                done = AttemptResult(0.1, Outcome.ACCEPTED, 200, "", None)
                outbox.record(job, token, attempt, done, Decision(JobState.ACCEPTED, None, None))
                outbox.store(make_webhook(make_job("y"), delivery_id="2"))
                latest = make_job("z", group="g", latest=True)
                for delivery in ("3", "4", "3"):
                    outbox.store(make_webhook(latest, delivery_id=delivery))
                for each in (dead_job(group="g"), latest):
                    outbox.store(make_webhook(each, delivery_id="5"))
                assert outbox.job(BACKLOG + 3).state is JobState.SKIPPED
                outbox.ping()
            assert read() < 300


def is_out(server: Server) -> bool:
    return "TheEye has been unreachable" in str(server.get("/readyz")[1])


def multiply(url: str) -> None:
    """Make of the one job that is stored BACKLOG."""
    columns = ", ".join(column.name for column in jobs_table.c if column.name not in ("id", "item_key"))
    multiplying = (
        f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {BACKLOG - 1})"
        f" INSERT INTO jobs (item_key, {columns}) SELECT item_key || i, {columns} FROM jobs, n"
    )
    with beside(url) as connection:
        connection.execute(text(multiplying))


@contextmanager
def reading(url: str) -> Iterator[Callable[[], int]]:
    """How much is read inside: thousands of SQLite's steps, or PostgreSQL's blocks."""
    steps: list[None] = []

    def count_steps(connection: Any, *_: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.set_progress_handler(lambda: steps.append(None), 1000)

    def read() -> int:
        if url.startswith("sqlite"):
            return len(steps)
        with beside(url) as connection:
            return sum(
                blocks(connection, *one) for one in statements if one[0].startswith(("SELECT", "UPDATE"))
            )

    sqlalchemy.event.listen(sqlalchemy.Pool, "checkout", count_steps)
    try:
        with executed() as statements:
            yield read
    finally:
        sqlalchemy.event.remove(sqlalchemy.Pool, "checkout", count_steps)


def blocks(connection: Connection, statement: str, parameters: Any) -> int:
    """How many blocks it reads; what it changes is undone."""
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
    with connection.begin_nested() as trial:
        (explained,) = connection.exec_driver_sql(explain, parameters).scalar_one()
        trial.rollback()
    root = explained["Plan"]
    return int(root["Shared Hit Blocks"]) + int(root["Shared Read Blocks"])
