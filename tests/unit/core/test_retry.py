"""What becomes of a job after an attempt: every outcome, every count, every wait."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.attempt_result import AttemptResult
from bridge.core.job import Job, JobState, Outcome
from bridge.core.retry import (
    FIRST_WAIT,
    MAX_UNKNOWN_RETRIES,
    Decision,
    RetryPolicy,
    backoff,
    decide,
    wait_for_task,
)
from bridge.core.task import OnUnknown
from tests.support.tables import NOW

HOUR = 3600.0
#: When a job that was made at NOW has no more time.
OVER = NOW + 24 * HOUR
POLICY = RetryPolicy(retry_for=24 * HOUR, longest_wait=900.0)
JOB = Job(
    id=1, event_id=1, route="deploy", task_id="5f3c9a7be4b0a1c2d3e4f501", task="deploy", item_key="",
    item_index=None, state=JobState.SENDING, arguments=(), reason=None, created_at=NOW, due_at=NOW,
    retry_window_start=NOW, window_attempts=0, window_unknowns=0,
)  # fmt: skip


def after(
    outcome: Outcome,
    *,
    tries: int = 1,
    unknowns: int | None = None,
    retry_window_start: float = NOW,
    now: float = NOW,
    policy: RetryPolicy = POLICY,
    on_unknown: OnUnknown | None = OnUnknown.RETRY,
    retry_after: float | None = None,
    random: float = 0.5,
    detail: str = "what was said",
) -> Decision:
    """The decision after a job's first attempt, made as soon as the job was; counts include it."""
    is_unknown = outcome is Outcome.UNKNOWN
    earlier = 0 if unknowns is None else unknowns - is_unknown
    job = replace(
        JOB, window_attempts=tries - 1, window_unknowns=earlier, retry_window_start=retry_window_start
    )
    result = AttemptResult(0.5, outcome, None, detail, None, retry_after)
    return decide(job, result, policy, on_unknown, now=now, random=random)


def test_the_rule_is_the_designs() -> None:
    assert (FIRST_WAIT, MAX_UNKNOWN_RETRIES) == (2.0, 2)
    assert RetryPolicy() == RetryPolicy(retry_for=24 * HOUR, longest_wait=15 * 60.0)


def test_what_is_refused_after_a_lost_answer_says_that_it_may_have_run() -> None:
    assert after(Outcome.REFUSED).reason == "refused: what was said"
    earlier = after(Outcome.REFUSED, tries=2, unknowns=1)
    assert earlier.reason == "refused: what was said; an earlier attempt may have reached TheEye"


class TestOutcomes:
    """Each outcome, whether retry.for is over or not, with what was lost before, for each on_unknown."""

    @pytest.mark.parametrize(
        ("outcome", "now", "unknowns", "on_unknown", "state"),
        [
            *((Outcome.ACCEPTED, *rest, JobState.ACCEPTED)
              for rest in itertools.product((NOW, OVER), (0, 1, 2), OnUnknown)),
            *((Outcome.REFUSED, *rest, JobState.DEAD)
              for rest in itertools.product((NOW, OVER), (0, 1, 2), OnUnknown)),
            *((Outcome.UNAVAILABLE, NOW, *rest, JobState.WAITING)
              for rest in itertools.product((0, 1, 2), OnUnknown)),
            *((Outcome.UNAVAILABLE, OVER, 0, on_unknown, JobState.DEAD) for on_unknown in OnUnknown),
            # TheEye may have it from an earlier attempt: only a person can say that nothing was run.
            *((Outcome.UNAVAILABLE, OVER, *rest, JobState.UNKNOWN)
              for rest in itertools.product((1, 2), OnUnknown)),
            (Outcome.UNKNOWN, NOW, 1, OnUnknown.RETRY, JobState.WAITING),
            (Outcome.UNKNOWN, NOW, 2, OnUnknown.RETRY, JobState.WAITING),
            (Outcome.UNKNOWN, NOW, 3, OnUnknown.RETRY, JobState.UNKNOWN),
            (Outcome.UNKNOWN, NOW, 4, OnUnknown.RETRY, JobState.UNKNOWN),
            *((Outcome.UNKNOWN, OVER, unknowns, OnUnknown.RETRY, JobState.UNKNOWN) for unknowns in (1, 2, 3)),
            *((Outcome.UNKNOWN, *rest, OnUnknown.HOLD, JobState.UNKNOWN)
              for rest in itertools.product((NOW, OVER), (1, 2, 3))),
        ],
    )  # fmt: skip
    def test_where_it_leads(
        self, outcome: Outcome, now: float, unknowns: int, on_unknown: OnUnknown, state: JobState
    ) -> None:
        found = after(outcome, now=now, tries=unknowns + 1, unknowns=unknowns, on_unknown=on_unknown)

        assert found.state is state
        assert (found.due_at is not None) == (state is JobState.WAITING)

    @pytest.mark.parametrize("outcome", Outcome)
    @pytest.mark.parametrize("tries", [1, 2, 3, 50, 10**6])
    def test_tries_alone_never_end_a_job(self, outcome: Outcome, tries: int) -> None:
        assert after(outcome, tries=tries).state is after(outcome).state

    def test_the_reason_says_what_a_person_needs(self) -> None:
        assert after(Outcome.ACCEPTED).reason == "what was said"
        assert after(Outcome.ACCEPTED, detail="").reason is None
        assert after(Outcome.REFUSED).reason == "refused: what was said"
        assert after(Outcome.UNAVAILABLE).reason == "what was said"
        assert after(Outcome.UNAVAILABLE, now=OVER).reason == "gave up after 86400 s: what was said"
        assert after(Outcome.UNKNOWN).reason == "what was said"
        assert after(Outcome.UNKNOWN, unknowns=3).reason == "what was said; TheEye may have it, sent 3 times"
        assert (
            after(Outcome.UNKNOWN, on_unknown=OnUnknown.HOLD).reason
            == "what was said; TheEye may have it (on_unknown: hold)"
        )
        assert (
            after(Outcome.UNAVAILABLE, now=OVER, unknowns=1).reason
            == "what was said; an earlier attempt may have reached TheEye"
        )


