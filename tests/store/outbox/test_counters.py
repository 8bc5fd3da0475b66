"""What /metrics counts is exact: in the same commit, over processes and restarts, and after retention."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, text

from bridge.core.attempt_result import AttemptResult
from bridge.core.errors import WrongState
from bridge.core.job import JobState, Outcome
from bridge.core.metrics import (
    ACCEPTANCE_SECONDS,
    ATTEMPT_SECONDS,
    ATTEMPTS,
    EVENTS,
    JOBS,
    JOBS_CREATED,
    JOBS_ENDED,
    LAST_EVENT,
    OLDEST_WAITING,
    REFUSED,
    WEBHOOK_SECONDS,
    Metric,
)
from bridge.core.retry import Decision
from bridge.outbox import attempt_storage, counters, event_storage
from bridge.outbox.store import Outbox
from bridge.outbox.webhook import Webhook
from bridge.process.settings import Retention
from bridge.sources.base.source_type import Replays
from tests.store.outbox.test_batches import one_batch
from tests.support.intake import beside
from tests.support.statements import executed
from tests.support.tables import (
    NOW,
    PATIENCE,
    Clock,
    attempt_of,
    claim_jobs,
    dead_job,
    in_threads,
    make_job,
    make_webhook,
    wait_until,
)

TASK = "task 1"
DAY = 86_400.0


def counted(outbox: Outbox, metric: Metric) -> dict[tuple[str, ...], float]:
    """The counts of a metric by its labels; of a histogram also by its bucket or `sum`."""
    return {
        tuple(labels): value for (name, *labels), value in outbox.measure().items() if name == metric.name
    }


def counts_of(outbox: Outbox) -> dict[tuple[str, ...], float]:
    """Everything but the gauges of jobs."""
    gauges = (JOBS.name, OLDEST_WAITING.name)
    return {series: value for series, value in outbox.measure().items() if series[0] not in gauges}


def send(outbox: Outbox, outcome: Outcome, state: JobState, *, seconds: float = 0.3) -> None:
    """Claim the oldest due job, and record that its attempt ended so."""
    token, (job,) = claim_jobs(outbox)
    result = AttemptResult(seconds, outcome, None, "", None)
    due_at = NOW if state is JobState.WAITING else None
    assert outbox.record(job, token, attempt_of(outbox, job), result, Decision(state, due_at, None))


def push(number: int | str, *jobs: Any, **more: Any) -> Webhook:
    digest = str(number).encode()
    return replace(make_webhook(*jobs, delivery_id=str(number), digest=digest, **more), event_label="push")


def known_set(outbox: Outbox, clock: Clock) -> None:
    """Store and deliver webhooks of each kind."""
    outbox.store(push(1, make_job(), make_job(route="second")))
    outbox.store(push(2))
    outbox.store(push(1, make_job(), make_job(route="second")))
    outbox.store(replace(push(1), digest=b"another body"))
    outbox.store(replace(push(3), event_label="other"))
    unnamed = push(4)
    outbox.store(replace(unnamed, event=replace(unnamed.event, event="")))
    outbox.store(push(5, dead_job()))
    clock.now += 60
    send(outbox, Outcome.UNAVAILABLE, JobState.WAITING)
    send(outbox, Outcome.ACCEPTED, JobState.ACCEPTED, seconds=7)
    send(outbox, Outcome.ACCEPTED, JobState.ACCEPTED)
    outbox.store_refused([], {("github", "not_authentic"): 3})


EXPECTED = {
    EVENTS: {
        ("github", "push", "matched"): 2, ("github", "push", "unmatched"): 1,
        ("github", "push", "duplicate"): 1, ("github", "push", "refused"): 1,
        ("github", "push", "unreadable"): 1, ("github", "other", "unmatched"): 1,
    },
    JOBS_CREATED: {("first", TASK): 2, ("second", TASK): 1},
    JOBS_ENDED: {
        ("first", TASK, "dead"): 1, ("first", TASK, "accepted"): 1, ("second", TASK, "accepted"): 1
    },
    ATTEMPTS: {(TASK, "unavailable"): 1, (TASK, "accepted"): 2},
    ATTEMPT_SECONDS: {(TASK, "0.5"): 2, (TASK, "10"): 1, (TASK, "sum"): 7.6},
    ACCEPTANCE_SECONDS: {(TASK, "60"): 2, (TASK, "sum"): 120},
    REFUSED: {("github", "not_authentic"): 3},
}  # fmt: skip


def all_counted(outbox: Outbox) -> dict[Metric, Any]:
    return {metric: pytest.approx(counted(outbox, metric)) for metric in EXPECTED}


def test_a_known_set_of_webhooks_is_counted(outbox: Outbox, clock: Clock) -> None:
    known_set(outbox, clock)
    assert all_counted(outbox) == EXPECTED


def test_the_counts_are_there_after_a_restart(
    outbox: Outbox, reopen: Callable[[], Outbox], clock: Clock
) -> None:
    known_set(outbox, clock)
    outbox.close()
    again = reopen()
    assert all_counted(again) == EXPECTED
    again.store(push(6))
    assert counted(again, EVENTS)["github", "push", "unmatched"] == 2


def test_two_processes_count_together(outbox: Outbox, reopen: Callable[[], Outbox]) -> None:
    both = [outbox, reopen()]
    webhooks = [(both[number % 2], push(number, make_job())) for number in range(20)]
    in_threads([partial(process.store, webhook) for process, webhook in webhooks])
    assert counted(outbox, EVENTS) == {("github", "push", "matched"): 20}
    assert counted(outbox, JOBS_CREATED) == {("first", TASK): 20}


def writers(url: str) -> set[str]:
    """The writers of the rows."""
    with beside(url) as connection:
        return set(connection.execute(text("SELECT writer FROM counters")).scalars())


def writer_of(outbox: Outbox) -> str:
    """The name of the writer that stores webhooks, on PostgreSQL."""
    database: Any = outbox._database
    name: str = database._writers[event_storage.store]._name
    return name


def test_retention_folds_the_rows_and_changes_no_count(
    outbox: Outbox, reopen: Callable[[], Outbox], url: str, clock: Clock
) -> None:
    known_set(outbox, clock)
    other = reopen()
    other.store(push(6))
    before = counts_of(outbox)
    assert len(writers(url) - {""}) >= 2

    clock.now += 40 * DAY
    assert outbox.prune(Retention(DAY, DAY), lambda: False).events
    assert counts_of(outbox) == before
    assert writers(url) == {""}

    # Both processes still run, and begin new rows.
    for number, process in enumerate((outbox, other)):
        process.store(push(f"new {number}"))
    assert counted(outbox, EVENTS)["github", "push", "unmatched"] == 4
    outbox.prune(Retention(DAY, DAY), lambda: False)
    assert counted(outbox, EVENTS)["github", "push", "unmatched"] == 4


def test_a_fold_never_moves_the_time_of_the_last_event_back(outbox: Outbox) -> None:
    """A process whose clock is behind, or which writes late, may be folded last."""
    event = [((EVENTS.name, "github", "push", "matched"), 1.0)]
    for number, at in enumerate((NOW + 200, NOW + 100)):

        def write(connection: Connection, number: int = number, at: float = at) -> None:
            counters._write(connection, f"process {number}", at, event)
            counters.fold(connection)

        outbox._database.write(write)
        assert counted(outbox, LAST_EVENT) == {("github",): NOW + 200}
    assert sum(counted(outbox, EVENTS).values()) == 2


def count_and_fail(connection: Connection) -> None:
    counters.count(connection, REFUSED, "github", "timeout")
    raise ZeroDivisionError


def test_a_unit_that_fails_counts_nothing(outbox: Outbox, url: str) -> None:
    """On SQLite the units beside it in its transaction do count."""
    outbox.store(push(1, make_job()))
    outbox.cancel(1)
    before = outbox.measure()
    with pytest.raises(WrongState):
        outbox.cancel(1)
    with pytest.raises(ZeroDivisionError):
        outbox._database.write(count_and_fail)
    assert outbox.measure() == before


def test_a_failed_unit_leaves_the_counts_of_the_others_in_its_commit(outbox: Outbox) -> None:
    if "sqlite" not in type(outbox._database).__module__:
        pytest.skip("on PostgreSQL such units have transactions of their own")
    outbox.store(push(1, make_job(), make_job(route="second")))
    outbox.cancel(1)
    with one_batch(outbox, event_storage.store) as call:
        wrong, right = call(lambda: outbox._database.write(count_and_fail), lambda: outbox.cancel(2))
    right.result(PATIENCE)
    with pytest.raises(ZeroDivisionError):
        wrong.result(PATIENCE)
    assert counted(outbox, REFUSED) == {}
    assert counted(outbox, JOBS_ENDED) == {
        ("first", TASK, "canceled"): 1, ("second", TASK, "canceled"): 1
    }  # fmt: skip


def test_a_commit_of_many_webhooks_writes_each_sum_once(outbox: Outbox) -> None:
    outbox.store(push("first"))
    with executed() as statements:
        with one_batch(outbox, event_storage.store) as call:
            stored = call(*(lambda n=n: outbox.store(push(n, make_job())) for n in range(12)))
        assert {each.result(PATIENCE).duplicate for each in stored} == {False}
    written = [values for statement, values in statements if "INTO counters" in statement]
    (values,) = written
    (sums,) = [each for each in (values.values() if isinstance(values, dict) else values) if "{" in str(each)]
    # The events, the jobs, and the duration of the first webhook, which was answered before.
    assert len(orjson.loads(sums)) == 4
    assert counted(outbox, EVENTS)["github", "push", "matched"] == 12


def test_a_commit_without_counts_writes_none(outbox: Outbox) -> None:
    with executed() as statements:
        claim_jobs(outbox)
        outbox.heartbeat("process", None)
    assert [statement for statement, _ in statements if "counters" in statement] == []


def test_a_webhooks_duration_is_written_with_the_next_one(outbox: Outbox, clock: Clock) -> None:
    outbox.store(push(1, received_at=NOW - 0.2))
    assert counted(outbox, WEBHOOK_SECONDS) == {}
    outbox.store(push(2, received_at=NOW + 5))
    assert counted(outbox, WEBHOOK_SECONDS) == pytest.approx({("github", "0.25"): 1, ("github", "sum"): 0.2})
    outbox.store(push(3))
    # A clock that jumps counts as 0 s.
    found = {("github", "0.25"): 1, ("github", "0.005"): 1, ("github", "sum"): 0.2}
    assert counted(outbox, WEBHOOK_SECONDS) == pytest.approx(found)


def test_the_time_of_the_last_event_of_a_source(
    outbox: Outbox, reopen: Callable[[], Outbox], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "time", SimpleNamespace(time=clock))
    outbox.store(push(1))
    clock.now += 100
    reopen().store(push(2))
    clock.now += 100
    assert counted(outbox, LAST_EVENT) == {("github",): NOW + 100}
    outbox.prune(Retention(DAY, DAY), lambda: False)
    assert counted(outbox, LAST_EVENT) == {("github",): NOW + 100}


# Each way in which a job ends


def test_actions_of_people_count(outbox: Outbox, clock: Clock) -> None:
    stored = outbox.store(push(1, make_job(), make_job(route="second"), dead_job(route="third")))
    first, second, third = (job.id for job in stored.jobs)
    outbox.cancel(first)
    send(outbox, Outcome.UNKNOWN, JobState.UNKNOWN)
    outbox.resolve(second, sent=True)
    outbox.retry(third, make_job(route="third"))
    send(outbox, Outcome.REFUSED, JobState.DEAD)
    outbox.replay(stored.event_id, [make_job()])
    assert counted(outbox, JOBS_CREATED) == {("first", TASK): 2, ("second", TASK): 1, ("third", TASK): 1}
    assert counted(outbox, JOBS_ENDED) == {
        ("first", TASK, "canceled"): 1,
        ("second", TASK, "unknown"): 1, ("second", TASK, "accepted"): 1,
        ("third", TASK, "dead"): 2,
    }  # fmt: skip
    assert counted(outbox, ACCEPTANCE_SECONDS) == {}, "a person's decision is no acceptance by TheEye"


def test_throttled_and_superseded_jobs_count_as_skipped(outbox: Outbox) -> None:
    for number in range(3):
        latest = make_job(route="latest", group="g", latest=True)
        once = make_job(route="once", once_key="k", once_within=60.0)
        outbox.store(push(number, latest, once))
    # The first of the group is not blocked by any, and is superseded as well as the second.
    states = Counter((job.route, str(job.state)) for job in outbox.jobs())
    skipped = {(route, TASK, state): n for (route, state), n in states.items() if state == "skipped"}
    assert counted(outbox, JOBS_ENDED) == skipped
    assert skipped["once", TASK, "skipped"] == 2
    assert skipped["latest", TASK, "skipped"] == 2


def test_a_whole_route_that_its_items_replace_counts_as_skipped(outbox: Outbox) -> None:
    outbox.store(push(1, dead_job("over budget", item_key="")))
    outbox.store(push(1, make_job(0, item_key="a"), make_job(1, item_key="b")))
    assert counted(outbox, JOBS_CREATED) == {("first", TASK): 3}
    assert counted(outbox, JOBS_ENDED) == {("first", TASK, "dead"): 1, ("first", TASK, "skipped"): 1}


@pytest.mark.parametrize("state", [JobState.DEAD, JobState.SKIPPED])
def test_a_claimed_job_that_is_not_sent_counts_as_it_ends(outbox: Outbox, state: JobState) -> None:
    outbox.store(push(1, make_job()))
    token, (job,) = claim_jobs(outbox, starts=False)
    outbox.release(job, token)
    assert counted(outbox, JOBS_ENDED) == {}
    token, (job,) = claim_jobs(outbox, starts=False)
    outbox.end_unsent(job, token, state, "why")
    assert counted(outbox, JOBS_ENDED) == {("first", TASK, str(state)): 1}
    assert counted(outbox, ATTEMPTS) == {}


def test_an_attempt_that_is_recorded_twice_counts_once(outbox: Outbox) -> None:
    """Its thread may record it while the process, which stops, does the same."""
    outbox.store(push(1, make_job()))
    token, (job,) = claim_jobs(outbox)
    attempt = attempt_of(outbox, job)
    accepted = AttemptResult(0.1, Outcome.ACCEPTED, 200, "", None)
    decision = Decision(JobState.ACCEPTED, None, None)
    # The first one makes the writer of such batches.
    outbox.store(push(2, make_job(route="other")))
    other_token, (other,) = claim_jobs(outbox)
    outbox.record(other, other_token, attempt_of(outbox, other), accepted, decision)
    with one_batch(outbox, attempt_storage.record) as call:
        twice = call(*[lambda: outbox.record(job, token, attempt, accepted, decision)] * 2)
    for future in twice:
        future.result(PATIENCE)
    assert counted(outbox, ATTEMPTS) == {(TASK, "accepted"): 2}
    assert counted(outbox, JOBS_ENDED)["first", TASK, "accepted"] == 1


def test_a_late_answer_ends_the_job_and_is_no_second_attempt(outbox: Outbox) -> None:
    outbox.store(push(1, make_job()))
    token, (job,) = claim_jobs(outbox)
    attempt = attempt_of(outbox, job)
    lost = AttemptResult(60.0, Outcome.UNKNOWN, None, "lost", None)
    outbox.record(job, token, attempt, lost, Decision(JobState.UNKNOWN, None, "lost"))
    accepted = AttemptResult(0.1, Outcome.ACCEPTED, 200, "", None)
    assert outbox.record(job, token, attempt, accepted, Decision(JobState.ACCEPTED, None, None))
    assert counted(outbox, ATTEMPTS) == {(TASK, "unknown"): 1}
    assert counted(outbox, JOBS_ENDED) == {("first", TASK, "unknown"): 1, ("first", TASK, "accepted"): 1}


def test_a_refused_replay_counts_as_refused(outbox: Outbox) -> None:
    once = replace(push(1, make_job()), digest=b"same", replays=Replays.REFUSE)
    outbox.store(once)
    outbox.store(replace(once, event=replace(once.event, delivery_id="2")))
    assert counted(outbox, EVENTS) == {("github", "push", "matched"): 1, ("github", "push", "refused"): 1}


# PostgreSQL: no process waits for another


def test_a_process_does_not_wait_for_the_open_transaction_of_another(
    postgresql_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Outbox(postgresql_store)) as one, closing(Outbox(postgresql_store)) as other:
        for outbox, name in ((one, "a"), (other, "b")):
            outbox.store(push(name))
        written, release = threading.Event(), threading.Event()

        @contextmanager
        def counting_and_holding(connection: Connection, writer: str) -> Iterator[None]:
            with counters.counting(connection, writer):
                yield
            if writer == writer_of(one):
                written.set()
                assert release.wait(PATIENCE)

        monkeypatch.setattr("bridge.outbox.writer.counting", counting_and_holding)
        holding = threading.Thread(target=one.store, args=(push("c"),))
        holding.start()
        assert written.wait(PATIENCE)
        try:
            other.store(push("d"))
            # Retention leaves the rows that the first process holds for the next time.
            other.prune(Retention(DAY, DAY), lambda: False)
            assert writers(postgresql_store) == {"", writer_of(one)}
        finally:
            release.set()
            holding.join(PATIENCE)
        assert counted(one, EVENTS) == {("github", "push", "unmatched"): 4}


def test_a_process_whose_rows_are_folded_meanwhile_begins_new_ones(postgresql_store: str) -> None:
    with closing(Outbox(postgresql_store)) as one, closing(Outbox(postgresql_store)) as other:
        one.store(push("a"))
        folded, release = threading.Event(), threading.Event()

        def fold_and_hold(connection: Connection) -> None:
            counters.fold(connection)
            folded.set()
            assert release.wait(PATIENCE)

        folding = threading.Thread(target=other._database.write, args=(fold_and_hold,))
        folding.start()
        assert folded.wait(PATIENCE)
        storing = threading.Thread(target=one.store, args=(push("b"),))
        storing.start()
        waiting = text(
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE NOT granted AND datname = current_database()"
        )
        with beside(postgresql_store) as connection:
            wait_until(lambda: connection.execute(waiting).scalar_one(), "the process that waits")
        release.set()
        for thread in (folding, storing):
            thread.join(PATIENCE)
        assert counted(one, EVENTS) == {("github", "push", "unmatched"): 2}
        assert writers(postgresql_store) == {"", writer_of(one)}


# The gauges


def test_jobs_by_state_and_the_age_of_the_oldest(outbox: Outbox, clock: Clock) -> None:
    nothing = dict.fromkeys([("waiting",), ("sending",), ("dead",), ("unknown",)], 0)
    assert counted(outbox, JOBS) == nothing
    assert counted(outbox, OLDEST_WAITING) == {(): 0}

    outbox.store(push(1, make_job(), dead_job(route="dead")))
    clock.now += 30
    outbox.store(push(2, make_job()))
    clock.now += 30
    assert counted(outbox, JOBS) == nothing | {("waiting",): 2, ("dead",): 1}
    assert counted(outbox, OLDEST_WAITING) == {(): 60}
    send(outbox, Outcome.ACCEPTED, JobState.ACCEPTED)
    assert counted(outbox, OLDEST_WAITING) == {(): 30}
