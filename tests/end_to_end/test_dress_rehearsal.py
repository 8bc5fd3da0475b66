"""A platform's day: the Procfile under honcho, with PostgreSQL, restarts, deploys, kills and a restore.

Each process of the Procfile runs in a copy of the checkout that is deleted when the process ends, as a dyno
does. Senders repeat a webhook until they get 2xx.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bridge.core.job import JobState, Outcome
from bridge.outbox.store import Outbox
from tests.support.postgresql import Cluster
from tests.support.pushes import (
    VARIABLES,
    Clients,
    commit_of,
    push,
    stand_in,
    wait_until_none_waits,
    write_table,
)
from tests.support.server import CHECKOUT, PATIENCE, Program, Server
from tests.support.theeye import Fault, StandIn

# Eleven starts, and the lease of a killed worker: about a minute, and more on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Seconds until all jobs are sent: the lease of a killed worker is 35 s.
DRAIN = 120.0


class Dyno(Server):
    """One process of the Procfile under honcho, in a fresh copy of the checkout."""

    may_fork = False
    _numbers = count(1)

    def __init__(self, kind: str, folder: Path, config: Path, url: str) -> None:
        self.kind = kind
        self.folder = folder / f"{kind}-{next(self._numbers)}"
        super().__init__(config, url, {**VARIABLES, "BRIDGE_DELIVER": "false", "WEB_CONCURRENCY": "1"})
        self._log = self._output = self.folder.with_suffix(".log")
        self._environ["PATH"] = f"{Path(sys.executable).parent}:{self._environ['PATH']}"
        self._environ["PYTHONUNBUFFERED"] = "1"

    def start(self) -> None:
        copy_checkout(self.folder)
        super().start()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        status = super().stop(how)
        shutil.rmtree(self.folder)
        return status

    def kill(self) -> None:
        """SIGKILL to honcho and all that it started, whose groups are their own."""
        if self.is_running:
            for pid in descendants(self.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        Program.kill(self)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "honcho", "start", "--port", str(self.port), self.kind]

    def _works(self) -> bool:
        if self.kind == "worker":
            return '"message":"delivering"' in self.log
        return super()._works()


def copy_checkout(folder: Path) -> None:
    """What a deploy copies; the table is elsewhere, because it has the address of the stand-in TheEye."""
    folder.mkdir()
    shutil.copy(CHECKOUT / "Procfile", folder)
    shutil.copytree(CHECKOUT / "bridge", folder / "bridge", ignore=shutil.ignore_patterns("__pycache__"))


def descendants(pid: int) -> list[int]:
    """The process and all that it started, children first."""
    children: list[int] = []
    with suppress(FileNotFoundError):
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*(each for child in children for each in descendants(child)), pid]


class Platform:
    """It starts dynos, routes requests to the web dynos, and replaces dynos."""

    def __init__(self, folder: Path, config: Path, url: str) -> None:
        self._folder = folder
        self._config = config
        self._running = ExitStack()
        self._requests = count()
        self.url = url
        self.web: list[Dyno] = []
        self.workers: list[Dyno] = []

    def __enter__(self) -> Platform:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def release(self) -> None:
        """Run the release command in a copy of the checkout. Raises AssertionError if it fails."""
        dyno = Dyno("release", self._folder, self._config, self.url)
        copy_checkout(dyno.folder)
        done = subprocess.run(
            dyno._command(), cwd=dyno.folder, env=dyno._environ, check=False, capture_output=True, text=True,
            timeout=PATIENCE,
        )  # fmt: skip
        shutil.rmtree(dyno.folder)
        assert done.returncode == 0, done.stdout + done.stderr

    def scale(self, kind: str) -> Dyno:
        """Start one more dyno; web dynos get requests once they are ready."""
        dyno = self._running.enter_context(Dyno(kind, self._folder, self._config, self.url))
        (self.web if kind == "web" else self.workers).append(dyno)
        return dyno

    def retire(self, dyno: Dyno) -> None:
        """Send no more requests to a dyno, and end it by SIGTERM."""
        (self.web if dyno.kind == "web" else self.workers).remove(dyno)
        # honcho's own status after SIGTERM.
        assert dyno.stop() == 143
        assert "Traceback" not in dyno.log, dyno.log
        assert "SIGKILL" not in dyno.log, dyno.log

    def crash(self, dyno: Dyno) -> None:
        """End a dyno by SIGKILL, while it still gets requests, and start another."""
        dyno.kill()
        self.scale(dyno.kind)
        (self.web if dyno.kind == "web" else self.workers).remove(dyno)

    def port(self) -> int:
        """The web dyno for the next request."""
        web = self.web[:]
        return web[next(self._requests) % len(web)].port


class Senders(Clients):
    """Their requests go through the platform's router; all are for `main`."""

    def __init__(self, platform: Platform, first: int) -> None:
        super().__init__(0, 4)
        self._platform = platform
        self._begun = first

    def _run(self) -> None:
        while (number := self._next()) is not None:
            commit = f"commit-{number:05}"
            while not self._note(commit, push(self._platform.port(), commit)):
                time.sleep(0.05)
            time.sleep(0.1)


