"""Rates: how many attempts of a task start in a span of time, over all processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from bridge.core.attempt_result import AttemptResult
from bridge.core.job import Job, JobState, Outcome
from bridge.core.retry import Decision
from bridge.core.secrets import Mask
from bridge.core.task import Rate, Task
from bridge.outbox import rates
from bridge.outbox.claims import Claim
from bridge.outbox.store import Outbox
from tests.support.delivery import Process, Shifted, posts, quick_client
from tests.support.tables import (
    NOW,
    Clock,
    in_threads,
    items,
    make_table,
    make_task,
    make_webhook,
    stand_in_task,
)
from tests.support.theeye import StandIn

RATE = Rate(3, 60.0)
TASK, OTHER = make_task(1, rate=RATE), make_task(2)

ACCEPTED = AttemptResult(0.25, Outcome.ACCEPTED, 200, "", "theeye-1")
AWAY = AttemptResult(0.25, Outcome.UNAVAILABLE, 503, "503", None)


@pytest.fixture
def tests_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's time is that of the test's clock, on PostgreSQL too."""
    monkeypatch.setattr(rates, "store_time", lambda connection, here: here)


on_the_tests_clock = pytest.mark.usefixtures("tests_clock")


def store(outbox: Outbox, delivery: str, count: int, task: Task = TASK) -> list[int]:
    """The ids of so many new jobs of a task."""
    return [job.id for job in outbox.store(make_webhook(*items(count, task=task), delivery_id=delivery)).jobs]


def claim(
    outbox: Outbox, free: int = 10, per_task: int = 10, rate: Rate | None = RATE, *, starts: bool = True
) -> Claim:
    """Without a `rate`, as a process does whose table has none."""
    of_tasks = {} if rate is None else {TASK.id: rate}
    return outbox.claim(
        free=free, busy={}, per_task=per_task, lease=60.0, rates=of_tasks, can_send=lambda _: starts
    )


def ids(claimed: Claim) -> list[int]:
    return [job.id for job in claimed.jobs]


def retry(outbox: Outbox, claimed: Claim) -> None:
    """Let the one job that is claimed wait again, due at once."""
    (job,) = claimed.jobs
    again = Decision(JobState.WAITING, NOW, "503 busy")
    assert outbox.record(job, claimed.token, claimed.attempts[job.id], AWAY, again)


def started(outbox: Outbox, task: Task = TASK) -> list[float]:
    """When each attempt of the task started, in order."""
    jobs = [job for job in outbox.jobs(limit=1000) if job.task_id == task.id]
    return sorted(attempt.started_at for job in jobs for attempt in outbox.attempts(job.id))


def most(times: Sequence[float], span: float) -> int:
    """The most of them that lie in one span, its ends included."""
    return max(sum(first <= at <= first + span for at in times) for first in times)


