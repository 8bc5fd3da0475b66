"""Pauses: the jobs of a task or a route wait until a person resumes it; nothing is lost meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, text

from bridge.core import retry
from bridge.core.attempt_result import AttemptResult
from bridge.core.job import Job, JobState, NewJob, Outcome
from bridge.core.retry import Decision, RetryPolicy
from bridge.core.secrets import Mask
from bridge.delivery import circuit_breaker
from bridge.delivery import dispatcher as deliver
from bridge.http.client import HttpClient
from bridge.outbox import pauses
from bridge.outbox.pauses import Pausable, Pause
from bridge.outbox.store import Outbox
from bridge.process.watchdog import Watchdog
from tests.support.delivery import Process, arguments, quick_client
from tests.support.intake import TASK, Intake
from tests.support.server import STATUS
from tests.support.tables import (
    NOW,
    Clock,
    attempt_of,
    claim_jobs,
    in_threads,
    make_job,
    make_table,
    make_task,
    make_webhook,
    stand_in_task,
    wait_until,
)
from tests.support.theeye import Answer, Fault, StandIn

A, B = make_task(1), make_task(2)

# Delivery goes by what the store says, and tests/store/outbox asks both kinds.
pytestmark = pytest.mark.slow_unless(url="sqlite")

#: How long the deploy freeze of these tests lasts, seconds: longer than a job is tried again.
FREEZE = 2 * 86400.0

Reopen = Callable[[], Outbox]


def store(outbox: Outbox, *jobs: NewJob) -> list[int]:
    """The ids of new jobs of one event."""
    name = f"of {jobs[0].route}, {jobs[0].task}, {jobs[0].group}, {jobs[0].arguments}"
    return [job.id for job in outbox.store(make_webhook(*jobs, delivery_id=name)).jobs]


def claimed(outbox: Outbox) -> list[int]:
    """The ids of what may be sent now; it is being sent then."""
    return [job.id for job in claim_jobs(outbox, 100)[1]]


def end(outbox: Outbox, token: str, job: Job, decision: Decision) -> None:
    attempt = attempt_of(outbox, job)
    assert outbox.record(job, token, attempt, AttemptResult(0.1, Outcome.ACCEPTED, 200, "", None), decision)


ACCEPTED = Decision(JobState.ACCEPTED, None, None)


class TestWhatWaits:
    def test_the_jobs_of_a_task_whatever_their_route(self, outbox: Outbox) -> None:
        store(outbox, make_job(task=A), make_job(task=A, route="second"))
        others = store(outbox, make_job(task=B), make_job(task=B, route="second"))
        assert outbox.pause(Pausable.TASK, A.id)

        assert claimed(outbox) == others

    def test_the_jobs_of_a_route_whatever_their_task(self, outbox: Outbox) -> None:
        store(outbox, make_job(task=A), make_job(task=B, item_key="another"))
        others = store(outbox, make_job(task=A, route="second"), make_job(task=B, route="third"))
        assert outbox.pause(Pausable.ROUTE, "first")

        assert claimed(outbox) == others

    def test_what_is_stored_meanwhile_too(self, outbox: Outbox) -> None:
        outbox.pause(Pausable.TASK, A.id)
        (made,) = store(outbox, make_job(task=A))

        assert claimed(outbox) == []
        assert outbox.job(made).state is JobState.WAITING

    def test_in_every_process(self, outbox: Outbox, reopen: Reopen) -> None:
        other = reopen()
        store(outbox, make_job(task=A))
        other.pause(Pausable.TASK, A.id)

        assert (claimed(outbox), claimed(other), claimed(reopen())) == ([], [], [])

    def test_a_task_and_a_route_of_one_name_are_two(self, outbox: Outbox) -> None:
        of_task, of_route = store(outbox, make_job(task=A), make_job(task=B, route=A.id))
        outbox.pause(Pausable.ROUTE, A.id)
        assert claimed(outbox) == [of_task]

        outbox.resume(Pausable.ROUTE, A.id)
        outbox.pause(Pausable.TASK, A.id)
        assert claimed(outbox) == [of_route]

    def test_many_that_are_paused_hide_none_that_is_not(self, outbox: Outbox) -> None:
        store(outbox, *(make_job(n, task=A, item_key=str(n)) for n in range(300)))
        last = store(outbox, make_job(task=B, route="second"))
        outbox.pause(Pausable.TASK, A.id)

        assert [job.id for job in claim_jobs(outbox, 2)[1]] == last

    def test_what_is_being_sent_comes_to_its_end(self, outbox: Outbox) -> None:
        (made,) = store(outbox, make_job(task=A))
        token, (job,) = claim_jobs(outbox)
        outbox.pause(Pausable.TASK, A.id)
        end(outbox, token, job, ACCEPTED)

        assert outbox.job(made).state is JobState.ACCEPTED

    def test_and_waits_where_it_would_be_sent_again(self, outbox: Outbox) -> None:
        (made,) = store(outbox, make_job(task=A))
        token, (job,) = claim_jobs(outbox)
        outbox.pause(Pausable.TASK, A.id)
        end(outbox, token, job, Decision(JobState.WAITING, NOW, "503"))

        assert claimed(outbox) == []
        outbox.resume(Pausable.TASK, A.id)
        assert claimed(outbox) == [made]

    def test_a_person_may_cancel_it(self, outbox: Outbox) -> None:
        (made,) = store(outbox, make_job(task=A))
        outbox.pause(Pausable.TASK, A.id)
        outbox.cancel(made)
        outbox.resume(Pausable.TASK, A.id)

        assert claimed(outbox) == []
        assert outbox.job(made).state is JobState.CANCELED


class TestGroups:
    def test_a_paused_head_holds_its_group(self, outbox: Outbox) -> None:
        """Else the order of the group were that of what is paused when."""
        (head,) = store(outbox, make_job(task=A, group="g"))
        (second,) = store(outbox, make_job(task=A, group="g", route="second"))
        (other,) = store(outbox, make_job(task=A, group="h", route="second"))
        outbox.pause(Pausable.ROUTE, "first")
        assert claimed(outbox) == [other]

        outbox.resume(Pausable.ROUTE, "first")
        token, (job,) = claim_jobs(outbox)
        end(outbox, token, job, ACCEPTED)
        assert (job.id, claimed(outbox)) == (head, [second])

    def test_a_newer_job_takes_the_place_of_paused_ones(self, outbox: Outbox) -> None:
        (first,) = store(outbox, make_job("old", task=A, group="g"))
        outbox.pause(Pausable.TASK, A.id)
        (second,) = store(outbox, make_job("new", task=A, group="g", latest=True))
        outbox.resume(Pausable.TASK, A.id)

        assert outbox.job(first).state is JobState.SKIPPED
        assert claimed(outbox) == [second]


class TestResume:
    @pytest.mark.parametrize(("kind", "name"), [(Pausable.TASK, A.id), (Pausable.ROUTE, "first")])
    def test_lets_them_go_in_their_order(self, outbox: Outbox, kind: Pausable, name: str) -> None:
        made = [store(outbox, make_job(n, task=A))[0] for n in range(3)]
        outbox.pause(kind, name)
        assert claimed(outbox) == []

        assert outbox.resume(kind, name)
        assert claimed(outbox) == made

    def test_not_what_is_paused_otherwise_too(self, outbox: Outbox) -> None:
        made = store(outbox, make_job(task=A))
        outbox.pause(Pausable.TASK, A.id)
        outbox.pause(Pausable.ROUTE, "first")
        outbox.resume(Pausable.TASK, A.id)
        assert claimed(outbox) == []

        outbox.resume(Pausable.ROUTE, "first")
        assert claimed(outbox) == made

    @pytest.mark.parametrize(("kind", "name"), [(Pausable.TASK, A.id), (Pausable.ROUTE, "first")])
    def test_the_time_for_which_they_are_tried_begins_anew(
        self, outbox: Outbox, clock: Clock, kind: Pausable, name: str
    ) -> None:
        (made,) = store(outbox, make_job(task=A))
        (other,) = store(outbox, make_job(task=B, route="second"))
        outbox.pause(kind, name)
        clock.now += FREEZE
        outbox.resume(kind, name)

        assert (outbox.job(made).retry_window_start, outbox.job(other).retry_window_start) == (
            NOW + FREEZE,
            NOW,
        )
        assert outbox.job(made).created_at == NOW

    def test_none_goes_before_it_has(
        self, outbox: Outbox, reopen: Reopen, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else it is tried for the old time, which is over, and dies on the first answer that is none."""
        for number in range(3):
            store(outbox, make_job(number, task=A))
        outbox.pause(Pausable.TASK, A.id)
        clock.now += FREEZE
        other, gone = reopen(), []
        write = outbox._database.write

        def write_and_look(work: Callable[[Connection], Any]) -> Any:
            done = write(work)
            gone.extend(claim_jobs(other, 100)[1])
            return done

        monkeypatch.setattr(outbox._database, "write", write_and_look)
        outbox.resume(Pausable.TASK, A.id)

        assert [job.retry_window_start for job in gone] == [NOW + FREEZE] * 3

    def test_the_time_begins_anew_in_batches_each_after_the_last(
        self, outbox: Outbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = [store(outbox, make_job(n, task=A))[0] for n in range(5)]
        outbox.pause(Pausable.TASK, A.id)
        clock.now += FREEZE
        restart, ends = pauses.restart_retry_windows, []

        def noted(*arguments: Any) -> int | None:
            ends.append(restart(*arguments))
            return ends[-1]

        monkeypatch.setattr(pauses, "BATCH_JOBS", 2)
        monkeypatch.setattr(pauses, "restart_retry_windows", noted)
        outbox.resume(Pausable.TASK, A.id)

        assert ends == [made[1], made[3], made[4], None]
        assert {outbox.job(each).retry_window_start for each in made} == {NOW + FREEZE}

    def test_a_job_whose_attempt_ends_meanwhile_has_its_time_too(
        self, outbox: Outbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store(outbox, make_job(task=A))
        _, (job,) = claim_jobs(outbox)
        outbox.pause(Pausable.TASK, A.id)
        clock.now += FREEZE
        resume = pauses.resume

        def late(connection: Connection, *arguments: Any) -> bool:
            connection.execute(text("UPDATE jobs SET state = 'waiting', claim_token = NULL"))
            return resume(connection, *arguments)

        monkeypatch.setattr(pauses, "resume", late)
        outbox.resume(Pausable.TASK, A.id)

        assert outbox.job(job.id).retry_window_start == NOW + FREEZE

    def test_only_of_what_waits(self, outbox: Outbox, clock: Clock) -> None:
        store(outbox, make_job(task=A))
        token, (job,) = claim_jobs(outbox)
        end(outbox, token, job, Decision(JobState.DEAD, None, "no"))
        before = outbox.job(job.id)
        outbox.pause(Pausable.TASK, A.id)
        clock.now += FREEZE
        outbox.resume(Pausable.TASK, A.id)

        assert outbox.job(job.id) == before

    def test_one_that_waits_for_its_time_waits_on(self, outbox: Outbox) -> None:
        (made,) = store(outbox, make_job(task=A))
        token, (job,) = claim_jobs(outbox)
        end(outbox, token, job, Decision(JobState.WAITING, NOW + 60, "503"))
        outbox.pause(Pausable.TASK, A.id)
        outbox.resume(Pausable.TASK, A.id)

        assert claimed(outbox) == []
        assert (outbox.job(made).due_at, outbox.job(made).reason) == (NOW + 60, "503")

    def test_of_what_is_not_paused_changes_nothing(self, outbox: Outbox, clock: Clock) -> None:
        (made,) = store(outbox, make_job(task=A))
        before = outbox.job(made)
        outbox.pause(Pausable.ROUTE, A.id)
        clock.now += FREEZE

        assert not outbox.resume(Pausable.TASK, A.id)
        assert outbox.job(made) == before
        assert len(outbox.paused()) == 1


class TestList:
    def test_nothing_at_first(self, outbox: Outbox) -> None:
        assert outbox.paused() == []

    def test_routes_and_tasks_by_their_names(self, outbox: Outbox, clock: Clock, reopen: Reopen) -> None:
        for kind, name in (
            (Pausable.TASK, "b"), (Pausable.ROUTE, "ü 'x'"), (Pausable.TASK, "a"), (Pausable.ROUTE, "a"),
        ):  # fmt: skip
            outbox.pause(kind, name)
            clock.now += 1

        assert reopen().paused() == [
            Pause(Pausable.ROUTE, "a", NOW + 3),
            Pause(Pausable.ROUTE, "ü 'x'", NOW + 1),
            Pause(Pausable.TASK, "a", NOW + 2),
            Pause(Pausable.TASK, "b", NOW),
        ]

    def test_to_pause_twice_is_to_pause_once(self, outbox: Outbox, clock: Clock, reopen: Reopen) -> None:
        assert outbox.pause(Pausable.TASK, A.id)
        clock.now += 100
        assert not reopen().pause(Pausable.TASK, A.id)

        assert outbox.paused() == [Pause(Pausable.TASK, A.id, NOW)]
        assert outbox.resume(Pausable.TASK, A.id)
        assert outbox.paused() == []
        assert not outbox.resume(Pausable.TASK, A.id)

    def test_of_two_at_once_one_was_first(self, outbox: Outbox, reopen: Reopen) -> None:
        stores = [outbox, reopen(), reopen()]
        for number in range(10):
            name = f"route {number}"
            paused = in_threads(partial(each.pause, Pausable.ROUTE, name) for each in stores)
            resumed = in_threads(partial(each.resume, Pausable.ROUTE, name) for each in stores)
            assert (sorted(paused), sorted(resumed)) == ([False, False, True], [False, False, True])

        assert outbox.paused() == []


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Watchdog], HttpClient]:
    return quick_client(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def theeye() -> Iterator[StandIn]:
    with StandIn(["acme"], [stand_in_task(task) for task in (A, B)]) as stand_in:
        yield stand_in
        stand_in.clear()


@pytest.fixture
def process(url: str, theeye: StandIn, client: Callable[[Watchdog], HttpClient]) -> Iterator[Process]:
    table = make_table(tasks=(A, B), url=theeye.url, retry=RetryPolicy(86400.0, 0.05))
    process = Process(url, table, Mask(), make_client=client)
    yield process
    process.close()


class TestDelivery:
    """A whole process that delivers, and another that pauses and resumes."""

    def test_what_another_process_resumes_is_sent(
        self, url: str, process: Process, reopen: Reopen, theeye: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # On PostgreSQL it is woken: the poll alone would come too late. SQLite wakes no other process.
        monkeypatch.setattr(deliver, "POLL_INTERVAL", 0.05 if url.startswith("sqlite") else 600.0)
        other = reopen()
        other.pause(Pausable.TASK, A.id)
        process.start()
        paused = process.send("paused", A)
        process.wait_for(process.send("not", B), JobState.ACCEPTED)
        assert process.job(paused).state is JobState.WAITING
        assert arguments(theeye) == ["not"]

        other.resume(Pausable.TASK, A.id)
        process.wait_for(paused, JobState.ACCEPTED)
        assert arguments(theeye) == ["not", "paused"]

    def test_while_jobs_wait_the_store_is_not_asked_without_end(
        self, process: Process, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They are due all the time, and cannot be claimed."""
        monkeypatch.setattr(deliver, "POLL_INTERVAL", 600.0)
        process.outbox.pause(Pausable.TASK, A.id)
        process.start()
        process.send("paused", A)
        process.wait_for(process.send("not", B), JobState.ACCEPTED)
        wait_until(lambda: process.outbox.calls["record"])

        # Once at the start, and for each of: two that were stored, one thread that came free.
        assert process.outbox.calls["claim"] <= 4

    def test_the_first_outage_after_a_long_pause_ends_no_job(
        self, process: Process, theeye: StandIn, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retry, "FIRST_WAIT", 0.01)
        monkeypatch.setattr(circuit_breaker, "MIN_PROBE_WAIT", 0.02)
        process.outbox.pause(Pausable.TASK, A.id)
        made = process.send("paused", A)
        process.clock.offset = FREEZE
        process.outbox.resume(Pausable.TASK, A.id)
        theeye.fault(Fault(answer=Answer(503, b"later"), method="POST", times=1))
        process.start()

        process.wait_for(made, JobState.ACCEPTED, JobState.DEAD)
        assert process.outcomes(made) == [Outcome.UNAVAILABLE, Outcome.ACCEPTED]


class TestReadiness:
    TABLE = """
sources:
  open: {type: generic, allow_unsigned: true}
tasks:
  deploy: {id: TASK, secret_key: KEY}
routes:
  - {name: any, source: open, task: deploy, task_arguments: []}
"""

    def trouble(self, intake: Intake) -> list[str]:
        response = intake.app().test_client().get("/readyz", headers=STATUS)
        assert response.status_code == 200
        body: dict[str, Any] = orjson.loads(response.data)
        assert body["ready"]
        found: list[str] = [each for each in body.get("trouble", []) if "paused" in each]
        return found

    def test_it_says_what_is_paused_since_when(self, tmp_path: Path, url: str) -> None:
        intake = Intake(self.TABLE, tmp_path, url=url)
        assert self.trouble(intake) == []
        intake.clock.now = NOW
        intake.outbox.pause(Pausable.TASK, TASK)
        intake.outbox.pause(Pausable.ROUTE, "any")
        intake.outbox.pause(Pausable.TASK, "5f3c9a7be4b0a1c2d3e4f599")

        since = "has been paused since 2023-11-14T22:13:20Z: its jobs wait for `resume`"
        assert self.trouble(intake) == [
            f"route any {since}",
            f"task 5f3c9a7be4b0a1c2d3e4f599 {since}",
            f"task deploy ({TASK}) {since}",
        ]
        for kind, name in ((Pausable.TASK, TASK), (Pausable.ROUTE, "any")):
            intake.outbox.resume(kind, name)
        assert self.trouble(intake) == [f"task 5f3c9a7be4b0a1c2d3e4f599 {since}"]
        intake.close()
