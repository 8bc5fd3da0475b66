"""Claim, start, record: who may send a job, and who may say what became of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, update

from bridge.core.attempt_result import AttemptResult
from bridge.core.job import Attempt, Job, JobState, Outcome
from bridge.core.retry import Decision
from bridge.core.task import Task
from bridge.outbox import claims, rates
from bridge.outbox.locks import lock
from bridge.outbox.schema import attempts
from bridge.outbox.schema import jobs as jobs_table
from bridge.outbox.store import Outbox
from tests.support.intake import beside, wait_for_waiters
from tests.support.tables import (
    NOW,
    PATIENCE,
    Clock,
    attempt_of,
    claim_jobs,
    dead_job,
    in_threads,
    items,
    make_job,
    make_task,
    make_webhook,
)

A, B, C = make_task(1), make_task(2), make_task(3)

ACCEPTED = AttemptResult(0.25, Outcome.ACCEPTED, 200, "", "theeye-1")
AGAIN = AttemptResult(0.5, Outcome.UNAVAILABLE, 503, "503 busy", None)
LOST = AttemptResult(5.0, Outcome.UNKNOWN, None, "no answer within 5 s", None)

DONE = Decision(JobState.ACCEPTED, None, None)


def store(outbox: Outbox, name: str, task: Task = A, count: int = 1) -> list[int]:
    """The ids of so many new jobs of a task."""
    stored = outbox.store(make_webhook(*items(count, task=task), delivery_id=name))
    return [job.id for job in stored.jobs]


def claim(
    outbox: Outbox,
    free: int = 10,
    busy: Mapping[str, int] | None = None,
    per_task: int = 10,
    lease: float = 60.0,
    **more: Any,
) -> tuple[str, list[Job]]:
    return claim_jobs(outbox, free, lease, busy=busy or {}, per_task=per_task, **more)


def claim_unsendable(outbox: Outbox, lease: float = 60.0) -> tuple[str, Job]:
    """Claim one of which no attempt starts."""
    token, (job,) = claim(outbox, free=1, lease=lease, starts=False)
    return token, job


def start(outbox: Outbox, lease: float = 60.0) -> tuple[str, Job, int]:
    """Claim one, whose attempt starts."""
    token, (job,) = claim(outbox, free=1, lease=lease)
    return token, job, attempt_of(outbox, job)


def claim_by_0_1(url: str, job_id: int, token: str, until: float) -> None:
    """As a process of release 0.1 does it, which starts the attempt afterwards."""
    with beside(url) as connection:
        connection.execute(
            update(jobs_table)
            .where(jobs_table.c.id == job_id, jobs_table.c.state == JobState.WAITING)
            .values(state=JobState.SENDING, claim_token=token, lease_until=until)
        )


def start_by_0_1(connection: Connection, job: Job, token: str) -> int:
    """As a process of release 0.1 starts an attempt of a job that it has claimed."""
    is_claimed = (
        jobs_table.c.id == job.id,
        jobs_table.c.claim_token == token,
        jobs_table.c.state == JobState.SENDING,
    )
    counted = update(jobs_table).where(*is_claimed).values(attempt_count=jobs_table.c.attempt_count + 1)
    number = connection.execute(counted.returning(jobs_table.c.attempt_count)).scalar_one()
    new = {"job_id": job.id, "number": number, "started_at": NOW, "task_id": job.task_id}
    attempt: int = connection.execute(insert(attempts).values(new).returning(attempts.c.id)).scalar_one()
    return attempt


def ids(jobs: list[Job]) -> list[int]:
    return [job.id for job in jobs]


class TestWhatIsClaimed:
    def test_the_oldest_first(self, outbox: Outbox, clock: Clock) -> None:
        clock.now = NOW + 2
        (third,) = store(outbox, "1")
        clock.now = NOW
        first, second = store(outbox, "2", count=2)
        clock.now = NOW + 3
        (fourth,) = store(outbox, "3", B)

        assert ids(claim(outbox)[1]) == [first, second, third, fourth]

    def test_no_more_than_are_free(self, outbox: Outbox) -> None:
        made = store(outbox, "1", count=5)
        assert ids(claim(outbox, free=2)[1]) == made[:2]
        assert ids(claim(outbox, free=2)[1]) == made[2:4]
        assert ids(claim(outbox, free=2)[1]) == made[4:]
        assert claim(outbox, free=2)[1] == []

    def test_none_before_it_is_due(self, outbox: Outbox, clock: Clock) -> None:
        clock.now = NOW + 5
        store(outbox, "1")
        clock.now = NOW + 4.99
        assert claim(outbox)[1] == []
        clock.now = NOW + 5
        assert len(claim(outbox)[1]) == 1

    def test_none_that_does_not_wait(self, outbox: Outbox) -> None:
        outbox.store(make_webhook(dead_job(), make_job(route="second")))
        token, job, attempt = start(outbox)
        outbox.record(job, token, attempt, ACCEPTED, DONE)

        assert claim(outbox)[1] == []

    def test_one_task_takes_no_more_than_its_part(self, outbox: Outbox) -> None:
        of_a = store(outbox, "1", A, count=6)
        of_b = store(outbox, "2", B, count=1)
        of_c = store(outbox, "3", C, count=6)

        claimed = ids(claim(outbox, free=6, per_task=2)[1])

        assert claimed == [*of_a[:2], *of_b, *of_c[:2]]

    def test_what_it_has_already_counts(self, outbox: Outbox) -> None:
        of_a = store(outbox, "1", A, count=6)
        of_b = store(outbox, "2", B, count=6)

        claimed = ids(claim(outbox, free=6, busy={A.id: 1, B.id: 2, C.id: 9}, per_task=2)[1])

        assert claimed == of_a[:1]
        assert ids(claim(outbox, free=6, busy={A.id: 2, B.id: 0}, per_task=2)[1]) == of_b[:2]

    def test_a_long_queue_of_one_task_hides_no_other(self, outbox: Outbox) -> None:
        store(outbox, "1", A, count=500)
        of_b = store(outbox, "2", B, count=1)

        claimed = claim(outbox, free=4, per_task=2)[1]

        assert [job.task_id for job in claimed] == [A.id, A.id, B.id]
        assert claimed[-1].id == of_b[0]

    def test_what_a_claim_gives_is_what_is_stored(self, outbox: Outbox, clock: Clock) -> None:
        store(outbox, "1", count=2)
        clock.now = NOW + 1
        token, claimed = claim(outbox, lease=35.0)

        for job in claimed:
            assert (job.state, job.claim_token, job.lease_until) == (JobState.SENDING, token, NOW + 36)
            assert outbox.job(job.id) == job

    def test_each_claim_has_a_token_of_its_own(self, outbox: Outbox) -> None:
        assert len({claim(outbox)[0] for _ in range(10)}) == 10

    def test_no_job_is_held_by_two(self, outbox: Outbox, reopen: Callable[[], Outbox]) -> None:
        """Four processes with two threads each claim what the others claim, too."""
        stores = [outbox, reopen(), reopen(), reopen()]
        made = store(outbox, "1", count=120)
        taken: Counter[int] = Counter()
        guard = threading.Lock()

        def drain(one: Outbox) -> None:
            while claimed := claim(one, free=3)[1]:
                with guard:
                    taken.update(ids(claimed))

        in_threads([partial(drain, one) for one in stores * 2])

        assert taken == Counter(made)

    def test_none_of_a_task_that_is_held(self, outbox: Outbox) -> None:
        of_a = store(outbox, "1", A, count=2)
        store(outbox, "2", B, count=2)

        assert ids(claim_jobs(outbox, 5, excluded_tasks=[B.id])[1]) == of_a

    def test_claims_at_one_moment_follow_each_other(
        self, outbox: Outbox, reopen: Callable[[], Outbox]
    ) -> None:
        """Eight connections race; each gets its whole share, the oldest of those that its turn found.

        Without the lock, those that come later wait for rows that are gone when they get them.
        """
        stores = [outbox, *(reopen() for _ in range(7))]
        for number in range(15):
            made = store(outbox, str(number), count=24)
            claims: list[list[int]] = []

            def race(one: Outbox, claims: list[list[int]] = claims) -> None:
                claims.append(ids(claim(one, free=3)[1]))

            in_threads([partial(race, one) for one in stores])
            assert sorted(claims) == [made[at : at + 3] for at in range(0, 24, 3)]


class TestStart:
    """An attempt of each claimed job starts in the commit of the claim."""

    def test_it_is_an_attempt_that_runs(self, outbox: Outbox, clock: Clock) -> None:
        store(outbox, "1")
        clock.now = NOW + 0.5
        _, job, attempt = start(outbox)

        assert outbox.attempts(job.id) == [Attempt(attempt, job.id, 1, NOW + 0.5)]
        assert outbox.job(job.id) == job

    def test_it_starts_after_the_look_at_the_jobs(
        self, outbox: Outbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An attempt that ends while a claim runs unblocks the next job of its group, which starts later."""
        monkeypatch.setattr(rates, "store_time", lambda connection, here: here)
        look = claims._due_rows

        def look_later(*arguments: Any) -> list[Any]:
            clock.now = NOW + 5
            return look(*arguments)

        monkeypatch.setattr(claims, "_due_rows", look_later)
        store(outbox, "1")
        _, job, _ = start(outbox)
        assert [one.started_at for one in outbox.attempts(job.id)] == [NOW + 5]

    def test_each_of_several_jobs_has_its_own(self, outbox: Outbox) -> None:
        """The jobs have ended a different number of attempts before."""
        made = store(outbox, "1", count=4)
        for later in (made[1:], made[2:], made[3:]):
            token, jobs = claim(outbox, can_send=lambda job, later=later: job.id in later)
            for job in jobs:
                if job.id in later:
                    attempt = attempt_of(outbox, job)
                    outbox.record(job, token, attempt, AGAIN, Decision(JobState.WAITING, NOW, "503"))
                else:
                    outbox.release(job, token)

        claimed = outbox.claim(free=10, busy={}, per_task=10, lease=60.0, can_send=lambda _: True)

        assert ids(list(claimed.jobs)) == made
        for before, job_id in enumerate(made):
            last = outbox.attempts(job_id)[-1]
            assert last == Attempt(claimed.attempts[job_id], job_id, before + 1, NOW)
        assert claimed.attempts.keys() == set(made)

    def test_attempts_are_numbered_over_the_jobs_whole_life(self, outbox: Outbox) -> None:
        (made,) = store(outbox, "1")
        for _ in range(3):
            token, job, attempt = start(outbox)
            outbox.record(job, token, attempt, AGAIN, Decision(JobState.WAITING, NOW, "503"))
        token, job, attempt = start(outbox)
        outbox.record(job, token, attempt, AGAIN, Decision(JobState.DEAD, None, "gave up"))
        outbox.retry(made, make_job("again"))
        start(outbox)

        assert [attempt.number for attempt in outbox.attempts(made)] == [1, 2, 3, 4, 5]

    def test_none_of_a_job_that_cannot_be_sent(self, outbox: Outbox) -> None:
        """Such a job is claimed, so that its sender ends it."""
        (unsendable,) = store(outbox, "1")
        (sendable,) = store(outbox, "2", B)

        claimed = outbox.claim(
            free=10, busy={}, per_task=10, lease=60.0, can_send=lambda job: job.task_id == B.id
        )

        assert ids(list(claimed.jobs)) == [unsendable, sendable]
        assert claimed.attempts.keys() == {sendable}
        assert outbox.attempts(unsendable) == []
        outbox.release(claimed.jobs[0], claimed.token)
        _, job, attempt = start(outbox)
        assert outbox.attempts(job.id) == [Attempt(attempt, unsendable, 1, NOW)]

    def test_a_claim_that_is_undone_starts_none(
        self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A defect after the attempts are written: the jobs wait as before."""
        made = store(outbox, "1", count=2)
        before = outbox.jobs()

        def fail(_: Connection) -> float | None:
            raise ZeroDivisionError

        monkeypatch.setattr(claims, "next_due", fail)
        with pytest.raises(ZeroDivisionError):
            claim(outbox)

        assert outbox.jobs() == before
        assert [outbox.attempts(job_id) for job_id in made] == [[], []]

    def test_it_starts_once_other_claims_have_ended(
        self, outbox: Outbox, url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its time would otherwise lie before attempts that started meanwhile, which no rate would count."""
        store(outbox, "1")
        came, write = threading.Event(), outbox._database.write

        def write_and_say(work: Callable[[Connection], Any]) -> Any:
            came.set()
            return write(work)

        monkeypatch.setattr(outbox._database, "write", write_and_say)
        with ThreadPoolExecutor() as pool:
            with beside(url) as other:
                if url.startswith("sqlite"):
                    other.exec_driver_sql("BEGIN IMMEDIATE")
                lock(other, ("claim",))
                starting = pool.submit(start, outbox)
                assert came.wait(PATIENCE)
                wait_for_waiters(url, 1)
                clock.now = NOW + 7
            _, job, attempt = starting.result(PATIENCE)

        assert outbox.attempts(job.id) == [Attempt(attempt, job.id, 1, NOW + 7)]
        assert outbox.job(job.id).lease_until == NOW + 67


class TestNextDue:
    """When a claim says that the dispatcher need not look again before."""

    def test_it_is_of_the_first_that_is_left(self, outbox: Outbox, clock: Clock) -> None:
        store(outbox, "1", count=2)
        clock.now = NOW + 5
        store(outbox, "2")
        clock.now = NOW

        assert self.claim(outbox, free=10).next_due == NOW + 5

    def test_also_where_a_task_has_its_part(self, outbox: Outbox) -> None:
        store(outbox, "1", count=2)
        claimed = self.claim(outbox, free=10, per_task=1)
        assert (len(claimed.jobs), claimed.next_due) == (1, NOW)

    def test_none_where_no_thread_is_left(self, outbox: Outbox) -> None:
        store(outbox, "1", count=2)
        assert self.claim(outbox, free=1).next_due is None

    def test_none_where_nothing_waits(self, outbox: Outbox) -> None:
        store(outbox, "1")
        assert [self.claim(outbox, free=2).next_due for _ in range(2)] == [None, None]

    @staticmethod
    def claim(outbox: Outbox, free: int, per_task: int = 10) -> claims.Claim:
        return outbox.claim(free=free, busy={}, per_task=per_task, lease=60.0, can_send=lambda _: True)


class TestRecord:
    def test_it_completes_the_attempt_and_moves_the_job_on(self, outbox: Outbox) -> None:
        store(outbox, "1")
        token, job, attempt = start(outbox)

        assert outbox.record(job, token, attempt, ACCEPTED, Decision(JobState.ACCEPTED, None, "onhold"))

        assert outbox.attempts(job.id) == [
            Attempt(attempt, job.id, 1, NOW, 0.25, Outcome.ACCEPTED, 200, "", "theeye-1")
        ]
        after = outbox.job(job.id)
        assert (after.state, after.reason, after.theeye_job_id) == (JobState.ACCEPTED, "onhold", "theeye-1")
        assert (after.claim_token, after.lease_until, after.due_at) == (None, None, NOW)

    def test_one_that_waits_again_is_due_when_it_is_said(self, outbox: Outbox, clock: Clock) -> None:
        store(outbox, "1")
        token, job, attempt = start(outbox)

        outbox.record(job, token, attempt, AGAIN, Decision(JobState.WAITING, NOW + 30, "503 busy"))

        after = outbox.job(job.id)
        assert (after.state, after.due_at, after.reason) == (JobState.WAITING, NOW + 30, "503 busy")
        assert (after.window_attempts, after.window_unknowns, after.retry_window_start) == (1, 0, NOW)
        assert claim(outbox)[1] == []
        clock.now = NOW + 30
        assert ids(claim(outbox)[1]) == [job.id]

    def test_tries_and_lost_answers_are_counted(self, outbox: Outbox) -> None:
        (made,) = store(outbox, "1")
        for done in (LOST, AGAIN, LOST):
            token, job, attempt = start(outbox)
            outbox.record(job, token, attempt, done, Decision(JobState.WAITING, NOW, "again"))

        job = outbox.job(made)
        assert (job.window_attempts, job.window_unknowns) == (3, 2)

    def test_an_id_of_theeyes_job_is_kept(self, outbox: Outbox) -> None:
        (made,) = store(outbox, "1")
        token, job, attempt = start(outbox)
        refused = AttemptResult(0.1, Outcome.REFUSED, 200, "will never run", "theeye-7")
        outbox.record(job, token, attempt, refused, Decision(JobState.WAITING, NOW, "again"))
        token, job, attempt = start(outbox)
        outbox.record(job, token, attempt, LOST, Decision(JobState.UNKNOWN, None, "lost"))

        assert outbox.job(made).theeye_job_id == "theeye-7"
        assert [attempt.theeye_job_id for attempt in outbox.attempts(made)] == ["theeye-7", None]

    def test_nul_is_spelled_out(self, outbox: Outbox) -> None:
        store(outbox, "1")
        token, job, attempt = start(outbox)
        done = AttemptResult(0.1, Outcome.REFUSED, 200, "a\x00b", "c\x00d")
        outbox.record(job, token, attempt, done, Decision(JobState.DEAD, None, "e\x00f"))

        (kept,) = outbox.attempts(job.id)
        assert (kept.detail, kept.theeye_job_id) == ("a\\u0000b", "c\\u0000d")
        after = outbox.job(job.id)
        assert (after.reason, after.theeye_job_id) == ("e\\u0000f", "c\\u0000d")

    def test_a_second_record_changes_nothing(self, outbox: Outbox) -> None:
        store(outbox, "1")
        token, job, attempt = start(outbox)
        assert outbox.record(job, token, attempt, ACCEPTED, DONE)
        before = outbox.job(job.id), outbox.attempts(job.id)

        assert not outbox.record(job, token, attempt, LOST, Decision(JobState.WAITING, NOW, "lost"))

        assert (outbox.job(job.id), outbox.attempts(job.id)) == before

    def test_the_record_of_a_claim_that_is_no_longer_held_changes_nothing(self, outbox: Outbox) -> None:
        """One was slow, its lease ended, another process took the job up and sends it."""
        store(outbox, "1")
        slow, job, attempt = start(outbox)
        outbox.record(job, slow, attempt, LOST, Decision(JobState.WAITING, NOW, "taken up"))
        new, again, second = start(outbox)
        before = outbox.job(job.id), outbox.attempts(job.id)

        assert not outbox.record(job, slow, attempt, ACCEPTED, DONE)
        assert (outbox.job(job.id), outbox.attempts(job.id)) == before

        assert outbox.record(again, new, second, ACCEPTED, DONE)
        assert [one.outcome for one in outbox.attempts(job.id)] == [Outcome.UNKNOWN, Outcome.ACCEPTED]


class TestBesideAStart:
    """A process ends a claim whose lease has expired, while the claim's slow owner starts the attempt.

    The owner is of release 0.1, which starts an attempt after its claim: a rolling upgrade runs both.
    """

    @pytest.mark.parametrize("let_go", ["release", "give_up"])
    def test_what_starts_meanwhile_is_not_let_go(self, outbox: Outbox, url: str, let_go: str) -> None:
        (made,) = store(outbox, "1")
        token = "of 0.1"
        claim_by_0_1(url, made, token, NOW + 60)
        job = outbox.job(made)
        let_go_of = {
            "release": partial(outbox.release, job, token),
            "give_up": partial(outbox.end_unsent, job, token, JobState.DEAD, "its time is over"),
        }
        with ThreadPoolExecutor() as pool:
            with beside(url) as owner:
                attempt = start_by_0_1(owner, job, token)
                letting_go = pool.submit(let_go_of[let_go])
                wait_for_waiters(url, 1)
            letting_go.result(PATIENCE)

        assert outbox.job(made).state is JobState.SENDING
        assert outbox.record(job, token, attempt, ACCEPTED, DONE)

    def test_one_that_has_not_started_is_let_go(self, outbox: Outbox, url: str, clock: Clock) -> None:
        (made,) = store(outbox, "1")
        claim_by_0_1(url, made, "of 0.1", NOW + 60)
        clock.now = NOW + 61
        ((job, attempt),) = outbox.abandoned_claims(everything=False)
        assert attempt is None

        outbox.release(job, "of 0.1")

        assert ids(claim(outbox)[1]) == [made]


class TestLateAnswer:
    """Another process recorded the attempt as unknown; then the answer arrives at the one that sent it."""

    @pytest.fixture
    def late(self, outbox: Outbox) -> tuple[str, Job, int]:
        store(outbox, "1")
        return start(outbox)

    def take_up(self, outbox: Outbox, late: tuple[str, Job, int], state: JobState) -> None:
        due_at = NOW if state is JobState.WAITING else None
        assert outbox.record(*late_args(late), LOST, Decision(state, due_at, "taken up"))

    @pytest.mark.parametrize("state", [JobState.UNKNOWN, JobState.WAITING])
    @pytest.mark.parametrize(
        ("done", "next_", "unknowns"),
        [
            (ACCEPTED, DONE, 0),
            (
                AttemptResult(1.0, Outcome.REFUSED, 400, "no", None),
                Decision(JobState.DEAD, None, "refused"),
                0,
            ),
            (AGAIN, Decision(JobState.WAITING, NOW + 30, "503"), 0),
        ],
    )
    def test_it_settles_the_job(
        self,
        outbox: Outbox,
        late: tuple[str, Job, int],
        state: JobState,
        done: AttemptResult,
        next_: Decision,
        unknowns: int,
    ) -> None:
        self.take_up(outbox, late, state)

        assert outbox.record(*late_args(late), done, next_)

        job = outbox.job(late[1].id)
        assert (job.state, job.theeye_job_id) == (next_.state, done.theeye_job_id)
        assert (job.window_attempts, job.window_unknowns) == (1, unknowns)
        assert job.due_at == (next_.due_at or NOW)
        assert (job.ended_at is None) == (next_.state is JobState.WAITING)
        assert [attempt.outcome for attempt in outbox.attempts(job.id)] == [Outcome.UNKNOWN]

    def test_a_claim_that_has_not_started_ends(self, outbox: Outbox, late: tuple[str, Job, int]) -> None:
        self.take_up(outbox, late, JobState.WAITING)
        token, job = claim_unsendable(outbox)

        assert outbox.record(*late_args(late), ACCEPTED, DONE)

        outbox.end_unsent(job, token, JobState.DEAD, "no task")
        assert outbox.job(job.id).state is JobState.ACCEPTED

    def test_not_once_another_attempt_has_begun(self, outbox: Outbox, late: tuple[str, Job, int]) -> None:
        self.take_up(outbox, late, JobState.WAITING)
        _, job, _ = start(outbox)
        before = outbox.job(job.id)

        assert not outbox.record(*late_args(late), ACCEPTED, DONE)

        assert outbox.job(job.id) == before

    def test_not_where_it_is_unknown_itself(self, outbox: Outbox, late: tuple[str, Job, int]) -> None:
        self.take_up(outbox, late, JobState.WAITING)
        before = outbox.job(late[1].id)

        assert not outbox.record(*late_args(late), LOST, Decision(JobState.UNKNOWN, None, "lost"))

        assert outbox.job(late[1].id) == before

    def test_not_what_a_person_has_canceled(self, outbox: Outbox, late: tuple[str, Job, int]) -> None:
        self.take_up(outbox, late, JobState.WAITING)
        outbox.cancel(late[1].id)

        assert not outbox.record(*late_args(late), ACCEPTED, DONE)

        assert outbox.job(late[1].id).state is JobState.CANCELED

    @pytest.mark.parametrize(
        ("done", "next_"),
        [
            (AttemptResult(1.0, Outcome.REFUSED, 400, "no", None), Decision(JobState.DEAD, None, "refused")),
            (AGAIN, Decision(JobState.DEAD, None, "gave up")),
        ],
    )
    def test_not_what_a_person_has_asked_for_again(
        self, outbox: Outbox, clock: Clock, late: tuple[str, Job, int], done: AttemptResult, next_: Decision
    ) -> None:
        self.take_up(outbox, late, JobState.UNKNOWN)
        clock.now += 1
        outbox.resolve(late[1].id, sent=False)

        assert not outbox.record(*late_args(late), done, next_)

        assert outbox.job(late[1].id).state is JobState.WAITING

    def test_but_it_is_not_sent_again_where_theeye_has_it(
        self, outbox: Outbox, clock: Clock, late: tuple[str, Job, int]
    ) -> None:
        self.take_up(outbox, late, JobState.UNKNOWN)
        clock.now += 1
        outbox.resolve(late[1].id, sent=False)

        assert outbox.record(*late_args(late), ACCEPTED, DONE)

        assert outbox.job(late[1].id).state is JobState.ACCEPTED

    @pytest.mark.parametrize(
        ("changed", "settles"),
        [({}, True), ({"arguments": ("new",)}, False), ({"group": "new"}, False), ({"task_id": B.id}, False)],
    )
    def test_not_one_that_is_another_job_by_now(
        self, outbox: Outbox, late: tuple[str, Job, int], changed: dict[str, Any], settles: bool
    ) -> None:
        self.take_up(outbox, late, JobState.WAITING)
        token, job = claim_unsendable(outbox)
        outbox.end_unsent(job, token, JobState.DEAD, "its arguments are refused now")
        (built,) = items(1, task=A)
        outbox.retry(job.id, replace(built, **changed))

        assert outbox.record(*late_args(late), ACCEPTED, DONE) is settles

        assert outbox.job(job.id).state is (JobState.ACCEPTED if settles else JobState.WAITING)

    def test_the_next_of_its_group_may_go(self, outbox: Outbox) -> None:
        first, second = (
            outbox.store(make_webhook(make_job(name, group="g"), delivery_id=name)).jobs[0].id
            for name in ("first", "second")
        )
        late = start(outbox)
        assert late[1].id == first
        self.take_up(outbox, late, JobState.UNKNOWN)
        assert claim(outbox)[1] == []

        assert outbox.record(*late_args(late), ACCEPTED, DONE)

        assert ids(claim(outbox)[1]) == [second]


def late_args(late: tuple[str, Job, int]) -> tuple[Job, str, int]:
    token, job, attempt = late
    return job, token, attempt


class TestHandBack:
    def test_it_waits_as_before(self, outbox: Outbox) -> None:
        store(outbox, "1", count=3)
        waiting = outbox.jobs()
        token, jobs = claim(outbox, starts=False)

        for job in jobs:
            outbox.release(job, token)

        assert outbox.jobs() == waiting

    def test_or_until_when_it_is_said_and_why(self, outbox: Outbox) -> None:
        store(outbox, "1")
        token, job = claim_unsendable(outbox)

        outbox.release(job, token, NOW + 30, "no task \x00")

        after = outbox.job(job.id)
        assert (after.state, after.due_at, after.reason) == (JobState.WAITING, NOW + 30, "no task \\u0000")
        assert (after.claim_token, after.lease_until, after.window_attempts, after.retry_window_start) == (
            None,
            None,
            0,
            NOW,
        )

    def test_not_without_the_claim(self, outbox: Outbox) -> None:
        store(outbox, "1")
        _, job = claim_unsendable(outbox)

        outbox.release(job, "another token")

        assert outbox.job(job.id) == job

    def test_not_once_it_is_started(self, outbox: Outbox) -> None:
        store(outbox, "1")
        token, job, attempt = start(outbox)

        outbox.release(job, token)
        outbox.end_unsent(job, token, JobState.DEAD, "no task")

        assert outbox.job(job.id) == job
        assert claim(outbox)[1] == []
        assert outbox.record(job, token, attempt, ACCEPTED, DONE)

    def test_what_is_given_up_is_dead(self, outbox: Outbox) -> None:
        store(outbox, "1")
        token, job = claim_unsendable(outbox)
        outbox.end_unsent(job, "another token", JobState.DEAD, "no")
        assert outbox.job(job.id) == job

        outbox.end_unsent(job, token, JobState.DEAD, "no task \x00")

        after = outbox.job(job.id)
        assert (after.state, after.reason, after.claim_token) == (JobState.DEAD, "no task \\u0000", None)
        assert outbox.attempts(job.id) == []


class TestLeftBehind:
    def test_a_claim_whose_lease_has_ended(self, outbox: Outbox, clock: Clock) -> None:
        store(outbox, "1")
        _, job = claim_unsendable(outbox, lease=35)
        clock.now = NOW + 35
        assert outbox.abandoned_claims(everything=False) == []
        clock.now = NOW + 35.01
        assert outbox.abandoned_claims(everything=False) == [(job, None)]

    def test_or_every_claim(self, outbox: Outbox) -> None:
        store(outbox, "1", count=2)
        _, first = claim_unsendable(outbox, lease=35)
        _, second = claim_unsendable(outbox, lease=3500)

        assert outbox.abandoned_claims(everything=False) == []
        assert outbox.abandoned_claims(everything=True) == [(first, None), (second, None)]

    def test_with_the_attempt_that_never_ended(self, outbox: Outbox) -> None:
        store(outbox, "1", count=2)
        token, job, attempt = start(outbox)
        outbox.record(job, token, attempt, AGAIN, Decision(JobState.WAITING, NOW - 1, "again"))
        _, job, attempt = start(outbox)
        assert job.window_attempts == 1
        _, unstarted = claim_unsendable(outbox)

        assert outbox.abandoned_claims(everything=True) == [
            (job, Attempt(attempt, job.id, 2, NOW)),
            (unstarted, None),
        ]

    def test_nothing_that_is_not_being_sent(self, outbox: Outbox, clock: Clock) -> None:
        outbox.store(make_webhook(dead_job(), make_job(route="waits"), make_job(route="is done")))
        token, job, attempt = start(outbox)
        outbox.record(job, token, attempt, ACCEPTED, DONE)
        clock.now += 1e6

        assert outbox.abandoned_claims(everything=True) == []
        assert outbox.abandoned_claims(everything=False) == []

    def test_not_with_the_attempt_of_a_claim_made_while_it_is_read(
        self, outbox: Outbox, reopen: Callable[[], Outbox], clock: Clock
    ) -> None:
        """Another process hands it back and claims it between two statements of this one."""
        store(outbox, "1")
        token, job = claim_unsendable(outbox, lease=35)
        clock.now = NOW + 36
        other = reopen()
        started: list[tuple[str, Job, int]] = []

        def meanwhile(*_: object) -> None:
            if not started:
                other.release(job, token)
                started.append(start(other))

        def read(connection: Connection) -> list[tuple[Job, Attempt | None]]:
            event.listen(connection, "after_cursor_execute", meanwhile)
            return claims.abandoned_claims(connection, clock(), everything=False)

        # As it was before, or as it is since: SQLite reads when the first row is asked for.
        assert outbox._database.read(read) in ([(job, None)], [])
        ((newer, _, attempt),) = started
        assert newer != token
        assert [one.id for one in outbox.attempts(job.id)] == [attempt]

    def test_two_processes_that_take_up_the_same_do_it_once(
        self, outbox: Outbox, reopen: Callable[[], Outbox]
    ) -> None:
        store(outbox, "1")
        start(outbox)
        other = reopen()
        (mine,), (theirs,) = outbox.abandoned_claims(everything=True), other.abandoned_claims(everything=True)
        decision = Decision(JobState.WAITING, NOW, "taken up")

        held = []
        for one, (job, attempt) in ((outbox, mine), (other, theirs)):
            assert job.claim_token is not None
            assert attempt is not None
            held.append(one.record(job, job.claim_token, attempt.id, LOST, decision))

        assert held == [True, False]
        job = outbox.job(mine[0].id)
        assert (job.window_attempts, job.window_unknowns) == (1, 1)


class TestBringForward:
    """Jobs that were stored by a clock that was an hour ahead."""

    LONGEST, LEASE = 86_400.0, 300.0

    def test_they_are_due(self, outbox: Outbox, clock: Clock) -> None:
        clock.now += 3600
        (job,) = store(outbox, "1")
        clock.now -= 3600
        assert claim(outbox)[1] == []

        assert outbox.correct_future_times(self.LONGEST, self.LEASE) == 1

        assert ids(claim(outbox)[1]) == [job]

    def test_others_wait_as_they_did(self, outbox: Outbox) -> None:
        store(outbox, "1")
        token, job, attempt = start(outbox)
        outbox.record(job, token, attempt, AGAIN, Decision(JobState.WAITING, NOW + 3600, "Retry-After"))

        assert outbox.correct_future_times(self.LONGEST, self.LEASE) == 0

        assert outbox.job(job.id).due_at == NOW + 3600
