"""A worker that is stopped past its lease and goes on: what it then says of its job comes too late."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import update

from bridge.core.job import Attempt, Job, JobState, Outcome
from bridge.outbox import session, sqlite
from bridge.outbox.schema import jobs
from bridge.outbox.store import Outbox
from bridge.outbox.writer import WRITES_OPTION
from tests.support.pushes import VARIABLES, push, stand_in, write_table
from tests.support.server import Server, Worker
from tests.support.tables import wait_until
from tests.support.theeye import Fault

TOO_LATE = "(not recorded: the claim is no longer held)"


@pytest.fixture
def outbox(url: str) -> Iterator[Outbox]:
    with closing(Outbox(url, beside_a_server=True)) as outbox:
        yield outbox


class LongRunning(Worker):
    """Ends the leases of others at once, as a worker does that has run for long."""

    def _command(self) -> list[str]:
        steady = (
            "import math, runpy; from bridge.delivery import dispatcher; dispatcher.JUMP_THRESHOLD = math.inf"
        )
        return [sys.executable, "-c", f"{steady}; runpy.run_module('bridge', run_name='__main__')", "worker"]


def end_leases(url: str, seconds: float = 60.0, before: Callable[[], None] = lambda: None) -> None:
    """As if all that is claimed had been claimed so much earlier.

    On SQLite nobody else can write while `before` runs, so that a process that it freezes has no lock.
    """
    connect = session.connect if url.startswith("postgresql") else sqlite.connect
    engine = connect(url)
    with engine.connect().execution_options(**{WRITES_OPTION: True}) as connection, connection.begin():
        before()
        held = jobs.c.state == JobState.SENDING
        connection.execute(update(jobs).where(held).values(lease_until=jobs.c.lease_until - seconds))
    engine.dispose()


def everything(outbox: Outbox) -> tuple[Job, list[Attempt]]:
    """The one job, and its attempts."""
    (job,) = outbox.jobs()
    return job, outbox.attempts(job.id)


@pytest.mark.parametrize("newer", ["is being sent", "is recorded"])
@pytest.mark.slow_unless(url="postgresql")
def test_a_frozen_worker_does_not_overwrite_a_newer_claim(
    tmp_path: Path, url: str, outbox: Outbox, newer: str
) -> None:
    with stand_in() as theeye:
        # The first one's attempt is over before the second's, which hangs as long as it must.
        hasty = write_table(tmp_path, theeye.url, timeout="5s", name="hasty.yml")
        patient = write_table(tmp_path, theeye.url, timeout="60s", name="patient.yml")
        first = Worker(hasty, url, VARIABLES, name="first")
        second = LongRunning(patient, url, VARIABLES, name="second")
        with Server(hasty, url, {**VARIABLES, "BRIDGE_DELIVER": "false"}) as server, first:
            theeye.fault(Fault(hang=90, times=1))
            assert push(server.port, "abc").status == 202
            theeye.wait_for_requests(1)
            end_leases(url, before=first.freeze)

            if newer == "is being sent":
                theeye.fault(Fault(hang=90, times=1))
            with second:
                theeye.wait_for_requests(2, 30)
                if newer == "is recorded":
                    wait_until(lambda: outbox.counts() == {JobState.ACCEPTED: 1}, "the second's record")
                before = everything(outbox)
                first.thaw()
                wait_until(lambda: TOO_LATE in first.log, "the first one's own record")
                assert everything(outbox) == before

                theeye.clear()
                wait_until(lambda: outbox.counts() == {JobState.ACCEPTED: 1}, "the second's record")
                job, attempts = everything(outbox)
                assert [attempt.outcome for attempt in attempts] == [Outcome.UNKNOWN, Outcome.ACCEPTED]
                assert attempts[0].detail == "the process ended before the answer came"
                assert job.theeye_job_id == attempts[1].theeye_job_id
                assert (job.window_attempts, job.window_unknowns) == (2, 1)
                assert TOO_LATE not in second.log
                assert second.stop() == 0
            assert first.stop() == 0
        assert len([received for received in theeye.received if received.method == "POST"]) == 2


@pytest.mark.slow_unless(url="sqlite")
def test_a_late_answer_settles_its_own_held_job(tmp_path: Path, url: str, outbox: Outbox) -> None:
    with stand_in() as theeye:
        table = write_table(tmp_path, theeye.url, timeout="60s")
        first = Worker(table, url, VARIABLES, name="first")
        second = LongRunning(table, url, VARIABLES, name="second")
        with Server(table, url, {**VARIABLES, "BRIDGE_DELIVER": "false"}) as server, first:
            theeye.fault(Fault(hang=90, times=1))
            assert push(server.port, "abc", "release").status == 202
            theeye.wait_for_requests(1)
            with second:
                end_leases(url, seconds=3600)  # as if the clock had been set an hour forward
                wait_until(lambda: outbox.counts() == {JobState.UNKNOWN: 1}, "the second to take it up")

                theeye.clear()
                wait_until(lambda: outbox.counts() == {JobState.ACCEPTED: 1}, "the first one's answer")

        job, attempts = everything(outbox)
        assert job.theeye_job_id == theeye.jobs[0].id
        assert [attempt.outcome for attempt in attempts] == [Outcome.UNKNOWN]
        assert len(theeye.jobs) == 1


@pytest.mark.slow_unless(url="sqlite")
def test_an_answer_that_came_while_the_worker_was_frozen_counts(
    tmp_path: Path, url: str, outbox: Outbox
) -> None:
    with stand_in() as theeye:
        table = write_table(tmp_path, theeye.url, timeout="2s")
        worker = Worker(table, url, VARIABLES)
        with Server(table, url, {**VARIABLES, "BRIDGE_DELIVER": "false"}) as server, worker:
            theeye.fault(Fault(hang=90, times=1))
            assert push(server.port, "abc", "release").status == 202
            theeye.wait_for_requests(1)
            worker.freeze()
            theeye.clear()
            theeye.wait_for(1)
            time.sleep(2.5)  # the attempt's time is over
            worker.thaw()
            wait_until(lambda: outbox.counts() == {JobState.ACCEPTED: 1}, "the answer")
        assert len(theeye.jobs) == 1