@on_the_tests_clock
class TestClaim:
    def test_takes_what_the_rate_leaves(self, outbox: Outbox) -> None:
        made = store(outbox, "1", 5)

        first = claim(outbox)

        # It has taken the last start itself.
        assert (ids(first), first.next_start_at) == (made[:3], NOW + 60)
        assert (ids(claim(outbox)), claim(outbox).next_start_at) == ([], NOW + 60)
        assert started(outbox) == [NOW] * 3

    def test_says_nothing_of_a_rate_that_leaves_more(self, outbox: Outbox) -> None:
        store(outbox, "1", 2)
        assert claim(outbox).next_start_at is None

    def test_what_has_started_counts_until_its_span_is_over(self, outbox: Outbox, clock: Clock) -> None:
        made = store(outbox, "1", 9)
        claim(outbox, free=2)
        clock.now = NOW + 20
        assert ids(claim(outbox)) == made[2:3]

        clock.now = NOW + 59
        late = claim(outbox)
        assert (ids(late), late.next_start_at) == ([], NOW + 60)
        clock.now = NOW + 61
        assert ids(claim(outbox)) == made[3:5]

    def test_what_cannot_be_sent_leaves_its_room(self, outbox: Outbox) -> None:
        made = store(outbox, "1", 6)

        first = claim(outbox, starts=False)

        assert (ids(first), first.next_start_at) == (made[:3], None)
        second = claim(outbox, free=2)
        assert (ids(second), second.next_start_at) == (made[3:5], None)
        outbox.release(first.jobs[0], first.token)
        third = claim(outbox)
        assert (ids(third), third.next_start_at) == (made[:1], NOW + 60)
        assert started(outbox) == [NOW] * 3

    def test_a_task_holds_no_more_threads_for_its_rate(self, outbox: Outbox) -> None:
        made = store(outbox, "1", 5)
        first = claim(outbox, per_task=2)
        assert (ids(first), first.next_start_at) == (made[:2], None)

    def test_holds_up_no_other_task(self, outbox: Outbox) -> None:
        rated = store(outbox, "1", 200)
        others = store(outbox, "2", 5, OTHER)

        assert ids(claim(outbox, free=6)) == [*rated[:3], *others[:3]]
        assert ids(claim(outbox, free=6)) == others[3:]

    def test_attempts_of_another_task_are_its_own(self, outbox: Outbox) -> None:
        others = store(outbox, "1", 9, OTHER)
        assert ids(claim(outbox)) == others
        made = store(outbox, "2", 5)
        assert ids(claim(outbox)) == made[:3]

    def test_retries_count(self, outbox: Outbox) -> None:
        (job_id,) = store(outbox, "1", 1)
        for _ in range(3):
            retry(outbox, claim(outbox))

        assert (ids(claim(outbox)), claim(outbox).next_start_at) == ([], NOW + 60)
        assert len(outbox.attempts(job_id)) == 3

    def test_says_when_the_first_of_several_tasks_may_go_on(self, outbox: Outbox, clock: Clock) -> None:
        of_both = {TASK.id: RATE, OTHER.id: Rate(1, 30.0)}
        take = partial(
            outbox.claim,
            free=10, busy={}, per_task=10, lease=60.0, rates=of_both, can_send=lambda _: True,
        )  # fmt: skip
        store(outbox, "1", 4)
        store(outbox, "2", 2, OTHER)
        first = take()
        assert [job.task_id for job in first.jobs] == [TASK.id] * 3 + [OTHER.id]
        assert first.next_start_at == NOW + 30
        clock.now = NOW + 10

        assert take().next_start_at == NOW + 30

    def test_without_a_rate_any_number(self, outbox: Outbox) -> None:
        made = store(outbox, "1", 9)
        claimed = claim(outbox, rate=None)
        assert (ids(claimed), claimed.next_start_at) == (made, None)
        assert len(started(outbox)) == 9


@on_the_tests_clock
class TestUsedUp:
    """Three attempts have started, and a fourth job waits."""

    @pytest.fixture
    def fourth(self, outbox: Outbox, clock: Clock) -> Job:
        *_, fourth = store(outbox, "1", 4)
        for number in range(3):
            clock.now = NOW + 10 * number
            claim(outbox, free=1, rate=None)
        clock.now = NOW + 40
        return outbox.job(fourth)

    def test_it_waits_until_the_right_time(self, outbox: Outbox, clock: Clock, fourth: Job) -> None:
        none = claim(outbox)

        assert (ids(none), none.next_start_at) == ([], NOW + 60)
        assert outbox.job(fourth.id) == fourth
        assert outbox.attempts(fourth.id) == []
        clock.now = NOW + 61
        assert ids(claim(outbox)) == [fourth.id]

    def test_at_the_very_end_of_the_span_is_too_early(
        self, outbox: Outbox, clock: Clock, fourth: Job
    ) -> None:
        clock.now = NOW + 60
        assert ids(claim(outbox)) == []
        assert started(outbox) == [NOW, NOW + 10, NOW + 20]

    def test_a_clock_that_was_set_back_holds_nothing_up(self, outbox: Outbox, clock: Clock) -> None:
        clock.now = NOW - 86_400
        *_, fourth = store(outbox, "1", 4)
        clock.now = NOW
        claim(outbox, free=3)
        assert ids(claim(outbox)) == []

        clock.now = NOW - 86_400
        assert ids(claim(outbox)) == [fourth]

    def test_once_the_span_is_over_it_may(self, outbox: Outbox, clock: Clock, fourth: Job) -> None:
        clock.now = NOW + 60.01
        assert ids(claim(outbox)) == [fourth.id]
        assert most(started(outbox), RATE.span) == 3

    def test_the_next_of_its_group_waits_behind_it(self, outbox: Outbox, clock: Clock) -> None:
        made = [
            outbox.store(make_webhook(*items(1, task=TASK, group="g"), delivery_id=str(number))).jobs[0].id
            for number in range(5)
        ]
        for job_id in made[:3]:
            claimed = claim(outbox)
            (job,), attempt = claimed.jobs, claimed.attempts[job_id]
            outbox.record(job, claimed.token, attempt, ACCEPTED, Decision(JobState.ACCEPTED, None, None))
        assert ids(claim(outbox)) == []

        clock.now = NOW + 61
        assert ids(claim(outbox)) == made[3:4]