class Traffic:
    """Steady traffic inside; `taken` has each commit that got 2xx."""

    def __init__(self, platform: Platform, taken: set[str]) -> None:
        self._senders = Senders(platform, len(taken) and max(int(each[-5:]) for each in taken))
        self._taken = taken

    def __enter__(self) -> Senders:
        self._senders.start()
        self._senders.wait_for(5, PATIENCE)
        return self._senders

    def __exit__(self, kind: Any, *_: object) -> None:
        before = len(self._senders.taken)
        if kind is None:
            self._senders.wait_for(before + 5, PATIENCE)
        self._senders.finish(PATIENCE)
        self._taken |= self._senders.taken


@pytest.fixture
def theeye() -> Iterator[StandIn]:
    with stand_in() as stand:
        yield stand


def received(theeye: StandIn) -> Counter[str]:
    return Counter(job.values[0] for job in theeye.jobs)


def assert_each_once(platform: Platform, theeye: StandIn, commits: set[str]) -> None:
    """Wait until no job waits, and check that TheEye has each commit once."""
    with closing(Outbox(platform.url)) as outbox:
        wait_until_none_waits(outbox, DRAIN)
    assert received(theeye) == Counter(commits)


def test_nothing_is_lost_in_a_platforms_day(
    tmp_path: Path, theeye: StandIn, postgresql_cluster: Cluster, postgresql_url: str
) -> None:
    config = write_table(tmp_path, theeye.url, timeout="5s")
    taken: set[str] = set()
    with Platform(tmp_path, config, postgresql_url) as platform:
        platform.release()
        for kind in ("web", "web", "worker"):
            platform.scale(kind)

        # A deploy and the daily restarts: new processes start before the old ones get SIGTERM.
        with Traffic(platform, taken) as senders:
            platform.release()
            for dyno in (*platform.web, *platform.workers):
                platform.scale(dyno.kind)
                if dyno.kind == "worker":
                    # Answers take so long that it has sends in progress.
                    theeye.fault(Fault(saves=True, hang=1.0))
                    senders.wait_for(len(senders.taken) + 10, PATIENCE)
                platform.retire(dyno)
            theeye.clear()
        assert_each_once(platform, theeye, taken)

        # The machine of a dyno dies, with its disk.
        with Traffic(platform, taken):
            platform.crash(platform.web[0])
        assert_each_once(platform, theeye, taken)
        # The next answers come late, so that the worker dies before it has read them.
        theeye.fault(Fault(saves=True, hang=4.0, times=4))
        with Traffic(platform, taken):
            platform.crash(platform.workers[0])

        # Without a worker jobs wait, and a backup has them.
        platform.retire(platform.workers[0])
        with Traffic(platform, taken):
            pass
        for dyno in tuple(platform.web):
            platform.retire(dyno)
        platform.url = postgresql_cluster.move(platform.url)
        platform.scale("worker")
        with closing(Outbox(platform.url)) as outbox:
            wait_until_none_waits(outbox, DRAIN)
            jobs = outbox.jobs(limit=len(taken) + 100)
            unknowns = {
                commit_of(job): sum(each.outcome is Outcome.UNKNOWN for each in outbox.attempts(job.id))
                for job in jobs
            }
        postgresql_cluster.drop(platform.url)
    assert {job.state for job in jobs} == {JobState.ACCEPTED}
    assert sorted(unknowns) == sorted(taken)
    assert any(unknowns.values())
    got = received(theeye)
    assert taken <= got.keys()
    # Only a job whose answer the killed worker did not read is sent again.
    assert {commit: number for commit, number in got.items() if number > 1 + unknowns[commit]} == {}
