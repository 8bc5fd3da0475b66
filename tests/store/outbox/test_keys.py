"""Keys of once_within: which job holds one, for how long, and what becomes of the others."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy
from sqlalchemy import Connection

from bridge.core.attempt_result import AttemptResult
from bridge.core.budget import MAX_JOBS
from bridge.core.job import Job, JobState, NewJob, Outcome
from bridge.core.retry import Decision
from bridge.core.secrets import Mask, Secret
from bridge.core.task import Task
from bridge.outbox.job_storage import STAYS_DEAD
from bridge.outbox.keys import KEYS_LIMIT, throttle
from bridge.outbox.row_mapping import job_row
from bridge.outbox.store import Outbox
from bridge.theeye.request import TheEye
from tests.support.delivery import Process, quick_client
from tests.support.intake import BEARER, JSON_HEADERS, TASK, VARIABLES, Intake, sample
from tests.support.tables import (
    NOW,
    Clock,
    attempt_of,
    claim_jobs,
    dead_job,
    in_threads,
    make_job,
    make_task,
    make_webhook,
    stand_in_task,
    wait_until,
)
from tests.support.theeye import StandIn

#: Seconds.
WITHIN = 600.0

DONE = {
    JobState.ACCEPTED: AttemptResult(0.5, Outcome.ACCEPTED, 200, "", "theeye-1"),
    JobState.DEAD: AttemptResult(0.5, Outcome.REFUSED, 403, "403 invalid secret", None),
    JobState.UNKNOWN: AttemptResult(5.0, Outcome.UNKNOWN, None, "no answer within 5 s", None),
}

HOLDING = (JobState.WAITING, JobState.SENDING, JobState.ACCEPTED, JobState.UNKNOWN)


def keyed(key: str = "k", within: float = WITHIN, **more: Any) -> NewJob:
    return make_job("main", once_key=key, once_within=within, **more)


def ask(outbox: Outbox, delivery: str, *new: NewJob) -> list[Job]:
    """The jobs of a webhook, as they are stored."""
    stored = outbox.store(make_webhook(*new or (keyed(),), delivery_id=delivery))
    return [outbox.job(job.id) for job in stored.jobs]


def ask_one(outbox: Outbox, delivery: str, new: NewJob | None = None) -> Job:
    (job,) = ask(outbox, delivery, new or keyed())
    return job


def bring(outbox: Outbox, job_id: int, state: JobState) -> None:
    """Bring the one job that waits to `state`, as delivery and people do."""
    if state is JobState.WAITING:
        return
    if state is JobState.CANCELED:
        outbox.cancel(job_id)
        return
    token, (job,) = claim_jobs(outbox, starts=state is not JobState.SKIPPED)
    assert job.id == job_id
    if state is JobState.SKIPPED:
        outbox.end_unsent(job, token, state, "dry run: not sent")
    elif state is not JobState.SENDING:
        attempt = attempt_of(outbox, job)
        assert outbox.record(job, token, attempt, DONE[state], Decision(state, None, DONE[state].detail))


def was(outbox: Outbox, state: JobState) -> Job:
    """A first job with the key that came to `state`."""
    job = ask_one(outbox, "first")
    bring(outbox, job.id, state)
    return outbox.job(job.id)


class TestWhoHoldsIt:
    @pytest.mark.parametrize(
        ("state", "held"),
        [
            (JobState.WAITING, "is waiting"),
            (JobState.SENDING, "is sending"),
            (JobState.ACCEPTED, "was accepted at 2023-11-14T22:13:20Z"),
            (JobState.UNKNOWN, "was unknown at 2023-11-14T22:13:20Z"),
        ],
    )
    def test_a_job_on_its_way_or_with_theeye(self, outbox: Outbox, state: JobState, held: str) -> None:
        first = was(outbox, state)

        second = ask_one(outbox, "second")

        assert second.state is JobState.SKIPPED
        assert second.reason == f"once_within: job {first.id} of the same key {held}"
        assert (second.once_key, second.ended_at) == ("k", NOW)
        assert outbox.job(first.id) == first

    @pytest.mark.parametrize("state", [state for state in JobState if state not in HOLDING])
    def test_no_job_that_came_to_nothing(self, outbox: Outbox, state: JobState) -> None:
        assert was(outbox, state).state is state
        second = ask_one(outbox, "second")
        assert (second.state, second.reason, second.ended_at) == (JobState.WAITING, None, None)

    def test_no_job_that_could_not_be_built(self, outbox: Outbox) -> None:
        assert ask_one(outbox, "first", dead_job(once_key="k", once_within=WITHIN)).state is JobState.DEAD
        assert ask_one(outbox, "second").state is JobState.WAITING

    def test_what_cannot_be_built_is_dead_and_not_skipped(self, outbox: Outbox) -> None:
        was(outbox, JobState.ACCEPTED)
        second = ask_one(outbox, "second", dead_job("argument 1: no", once_key="k", once_within=WITHIN))
        assert (second.state, second.reason) == (JobState.DEAD, "argument 1: no")

    @pytest.mark.parametrize("state", HOLDING)
    def test_only_of_the_same_route_and_key(self, outbox: Outbox, state: JobState) -> None:
        was(outbox, state)
        others = [keyed(route="other"), keyed("K"), keyed("k "), keyed(""), make_job("no key", item_key="x")]
        for number, other in enumerate(others):
            assert ask_one(outbox, f"other {number}", other).state is JobState.WAITING

    def test_an_empty_key_is_one(self, outbox: Outbox) -> None:
        """That of a route with once_within alone."""
        assert ask_one(outbox, "first", keyed("")).state is JobState.WAITING
        assert ask_one(outbox, "second", keyed("")).state is JobState.SKIPPED

    def test_whatever_its_task_is_now(self, outbox: Outbox) -> None:
        was(outbox, JobState.ACCEPTED)
        assert ask_one(outbox, "second", keyed(task=make_task(2))).state is JobState.SKIPPED

    def test_a_job_that_waits_for_another_try(self, outbox: Outbox, clock: Clock) -> None:
        first = ask_one(outbox, "first")
        token, (job,) = claim_jobs(outbox)
        attempt = attempt_of(outbox, job)
        away = AttemptResult(0.5, Outcome.UNAVAILABLE, 503, "503", None)
        outbox.record(job, token, attempt, away, Decision(JobState.WAITING, NOW + 3600, "503"))
        clock.now += 1800
        assert ask_one(outbox, "second").reason == f"once_within: job {first.id} of the same key is waiting"


class TestForHowLong:
    @pytest.mark.parametrize("state", [JobState.ACCEPTED, JobState.UNKNOWN])
    def test_for_the_window_from_its_end(self, outbox: Outbox, clock: Clock, state: JobState) -> None:
        first = ask_one(outbox, "first")
        clock.now = NOW + 50
        bring(outbox, first.id, state)

        clock.now = NOW + 50 + WITHIN - 1
        assert ask_one(outbox, "second").state is JobState.SKIPPED
        clock.now = NOW + 50 + WITHIN
        assert ask_one(outbox, "third").state is JobState.WAITING

    @pytest.mark.parametrize("state", [JobState.WAITING, JobState.SENDING])
    def test_without_an_end_while_it_is_on_its_way(
        self, outbox: Outbox, clock: Clock, state: JobState
    ) -> None:
        was(outbox, state)
        clock.now += 1000 * WITHIN
        assert ask_one(outbox, "second").state is JobState.SKIPPED

    def test_not_for_longer_where_the_clock_was_set_back(self, outbox: Outbox, clock: Clock) -> None:
        first = ask_one(outbox, "first")
        clock.now += 86_400
        bring(outbox, first.id, JobState.ACCEPTED)
        clock.now -= 86_400

        assert ask_one(outbox, "second").state is JobState.WAITING

    def test_what_is_skipped_prolongs_nothing(self, outbox: Outbox, clock: Clock) -> None:
        was(outbox, JobState.ACCEPTED)
        clock.now = NOW + WITHIN - 1
        assert ask_one(outbox, "second").state is JobState.SKIPPED
        clock.now = NOW + WITHIN
        assert ask_one(outbox, "third").state is JobState.WAITING

    def test_the_window_is_todays_tables(self, outbox: Outbox, clock: Clock) -> None:
        was(outbox, JobState.ACCEPTED)
        clock.now = NOW + WITHIN + 60
        assert ask_one(outbox, "longer", keyed(within=WITHIN + 120)).state is JobState.SKIPPED
        assert ask_one(outbox, "as before").state is JobState.WAITING

    def test_what_a_person_says_was_sent_was_so_since_its_answer_was_lost(
        self, outbox: Outbox, clock: Clock
    ) -> None:
        first = was(outbox, JobState.UNKNOWN)
        clock.now = NOW + WITHIN / 2
        outbox.resolve(first.id, sent=True)
        clock.now = NOW + WITHIN - 1
        assert ask_one(outbox, "second").state is JobState.SKIPPED
        clock.now = NOW + WITHIN
        assert ask_one(outbox, "third").state is JobState.WAITING

    def test_a_late_word_holds_its_key_no_more(self, outbox: Outbox, clock: Clock) -> None:
        first = was(outbox, JobState.UNKNOWN)
        clock.now = NOW + 86_400
        outbox.resolve(first.id, sent=True)

        assert ask_one(outbox, "second").state is JobState.WAITING

    def test_what_a_person_sends_again_is_on_its_way(self, outbox: Outbox, clock: Clock) -> None:
        first = was(outbox, JobState.UNKNOWN)
        outbox.resolve(first.id, sent=False)
        clock.now = NOW + 3 * WITHIN
        assert ask_one(outbox, "second").reason == f"once_within: job {first.id} of the same key is waiting"


class TestOneEvent:
    def test_of_two_with_one_key_the_first_runs(self, outbox: Outbox) -> None:
        first, other, second, third = ask(
            outbox, "1", *(keyed(key, item_key=f"i{n}") for n, key in enumerate(["a", "b", "a", "a"]))
        )
        assert [job.state for job in (first, other)] == [JobState.WAITING, JobState.WAITING]
        for job in (second, third):
            assert job.state is JobState.SKIPPED
            assert job.reason == "once_within: another job of this event has the same key"

    def test_where_the_key_is_held_none_does(self, outbox: Outbox) -> None:
        first = was(outbox, JobState.SENDING)
        made = ask(outbox, "second", keyed(item_key="a"), keyed(item_key="b"))
        held = f"once_within: job {first.id} of the same key is sending"
        assert [(job.state, job.reason) for job in made] == [(JobState.SKIPPED, held)] * 2

    def test_one_that_cannot_be_built_leaves_it_to_the_next(self, outbox: Outbox) -> None:
        dead = dead_job(item_key="a", once_key="k", once_within=WITHIN)
        made = ask(outbox, "1", dead, keyed(item_key="b"), keyed(item_key="c"))
        assert [job.state for job in made] == [JobState.DEAD, JobState.WAITING, JobState.SKIPPED]

    def test_two_routes_have_a_key_each(self, outbox: Outbox) -> None:
        made = ask(outbox, "1", keyed(), keyed(route="second", within=1.0))
        assert [job.state for job in made] == [JobState.WAITING] * 2

    @pytest.mark.parametrize("number", [2 * KEYS_LIMIT + 2, MAX_JOBS])
    @pytest.mark.slow_unless(number=2 * KEYS_LIMIT + 2)
    def test_an_event_may_have_many_items(self, outbox: Outbox, number: int) -> None:
        keys = number - 1
        many = [
            make_job(n, item_key=f"i{n}", once_key=f"key {n % keys}", once_within=WITHIN)
            for n in range(number)
        ]
        first = outbox.store(make_webhook(*many, delivery_id="1"))
        assert [job.state for job in first.jobs] == [JobState.WAITING] * keys + [JobState.SKIPPED]

        second = outbox.store(make_webhook(*many, delivery_id="2"))
        assert {job.state for job in second.jobs} == {JobState.SKIPPED}
        reason = outbox.job(second.jobs[keys - 1].id).reason
        assert reason == f"once_within: job {first.jobs[keys - 1].id} of the same key is waiting"


class TestComeAgain:
    def test_what_was_skipped_stays_so(self, outbox: Outbox, clock: Clock) -> None:
        was(outbox, JobState.ACCEPTED)
        skipped = ask_one(outbox, "second")
        clock.now += 2 * WITHIN

        assert ask(outbox, "second") == []
        assert outbox.job(skipped.id) == skipped

    def test_a_dead_job_is_skipped_where_another_holds_its_key(self, outbox: Outbox, clock: Clock) -> None:
        dead = was(outbox, JobState.DEAD)
        second = ask_one(outbox, "second")
        clock.now += 5

        assert ask(outbox, "first") == []

        after = outbox.job(dead.id)
        assert after.state is JobState.SKIPPED
        assert after.reason == f"once_within: job {second.id} of the same key is waiting"
        assert after.ended_at == NOW + 5

    def test_a_dead_job_waits_where_none_does(self, outbox: Outbox) -> None:
        dead = was(outbox, JobState.DEAD)
        assert [job.id for job in ask(outbox, "first")] == [dead.id]
        assert outbox.job(dead.id).state is JobState.WAITING
        assert ask_one(outbox, "second").state is JobState.SKIPPED

    def test_of_two_dead_jobs_of_one_key_one_waits(self, outbox: Outbox) -> None:
        dead = [dead_job(item_key=item, once_key="k", once_within=WITHIN) for item in "ab"]
        ask(outbox, "1", *dead)

        made = ask(outbox, "1", keyed(item_key="a"), keyed(item_key="b"))

        assert len(made) == 1
        assert sorted(job.state for job in outbox.jobs()) == [JobState.SKIPPED, JobState.WAITING]

    def test_a_job_that_is_missing_is_made_and_throttled(self, outbox: Outbox) -> None:
        was(outbox, JobState.ACCEPTED)
        ask(outbox, "second", make_job("plain", item_key="a"))
        (made,) = ask(outbox, "second", make_job("plain", item_key="a"), keyed(item_key="b"))
        assert made.state is JobState.SKIPPED


class TestPeople:
    @pytest.mark.parametrize("state", HOLDING)
    def test_a_retry_asks_for_no_key_and_holds_it(self, outbox: Outbox, state: JobState) -> None:
        dead = was(outbox, JobState.DEAD)
        second = ask_one(outbox, "second")
        bring(outbox, second.id, state)

        assert outbox.retry(dead.id, keyed()) is JobState.WAITING

        assert outbox.job(dead.id).reason is None
        if state is JobState.WAITING:
            outbox.cancel(second.id)
            reason = f"once_within: job {dead.id} of the same key is waiting"
            assert ask_one(outbox, "third").reason == reason

    def test_a_replay_asks_for_no_key_and_holds_it(self, outbox: Outbox) -> None:
        first = was(outbox, JobState.WAITING)

        again = outbox.replay(first.event_id, [keyed(), keyed(item_key="same key")])

        assert [job.state for job in again] == [JobState.WAITING] * 2
        outbox.cancel(first.id)
        outbox.cancel(again[0].id)
        reason = f"once_within: job {again[1].id} of the same key is waiting"
        assert ask_one(outbox, "second").reason == reason

    def test_a_retry_whose_route_is_gone_stays_dead(self, outbox: Outbox) -> None:
        dead = was(outbox, JobState.DEAD)
        ask_one(outbox, "second")
        assert outbox.retry(dead.id, None) is JobState.DEAD
        assert str(outbox.job(dead.id).reason).endswith(STAYS_DEAD)


class Doing:
    """A connection, but that something is done after its first statement."""

    def __init__(self, connection: Connection, deed: Callable[[], object]) -> None:
        self._connection = connection
        self._deeds = [deed]

    def execute(self, *arguments: Any) -> list[Any]:
        rows = list(self._connection.execute(*arguments))
        while self._deeds:
            self._deeds.pop()()
        return rows


class TestAtTheSameMoment:
    def test_of_webhooks_with_one_key_one_runs(self, outbox: Outbox, reopen: Callable[[], Outbox]) -> None:
        """Without the lock each finds that none is there yet."""
        stores = [outbox, reopen()] * 4
        for number in range(20):
            works = [
                partial(ask_one, one, f"{number}.{sender}", keyed(f"key {number}"))
                for sender, one in enumerate(stores)
            ]
            states = [job.state for job in in_threads(works)]
            assert sorted(states) == [JobState.SKIPPED] * 7 + [JobState.WAITING]

    @pytest.mark.parametrize("url", ["postgresql"], indirect=True)
    @pytest.mark.parametrize("to", [JobState.ACCEPTED, JobState.UNKNOWN])
    def test_a_job_that_ends_between_two_statements_holds_it(
        self, outbox: Outbox, reopen: Callable[[], Outbox], to: JobState
    ) -> None:
        """What a job comes to is recorded without the key's lock. SQLite has one writer at a time."""
        first, other = ask_one(outbox, "first"), reopen()
        bring(outbox, first.id, JobState.SENDING)
        job = outbox.job(first.id)
        assert job.claim_token is not None
        attempt = attempt_of(outbox, job)
        end = partial(other.record, job, job.claim_token, attempt, DONE[to], Decision(to, None, None))

        new = keyed()
        rows = [job_row(first.event_id, new, NOW + 1)]
        outbox._database.write(
            lambda connection: throttle(cast(Connection, Doing(connection, end)), [new], rows, NOW + 1)
        )

        assert outbox.job(first.id).state is to
        assert rows[0]["state"] is JobState.SKIPPED


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("keys", [1, 500])
def test_who_holds_a_key_is_found_by_the_index(outbox: Outbox, tmp_path: Path, keys: int) -> None:
    """However many jobs have held one, and how many of the route are on their way."""
    statements: list[tuple[str, Any]] = []

    def note(_c: object, _u: object, statement: str, parameters: Any, *_: object) -> None:
        if "once_key IN" in statement:
            statements.append((statement, parameters))

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
    try:
        many = [keyed(str(number), item_key=str(number)) for number in range(keys)]
        outbox.store(make_webhook(*many))
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)

    ((statement, parameters),) = statements
    with closing(sqlite3.connect(tmp_path / "bridge.db")) as other:
        plan = [row[3] for row in other.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    searches = [step for step in plan if "jobs" in step]
    assert [step.partition("jobs_by_key ")[2] for step in searches] == [
        "(route=? AND once_key=? AND ended_at=?)",
        "(route=? AND once_key=? AND ended_at>? AND ended_at<?)",
    ], plan


class TestAlert:
    """An alert is sent again by its next notification, unless one of it has reached TheEye."""

    ROUTE = """
sources:
  alerts: {type: alertmanager, bearer_token: "${{ env.TOKEN }}"}
routes:
  - name: page
    source: alerts
    loop: payload.alerts
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ item.labels.instance }}"]
"""
    ONCE = '    once_within: 24h\n    once_key: "${{ item.fingerprint }} ${{ item.startsAt }}"\n'

    @pytest.fixture
    def theeye(self) -> Iterator[StandIn]:
        """It has another key for the task than the table."""
        task = Task(TASK, TASK, Secret("o1" * 32))
        with StandIn(["acme"], [stand_in_task(task)]) as stand_in:
            yield stand_in

    @pytest.mark.parametrize("once", ["", ONCE], ids=["each time", "once_within"])
    def test_whose_job_died_on_a_wrong_key_is_sent_again(
        self, url: str, tmp_path: Path, theeye: StandIn, once: str
    ) -> None:
        with closing(Intake(self.ROUTE + once, tmp_path, url=url)) as intake:
            dead = self.notify(intake)
            self.deliver(url, intake, theeye, tmp_path, JobState.DEAD)
            for job in dead:
                assert "invalid secret" in str(intake.outbox.job(job).reason)

            intake.clock.now += 31  # a reminder: beyond the dedupe window it is another event
            again = self.notify(intake)

            assert {intake.outbox.job(job).state for job in again} == {JobState.WAITING}
            assert len(again) == len(dead) == 3
            assert {*again}.isdisjoint(dead)

    def test_whose_job_was_accepted_is_not(self, url: str, tmp_path: Path) -> None:
        task = Task(TASK, TASK, Secret(VARIABLES["TASK_KEY"]))
        with (
            closing(Intake(self.ROUTE + self.ONCE, tmp_path, url=url)) as intake,
            StandIn(["acme"], [stand_in_task(task)]) as theeye,
        ):
            self.notify(intake)
            self.deliver(url, intake, theeye, tmp_path, JobState.ACCEPTED)

            intake.clock.now += 31
            again = [intake.outbox.job(job) for job in self.notify(intake)]

            assert {job.state for job in again} == {JobState.SKIPPED}
            assert {str(job.reason).partition(" was ")[2][:8] for job in again} == {"accepted"}

    def notify(self, intake: Intake) -> list[int]:
        """The ids of the jobs that a notification makes."""
        body = sample("alertmanager/firing.json")
        made = intake.post("alerts", body, {**JSON_HEADERS, **BEARER}).body["jobs"]
        return [job["id"] for job in made]

    @staticmethod
    def deliver(url: str, intake: Intake, theeye: StandIn, folder: Path, to: JobState) -> None:
        """Deliver what waits, at the time of the intake; all of it must come to `to`."""
        table = replace(intake.table, theeye=TheEye("acme", theeye.url, 5.0))
        process = Process(url, table, Mask(()), make_client=quick_client(folder))
        process.clock.offset = intake.clock.now - time.time()
        with closing(process.start()):
            wait_until(lambda: intake.outbox.counts() == {to: 3}, f"three {to} jobs")
