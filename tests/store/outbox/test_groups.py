"""Groups: jobs of one task in one group go one after the other, in the order of their commits."""

from __future__ import annotations

import random
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from bridge.core.attempt_result import AttemptResult
from bridge.core.job import Job, JobState, Outcome
from bridge.core.retry import Decision
from bridge.outbox.store import Outbox
from tests.support.intake import beside
from tests.support.sending import ENDS, B, Reopen, end, one, send, store
from tests.support.tables import (
    NOW,
    Clock,
    attempt_of,
    claim_jobs,
    dead_job,
    in_threads,
    items,
    make_job,
    make_webhook,
    next_due,
    wait_until,
)


def claim(outbox: Outbox, free: int = 10, **more: Any) -> tuple[str, list[Job]]:
    return claim_jobs(outbox, free, **more)


def claimed(outbox: Outbox) -> list[int]:
    """The ids of what may be sent now; it is being sent then."""
    return [each.id for each in claim(outbox)[1]]


def states(outbox: Outbox, job_ids: list[int]) -> list[JobState]:
    return [outbox.job(job_id).state for job_id in job_ids]


class TestOrder:
    def test_one_after_the_other(self, outbox: Outbox) -> None:
        made = store(outbox, one(), one(), one())

        assert [send(outbox), send(outbox), send(outbox)] == [[made[0]], [made[1]], [made[2]]]
        assert claimed(outbox) == []

    def test_while_the_head_is_sent_the_next_waits(self, outbox: Outbox) -> None:
        first, second = store(outbox, one(), one())
        token, (job,) = claim(outbox)

        assert claimed(outbox) == []
        end(outbox, token, job, JobState.ACCEPTED)
        assert (job.id, claimed(outbox)) == (first, [second])

    def test_a_head_that_waits_for_its_time_blocks(self, outbox: Outbox, clock: Clock) -> None:
        first, second = store(outbox, one(), one())
        assert send(outbox, JobState.WAITING) == [first]

        assert claimed(outbox) == []
        assert next_due(outbox) == NOW + 5
        clock.now = NOW + 6
        assert [send(outbox), send(outbox)] == [[first], [second]]

    def test_an_unknown_one_blocks_until_a_person_resolves_it(self, outbox: Outbox) -> None:
        first, second = store(outbox, one(), one())
        send(outbox, JobState.UNKNOWN)

        assert claimed(outbox) == []
        assert next_due(outbox) is None
        outbox.resolve(first, sent=True)
        assert claimed(outbox) == [second]

    def test_an_unknown_one_that_is_sent_again_keeps_its_place(self, outbox: Outbox) -> None:
        first, second = store(outbox, one(), one())
        send(outbox, JobState.UNKNOWN)
        outbox.resolve(first, sent=False)

        assert [send(outbox), send(outbox)] == [[first], [second]]

    def test_a_dead_one_does_not(self, outbox: Outbox) -> None:
        first, second = store(outbox, one(), one())

        assert [send(outbox, JobState.DEAD), send(outbox)] == [[first], [second]]

    def test_nor_does_one_that_died_unsent(self, outbox: Outbox) -> None:
        _, second = store(outbox, one(), one())
        token, (job,) = claim(outbox, starts=False)
        outbox.end_unsent(job, token, JobState.DEAD, "no task")

        assert claimed(outbox) == [second]

    def test_nor_one_that_could_not_be_built(self, outbox: Outbox) -> None:
        _, second = store(outbox, dead_job(group="g"), one())

        assert claimed(outbox) == [second]

    def test_one_that_is_handed_back_stays_the_head(self, outbox: Outbox) -> None:
        first, second = store(outbox, one(), one())
        token, (job,) = claim(outbox, starts=False)
        outbox.release(job, token)

        assert [send(outbox), send(outbox)] == [[first], [second]]

    def test_what_a_crash_left_behind_does_too(self, outbox: Outbox, clock: Clock) -> None:
        first, second = store(outbox, one(), one())
        claim(outbox, starts=False)
        clock.now += 100
        ((job, attempt),) = outbox.abandoned_claims(everything=False)
        assert attempt is None
        assert job.claim_token is not None
        assert claimed(outbox) == []
        outbox.release(job, job.claim_token)

        assert [send(outbox), send(outbox)] == [[first], [second]]

    def test_jobs_of_one_event_too(self, outbox: Outbox) -> None:
        stored = outbox.store(make_webhook(*items(3, group="g")))

        assert [send(outbox) for _ in range(4)] == [[job.id] for job in stored.jobs] + [[]]

    def test_a_group_is_a_task_and_a_text(self, outbox: Outbox) -> None:
        made = store(outbox, one("g"), one("h"), one("g", task=B), one(None), one(None), one(""), one("g"))

        assert claimed(outbox) == made[:-1]

    def test_all_routes_of_a_task_share_it(self, outbox: Outbox) -> None:
        first, second = store(outbox, one(), make_job("x", route="second", group="g"))

        assert [send(outbox), send(outbox)] == [[first], [second]]

    def test_a_dead_one_that_is_asked_for_again_joins_the_end(self, outbox: Outbox) -> None:
        first, second = store(outbox, one(), one())
        send(outbox, JobState.DEAD)
        assert outbox.retry(first, one()) is JobState.WAITING

        assert [send(outbox), send(outbox)] == [[second], [first]]

    def test_also_where_it_changes_its_group(self, outbox: Outbox) -> None:
        first, _ = store(outbox, one(), one("other"))
        token, (job, _) = claim(outbox)
        end(outbox, token, job, JobState.DEAD)

        assert outbox.retry(first, one("other")) is JobState.WAITING
        assert claimed(outbox) == []  # the second is being sent
        assert outbox.job(first).blocked

    def test_the_time_for_which_it_is_tried_begins_when_it_may_go(self, outbox: Outbox, clock: Clock) -> None:
        first, second = store(outbox, one(), one())
        send(outbox, JobState.UNKNOWN)
        clock.now += 200_000
        outbox.resolve(first, sent=True)

        assert outbox.job(second).retry_window_start == clock.now


