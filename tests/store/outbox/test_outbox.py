"""The Outbox keeps its contract: what is stored, what comes again, what people ask for, what is read."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy

from bridge.core.attempt_result import AttemptResult
from bridge.core.errors import NoSuchEvent, NoSuchJob, StoreUnavailable, WrongState
from bridge.core.event import JSON, Headers, rfc3339
from bridge.core.job import JobState, NewJob, Outcome
from bridge.core.retry import Decision
from bridge.outbox.store import Outbox
from bridge.outbox.webhook import StoredWebhook
from tests.support.statements import executed
from tests.support.tables import (
    NOW,
    Clock,
    attempt_of,
    claim_jobs,
    dead_job,
    in_threads,
    items,
    make_event,
    make_job,
    make_task,
    make_webhook,
    next_due,
)

Open = Callable[..., Outbox]

ACCEPTED = AttemptResult(0.5, Outcome.ACCEPTED, 200, "", "5f3c9a7be4b0a1c2d3e4f5ff")
REFUSED = AttemptResult(0.5, Outcome.REFUSED, 403, "403 invalid secret", None)
LOST = AttemptResult(5.0, Outcome.UNKNOWN, None, "no answer within 5 s", None)


def bring(outbox: Outbox, job_id: int, state: JobState) -> None:
    """Bring a waiting job to `state`, as delivery does."""
    if state is JobState.WAITING:
        return
    token, claimed = claim_jobs(outbox, 100, can_send=lambda job: job.id == job_id)
    job = next(job for job in claimed if job.id == job_id)
    for other in claimed:
        if other.id != job_id:
            outbox.release(other, token)
    if state is JobState.SENDING:
        return
    attempt = attempt_of(outbox, job)
    done = {JobState.ACCEPTED: ACCEPTED, JobState.DEAD: REFUSED, JobState.UNKNOWN: LOST}[state]
    assert outbox.record(job, token, attempt, done, Decision(state, None, done.detail or None))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class OutboxContract:
    """What every store must do, whatever the database: a subclass says by `url` which one."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        """An empty database."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def reopen(self, url: str, clock: Clock) -> Iterator[Open]:
        """Opens the database once more, as another process would."""
        opened: list[Outbox] = []

        def reopen(**more: Any) -> Outbox:
            opened.append(Outbox(url, clock=clock, **more))
            return opened[-1]

        yield reopen
        for outbox in opened:
            outbox.close()

    @pytest.fixture
    def outbox(self, reopen: Open) -> Outbox:
        return reopen()

    # Storing

    def test_an_event_is_read_as_it_was_stored(self, outbox: Outbox) -> None:
        payload = {"text": "äöü \x00 \u2028 😀", "numbers": [0, -1, 2**63, 1.5, -0.0], "none": None}
        event = make_event(
            payload,
            source="hooks",
            event="pull_request",
            action="opened",
            delivery_id="id-ü",
            headers=Headers({"X-Thing": "ä", "x-other": "1"}.items()),
            query={"a": "b&c", "empty": ""},
            received_at=NOW + 0.123456,
        )

        stored = outbox.store(make_webhook(event=event))

        assert (stored.duplicate, stored.jobs) == (False, ())
        found = outbox.event(stored.event_id)
        assert (found.source, found.full_name, found.delivery_id) == ("hooks", "pull_request.opened", "id-ü")
        assert (found.payload, found.body, found.query) == (payload, event.body, event.query)
        assert dict(found.headers) == {"x-thing": "ä", "x-other": "1"}
        assert found.headers["X-Other"] == "1"
        assert found.received_at == NOW + 0.123456

    def test_a_body_is_kept_byte_for_byte(self, outbox: Outbox) -> None:
        body = b'{ "a" : 1.0, "a": 2 }\n'

        stored = outbox.store(make_webhook(event=make_event({"a": 2}, body=body)))

        assert outbox.event(stored.event_id).body == body

    def test_its_jobs_are_stored_with_it(self, outbox: Outbox) -> None:
        arguments: tuple[JSON, ...] = ("main", "", None, 0, False, 1.5, [], {"k": [1]}, "\x00ä😀", 2**64 - 1)
        made = make_job(*arguments, route="deploy", item_key="k", item_index=3)
        dead = dead_job(reason="argument 1: \x00 is missing", route="page", task=make_task(2))

        stored = outbox.store(make_webhook(made, dead))

        assert [(job.route, job.task, job.state) for job in stored.jobs] == [
            ("deploy", "task 1", JobState.WAITING),
            ("page", "task 2", JobState.DEAD),
        ]
        first, second = (outbox.job(job.id) for job in stored.jobs)
        assert (first.event_id, first.task_id) == (stored.event_id, make_task().id)
        assert (first.item_key, first.item_index) == ("k", 3)
        assert orjson.dumps(first.arguments) == orjson.dumps(arguments)
        assert (first.created_at, first.due_at, first.retry_window_start) == (NOW, NOW, NOW)
        assert (first.window_attempts, first.window_unknowns, first.claim_token, first.lease_until) == (
            0,
            0,
            None,
            None,
        )
        assert (second.arguments, second.reason) == (None, "argument 1: \\u0000 is missing")

    def test_many_jobs_keep_their_order(self, outbox: Outbox) -> None:
        stored = outbox.store(make_webhook(*items(2_500)))

        ids = [job.id for job in stored.jobs]
        assert ids == sorted(ids)
        found = outbox.jobs(event_id=stored.event_id, limit=3_000)
        assert [job.arguments for job in reversed(found)] == [(n,) for n in range(2_500)]

    def test_an_event_is_stored_with_all_its_jobs_or_not_at_all(self, outbox: Outbox) -> None:
        with pytest.raises(sqlalchemy.exc.IntegrityError):
            outbox.store(make_webhook(make_job("one"), make_job("two"), delivery_id="broken"))

        assert (outbox.events(), outbox.jobs()) == ([], [])
        assert outbox.store(make_webhook(make_job("one"), delivery_id="broken")).duplicate is False

    def test_what_is_stored_outlives_the_process(self, outbox: Outbox, reopen: Open) -> None:
        stored = outbox.store(make_webhook(make_job("main")))
        outbox.close()

        found = reopen()

        assert found.event(stored.event_id).delivery_id == "delivery-1"
        assert [job.arguments for job in found.jobs()] == [("main",)]

    def test_what_is_stored_is_seen_by_another_process_at_once(self, outbox: Outbox, reopen: Open) -> None:
        other = reopen(beside_a_server=True)

        stored = outbox.store(make_webhook(make_job("main")))

        assert other.job(stored.jobs[0].id).arguments == ("main",)

    def test_ids_are_never_used_again(self, outbox: Outbox, reopen: Open) -> None:
        first = outbox.store(make_webhook(make_job()))
        outbox.close()
        second = reopen().store(make_webhook(make_job(), delivery_id="2"))

        assert second.event_id > first.event_id
        assert second.jobs[0].id > first.jobs[0].id

    # A webhook that comes again

    def test_one_that_comes_again_makes_nothing_twice(self, outbox: Outbox) -> None:
        first = outbox.store(make_webhook(make_job("main")))
        again = outbox.store(make_webhook(make_job("changed")))

        assert again == StoredWebhook(first.event_id, True, ())
        assert [job.arguments for job in outbox.jobs()] == [("main",)]
        assert len(outbox.events()) == 1

    def test_the_same_id_from_another_source_is_another_webhook(self, outbox: Outbox) -> None:
        first = outbox.store(make_webhook(make_job("main")))
        other = outbox.store(make_webhook(make_job("main"), source="alerts"))

        assert not other.duplicate
        assert other.event_id != first.event_id

    def test_what_is_missing_is_made(self, outbox: Outbox) -> None:
        outbox.store(make_webhook(*items(1)))
        again = outbox.store(make_webhook(*items(3), make_job("new", route="second")))

        assert again.duplicate
        assert [(job.route, job.state) for job in again.jobs] == [
            ("first", JobState.WAITING),
            ("first", JobState.WAITING),
            ("second", JobState.WAITING),
        ]
        assert [job.arguments for job in reversed(outbox.jobs())] == [(0,), (1,), (2,), ("new",)]

    @pytest.mark.parametrize(
        "state", [JobState.WAITING, JobState.SENDING, JobState.ACCEPTED, JobState.UNKNOWN]
    )
    def test_what_is_not_dead_is_left_alone(self, outbox: Outbox, clock: Clock, state: JobState) -> None:
        (made,) = outbox.store(make_webhook(make_job("old"))).jobs
        bring(outbox, made.id, state)
        before = outbox.job(made.id)
        assert before.state is state
        clock.now += 100

        assert outbox.store(make_webhook(make_job("new"))).jobs == ()

        assert outbox.job(made.id) == before

    def test_what_is_dead_is_built_again(self, outbox: Outbox, clock: Clock) -> None:
        (dead,) = outbox.store(make_webhook(dead_job())).jobs
        clock.now += 100
        (again,) = outbox.store(make_webhook(make_job("built", task=make_task(2)))).jobs

        assert (again.id, again.task, again.state) == (dead.id, "task 2", JobState.WAITING)
        job = outbox.job(dead.id)
        assert (job.state, job.arguments, job.reason) == (JobState.WAITING, ("built",), None)
        assert (job.task_id, job.created_at) == (make_task(2).id, NOW)
        assert (job.due_at, job.retry_window_start) == (NOW + 100, NOW + 100)

    def test_what_was_refused_is_built_again_and_counts_anew(self, outbox: Outbox) -> None:
        (made,) = outbox.store(make_webhook(make_job("old"))).jobs
        bring(outbox, made.id, JobState.DEAD)
        assert outbox.job(made.id).window_attempts == 1

        (again,) = outbox.store(make_webhook(make_job("new"))).jobs

        job = outbox.job(again.id)
        assert (job.state, job.arguments, job.window_attempts, job.window_unknowns) == (
            JobState.WAITING,
            ("new",),
            0,
            0,
        )
        assert [attempt.outcome for attempt in outbox.attempts(job.id)] == [Outcome.REFUSED]

    def test_what_is_dead_and_cannot_be_built_today_says_why(self, outbox: Outbox) -> None:
        (dead,) = outbox.store(make_webhook(dead_job("payload.a is missing"))).jobs

        assert outbox.store(make_webhook(dead_job("payload.b is missing"))).jobs == ()

        job = outbox.job(dead.id)
        assert (job.state, job.reason) == (JobState.DEAD, "payload.b is missing")

    def test_what_is_dead_and_whose_route_is_gone_says_so(self, outbox: Outbox) -> None:
        (dead,) = outbox.store(make_webhook(dead_job())).jobs

        why = outbox.job(dead.id).reason

        for _ in range(2):  # said once, beside why it died
            assert outbox.store(make_webhook()).jobs == ()

            job = outbox.job(dead.id)
            assert job.state is JobState.DEAD
            assert job.reason == f"{why}; not retried: its route was removed or no longer matches"

    def test_todays_warnings_replace_the_earlier(self, outbox: Outbox) -> None:
        outbox.store(make_webhook(warnings=["route 'a': when: division by zero", "ä"]))
        assert outbox.events()[0].warnings == ("route 'a': when: division by zero", "ä")

        outbox.store(make_webhook())

        assert outbox.events()[0].warnings == ()

    def test_at_the_same_moment_from_many_senders_it_is_one(self, outbox: Outbox, reopen: Open) -> None:
        stores = [outbox, outbox, outbox, reopen(), reopen(), reopen()]

        stored = in_threads([partial(store.store, make_webhook(*items(3))) for store in stores])

        assert len({one.event_id for one in stored}) == 1
        assert sorted(len(one.jobs) for one in stored) == [0, 0, 0, 0, 0, 3]
        assert len(outbox.jobs()) == 3

    # Webhooks without an id

    def sight(
        self, outbox: Outbox, at: float, window: float | None = 30.0, fingerprint: str = "f"
    ) -> StoredWebhook:
        """Store one that a sender without ids sent at `at`, as its source reads it."""
        event = make_event(received_at=at, delivery_id=f"{fingerprint}@{rfc3339(at)}")
        return outbox.store(make_webhook(make_job("x"), event=event, fingerprint=fingerprint, window=window))

    @pytest.mark.parametrize("later", [0.0, 0.5, 29.9, 30.0, -29.9])
    def test_within_the_window_it_is_the_same(self, outbox: Outbox, later: float) -> None:
        first = self.sight(outbox, NOW)
        assert self.sight(outbox, NOW + later) == StoredWebhook(first.event_id, True, ())

    @pytest.mark.parametrize("later", [30.1, 3600.0, -30.1])
    def test_beyond_the_window_it_is_another(self, outbox: Outbox, later: float) -> None:
        self.sight(outbox, NOW)
        assert not self.sight(outbox, NOW + later).duplicate
        assert len(outbox.jobs()) == 2

    def test_the_window_counts_from_the_first_sight(self, outbox: Outbox) -> None:
        self.sight(outbox, NOW)
        assert self.sight(outbox, NOW + 20).duplicate
        assert not self.sight(outbox, NOW + 40).duplicate

    def test_without_a_window_each_is_another(self, outbox: Outbox) -> None:
        sights = [self.sight(outbox, NOW, window=None) for _ in range(3)]

        assert [sight.duplicate for sight in sights] == [False, False, False]
        ids = {outbox.event(sight.event_id).delivery_id for sight in sights}
        assert len(ids) == 3
        assert all(name.startswith("f@2023-11-14T22:13:20.00000") for name in ids)

    def test_another_fingerprint_is_another_webhook(self, outbox: Outbox) -> None:
        self.sight(outbox, NOW)
        assert not self.sight(outbox, NOW, fingerprint="g").duplicate

    # Waking

    def test_a_job_that_waits_wakes_delivery_once_it_can_be_read(self, outbox: Outbox, reopen: Open) -> None:
        other = reopen()
        seen: list[dict[JobState, int]] = []
        outbox.listen(lambda: seen.append(other.counts()))

        outbox.store(make_webhook(*items(2)))

        assert seen == [{JobState.WAITING: 2}]

    @pytest.mark.parametrize("jobs", [(), (dead_job(),)], ids=["no job", "a dead job"])
    def test_what_does_not_wait_wakes_nobody(self, outbox: Outbox, jobs: tuple[NewJob, ...]) -> None:
        woken: list[int] = []
        outbox.listen(lambda: woken.append(1))

        outbox.store(make_webhook(*jobs))

        assert woken == []

    def test_what_a_person_sends_again_wakes_delivery(self, outbox: Outbox) -> None:
        stored = outbox.store(make_webhook(dead_job(), *items(2)))
        for made in stored.jobs[1:]:
            bring(outbox, made.id, JobState.UNKNOWN)
        woken: list[int] = []
        outbox.listen(lambda: woken.append(1))

        outbox.retry(stored.jobs[0].id, None)
        outbox.resolve(stored.jobs[1].id, sent=True)
        assert woken == []
        outbox.retry(stored.jobs[0].id, make_job())
        outbox.resolve(stored.jobs[2].id, sent=False)
        assert woken == [1, 1]

    # People

    def test_retry_sets_a_dead_job_waiting_as_the_table_makes_it_today(
        self, outbox: Outbox, clock: Clock
    ) -> None:
        (made,) = outbox.store(make_webhook(make_job("old"))).jobs
        bring(outbox, made.id, JobState.DEAD)
        clock.now += 100

        assert outbox.retry(made.id, make_job("new", task=make_task(2))) is JobState.WAITING

        job = outbox.job(made.id)
        assert (job.state, job.arguments, job.task, job.reason) == (
            JobState.WAITING,
            ("new",),
            "task 2",
            None,
        )
        assert (job.due_at, job.retry_window_start, job.window_attempts, job.window_unknowns) == (
            NOW + 100,
            NOW + 100,
            0,
            0,
        )
        bring(outbox, made.id, JobState.ACCEPTED)
        assert [attempt.number for attempt in outbox.attempts(made.id)] == [1, 2]

    @pytest.mark.parametrize(
        ("again", "reason"),
        [
            (None, "payload.x is missing; not retried: its route was removed or no longer matches"),
            (dead_job("argument 2: payload.y is missing"), "argument 2: payload.y is missing"),
        ],
        ids=["its route is gone", "it cannot be built"],
    )
    def test_retry_of_what_cannot_be_built_stays_dead(
        self, outbox: Outbox, again: NewJob | None, reason: str
    ) -> None:
        (made,) = outbox.store(make_webhook(dead_job("payload.x is missing"))).jobs

        assert outbox.retry(made.id, again) is JobState.DEAD

        job = outbox.job(made.id)
        assert (job.state, job.reason) == (JobState.DEAD, reason)

    @pytest.mark.parametrize(
        "state", [JobState.WAITING, JobState.SENDING, JobState.ACCEPTED, JobState.UNKNOWN]
    )
    def test_only_a_dead_job_is_retried(self, outbox: Outbox, state: JobState) -> None:
        (made,) = outbox.store(make_webhook(make_job())).jobs
        bring(outbox, made.id, state)
        before = outbox.job(made.id)

        with pytest.raises(WrongState, match=f"^job {made.id} is {state}, expected dead$"):
            outbox.retry(made.id, make_job("new"))
        assert outbox.job(made.id) == before

    @pytest.mark.parametrize("state", [JobState.WAITING, JobState.SENDING, JobState.ACCEPTED, JobState.DEAD])
    @pytest.mark.parametrize("sent", [True, False])
    def test_only_an_unknown_job_is_resolved(self, outbox: Outbox, state: JobState, sent: bool) -> None:
        (made,) = outbox.store(make_webhook(make_job())).jobs
        bring(outbox, made.id, state)
        before = outbox.job(made.id)

        with pytest.raises(WrongState, match=f"^job {made.id} is {state}, expected unknown$"):
            outbox.resolve(made.id, sent=sent)
        assert outbox.job(made.id) == before

    def test_resolved_as_sent_it_is_accepted(self, outbox: Outbox) -> None:
        (made,) = outbox.store(make_webhook(make_job())).jobs
        bring(outbox, made.id, JobState.UNKNOWN)

        outbox.resolve(made.id, sent=True)

        job = outbox.job(made.id)
        assert (job.state, job.reason) == (JobState.ACCEPTED, "resolved by a person: TheEye has it")
        assert next_due(outbox) is None

    def test_resolved_as_not_sent_it_is_due_and_counts_anew(self, outbox: Outbox, clock: Clock) -> None:
        (made,) = outbox.store(make_webhook(make_job("old"))).jobs
        bring(outbox, made.id, JobState.UNKNOWN)
        clock.now += 100

        outbox.resolve(made.id, sent=False)

        job = outbox.job(made.id)
        assert (job.state, job.arguments) == (JobState.WAITING, ("old",))
        assert (job.due_at, job.retry_window_start, job.window_attempts, job.window_unknowns) == (
            NOW + 100,
            NOW + 100,
            0,
            0,
        )

    def test_what_is_not_there_is_said(self, outbox: Outbox) -> None:
        with pytest.raises(NoSuchJob, match=r"^there is no job 7$"):
            outbox.retry(7, None)
        with pytest.raises(NoSuchJob, match=r"^there is no job 7$"):
            outbox.resolve(7, sent=True)
        with pytest.raises(NoSuchJob, match=r"^there is no job 7$"):
            outbox.job(7)
        with pytest.raises(NoSuchEvent, match=r"^there is no event 7$"):
            outbox.event(7)
        assert outbox.attempts(7) == []

    # Reading

    def test_events_are_listed_newest_first(self, outbox: Outbox) -> None:
        for number in range(4):
            source = "alerts" if number == 2 else "github"
            webhook = make_webhook(*items(number), source=source, delivery_id=f"d-{number}", action="opened")
            outbox.store(webhook)

        listed = outbox.events()
        assert [(event.delivery_id, event.jobs) for event in listed] == [
            ("d-3", 3), ("d-2", 2), ("d-1", 1), ("d-0", 0),
        ]  # fmt: skip
        newest = listed[0]
        assert (newest.source, newest.event, newest.action) == ("github", "push", "opened")
        assert newest.received_at == NOW
        assert [event.delivery_id for event in outbox.events(limit=2)] == ["d-3", "d-2"]
        assert [event.delivery_id for event in outbox.events(source="alerts")] == ["d-2"]
        assert outbox.events(source="gone") == []

    def test_jobs_are_listed_newest_first(self, outbox: Outbox) -> None:
        first = outbox.store(make_webhook(*items(3)))
        second = outbox.store(make_webhook(dead_job(), delivery_id="2"))

        assert [job.id for job in outbox.jobs()] == [
            second.jobs[0].id, *[job.id for job in reversed(first.jobs)],
        ]  # fmt: skip
        assert [job.id for job in outbox.jobs(limit=1)] == [second.jobs[0].id]
        assert [job.id for job in outbox.jobs(state=JobState.DEAD)] == [second.jobs[0].id]
        assert len(outbox.jobs(event_id=first.event_id)) == 3
        assert outbox.jobs(event_id=first.event_id, state=JobState.DEAD) == []

    def test_counts(self, outbox: Outbox) -> None:
        assert outbox.counts() == {}
        stored = outbox.store(make_webhook(dead_job(), *items(3)))
        bring(outbox, stored.jobs[1].id, JobState.ACCEPTED)
        assert outbox.counts() == {JobState.DEAD: 1, JobState.WAITING: 2, JobState.ACCEPTED: 1}

    def test_next_due_is_the_earliest_of_those_that_wait(self, outbox: Outbox, clock: Clock) -> None:
        assert next_due(outbox) is None
        outbox.store(make_webhook(dead_job()))
        assert next_due(outbox) is None
        clock.now = NOW + 5
        (later,) = outbox.store(make_webhook(make_job(), delivery_id="2")).jobs
        clock.now = NOW + 1
        (earlier,) = outbox.store(make_webhook(make_job(), delivery_id="3")).jobs
        assert next_due(outbox) == NOW + 1
        bring_at = clock.now = NOW + 6
        bring(outbox, earlier.id, JobState.ACCEPTED)
        assert next_due(outbox) == NOW + 5
        bring(outbox, later.id, JobState.SENDING)
        assert next_due(outbox) is None
        assert clock.now == bring_at

    def test_ping(self, outbox: Outbox) -> None:
        outbox.ping()

    # What can go wrong

    def test_after_close_nothing_is_written(self, outbox: Outbox) -> None:
        outbox.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            outbox.store(make_webhook())

    def test_processes_that_start_at_once_all_open_a_new_database(self, url: str) -> None:
        def start() -> bool:
            with closing(Outbox(url)) as outbox:
                return outbox.store(make_webhook(make_job())).duplicate

        assert sorted(in_threads([start] * 6)) == [False, True, True, True, True, True]


