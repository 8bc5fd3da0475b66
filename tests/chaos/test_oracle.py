"""The oracle sees each promise broken in a history made by hand, and nothing in one that kept them all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bridge.core.job import Attempt, Job, JobState, Outcome
from tests.chaos.oracle import (
    LEFT_BEHIND,
    Arrival,
    Cause,
    History,
    Resolved,
    Saved,
    Taken,
    violations,
)
from tests.chaos.table import ONCE_WITHIN, RATE, TASKS, Kind
from tests.support.tables import NOW

#: Seconds that an attempt takes in these histories.
TAKES = 0.1


class Recorder:
    """Builds a history, push after push: each is answered 0.01 s after it was begun."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.arrivals: list[Arrival] = []
        self.saved: list[Saved] = []
        self.jobs: list[Job] = []
        self.attempts: dict[int, list[Attempt]] = {}
        self.resolved: list[Resolved] = []
        self.causes = [Cause(NOW, NOW + 10)]

    def push(self, at: float, kind: Kind = Kind.PLAIN, member: str = "", **of_job: Any) -> Job:
        """One that is taken and stored, and accepted unless `of_job` says otherwise; not sent yet."""
        number = len(self.jobs) + 1
        commit = f"commit-{number}"
        self.taken.append(Taken(commit, kind, member, NOW + at, NOW + at + 0.01, (number,)))
        job = Job(
            id=number,
            event_id=number,
            route=f"github * {kind}",
            task_id=TASKS[kind],
            task=kind,
            item_key="",
            item_index=None,
            state=JobState.ACCEPTED,
            arguments=(commit,),
            reason=None,
            created_at=NOW + at,
            due_at=NOW + at,
            retry_window_start=NOW + at,
            window_attempts=1,
            window_unknowns=0,
            group=member or None,
            position=number,
            ended_at=NOW + at + TAKES,
        )
        self.jobs.append(replace(job, **of_job))
        return job

    def send(
        self, job: Job, at: float, outcome: Outcome | None = Outcome.ACCEPTED, *, saves: bool | None = None
    ) -> None:
        """An attempt; TheEye has the job if `saves`, by itself where it was accepted."""
        made = self.attempts.setdefault(job.id, [])
        number = len(made) + 1
        attempt = Attempt(len(made), job.id, number, NOW + at, TAKES if outcome else None, outcome)
        self.arrive(job, at)
        if saves is None:
            saves = outcome is Outcome.ACCEPTED
        if saves:
            self.save(job, at, f"{job.id}-{number}")
        if outcome is Outcome.ACCEPTED:
            attempt = replace(attempt, theeye_job_id=f"{job.id}-{number}")
            self.change(job, theeye_job_id=f"{job.id}-{number}")
        made.append(attempt)

    def arrive(self, job: Job, at: float) -> None:
        self.arrivals.append(Arrival(f"commit-{job.id}", NOW + at + 0.01))

    def save(self, job: Job, at: float, name: str = "another") -> None:
        self.saved.append(Saved(f"commit-{job.id}", NOW + at + 0.02, name))

    def resolve(self, job: Job, at: float, *, sent: bool) -> None:
        self.resolved.append(Resolved(job.id, NOW + at, sent))

    def change(self, job: Job, **of_job: Any) -> None:
        self.jobs[job.id - 1] = replace(self.jobs[job.id - 1], **of_job)

    def found(self) -> list[str]:
        """The checks that find something."""
        whole = History(
            tuple(self.taken),
            tuple(self.arrivals),
            tuple(self.saved),
            tuple(self.jobs),
            self.attempts,
            tuple(self.resolved),
            tuple(self.causes),
        )
        return [violation.check for violation in violations(whole)]


