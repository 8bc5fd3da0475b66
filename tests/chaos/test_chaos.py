"""A short run on each store, and a rolling restart, of the real processes under load."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from bridge.outbox.store import Outbox
from tests.chaos.load import Load
from tests.chaos.run import CLIENTS, TAKEN_WITHIN, Person, Report, judge, run, settle
from tests.chaos.schedule import BY_THEEYE, CLOCKS, ON_POSTGRESQL, ON_SQLITE, What, schedule
from tests.chaos.system import System
from tests.chaos.table import stand_in, write_table
from tests.support.delivery import posts
from tests.support.postgresql import Cluster
from tests.support.tables import wait_until
from tests.support.theeye import Fault

#: What a run follows from, and for how many seconds everything is broken.
ON_ONE, ON_FOUR = (1346, 22.0), (2603, 32.0)
#: In the rolling restart TheEye takes so many seconds for each order, and what is told to end waits until so
#: many are in flight: with two workers some are its own.
HELD, BUSY = 0.3, 6


def assert_kept(report: Report) -> None:
    print(report)
    assert not report.violations, str(report)


def test_the_short_runs_together_meet_everything() -> None:
    # Of an even seed: processes end by themselves, and no clock is wrong.
    on_sqlite = [what for what in ON_SQLITE if what not in CLOCKS]
    lanes = [(ON_ONE, on_sqlite), (ON_ONE, BY_THEEYE), (ON_FOUR, ON_POSTGRESQL), (ON_FOUR, BY_THEEYE)]
    met = {action.what for of_run, whats in lanes for action in schedule(*of_run, whats)}
    assert not set(What) - met


@pytest.mark.timeout(240)
def test_one_process_on_sqlite_breaks_no_promise(tmp_path: Path) -> None:
    report = run(tmp_path, None, *ON_ONE, print)
    assert_kept(report)
    assert report.unknown, "no answer was lost: the test has shown nothing"


@pytest.mark.timeout(240)
def test_four_processes_on_postgresql_break_no_promise(tmp_path: Path, postgresql_programs: None) -> None:
    with Cluster(fsync=False) as cluster:
        report = run(tmp_path, cluster, *ON_FOUR, print)
    assert_kept(report)
    assert report.unknown, "no answer was lost: the test has shown nothing"


@pytest.mark.timeout(240)
def test_a_rolling_restart_costs_nothing(tmp_path: Path, postgresql_cluster: Cluster) -> None:
    with (
        stand_in() as theeye,
        System(write_table(tmp_path, theeye.url), postgresql_cluster) as system,
        closing(Outbox(system.database_url)) as outbox,
    ):
        theeye.fault(Fault(hang=HELD))
        load = Load(system.server.port, 1, CLIENTS)
        load.start()

        def wait_until_busy() -> None:
            load.wait_for_more(30)
            wait_until(lambda: sum(one.status is None for one in posts(theeye)) >= BUSY, "sends in flight")

        for worker in system.workers:
            wait_until_busy()
            assert worker.stop() == 0
            worker.start()
        for pid in system.server.workers:
            wait_until_busy()
            system.server.end_worker(pid)
        wait_until_busy()
        system.server.reload()
        wait_until_busy()
        assert system.server.stop() == 0
        system.server.start()
        load.wait_for_more(30)
        load.finish(TAKEN_WITHIN)
        settle(outbox, Person(outbox, theeye, system))
        report = judge(system, theeye, outbox, load)
    assert_kept(report)
    assert report.statuses.keys() <= {0, 200, 202, 503}
    assert (report.unknown, report.resolved) == (0, 0)
    assert report.sent == report.saved
    assert not report.doubled