class TestLatest:
    NEWER = (JobState.ACCEPTED, JobState.WAITING, JobState.UNKNOWN, JobState.SENDING)

    def test_a_newer_job_replaces_those_that_wait(self, outbox: Outbox, clock: Clock) -> None:
        first, second = store(outbox, one(latest=True), one(latest=True))
        assert states(outbox, [first, second]) == [JobState.SKIPPED, JobState.WAITING]
        assert outbox.job(first).reason == f"superseded by job {second}"
        assert outbox.job(first).ended_at == NOW

        assert [send(outbox), send(outbox)] == [[second], []]

    def test_also_the_head_that_waits_for_its_time(self, outbox: Outbox) -> None:
        (first,) = store(outbox, one())
        send(outbox, JobState.WAITING)
        (second,) = store(outbox, one(latest=True))

        assert states(outbox, [first]) == [JobState.SKIPPED]
        assert claimed(outbox) == [second]

    def test_one_that_theeye_may_have_says_so(self, outbox: Outbox) -> None:
        (first,) = store(outbox, one())
        token, (job,) = claim(outbox)
        attempt = attempt_of(outbox, job)
        lost = AttemptResult(1.0, Outcome.UNKNOWN, None, "no answer", None)
        outbox.record(job, token, attempt, lost, Decision(JobState.WAITING, NOW + 5, "no answer"))
        (second,) = store(outbox, one(latest=True))

        reason = f"superseded by job {second}; an earlier attempt may have reached TheEye"
        assert outbox.job(first).reason == reason

    def test_not_what_is_being_sent(self, outbox: Outbox) -> None:
        (first,) = store(outbox, one(latest=True))
        token, (job,) = claim(outbox)
        second, third = store(outbox, one(latest=True), one(latest=True))

        assert states(outbox, [first, second]) == [JobState.SENDING, JobState.SKIPPED]
        assert claimed(outbox) == []
        end(outbox, token, job, JobState.ACCEPTED)
        assert claimed(outbox) == [third]

    def test_but_as_soon_as_that_would_wait_again(self, outbox: Outbox) -> None:
        (first,) = store(outbox, one(latest=True))
        token, (job,) = claim(outbox)
        (second,) = store(outbox, one(latest=True))
        end(outbox, token, job, JobState.WAITING)

        assert outbox.job(first).state is JobState.SKIPPED
        assert outbox.job(first).reason == f"superseded by job {second}"
        assert claimed(outbox) == [second]

    @pytest.mark.parametrize("due_at", [None, NOW + 30])
    def test_or_is_handed_back(self, outbox: Outbox, due_at: float | None) -> None:
        (first,) = store(outbox, one(latest=True))
        token, (job,) = claim(outbox, starts=False)
        (second,) = store(outbox, one(latest=True))
        outbox.release(job, token, due_at, "no task")

        assert outbox.job(first).reason == f"superseded by job {second}"
        assert claimed(outbox) == [second]

    def test_not_where_the_newer_one_is_of_a_route_without_it(self, outbox: Outbox) -> None:
        first, second = store(outbox, one(latest=True), one())

        assert [send(outbox), send(outbox)] == [[first], [second]]

    def test_not_an_unknown_one(self, outbox: Outbox) -> None:
        (first,) = store(outbox, one(latest=True))
        send(outbox, JobState.UNKNOWN)
        store(outbox, one(latest=True))

        assert states(outbox, [first]) == [JobState.UNKNOWN]
        assert claimed(outbox) == []

    def test_a_job_that_could_not_be_built_replaces_nothing(self, outbox: Outbox) -> None:
        first, _ = store(outbox, one(latest=True), dead_job(group="g", latest=True))

        assert claimed(outbox) == [first]

    def test_of_one_event_the_last_stays(self, outbox: Outbox) -> None:
        stored = outbox.store(make_webhook(*items(3, group="g", latest=True)))

        assert [job.state for job in stored.jobs] == [JobState.SKIPPED, JobState.SKIPPED, JobState.WAITING]
        assert claimed(outbox) == [stored.jobs[-1].id]

    def test_other_groups_are_left_alone(self, outbox: Outbox) -> None:
        made = store(outbox, one("h"), one("g", task=B), one(None), one(latest=True))

        assert claimed(outbox) == made

    @pytest.mark.parametrize(
        "newer", [JobState.ACCEPTED, JobState.WAITING, JobState.UNKNOWN, JobState.SENDING]
    )
    @pytest.mark.parametrize("by", ["a person", "its sender"])
    def test_a_dead_one_that_is_asked_for_again_does_not_replace_a_newer_one(
        self, outbox: Outbox, newer: JobState, by: str
    ) -> None:
        webhook = make_webhook(one(latest=True), delivery_id="first")
        (stored,) = outbox.store(webhook).jobs
        send(outbox, JobState.DEAD)
        (second,) = store(outbox, one(latest=True))
        if newer is JobState.SENDING:
            claim(outbox)
        elif newer is not JobState.WAITING:
            send(outbox, newer)

        if by == "a person":
            assert outbox.retry(stored.id, one(latest=True)) is JobState.SKIPPED
        else:
            assert outbox.store(webhook).jobs == ()

        assert outbox.job(stored.id).state is JobState.SKIPPED
        assert outbox.job(stored.id).reason == f"superseded by job {second}"
        assert outbox.job(second).state is newer

    @pytest.mark.parametrize("order", [1, -1])
    @pytest.mark.parametrize("by", ["a person", "its sender"])
    def test_of_dead_ones_that_are_asked_for_again_the_newest_stays(
        self, outbox: Outbox, order: int, by: str
    ) -> None:
        """In whatever order: the first to be asked for goes to the end, and is not the newest by that."""
        made = []
        for name in ("first", "second", "third"):
            made += [job.id for job in outbox.store(make_webhook(one(latest=True), delivery_id=name)).jobs]
            send(outbox, JobState.DEAD)

        for name, job_id in [*zip(("first", "second", "third"), made, strict=True)][::order]:
            if by == "a person":
                outbox.retry(job_id, one(latest=True))
            else:
                outbox.store(make_webhook(one(latest=True), delivery_id=name))

        assert [outbox.job(job_id).state for job_id in made] == [
            JobState.SKIPPED,
            JobState.SKIPPED,
            JobState.WAITING,
        ]
        assert claimed(outbox) == [made[-1]]

    def test_nor_the_newer_one_of_the_same_event(self, outbox: Outbox) -> None:
        old, new = (make_job(n, item_key=n, group="g", latest=True) for n in "12")
        dead, _ = outbox.store(make_webhook(replace(old, arguments=None), new)).jobs
        send(outbox)
        assert outbox.retry(dead.id, old) is JobState.SKIPPED

    def test_but_one_that_could_not_be_built_goes_first_where_nothing_came_later(
        self, outbox: Outbox
    ) -> None:
        store(outbox, one(latest=True))
        send(outbox)
        (dead,) = store(outbox, dead_job())
        assert outbox.retry(dead, one(latest=True)) is JobState.WAITING

        assert claimed(outbox) == [dead]

    def test_and_not_where_something_did(self, outbox: Outbox) -> None:
        (dead,) = store(outbox, dead_job())
        store(outbox, one(latest=True))
        send(outbox)

        assert outbox.retry(dead, one(latest=True)) is JobState.SKIPPED

    def test_nor_does_a_missing_one_that_comes_again(self, outbox: Outbox) -> None:
        outbox.store(make_webhook(delivery_id="first"))
        (newer,) = store(outbox, one(latest=True))

        (made,) = outbox.store(make_webhook(one(latest=True), delivery_id="first")).jobs

        assert made.state is JobState.SKIPPED
        assert outbox.job(made.id).reason == f"superseded by job {newer}"
        assert claimed(outbox) == [newer]

    def test_but_no_job_of_its_own_event_is_newer_than_a_missing_one(self, outbox: Outbox) -> None:
        there, missing = (make_job(n, item_key=n, group="g", latest=True) for n in "12")
        outbox.store(make_webhook(there, delivery_id="first"))
        send(outbox)

        (made,) = outbox.store(make_webhook(there, missing, delivery_id="first")).jobs

        assert made.state is JobState.WAITING
        assert claimed(outbox) == [made.id]

    def test_of_those_that_come_again_the_last_stays(self, outbox: Outbox) -> None:
        first, last = (make_job(n, item_key=str(n), group="g", latest=True) for n in "12")
        dead = [replace(each, arguments=None) for each in (first, last)]
        stored = outbox.store(make_webhook(*dead, delivery_id="1"))

        (made,) = outbox.store(make_webhook(first, last, delivery_id="1")).jobs

        assert made.id == stored.jobs[1].id
        assert outbox.job(stored.jobs[0].id).reason == f"superseded by job {made.id}"
        assert claimed(outbox) == [made.id]

    def test_a_replay_replaces_nothing_and_goes_last(self, outbox: Outbox) -> None:
        store(outbox, one(latest=True))
        send(outbox)
        (newer,) = store(outbox, one(latest=True))
        (replayed,) = outbox.replay(1, [one(latest=True)])

        assert [send(outbox), send(outbox)] == [[newer], [replayed.id]]

    def test_a_dead_newer_one_is_none(self, outbox: Outbox) -> None:
        first, _ = store(outbox, one(latest=True), dead_job(group="g", latest=True))
        token, (job,) = claim(outbox)
        end(outbox, token, job, JobState.DEAD)

        assert outbox.retry(first, one(latest=True)) is JobState.WAITING


