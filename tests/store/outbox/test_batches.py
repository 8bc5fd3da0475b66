"""Units of work of one kind share their statements: each comes to what it would come to alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest
from sqlalchemy.exc import DataError

from bridge.core.attempt_result import AttemptResult
from bridge.core.job import JobState, Outcome
from bridge.core.retry import Decision
from bridge.outbox import attempt_storage, claims, event_storage, lookup
from bridge.outbox.locks import lock
from bridge.outbox.postgresql import PostgreSQL
from bridge.outbox.session import connect
from bridge.outbox.store import Outbox
from bridge.outbox.webhook import StoredWebhook, Webhook
from bridge.outbox.writer import Writer
from bridge.sources.base.source_type import Replays
from tests.support.statements import executed
from tests.support.tables import NOW, PATIENCE, make_job, make_webhook, wait_until

#: No database can store it as an item's index or an HTTP status.
HUGE = 2**70
ACCEPTED = Decision(JobState.ACCEPTED, None, None)


@contextmanager
def one_batch(outbox: Outbox, batch: Any) -> Iterator[Callable[..., list[Future[Any]]]]:
    """Yields a function that calls others at once, so that what they write is one batch after the block."""
    database: Any = outbox._database
    writer = database._writers[batch] if isinstance(database, PostgreSQL) else database._writer
    held, release = threading.Event(), threading.Event()
    pool = ThreadPoolExecutor(20)

    def hold(_: object) -> None:
        held.set()
        assert release.wait(PATIENCE)

    def call(*works: Callable[[], Any]) -> list[Future[Any]]:
        futures: list[Future[Any]] = []
        for work in works:
            futures.append(pool.submit(work))
            wait_until(lambda: queued(writer) == len(futures), "the unit")
        return futures

    holding = pool.submit(writer.write, hold)
    assert held.wait(PATIENCE)
    try:
        yield call
    finally:
        release.set()
        holding.result(PATIENCE)
        pool.shutdown(wait=False)


def queued(writer: Writer) -> int:
    return writer._units.qsize()


def store_in_one_batch(outbox: Outbox, *webhooks: Webhook) -> list[StoredWebhook]:
    outbox.store(make_webhook(delivery_id="first", digest=b"first"))
    with one_batch(outbox, event_storage.store) as call:
        futures = call(*(lambda each=each: outbox.store(each) for each in webhooks))
    return [future.result(PATIENCE) for future in futures]


class TestWebhooks:
    def test_new_ones_are_stored_with_their_jobs(self, outbox: Outbox) -> None:
        webhooks = [
            make_webhook(make_job(n), make_job(n, route="second"), delivery_id=str(n)) for n in range(9)
        ]
        stored = store_in_one_batch(outbox, *webhooks)
        for number, each in enumerate(stored):
            assert not each.duplicate
            assert outbox.event(each.event_id).delivery_id == str(number)
            jobs = [outbox.job(job.id) for job in each.jobs]
            assert [(job.event_id, job.route, job.arguments) for job in jobs] == [
                (each.event_id, "first", (number,)),
                (each.event_id, "second", (number,)),
            ]

    def test_the_second_of_one_delivery_is_a_duplicate(self, outbox: Outbox) -> None:
        same = [make_webhook(make_job(), delivery_id="a") for _ in range(3)]
        stored = store_in_one_batch(outbox, *same)
        assert [each.duplicate for each in stored] == [False, True, True]
        assert len({each.event_id for each in stored}) == 1
        assert len(outbox.jobs()) == 1

    def test_another_body_with_the_same_delivery_id_creates_no_job(self, outbox: Outbox) -> None:
        first, second = (make_webhook(make_job(), delivery_id="a", digest=digest) for digest in (b"1", b"2"))
        stored = store_in_one_batch(outbox, first, second)
        assert [each.is_refused for each in stored] == [False, True]
        assert len(outbox.jobs()) == 1

    @pytest.mark.parametrize(
        ("replays", "jobs"), [(Replays.NOTE, 2), (Replays.REFUSE, 1)], ids=["note", "refuse"]
    )
    def test_a_known_body_is_noted_or_refused(self, outbox: Outbox, replays: Replays, jobs: int) -> None:
        twice = [make_webhook(make_job(), delivery_id=name, replays=replays) for name in "ab"]
        first, second = store_in_one_batch(outbox, *twice)
        assert first.note is None
        assert f"the same body as event {first.event_id}" in str(second.note)
        assert len(outbox.jobs()) == jobs

    def test_a_body_that_was_stored_before_is_noted(self, outbox: Outbox) -> None:
        before = outbox.store(make_webhook(delivery_id="0", digest=b"known", replays=Replays.NOTE))
        new = [make_webhook(make_job(), delivery_id=n, digest=b"known", replays=Replays.NOTE) for n in "12"]
        stored = store_in_one_batch(outbox, *new)
        assert [each.note for each in stored] == [
            f"the same body as event {before.event_id}, delivery id 0"
        ] * 2

    def test_jobs_of_one_group_wait_for_each_other(self, outbox: Outbox) -> None:
        in_group = [make_webhook(make_job(group="g"), delivery_id=str(number)) for number in range(3)]
        stored = store_in_one_batch(outbox, *in_group)
        jobs = sorted((outbox.job(each.jobs[0].id) for each in stored), key=lambda job: job.position or 0)
        assert [(job.position, job.blocked) for job in jobs] == [(1, False), (2, True), (3, True)]

    def test_one_job_of_a_key_runs(self, outbox: Outbox) -> None:
        keyed = make_job(once_key="k", once_within=60.0)
        stored = store_in_one_batch(outbox, *(make_webhook(keyed, delivery_id=name) for name in "abc"))
        assert sorted(each.jobs[0].state for each in stored) == ["skipped", "skipped", "waiting"]

    def test_one_fingerprint_is_one_event(self, outbox: Outbox) -> None:
        same = [make_webhook(make_job(), delivery_id=f"f@{name}", fingerprint="f") for name in "ab"]
        stored = store_in_one_batch(outbox, *same)
        assert sorted(each.duplicate for each in stored) == [False, True]
        assert len(outbox.jobs()) == 1

    def test_all_batches_insert_in_one_order(self, outbox: Outbox) -> None:
        """Two processes with the same deliveries would otherwise wait for each other."""
        names = ["c", "a", "d", "b"]
        with executed() as statements:
            store_in_one_batch(outbox, *(make_webhook(delivery_id=name) for name in names))
        inserted = [
            value
            for text, values in statements
            if text.startswith("INSERT INTO events")
            for value in (values["delivery_id"] if isinstance(values, dict) else [values[3]])
        ]
        assert inserted == ["first", "a", "b", "c", "d"]

    def test_a_faulty_one_fails_alone(self, outbox: Outbox, caplog: pytest.LogCaptureFixture) -> None:
        good = [make_webhook(make_job(name), delivery_id=name) for name in "abcd"]
        faulty = make_webhook(make_job(item_index=HUGE), delivery_id="faulty")
        outbox.store(make_webhook(delivery_id="first", digest=b"first"))
        with one_batch(outbox, event_storage.store) as call:
            works = [lambda each=each: outbox.store(each) for each in (*good[:2], faulty, *good[2:])]
            one, two, failing, three, four = call(*works)
        with pytest.raises((OverflowError, DataError)):
            failing.result(PATIENCE)
        assert "5 units of work run one by one, after: " in caplog.text
        for future in (one, two, three, four):
            assert not future.result(PATIENCE).duplicate
        assert sorted(each.delivery_id for each in outbox.events()) == ["a", "b", "c", "d", "first"]
        assert len(outbox.jobs()) == 4

    def test_one_that_waits_for_a_lock_does_not_hold_up_the_others(self, postgresql_url: str) -> None:
        engine = connect(postgresql_url)
        locked, free = (
            make_webhook(make_job(name), delivery_id=name, digest=name.encode(), replays=Replays.NOTE)
            for name in ("locked", "free")
        )
        with closing(Outbox(postgresql_url)) as outbox:
            outbox.store(make_webhook(delivery_id="first", digest=b"first"))
            with engine.begin() as other:
                lock(other, *lookup.lock_names(locked))
                with one_batch(outbox, event_storage.store) as call:
                    waiting, stored = call(*(lambda each=each: outbox.store(each) for each in (locked, free)))
                assert not stored.result(PATIENCE).duplicate
                assert not waiting.done()
            assert not waiting.result(PATIENCE).duplicate
        engine.dispose()


class TestAttempts:
    @pytest.fixture
    def claimed(self, outbox: Outbox) -> claims.Claim:
        for number in range(4):
            outbox.store(make_webhook(make_job(number), delivery_id=str(number)))
        return outbox.claim(free=4, busy={}, per_task=4, lease=60.0, can_send=lambda _: True)

    def test_results_of_a_batch(self, outbox: Outbox, claimed: claims.Claim) -> None:
        attempts = [claimed.attempts[job.id] for job in claimed.jobs]
        results = [
            (AttemptResult(0.1, Outcome.ACCEPTED, 200, "ok", "theeye-1"), ACCEPTED),
            (AttemptResult(0.2, Outcome.REFUSED, 400, "no", None), Decision(JobState.DEAD, None, "refused")),
            (
                AttemptResult(0.3, Outcome.UNAVAILABLE, 503, "busy", None),
                Decision(JobState.WAITING, NOW + 5, "503"),
            ),
        ]
        ended = [
            attempt_storage.Ended(job, claimed.token, attempt, result, decision, NOW)
            for job, attempt, (result, decision) in zip(claimed.jobs, attempts, results, strict=False)
        ]
        stale = attempt_storage.Ended(claimed.jobs[3], "another token", attempts[3], *results[0], NOW)
        done = outbox._database.write(lambda connection: attempt_storage.record(connection, [*ended, stale]))
        assert done == [True, True, True, True]
        jobs = [outbox.job(job.id) for job in claimed.jobs]
        assert [(job.state, job.reason, job.theeye_job_id, job.ended_at) for job in jobs[:3]] == [
            (JobState.ACCEPTED, None, "theeye-1", NOW),
            (JobState.DEAD, "refused", None, NOW),
            (JobState.WAITING, "503", None, None),
        ]
        assert jobs[2].due_at == NOW + 5
        assert jobs[3].reason == attempt_storage.LATE_ANSWER
        for job, (result, _) in zip(claimed.jobs, results, strict=False):
            (attempt,) = outbox.attempts(job.id)
            assert (attempt.seconds, attempt.outcome, attempt.status, attempt.detail) == (
                result.seconds,
                result.outcome,
                result.status,
                result.detail,
            )

    @pytest.mark.parametrize("order", [1, -1], ids=["answer first", "unknown first"])
    def test_an_answer_beside_the_end_of_its_attempt_decides(
        self, outbox: Outbox, claimed: claims.Claim, order: int
    ) -> None:
        """At the deadline of a stop, what still runs is recorded as unknown."""
        job = claimed.jobs[0]
        again = Decision(JobState.WAITING, NOW + 5, "the bridge stopped")
        ends = [
            attempt_storage.Ended(job, claimed.token, claimed.attempts[job.id], result, decision, NOW)
            for result, decision in (
                (AttemptResult(0.1, Outcome.ACCEPTED, 200, "", "theeye-1"), ACCEPTED),
                (AttemptResult(0.1, Outcome.UNKNOWN, None, "the bridge stopped", None), again),
            )
        ]
        done = outbox._database.write(lambda connection: attempt_storage.record(connection, ends[::order]))

        assert done[::order] == [True, False]
        (attempt,) = outbox.attempts(job.id)
        assert (outbox.job(job.id).state, attempt.outcome) == (JobState.ACCEPTED, Outcome.ACCEPTED)

    def test_a_faulty_result_fails_alone(self, outbox: Outbox, claimed: claims.Claim) -> None:
        attempts = [claimed.attempts[job.id] for job in claimed.jobs]
        statuses = [200, HUGE, 200, 200]

        def record(place: int) -> bool:
            result = AttemptResult(0.1, Outcome.ACCEPTED, statuses[place], "", None)
            return outbox.record(claimed.jobs[place], claimed.token, attempts[place], result, ACCEPTED)

        record(3)
        with one_batch(outbox, attempt_storage.record) as call:
            first, failing, third = call(*(lambda place=place: record(place) for place in range(3)))
        with pytest.raises((OverflowError, DataError)):
            failing.result(PATIENCE)
        assert first.result(PATIENCE)
        assert third.result(PATIENCE)
        states = [outbox.job(job.id).state for job in claimed.jobs]
        assert states == [JobState.ACCEPTED, JobState.SENDING, JobState.ACCEPTED, JobState.ACCEPTED]
