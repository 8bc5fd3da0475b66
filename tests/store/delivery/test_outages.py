"""Outages of TheEye, with true waits: a real Delivery, a real store, a stand-in on real sockets."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bridge.core import retry
from bridge.core.job import JobState, NewJob, Outcome
from bridge.core.retry import RetryPolicy
from bridge.core.secrets import Mask, Secret
from bridge.core.task import OnUnknown
from bridge.delivery import circuit_breaker
from bridge.delivery import sender as send
from bridge.delivery.dispatcher import THREADS
from bridge.http.client import HttpAnswer, HttpClient
from bridge.process.watchdog import Watchdog
from bridge.theeye.request import JobRequest, job_request
from tests.support.delivery import TASK, Process, arguments, posts, probes, quick_client
from tests.support.tables import (
    PATIENCE,
    items,
    key_of,
    make_job,
    make_table,
    make_task,
    stand_in_task,
    wait_until,
)
from tests.support.theeye import Answer, Fault, StandIn

# Delivery goes by what the store says, and tests/store/outbox asks both kinds.
pytestmark = pytest.mark.slow_unless(url="sqlite")

OTHER = make_task(2)
HOLDING = make_task(3, on_unknown=OnUnknown.HOLD)
TASKS = (TASK, OTHER, HOLDING)
#: They have no key: a token starts them.
BY_TOKEN = (make_task(5, secret_key=None), make_task(6, secret_key=None))
#: In no table.
STRANGER = make_task(4)

#: Longer than any test.
LONG = 300.0

#: Within how many seconds of TheEye's return the first job is sent, after an outage of up to 16 s.
BACK_WITHIN = 2.0
#: What a slow machine may add to that, seconds.
TIME_TOLERANCE = 1.5

MAINTENANCE = Fault(answer=Answer(503, b'"maintenance"'))
#: Nothing that was asked meanwhile is answered, not even when it is over.
SILENCE = Fault(hang=LONG, reset=True)

Make = Callable[..., Process]


def wait_for(event: threading.Event) -> None:
    event.wait(PATIENCE)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Watchdog], HttpClient]:
    return quick_client(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def theeye() -> Iterator[StandIn]:
    with StandIn(["acme"], [stand_in_task(task) for task in (*TASKS, STRANGER)]) as stand_in:
        yield stand_in
        stand_in.clear()


@pytest.fixture
def make(tmp_path: Path, theeye: StandIn, client: Callable[[Watchdog], HttpClient]) -> Iterator[Make]:
    """Makes a process with as many threads as a real one."""
    made: list[Process] = []

    def make(timeout: float = 5.0, **of_delivery: Any) -> Process:
        table = make_table(tasks=TASKS, url=theeye.url, timeout=timeout, retry=RetryPolicy())
        mask = Mask(task.secret_key for task in TASKS if task.secret_key is not None)
        of_delivery = {"make_client": client, "threads": THREADS} | of_delivery
        made.append(Process(f"sqlite:///{tmp_path / 'bridge.db'}", table, mask, **of_delivery))
        return made[-1]

    yield make
    theeye.clear()
    for process in made:
        process.close()


def mixed(count: int) -> list[NewJob]:
    """Jobs of two tasks in turn, each with its number as the one argument."""
    return [
        make_job(number, task=(TASK, OTHER)[number % 2], item_key=f"item-{number}", item_index=number)
        for number in range(count)
    ]


def numbers(theeye: StandIn) -> list[str]:
    """Those of the jobs that TheEye has, in their order."""
    return [str(number) for number in arguments(theeye)]


def by_due(process: Process, job_ids: list[int]) -> list[str]:
    """The numbers of the jobs in the order in which they were due, when they were sent last."""
    jobs = sorted(map(process.job, job_ids), key=lambda job: (job.due_at, job.id))
    return [str(job.arguments[0]) for job in jobs if job.arguments]


def troubles(process: Process) -> list[str | None]:
    """What the store says of the processes that deliver."""
    return [one.trouble for one in process.outbox.delivering(60)]


def wait_for_outage(process: Process) -> None:
    """Until it is open, and the jobs that were in flight when it opened are recorded."""
    wait_until(lambda: process.delivery.trouble, "the outage")
    wait_until(lambda: JobState.SENDING not in process.outbox.counts(), "the end of what was in flight")


def wait_until_back(theeye: StandIn, jobs: int, since: float) -> float:
    """Seconds from `since`, of ``time.monotonic()``, to the next job that TheEye has beside `jobs`."""
    wait_until(lambda: len(theeye.jobs) > jobs, "a job after the outage")
    return time.monotonic() - since


class Counting(HttpClient):
    """Counts the probes, also those that do not reach TheEye."""

    probes = 0

    def get(self, *arguments: Any) -> HttpAnswer:
        Counting.probes += 1
        return super().get(*arguments)


class TestBacklog:
    JOBS = 1500
    #: Seconds of each phase.
    PHASE = 3.0

    def test_waits_for_theeye_to_come_back_and_is_sent_oldest_first(
        self, make: Make, theeye: StandIn, caplog: pytest.LogCaptureFixture
    ) -> None:
        """TheEye answers 503, then refuses connections, then says nothing, all in one outage."""
        caplog.set_level(logging.INFO, "bridge.delivery.target")
        Counting.probes = 0
        process = make(make_client=Counting)
        job_ids = process.store(*mixed(self.JOBS))
        asked: dict[str, int] = {}

        theeye.fault(MAINTENANCE)
        process.start()
        wait_for_outage(process)
        in_flight, claims = len(posts(theeye)), process.outbox.calls["claim"]
        asked["503"] = self.probes_in_a_phase()

        theeye.refuse()
        asked["refused"] = self.probes_in_a_phase()
        (told,) = troubles(process)

        theeye.clear()
        theeye.fault(SILENCE)
        theeye.listen()
        asked["silence"] = self.probes_in_a_phase()

        assert in_flight <= THREADS, f"{in_flight} jobs were sent before the outage was noticed"
        assert len(posts(theeye)) == in_flight, f"{len(posts(theeye)) - in_flight} jobs were sent in it"
        assert theeye.jobs == ()
        assert all(1 <= number <= 2 * self.PHASE + 1 for number in asked.values()), f"probes: {asked}"
        assert "connection refused" in str(told)
        assert process.outbox.calls["claim"] == claims, "the store was asked for jobs in vain"
        assert claims < 30, f"the store was asked {process.outbox.calls} times"

        back_at = time.monotonic()
        theeye.clear()
        seconds = wait_until_back(theeye, 0, back_at)
        assert seconds < BACK_WITHIN + TIME_TOLERANCE, f"back after {seconds:.2f} s; probes: {asked}"
        theeye.wait_for(self.JOBS, timeout=60)
        wait_until(lambda: process.outbox.counts() == {JobState.ACCEPTED: self.JOBS}, "the last record")

        self.assert_oldest_first(process, theeye, job_ids)
        tries = [process.job(job_id).window_attempts for job_id in job_ids]
        assert max(tries) == 2
        assert tries.count(2) == in_flight, "a job other than those in flight was tried twice"
        lines = [one.getMessage() for one in caplog.records if one.name == "bridge.delivery.target"]
        said = ["TheEye is unreachable", "TheEye is reachable again"]
        assert [line.partition(";")[0].partition(" after")[0] for line in lines] == said, lines

    def probes_in_a_phase(self) -> int:
        """How many begin while it lasts."""
        before = Counting.probes
        time.sleep(self.PHASE)
        return Counting.probes - before

    @staticmethod
    def assert_oldest_first(process: Process, theeye: StandIn, job_ids: list[int]) -> None:
        """As far as threads that send at the same moment can keep an order."""
        place = {number: place for place, number in enumerate(by_due(process, job_ids))}
        early = max(place[number] - sent for sent, number in enumerate(numbers(theeye)))
        assert early <= 2 * THREADS, f"a job was sent {early} places before its turn"

    def test_by_one_thread_it_is_sent_in_the_exact_order(self, make: Make, theeye: StandIn) -> None:
        process = make(threads=1)
        job_ids = process.store(*mixed(50))
        theeye.fault(MAINTENANCE)
        process.start()
        wait_for_outage(process)

        theeye.clear()
        wait_until(lambda: process.outbox.counts() == {JobState.ACCEPTED: 50})

        assert numbers(theeye) == by_due(process, job_ids)
        assert [process.job(job_id).window_attempts for job_id in job_ids] == [2, *[1] * 49]


class TestWhatOpensIt:
    @pytest.mark.parametrize("way", ["503", "refused", "silent"])
    def test_each_way_of_being_out_ends_within_two_seconds(
        self, make: Make, theeye: StandIn, way: str
    ) -> None:
        process = make(timeout=1.5)
        process.store(*mixed(100))
        if way == "refused":
            theeye.refuse()
        else:
            theeye.fault(MAINTENANCE if way == "503" else SILENCE)
        process.start()
        wait_for_outage(process)
        before = len(posts(theeye))
        time.sleep(1.7)  # somewhere between two probes
        assert len(posts(theeye)) == before

        back_at = time.monotonic()
        theeye.clear()
        if way == "refused":
            theeye.listen()

        seconds = wait_until_back(theeye, 0, back_at)
        assert seconds < BACK_WITHIN + TIME_TOLERANCE, f"back after {seconds:.2f} s"
        theeye.wait_for(100, timeout=20)

    def test_a_task_that_answers_500_for_ever_opens_none(self, make: Make, theeye: StandIn) -> None:
        theeye.fault(Fault(answer=Answer(500, b'"Internal Server Error"'), task_id=TASK.id))
        process = make()
        job_ids = process.store(*mixed(200))
        process.start()

        theeye.wait_for(100)
        wait_until(lambda: process.outbox.counts().get(JobState.ACCEPTED) == 100)

        assert {process.job(job_id).state for job_id in job_ids[1::2]} == {JobState.ACCEPTED}
        wait_until(lambda: all(process.outcomes(job_id) for job_id in job_ids[::2]), "each job's first try")
        assert (probes(theeye), process.delivery.trouble, troubles(process)) == ([], None, [None])

    def test_nor_does_a_task_that_hangs(self, make: Make, theeye: StandIn) -> None:
        theeye.fault(Fault(hang=LONG, reset=True, task_id=TASK.id))
        process = make(timeout=0.5)
        hanging = process.store(*items(4))
        process.start()
        for job_id in hanging:
            process.wait_for_attempts(job_id, 1)
        process.wait_for(process.send(task=OTHER), JobState.ACCEPTED)
        assert (probes(theeye), process.delivery.trouble) == ([], None)


class TestWhileItLasts:
    @pytest.fixture
    def process(self, make: Make, theeye: StandIn) -> Process:
        """In an outage."""
        theeye.fault(MAINTENANCE)
        process = make().start()
        process.send("first")
        wait_for_outage(process)
        return process

    def test_a_new_webhook_is_stored_and_not_sent(self, process: Process, theeye: StandIn) -> None:
        job_ids = [process.send(f"in the outage {number}", OTHER) for number in range(5)]
        asked = len(probes(theeye))
        wait_until(lambda: len(probes(theeye)) > asked + 1, "the next probe but one")
        assert len(posts(theeye)) == 1
        assert {process.job(job_id).state for job_id in job_ids} == {JobState.WAITING}

        theeye.clear()
        for job_id in job_ids:
            process.wait_for(job_id, JobState.ACCEPTED)
            assert process.outcomes(job_id) == [Outcome.ACCEPTED]

    def test_the_store_says_so_at_once_and_no_longer_than_it_lasts(
        self, process: Process, theeye: StandIn
    ) -> None:
        begun = time.monotonic()
        wait_until(lambda: troubles(process) == [process.delivery.trouble], "the trouble in the store")
        assert str(process.delivery.trouble).startswith("TheEye has been unreachable since 20")
        theeye.clear()
        process.send("another")
        wait_until(lambda: troubles(process) == [None], "the end of the trouble in the store")
        # Both by far before the next beat.
        assert time.monotonic() - begun < 8

    def test_waits_between_probes_are_half_a_second_at_first(self, process: Process, theeye: StandIn) -> None:
        wait_until(lambda: len(probes(theeye)) >= 4)
        gaps = [later.at - earlier.at for earlier, later in pairwise(probes(theeye))]
        assert min(gaps) > 0.4, gaps

    def test_a_probe_carries_nothing_of_a_job(self, process: Process, theeye: StandIn) -> None:
        wait_until(lambda: probes(theeye))
        probe = probes(theeye)[0]
        assert (probe.path, dict(probe.query), probe.body) == ("/", {}, b"")
        assert "Authorization" not in probe.headers
        assert key_of(TASK) not in str(dict(probe.headers))

    def test_stop_does_not_wait_for_a_probe_that_hangs(
        self, make: Make, theeye: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(circuit_breaker, "MIN_PROBE_TIMEOUT", LONG)
        theeye.fault(Fault(hang=LONG, method="GET"))
        theeye.fault(MAINTENANCE)
        process = make(timeout=LONG).start()
        process.send()
        wait_until(lambda: probes(theeye), "a probe that hangs")
        begun = time.monotonic()
        process.stop()
        assert time.monotonic() - begun < 5
        assert process.outbox.delivering(60) == []

    def test_stop_does_not_send_a_trial(self, process: Process, theeye: StandIn) -> None:
        job_id = process.send("second")
        process.stop()
        theeye.clear()
        assert len(posts(theeye)) == 1
        assert process.job(job_id).state is JobState.WAITING

    def test_a_probe_with_a_defect_is_one_without_an_answer(
        self, make: Make, theeye: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        left = [ZeroDivisionError(), ZeroDivisionError()]

        class Defective(HttpClient):
            def get(self, *arguments: Any) -> HttpAnswer:
                if left:
                    raise left.pop()
                return super().get(*arguments)

        theeye.fault(MAINTENANCE)
        process = make(make_client=Defective).start()
        job_id = process.send()
        wait_for_outage(process)
        theeye.clear()
        process.wait_for(job_id, JobState.ACCEPTED)
        assert caplog.text.count("probing TheEye failed") == 2
        assert process.delivery.is_alive


class TestThreadsThatHang:
    def test_do_not_stop_the_probes(self, make: Make, theeye: StandIn) -> None:
        """Every sending thread learns that TheEye is unreachable, and hangs where it records that."""
        go_on = threading.Event()
        theeye.fault(MAINTENANCE)
        process = make()
        process.outbox.before["record"] = partial(wait_for, go_on)
        process.store(*mixed(THREADS))
        process.start()
        wait_until(lambda: process.outbox.calls["record"] == THREADS, "every thread")

        wait_until(lambda: len(probes(theeye)) >= 3, "the probes")

        assert process.outbox.counts() == {JobState.SENDING: THREADS}
        assert troubles(process) == [process.delivery.trouble] != [None]
        theeye.clear()
        go_on.set()
        theeye.wait_for(THREADS)


class TestTrial:
    """A TheEye that is half up: it answers a probe, and takes no job."""

    def test_one_job_at_a_time_is_sent_and_only_after_a_probe(self, make: Make, theeye: StandIn) -> None:
        theeye.fault(Fault(answer=Answer(503), method="POST"))
        process = make()
        process.store(*mixed(200))
        process.start()
        wait_for_outage(process)
        in_flight = len(posts(theeye))
        begun = time.monotonic()
        time.sleep(3)
        trials, asked = len(posts(theeye)) - in_flight, len(probes(theeye))
        lasted = time.monotonic() - begun
        assert 2 <= trials <= asked <= math.ceil(lasted / 0.5) + 1, f"{trials} trials, {asked} probes"

        back_at = time.monotonic()
        theeye.clear()
        seconds = wait_until_back(theeye, 0, back_at)
        assert seconds < BACK_WITHIN + TIME_TOLERANCE, f"back after {seconds:.2f} s"
        theeye.wait_for(200, timeout=20)

    def test_one_whose_task_the_table_lacks_makes_way_at_once(self, make: Make, theeye: StandIn) -> None:
        process = self.in_an_outage(make, theeye)
        strangers = [process.send(task=STRANGER) for _ in range(10)]
        job_id = process.send("after them")
        begun = time.monotonic()
        theeye.clear()

        process.wait_for(job_id, JobState.ACCEPTED)

        assert time.monotonic() - begun < BACK_WITHIN + TIME_TOLERANCE
        assert process.delivery.trouble is None
        assert {process.job(stranger).window_attempts for stranger in strangers} == {0}

    def test_one_whose_claim_is_about_to_end_makes_way_at_once(
        self, make: Make, theeye: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retry, "FIRST_WAIT", 600.0)
        monkeypatch.setattr("bridge.delivery.sender.random.random", lambda: 1.0)
        process = self.in_an_outage(make, theeye)
        job_ids = [process.send(number) for number in range(3)]
        deliver = send.Sender.deliver

        def deliver_late(sender: send.Sender, client: HttpClient, claimed: send.ClaimedJob) -> None:
            if claimed.job.id == job_ids[0]:
                claimed = replace(claimed, lease_ends_at=time.monotonic())
            deliver(sender, client, claimed)

        monkeypatch.setattr(send.Sender, "deliver", deliver_late)
        theeye.clear()

        for job_id in job_ids[1:]:
            process.wait_for(job_id, JobState.ACCEPTED)
        assert process.job(job_ids[0]).state is JobState.WAITING
        assert process.outcomes(job_ids[0]) == [Outcome.UNAVAILABLE]
        assert process.delivery.trouble is None

    @pytest.mark.parametrize("where", ["request", "record"])
    def test_one_that_meets_a_defect_makes_way_or_counts(
        self, make: Make, theeye: StandIn, monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        """A defect before the request leaves no answer; one in the record comes after TheEye's answer."""
        process = self.in_an_outage(make, theeye)
        left = [ZeroDivisionError()]

        def fail() -> None:
            if left:
                raise left.pop()

        def request_or_fail(*of_request: Any) -> JobRequest:
            fail()
            return job_request(*of_request)

        if where == "record":
            process.outbox.before["record"] = fail
        else:
            monkeypatch.setattr(send, "job_request", request_or_fail)
        process.store(*mixed(3))
        theeye.clear()

        wait_until(lambda: process.outbox.counts().get(JobState.ACCEPTED, 0) >= 2, "the others")
        wait_until(lambda: process.delivery.trouble is None)

    @pytest.mark.parametrize(
        ("status", "state"), [(400, JobState.DEAD), (500, JobState.UNKNOWN), (200, JobState.UNKNOWN)]
    )
    def test_whatever_becomes_of_it_the_next_one_is_sent(
        self,
        make: Make,
        theeye: StandIn,
        monkeypatch: pytest.MonkeyPatch,
        status: int,
        state: JobState,
    ) -> None:
        """A 400 and a 500 end the outage; a 200 that cannot be read holds its job and does not."""
        monkeypatch.setattr("bridge.delivery.sender.random.random", lambda: 1.0)
        theeye.fault(Fault(answer=Answer(status, b"<html>"), task_id=HOLDING.id))
        theeye.refuse()
        process = make().start()
        process.send("due in 2 s")
        wait_for_outage(process)
        trial, after = process.send("trial", HOLDING), process.send("after", OTHER)
        theeye.listen()

        process.wait_for(trial, state)
        process.wait_for(after, JobState.ACCEPTED)

        wait_until(lambda: process.delivery.trouble is None)
        assert process.outcomes(after) == [Outcome.ACCEPTED]
        assert len(probes(theeye)) == (2 if status == 200 else 1)

    def test_without_a_due_job_the_next_webhook_is_sent_at_once(
        self, make: Make, theeye: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All there is backs off: the outage stays open, its trouble says how far it is."""
        monkeypatch.setattr(retry, "FIRST_WAIT", 600.0)
        monkeypatch.setattr("bridge.delivery.sender.random.random", lambda: 1.0)
        process = self.in_an_outage(make, theeye)
        (first,) = process.outbox.jobs()
        assert first.due_at > time.time() + 300
        theeye.clear()

        wait_until(lambda: "it answers again" in str(process.delivery.trouble), "a probe that is answered")
        wait_until(lambda: "it answers again" in str(troubles(process)), "the same in the store")
        asked = len(probes(theeye))
        begun = time.monotonic()
        process.wait_for(process.send("fresh"), JobState.ACCEPTED)
        assert time.monotonic() - begun < 1.5
        wait_until(lambda: troubles(process) == [None])
        assert len(probes(theeye)) == asked
        assert process.job(first.id).state is JobState.WAITING

        process.clock.offset = 601
        process.wait_for(first.id, JobState.ACCEPTED)

    def test_or_the_first_that_comes_due_ends_it(self, make: Make, theeye: StandIn) -> None:
        process = self.in_an_outage(make, theeye)
        theeye.clear()
        process.wait_for(process.outbox.jobs()[0].id, JobState.ACCEPTED)
        assert process.delivery.trouble is None

    @staticmethod
    def in_an_outage(make: Make, theeye: StandIn) -> Process:
        """A process with one job, which failed and waits."""
        theeye.fault(MAINTENANCE)
        process = make().start()
        process.send("first")
        wait_for_outage(process)
        return process


class TestTokenThatIsNotAnswered:
    """TheEye leaves a request by token unanswered where the token may not start the task."""

    @staticmethod
    def process(make: Make, theeye: StandIn, timeout: float = LONG) -> Process:
        """Its tasks by token hang; their jobs are older than the others, and as many as its threads."""
        table = make_table(tasks=(*TASKS, *BY_TOKEN), url=theeye.url, timeout=timeout)
        token = Secret("theeye-token-0123456789")
        process = make()
        process.delivery.use(replace(table, theeye=replace(table.theeye, access_token=token)))
        for task in BY_TOKEN:
            theeye.fault(Fault(hang=LONG, reset=True, task_id=task.id))
            process.store(*items(THREADS, task=task))
        return process

    def test_opens_none(self, make: Make, theeye: StandIn) -> None:
        process = self.process(make, theeye, timeout=0.5).start()
        job_ids = [job.id for job in process.outbox.jobs(limit=2 * THREADS)]
        wait_until(lambda: all(map(process.outcomes, job_ids)), "the first try of each")
        assert (probes(theeye), process.delivery.trouble, troubles(process)) == ([], None, [None])

    def test_takes_no_thread_from_the_jobs_of_other_tasks(self, make: Make, theeye: StandIn) -> None:
        process = self.process(make, theeye).start()
        theeye.wait_for_requests(THREADS // 2)
        for job_id in [process.send(number, task) for number in range(20) for task in (TASK, OTHER)]:
            process.wait_for(job_id, JobState.ACCEPTED)
        assert len(posts(theeye)) == THREADS // 2 + 40

    def test_is_no_trial_while_another_job_is_due(self, make: Make, theeye: StandIn) -> None:
        theeye.refuse()
        process = self.process(make, theeye).start()
        first = process.send("the first that is sent", TASK)
        wait_for_outage(process)
        others = [process.send(number, OTHER) for number in range(20)]
        theeye.listen()
        for job_id in (first, *others):
            process.wait_for(job_id, JobState.ACCEPTED)
        assert process.delivery.trouble is None