class TestRetryFor:
    def test_it_ends_at_its_very_end(self) -> None:
        policy = RetryPolicy(retry_for=100.0)
        just_before = after(Outcome.UNAVAILABLE, now=NOW + 99.99, policy=policy)
        assert just_before.state is JobState.WAITING
        assert after(Outcome.UNAVAILABLE, now=NOW + 100, policy=policy).state is JobState.DEAD

    def test_it_counts_from_the_asking_and_not_from_the_tries(self) -> None:
        found = after(Outcome.UNAVAILABLE, tries=500, retry_window_start=NOW + 23 * HOUR, now=NOW + 46 * HOUR)
        assert found.state is JobState.WAITING

    def test_a_wait_may_reach_beyond_it(self) -> None:
        """A job dies straight after an attempt, never while it waits."""
        found = after(Outcome.UNAVAILABLE, now=OVER - 1, retry_after=HOUR)
        assert found == Decision(JobState.WAITING, NOW + 25 * HOUR - 1, "what was said")


class TestWaits:
    @pytest.mark.parametrize(
        ("tries", "ceiling"),
        [
            (1, 2),
            (2, 4),
            (3, 8),
            (4, 16),
            (9, 512),
            (10, 900),
            (11, 900),
            (60, 900),
            (1_000, 900),
            (10**9, 900),
        ],
    )
    def test_the_ceiling_doubles_up_to_the_longest_wait(self, tries: int, ceiling: float) -> None:
        assert backoff(tries, 900.0, 1.0) == ceiling
        assert backoff(tries, 900.0, 0.5) == ceiling / 2
        assert backoff(tries, 900.0, 0.0) == 0

    def test_the_longest_wait_may_be_shorter_than_the_first(self) -> None:
        assert backoff(1, 1.0, 1.0) == 1.0

    @settings(deadline=None)
    @given(
        tries=st.integers(1, 10**9),
        longest=st.floats(1, 1e6),
        random=st.floats(0, 1, exclude_max=True),
        retry_after=st.none() | st.floats(0, 86400),
        outcome=st.sampled_from([Outcome.UNAVAILABLE, Outcome.UNKNOWN]),
    )
    def test_a_wait_is_within_its_bounds(
        self, tries: int, longest: float, random: float, retry_after: float | None, outcome: Outcome
    ) -> None:
        found = after(
            outcome,
            tries=tries,
            unknowns=int(outcome is Outcome.UNKNOWN),
            policy=RetryPolicy(longest_wait=longest),
            random=random,
            retry_after=retry_after,
        )

        assert found.state is JobState.WAITING
        assert found.due_at is not None
        wait = found.due_at - NOW
        ceiling = min(longest, FIRST_WAIT * 2.0 ** min(tries - 1, 60))
        floor = retry_after or 0.0
        assert math.isfinite(wait)
        assert floor - 1e-3 <= wait <= max(ceiling, floor) + 1e-3

    @pytest.mark.parametrize(
        ("retry_after", "wait"), [(None, 4.0), (0.0, 4.0), (3.9, 4.0), (4.1, 4.1), (HOUR, HOUR)]
    )
    def test_retry_after_is_the_floor(self, retry_after: float | None, wait: float) -> None:
        found = after(Outcome.UNAVAILABLE, tries=3, random=0.5, retry_after=retry_after)
        assert found.due_at == NOW + wait

    @pytest.mark.parametrize("outcome", [Outcome.ACCEPTED, Outcome.REFUSED])
    def test_what_has_ended_has_no_wait(self, outcome: Outcome) -> None:
        assert after(outcome, retry_after=HOUR).due_at is None


class TestWithoutTask:
    """A job whose task the table lacks."""

    def test_a_lost_answer_counts_as_hold(self) -> None:
        assert after(Outcome.UNKNOWN, on_unknown=None) == after(Outcome.UNKNOWN, on_unknown=OnUnknown.HOLD)
        assert after(Outcome.UNAVAILABLE, on_unknown=None).state is JobState.WAITING

    @pytest.mark.parametrize(
        ("age", "wait"), [(0, 0.5), (0.5, 0.5), (7, 7), (30, 30), (3600, 30), (24 * HOUR - 1, 30)]
    )
    def test_it_waits_as_long_as_its_age_within_bounds(self, age: float, wait: float) -> None:
        assert wait_for_task(JOB, POLICY, now=NOW + age) == wait

    def test_its_time_ends_with_retry_for(self) -> None:
        assert wait_for_task(JOB, POLICY, now=OVER) is None