class Sends:
    """What several threads that send have done, by group."""

    def __init__(self) -> None:
        self.begun: dict[str, list[int]] = defaultdict(list)
        self.broken: list[str] = []
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()

    def until(self, stop: threading.Event, outbox: Outbox, seed: int) -> None:
        """Send what may be sent, with ends of every kind."""
        choose = random.Random(seed)
        while not stop.is_set():
            token, jobs = claim(outbox, free=2)
            for job in jobs:
                self._send(outbox, token, job, choose.choice([*ENDS, JobState.ACCEPTED]))

    def _send(self, outbox: Outbox, token: str, job: Job, state: JobState) -> None:
        group = job.group or ""
        with self._lock:
            self._running[group] += 1
            if self._running[group] > 1:
                self.broken.append(f"two of {group} at once")
            if job.id not in self.begun[group]:
                self.begun[group].append(job.id)
        attempt = attempt_of(outbox, job)
        with self._lock:
            self._running[group] -= 1
        outcome, decision = ENDS[JobState.DEAD if state is JobState.UNKNOWN else state]
        if state is JobState.WAITING:
            decision = Decision(state, NOW, "again")
        outbox.record(job, token, attempt, AttemptResult(0.1, outcome, None, "", None), decision)


@dataclass(frozen=True)
class Stored:
    """One webhook: when it was sent and when its answer came, as places in one order; and its job."""

    begun: int
    ended: int
    group: str
    job_id: int