class TestNeverMore:
    """Over several processes: two stores of one database, with threads of their own."""

    @on_the_tests_clock
    def test_of_those_that_claim_at_the_same_moment(
        self, outbox: Outbox, reopen: Callable[[], Outbox], clock: Clock
    ) -> None:
        """Without the lock each counts before the others start."""
        stores = [outbox, reopen()] * 4
        for number in range(10):
            clock.now = now = NOW + 1000 * number
            made = store(outbox, str(number), 8)

            claims = in_threads([partial(claim, one, free=2) for one in stores])

            assert sorted(job_id for each in claims for job_id in ids(each)) == made[:3]
            assert sorted(job_id for each in claims for job_id in each.attempts) == made[:3]
            assert claim(outbox).next_start_at == now + 60
            for job_id in made[3:]:
                outbox.cancel(job_id)

    def test_of_those_that_claim_over_time(self, url: str) -> None:
        """By the true time, in short spans."""
        rate = Rate(4, 0.3)
        with ExitStack() as opened:
            stores = [opened.enter_context(closing(Outbox(url))) for _ in range(2)]
            made = store(stores[0], "1", 24)

            def deliver(one: Outbox) -> None:
                while one.counts().keys() != {JobState.ACCEPTED}:
                    claimed = claim(one, free=3, rate=rate)
                    for job in claimed.jobs:
                        attempt = claimed.attempts[job.id]
                        done = Decision(JobState.ACCEPTED, None, None)
                        assert one.record(job, claimed.token, attempt, ACCEPTED, done)
                    time.sleep(0.01)

            in_threads([partial(deliver, one) for one in stores * 2])

            times = started(stores[0])
            assert [len(stores[0].attempts(job_id)) for job_id in made] == [1] * 24
        assert most(times, rate.span) <= rate.attempts


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
class TestClock:
    """The time is the database server's: the processes' clocks may differ."""

    def test_starts_are_written_by_it(self, url: str) -> None:
        with closing(Outbox(url, clock=lambda: time.time() + 3600)) as outbox:
            store(outbox, "1", 1)
            claim(outbox)
            (at,) = started(outbox)
        assert abs(at - time.time()) < 30

    def test_an_hour_between_two_clocks_changes_nothing(self, url: str) -> None:
        ahead, behind = Shifted(), Shifted()
        ahead.offset, behind.offset = 3600.0, -3600.0
        with closing(Outbox(url, clock=ahead)) as first, closing(Outbox(url, clock=behind)) as second:
            made = store(second, "1", 5)
            assert ids(claim(first, free=2)) == made[:2]
            last = claim(second)
            assert ids(last) == made[2:3]
            of_first, of_second = claim(first), claim(second)

        assert (of_first.jobs, of_second.jobs) == ((), ())
        for claimed, clock in ((last, behind), (of_first, ahead), (of_second, behind)):
            # In its own time, by which it waits.
            assert claimed.next_start_at is not None
            assert abs(claimed.next_start_at - clock() - 60) < 30


class TestDelivery:
    RATE = Rate(5, 1.0)
    RATED = make_task(3, rate=RATE)

    @pytest.fixture
    def theeye(self) -> Iterator[StandIn]:
        with StandIn(["acme"], [stand_in_task(task) for task in (self.RATED, OTHER)]) as stand_in:
            yield stand_in

    def test_holds_the_rate_over_two_processes_and_no_other_task_up(
        self, url: str, tmp_path: Path, theeye: StandIn
    ) -> None:
        tasks = (self.RATED, OTHER)
        table = make_table(tasks=tasks, url=theeye.url)
        mask = Mask(task.secret_key for task in tasks if task.secret_key is not None)
        client = quick_client(tmp_path)
        with ExitStack() as running:
            processes = [
                running.enter_context(closing(Process(url, table, mask, make_client=client)))
                for _ in range(2)
            ]
            rated = processes[0].store(*items(15, task=self.RATED))
            others = processes[0].store(*items(15, task=OTHER))
            for process in processes:
                process.start()

            for job_id in (*others, *rated):
                processes[0].wait_for(job_id, JobState.ACCEPTED)

            times = started(processes[0].outbox, self.RATED)
            done = started(processes[0].outbox, OTHER)
            claims = sum(process.outbox.calls["claim"] for process in processes)
        assert (len(times), len(done)) == (15, 15)
        assert most(times, self.RATE.span) <= self.RATE.attempts
        assert done[-1] < times[-1]
        assert len(posts(theeye)) == 30
        # One for each job that ends and each poll; a dispatcher that asks in a loop comes to thousands.
        assert claims < 100, "the store was asked for what the rate holds back"
