"""Delivery: real threads, a real store, a stand-in TheEye on real sockets."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.core import retry
from bridge.core.attempt_result import AttemptResult
from bridge.core.job import Job, JobState, Outcome
from bridge.core.retry import Decision, RetryPolicy
from bridge.core.secrets import Mask
from bridge.core.task import OnUnknown, Task
from bridge.delivery import circuit_breaker
from bridge.delivery import dispatcher as deliver
from bridge.delivery import sender as send
from bridge.delivery.dispatcher import LEASE_SLACK, MAX_LEASE
from bridge.http.client import HttpClient
from bridge.outbox import rates
from bridge.outbox.presence import FileLock
from bridge.outbox.store import Outbox
from bridge.process.log_fields import Fields
from bridge.process.watchdog import Watchdog
from bridge.routing.routing_table import RoutingTable
from bridge.theeye.answer import read_answer
from tests.support.delivery import TASK, Process, Shifted, arguments, posts, quick_client, unavailable
from tests.support.tables import (
    NOW,
    PATIENCE,
    claim_jobs,
    dead_job,
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

OTHER = make_task(2)
HOLDING = make_task(3, on_unknown=OnUnknown.HOLD)
#: In no table.
STRANGER = make_task(4)
TASKS = (TASK, OTHER, HOLDING)

#: Long enough that only a test that has failed waits for it.
LONG = 60.0


TERMINATED = {"id": "7", "lifecycle": "terminated", "state": "error", "output": '"InvalidTaskArguments"'}

Make = Callable[..., Process]


class Ticking(Shifted):
    """Goes on by 50 ms whenever it is asked for the time."""

    def __init__(self) -> None:
        super().__init__()
        self._times = count(NOW, step=0.05)

    def __call__(self) -> float:
        return next(self._times)

    @property
    def trouble(self) -> None:
        return None


def logged(caplog: pytest.LogCaptureFixture, action: str) -> list[Fields]:
    """The fields of each line with this action."""
    found = (record.args for record in caplog.records)
    return [each for each in found if isinstance(each, Fields) and each["action"] == action]


def wait_for(event: threading.Event) -> None:
    event.wait(PATIENCE)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that would cost seconds are short, and leases go by the test's clock on PostgreSQL too."""
    monkeypatch.setattr(rates, "store_time", lambda connection, here: here)
    monkeypatch.setattr(deliver, "POLL_INTERVAL", 0.03)
    monkeypatch.setattr(deliver, "JUMP_THRESHOLD", math.inf)  # a clock that a test moves has not jumped
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(circuit_breaker, "MIN_PROBE_WAIT", 0.02)
    monkeypatch.setattr(send, "RECORD_RETRY_INTERVAL", 0.03)


@pytest.fixture
def theeye() -> Iterator[StandIn]:
    with StandIn(["acme"], [stand_in_task(task) for task in (*TASKS, STRANGER)]) as stand_in:
        yield stand_in
        stand_in.clear()


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Watchdog], HttpClient]:
    return quick_client(tmp_path_factory.mktemp("certificates"))


#: Where a process sees that it is alone, it takes up at once what a crash left. And files can be searched.
on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


@pytest.fixture
def make(url: str, theeye: StandIn, client: Callable[[Watchdog], HttpClient]) -> Iterator[Make]:
    """Makes a process; what it is given beside a table's parts goes to Delivery."""
    made: list[Process] = []

    def make(
        tasks: tuple[Task, ...] = TASKS,
        timeout: float = 5.0,
        retry_for: float = 86400.0,
        longest_wait: float = 0.05,
        **of_delivery: Any,
    ) -> Process:
        policy = RetryPolicy(retry_for, longest_wait)
        table = make_table(tasks=tasks, url=theeye.url, timeout=timeout, retry=policy)
        mask = Mask(task.secret_key for task in tasks if task.secret_key is not None)
        made.append(Process(url, table, mask, **{"make_client": client, **of_delivery}))
        return made[-1]

    yield make
    theeye.clear()
    for process in made:
        process.close()


@pytest.fixture
def process(make: Make) -> Process:
    return make().start()


def threads() -> list[str]:
    """Those of a delivery and of its store."""
    names = ("send-", "dispatch", "probe", "watchdog", "outbox")
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(names)]