class TestRaces:
    THREADS, WEBHOOKS, GROUPS = 4, 40, 3

    @pytest.mark.parametrize("latest", [False, True])
    @pytest.mark.slow_unless(latest=True)
    def test_the_order_is_that_of_the_commits(self, reopen: Reopen, latest: bool) -> None:
        """Webhooks come in and jobs are sent at once, from two processes with several threads each."""
        outboxes = [reopen(), reopen()]
        sends, stop = Sends(), threading.Event()
        threads = [
            threading.Thread(target=sends.until, args=(stop, outboxes[number % 2], number))
            for number in range(self.THREADS)
        ]
        for thread in threads:
            thread.start()
        try:
            stored = self.take(outboxes, latest)
            busy = {JobState.WAITING, JobState.SENDING}
            wait_until(lambda: not busy & outboxes[0].counts().keys(), "the end of what waits")
        finally:
            stop.set()
            for thread in threads:
                thread.join()

        assert sends.broken == []
        places = Counter((job.group, job.position) for job in outboxes[0].jobs(limit=10_000))
        assert [place for place, jobs in places.items() if jobs > 1] == [], "two jobs in one place"
        assert self.out_of_order(stored, sends) == []

    def take(self, outboxes: list[Outbox], latest: bool) -> list[Stored]:
        clock = count()

        def take_some(outbox: Outbox, seed: int) -> list[Stored]:
            choose = random.Random(seed)
            taken = []
            for _ in range(self.WEBHOOKS):
                group, begun = f"g{choose.randrange(self.GROUPS)}", next(clock)
                (job_id,) = store(outbox, one(group, latest=latest))
                taken.append(Stored(begun, next(clock), group, job_id))
            return taken

        works = [partial(take_some, outboxes[number % 2], number) for number in range(self.THREADS)]
        return [each for of_thread in in_threads(works) for each in of_thread]

    @staticmethod
    def out_of_order(stored: list[Stored], sends: Sends) -> list[str]:
        """Jobs that were sent before one whose webhook was answered before theirs came."""
        place = {
            job_id: (group, at) for group, begun in sends.begun.items() for at, job_id in enumerate(begun)
        }
        sent = [each for each in stored if each.job_id in place]
        return [
            f"job {later.job_id} went before {earlier.job_id}"
            for earlier in sent
            for later in sent
            if earlier.group == later.group
            and earlier.ended < later.begun
            and place[later.job_id] < place[earlier.job_id]
        ]