@pytest.fixture
def history() -> Recorder:
    """A run that kept every promise, with all that is allowed in it."""
    history = Recorder()
    plain = history.push(0.0)
    history.send(plain, 0.1, Outcome.UNKNOWN, saves=True)
    history.send(plain, 0.3, Outcome.UNAVAILABLE)
    history.send(plain, 0.5, Outcome.UNKNOWN, saves=True)
    history.send(plain, 0.7)

    held = history.push(0.0, Kind.HOLD)
    history.send(held, 0.1, Outcome.UNAVAILABLE)
    history.send(held, 0.3, Outcome.UNKNOWN)
    history.resolve(held, 0.5, sent=False)
    history.send(held, 0.6, Outcome.UNKNOWN, saves=True)
    history.resolve(held, 0.9, sent=True)

    for place in range(3):
        history.send(history.push(place * 0.02, Kind.GROUPED, "acme/1"), 1.0 + place * 0.2)
    # In flight together, so either may come first.
    history.taken[-1] = replace(history.taken[-1], begun=NOW, answered=NOW + 0.5)

    history.send(history.push(0.0, Kind.LATEST, "acme/1"), 0.1)
    history.push(0.1, Kind.LATEST, "acme/1", state=JobState.SKIPPED)
    history.send(history.push(0.2, Kind.LATEST, "acme/1"), 0.3)

    for place in range(2 * RATE):
        history.send(history.push(0.0, Kind.RATED), 1.0 + place // RATE)

    history.send(history.push(0.0, Kind.ONCE, "acme/1"), 0.01)
    history.push(0.2, Kind.ONCE, "acme/1", state=JobState.SKIPPED)
    history.send(history.push(ONCE_WITHIN + 0.2, Kind.ONCE, "acme/1"), ONCE_WITHIN + 0.3)
    # A key is not held for as long as a person thinks.
    unknown = history.push(0.0, Kind.ONCE, "acme/2", ended_at=NOW + 60)
    history.send(unknown, 0.1, Outcome.UNKNOWN, saves=True)
    history.send(history.push(ONCE_WITHIN + 0.3, Kind.ONCE, "acme/2"), ONCE_WITHIN + 0.4)
    history.resolve(unknown, 60.0, sent=True)
    return history


def test_a_run_that_kept_its_promises_is_left_in_peace(history: Recorder) -> None:
    assert history.found() == []


def test_lost_at_theeye(history: Recorder) -> None:
    history.push(0.0)
    assert history.found() == ["lost", "misrecorded"]


def test_lost_from_the_store(history: Recorder) -> None:
    history.taken.append(Taken("gone", Kind.PLAIN, "", NOW, NOW + 1))
    assert history.found() == ["lost"]


def test_lost_a_job_that_was_answered(history: Recorder) -> None:
    history.taken[0] = replace(history.taken[0], jobs=(1, 99))
    assert history.found() == ["lost"]


def test_lost_by_giving_way_where_nothing_gives_way(history: Recorder) -> None:
    history.push(0.0, state=JobState.SKIPPED)
    assert history.found() == ["lost"]


@pytest.mark.parametrize(
    "state", [JobState.WAITING, JobState.SENDING, JobState.UNKNOWN, JobState.DEAD, JobState.CANCELED]
)
def test_unfinished(history: Recorder, state: JobState) -> None:
    history.change(history.jobs[0], state=state)
    assert history.found() == ["unfinished"]


def test_unfinished_attempt(history: Recorder) -> None:
    history.send(history.jobs[1], 1.5, None)
    assert "unfinished" in history.found()


def test_made_up(history: Recorder) -> None:
    job = history.push(0.0)
    history.send(job, 0.1)
    history.taken.pop()
    assert history.found() == ["made up"]


def test_made_up_twice_of_one_push(history: Recorder) -> None:
    # TheEye got one job, so only the store shows it.
    history.jobs.append(replace(history.jobs[0], id=99))
    assert "made up" in history.found()


def test_made_up_acceptance(history: Recorder) -> None:
    history.saved.remove(next(saved for saved in history.saved if saved.id == "1-4"))
    assert history.found() == ["made up"]


def test_misrecorded_by_an_older_claim(history: Recorder) -> None:
    history.change(history.jobs[0], theeye_job_id="1-1")
    assert history.found() == ["misrecorded"]


def test_an_answer_that_came_late(history: Recorder) -> None:
    job = history.push(0.0)
    history.send(job, 0.1, Outcome.UNKNOWN, saves=True)
    history.change(job, theeye_job_id=history.saved[-1].id)
    assert history.found() == []


def test_misrecorded_without_an_acceptance(history: Recorder) -> None:
    job = history.push(0.0)
    history.send(job, 0.1, Outcome.UNKNOWN, saves=True)
    assert history.found() == ["misrecorded"]


def test_doubled(history: Recorder) -> None:
    history.save(history.jobs[0], 0.8)
    assert history.found() == ["doubled"]


def test_unknown_without_a_cause(history: Recorder) -> None:
    history.causes = [Cause(NOW, NOW + 0.1), Cause(NOW + 0.11 + TAKES + 0.01, NOW + 10)]
    history.send(job := history.push(0.0), 0.11, Outcome.UNKNOWN)
    history.send(job, 0.4)
    assert "without cause" in history.found()


def test_unknown_because_its_process_froze_before_it_sent(history: Recorder) -> None:
    history.causes.append(Cause(NOW + 20.05, NOW + 20.08))
    history.send(job := history.push(20.0), 20.11, Outcome.UNKNOWN)
    history.send(job, 20.4)
    history.attempts[job.id][0] = replace(history.attempts[job.id][0], started_at=NOW + 20.06)
    assert history.found() == ["without cause"]
    history.attempts[job.id][0] = replace(history.attempts[job.id][0], detail=LEFT_BEHIND)
    assert history.found() == []


def test_unknown_though_it_never_left(history: Recorder) -> None:
    history.send(job := history.push(0.0), 0.1, Outcome.UNKNOWN)
    history.send(job, 0.4)
    assert history.found() == []
    history.attempts[job.id][0] = replace(
        history.attempts[job.id][0], detail="[Errno 111] Connection refused"
    )
    assert history.found() == ["without cause"]


def test_unknown_with_the_cause_of_another(history: Recorder) -> None:
    history.causes.append(Cause(NOW + 10, NOW + 30, kind=Kind.HOLD))
    history.causes.append(Cause(NOW + 10, NOW + 30, 502))
    history.send(job := history.push(20.0), 20.1, Outcome.UNKNOWN)
    history.send(job, 20.4)
    assert history.found() == ["without cause"]
    history.causes.append(Cause(NOW + 20.15, NOW + 20.3, kind=Kind.PLAIN))
    assert history.found() == []


def test_sent_too_often(history: Recorder) -> None:
    job = history.push(0.0)
    for place in range(3):
        history.send(job, 0.1 + place, Outcome.UNKNOWN)
    history.resolve(job, 5.0, sent=False)
    history.send(job, 6.0)
    assert history.found() == []
    history.resolved.clear()
    history.send(job, 7.0, Outcome.UNKNOWN)
    assert "sent too often" in history.found()


def test_sent_again_after_it_was_accepted(history: Recorder) -> None:
    history.send(history.jobs[0], 3.0, Outcome.UNAVAILABLE)
    assert history.found() == ["misrecorded", "sent too often"]


def test_held_and_sent_again(history: Recorder) -> None:
    job = history.push(0.0, Kind.HOLD)
    history.send(job, 0.1, Outcome.UNKNOWN)
    history.send(job, 0.3)
    assert history.found() == ["held"]


def test_held_and_doubled(history: Recorder) -> None:
    job = history.push(0.0, Kind.HOLD)
    history.send(job, 0.1, Outcome.UNKNOWN, saves=True)
    history.resolve(job, 0.3, sent=False)
    history.send(job, 0.4)
    assert history.found() == ["held"]


def test_unstarted(history: Recorder) -> None:
    history.arrive(history.jobs[0], 3.0)
    assert history.found() == ["unstarted"]


def test_overlapping(history: Recorder) -> None:
    job = history.push(0.0)
    history.send(job, 0.1, Outcome.UNAVAILABLE)
    history.send(job, 0.1 + TAKES / 2)
    assert history.found() == ["overlapping"]


def test_in_no_group(history: Recorder) -> None:
    history.send(history.push(2.0, Kind.GROUPED, "acme/9", group=None), 2.1)
    assert history.found() == ["ungrouped"]


def test_in_the_group_of_another(history: Recorder) -> None:
    history.send(history.push(2.0, Kind.GROUPED, "acme/9", group="acme/1"), 2.1)
    assert history.found() == ["ungrouped"]


def test_in_another_group_than_those_before(history: Recorder) -> None:
    history.send(history.push(2.0, Kind.GROUPED, "acme/1", group="acme/9"), 2.1)
    assert history.found() == ["ungrouped"]


@pytest.mark.parametrize("kind", [Kind.GROUPED, Kind.LATEST])
def test_out_of_order(history: Recorder, kind: Kind) -> None:
    first, second = history.push(0.0, kind, "acme/9"), history.push(0.1, kind, "acme/9")
    history.send(second, 0.2)
    history.send(first, 0.4)
    # The store gave the later one the place in front.
    history.change(first, position=second.id + 1)
    assert history.found() == ["out of order"]


def test_out_of_order_before_the_one_in_front_is_there(history: Recorder) -> None:
    first, second = history.push(0.0, Kind.GROUPED, "acme/9"), history.push(0.1, Kind.GROUPED, "acme/9")
    history.send(first, 0.2, Outcome.UNKNOWN)
    history.send(second, 0.4)
    history.send(first, 0.6)
    assert set(history.found()) == {"out of order", "out of position"}


def test_out_of_position(history: Recorder) -> None:
    first, second = history.push(0.0, Kind.GROUPED, "acme/9"), history.push(0.0, Kind.GROUPED, "acme/9")
    history.send(first, 0.2)
    history.send(second, 0.2 + TAKES / 2)
    assert history.found() == ["out of position"]


def test_not_the_latest(history: Recorder) -> None:
    history.push(1.0, Kind.LATEST, "acme/1", state=JobState.SKIPPED)
    assert history.found() == ["not the latest"]


def test_an_old_one_after_the_latest(history: Recorder) -> None:
    old = history.push(0.0, Kind.LATEST, "acme/9", state=JobState.SKIPPED)
    new = history.push(0.1, Kind.LATEST, "acme/9")
    history.send(new, 0.2)
    history.send(old, 0.4, Outcome.UNAVAILABLE)
    assert set(history.found()) == {"out of order", "out of position"}


def test_too_fast(history: Recorder) -> None:
    history.send(history.push(0.0, Kind.RATED), 1.9)
    assert set(history.found()) == {"too fast"}


def test_more_than_once(history: Recorder) -> None:
    history.send(history.push(ONCE_WITHIN - 0.1, Kind.ONCE, "acme/1"), ONCE_WITHIN)
    assert "more than once" in history.found()


def test_skipped_though_no_other_held_its_key(history: Recorder) -> None:
    history.push(2.0, Kind.ONCE, "acme/9", state=JobState.SKIPPED)
    assert history.found() == ["more than once"]


def test_few_of_many_are_told(history: Recorder) -> None:
    for _ in range(100):
        history.push(0.0)
    assert history.found() == ["lost"] * 6 + ["misrecorded"] * 6
