"""The wall clock jumps: what is in flight is sent once, what waits is sent, and nothing is given up."""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from bridge.core.job import JobState
from bridge.outbox.daily_prune import Pruner
from bridge.outbox.store import Outbox
from bridge.process.clock import FOLLOW_DELAY, Clock
from bridge.process.settings import Retention
from tests.conftest import lacks
from tests.support import clock
from tests.support.clock import WallClock
from tests.support.postgresql import Cluster
from tests.support.pushes import DEPLOY, VARIABLES, push, stand_in, write_table
from tests.support.server import Server, SetServer
from tests.support.tables import make_job, wait_until
from tests.support.theeye import Answer, Fault

HOUR, DAY = 3600, 86_400


class Times:
    """A wall and a monotonic clock that move only when a test moves them."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_000_000.0, 50.0
        self.clock = Clock(lambda: self.wall, lambda: self.monotonic)

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


class TestClock:
    def test_it_is_the_wall_clock(self) -> None:
        times = Times()
        times.pass_by(100)
        assert (times.clock(), times.clock.steady_for()) == (1_000_100, math.inf)
        assert times.clock.trouble is None

    def test_small_corrections_count_at_once(self) -> None:
        times = Times()
        for _ in range(10):
            times.pass_by(10)
            times.wall -= 4
            assert times.clock() == times.wall
        assert (times.clock.steady_for(), times.clock.forward_jumps, times.clock.backward_jumps) == (
            math.inf,
            0,
            0,
        )

    @pytest.mark.parametrize("jump", [HOUR, -HOUR])
    def test_a_jump_counts_once_it_has_lasted(self, jump: float, caplog: pytest.LogCaptureFixture) -> None:
        times = Times()
        times.wall += jump
        assert times.clock() == 1_000_000
        assert times.clock.trouble is not None
        assert f"{jump:+.0f} s" in times.clock.trouble
        times.pass_by(FOLLOW_DELAY - 1)
        assert times.clock() == times.wall - jump
        assert times.clock.steady_for() == FOLLOW_DELAY - 1
        times.pass_by(1)
        assert times.clock() == times.wall
        assert (times.clock.forward_jumps, times.clock.backward_jumps) == (jump > 0, jump < 0)
        assert times.clock.steady_for() == 0
        assert "jumped" not in str(times.clock.trouble)
        assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2

    @pytest.mark.parametrize("jump", [40 * DAY, -40 * DAY])
    def test_one_that_ends_is_not_followed(self, jump: float) -> None:
        times = Times()
        times.wall += jump
        times.clock()
        times.pass_by(15)
        times.clock()
        times.wall -= jump
        times.pass_by(FOLLOW_DELAY)
        assert times.clock() == times.wall
        assert times.clock.trouble is None
        # Others may have stored times by a clock that was ahead.
        assert (times.clock.forward_jumps, times.clock.backward_jumps) == (0, jump > 0)

    def test_another_jump_begins_anew(self) -> None:
        times = Times()
        for _ in range(3):
            times.wall += HOUR
            times.clock()
            times.pass_by(FOLLOW_DELAY - 1)
        assert times.clock() == times.wall - 3 * HOUR


def test_nothing_is_deleted_for_an_hour_after_a_jump(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    times, passes = Times(), threading.Event()
    monkeypatch.setattr(outbox, "prune", lambda *_: passes.set())
    monkeypatch.setattr("bridge.outbox.daily_prune.MIN_STEADY_TIME", 0.3)
    times.wall += 40 * DAY
    times.clock()
    pruner = Pruner(outbox, Retention(1.0, 1.0), times.clock, first=0.0)
    pruner.start()
    try:
        assert not passes.wait(0.5)
        times.pass_by(0.4)
        assert passes.wait(10)
    finally:
        pruner.close()


@pytest.fixture
def wall_clock(tmp_path: Path) -> WallClock:
    if clock.find_compiler() is None:
        lacks("cc")
    return WallClock(tmp_path)


@pytest.fixture
def outbox_of(url: str) -> Iterator[Outbox]:
    with closing(Outbox(url, beside_a_server=True)) as outbox:
        yield outbox


class TwoWorkers(SetServer):
    """It works once both do: one that starts after a jump does not see it."""

    def _works(self) -> bool:
        return super()._works() and self._log_of_this_start.count("the active routing table") >= 2


def server_of(
    folder: Path, url: str, theeye: str, wall_clock: WallClock, follow_after: float = FOLLOW_DELAY
) -> SetServer:
    """Two workers, with a clock that follows a jump after so many seconds."""
    settings = f"import bridge.process.clock\nbridge.process.clock.FOLLOW_DELAY = {follow_after}"
    environ = {**VARIABLES, **wall_clock.environ, "WEB_CONCURRENCY": "2"}
    return TwoWorkers(settings, write_table(folder, theeye, timeout="60s"), url, environ)


@pytest.mark.parametrize("follow_after", [FOLLOW_DELAY, 1.0])
@pytest.mark.slow_unless(url="sqlite", follow_after=1.0)
def test_an_hour_forward_doubles_nothing_that_is_in_flight(
    tmp_path: Path, url: str, outbox_of: Outbox, wall_clock: WallClock, follow_after: float
) -> None:
    with stand_in() as theeye, server_of(tmp_path, url, theeye.url, wall_clock, follow_after) as server:
        theeye.fault(Fault(hang=60))
        for number in range(4):
            assert push(server.port, f"commit-{number}", ("main", "release")[number % 2]).status == 202
        theeye.wait_for_requests(4)

        wall_clock.move(HOUR)
        # Two rounds of each process, which look for leases that have ended.
        wait_until(lambda: server.log.count("the clock jumped by +3600 s") == 2)
        time.sleep(5)
        theeye.clear()

        wait_until(lambda: outbox_of.counts() == {JobState.ACCEPTED: 4}, "the answers")
        assert len(theeye.jobs) == 4


def test_a_restart_while_the_clock_is_an_hour_ahead_doubles_nothing(
    tmp_path: Path, wall_clock: WallClock
) -> None:
    store = tmp_path / "bridge.db"
    environ = {**VARIABLES, **wall_clock.environ}
    with (
        stand_in() as theeye,
        Server(write_table(tmp_path, theeye.url, timeout="60s"), store, environ) as server,
    ):
        theeye.fault(Fault(hang=60))
        assert push(server.port, "before").status == 202
        theeye.wait_for_requests(1)

        wall_clock.move(HOUR)
        os.kill(server.pid, signal.SIGHUP)
        # The process before it ends once it has the answer.
        wait_until(lambda: len(server.workers) == 2, "the next process")
        assert push(server.port, "after", "release").status == 202
        theeye.wait_for_requests(2)
        time.sleep(5)
        theeye.clear()

        with closing(Outbox(server.database_url, beside_a_server=True)) as outbox:
            wait_until(lambda: outbox.counts() == {JobState.ACCEPTED: 2}, "the answers")
        assert len(theeye.jobs) == 2
        assert "abandoned claim" not in server.log


class ClusterOfAnotherClock(Cluster):
    """Its machine has a clock of its own."""

    def __init__(self, wall_clock: WallClock) -> None:
        super().__init__(fsync=False)
        self._environ = wall_clock.environ

    @property
    def _conditions(self) -> dict[str, Any]:
        conditions = super()._conditions
        return {**conditions, "env": {**conditions["env"], **self._environ}}


@pytest.mark.usefixtures("postgresql_programs", "wall_clock")
def test_postgresqls_clock_an_hour_forward_doubles_nothing(tmp_path: Path) -> None:
    # Not one of pytest's folders: those are closed to the cluster's user.
    with ExitStack() as running:
        folder = Path(running.enter_context(TemporaryDirectory()))
        of_cluster = WallClock(folder)
        folder.chmod(0o755)
        url = running.enter_context(ClusterOfAnotherClock(of_cluster)).create_database()
        theeye = running.enter_context(stand_in())
        environ = {**VARIABLES, "WEB_CONCURRENCY": "2"}
        server = running.enter_context(Server(write_table(tmp_path, theeye.url, timeout="60s"), url, environ))
        outbox = running.enter_context(closing(Outbox(url, beside_a_server=True)))
        theeye.fault(Fault(hang=60))
        for number in range(4):
            assert push(server.port, f"commit-{number}").status == 202
        theeye.wait_for_requests(4)

        of_cluster.move(HOUR)
        time.sleep(5)  # two rounds of each process
        theeye.clear()

        wait_until(lambda: outbox.counts() == {JobState.ACCEPTED: 4}, "the answers")
        assert len(theeye.jobs) == 4
        assert "abandoned claim" not in server.log


@pytest.mark.slow_unless(url="postgresql")
def test_a_correction_by_two_days_gives_nothing_up(
    tmp_path: Path, url: str, outbox_of: Outbox, wall_clock: WallClock
) -> None:
    with stand_in() as theeye, server_of(tmp_path, url, theeye.url, wall_clock, 1.0) as server:
        theeye.fault(Fault(answer=Answer(503), method="POST"))
        assert push(server.port, "before").status == 202
        wait_until(lambda: [job.window_attempts for job in outbox_of.jobs()] == [1], "the first attempt")
        wall_clock.move(2 * DAY)
        wait_until(lambda: server.log.count("after the clock's jump by +172800 s") == 2)
        wait_until(lambda: outbox_of.jobs()[0].retry_window_start > time.time() + DAY, "a whole retry time")

        tries = outbox_of.jobs()[0].window_attempts
        wait_until(lambda: outbox_of.jobs()[0].window_attempts > tries, "one more attempt")
        server.stop()
        assert outbox_of.counts() == {JobState.WAITING: 1}
        # The next processes have seen no jump.
        server.start()
        wait_until(lambda: outbox_of.jobs()[0].window_attempts > tries + 1, "an attempt of theirs")
        theeye.clear()
        wait_until(lambda: outbox_of.counts() == {JobState.ACCEPTED: 1}, "the job")


@pytest.mark.slow_unless(url="sqlite")
def test_a_command_while_the_clock_is_an_hour_ahead_delays_nothing(
    tmp_path: Path, url: str, outbox_of: Outbox, wall_clock: WallClock
) -> None:
    with stand_in() as theeye, server_of(tmp_path, url, theeye.url, wall_clock) as server:
        assert push(server.port, "once").status == 202
        wait_until(lambda: outbox_of.counts() == {JobState.ACCEPTED: 1}, "the job")
        wall_clock.move(HOUR)
        wait_until(lambda: server.log.count("the clock jumped by +3600 s") == 2)
        outbox_of_command = Outbox(url, clock=lambda: time.time() + HOUR, beside_a_server=True)
        with closing(outbox_of_command):
            (job,) = outbox_of.jobs()
            outbox_of_command.replay(job.event_id, [make_job("again", task_id=DEPLOY)])
        wall_clock.move(0)
        wait_until(lambda: outbox_of.counts().keys() == {JobState.ACCEPTED}, "the replayed job")


@pytest.mark.slow_unless(url="sqlite")
def test_an_hour_back_holds_nothing_up(
    tmp_path: Path, url: str, outbox_of: Outbox, wall_clock: WallClock
) -> None:
    with stand_in() as theeye, server_of(tmp_path, url, theeye.url, wall_clock, 1.0) as server:
        theeye.fault(Fault(answer=Answer(503, headers=(("Retry-After", "20"),)), method="POST"))
        assert push(server.port, "before").status == 202
        wait_until(lambda: [job.window_attempts for job in outbox_of.jobs()] == [1], "the first attempt")

        wall_clock.move(-HOUR)
        wait_until(lambda: server.log.count("after the clock's jump by -3600 s") == 2)
        theeye.clear()
        assert push(server.port, "after").status == 202

        wait_until(lambda: outbox_of.counts() == {JobState.ACCEPTED: 2}, "both jobs")
        assert Counter(job.values[0] for job in theeye.jobs) == {"before": 1, "after": 1}
        assert "reachable again after -" not in server.log


@pytest.mark.slow_unless(url="sqlite")
def test_a_clock_that_is_far_ahead_for_a_moment_gives_nothing_up(
    tmp_path: Path, url: str, outbox_of: Outbox, wall_clock: WallClock
) -> None:
    with stand_in() as theeye, server_of(tmp_path, url, theeye.url, wall_clock) as server:
        theeye.fault(Fault(answer=Answer(503), method="POST"))
        assert push(server.port, "early").status == 202
        wait_until(lambda: [job.window_attempts for job in outbox_of.jobs()] == [1], "the first attempt")

        wall_clock.move(40 * DAY)
        wait_until(
            lambda: [job.window_attempts >= 3 for job in outbox_of.jobs()] == [True], "attempts meanwhile"
        )
        assert outbox_of.counts().keys() <= {JobState.WAITING, JobState.SENDING}
        assert any("the clock jumped" in text for text in server.get("/readyz")[1]["trouble"])
        theeye.clear()
        wall_clock.move(0)

        wait_until(lambda: outbox_of.counts() == {JobState.ACCEPTED: 1}, "the job")
