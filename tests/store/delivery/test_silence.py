"""expect_every and on_silence: a source that sends nothing, or a route that creates no job, for too long."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from bridge.core.event import rfc3339
from bridge.core.job import JobState
from bridge.core.secrets import Mask
from bridge.delivery import dispatcher
from bridge.outbox import expectations
from bridge.process.settings import Retention
from bridge.routing.silence import OnSilence, Watched
from tests.support.delivery import Process, quick_client
from tests.support.forked import Forked
from tests.support.intake import TASK, VARIABLES, Intake
from tests.support.server import STATUS_TOKEN
from tests.support.tables import PATIENCE, in_threads, make_task, stand_in_task, wait_until
from tests.support.terminal import Terminal
from tests.support.theeye import StandIn

HOUR, DAY = 3600.0, 86400.0

TABLE = """
sources:
  backup: {type: generic, allow_unsigned: true, dedupe: 10m, expect_every: 26h}
  other: {type: generic, allow_unsigned: true, dedupe: off}
tasks:
  page: {id: TASK, secret_key: KEY}
routes:
  - {name: nightly, source: other, match: {payload.n: 1}, expect_every: 2h, task: page, task_arguments: [a]}
  - {name: any, source: backup, task: page, task_arguments: [any]}
on_silence:
  task: page
  task_arguments: ["${{ payload.route or payload.source }} since ${{ payload.silent_since }}"]
