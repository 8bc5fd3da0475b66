"""Deaths and on_dead: somebody is told of jobs that died, once a route and hour, by a job of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from click.testing import CliRunner, Result

from bridge.cli import main
from bridge.core.attempt_result import AttemptResult
from bridge.core.event import rfc3339
from bridge.core.job import Job, JobState, Outcome
from bridge.core.retry import Decision
from bridge.core.secrets import Mask
from bridge.delivery import dispatcher as deliver
from bridge.expressions.expression import Language
from bridge.outbox.dead_job_alerts import ALERT_INTERVAL, MAX_AGE
from bridge.outbox.store import Outbox
from bridge.routing.route import Argument, OnDead
from tests.support.delivery import Process, quick_client
from tests.support.tables import (
    NOW,
    Clock,
    attempt_of,
    claim_jobs,
    dead_job,
    in_threads,
    make_job,
    make_table,
    make_task,
    make_webhook,
    stand_in_task,
    wait_until,
)
from tests.support.theeye import Answer, Fault, StandIn

TASK, CHAT, OTHER = make_task(1), make_task(2), make_task(3)

# Delivery goes by what the store says, and tests/store/outbox asks both kinds.
pytestmark = pytest.mark.slow_unless(url="sqlite")

REFUSED = AttemptResult(0.5, Outcome.REFUSED, 403, "403 invalid secret", None)
LOST = AttemptResult(5.0, Outcome.UNKNOWN, None, "no answer within 5 s", None)


def telling(*texts: str) -> OnDead:
    """An on_dead with these arguments."""
    language = Language()
    return OnDead(
        CHAT,
        tuple(
            Argument(f"argument {order + 1}", language.template(text, OnDead.NAMES))
            for order, text in enumerate(texts)
        ),
    )


#: Whose on_dead has another task than when the job died.
TABLE = f"""
theeye: {{customer: acme}}
sources: {{github: {{secret: "${{{{ env.SECRET }}}}"}}}}
tasks: {{chat: {{id: {OTHER.id}, secret_key: "${{{{ env.KEY }}}}"}}}}
routes: [{{source: github, task: chat}}]
"""

ON_DEAD = telling("${{ job.route }}: ${{ job.reason }}", "${{ job.id }}", "${{ dead }}")


def die(outbox: Outbox, delivery: str, route: str = "first", reason: str = "no") -> int:
    """The id of a new job that could not be built."""
    stored = outbox.store(make_webhook(dead_job(reason, route=route), delivery_id=delivery))
    return stored.jobs[0].id


def end(outbox: Outbox, job_id: int, done: AttemptResult, decision: Decision) -> None:
    """One attempt of the one job that waits, with this end."""
    token, (job,) = claim_jobs(outbox)
    assert job.id == job_id
    attempt = attempt_of(outbox, job)
    assert outbox.record(job, token, attempt, done, decision)


def tellings(outbox: Outbox) -> list[Job]:
    """The jobs that tell, oldest first."""
    return outbox.jobs(route=OnDead.NAME)[::-1]


def said(outbox: Outbox) -> list[Any]:
    """Their arguments."""
    return [job.arguments for job in tellings(outbox)]


class TestWhatIsTold:
    def test_of_a_job_that_could_not_be_built(self, outbox: Outbox) -> None:
        dead = die(outbox, "1", reason="argument 1: payload.x is missing")

        assert outbox.create_dead_job_alerts(ON_DEAD) == 1

        (job,) = tellings(outbox)
        assert (job.state, job.due_at, job.event_id) == (JobState.WAITING, NOW, outbox.job(dead).event_id)
        assert (job.task_id, job.task, job.item_index) == (CHAT.id, CHAT.name, None)
        assert job.arguments == ("first: argument 1: payload.x is missing", dead, 1)

    @pytest.mark.parametrize("reason", ["refused: 403 invalid secret", "gave up after 86400 s: 503"])
    def test_of_one_that_was_refused_or_given_up(self, outbox: Outbox, reason: str) -> None:
        job_id = outbox.store(make_webhook(make_job())).jobs[0].id
        end(outbox, job_id, REFUSED, Decision(JobState.DEAD, None, reason))
        assert outbox.create_dead_job_alerts(ON_DEAD) == 1
        assert said(outbox) == [(f"first: {reason}", job_id, 1)]

    def test_of_one_whose_task_is_in_no_table(self, outbox: Outbox) -> None:
        job_id = outbox.store(make_webhook(make_job())).jobs[0].id
        token, (job,) = claim_jobs(outbox, starts=False)
        outbox.end_unsent(job, token, JobState.DEAD, "this process's table has no task x")
        assert outbox.create_dead_job_alerts(ON_DEAD) == 1
        assert said(outbox) == [("first: this process's table has no task x", job_id, 1)]

    def test_of_nothing_that_is_not_dead(self, outbox: Outbox) -> None:
        (lost,) = outbox.store(make_webhook(make_job(), delivery_id="1")).jobs
        end(outbox, lost.id, LOST, Decision(JobState.UNKNOWN, None, "lost"))
        more = [outbox.store(make_webhook(make_job(), delivery_id=f"next {n}")) for n in range(4)]
        token, claimed = claim_jobs(outbox, 2, starts=False)
        outbox.end_unsent(claimed[0], token, JobState.SKIPPED, "dry run")
        outbox.cancel(more[-1].jobs[0].id)
        assert set(outbox.counts()) == {
            JobState.UNKNOWN, JobState.SKIPPED, JobState.SENDING, JobState.WAITING, JobState.CANCELED,
        }  # fmt: skip
        assert outbox.create_dead_job_alerts(ON_DEAD) == 0

    def test_of_no_death_that_a_person_or_the_sender_has_undone(self, outbox: Outbox) -> None:
        outbox.retry(die(outbox, "1"), make_job())
        outbox.cancel(die(outbox, "2"))
        assert outbox.create_dead_job_alerts(ON_DEAD) == 0

    def test_never_of_a_job_that_tells(self, outbox: Outbox, clock: Clock) -> None:
        die(outbox, "1")
        outbox.create_dead_job_alerts(ON_DEAD)
        (job,) = tellings(outbox)
        end(outbox, job.id, REFUSED, Decision(JobState.DEAD, None, "refused"))
        for _ in range(5):
            clock.now += ALERT_INTERVAL
            assert outbox.create_dead_job_alerts(ON_DEAD) == 0

    def test_nor_of_one_that_cannot_be_built(self, outbox: Outbox, clock: Clock) -> None:
        die(outbox, "1")
        assert outbox.create_dead_job_alerts(telling("${{ job.route.x }}")) == 1
        (job,) = tellings(outbox)
        assert (job.state, job.arguments) == (JobState.DEAD, None)
        assert str(job.reason).startswith("argument 1: job.route.x is missing")
        clock.now += ALERT_INTERVAL
        assert outbox.create_dead_job_alerts(ON_DEAD) == 0

    def test_what_its_arguments_can_read(self, outbox: Outbox, clock: Clock) -> None:
        new = dead_job("why", route="page", item_key="i", item_index=3)
        (stored,) = outbox.store(make_webhook(new)).jobs
        clock.now += 7

        outbox.create_dead_job_alerts(telling("${{ job }}"))

        dead = outbox.job(stored.id)
        assert said(outbox) == [
            (
                {
                    "id": dead.id,
                    "event": dead.event_id,
                    "route": "page",
                    "task": TASK.name,
                    "task_id": TASK.id,
                    "item": 3,
                    "reason": "why",
                    "created_at": rfc3339(NOW),
                },
            )
        ]

    def test_a_job_that_tells_wakes_delivery(self, outbox: Outbox) -> None:
        woken: list[str] = []
        die(outbox, "1")
        outbox.listen(lambda: woken.append("woken"))
        outbox.create_dead_job_alerts(telling("${{ job.gone }}"))
        assert woken == []
        die(outbox, "2", route="second")
        outbox.create_dead_job_alerts(ON_DEAD)
        assert woken == ["woken"]


class TestHowOften:
    def test_once_a_route(self, outbox: Outbox) -> None:
        ids = {route: die(outbox, route, route) for route in ("a", "b", "c")}
        assert outbox.create_dead_job_alerts(ON_DEAD) == 3
        assert sorted(said(outbox)) == [(f"{route}: no", job_id, 1) for route, job_id in ids.items()]
        assert outbox.create_dead_job_alerts(ON_DEAD) == 0

    def test_of_many_the_newest_and_how_many(self, outbox: Outbox) -> None:
        dead = [die(outbox, str(number), reason=f"no {number}") for number in range(7)]
        assert outbox.create_dead_job_alerts(ON_DEAD) == 1
        assert said(outbox) == [("first: no 6", dead[-1], 7)]

    def test_what_dies_within_the_hour_is_told_after_it(self, outbox: Outbox, clock: Clock) -> None:
        die(outbox, "1")
        outbox.create_dead_job_alerts(ON_DEAD)
        for minutes in (0.01, 20, 59):
            clock.now = NOW + 60 * minutes
            last = die(outbox, f"after {minutes} minutes")
            assert outbox.create_dead_job_alerts(ON_DEAD) == 0
        other = die(outbox, "of another route", "second")
        assert outbox.create_dead_job_alerts(ON_DEAD) == 1
        clock.now = NOW + ALERT_INTERVAL - 1
        assert outbox.create_dead_job_alerts(ON_DEAD) == 0

        clock.now = NOW + ALERT_INTERVAL
        assert outbox.create_dead_job_alerts(ON_DEAD) == 1

        assert said(outbox)[1:] == [("second: no", other, 1), ("first: no", last, 3)]

    def test_where_nothing_died_since_nothing_is_told(self, outbox: Outbox, clock: Clock) -> None:
        die(outbox, "1")
        for _ in range(4):
            outbox.create_dead_job_alerts(ON_DEAD)
            clock.now += ALERT_INTERVAL / 2
        assert len(tellings(outbox)) == 1

    def test_each_hour_has_its_telling(self, outbox: Outbox, clock: Clock) -> None:
        for hour in range(4):
            clock.now = NOW + hour * ALERT_INTERVAL
            die(outbox, str(hour))
            assert outbox.create_dead_job_alerts(ON_DEAD) == 1
        assert [arguments[2] for arguments in said(outbox)] == [1, 1, 1, 1]

    def test_one_that_dies_again_is_told_again(self, outbox: Outbox, clock: Clock) -> None:
        job_id = die(outbox, "1")
        outbox.create_dead_job_alerts(ON_DEAD)
        clock.now = NOW + 60
        outbox.retry(job_id, make_job())
        waiting = [job.id for job in tellings(outbox)]
        outbox.cancel(waiting[0])
        end(outbox, job_id, REFUSED, Decision(JobState.DEAD, None, "refused"))
        clock.now = NOW + ALERT_INTERVAL
        assert outbox.create_dead_job_alerts(ON_DEAD) == 1
        assert said(outbox)[1] == ("first: refused", job_id, 1)

    def test_what_died_while_nobody_delivered_is_told_then(self, outbox: Outbox, clock: Clock) -> None:
        """Such as at intake, while the only worker was down for a night."""
        dead = die(outbox, "1")
        clock.now = NOW + 10 * 3600
        assert outbox.create_dead_job_alerts(ON_DEAD) == 1
        assert said(outbox) == [("first: no", dead, 1)]

    def test_what_died_long_ago_is_told_no_more(self, outbox: Outbox, clock: Clock) -> None:
        """Such as what died before there was an on_dead."""
        die(outbox, "1", "old")
        clock.now = NOW + MAX_AGE - 1
        die(outbox, "2", "new")
        clock.now = NOW + MAX_AGE
        assert outbox.create_dead_job_alerts(ON_DEAD) == 1
        assert [arguments[0] for arguments in said(outbox)] == ["new: no"]

    def test_one_that_is_committed_after_a_later_telling_is_told_in_the_next(
        self, outbox: Outbox, clock: Clock
    ) -> None:
        """Its time was taken before it had to wait for the store; or its clock is behind."""
        clock.now = NOW + 1
        die(outbox, "1")
        outbox.create_dead_job_alerts(ON_DEAD)
        clock.now = NOW
        late = die(outbox, "2")
        clock.now = NOW + 1 + ALERT_INTERVAL
        assert outbox.create_dead_job_alerts(ON_DEAD) == 1
        assert said(outbox)[1] == ("first: no", late, 1)

    def test_one_that_died_by_a_clock_ahead_is_told_once(self, outbox: Outbox, clock: Clock) -> None:
        clock.now = NOW + 5
        die(outbox, "1")
        clock.now = NOW
        assert outbox.create_dead_job_alerts(ON_DEAD) == 1
        clock.now = NOW + ALERT_INTERVAL
        assert outbox.create_dead_job_alerts(ON_DEAD) == 0

    def test_a_telling_by_a_clock_that_was_set_back_silences_nobody(
        self, outbox: Outbox, clock: Clock
    ) -> None:
        clock.now = NOW + 86_400
        die(outbox, "1")
        outbox.create_dead_job_alerts(ON_DEAD)
        clock.now = NOW
        die(outbox, "2")
        assert outbox.create_dead_job_alerts(ON_DEAD) == 1
        die(outbox, "3")
        assert outbox.create_dead_job_alerts(ON_DEAD) == 0

    def test_processes_that_find_the_same_at_once_tell_once(
        self, outbox: Outbox, reopen: Callable[[], Outbox]
    ) -> None:
        """While more die. Without the lock each finds that nobody was told, and tells of its own."""
        stores = [outbox, reopen(), reopen()] * 2

        def die_and_tell(sender: int, number: int) -> int:
            die(stores[sender], f"{number}.{sender}", f"route {number}")
            return stores[sender].create_dead_job_alerts(ON_DEAD)

        for number in range(10):
            works = [partial(die_and_tell, sender, number) for sender in range(len(stores))]
            assert sum(in_threads(works)) == 1
        assert len(tellings(outbox)) == 10


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_what_was_told_is_not_read_through_each_time(outbox: Outbox, tmp_path: Path) -> None:
    """It is asked every few seconds, beside any number of dead jobs that a person has not looked at."""
    die(outbox, "1")
    statements: list[tuple[str, Any]] = []

    def note(_c: object, _u: object, statement: str, parameters: Any, *_: object) -> None:
        if "alerted" in statement and not statement.startswith("INSERT"):
            statements.append((statement, parameters))

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", note)
    try:
        outbox.create_dead_job_alerts(ON_DEAD)
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", note)

    assert len(statements) >= 2
    with closing(sqlite3.connect(tmp_path / "bridge.db")) as other:
        for statement, parameters in statements:
            plan = [row[3] for row in other.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            (search,) = (step for step in plan if " jobs " in step)
            wanted = "(state=? AND ended_at>?)" if "ended_at >" in statement else "(rowid=?)"
            assert search.endswith(wanted), plan


class TestAskedForAgain:
    """A job that tells and died itself."""

    @pytest.fixture
    def dead(self, outbox: Outbox) -> Job:
        die(outbox, "1", reason="another")
        die(outbox, "2", reason="why")
        outbox.create_dead_job_alerts(ON_DEAD)
        (job,) = tellings(outbox)
        end(outbox, job.id, REFUSED, Decision(JobState.DEAD, None, "refused"))
        return outbox.job(job.id)

    @pytest.fixture
    def retry(self, url: str, tmp_path: Path) -> Callable[[int, str], Result]:
        """Calls `jobs retry` under a table with this on_dead."""

        def retry(job_id: int, on_dead: str) -> Result:
            config = tmp_path / "table.yml"
            config.write_text(TABLE + on_dead, "utf-8")
            environ = {"BRIDGE_CONFIG": str(config), "DATABASE_URL": url}
            return CliRunner().invoke(main, ["jobs", "retry", str(job_id)], env=environ)

        return retry

    def test_by_a_person_it_is_built_anew(
        self, outbox: Outbox, dead: Job, retry: Callable[[int, str], Result]
    ) -> None:
        result = retry(
            dead.id, 'on_dead: {task: chat, task_arguments: ["today: ${{ job.reason }}", "${{ dead }}"]}\n'
        )

        assert (result.exit_code, result.output) == (0, f"job {dead.id} is waiting to be sent\n")
        after = outbox.job(dead.id)
        assert (after.state, after.arguments) == (JobState.WAITING, ("today: why", 2))
        assert (after.task_id, after.task) == (OTHER.id, "chat")
        assert len(tellings(outbox)) == 1

    def test_where_the_table_has_no_on_dead_it_stays_dead(
        self, outbox: Outbox, dead: Job, retry: Callable[[int, str], Result]
    ) -> None:
        result = retry(dead.id, "")
        assert result.exit_code == 1
        assert result.output.startswith(f"job {dead.id} stays dead: refused; not retried: its route")
        assert outbox.job(dead.id).state is JobState.DEAD

    def test_by_the_sender_it_is_left_alone(self, outbox: Outbox, dead: Job) -> None:
        """What comes again are the event's own jobs."""
        outbox.store(make_webhook(dead_job(), delivery_id="1"))
        assert outbox.job(dead.id) == dead


