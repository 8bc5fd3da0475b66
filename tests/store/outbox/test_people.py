"""What a person says of jobs and events: retry, resolve, cancel, replay; and what it does to their groups."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Connection, text

from bridge.core.attempt_result import AttemptResult
from bridge.core.errors import NoSuchEvent, NoSuchJob, WrongState
from bridge.core.job import Job, JobState, NewJob, Outcome
from bridge.core.retry import Decision
from bridge.outbox.groups import lock_name
from bridge.outbox.locks import lock_all
from bridge.outbox.operator_actions import CANCELABLE
from bridge.outbox.store import Outbox
from bridge.outbox.webhook import Webhook
from tests.support.intake import beside, wait_for_waiters
from tests.support.sending import ENDS, A, B, Reopen, end, one, send, store
from tests.support.statements import run_alone
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
    make_webhook,
    next_due,
)

Work = Callable[[], Any]


def bring(outbox: Outbox, job_id: int, state: JobState) -> None:
    """Bring the one job that waits to `state`."""
    if state is JobState.CANCELED:
        outbox.cancel(job_id)
    elif state in (JobState.SENDING, JobState.SKIPPED):
        token, (job,) = claim_jobs(outbox, starts=state is JobState.SENDING)
        if state is JobState.SKIPPED:
            outbox.end_unsent(job, token, state, "superseded by job 9")
    elif state is not JobState.WAITING:
        assert send(outbox, state) == [job_id]


def listen(outbox: Outbox) -> list[int]:
    """Grows by one whenever delivery is woken."""
    woken: list[int] = []
    outbox.listen(lambda: woken.append(1))
    return woken


def states(outbox: Outbox, job_ids: list[int]) -> list[JobState]:
    return [outbox.job(job_id).state for job_id in job_ids]


#: What a person may do to a job, in which states, and what they are called.
DEEDS: dict[str, tuple[Callable[[Outbox, int], object], tuple[JobState, ...], str]] = {
    "retry": (lambda outbox, job_id: outbox.retry(job_id, one()), (JobState.DEAD,), "dead"),
    "resolve": (lambda outbox, job_id: outbox.resolve(job_id, sent=True), (JobState.UNKNOWN,), "unknown"),
    "cancel": (
        lambda outbox, job_id: outbox.cancel(job_id), CANCELABLE, "waiting or dead or unknown",
    ),
}  # fmt: skip


class TestStates:
    """Each takes a job in some states and says of the others what it is, and what it had to be."""

    @pytest.mark.parametrize("group", [None, "g"])
    @pytest.mark.parametrize("state", JobState)
    @pytest.mark.parametrize("what", DEEDS)
    @pytest.mark.slow_unless(url="sqlite")
    def test_taken_or_left_as_it_is(
        self, outbox: Outbox, what: str, state: JobState, group: str | None
    ) -> None:
        (made,) = store(outbox, one(group))
        bring(outbox, made, state)
        before = outbox.job(made)
        do, taken, expected = DEEDS[what]

        if state in taken:
            do(outbox, made)
            assert outbox.job(made).state is not state
            return
        with pytest.raises(WrongState, match=f"^job {made} is {state}, expected {expected}$"):
            do(outbox, made)
        assert outbox.job(made) == before

    @pytest.mark.parametrize("what", DEEDS)
    def test_what_is_not_there_is_said(self, outbox: Outbox, what: str) -> None:
        with pytest.raises(NoSuchJob, match=r"^there is no job 7$"):
            DEEDS[what][0](outbox, 7)


class TestCancel:
    @pytest.mark.parametrize("state", CANCELABLE)
    def test_it_is_never_sent(self, outbox: Outbox, clock: Clock, state: JobState) -> None:
        (made,) = store(outbox, one(None))
        bring(outbox, made, state)
        attempts = outbox.attempts(made)
        clock.now += 100
        outbox.cancel(made)

        job = outbox.job(made)
        assert (job.state, job.reason, job.ended_at) == (
            JobState.CANCELED, "canceled by a person", NOW + 100,
        )  # fmt: skip
        clock.now += 1e6
        assert (send(outbox), next_due(outbox)) == ([], None)
        assert outbox.attempts(made) == attempts

    def test_its_webhook_that_comes_again_leaves_it_alone(self, outbox: Outbox) -> None:
        webhook = make_webhook(one())
        (made,) = outbox.store(webhook).jobs
        outbox.cancel(made.id)

        assert outbox.store(webhook).jobs == ()
        assert outbox.job(made.id).state is JobState.CANCELED


@pytest.mark.slow_unless(url="sqlite")
class TestTheGroupOfACanceledJob:
    """The next may be sent where the canceled one was what it waited for; else nobody is woken."""

    @pytest.mark.parametrize("state", [JobState.WAITING, JobState.UNKNOWN])
    def test_the_next_goes_in_place_of_the_head(self, outbox: Outbox, state: JobState) -> None:
        """One that waits for its time to be tried again is a head, too."""
        head, second, third = store(outbox, one(), one(), one())
        send(outbox, state)
        assert next_due(outbox) == (NOW + 5 if state is JobState.WAITING else None)
        woken = listen(outbox)
        outbox.cancel(head)

        assert woken == [1]
        assert next_due(outbox) == NOW
        assert [send(outbox), send(outbox)] == [[second], [third]]

    def test_also_where_it_was_never_tried(self, outbox: Outbox) -> None:
        head, second = store(outbox, one(), one())
        woken = listen(outbox)
        outbox.cancel(head)

        assert (woken, send(outbox)) == ([1], [second])

    def test_one_in_the_middle_changes_nothing_for_the_others(self, outbox: Outbox) -> None:
        head, middle, last = store(outbox, one(), one(), one())
        woken = listen(outbox)
        outbox.cancel(middle)

        assert woken == []
        assert [send(outbox), send(outbox), send(outbox)] == [[head], [last], []]

    def test_nor_does_one_behind_what_is_being_sent(self, outbox: Outbox) -> None:
        _, second, third = store(outbox, one(), one(), one())
        token, (head,) = claim_jobs(outbox)
        woken = listen(outbox)
        outbox.cancel(second)

        assert (woken, send(outbox)) == ([], [])
        end(outbox, token, head, JobState.ACCEPTED)
        assert send(outbox) == [third]

    def test_nor_a_dead_one(self, outbox: Outbox) -> None:
        dead, second, third = store(outbox, one(), one(), one())
        send(outbox, JobState.DEAD)
        woken = listen(outbox)
        outbox.cancel(dead)

        assert woken == []
        assert [send(outbox), send(outbox)] == [[second], [third]]

    @pytest.mark.parametrize("group", [None, "g"])
    def test_nor_the_last_one(self, outbox: Outbox, group: str | None) -> None:
        made, _, _ = store(outbox, one(group), one("h"), one("g", task=B))
        woken = listen(outbox)
        outbox.cancel(made)

        assert woken == []

    def test_one_that_joins_later_finds_no_head(self, outbox: Outbox) -> None:
        (made,) = store(outbox, one())
        outbox.cancel(made)
        (later,) = store(outbox, one())

        assert send(outbox) == [later]


class TestResolve:
    def test_as_sent_it_lets_the_next_go(self, outbox: Outbox, clock: Clock) -> None:
        head, second = store(outbox, one(), one())
        send(outbox, JobState.UNKNOWN)
        woken = listen(outbox)
        clock.now += 100
        outbox.resolve(head, sent=True)

        job = outbox.job(head)
        assert (job.state, job.reason, job.ended_at) == (
            JobState.ACCEPTED, "resolved by a person: TheEye has it", NOW,
        )  # fmt: skip
        assert (woken, send(outbox)) == ([1], [second])

    def test_where_nothing_waited_for_it_nobody_is_woken(self, outbox: Outbox) -> None:
        made, _ = store(outbox, one(), one("h"))
        send(outbox, JobState.UNKNOWN)
        woken = listen(outbox)
        outbox.resolve(made, sent=True)

        assert woken == []

    def test_again_keeps_its_place(self, outbox: Outbox) -> None:
        head, second, third = store(outbox, one(), one(), one())
        send(outbox, JobState.UNKNOWN)
        place = outbox.job(head).position
        woken = listen(outbox)
        outbox.resolve(head, sent=False)

        job = outbox.job(head)
        assert (job.position, job.blocked, job.ended_at) == (place, False, None)
        assert woken == [1]
        assert [send(outbox), send(outbox), send(outbox)] == [[head], [second], [third]]

    def test_again_it_is_skipped_where_a_newer_one_replaces_it(self, outbox: Outbox, clock: Clock) -> None:
        (old,) = store(outbox, one(latest=True))
        send(outbox, JobState.UNKNOWN)
        (newer,) = store(outbox, one(latest=True))
        woken = listen(outbox)
        clock.now += 100

        assert outbox.resolve(old, sent=False) is JobState.SKIPPED

        job = outbox.job(old)
        assert (job.state, job.reason, job.ended_at) == (
            JobState.SKIPPED, f"superseded by job {newer}", NOW + 100,
        )  # fmt: skip
        assert woken == [1]
        assert [send(outbox), send(outbox)] == [[newer], []]

    def test_again_not_where_the_newer_one_is_of_a_route_without_latest(self, outbox: Outbox) -> None:
        (old,) = store(outbox, one(latest=True))
        send(outbox, JobState.UNKNOWN)
        (newer,) = store(outbox, one())

        assert outbox.resolve(old, sent=False) is JobState.WAITING
        assert [send(outbox), send(outbox)] == [[old], [newer]]

    def test_again_it_can_become_unknown_once_more(self, outbox: Outbox) -> None:
        head, second = store(outbox, one(), one())
        for _ in range(2):
            assert send(outbox, JobState.UNKNOWN) == [head]
            assert send(outbox) == []
            outbox.resolve(head, sent=False)

        outbox.cancel(head)
        assert send(outbox) == [second]


def replay_numbers(url: str) -> list[int]:
    """Of all jobs, in their order."""
    with beside(url) as connection:
        return list(connection.execute(text("SELECT replay FROM jobs ORDER BY id")).scalars())


@pytest.mark.slow_unless(url="sqlite")
class TestReplay:
    def test_jobs_come_beside_the_earlier_ones(self, outbox: Outbox, clock: Clock, url: str) -> None:
        stored = outbox.store(make_webhook(*items(2)))
        before = [outbox.job(job.id) for job in stored.jobs]
        clock.now += 100
        first = outbox.replay(stored.event_id, items(2))
        second = outbox.replay(stored.event_id, items(3))

        assert replay_numbers(url) == [0, 0, 1, 1, 2, 2, 2]
        assert [job.state for job in (*first, *second)] == [JobState.WAITING] * 5
        made = [outbox.job(job.id) for job in (*first, *second)]
        assert [(job.event_id, job.arguments, job.created_at) for job in made] == [
            (stored.event_id, (number,), NOW + 100) for number in (0, 1, 0, 1, 2)
        ]
        assert [outbox.job(job.id) for job in stored.jobs] == before

    def test_of_an_event_that_made_none(self, outbox: Outbox, url: str) -> None:
        stored = outbox.store(make_webhook())

        assert len(outbox.replay(stored.event_id, [make_job()])) == 1
        assert replay_numbers(url) == [1]

    def test_that_makes_none(self, outbox: Outbox, url: str) -> None:
        stored = outbox.store(make_webhook(make_job()))
        woken = listen(outbox)

        assert outbox.replay(stored.event_id, []) == ()
        assert woken == []
        outbox.replay(stored.event_id, [make_job()])
        assert replay_numbers(url) == [0, 1]

    @pytest.mark.parametrize("new", [[], [make_job()], [one()]])
    def test_of_an_event_that_is_not_there(self, outbox: Outbox, new: list[NewJob]) -> None:
        with pytest.raises(NoSuchEvent, match=r"^there is no event 7$"):
            outbox.replay(7, new)
        assert outbox.jobs() == []

    @pytest.mark.parametrize(("job", "wakes"), [(make_job(), [1]), (dead_job(), [])])
    def test_delivery_is_woken_where_something_may_be_sent(
        self, outbox: Outbox, job: NewJob, wakes: list[int]
    ) -> None:
        stored = outbox.store(make_webhook())
        woken = listen(outbox)
        outbox.replay(stored.event_id, [job])

        assert woken == wakes

    def test_a_key_that_is_held_keeps_none_from_running(self, outbox: Outbox) -> None:
        new = make_job(once_key="k", once_within=600.0)
        stored = outbox.store(make_webhook(new))
        assert store(outbox, new) != []
        assert outbox.counts() == {JobState.WAITING: 1, JobState.SKIPPED: 1}

        (again,) = outbox.replay(stored.event_id, [new])
        assert again.state is JobState.WAITING

    def test_they_join_the_end_of_their_group(self, outbox: Outbox) -> None:
        stored = outbox.store(make_webhook(one()))
        (second,) = store(outbox, one())
        (again,) = outbox.replay(stored.event_id, [one()])

        assert [send(outbox), send(outbox), send(outbox)] == [[stored.jobs[0].id], [second], [again.id]]

    def test_they_replace_nothing_that_waits_there(self, outbox: Outbox) -> None:
        stored = outbox.store(make_webhook(one(latest=True)))
        (again,) = outbox.replay(stored.event_id, [one(latest=True)])

        assert send(outbox) == [stored.jobs[0].id]
        assert send(outbox) == [again.id]

    def test_the_webhook_that_comes_again_leaves_them_alone(self, outbox: Outbox) -> None:
        webhook = make_webhook(make_job())
        stored = outbox.store(webhook)
        (again,) = outbox.replay(stored.event_id, [dead_job()])

        assert outbox.store(webhook).jobs == ()
        assert outbox.job(again.id).state is JobState.DEAD

    def test_one_that_died_is_retried_by_itself(self, outbox: Outbox) -> None:
        stored = outbox.store(make_webhook(dead_job()))
        (again,) = outbox.replay(stored.event_id, [dead_job()])
        outbox.retry(again.id, make_job())

        assert states(outbox, [stored.jobs[0].id, again.id]) == [JobState.DEAD, JobState.WAITING]

    def test_one_that_died_replaces_nothing_then_either(self, outbox: Outbox) -> None:
        stored = outbox.store(make_webhook(dead_job()))
        (newer,) = store(outbox, one(latest=True))
        (again,) = outbox.replay(stored.event_id, [dead_job(group="g", latest=True)])

        assert outbox.retry(again.id, one(latest=True)) is JobState.WAITING
        assert [send(outbox), send(outbox)] == [[newer], [again.id]]

    def test_one_that_died_goes_after_newer_ones_then_too(self, outbox: Outbox) -> None:
        stored = outbox.store(make_webhook(dead_job()))
        (again,) = outbox.replay(stored.event_id, [dead_job(group="g", latest=True)])
        (newer,) = store(outbox, one(latest=True))

        assert outbox.retry(again.id, one(latest=True)) is JobState.WAITING
        assert [send(outbox), send(outbox)] == [[newer], [again.id]]


def _canceled(outbox: Outbox) -> Work:
    (head,) = store(outbox, one())
    return partial(outbox.cancel, head)


def _resolved(outbox: Outbox) -> Work:
    (head,) = store(outbox, one())
    send(outbox, JobState.UNKNOWN)
    return partial(outbox.resolve, head, sent=True)


def _recorded(outbox: Outbox) -> Work:
    store(outbox, one())
    token, (head,) = claim_jobs(outbox)
    attempt = attempt_of(outbox, head)
    done = AttemptResult(0.1, Outcome.ACCEPTED, None, "", None)
    return partial(outbox.record, head, token, attempt, done, Decision(JobState.ACCEPTED, None, None))


def _given_up(outbox: Outbox) -> Work:
    store(outbox, one())
    token, (head,) = claim_jobs(outbox, starts=False)
    return partial(outbox.end_unsent, head, token, JobState.DEAD, "no task")


#: How the head of a group comes to its end: each makes one, and gives what ends it.
HEADS: dict[str, Callable[[Outbox], Work]] = {
    "canceled": _canceled, "resolved": _resolved, "recorded": _recorded, "given up": _given_up,
}  # fmt: skip


def one_then_other(
    url: str, outbox: Outbox, first: Work, second: Work, *, waits: bool = True
) -> tuple[Any, Any]:
    """What both come to, refusals too, where `second` meets what `first` has done in `outbox` uncommitted.

    `waits`: whether it waits for that, where the database lets both run.
    """
    begun, commits = threading.Event(), threading.Event()
    write = outbox._database.write

    def slowly(work: Callable[[Connection], Any]) -> Any:
        def unit(connection: Connection) -> Any:
            done = work(connection)
            begun.set()
            assert commits.wait(PATIENCE)
            return done

        return write(unit)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool:
        run_alone(outbox, patch)
        patch.setattr(outbox._database, "write", slowly)
        doing = pool.submit(outcome, first)
        assert begun.wait(PATIENCE)
        coming = pool.submit(outcome, second)
        if waits:
            wait_for_waiters(url, 1)
        elif not url.startswith("sqlite"):
            coming.result(PATIENCE)
        commits.set()
        return doing.result(PATIENCE), coming.result(PATIENCE)


def outcome(work: Work) -> Any:
    """What it returns, or why it is refused."""
    try:
        return work()
    except WrongState as error:
        return str(error)


class TestRaces:
    def test_replays_at_once_get_numbers_of_their_own(self, outbox: Outbox, reopen: Reopen, url: str) -> None:
        stored = outbox.store(make_webhook(*items(2)))
        stores = [outbox, reopen()]
        works = [partial(stores[n % 2].replay, stored.event_id, items(2)) for n in range(6)]
        replays = in_threads(works)

        assert len({job.id for made in replays for job in made}) == 12
        assert sorted(replay_numbers(url)) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]

    @pytest.mark.parametrize("group", [None, "g"])
    def test_a_job_that_is_being_claimed_is_not_canceled(
        self, outbox: Outbox, reopen: Reopen, url: str, group: str | None
    ) -> None:
        (made,) = store(outbox, one(group))
        claimed, canceled = one_then_other(
            url, outbox, partial(claim_jobs, outbox), partial(reopen().cancel, made)
        )

        assert [job.id for job in claimed[1]] == [made]
        assert canceled == f"job {made} is sending, expected waiting or dead or unknown"
        assert outbox.job(made).state is JobState.SENDING
        assert attempt_of(outbox, claimed[1][0])

    @pytest.mark.parametrize("group", [None, "g"])
    def test_a_job_that_is_being_canceled_is_not_claimed(
        self, outbox: Outbox, reopen: Reopen, url: str, group: str | None
    ) -> None:
        (made,) = store(outbox, one(group))
        _, claimed = one_then_other(
            url, outbox, partial(outbox.cancel, made), partial(claim_jobs, reopen()), waits=False
        )

        assert claimed[1] == []
        assert outbox.job(made).state is JobState.CANCELED
        assert outbox.attempts(made) == []

    def test_of_many_each_is_either_canceled_or_sent(self, outbox: Outbox, reopen: Reopen) -> None:
        made = [job.id for job in outbox.store(make_webhook(*items(60))).jobs]
        other = reopen()

        def cancel() -> tuple[JobState, list[int]]:
            said = {job_id: outcome(partial(outbox.cancel, job_id)) for job_id in made[::-1]}
            return JobState.CANCELED, [job_id for job_id, refused in said.items() if refused is None]

        def claim(store: Outbox) -> tuple[JobState, list[int]]:
            return JobState.SENDING, [job.id for _ in range(15) for job in claim_jobs(store, 2)[1]]

        works: list[Callable[[], tuple[JobState, list[int]]]]
        works = [cancel, partial(claim, outbox), partial(claim, other)]
        done = [(job_id, state) for state, job_ids in in_threads(works) for job_id in job_ids]

        assert sorted(job_id for job_id, _ in done) == made
        assert [outbox.job(job_id).state for job_id, _ in done] == [state for _, state in done]
        sent = [len(outbox.attempts(job_id)) for job_id, _ in done]
        assert sent == [int(state is JobState.SENDING) for _, state in done]

    @pytest.mark.parametrize("group", [None, "g"])
    def test_a_redelivery_leaves_alone_what_a_person_has_just_retried(
        self, outbox: Outbox, reopen: Reopen, url: str, group: str | None
    ) -> None:
        webhook, made = self.dead(outbox, group)
        retried, stored = one_then_other(
            url, outbox, partial(outbox.retry, made, one(group)), partial(reopen().store, webhook)
        )

        assert (retried, stored.jobs) == (JobState.WAITING, ())
        assert [send(outbox), send(outbox)] == [[made], []]

    @pytest.mark.parametrize("group", [None, "g"])
    def test_a_retry_is_refused_where_the_redelivery_was_first(
        self, outbox: Outbox, reopen: Reopen, url: str, group: str | None
    ) -> None:
        webhook, made = self.dead(outbox, group)
        stored, retried = one_then_other(
            url, outbox, partial(outbox.store, webhook), partial(reopen().retry, made, one(group))
        )

        assert [job.id for job in stored.jobs] == [made]
        assert retried == f"job {made} is waiting, expected dead"
        assert [send(outbox), send(outbox)] == [[made], []]

    @pytest.mark.parametrize("head", HEADS)
    def test_one_that_is_stored_while_its_head_ends_may_be_sent(
        self, outbox: Outbox, reopen: Reopen, url: str, head: str
    ) -> None:
        finish = HEADS[head](outbox)
        _, made = one_then_other(url, outbox, finish, partial(store, reopen(), one()))

        assert send(outbox) == made

    @pytest.mark.parametrize("head", HEADS)
    def test_one_whose_head_ends_while_it_is_stored_may_be_sent(
        self, outbox: Outbox, reopen: Reopen, url: str, head: str
    ) -> None:
        finish = HEADS[head](reopen())
        made, _ = one_then_other(url, outbox, partial(store, outbox, one()), finish)

        assert send(outbox) == made

    @pytest.mark.parametrize("is_first", [True, False])
    def test_of_a_retry_and_a_webhook_at_once_the_later_goes_behind_the_earlier(
        self, outbox: Outbox, reopen: Reopen, url: str, is_first: bool
    ) -> None:
        (dead,) = store(outbox, dead_job())
        other = reopen()
        if is_first:
            _, (made,) = one_then_other(
                url, outbox, partial(outbox.retry, dead, one()), partial(store, other, one())
            )
        else:
            (made,), _ = one_then_other(
                url, outbox, partial(store, outbox, one()), partial(other.retry, dead, one())
            )

        order = [dead, made] if is_first else [made, dead]
        assert [send(outbox), send(outbox)] == [[job_id] for job_id in order]

    @staticmethod
    def dead(outbox: Outbox, group: str | None) -> tuple[Webhook, int]:
        """A webhook whose job died, and the job."""
        webhook = make_webhook(one(group))
        (made,) = outbox.store(webhook).jobs
        send(outbox, JobState.DEAD)
        return webhook, made.id

    def test_a_job_that_changes_its_group_meanwhile_is_to_be_looked_at_once_more(
        self, outbox: Outbox, reopen: Reopen, url: str
    ) -> None:
        """Its new group's lock is not held: were it ended, the next there could wait for ever."""
        (made,) = store(outbox, one("old"))
        send(outbox, JobState.DEAD)
        _, canceled = one_then_other(
            url, outbox, partial(outbox.retry, made, one("new")), partial(reopen().cancel, made)
        )

        if url.startswith("sqlite"):  # where it began after the retry had ended
            assert (canceled, outbox.job(made).state) == (None, JobState.CANCELED)
        else:
            assert canceled == f"job {made} has just been retried; check its state"
            assert outbox.job(made).state is JobState.WAITING

    def test_a_replay_and_a_redelivery_of_one_event_do_not_wait_in_a_circle(
        self, outbox: Outbox, reopen: Reopen, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both need the event's row and the group's lock, where a fingerprint finds the event."""
        webhook = make_webhook(one(), fingerprint="f")
        stored = outbox.store(webhook)
        replaying, redelivering = Counted(reopen(), monkeypatch), Counted(reopen(), monkeypatch)

        with ThreadPoolExecutor() as pool:
            with locked(outbox, "g"):
                replay = pool.submit(replaying.outbox.replay, stored.event_id, [one()])
                wait_for_waiters(url, 1)
                redelivery = pool.submit(redelivering.outbox.store, webhook)
                wait_for_waiters(url, 2)
            assert len(replay.result(PATIENCE)) == 1
            assert redelivery.result(PATIENCE).duplicate

        assert (replaying.tries, redelivering.tries) == (1, 1)

    def test_nor_do_webhooks_with_the_same_groups_in_another_order(
        self, outbox: Outbox, reopen: Reopen, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        groups = [f"g{number}" for number in range(20)]
        ways = [[one(group, item_key=group) for group in way] for way in (groups, groups[::-1])]
        stores = [Counted(reopen(), monkeypatch), Counted(reopen(), monkeypatch)]

        with ThreadPoolExecutor() as pool:
            with locked(outbox, *groups):
                storing = [
                    pool.submit(each.outbox.store, make_webhook(*jobs, delivery_id=str(id(each))))
                    for each, jobs in zip(stores, ways, strict=True)
                ]
                wait_for_waiters(url, 2)
            assert [len(each.result(PATIENCE).jobs) for each in storing] == [20, 20]

        assert [each.tries for each in stores] == [1, 1]


@contextmanager
def locked(outbox: Outbox, *groups: str) -> Iterator[None]:
    """Hold the locks of these groups of task A in a transaction of another thread."""
    held, free = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        lock_all(connection, [lock_name(A.id, group) for group in groups])
        held.set()
        assert free.wait(PATIENCE)

    with ThreadPoolExecutor() as pool:
        holding = pool.submit(outbox._database.write, hold)
        try:
            assert held.wait(PATIENCE)
            yield
        finally:
            free.set()
            holding.result(PATIENCE)


class Counted:
    """A store that counts how often a unit of work was begun: one that met another in a deadlock is again."""

    def __init__(self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
        self.outbox = outbox
        self.tries = 0
        self._write = outbox._database.write
        run_alone(outbox, monkeypatch)
        monkeypatch.setattr(outbox._database, "write", self._count)

    def _count(self, work: Callable[[Connection], Any]) -> Any:
        def unit(connection: Connection) -> Any:
            self.tries += 1
            return work(connection)

        return self._write(unit)


class Crowd:
    """Threads of two processes that take webhooks, send jobs and say what becomes of them, all at once."""

    TAKING, WEBHOOKS, GROUPS = 3, 40, 4

    def __init__(self, outboxes: list[Outbox]) -> None:
        self._outboxes = outboxes
        self._names = count()
        self._taking = threading.Semaphore(self.TAKING - 1)
        self._stop = threading.Event()
        #: What was done, by whom: to see that everybody came to something.
        self.done: Counter[str] = Counter()

    def run(self) -> None:
        """Until all webhooks are taken. Raises what any of it raised that no person would be told."""
        works = [self._take] * self.TAKING + [self._send] * 3 + [self._decide] * 2
        in_threads(
            [partial(work, self._outboxes[seed % 2], random.Random(seed)) for seed, work in enumerate(works)]
        )

    def _take(self, outbox: Outbox, choose: random.Random) -> None:
        """Webhooks with several jobs each, some twice, some replayed."""
        try:
            for _ in range(self.WEBHOOKS):
                webhook = make_webhook(*self._jobs(choose), **choose.choice(self._identities()))
                event_id = outbox.store(webhook).event_id
                if choose.random() < 0.3:
                    outbox.store(webhook)
                if choose.random() < 0.3:
                    outbox.replay(event_id, self._jobs(choose))
                self.done["taken"] += 1
        finally:
            if not self._taking.acquire(blocking=False):
                self._stop.set()

    def _jobs(self, choose: random.Random) -> list[NewJob]:
        groups = [None, *(f"g{number}" for number in range(self.GROUPS))]
        return [
            one(choose.choice(groups), item_key=f"item-{item}", latest=choose.random() < 0.2)
            for item in range(choose.randint(1, 4))
        ]

    def _identities(self) -> list[dict[str, Any]]:
        name = f"crowd-{next(self._names)}"
        return [{"delivery_id": name}, {"delivery_id": name, "fingerprint": "f"}]

    def _send(self, outbox: Outbox, choose: random.Random) -> None:
        while not self._stop.is_set():
            unsendable: set[int] = set()

            def can_send(job: Job, unsendable: set[int] = unsendable) -> bool:
                if choose.random() < 0.1:
                    unsendable.add(job.id)
                return job.id not in unsendable

            token, jobs = claim_jobs(outbox, 3, can_send=can_send)
            for job in jobs:
                if job.id in unsendable:
                    outbox.release(job, token)
                else:
                    end(outbox, token, job, choose.choice([*ENDS, JobState.ACCEPTED]))
                self.done["sent"] += 1

    def _decide(self, outbox: Outbox, choose: random.Random) -> None:
        deeds: dict[JobState, list[Callable[[int], object]]] = {
            JobState.WAITING: [outbox.cancel],
            JobState.DEAD: [lambda job_id: outbox.retry(job_id, self._jobs(choose)[0]), outbox.cancel],
            JobState.UNKNOWN: [
                partial(outbox.resolve, sent=True), partial(outbox.resolve, sent=False), outbox.cancel,
            ],
        }  # fmt: skip
        while not self._stop.is_set():
            state = choose.choice(list(deeds))
            for job in outbox.jobs(state=state, limit=2):
                # Another may have been faster.
                with suppress(WrongState):
                    choose.choice(deeds[state])(job.id)
                    self.done[state] += 1


def test_a_crowd_leaves_nothing_that_waits_for_ever(outbox: Outbox, reopen: Reopen, clock: Clock) -> None:
    """Nobody waits in a circle with others, and the groups can all be brought to their end."""
    crowd = Crowd([outbox, reopen()])
    crowd.run()
    assert crowd.done.keys() == {"taken", "sent", JobState.WAITING, JobState.DEAD, JobState.UNKNOWN}

    places = Counter((job.group, job.position) for job in outbox.jobs(limit=10_000) if job.group)
    assert [place for place, jobs in places.items() if jobs > 1] == [], "two jobs in one place"
    clock.now += 100
    for job in outbox.jobs(state=JobState.UNKNOWN, limit=10_000):
        outbox.resolve(job.id, sent=True)
    while send(outbox):
        pass
    left = {JobState.WAITING, JobState.SENDING, JobState.UNKNOWN}
    assert not left & outbox.counts().keys()