"""

#: Its argument reads a field that the event does not have.
BROKEN = TABLE.replace("payload.silent_since", "payload.nothing")


@pytest.fixture
def make(tmp_path: Path, url: str) -> Iterator[Callable[..., Intake]]:
    """Makes processes on one store, each with its own clock."""
    made: list[Intake] = []

    def make(text: str = TABLE, now: float | None = None) -> Intake:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Intake(text, folder, url=url))
        made[-1].clock.now = made[-1].clock.now if now is None else now
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(autouse=True)
def _one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.outbox.rates.store_time", lambda connection, here: here)


@pytest.fixture
def intake(make: Callable[..., Intake]) -> Intake:
    """A process that has begun to watch."""
    intake = make()
    assert check(intake) == []
    return intake


def check(intake: Intake) -> list[str]:
    """What one look for silences reports."""
    return [each.name for each in intake.outbox.expectations.alert(intake.table.on_silence)]


def alerts(intake: Intake) -> list[Any]:
    """The arguments of the jobs of on_silence, oldest first."""
    return [job.arguments for job in intake.outbox.jobs(route=OnSilence.NAME)[::-1]]


def send(intake: Intake, source: str = "backup", **payload: int) -> None:
    intake.post(source, json.dumps(payload).encode())


def watched(intake: Intake, name: str = "source backup") -> Watched:
    (found,) = [each for each in intake.outbox.expectations.watched() if each.name == name]
    return found


class TestWhatIsReported:
    def test_a_source_without_a_webhook(self, intake: Intake) -> None:
        send(intake)
        seen = intake.clock.now
        intake.clock.now += 26 * HOUR
        send(intake, "other", n=1)
        assert check(intake) == []
        intake.clock.now += 1
        assert check(intake) == ["source backup"]

        (job,) = intake.outbox.jobs(route=OnSilence.NAME)
        assert (job.state, job.task_id, job.due_at) == (JobState.WAITING, TASK, intake.clock.now)
        assert job.arguments == (f"backup since {rfc3339(seen)}",)
        event = intake.outbox.event(job.event_id)
        assert (event.source, event.full_name, event.received_at) == ("(bridge)", "silence", intake.clock.now)
        assert event.payload == {
            "source": "backup",
            "route": None,
            "expect_every": "26h",
            "last_seen_at": rfc3339(seen),
            "silent_since": rfc3339(seen),
        }

    def test_a_route_without_a_job_although_its_source_sends(self, intake: Intake) -> None:
        send(intake, "other", n=1)
        seen = intake.clock.now
        intake.clock.now += 2 * HOUR + 1
        send(intake, "other", n=2)
        assert check(intake) == ["route 'nightly'"]
        assert alerts(intake) == [(f"nightly since {rfc3339(seen)}",)]

    def test_one_that_was_never_seen_counts_from_its_first_expectation(self, intake: Intake) -> None:
        since = intake.clock.now
        intake.clock.now += 27 * HOUR
        check(intake)
        event = intake.outbox.event(intake.outbox.jobs(route=OnSilence.NAME)[0].event_id)
        assert {event.payload["source"], event.payload["last_seen_at"]} <= {"backup", "other", None}
        assert event.payload["silent_since"] == rfc3339(since)

    def test_restarts_do_not_begin_it_again(self, make: Callable[..., Intake]) -> None:
        """A process that restarts every hour still reports the silence."""
        now = make().clock.now
        reports = [check(make(now=now + hour * HOUR)) for hour in range(28)]
        assert [hour for hour, report in enumerate(reports) if "source backup" in report] == [27]

    def test_a_duplicate_counts_for_the_source(self, intake: Intake) -> None:
        """A heartbeat with the same body each time, within the time of dedupe."""
        send(intake)
        intake.clock.now += 300
        send(intake)
        assert intake.rows()[0] == 1
        assert watched(intake).seen_at == intake.clock.now

    def test_a_route_whose_event_created_no_new_job_is_not_seen(self, intake: Intake) -> None:
        send(intake, "other", n=2)
        assert watched(intake, "route 'nightly'").seen_at is None

    def test_an_argument_that_cannot_be_built_makes_a_dead_job(self, make: Callable[..., Intake]) -> None:
        intake = make(BROKEN)
        check(intake)
        intake.clock.now += 27 * HOUR
        check(intake)
        jobs = intake.outbox.jobs(route=OnSilence.NAME)
        assert {job.state for job in jobs} == {JobState.DEAD}
        assert "payload.nothing is missing" in str(jobs[0].reason)


class TestOnce:
    def test_a_silence_is_reported_once_and_a_new_one_again(self, intake: Intake) -> None:
        send(intake)
        for _ in range(3):
            intake.clock.now += 27 * HOUR
            check(intake)
        assert len([each for each in alerts(intake) if "backup" in each[0]]) == 1
        send(intake)
        assert not watched(intake).is_alerted
        intake.clock.now += 26 * HOUR
        check(intake)
        assert len([each for each in alerts(intake) if "backup" in each[0]]) == 1
        intake.clock.now += 1
        check(intake)
        assert len([each for each in alerts(intake) if "backup" in each[0]]) == 2

    def test_also_after_retention_has_deleted_the_event(self, intake: Intake) -> None:
        intake.clock.now += 27 * HOUR
        assert len(check(intake)) == 2
        for job in intake.jobs():
            intake.outbox.cancel(job.id)
        intake.clock.now += 400 * DAY
        assert intake.outbox.prune(Retention(DAY, DAY), lambda: False).events == 2
        assert check(intake) == []

    def test_by_many_processes_at_once(self, make: Callable[..., Intake]) -> None:
        processes = [make() for _ in range(4)]
        check(processes[0])
        for lap in range(1, 6):
            for each in processes:
                each.clock.now += 27 * HOUR
            found = in_threads([partial(check, each) for each in processes])
            assert sorted(name for report in found for name in report) == ["route 'nightly'", "source backup"]
            assert len(alerts(processes[0])) == 2 * lap
            send(processes[0])
            send(processes[0], "other", n=1)

    def test_a_webhook_that_arrives_meanwhile_wins(self, make: Callable[..., Intake]) -> None:
        """A process read the store before the webhook was stored."""
        one, other = make(), make()
        check(one)
        for each in (one, other):
            each.clock.now += 27 * HOUR
        late = watched(one)
        send(other)
        assert one.table.on_silence is not None
        on_silence = one.table.on_silence
        write = one.outbox._database.write
        assert not write(lambda connection: expectations.alert(connection, on_silence, late))
        assert alerts(one) == []

    @pytest.mark.parametrize("url", ["sqlite"], indirect=True)
    def test_a_process_that_is_killed_before_the_commit_leaves_it_to_another(
        self, url: str, tmp_path: Path
    ) -> None:
        self.assert_one_alert(url, tmp_path, kill=True)

    def test_by_processes_of_the_operating_system(self, url: str, tmp_path: Path) -> None:
        self.assert_one_alert(url, tmp_path, kill=False)

    def assert_one_alert(self, url: str, tmp_path: Path, *, kill: bool) -> None:
        """Three processes look at the same moment; with `kill` the first one alone, and before them."""
        intake = Intake(TABLE.replace("26h", "1m").replace("2h", "1d"), tmp_path, url=url)
        with closing(intake):
            intake.clock.now = 1_000_000_000.0  # long ago for the processes, whose clock is the real one
            check(intake)
            intake.outbox.expectations.use([])
            if kill:
                (process,) = self.start(url, tmp_path, 1, "kill")
                assert process.wait(PATIENCE) == -9
                assert alerts(intake) == []
            processes = self.start(url, tmp_path, 3)
            assert [each.wait(PATIENCE) for each in processes] == [0] * 3
            made = sorted((tmp_path / f"output-{n}").read_text().split()[-1] for n in range(3))
            assert made == ["0", "0", "2"] or made == ["0", "1", "1"]
            assert len(alerts(intake)) == 2

    @staticmethod
    def start(url: str, folder: Path, number: int, *more: str) -> list[Forked]:
        """Processes that pass the gate at the same moment."""
        gate = folder / f"gate-{number}"
        outputs = [folder / f"output-{n}" for n in range(number)]
        module = "tests.support.alert_silence"
        command = [sys.executable, "-m", module, str(gate), url, str(folder / "table.yml"), *more]
        processes = [Forked(command, Path(__file__).parents[3], {}, output) for output in outputs]
        wait_until(lambda: all(each.exists() and each.read_text() for each in outputs), "the start")
        gate.touch()
        return processes


class TestTable:
    def test_without_on_silence_nothing_is_created(self, make: Callable[..., Intake]) -> None:
        intake = make(TABLE.partition("on_silence")[0])
        check(intake)
        intake.clock.now += 27 * HOUR
        assert check(intake) == []
        assert intake.rows() == (0, 0)
        assert {each.name for each in intake.outbox.expectations.watched() if each.is_overdue} == {
            "route 'nightly'", "source backup"
        }  # fmt: skip
        intake.use(TABLE)
        assert sorted(check(intake)) == ["route 'nightly'", "source backup"]

    def test_an_expectation_that_was_away_begins_anew(self, intake: Intake) -> None:
        """Nobody noted meanwhile when it was seen."""
        intake.use(TABLE.replace(", expect_every: 26h", ""))
        check(intake)
        assert [each.name for each in intake.outbox.expectations.watched()] == ["route 'nightly'"]
        intake.clock.now += 27 * HOUR
        send(intake)
        intake.use(TABLE)
        assert check(intake) == ["route 'nightly'"]
        assert watched(intake).since == intake.clock.now

    def test_the_first_and_the_last_webhook_are_noted_and_few_of_those_between(self, intake: Intake) -> None:
        start = intake.clock.now
        for tenth in range(25):
            intake.clock.now = start + tenth / 10
            send(intake, n=tenth)
        assert 2.1 < (watched(intake).seen_at or 0.0) - start < 2.3


class TestReadyz:
    def test_names_what_is_silent_since_when_and_what_to_do(self, intake: Intake) -> None:
        client: FlaskClient = intake.app().test_client()
        headers = {"Authorization": f"Bearer {STATUS_TOKEN}"}
        assert "received no webhook" not in client.get("/readyz", headers=headers).text
        since = rfc3339(intake.clock.now)[:19]
        intake.clock.now += 26 * HOUR + 1
        trouble = client.get("/readyz", headers=headers).get_json()["trouble"]
        route, source = [each for each in trouble if "expected every" in each]
        assert source == (
            f"source backup has received no webhook since {since}Z, expected every 26h: check its webhook at "
            "the sender, and `events list --refused`"
        )
        assert route == (
            f"route 'nightly' has created no job since {since}Z, expected every 2h: run `explain` with the "
            "last event of its source"
        )


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
class TestCommands:
    @pytest.fixture
    def terminal(self, make: Callable[..., Intake], url: str, tmp_path: Path) -> Terminal:
        intake = make(BROKEN)
        check(intake)
        intake.clock.now += 3 * HOUR
        assert check(intake) == ["route 'nightly'"]
        config = tmp_path / "commands"
        config.mkdir()
        terminal = Terminal(config, (tmp_path / "0" / "table.yml").read_text().replace("nothing", "source"))
        terminal.environ = {**terminal.environ, **VARIABLES, "DATABASE_URL": url}
        return terminal

    def test_show_the_event_and_the_job(self, terminal: Terminal) -> None:
        assert "(bridge) silence  1 job  route 'nightly' since" in terminal.run("events", "list").stdout
        assert '"expect_every": "2h"' in terminal.run("events", "show", "1").stdout
        assert "by route 'on_silence' from event 1" in terminal.run("jobs", "show", "1").stdout
        assert terminal.run("jobs", "list", "--route", "on_silence").exit_code == 0

    def test_retry_builds_the_job_by_todays_table(
        self, terminal: Terminal, make: Callable[..., Intake]
    ) -> None:
        result = terminal.run("jobs", "retry", "1")
        assert (result.exit_code, result.output) == (0, "job 1 is waiting to be sent\n")
        assert make().outbox.job(1).arguments == ("nightly since other",)

    def test_explain_and_replay_say_that_no_route_reads_it(self, terminal: Terminal) -> None:
        result = terminal.run("explain", "1")
        assert (result.exit_code, result.output) == (
            1, "Error: event 1 reports a silence: on_silence creates its job, and no route\n"
        )  # fmt: skip
        result = terminal.run("events", "replay", "1")
        assert (result.exit_code, result.output) == (1, "event 1: the table has no source '(bridge)'\n")

    def test_preview_does_not_compare_it(self, terminal: Terminal) -> None:
        result = terminal.run("preview", "--fail-on-change")
        assert result.exit_code == 0
        assert "compared 0 events" in result.output


@pytest.mark.slow_unless(url="sqlite")
def test_a_delivering_process_reports_a_silence(
    url: str, tmp_path: Path, make: Callable[..., Intake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "POLL_INTERVAL", 0.05)
    monkeypatch.setattr(dispatcher, "REPAIR_INTERVAL", 0.1)
    table = make().table
    task = replace(make_task(), id=TASK)
    with StandIn(["acme"], [stand_in_task(task, secret_key=VARIABLES["TASK_KEY"])]) as theeye:
        table = replace(table, theeye=replace(table.theeye, url=theeye.url))
        with closing(Process(url, table, Mask(), make_client=quick_client(tmp_path))) as process:
            process.outbox.expectations.use(table.expectations)
            process.start()
            wait_until(lambda: len(process.outbox.expectations.watched()) == 2, "the first look")
            assert theeye.jobs == ()
            process.clock.offset = 3 * HOUR
            (job,) = theeye.wait_for(1)
            assert str(job.values[0]).startswith("nightly since ")