class TestDelivery:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(deliver, "POLL_INTERVAL", 0.05)

    @pytest.fixture
    def theeye(self) -> Iterator[StandIn]:
        tasks = [stand_in_task(TASK), stand_in_task(CHAT, arguments=2)]
        with StandIn(["acme"], tasks) as stand_in:
            yield stand_in

    @pytest.fixture
    def process(self, url: str, theeye: StandIn, tmp_path: Path) -> Iterator[Process]:
        on_dead = telling("${{ job.route }}: ${{ job.reason }}", "${{ dead }}")
        table = replace(make_table(tasks=(TASK, CHAT), url=theeye.url), on_dead=on_dead)
        mask = Mask(task.secret_key for task in (TASK, CHAT) if task.secret_key is not None)
        with closing(Process(url, table, mask, make_client=quick_client(tmp_path))) as process:
            yield process.start()

    def test_tells_within_seconds(self, process: Process, theeye: StandIn) -> None:
        theeye.fault(Fault(answer=Answer(403, b'"invalid secret"'), task_id=TASK.id))
        refused = process.store(make_job("main", route="deploy"))
        unbuilt = process.store(dead_job("payload.x is missing", route="page"))

        told = {job.values[0]: job.values[1] for job in theeye.wait_for(2)}

        (why,) = {process.job(job_id).reason for job_id in refused}
        assert "invalid secret" in str(why)
        assert set(map(str, told)) == {f"deploy: {why}", "page: payload.x is missing"}
        assert set(map(str, told.values())) == {"1"}
        for job in tellings(process.outbox):
            process.wait_for(job.id, JobState.ACCEPTED)
        assert {process.job(job_id).state for job_id in (*refused, *unbuilt)} == {JobState.DEAD}

    def test_tells_nothing_of_itself(self, process: Process, theeye: StandIn) -> None:
        theeye.fault(Fault(answer=Answer(403, b'"invalid secret"')))
        process.store(dead_job())
        wait_until(lambda: process.outbox.counts() == {JobState.DEAD: 2}, "the death of the job that tells")
        rounds = process.outbox.calls["abandoned_claims"]
        wait_until(lambda: process.outbox.calls["abandoned_claims"] > rounds + 5, "more rounds")
        assert process.outbox.counts() == {JobState.DEAD: 2}