class TestSending:
    def test_what_theeye_gets(self, process: Process, theeye: StandIn) -> None:
        process.send({"k": [1]})

        (job,) = theeye.wait_for(1)
        assert job.script_arguments == ('{"k":[1]}',)
        (received,) = theeye.received
        assert (received.method, received.path) == ("POST", f"/job/secret/{key_of(TASK)}")
        assert received.query == {"customer": "acme"}
        assert received.headers["Accept"] == received.headers["Content-Type"] == "application/json"

    @pytest.mark.parametrize("threads", [1, 4])
    def test_woken_at_once_by_each_job(
        self, make: Make, theeye: StandIn, threads: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(deliver, "POLL_INTERVAL", LONG)
        process = make(threads=threads).start()

        for number in range(20):
            process.send(number)
            theeye.wait_for(number + 1)

    def test_woken_at_once_by_a_job_that_waited_for_a_thread(
        self, make: Make, theeye: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(deliver, "POLL_INTERVAL", LONG)
        process = make(threads=2).start()

        process.store(*items(30))

        theeye.wait_for(30)

    def test_what_waits_at_the_start_is_sent(self, make: Make, theeye: StandIn) -> None:
        process = make()
        process.store(*items(10))
        process.start()
        theeye.wait_for(10)

    def test_what_another_process_stores_is_found(self, process: Process, theeye: StandIn) -> None:
        other = Outbox(process.url, beside_a_server=True)
        other.store(make_webhook(make_job("from a command")))
        other.close()
        theeye.wait_for(1)

    def test_the_oldest_first(self, make: Make, theeye: StandIn) -> None:
        process = make(threads=1)
        for number in range(12):
            process.send(f"job {number}", TASKS[number % 3])
        process.start()

        theeye.wait_for(12)
        assert arguments(theeye) == [f"job {number}" for number in range(12)]

    def test_each_job_once_by_two_processes(self, make: Make, theeye: StandIn) -> None:
        one, other = make().start(), make().start()
        for process in (one, other):
            process.store(*items(40))

        wait_until(lambda: one.outbox.counts() == {JobState.ACCEPTED: 80}, "the last")

        assert len(theeye.received) == len(theeye.jobs) == 80

    def test_a_table_that_changes_between(self, make: Make, theeye: StandIn) -> None:
        """The key is that of the table in force when the job is sent."""
        process = make(tasks=(make_task(1, secret_key=TASK.secret_key, name="renamed"),))
        job_id = process.send()
        process.start()
        assert process.wait_for(job_id, JobState.ACCEPTED).task == "task 1"


class TestOutcomes:
    def test_accepted(self, process: Process, theeye: StandIn) -> None:
        job = process.wait_for(process.send(), JobState.ACCEPTED)

        assert (job.theeye_job_id, job.reason) == (theeye.jobs[0].id, None)
        assert (job.claim_token, job.lease_until, job.window_attempts, job.window_unknowns) == (
            None,
            None,
            1,
            0,
        )
        (attempt,) = process.outbox.attempts(job.id)
        assert (attempt.outcome, attempt.status, attempt.detail) == (Outcome.ACCEPTED, 200, "")
        assert attempt.theeye_job_id == theeye.jobs[0].id
        assert attempt.seconds is not None
        assert 0 < attempt.seconds < PATIENCE
        assert abs(attempt.started_at - time.time()) < PATIENCE

    @on_sqlite
    def test_nothing_of_the_answer_but_its_id_is_stored(
        self, process: Process, theeye: StandIn, tmp_path: Path
    ) -> None:
        process.wait_for(process.send(), JobState.ACCEPTED)

        stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert theeye.jobs[0].id.encode() in stored
        for text in theeye.confidential:
            assert text.encode() not in stored

    def test_accepted_for_a_person_to_act(self, process: Process, theeye: StandIn) -> None:
        job = {"id": "6a1f", "lifecycle": "onhold", "state": "in_progress"}
        theeye.fault(Fault(answer=Answer(200, orjson.dumps(job))))

        found = process.wait_for(process.send(), JobState.ACCEPTED)

        assert found.reason == (
            "the job waits at TheEye for a person. If TheEye asks for an approval, the job then "
            "runs with its arguments. If it asks for input, the arguments are lost"
        )

    REFUSED = (
        (400, b'{"statusCode":400,"message":"Invalid Task Arguments."}', "400 Invalid Task Arguments."),
        (403, b'"invalid secret"', "403 invalid secret"),
        (303, b"", "303, a redirect, which is never followed; check theeye.url"),
        (200, orjson.dumps(TERMINATED), "200, but the job will never run: InvalidTaskArguments"),
    )

    @pytest.mark.parametrize(
        ("status", "body", "reason"), REFUSED, ids=["400", "403", "a redirect", "200 that will never run"]
    )
    def test_refused(self, process: Process, theeye: StandIn, status: int, body: bytes, reason: str) -> None:
        theeye.fault(Fault(answer=Answer(status, body)))

        job = process.wait_for(process.send(), JobState.DEAD)

        assert job.reason == f"refused: {reason}"
        (attempt,) = process.outbox.attempts(job.id)
        assert (attempt.outcome, attempt.status, attempt.detail) == (Outcome.REFUSED, status, reason)
        assert len(theeye.received) == 1

    @pytest.mark.parametrize("status", [425, 429, 503])
    def test_unavailable_is_sent_again(self, process: Process, theeye: StandIn, status: int) -> None:
        # Where the status opens an outage, each time but the first is a trial.
        theeye.fault(Fault(answer=Answer(status, b"later"), method="POST", times=4))

        job = process.wait_for(process.send(), JobState.ACCEPTED)

        assert process.outcomes(job.id) == [Outcome.UNAVAILABLE] * 4 + [Outcome.ACCEPTED]
        assert (job.window_attempts, job.window_unknowns, len(theeye.jobs)) == (5, 0, 1)

    @pytest.mark.parametrize("form", ["seconds", "a date"])
    def test_retry_after_is_the_floor_of_the_wait(self, process: Process, theeye: StandIn, form: str) -> None:
        date = format_datetime(datetime.fromtimestamp(int(time.time()) + 120, UTC), usegmt=True)
        header = ("Retry-After", "120" if form == "seconds" else date)
        theeye.fault(Fault(answer=Answer(503, b'"maintenance"', (header,)), times=1))
        job_id = process.send()
        process.wait_for_attempts(job_id, 1)

        job = process.wait_for(job_id, JobState.WAITING)
        assert 110 < job.due_at - time.time() <= 121
        assert job.reason == "503 maintenance"

        process.clock.offset = 122
        process.wait_for(job_id, JobState.ACCEPTED)

    def test_a_connection_that_is_refused(self, process: Process, theeye: StandIn) -> None:
        theeye.refuse()
        job_id = process.send()
        (attempt,) = process.wait_for_attempts(job_id, 1)
        assert (attempt.outcome, attempt.status) == (Outcome.UNAVAILABLE, None)
        assert "connection refused" in str(attempt.detail)
        wait_until(lambda: process.delivery.trouble, "the outage")

        theeye.listen()

        process.wait_for(job_id, JobState.ACCEPTED)
        assert process.outcomes(job_id) == [Outcome.UNAVAILABLE, Outcome.ACCEPTED]
        assert [one.method for one in theeye.received] == ["GET", "POST"]
        assert process.delivery.trouble is None

    UNKNOWN = (
        (Fault(reset=True), None, "the connection was closed before the answer came"),
        (Fault(answer=Answer(500, b'"Internal Server Error"')), 500, "500 Internal Server Error"),
        (Fault(answer=Answer(502, b"<b>Bad Gateway</b>")), 502, "502 <b>Bad Gateway</b>"),
        (Fault(answer=Answer(408)), 408, "408"),
        (Fault(answer=Answer(200, b"<html>")), 200, "200, but the answer cannot be read"),
        (Fault(answer=Answer(200, b'{"id": 5}')), 200, "200, but the answer is not a job"),
        (Fault(hang=LONG), None, "no answer within 0.25 s"),
    )  # fmt: skip
    WAYS = ("reset", "500", "502 in HTML", "408", "200 unreadable", "200 no job", "time-out")

    @pytest.mark.parametrize(("fault", "status", "detail"), UNKNOWN, ids=WAYS)
    def test_unknown_is_sent_two_more_times(
        self, make: Make, theeye: StandIn, fault: Fault, status: int | None, detail: str
    ) -> None:
        process = make(timeout=0.25 if fault.hang else 5.0).start()
        theeye.fault(replace(fault, method="POST"))

        job = process.wait_for(process.send(), JobState.UNKNOWN)

        assert job.reason == f"{detail}; TheEye may have it, sent 3 times"
        found = [(one.outcome, one.status, one.detail) for one in process.outbox.attempts(job.id)]
        assert found == [(Outcome.UNKNOWN, status, detail)] * 3
        assert len(posts(theeye)) == 3

    @pytest.mark.parametrize(("fault", "status", "detail"), UNKNOWN, ids=WAYS)
    def test_or_is_held_at_once(
        self, make: Make, theeye: StandIn, fault: Fault, status: int | None, detail: str
    ) -> None:
        process = make(timeout=0.25 if fault.hang else 5.0).start()
        theeye.fault(fault)

        job = process.wait_for(process.send(task=HOLDING), JobState.UNKNOWN)

        assert job.reason == f"{detail}; TheEye may have it (on_unknown: hold)"
        assert len(process.outbox.attempts(job.id)) == len(posts(theeye)) == 1

    def test_unknown_once_and_then_accepted(self, process: Process, theeye: StandIn) -> None:
        theeye.fault(Fault(reset=True, saves=True, times=1))
        job = process.wait_for(process.send(), JobState.ACCEPTED)
        assert process.outcomes(job.id) == [Outcome.UNKNOWN, Outcome.ACCEPTED]
        assert job.theeye_job_id == theeye.jobs[1].id

    def test_the_waits_grow(self, make: Make, theeye: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(retry, "FIRST_WAIT", 100.0)
        monkeypatch.setattr(random, "random", lambda: 1.0)
        process = make(longest_wait=350.0).start()
        theeye.fault(Fault(answer=Answer(425)))
        job_id = process.send()

        for number, wait in enumerate((100, 200, 350, 350), start=1):
            process.wait_for_attempts(job_id, number)
            job = process.wait_for(job_id, JobState.WAITING)
            assert wait - PATIENCE < job.due_at - process.clock() <= wait
            process.clock.offset += wait

    def test_it_is_given_up_when_its_time_is_over(self, make: Make, theeye: StandIn) -> None:
        process = make(retry_for=3600.0).start()
        theeye.fault(Fault(answer=Answer(425, b"later", (("Retry-After", "1800"),))))
        job_id = process.send()
        for number in (1, 2):
            process.wait_for_attempts(job_id, number)
            process.wait_for(job_id, JobState.WAITING)
            process.clock.offset += 1801

        assert process.wait_for(job_id, JobState.DEAD).reason == "gave up after 3600 s: 425 later"
        assert len(theeye.received) == 3

    def test_keys_are_masked_before_a_text_is_cut(
        self, process: Process, theeye: StandIn, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A cut inside of a key would leave a part that no mask knows."""
        caplog.set_level(logging.DEBUG)
        key = key_of(TASK)
        theeye.fault(Fault(answer=Answer(404, f"{'x' * 475} {key} is no key".encode())))

        job = process.wait_for(process.send(), JobState.DEAD)

        (attempt,) = process.outbox.attempts(job.id)
        assert attempt.detail is not None
        assert attempt.detail.endswith("x <secret> is no key")
        assert len(attempt.detail) <= 500
        for text in (attempt.detail, job.reason or "", caplog.text):
            assert key[:8] not in text

    @on_sqlite
    def test_so_is_the_id_of_theeyes_job(self, process: Process, theeye: StandIn, tmp_path: Path) -> None:
        key = key_of(TASK)
        answer = {"id": "i" * 60 + key + "j" * 600, "lifecycle": "ready", "state": "in_progress"}
        theeye.fault(Fault(answer=Answer(200, orjson.dumps(answer))))

        job = process.wait_for(process.send(), JobState.ACCEPTED)

        assert job.theeye_job_id == "i" * 60 + "<secret>" + "j" * 432
        assert key[:8].encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


class TestPeople:
    def test_a_dead_job_is_sent_as_it_is_built_today(self, process: Process, theeye: StandIn) -> None:
        (job_id,) = process.store(dead_job())
        process.outbox.retry(job_id, make_job("mended"))
        process.wait_for(job_id, JobState.ACCEPTED)
        assert arguments(theeye) == ["mended"]

    def test_an_unknown_job_is_sent_again(self, process: Process, theeye: StandIn) -> None:
        theeye.fault(Fault(reset=True, times=1))
        job_id = process.send(task=HOLDING)
        process.wait_for(job_id, JobState.UNKNOWN)
        process.outbox.resolve(job_id, sent=False)
        process.wait_for(job_id, JobState.ACCEPTED)
        assert [one.number for one in process.outbox.attempts(job_id)] == [1, 2]

    def test_or_not(self, process: Process, theeye: StandIn) -> None:
        theeye.fault(Fault(reset=True, times=1))
        job_id = process.send(task=HOLDING)
        process.wait_for(job_id, JobState.UNKNOWN)
        process.outbox.resolve(job_id, sent=True)
        process.wait_for(process.send("another"), JobState.ACCEPTED)
        assert process.job(job_id).state is JobState.ACCEPTED
        assert len(theeye.received) == 2


class TestUnknownTasks:
    REASON = f"this process's table has no task {STRANGER.id}"

    def test_a_job_whose_task_the_table_lacks_waits(
        self, make: Make, theeye: StandIn, caplog: pytest.LogCaptureFixture
    ) -> None:
        process = make(retry_for=3600.0)
        job_id = process.send(task=STRANGER)
        process.start()
        wait_until(lambda: process.job(job_id).reason)

        job = process.wait_for(job_id, JobState.WAITING)
        assert job.reason == self.REASON
        assert 0.5 <= job.due_at - job.retry_window_start < 10
        assert (job.window_attempts, process.outbox.attempts(job_id), theeye.received) == (0, [], ())

        process.clock.offset = 1000
        wait_until(lambda: process.job(job_id).due_at > job.due_at + 900)
        job = process.wait_for(job_id, JobState.WAITING)
        assert 20 < job.due_at - process.clock() <= 30

        process.clock.offset = 3601
        job = process.wait_for(job_id, JobState.DEAD)
        assert (job.reason, process.outbox.attempts(job_id), theeye.received) == (self.REASON, [], ())
        (line,) = logged(caplog, "dead")
        assert (line["job"], line["event"], line["reason"]) == (job_id, job.event_id, self.REASON)

    def test_until_a_table_has_it(self, make: Make, theeye: StandIn) -> None:
        without = make().start()
        job_id = without.send(task=STRANGER)
        wait_until(lambda: without.job(job_id).reason)
        without.stop()
        have = make(tasks=(STRANGER,))
        have.clock.offset = 31
        have.start()
        have.wait_for(job_id, JobState.ACCEPTED)

    def test_many_of_them_leave_the_others_their_threads(self, make: Make, theeye: StandIn) -> None:
        process = make(threads=2)
        process.store(*items(50, task=STRANGER))
        job_id = process.send()
        process.start()
        process.wait_for(job_id, JobState.ACCEPTED)


class TestThreads:
    def test_a_task_that_hangs_has_at_most_half_of_them(self, make: Make, theeye: StandIn) -> None:
        theeye.fault(Fault(hang=LONG, task_id=TASK.id))
        process = make(threads=4, timeout=LONG)
        process.store(*items(20))
        process.store(*items(20, task=OTHER))
        process.start()

        wait_until(lambda: len(theeye.jobs) == 20, "the other task's jobs")

        assert {job.task_id for job in theeye.jobs} == {OTHER.id}
        assert Counter(one.task_id for one in theeye.received) == {OTHER.id: 20, TASK.id: 2}
        theeye.clear()
        theeye.wait_for(40)

    def test_a_single_thread_is_for_all(self, make: Make, theeye: StandIn) -> None:
        process = make(threads=1)
        process.store(*items(3))
        process.store(*items(3, task=OTHER))
        process.start()
        theeye.wait_for(6)

    def test_a_job_that_waits_holds_none(self, make: Make, theeye: StandIn) -> None:
        theeye.fault(Fault(answer=Answer(503, b"", (("Retry-After", "600"),)), task_id=TASK.id, times=5))
        process = make(threads=1).start()
        waiting = process.store(*items(5))
        for job_id in waiting:
            process.wait_for_attempts(job_id, 1)

        process.wait_for(process.send(task=OTHER), JobState.ACCEPTED)

        assert {process.job(job_id).state for job_id in waiting} == {JobState.WAITING}
        process.clock.offset = 601
        theeye.wait_for(6)

    def test_a_task_that_has_its_part_does_not_keep_the_dispatcher_busy(
        self, make: Make, theeye: StandIn
    ) -> None:
        theeye.fault(Fault(hang=LONG))
        process = make(threads=2, timeout=LONG)
        process.store(*items(20))
        process.start()
        theeye.wait_for_requests(1)
        wait_until(lambda: process.outbox.calls["claim"] > 3)

        begun, before = time.monotonic(), process.outbox.calls["claim"]
        wait_until(lambda: process.outbox.calls["claim"] > before + 10)

        # Each round asks once and then waits for POLL_INTERVAL.
        assert time.monotonic() - begun > 9 * deliver.POLL_INTERVAL
        assert len(theeye.received) == 1

    def test_no_threads_are_left_after_stop(self, make: Make, theeye: StandIn) -> None:
        before = threads()
        process = make().start()
        assert process.delivery.is_alive
        process.wait_for(process.send(), JobState.ACCEPTED)
        assert len(threads()) > len(before) + 4
        process.close()
        assert threads() == before
        assert not process.delivery.is_alive

    def test_before_start_it_is_not_alive_and_stop_does_nothing(self, make: Make) -> None:
        process = make()
        assert not process.delivery.is_alive
        process.delivery.stop(0)

    def test_a_defect_costs_a_job_its_attempt_and_no_thread(
        self, make: Make, theeye: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        left = count()

        def read(*of_answer: Any) -> AttemptResult:
            if next(left) < 3:
                raise ZeroDivisionError
            return read_answer(*of_answer)

        monkeypatch.setattr(send, "read_answer", read)
        process = make(threads=1, timeout=0.5).start()
        job_ids = process.store(*items(4))

        process.wait_for(job_ids[3], JobState.ACCEPTED)

        assert process.delivery.is_alive
        assert caplog.text.count("sending failed") == 3
        # What was sent may be at TheEye: when the lease is over it is taken up as that.
        assert process.outcomes(job_ids[0]) == [None]
        process.clock.offset = 0.5 + LEASE_SLACK + 1
        process.wait_for(job_ids[0], JobState.ACCEPTED)
        assert process.outcomes(job_ids[0]) == [Outcome.UNKNOWN, Outcome.ACCEPTED]

    def test_a_defect_before_the_attempt_costs_one_job(
        self, make: Make, theeye: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        problem = send.Sender._problem

        def fail(sender: send.Sender, table: RoutingTable, job: Job) -> str | None:
            if job.arguments == ("odd",):
                raise ZeroDivisionError
            return problem(sender, table, job)

        monkeypatch.setattr(send.Sender, "_problem", fail)
        process = make()
        odd, even = process.send("odd"), process.send("even")
        process.start()

        process.wait_for(even, JobState.ACCEPTED)

        assert process.outcomes(odd) == []
        assert "the check before sending failed" in caplog.text

    def test_a_defect_does_not_end_the_dispatcher(
        self, make: Make, theeye: StandIn, caplog: pytest.LogCaptureFixture
    ) -> None:
        process = make()
        left = count()

        def fail() -> None:
            if next(left) < 2:
                raise ZeroDivisionError

        process.outbox.before["claim"] = fail
        process.start()
        process.wait_for(process.send(), JobState.ACCEPTED)
        assert caplog.text.count("claiming failed") == 2

    def test_a_job_that_comes_due_between_two_questions_is_sent_at_once(
        self, make: Make, theeye: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not due when a claim was asked for, and due when the dispatcher asked how long to wait."""
        monkeypatch.setattr(deliver, "POLL_INTERVAL", LONG)
        for ticks in range(1, 7):
            process = make(clock=Ticking(), threads=1)
            # When it is stored, and so when it is due.
            process.clock.offset = NOW + (ticks + 0.4) * 0.05 - time.time()
            process.send(ticks)
            process.start()
            theeye.wait_for(ticks)
            process.close()


class TestCrashes:
    """What a process that was killed leaves behind: its claims, started or not."""

    def leave(self, process: Process, *, task: Task = TASK, started: bool) -> int:
        """A job that a process had claimed, or started to send, when it was killed."""
        job_id = process.send("left", task)
        claim_jobs(process.outbox, lease=35, starts=started)
        return job_id

    @on_sqlite
    def test_what_was_not_started_is_sent_at_once(self, make: Make, theeye: StandIn) -> None:
        process = make()
        job_id = self.leave(process, task=HOLDING, started=False)
        process.start()
        process.wait_for(job_id, JobState.ACCEPTED)
        assert process.outcomes(job_id) == [Outcome.ACCEPTED]

    @on_sqlite
    def test_what_was_started_is_unknown_and_sent_again(
        self, make: Make, theeye: StandIn, caplog: pytest.LogCaptureFixture
    ) -> None:
        process = make()
        job_id = self.leave(process, started=True)
        process.start()
        job = process.wait_for(job_id, JobState.ACCEPTED)
        first, _ = process.outbox.attempts(job_id)
        assert (first.outcome, first.status) == (Outcome.UNKNOWN, None)
        assert first.detail == "the process ended before the answer came"
        assert (job.window_attempts, job.window_unknowns) == (2, 1)
        line, *_ = logged(caplog, "deliver")
        assert (line["job"], line["attempt"], line["outcome"]) == (job_id, first.id, Outcome.UNKNOWN)
        assert [each["job"] for each in logged(caplog, "reclaim")] == [job_id]

    @on_sqlite
    def test_or_held(self, make: Make, theeye: StandIn) -> None:
        process = make()
        job_id = self.leave(process, task=HOLDING, started=True)
        process.start()
        job = process.wait_for(job_id, JobState.UNKNOWN)
        assert job.reason == "the process ended before the answer came; TheEye may have it (on_unknown: hold)"
        assert theeye.received == ()

    @on_sqlite
    def test_whose_task_is_gone_is_held(self, make: Make, theeye: StandIn) -> None:
        process = make()
        job_id = self.leave(process, task=STRANGER, started=True)
        process.start()
        process.wait_for(job_id, JobState.UNKNOWN)

    @pytest.mark.parametrize("started", [True, False])
    def test_beside_another_process_only_the_lease_tells(
        self, make: Make, theeye: StandIn, tmp_path: Path, started: bool
    ) -> None:
        process = make()
        (tmp_path / "bridge.db").touch()  # on PostgreSQL, nobody sees the lock
        other = FileLock(tmp_path / "bridge.db")
        assert other.is_alone()
        other.share()
        job_id = self.leave(process, started=started)
        process.start()
        process.wait_for(process.send("new"), JobState.ACCEPTED)
        rounds = process.outbox.calls["abandoned_claims"]
        wait_until(lambda: process.outbox.calls["abandoned_claims"] > rounds + 1)
        assert process.job(job_id).state is JobState.SENDING

        process.clock.offset = 36

        process.wait_for(job_id, JobState.ACCEPTED)
        assert process.outcomes(job_id) == [Outcome.UNKNOWN] * started + [Outcome.ACCEPTED]
        other.close()

    def test_a_claim_by_a_clock_that_was_ahead_ends_soon(
        self, make: Make, theeye: StandIn, tmp_path: Path
    ) -> None:
        process = make()
        (tmp_path / "bridge.db").touch()  # on PostgreSQL, nobody sees the lock
        other = FileLock(tmp_path / "bridge.db")
        other.share()
        job_id = process.send("left")
        claim_jobs(process.outbox, lease=7 * 3600)
        process.start()
        wait_until(lambda: (process.job(job_id).lease_until or 0) <= process.clock() + MAX_LEASE)
        assert (process.job(job_id).lease_until or 0) > process.clock() + MAX_LEASE - PATIENCE
        other.close()

    def test_a_correction_forward_makes_no_job_due_and_none_old(
        self, process: Process, theeye: StandIn
    ) -> None:
        theeye.fault(Fault(answer=Answer(425, b"later", (("Retry-After", "7200"),))))
        job_id = process.send()
        process.wait_for_attempts(job_id, 1)
        before = process.wait_for(job_id, JobState.WAITING)

        process.clock.forward_jumps += 1
        wait_until(
            lambda: process.job(job_id).retry_window_start > before.retry_window_start, "the renewed time"
        )
        assert process.job(job_id).due_at == before.due_at

        process.clock.backward_jumps += 1
        process.wait_for_attempts(job_id, 2)

    def test_after_a_freeze_nothing_is_taken_up_before_others_could_record(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(deliver, "RECOVERY_DELAY", 0.6)
        process = make()
        process.start()
        wait_until(lambda: process.outbox.calls["abandoned_claims"])

        def freeze() -> None:
            process.outbox.before.clear()
            process.outbox.before["abandoned_claims"] = lambda: rounds.append(process.outbox.calls["claim"])
            time.sleep(0.8)
            process.outbox.calls["claim"] = 0

        rounds: list[int] = []
        process.outbox.before["claim"] = freeze
        wait_until(lambda: rounds, "the next look")
        assert rounds[0] > 4

    @on_sqlite
    def test_it_is_seen_by_the_next_process_that_another_delivers(
        self, make: Make, theeye: StandIn, tmp_path: Path
    ) -> None:
        process = make().start()
        process.wait_for(process.send(), JobState.ACCEPTED)
        mine = FileLock(tmp_path / "bridge.db")
        assert not mine.is_alone()
        process.stop()
        assert mine.is_alone()
        mine.close()

    @pytest.mark.parametrize("task", [HOLDING, TASK], ids=["hold", "retry"])
    def test_a_late_answer_settles_a_job_that_another_process_took_up(
        self, process: Process, theeye: StandIn, task: Task
    ) -> None:
        theeye.fault(Fault(hang=LONG))
        job_id = process.send(task=task)
        theeye.wait_for_requests(1)
        ((job, attempt),) = process.outbox.abandoned_claims(everything=True)
        assert job.claim_token is not None
        assert attempt is not None
        lost = AttemptResult(1.0, Outcome.UNKNOWN, None, "taken up", None)
        again = Decision(JobState.WAITING, time.time() + LONG, "x")
        next_ = Decision(JobState.UNKNOWN, None, "x") if task is HOLDING else again
        assert process.outbox.record(job, job.claim_token, attempt.id, lost, next_)
        attempts = process.outbox.attempts(job_id)

        theeye.clear()
        after = process.wait_for(job_id, JobState.ACCEPTED)

        assert after.theeye_job_id == theeye.jobs[0].id
        assert after.reason == "TheEye's answer came after the claim had ended"
        # An attempt is completed once: it says what was known when it was.
        assert process.outbox.attempts(job_id) == attempts
        assert len(posts(theeye)) == 1


class TestStoreThatFails:
    def test_what_theeye_answered_is_not_lost(self, process: Process, theeye: StandIn) -> None:
        process.outbox.before["record"] = unavailable
        job_id = process.send(task=HOLDING)
        wait_until(lambda: process.outbox.calls["record"] > 2)
        process.outbox.before.clear()

        process.wait_for(job_id, JobState.ACCEPTED)

        assert len(theeye.received) == 1

    def test_not_even_when_its_lease_is_over_meanwhile(self, process: Process, theeye: StandIn) -> None:
        """What a thread of this process still has is not left behind."""

        def unavailable_to_threads() -> None:
            if threading.current_thread().name.startswith("send-"):
                unavailable()

        process.outbox.before["record"] = unavailable_to_threads
        job_id = process.send(task=HOLDING)
        wait_until(lambda: process.outbox.calls["record"])
        process.clock.offset = 100
        rounds = process.outbox.calls["abandoned_claims"]
        wait_until(lambda: process.outbox.calls["abandoned_claims"] > rounds + 2)
        process.outbox.before.clear()

        process.wait_for(job_id, JobState.ACCEPTED)

        assert process.outcomes(job_id) == [Outcome.ACCEPTED]
        assert len(theeye.received) == 1

    @pytest.mark.parametrize("task", [HOLDING, TASK], ids=["hold", "retry"])
    def test_what_is_claimed_and_not_known_to_be_is_not_sent(
        self, process: Process, theeye: StandIn, task: Task
    ) -> None:
        """The connection is lost after the commit. Nobody can tell that from a crash after the POST."""
        process.outbox.before["claimed"] = unavailable
        job_id = process.send(task=task)
        wait_until(lambda: process.outbox.calls["claimed"])
        process.outbox.before.clear()
        process.wait_for(process.send("another"), JobState.ACCEPTED)
        assert process.job(job_id).state is JobState.SENDING
        assert len(theeye.received) == 1

        process.clock.offset = 36

        if task is HOLDING:
            process.wait_for(job_id, JobState.UNKNOWN)
            assert process.outcomes(job_id) == [Outcome.UNKNOWN]
            assert len(theeye.received) == 1
        else:
            process.wait_for(job_id, JobState.ACCEPTED)
            assert process.outcomes(job_id) == [Outcome.UNKNOWN, Outcome.ACCEPTED]

    def test_what_cannot_be_claimed_waits(self, process: Process, theeye: StandIn) -> None:
        process.outbox.before["claim"] = unavailable
        job_id = process.send()
        wait_until(lambda: process.outbox.calls["claim"] > 2)
        process.outbox.before.clear()
        process.wait_for(job_id, JobState.ACCEPTED)


class TestLeases:
    """A send begins only if its lease outlasts it."""

    @pytest.fixture
    def end_leases(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[Process], None]:
        """Lets a process have too little left of its claims, until it claims anew."""

        def end_leases(process: Process) -> None:
            monkeypatch.setattr(send, "LEASE_MARGIN", 1000.0)
            process.outbox.before["claim"] = lambda: monkeypatch.setattr(send, "LEASE_MARGIN", 5.0)

        return end_leases

    def test_a_claim_that_waited_too_long_is_not_sent(
        self, make: Make, theeye: StandIn, end_leases: Callable[[Process], None]
    ) -> None:
        ready = threading.Event()
        process = make(threads=1, make_client=lambda watchdog: ready.wait(PATIENCE) and HttpClient(watchdog))
        job_id = process.send()
        process.start()
        process.wait_for(job_id, JobState.SENDING)

        end_leases(process)
        ready.set()

        self.assert_sent_at_the_second_attempt(process, theeye, job_id)

    def test_a_start_whose_commit_took_too_long_is_not_sent(
        self, make: Make, theeye: StandIn, end_leases: Callable[[Process], None]
    ) -> None:
        """Another process may have taken the job up by then, and send it. However old, the job waits."""
        process = make(threads=1, retry_for=0.0)

        def slow() -> None:
            process.outbox.before.clear()
            end_leases(process)

        process.outbox.before["claimed"] = slow
        process.start()
        self.assert_sent_at_the_second_attempt(process, theeye, process.send())

    @staticmethod
    def assert_sent_at_the_second_attempt(process: Process, theeye: StandIn, job_id: int) -> None:
        process.wait_for(job_id, JobState.ACCEPTED)
        first, second = process.outbox.attempts(job_id)
        assert (first.outcome, first.detail) == (
            Outcome.UNAVAILABLE,
            "not sent: its lease is about to expire; it will be retried",
        )
        assert second.outcome is Outcome.ACCEPTED
        assert len(theeye.received) == 1


class TestStop:
    @pytest.fixture
    def ready(self) -> Iterator[threading.Event]:
        """When the threads of `make_late` begin to send."""
        ready = threading.Event()
        yield ready
        ready.set()

    @pytest.fixture
    def make_late(self, make: Make, ready: threading.Event) -> Make:
        def make_client(watchdog: Watchdog) -> HttpClient:
            ready.wait(PATIENCE)
            return HttpClient(watchdog)

        return partial(make, make_client=make_client)

    def test_what_is_claimed_is_sent_and_no_more(
        self, make_late: Make, theeye: StandIn, ready: threading.Event
    ) -> None:
        process = make_late(threads=3)
        first, second, other = process.store(*items(2), make_job("other", route="second", task=OTHER))
        waiting = process.job(second)
        process.start()
        wait_until(lambda: process.outbox.counts() == {JobState.SENDING: 2, JobState.WAITING: 1})

        stopping = process.stop_meanwhile()
        wait_until(lambda: "dispatch" not in threads())
        ready.set()
        stopping.join(PATIENCE)

        assert [process.outcomes(job_id) for job_id in (first, other)] == [[Outcome.ACCEPTED]] * 2
        assert process.job(second) == waiting
        assert len(theeye.received) == 2

    def test_what_is_not_sent_by_the_end_is_unknown(self, make_late: Make, theeye: StandIn) -> None:
        process = make_late()
        job_id = process.send(task=HOLDING)
        process.start()
        process.wait_for(job_id, JobState.SENDING)

        process.stop(0.05)

        assert process.job(job_id).state is JobState.UNKNOWN
        (attempt,) = process.outbox.attempts(job_id)
        assert attempt.detail == "the bridge stopped before the answer came"
        assert theeye.received == ()

    def test_nothing_is_sent_once_the_end_has_come(
        self, make_late: Make, theeye: StandIn, ready: threading.Event
    ) -> None:
        """A thread comes up late, while attempts that still run are recorded."""
        process = make_late()
        job_id = process.send(task=HOLDING)
        process.start()
        process.wait_for(job_id, JobState.SENDING)

        def come_up() -> None:
            process.outbox.before.clear()
            ready.set()
            wait_until(lambda: not any(name.startswith("send-") for name in threads()))

        process.outbox.before["record"] = come_up
        process.stop(0.05)

        assert theeye.received == ()
        assert process.job(job_id).state is JobState.WAITING
        (attempt,) = process.outbox.attempts(job_id)
        assert attempt.outcome is Outcome.UNAVAILABLE
        assert attempt.detail == "not sent: the bridge is stopping; it will be retried"

    def test_an_answer_that_the_store_refused_is_recorded_at_the_end(
        self, process: Process, theeye: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(send, "RECORD_RETRY_INTERVAL", 1.0)
        process.outbox.before["record"] = unavailable
        job_id = process.send(task=HOLDING)
        wait_until(lambda: process.outbox.calls["record"])
        process.outbox.before.clear()

        process.stop(0.05)

        assert process.job(job_id).state is JobState.ACCEPTED
        assert process.outcomes(job_id) == [Outcome.ACCEPTED]
        wait_until(lambda: not any(name.startswith("send-") for name in threads()))

    def test_a_claim_after_the_end_starts_no_attempt(self, make: Make, theeye: StandIn) -> None:
        process, go_on = make(), threading.Event()
        job_id = process.send(task=HOLDING)
        process.outbox.before["claim"] = partial(wait_for, go_on)
        process.start()
        wait_until(lambda: process.outbox.calls["claim"])

        process.stop(0.05)
        go_on.set()

        process.wait_for(job_id, JobState.SENDING)
        assert process.outcomes(job_id) == []
        assert theeye.received == ()

    def test_what_runs_finishes(self, process: Process, theeye: StandIn) -> None:
        theeye.fault(Fault(hang=LONG))
        job_id = process.send(task=HOLDING)
        theeye.wait_for_requests(1)
        stopping = process.stop_meanwhile()
        wait_until(lambda: "dispatch" not in threads())

        theeye.clear()
        stopping.join(PATIENCE)

        assert process.job(job_id).state is JobState.ACCEPTED
        assert not process.delivery.is_alive

    def test_nothing_new_begins(self, process: Process, theeye: StandIn) -> None:
        process.stop()
        job_id = process.send()
        assert process.job(job_id).state is JobState.WAITING
        assert theeye.received == ()

    def test_what_still_runs_at_the_end_is_unknown(
        self, process: Process, theeye: StandIn, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        theeye.fault(Fault(hang=LONG))
        held, again = process.send(task=HOLDING), process.send()
        theeye.wait_for_requests(2)

        process.stop(0.05)

        for job_id, state in ((held, JobState.UNKNOWN), (again, JobState.WAITING)):
            assert process.job(job_id).state is state
            (attempt,) = process.outbox.attempts(job_id)
            assert (attempt.outcome, attempt.status) == (Outcome.UNKNOWN, None)
            assert attempt.detail == "the bridge stopped before the answer came"
            (line,) = [each for each in logged(caplog, "deliver") if each["attempt"] == attempt.id]
            assert (line["job"], line["outcome"], line["state"]) == (job_id, Outcome.UNKNOWN, state)
        assert process.job(again).claim_token is None
        # An answer that comes after all settles its job, as long as the store is open.
        theeye.clear()
        wait_until(lambda: not any(name.startswith("send-") for name in threads()))
        assert {process.job(job_id).state for job_id in (held, again)} == {JobState.ACCEPTED}
        assert "the claim is no longer held" not in caplog.text

    def test_it_does_not_wait_for_a_dispatcher_that_hangs(self, make: Make, theeye: StandIn) -> None:
        process, go_on = make(), threading.Event()
        process.outbox.before["claim"] = partial(wait_for, go_on)
        job_id = process.send()
        process.start()
        wait_until(lambda: process.outbox.calls["claim"])

        process.stop(0.05)
        go_on.set()
        wait_until(lambda: not threads() or "dispatch" not in threads())

        assert process.job(job_id).state in (JobState.WAITING, JobState.SENDING)
        assert theeye.received == ()

    def test_a_store_that_fails_does_not_end_it_halfway(
        self, process: Process, theeye: StandIn, tmp_path: Path
    ) -> None:
        theeye.fault(Fault(hang=LONG))
        job_ids = [process.send(task=HOLDING), process.send(task=HOLDING)]
        theeye.wait_for_requests(2)
        left = count()

        def fail_once() -> None:
            if next(left) == 0:
                unavailable()

        process.outbox.before["record"] = fail_once

        process.stop(0.05)

        assert Counter(process.job(job_id).state for job_id in job_ids) == {
            JobState.SENDING: 1,
            JobState.UNKNOWN: 1,
        }
        (tmp_path / "bridge.db").touch()
        presence = FileLock(tmp_path / "bridge.db")
        assert presence.is_alone()
        presence.close()

    def test_an_outcome_that_cannot_be_recorded_yet_has_until_the_end(
        self, process: Process, theeye: StandIn
    ) -> None:
        process.outbox.before["record"] = unavailable
        job_id = process.send(task=HOLDING)
        wait_until(lambda: process.outbox.calls["record"])
        stopping = process.stop_meanwhile()
        wait_until(lambda: "dispatch" not in threads())
        tried = process.outbox.calls["record"]
        wait_until(lambda: process.outbox.calls["record"] > tried + 1, "another try")
        process.outbox.before.clear()
        stopping.join(PATIENCE)

        assert process.job(job_id).state is JobState.ACCEPTED
        assert process.outcomes(job_id) == [Outcome.ACCEPTED]
