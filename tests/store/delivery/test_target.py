"""What a process knows of TheEye: whether it is out, and whether it still takes the access token."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from bridge.core.attempt_result import AttemptResult
from bridge.core.job import Job, JobState, Outcome
from bridge.core.secrets import Mask, Secret
from bridge.core.task import Task
from bridge.delivery import dispatcher as deliver
from bridge.delivery.circuit_breaker import Probe
from bridge.delivery.target import Target
from bridge.http.client import HttpClient
from bridge.outbox.store import Outbox
from bridge.process.watchdog import Watchdog
from bridge.routing.routing_table import RoutingTable
from tests.support.delivery import TASK, Process, posts, quick_client
from tests.support.tables import (
    NOW,
    PATIENCE,
    Clock,
    in_threads,
    items,
    key_of,
    make_job,
    make_table,
    make_task,
    make_webhook,
    stand_in_task,
    wait_until,
)
from tests.support.theeye import Answer, Fault, StandIn

# Delivery goes by what the store says, and tests/store/outbox asks both kinds.
pytestmark = pytest.mark.slow_unless(url="sqlite")

TOKEN = Secret("theeye-token-0123456789")
#: It has no key: the token starts it.
BY_TOKEN = make_task(5, secret_key=None)
TABLE = make_table(tasks=[TASK, BY_TOKEN])
SINCE = "TheEye has been unreachable since 2023-11-14T22:13:20Z, circuit open: "
REFUSED = "TheEye refused the access token: set another, then restart or send SIGHUP"

TAKEN = AttemptResult(0.1, Outcome.ACCEPTED, 200, "", "a job")
AWAY = AttemptResult(0.1, Outcome.UNAVAILABLE, 503, "503 maintenance", None)
UNAUTHORIZED = AttemptResult(0.1, Outcome.REFUSED, 401, "401 Unauthorized", None)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    outbox = Outbox(f"sqlite:///{tmp_path / 'job.db'}", clock=lambda: NOW)
    (stored,) = outbox.store(make_webhook(make_job("main"))).jobs
    yield outbox.job(stored.id)
    outbox.close()


@pytest.fixture
def target() -> Target:
    return Target(TABLE, Clock())


def end(target: Target, job: Job, result: AttemptResult) -> None:
    """One job from its claim to its end."""
    target.claimed(job)
    target.attempt_finished(TABLE, job, TASK, result)


def begin(target: Target) -> Probe:
    """A probe that is due now."""
    probe = target.start_probe()
    assert probe is not None
    return probe


def trouble(target: Target) -> str | None:
    return target.trouble


class TestTarget:
    def test_at_first_nothing_is_wrong(self, target: Target) -> None:
        assert (target.trouble, target.claim_limit(16), target.excluded_tasks) == (None, 16, frozenset())
        assert (target.seconds_to_probe, target.start_probe()) == (None, None)

    def test_an_outage_and_its_end(
        self, target: Target, job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        clock = Clock(NOW)
        monkeypatch.setattr("bridge.delivery.target.time.monotonic", clock)

        end(target, job, AWAY)
        assert target.trouble == f"{SINCE}503 maintenance"
        assert (target.claim_limit(16), target.seconds_to_probe, target.start_probe()) == (0, 0.5, None)

        clock.now += 0.5
        probe = begin(target)
        assert (probe.timeout, target.seconds_to_probe) == (1.0, None)
        target.probe_finished(probe, False, "it answers 502")
        assert target.trouble == f"{SINCE}it answers 502"

        clock.now += 0.5
        target.probe_finished(begin(target), True, "it answers 200")
        assert target.trouble is not None
        assert target.trouble.endswith("502; it answers again; the bridge sends one job as a test")
        assert target.claim_limit(16) == 1

        target.claimed(job)
        assert "answers again" not in target.trouble
        target.attempt_finished(TABLE, job, TASK, TAKEN)
        assert (trouble(target), target.claim_limit(16)) == (None, 16)
        assert [record.getMessage() for record in caplog.records] == [
            "TheEye is unreachable; the circuit breaker stops sending: 503 maintenance",
            "TheEye is reachable again after 1 s; sending continues",
        ]

    def test_its_beginning_does_not_move_with_the_clock(self, job: Job) -> None:
        clock = Clock()
        target = Target(TABLE, clock)
        end(target, job, AWAY)
        before = target.trouble
        clock.now += 3600
        assert target.trouble == before

    def test_a_trial_that_was_not_sent_leaves_its_place(self, target: Target, job: Job) -> None:
        end(target, job, AWAY)
        wait_until(lambda: not target.seconds_to_probe)
        target.probe_finished(begin(target), True, "it answers 404")
        target.claimed(job)
        assert target.claim_limit(16) == 0
        target.not_sent(job)
        assert target.claim_limit(16) == 1

    def test_a_401_on_the_bearer_method_stops_the_tasks_without_a_key(self, target: Target, job: Job) -> None:
        target.attempt_finished(TABLE, job, BY_TOKEN, UNAUTHORIZED)
        assert (target.excluded_tasks, trouble(target), target.claim_limit(16)) == (
            frozenset({BY_TOKEN.id}),
            REFUSED,
            16,
        )

    def test_with_another_table_the_token_is_tried_again(self, target: Target, job: Job) -> None:
        target.attempt_finished(TABLE, job, BY_TOKEN, UNAUTHORIZED)
        target.use(TABLE)
        assert (target.excluded_tasks, trouble(target)) == (frozenset(), None)

    def test_a_401_on_the_token_of_a_table_before_says_nothing_of_the_new_one(
        self, target: Target, job: Job
    ) -> None:
        target.use(make_table(tasks=[TASK, BY_TOKEN]))
        # The job waits as if the old one had been refused before: the new one will tell.
        assert not target.attempt_finished(TABLE, job, BY_TOKEN, UNAUTHORIZED)
        assert (target.excluded_tasks, trouble(target)) == (frozenset(), None)

    @pytest.mark.parametrize(("task", "status"), [(TASK, 401), (BY_TOKEN, 403), (BY_TOKEN, None)])
    def test_nothing_else_does(self, target: Target, job: Job, task: Task, status: int | None) -> None:
        target.attempt_finished(TABLE, job, task, replace(UNAUTHORIZED, status=status))
        assert (target.excluded_tasks, trouble(target)) == (frozenset(), None)

    @pytest.mark.parametrize(
        ("secret_key", "status", "is_out"),
        [(None, None, False), (None, 408, True), (Secret("k1" * 32), None, True)],
        ids=["by token", "by token, 408", "by key"],
    )
    def test_two_tasks_without_an_answer_are_an_outage_but_by_token(
        self, target: Target, job: Job, secret_key: Secret | None, status: int | None, is_out: bool
    ) -> None:
        for number in (5, 6):
            task = make_task(number, secret_key=secret_key)
            sent = replace(job, id=number, task_id=task.id)
            target.claimed(sent)
            lost = AttemptResult(30.0, Outcome.UNKNOWN, status, "timed out", None)
            target.attempt_finished(TABLE, sent, task, lost)
        assert (target.trouble is not None) is is_out

    def test_both_are_told_each_with_a_line_of_its_own(
        self, target: Target, job: Job, caplog: pytest.LogCaptureFixture
    ) -> None:
        for _ in range(3):
            target.attempt_finished(TABLE, job, BY_TOKEN, UNAUTHORIZED)
        end(target, job, AWAY)
        assert target.trouble is not None
        assert target.trouble.startswith("TheEye has been unreachable since ")
        assert target.trouble.endswith(f"503 maintenance; {REFUSED}")
        assert len(caplog.records) == 2

    def test_many_threads_at_once_open_one_outage(
        self, target: Target, job: Job, caplog: pytest.LogCaptureFixture
    ) -> None:
        jobs = [replace(job, id=number) for number in range(16)]
        for one in jobs:
            target.claimed(one)

        in_threads(partial(target.attempt_finished, TABLE, one, TASK, AWAY) for one in jobs)

        assert len(caplog.records) == 1
        assert sum(probe is not None for probe in in_threads([self.patient(target)] * 8)) == 1

    @staticmethod
    def patient(target: Target) -> Callable[[], Probe | None]:
        """Asks for a probe when the first is due."""

        def ask() -> Probe | None:
            wait_until(lambda: not target.seconds_to_probe)
            return target.start_probe()

        return ask


class TestTokenThatIsRefused:
    """With a real Delivery, and a TheEye that takes another token than the table's."""

    @pytest.fixture
    def theeye(self) -> Iterator[StandIn]:
        by_key = [stand_in_task(TASK), stand_in_task(make_task(5))]
        with StandIn(["acme"], by_key, access_token="another") as stand_in:
            yield stand_in
            stand_in.clear()

    def table(self, theeye: StandIn) -> RoutingTable:
        table = make_table(tasks=(TASK, BY_TOKEN), url=theeye.url)
        return replace(table, theeye=replace(table.theeye, access_token=TOKEN))

    @pytest.fixture
    def process(self, theeye: StandIn, tmp_path: Path) -> Iterator[Process]:
        """It has four threads, of which only one comes up before `release`."""
        made, make_client = count(), quick_client(tmp_path)
        self.release = threading.Event()

        def one_first(watchdog: Watchdog) -> HttpClient:
            if next(made):
                self.release.wait(PATIENCE)
            return make_client(watchdog)

        mask = Mask([TOKEN, Secret(key_of(TASK))])
        process = Process(
            f"sqlite:///{tmp_path / 'bridge.db'}", self.table(theeye), mask, make_client=one_first
        )
        yield process
        self.release.set()
        process.close()

    def test_it_stands_in_the_header_alone(self, tmp_path: Path) -> None:
        with StandIn(["acme"], [stand_in_task(make_task(5))], access_token=TOKEN.reveal()) as theeye:
            process = Process(
                f"sqlite:///{tmp_path / 'bridge.db'}",
                self.table(theeye),
                Mask([TOKEN]),
                make_client=quick_client(tmp_path),
            )
            job = process.start().wait_for(process.send(task=BY_TOKEN), JobState.ACCEPTED)
            process.close()

            (received,) = theeye.received
            assert received.path == "/job"
            assert received.headers["Authorization"] == f"Bearer {TOKEN.reveal()}"
            assert received.query == {"customer": "acme"}
            assert job.theeye_job_id == theeye.jobs[0].id
            stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
            assert TOKEN.reveal().encode() not in stored

    def test_that_job_is_dead_and_the_rest_wait_those_already_claimed_too(
        self, process: Process, theeye: StandIn, caplog: pytest.LogCaptureFixture
    ) -> None:
        job_ids = process.store(*items(5, task=BY_TOKEN))
        before = [process.job(job_id) for job_id in job_ids]
        process.start()
        refused = process.wait_for(job_ids[0], JobState.DEAD)
        # Its neighbour was claimed with it, and comes to the same thread after it.
        (neighbour,) = process.wait_for_attempts(job_ids[1], 1)
        self.release.set()

        assert refused.reason == "refused: 401 authentication failed"
        process.wait_for(process.send(), JobState.ACCEPTED)
        process.send(task=BY_TOKEN)
        process.wait_for(process.send(), JobState.ACCEPTED)
        assert (neighbour.outcome, neighbour.detail) == (
            Outcome.UNAVAILABLE,
            "not sent: TheEye refused the access token; it will be retried",
        )
        # Not claimed again all the time: what waits is as it was stored.
        assert process.job(job_ids[1]).state is JobState.WAITING
        assert process.outbox.attempts(job_ids[1]) == [neighbour]
        assert [process.job(job_id) for job_id in job_ids[2:]] == before[2:]
        assert [one.path for one in posts(theeye)].count("/job") == 1
        assert caplog.text.count(REFUSED) == 1
        assert TOKEN.reveal() not in caplog.text

    def test_another_table_that_has_another_is_gone_by_at_once(
        self, process: Process, theeye: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(deliver, "POLL_INTERVAL", 30 * PATIENCE)
        self.release.set()
        process.start()
        process.wait_for(process.send(task=BY_TOKEN), JobState.DEAD)
        claims = process.outbox.calls["claim"]
        waits = process.send(task=BY_TOKEN)
        wait_until(lambda: process.outbox.calls["claim"] > claims)
        table = self.table(theeye)
        another = replace(table.theeye, access_token=Secret("another"))
        process.delivery.use(replace(table, theeye=another))
        process.wait_for(waits, JobState.ACCEPTED)

    def test_it_is_told_until_the_process_ends(self, process: Process, theeye: StandIn) -> None:
        self.release.set()
        process.start()
        process.wait_for(process.send(task=BY_TOKEN), JobState.DEAD)

        def told() -> list[str | None]:
            return [one.trouble for one in process.outbox.delivering(60)]

        wait_until(lambda: told() == [REFUSED], "the trouble in the store")
        assert process.delivery.trouble == REFUSED
        process.wait_for(process.send(), JobState.ACCEPTED)
        assert told() == [REFUSED]
        process.stop()
        assert told() == []

    def test_the_next_process_tries_again(self, process: Process, theeye: StandIn, tmp_path: Path) -> None:
        self.release.set()
        process.start()
        process.wait_for(process.send(task=BY_TOKEN), JobState.DEAD)
        waits = process.send(task=BY_TOKEN)
        process.stop()

        table = replace(
            self.table(theeye), theeye=replace(self.table(theeye).theeye, access_token=Secret("another"))
        )
        mended = Process(
            f"sqlite:///{tmp_path / 'bridge.db'}", table, Mask([TOKEN]), make_client=quick_client(tmp_path)
        ).start()
        mended.wait_for(waits, JobState.ACCEPTED)
        mended.close()

    def test_a_401_on_a_key_is_that_jobs_affair(self, process: Process, theeye: StandIn) -> None:
        self.release.set()
        process.start()
        theeye.fault(Fault(answer=Answer(401, b'"Unauthorized"'), times=1))
        assert process.wait_for(process.send(), JobState.DEAD).reason == "refused: 401 Unauthorized"
        assert process.delivery.trouble is None
        process.wait_for(process.send(), JobState.ACCEPTED)