class TestPostgreSQL(OutboxContract):
    """The store on PostgreSQL."""

    @pytest.fixture
    def url(self, postgresql_store: str) -> str:
        return postgresql_store


class TestSQLite(OutboxContract):
    """The store on SQLite, and what is said of it alone."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'var' / 'deeper' / 'bridge.db'}"

    @pytest.mark.parametrize("kind", ["below a file", "a folder", "no database"])
    def test_what_cannot_be_opened_is_named(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "thing"
        if kind == "a folder":
            path.mkdir()
        else:
            path.write_bytes(b"this is no database, but text of some length".ljust(4096, b"."))
        database = path / "bridge.db" if kind == "below a file" else path

        with pytest.raises(StoreUnavailable, match=f"^sqlite:///{database} cannot be opened: "):
            Outbox(f"sqlite:///{database}")

    def test_a_file_that_is_no_database_keeps_its_mode(self, tmp_path: Path) -> None:
        path = tmp_path / "hosts"
        path.write_bytes(b"127.0.0.1 localhost".ljust(4096, b"."))
        path.chmod(0o644)
        with pytest.raises(StoreUnavailable):
            Outbox(f"sqlite:///{path}")
        assert mode_of(path) == 0o644

    def test_a_link_to_a_file_that_is_not_there_yet_makes_a_private_one(self, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "link.db").symlink_to(tmp_path / "data" / "bridge.db")
        with closing(Outbox(f"sqlite:///{tmp_path / 'link.db'}")) as outbox:
            outbox.ping()
            assert {mode_of(file) for file in (tmp_path / "data").iterdir()} == {0o600}

    def test_a_file_of_somebody_else_is_warned_about(
        self,
        outbox: Outbox,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path = tmp_path / "var" / "deeper" / "bridge.db"
        path.chmod(0o664)

        def not_the_owner(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(Path, "chmod", not_the_owner)
        with closing(Outbox(f"sqlite:///{path}")):
            pass
        assert f"{path} is open to other users; run chmod 600 on it" in caplog.text

    def test_ping_notices_that_the_tables_are_gone(self, outbox: Outbox, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "var" / "deeper" / "bridge.db")) as other:
            other.executescript("PRAGMA foreign_keys=OFF; DROP TABLE events")

        with pytest.raises(StoreUnavailable, match="no such table: events"):
            outbox.ping()

    def test_a_read_that_fails_is_unavailable(self, outbox: Outbox, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "var" / "deeper" / "bridge.db")) as other:
            other.execute("DROP TABLE attempts")

        with pytest.raises(StoreUnavailable, match=r"^the database cannot be read: no such table: attempts$"):
            outbox.attempts(1)

    def test_no_request_of_the_hot_path_reads_through_the_backlog(
        self, outbox: Outbox, tmp_path: Path
    ) -> None:
        """What is asked for each job stays quick with any number of jobs that wait or are done."""
        outbox.store(make_webhook(*items(5)))
        with executed() as statements:
            next_due(outbox)
            token, (job,) = claim_jobs(outbox)
            claim_jobs(outbox, busy={job.task_id: 1})  # its task is at its limit
            attempt = attempt_of(outbox, job)
            outbox.record(job, token, attempt, ACCEPTED, Decision(JobState.ACCEPTED, None, None))
            outbox.abandoned_claims(everything=False)
            outbox.store(make_webhook(make_job()))
            self.sight(outbox, NOW)

        asked = [one for one in statements if one[0].split()[0] in ("SELECT", "UPDATE", "WITH")]
        assert len(asked) >= 9
        with closing(sqlite3.connect(tmp_path / "var" / "deeper" / "bridge.db")) as other:
            for statement, parameters in asked:
                plan = [row[3] for row in other.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
                for step in plan:
                    assert not step.startswith(("SCAN events", "SCAN jobs", "SCAN attempts")), plan
                    # Those that are being sent are few; those that wait need not be.
                    assert "jobs_by_state" not in step or "sending" in parameters, plan
                    assert "TEMP B-TREE" not in step, plan