class TestSize:
    def test_a_long_group_is_not_looked_through(self, outbox: Outbox, url: str) -> None:
        """What is blocked is in no index that a claim reads."""
        outbox.store(make_webhook(*items(300, group="g")))

        with beside(url) as connection:
            ready = "SELECT count(*) FROM jobs WHERE state = 'waiting' AND NOT blocked"
            assert connection.execute(text(ready)).scalar_one() == 1

    def test_the_queries_have_their_indexes(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'plans.db'}"
        Outbox(url).close()
        group = "task_id = 'a' AND group_name = 'g'"
        ahead = "group_name IS NOT NULL AND state IN ('waiting', 'sending', 'unknown')"
        with beside(url) as connection:
            for query, index in (
                (f"SELECT id FROM jobs WHERE {ahead} AND {group} ORDER BY position LIMIT 1", "jobs_blocking"),
                (f"SELECT max(position) FROM jobs WHERE group_name IS NOT NULL AND {group}", "jobs_by_group"),
            ):
                plan = " ".join(row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {query}")))
                assert index in plan
                assert "TEMP B-TREE" not in plan

    @pytest.mark.slow_unless(url="postgresql")
    def test_one_webhook_may_have_thousands(self, outbox: Outbox) -> None:
        jobs = [
            make_job(number, item_key=f"item-{number}", item_index=number, group=f"g{number % 2500}")
            for number in range(5000)
        ]
        stored = outbox.store(make_webhook(*jobs))

        blocked = [outbox.job(stored.jobs[number].id).blocked for number in (0, 2499, 2500, 4999)]
        assert blocked == [False, False, True, True]
