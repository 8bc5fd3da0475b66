"""Whether the target as a whole is away: what opens an outage, what is asked while it lasts, what ends it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from http import HTTPStatus

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.core.job import Outcome
from bridge.delivery.circuit_breaker import (
    MAX_PROBE_WAIT,
    MIN_PROBE_TIMEOUT,
    MIN_PROBE_WAIT,
    CircuitBreaker,
    Probe,
    Sign,
    is_alive,
    sign_of,
)
from tests.support.examples import examples
from tests.support.tables import NOW

HOUR = 3600.0
#: TheEye's time-out.
TIMEOUT = 30.0
#: Threads that are free.
FREE = 16
#: A job of each of two tasks.
DEPLOY, PAGE = (1, "deploy"), (2, "page")


def attempt(
    outage: CircuitBreaker,
    job: tuple[int, str],
    sign: Sign | None,
    now: float = NOW,
    detail: str = "what was said",
) -> None:
    """One job from its claim to its end, both at `now`."""
    outage.claimed(job[0])
    outage.attempt_finished(*job, sign, now, detail)


def rest(outage: CircuitBreaker, now: float) -> float:
    """Seconds from `now` to the next probe."""
    assert outage.next_probe_at is not None
    return outage.next_probe_at - now


def begin(outage: CircuitBreaker, now: float) -> Probe:
    """A probe that is due now."""
    probe = outage.start_probe(now)
    assert probe is not None
    return probe


def probe(outage: CircuitBreaker, *, alive: bool) -> float:
    """The next probe, at the moment it is due, answered at once; when it was."""
    now = outage.next_probe_at
    assert now is not None
    outage.probe_finished(begin(outage, now), alive, now, "what the probe was told")
    return now


def opened() -> CircuitBreaker:
    """An outage that opened at NOW."""
    outage = CircuitBreaker(TIMEOUT)
    attempt(outage, DEPLOY, Sign.DOWN)
    assert outage.is_open
    return outage


def trying() -> CircuitBreaker:
    """An outage whose first probe, at NOW + MIN_PROBE_WAIT, found the target alive."""
    outage = opened()
    probe(outage, alive=True)
    return outage


def test_the_rule_is_the_designs() -> None:
    assert (MIN_PROBE_WAIT, MAX_PROBE_WAIT, MIN_PROBE_TIMEOUT) == (0.5, 120.0, 1.0)


class TestSigns:
    @pytest.mark.parametrize("outcome", Outcome)
    @pytest.mark.parametrize("status", [407, 429, 502, 503, 504])
    def test_a_proxys_status_says_that_the_target_is_out(self, outcome: Outcome, status: int) -> None:
        assert sign_of(outcome, status) is Sign.DOWN

    @pytest.mark.parametrize(
        ("outcome", "status", "sign"),
        [
            (Outcome.UNAVAILABLE, None, Sign.DOWN),
            (Outcome.UNKNOWN, None, Sign.NO_REPLY),
            (Outcome.UNKNOWN, 408, Sign.NO_REPLY),
            (Outcome.UNKNOWN, 200, Sign.NO_REPLY),
            (Outcome.ACCEPTED, 200, Sign.UP),
            (Outcome.REFUSED, 200, Sign.UP),
            (Outcome.REFUSED, 303, Sign.UP),
            (Outcome.REFUSED, 401, Sign.UP),
            (Outcome.UNAVAILABLE, 425, Sign.UP),
            (Outcome.UNKNOWN, 204, Sign.UP),
            (Outcome.UNKNOWN, 500, Sign.UP),
            (Outcome.UNKNOWN, 501, Sign.UP),
            (Outcome.UNKNOWN, 505, Sign.UP),
            (Outcome.UNKNOWN, 599, Sign.UP),
        ],
    )
    def test_what_an_attempt_says_of_the_target(
        self, outcome: Outcome, status: int | None, sign: Sign
    ) -> None:
        assert sign_of(outcome, status) is sign

    @pytest.mark.parametrize(
        ("outcome", "status", "sign"),
        [
            (Outcome.UNKNOWN, None, None),
            (Outcome.UNKNOWN, 408, Sign.NO_REPLY),
            (Outcome.UNKNOWN, 200, Sign.NO_REPLY),
            (Outcome.UNAVAILABLE, None, Sign.DOWN),
            (Outcome.UNKNOWN, 504, Sign.DOWN),
            (Outcome.UNAVAILABLE, 429, Sign.DOWN),
            (Outcome.ACCEPTED, 200, Sign.UP),
            (Outcome.REFUSED, 401, Sign.UP),
            (Outcome.UNKNOWN, 500, Sign.UP),
        ],
    )
    def test_by_token_no_answer_at_all_says_nothing(
        self, outcome: Outcome, status: int | None, sign: Sign | None
    ) -> None:
        """TheEye leaves a request unanswered whose token may not start the task."""
        assert sign_of(outcome, status, by_token=True) is sign

    def test_any_answer_to_a_probe_is_a_live_target_but_407_429_and_from_500_on(self) -> None:
        dead = [int(status) for status in HTTPStatus if not is_alive(status)]
        assert dead == [407, 429, *(int(status) for status in HTTPStatus if status >= 500)]
        assert not is_alive(599)


class TestOpening:
    def test_at_first_there_is_none(self) -> None:
        outage = CircuitBreaker(TIMEOUT)
        assert (outage.is_open, outage.opened_at, outage.reason, outage.next_probe_at) == (
            False,
            None,
            None,
            None,
        )
        assert outage.claim_limit(FREE) == FREE
        assert outage.start_probe(NOW) is None

    def test_one_out_opens_it(self) -> None:
        outage = CircuitBreaker(TIMEOUT)
        attempt(outage, DEPLOY, Sign.DOWN, NOW, "connection refused")

        assert outage.is_open
        assert (outage.opened_at, outage.reason) == (NOW, "connection refused")
        assert outage.next_probe_at == NOW + 0.5
        assert outage.claim_limit(FREE) == 0

    def test_answers_never_do(self) -> None:
        """A script task without a host answers 500 for ever."""
        outage = CircuitBreaker(TIMEOUT)
        for minute in range(1000):
            attempt(outage, (minute, "deploy"), sign_of(Outcome.UNKNOWN, 500), NOW + 60 * minute)
            assert outage.claim_limit(FREE) == FREE

    @pytest.mark.parametrize(
        ("row", "opens"),
        [
            ("d", False),
            ("d d d d", False),
            ("d p", True),
            ("d d d p", True),
            ("d - p", False),
            ("d - p - d", False),
            ("d - d p", True),
            ("d p-", True),
        ],
    )
    def test_silence_does_from_two_tasks_in_a_row(self, row: str, opens: bool) -> None:
        """`d` and `p` are silent ends of deploy and page, `-` an answer between them."""
        outage = CircuitBreaker(TIMEOUT)
        for number, letter in enumerate(row.replace(" ", "")):
            task, sign = ("page", Sign.UP) if letter == "-" else (letter, Sign.NO_REPLY)
            outage.claimed(number)
            outage.attempt_finished(number, task, sign, NOW + number, "timed out")
            if outage.is_open:
                break

        assert outage.is_open is opens

    @pytest.mark.parametrize(
        ("row", "opens"),
        [
            ("t", False),
            ("t u", False),
            ("t u v w t u v w", False),
            ("t d", False),
            ("d t", False),
            ("d t u d t u", False),
            ("d t p", True),
            ("t d u p", True),
            ("d t - p", False),
        ],
    )
    def test_silence_by_token_neither_makes_a_row_nor_breaks_one(self, row: str, opens: bool) -> None:
        """`t` to `w` are unanswered requests by token, of a task each; the others are as above."""
        outage = CircuitBreaker(TIMEOUT)
        for number, letter in enumerate(row.replace(" ", "")):
            by_token, task = letter in "tuvw", "page" if letter == "-" else letter
            outcome, status = (Outcome.ACCEPTED, 200) if letter == "-" else (Outcome.UNKNOWN, None)
            attempt(outage, (number, task), sign_of(outcome, status, by_token=by_token), NOW + number)
            if outage.is_open:
                break

        assert outage.is_open is opens
        assert outage.claim_limit(FREE) == (0 if opens else FREE)

    def test_an_answer_of_the_silent_task_itself_breaks_the_row(self) -> None:
        outage = CircuitBreaker(TIMEOUT)
        for job, sign in ((DEPLOY, Sign.NO_REPLY), (DEPLOY, Sign.UP), (PAGE, Sign.NO_REPLY)):
            attempt(outage, job, sign)
        assert not outage.is_open

    def test_a_job_that_was_handed_back_breaks_no_row(self) -> None:
        outage = CircuitBreaker(TIMEOUT)
        attempt(outage, DEPLOY, Sign.NO_REPLY)
        outage.claimed(7)
        outage.not_sent(7)
        attempt(outage, PAGE, Sign.NO_REPLY)
        assert outage.is_open

    def test_no_row_outlives_an_outage(self) -> None:
        outage = CircuitBreaker(TIMEOUT)
        attempt(outage, DEPLOY, Sign.NO_REPLY)
        attempt(outage, DEPLOY, Sign.DOWN)
        attempt(outage, PAGE, Sign.UP, probe(outage, alive=True))
        assert not outage.is_open

        attempt(outage, PAGE, Sign.NO_REPLY, NOW + 9)
        assert not outage.is_open


class TestProbing:
    def test_none_is_due_before_its_time(self) -> None:
        outage = opened()
        assert outage.start_probe(NOW + 0.49) is None
        assert outage.next_probe_at == NOW + 0.5
        assert begin(outage, NOW + 0.5).timeout == MIN_PROBE_TIMEOUT

    def test_one_is_out_at_a_time(self) -> None:
        outage = opened()
        outage.start_probe(NOW + 1)
        assert outage.next_probe_at is None
        assert outage.start_probe(NOW + HOUR) is None
        assert outage.claim_limit(FREE) == 0

    def test_one_that_fails_is_followed_by_another_and_says_why(self) -> None:
        outage = opened()
        probe = begin(outage, NOW + 0.5)
        outage.probe_finished(probe, False, NOW + 0.6, "503")
        assert (outage.is_open, outage.opened_at, outage.reason) == (True, NOW, "503")
        assert outage.next_probe_at == NOW + 1.0
        assert outage.claim_limit(FREE) == 0

    def test_an_alive_target_may_get_one_job(self) -> None:
        outage = trying()
        assert outage.is_open
        assert outage.reason == "what was said"
        assert (outage.claim_limit(FREE), outage.claim_limit(1), outage.claim_limit(0)) == (1, 1, 0)
        assert outage.next_probe_at is None
        assert outage.start_probe(NOW + HOUR) is None

    @pytest.mark.parametrize(
        ("age", "wait", "patience"),
        [
            (0.5, 0.5, 1.0),
            (4.0, 0.5, 1.0),
            (10.0, 1.2, 1.2),
            (100.0, 12.0, 12.0),
            (250.0, 30.0, 30.0),
            (900.0, 108.0, 30.0),
            (1000.0, 120.0, 30.0),
            (24 * HOUR, 120.0, 30.0),
        ],
    )
    def test_waits_and_patience_grow_with_the_outages_age(
        self, age: float, wait: float, patience: float
    ) -> None:
        outage = opened()
        probe = begin(outage, NOW + age)
        assert probe.timeout == pytest.approx(patience)
        outage.probe_finished(probe, False, NOW + age, "503")
        assert rest(outage, NOW + age) == pytest.approx(wait)

    def test_patience_may_be_shorter_than_the_shortest(self) -> None:
        outage = CircuitBreaker(0.3)
        attempt(outage, DEPLOY, Sign.DOWN)
        assert begin(outage, NOW + HOUR).timeout == 0.3

    def test_a_probe_that_hung_was_a_wait_itself(self) -> None:
        outage = opened()
        probe = begin(outage, NOW + 50)
        assert probe.timeout == pytest.approx(6.0)
        outage.probe_finished(probe, False, NOW + 55, "timed out")
        assert rest(outage, NOW + 55) == pytest.approx(1.0)

    def test_none_is_due_before_the_one_before_ended(self) -> None:
        outage = opened()
        probe = begin(outage, NOW + 50)
        outage.probe_finished(probe, False, NOW + 70, "timed out")
        assert outage.next_probe_at == NOW + 70

    def test_an_end_without_a_probe_is_none(self) -> None:
        outage = opened()
        outage.probe_finished(Probe(0, 1.0), True, NOW, "200")
        assert outage.claim_limit(FREE) == 0
        assert outage.next_probe_at == NOW + 0.5


class TestTrial:
    def test_there_is_one_at_a_time(self) -> None:
        outage = trying()
        outage.claimed(PAGE[0])
        assert outage.is_open
        assert outage.claim_limit(FREE) == 0
        assert outage.next_probe_at is None
        assert outage.start_probe(NOW + HOUR) is None

    def test_its_answer_ends_the_outage(self) -> None:
        outage = trying()
        attempt(outage, PAGE, Sign.UP, NOW + 3)
        assert (outage.is_open, outage.opened_at, outage.reason, outage.next_probe_at) == (
            False,
            None,
            None,
            None,
        )
        assert outage.claim_limit(FREE) == FREE

    @pytest.mark.parametrize("sign", [Sign.DOWN, Sign.NO_REPLY])
    def test_its_failure_brings_the_next_probe_after_a_wait(self, sign: Sign) -> None:
        outage = trying()
        attempt(outage, PAGE, sign, NOW + 100, "502")
        assert (outage.is_open, outage.opened_at, outage.reason) == (True, NOW, "502")
        assert outage.claim_limit(FREE) == 0
        assert rest(outage, NOW + 100) == pytest.approx(12.0)

    def test_handed_back_unsent_it_leaves_its_place_to_another(self) -> None:
        outage = trying()
        outage.claimed(DEPLOY[0])
        outage.not_sent(DEPLOY[0])
        assert outage.is_open
        assert outage.next_probe_at is None
        assert outage.claim_limit(FREE) == 1

        attempt(outage, PAGE, Sign.UP, NOW + 3)
        assert not outage.is_open

    def test_unanswered_by_token_it_leaves_its_place_to_another(self) -> None:
        outage = trying()
        for number in range(10):
            attempt(outage, (number, f"by token {number}"), None, NOW + 30 * number)
            assert outage.is_open
            assert (outage.next_probe_at, outage.claim_limit(FREE)) == (None, 1)

        attempt(outage, PAGE, Sign.UP, NOW + 300)
        assert not outage.is_open

    @pytest.mark.parametrize("sign", [None, *Sign])
    def test_its_place_is_never_lost(self, sign: Sign | None) -> None:
        """However it ends, the outage is over, or a trial or a probe comes."""
        outage = trying()
        outage.claimed(PAGE[0])
        if sign is None:
            outage.not_sent(PAGE[0])
        else:
            outage.attempt_finished(*PAGE, sign, NOW + 3, "what was said")
        assert not outage.is_open or outage.claim_limit(FREE) == 1 or outage.next_probe_at is not None

    def test_after_one_that_failed_comes_another(self) -> None:
        outage = trying()
        for _ in range(3):
            attempt(outage, PAGE, Sign.DOWN, NOW + 3)
            probe(outage, alive=True)
            assert outage.claim_limit(FREE) == 1

    def test_claimed_twice_it_ends_with_its_first_answer(self) -> None:
        """Its claim ended while it was out, and it was claimed again."""
        outage = trying()
        outage.claimed(PAGE[0])
        outage.claimed(PAGE[0])
        outage.attempt_finished(*PAGE, Sign.UP, NOW + 3, "")
        assert not outage.is_open

    def test_no_other_answer_ends_the_outage(self) -> None:
        outage = trying()
        outage.claimed(PAGE[0])
        outage.attempt_finished(*DEPLOY, Sign.UP, NOW + 3, "")
        assert outage.is_open
        assert outage.claim_limit(FREE) == 0

    def test_the_next_outage_begins_anew(self) -> None:
        outage = trying()
        attempt(outage, PAGE, Sign.UP, NOW + HOUR)
        attempt(outage, PAGE, Sign.DOWN, NOW + 2 * HOUR)
        assert outage.opened_at == NOW + 2 * HOUR
        assert outage.next_probe_at == NOW + 2 * HOUR + 0.5
        assert begin(outage, NOW + 2 * HOUR + 1).timeout == MIN_PROBE_TIMEOUT


class TestJobsInFlight:
    """Answers of jobs that were in flight when an outage opened are older than what is known."""

    @pytest.mark.parametrize("sign", Sign)
    @pytest.mark.parametrize("stage", ["resting", "probing", "trial wanted", "trial out"])
    def test_they_change_nothing_while_it_lasts(self, sign: Sign, stage: str) -> None:
        outage = CircuitBreaker(TIMEOUT)
        late = [(number, f"task {number}") for number in range(10, 14)]
        for job_id, _ in late:
            outage.claimed(job_id)
        attempt(outage, DEPLOY, Sign.DOWN, NOW, "connection refused")
        if stage != "resting":
            probe = begin(outage, NOW + 1)
        if stage.startswith("trial"):
            outage.probe_finished(probe, True, NOW + 1, "200")
        if stage == "trial out":
            outage.claimed(PAGE[0])
        before = (
            outage.is_open,
            outage.opened_at,
            outage.reason,
            outage.next_probe_at,
            outage.claim_limit(FREE),
        )

        for job in late:
            outage.attempt_finished(*job, sign, NOW + 1, "late")

        after = (
            outage.is_open,
            outage.opened_at,
            outage.reason,
            outage.next_probe_at,
            outage.claim_limit(FREE),
        )
        assert after == before

    @pytest.mark.parametrize("sign", [Sign.DOWN, Sign.NO_REPLY])
    def test_late_they_do_not_open_the_next(self, sign: Sign) -> None:
        outage = CircuitBreaker(TIMEOUT)
        late = [(number, f"task {number}") for number in range(10, 14)]
        for job_id, _ in late:
            outage.claimed(job_id)
        attempt(outage, DEPLOY, Sign.DOWN)
        attempt(outage, PAGE, Sign.UP, probe(outage, alive=True))

        for job in late:
            outage.attempt_finished(*job, sign, NOW + 30, "timed out")

        assert not outage.is_open

    def test_the_same_job_sent_again_counts(self) -> None:
        outage = CircuitBreaker(TIMEOUT)
        outage.claimed(PAGE[0])
        attempt(outage, DEPLOY, Sign.DOWN)
        outage.attempt_finished(*PAGE, Sign.DOWN, NOW, "late")
        probe(outage, alive=True)

        attempt(outage, PAGE, Sign.UP, NOW + 3)
        assert not outage.is_open

    def test_jobs_whose_claim_the_opening_overtook_are_no_trial(self) -> None:
        """Room is asked for, the store is asked for jobs, and an outage opens meanwhile."""
        outage = opened()
        outage.claimed(10)
        outage.claimed(11)
        probe(outage, alive=True)
        assert outage.claim_limit(FREE) == 1

        outage.attempt_finished(10, "deploy", Sign.UP, NOW + 1, "")
        outage.not_sent(11)
        assert outage.is_open
        assert outage.claim_limit(FREE) == 1

    @pytest.mark.parametrize("sign", [Sign.DOWN, Sign.NO_REPLY])
    def test_nor_do_they_open_the_next(self, sign: Sign) -> None:
        outage = opened()
        outage.claimed(10)
        outage.claimed(11)
        attempt(outage, PAGE, Sign.UP, probe(outage, alive=True))

        outage.attempt_finished(10, "task 10", sign, NOW + 30, "timed out")
        outage.attempt_finished(11, "task 11", sign, NOW + 30, "timed out")

        assert not outage.is_open

    def test_jobs_that_ended_are_forgotten(self) -> None:
        outage = CircuitBreaker(TIMEOUT)
        attempt(outage, DEPLOY, Sign.UP)
        outage.claimed(PAGE[0])
        outage.not_sent(PAGE[0])
        assert vars(outage) == vars(CircuitBreaker(TIMEOUT))

    def test_of_jobs_claimed_together_one_is_the_trial(self) -> None:
        outage = trying()
        outage.claimed(10)
        outage.claimed(11)
        outage.attempt_finished(11, "deploy", Sign.UP, NOW + 1, "")
        assert outage.is_open
        outage.attempt_finished(10, "deploy", Sign.UP, NOW + 1, "")
        assert not outage.is_open


class TestSimulated:
    """Outages in simulated time. A probe is refused at once, or hangs until its patience ends."""

    def probes(self, outage: CircuitBreaker, hangs: Callable[[float], bool]) -> Iterator[float]:
        """The ages at which the target is asked while it is away."""
        while True:
            now = outage.next_probe_at
            assert now is not None
            yield now - NOW
            probe = begin(outage, now)
            outage.probe_finished(probe, False, now + (probe.timeout if hangs(now) else 0.0), "away")

    @pytest.mark.parametrize("hangs", [False, True])
    def test_an_hour_costs_less_than_a_hundred_probes(self, hangs: bool) -> None:
        count = 0
        for age in self.probes(opened(), lambda now: hangs):
            if age > HOUR:
                break
            count += 1
        assert 0 < count < 100

    @pytest.mark.parametrize("hangs", [False, True])
    @pytest.mark.parametrize("length", [1.0, 5.0, 15.0])
    def test_a_short_outage_is_left_within_two_seconds(self, length: float, hangs: bool) -> None:
        """Whenever it ends in the second around `length`; the probe that was out then is lost."""
        for step in range(100):
            end = length + step / 100 - 0.5
            noticed = next(age for age in self.probes(opened(), lambda now: hangs) if age >= end)
            assert noticed - end <= 2.0

    def test_a_probe_just_before_the_end_is_not_missed(self) -> None:
        """The worst that can happen: the target comes back right after a probe began, which hangs."""
        for begun in self.probes(opened(), lambda now: False):
            if begun > 15.0:
                break
            outage = opened()
            probe = begin(outage, NOW + begun)
            outage.probe_finished(probe, False, NOW + begun + probe.timeout, "timed out")
            assert rest(outage, NOW + begun) <= 2.0

    def test_a_target_that_is_only_slow_is_reached(self) -> None:
        outage, needs = opened(), 25.0
        for _ in range(100):
            now = outage.next_probe_at
            assert now is not None
            probe = begin(outage, now)
            patience = probe.timeout
            outage.probe_finished(probe, patience >= needs, now + min(patience, needs), "slow")
            if outage.claim_limit(FREE):
                return
        pytest.fail("no probe was patient enough")


class TestAnotherTarget:
    """A table came into force whose URL is another."""

    @pytest.mark.parametrize("sign", Sign)
    @pytest.mark.parametrize("is_trial", [True, False])
    def test_what_was_sent_to_the_old_one_says_nothing_of_it(self, sign: Sign, is_trial: bool) -> None:
        outage = trying() if is_trial else CircuitBreaker(TIMEOUT)
        outage.claimed(7)
        outage.reconfigure(TIMEOUT, is_new_target=True)
        outage.attempt_finished(7, "task 7", sign, NOW + 3, "late")
        assert (outage.is_open, outage.claim_limit(FREE)) == (False, FREE)

    def test_its_own_outage_is_not_ended_by_an_answer_of_the_old_one(self) -> None:
        outage = trying()
        outage.claimed(7)
        outage.reconfigure(TIMEOUT, is_new_target=True)
        attempt(outage, PAGE, Sign.DOWN, NOW + 3)
        outage.attempt_finished(7, "task 7", Sign.UP, NOW + 4, "")
        assert (outage.is_open, outage.opened_at) == (True, NOW + 3)

    def test_the_time_out_may_be_another_for_the_same(self) -> None:
        outage = opened()
        outage.reconfigure(0.3, is_new_target=False)
        assert outage.is_open
        assert begin(outage, NOW + HOUR).timeout == 0.3

    @pytest.mark.parametrize("alive", [True, False])
    def test_a_probe_of_the_old_one_is_not_taken_for_its_own(self, alive: bool) -> None:
        outage = opened()
        old = begin(outage, NOW + 1)
        outage.reconfigure(TIMEOUT, is_new_target=True)
        attempt(outage, PAGE, Sign.DOWN, NOW + 3)
        begin(outage, NOW + 4)
        outage.probe_finished(old, alive, NOW + 5, "late")
        assert (outage.claim_limit(FREE), outage.next_probe_at, outage.opened_at) == (0, None, NOW + 3)


class Process(RuleBasedStateMachine):
    """A process that sends jobs, in any order of claims, ends and probes that its threads may come to."""

    def __init__(self) -> None:
        super().__init__()
        self.outage = CircuitBreaker(TIMEOUT)
        self.now = NOW
        self.jobs = 0
        #: Jobs that are out, and which of them was claimed in an outage that had room for it.
        self.out: dict[int, bool] = {}
        #: Those of them that were sent to another target.
        self.past: set[int] = set()
        self.probe: Probe | None = None
        #: Probes of other targets.
        self.past_probes: list[Probe] = []

    @rule(seconds=st.floats(0, 300))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(free=st.integers(0, FREE), sign=st.none() | st.sampled_from(Sign))
    def claim(self, free: int, sign: Sign | None) -> None:
        """As many jobs as there is room for, while another one ends between the question and the claim."""
        room = self.outage.claim_limit(free)
        assert 0 <= room <= free
        if sign is not None and self.out:
            self.end(next(iter(self.out)), sign, 0)
        for _ in range(room):
            self.jobs += 1
            is_trial = self.outage.is_open and self.outage.claim_limit(1) == 1
            self.outage.claimed(self.jobs)
            self.out[self.jobs] = is_trial

    @precondition(lambda self: self.out)
    @rule(data=st.data(), sign=st.sampled_from(Sign), task=st.integers(0, 2))
    def end_one(self, data: st.DataObject, sign: Sign, task: int) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.out))), sign, task)

    def end(self, job_id: int, sign: Sign, task: int) -> None:
        was_open, is_trial = self.outage.is_open, self.out.pop(job_id)
        before = self.known()
        self.outage.attempt_finished(job_id, f"task {task}", sign, self.now, "")
        if was_open:
            assert self.outage.is_open is not (is_trial and sign is Sign.UP)
        if job_id in self.past:
            assert self.known() == before

    def known(self) -> tuple[object, ...]:
        outage = self.outage
        return outage.is_open, outage.opened_at, outage.reason, outage.next_probe_at, outage.claim_limit(FREE)

    @rule()
    def aim_elsewhere(self) -> None:
        self.outage.reconfigure(TIMEOUT, is_new_target=True)
        assert self.known() == (False, None, None, None, FREE)
        self.past |= set(self.out)
        self.out = dict.fromkeys(self.out, False)
        if self.probe is not None:
            self.past_probes.append(self.probe)
            self.probe = None

    @precondition(lambda self: self.past_probes)
    @rule(alive=st.booleans())
    def end_past_probe(self, alive: bool) -> None:
        before = self.known()
        self.outage.probe_finished(self.past_probes.pop(), alive, self.now, "")
        assert self.known() == before

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        was_open = self.outage.is_open
        job_id = data.draw(st.sampled_from(sorted(self.out)))
        is_trial = self.out.pop(job_id)
        self.outage.not_sent(job_id)
        assert self.outage.is_open is was_open
        if is_trial:
            assert self.outage.claim_limit(FREE) == 1

    @rule(is_awaited=st.booleans())
    def begin_probe(self, is_awaited: bool) -> None:
        """At any time, or when it is due."""
        if is_awaited and self.outage.next_probe_at is not None:
            self.now = max(self.now, self.outage.next_probe_at)
        was_open = self.outage.is_open
        probe = self.outage.start_probe(self.now)
        if probe is not None:
            assert self.probe is None
            assert 0 < probe.timeout <= TIMEOUT
            self.probe = probe
        assert self.outage.is_open is was_open

    @precondition(lambda self: self.probe)
    @rule(alive=st.booleans())
    def end_probe(self, alive: bool) -> None:
        assert self.probe is not None
        self.outage.probe_finished(self.probe, alive, self.now, "")
        self.probe = None
        assert self.outage.is_open
        assert self.outage.claim_limit(FREE) == int(alive)

    @invariant()
    def while_open_at_most_one_job_may_be_sent(self) -> None:
        if self.outage.is_open:
            assert self.outage.claim_limit(FREE) + sum(self.out.values()) <= 1
        else:
            assert self.outage.claim_limit(FREE) == FREE

    @invariant()
    def while_open_something_is_on_its_way_to_the_end_of_it(self) -> None:
        """A probe that is due or out, or a trial that is wanted or out: exactly one of them."""
        ways = [
            self.outage.next_probe_at is not None,
            self.probe is not None,
            self.outage.is_open and self.outage.claim_limit(FREE) == 1,
            any(self.out.values()),
        ]
        assert sum(ways) == int(self.outage.is_open)
        assert (self.outage.opened_at is not None) is (self.outage.reason is not None) is self.outage.is_open

    @invariant()
    def waits_end(self) -> None:
        if self.outage.next_probe_at is not None:
            assert math.isfinite(self.outage.next_probe_at)
            assert self.outage.next_probe_at <= self.now + MAX_PROBE_WAIT


TestAnyOrder = Process.TestCase
TestAnyOrder.settings = settings(deadline=None, max_examples=examples(200))
