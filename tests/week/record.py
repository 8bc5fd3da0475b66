"""The history of the store, read before retention deletes it; prunes and backups with their checks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from bridge.core.errors import StoreUnavailable
from bridge.core.job import Attempt, Job, JobState
from bridge.outbox.store import Outbox
from tests.chaos.oracle import Taken, Violation, commit_of
from tests.chaos.run import ALL
from tests.support.postgresql import Cluster
from tests.support.server import CHECKOUT, PATIENCE

T = TypeVar("T")
#: Seconds between two tries while faults go on, and how many tries there are.
_PAUSE, _TRIES = 3.0, 30


class Record:
    """The jobs and attempts that the store ever had."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.jobs: dict[int, Job] = {}
        self.attempts: dict[int, list[Attempt]] = {}

    def read(self) -> set[int]:
        """Read what the store has now; the ids of its jobs. Raises StoreUnavailable."""
        jobs = self._outbox.jobs(limit=ALL)
        for job in jobs:
            ended = job.state in (JobState.ACCEPTED, JobState.SKIPPED)
            if not ended or self.jobs.get(job.id) != job:
                self.attempts[job.id] = self._outbox.attempts(job.id)
                self.jobs[job.id] = job
        return {job.id for job in jobs}


class Housekeeping:
    """The work of an operator's timers: retention, and backups that are checked."""

    def __init__(
        self, folder: Path, cluster: Cluster | None, url: str, record: Record, retention: int
    ) -> None:
        """`retention` is that of settled events, in seconds."""
        self._folder = folder
        self._cluster = cluster
        self._url = url
        self._record = record
        self._retention = retention
        self.prunes = self.backups = 0
        self.violations: list[Violation] = []

    def prune(self) -> None:
        """Record everything, then delete what has expired."""
        again(lambda: self._record.read() and run(self._url, "prune", retention=self._retention))
        self.prunes += 1

    def back_up(self, taken: Callable[[], Iterable[Taken]]) -> None:
        """Back up under load: every push that was taken before the start, and has not expired, is in it."""
        begun, jobs = again(self._backed_up)
        stored = {commit_of(job) for job in jobs}
        # The store may have deleted older ones.
        expected = {
            each.commit for each in taken() if begun - self._retention < each.begun < each.answered < begun
        }
        if missing := expected - stored:
            self.violations.append(
                Violation("backup", f"lacks {len(missing)} of {len(expected)} pushes, such as {min(missing)}")
            )
        self.backups += 1

    def _backed_up(self) -> tuple[float, list[Job]]:
        """Back up and restore; when it began, and the jobs of the restored store."""
        begun = time.time()
        if self._cluster is not None:
            url = self._cluster.restore(self._cluster.back_up(self._url))
        else:
            file = self._folder / f"backup-{begun:.3f}.db"
            run(self._url, "db", "backup", str(file))
            url = f"sqlite:///{file}"
        try:
            with closing(Outbox(url)) as outbox:
                return begun, outbox.jobs(limit=ALL)
        finally:
            if self._cluster is not None:
                self._cluster.drop(url)
            else:
                file.unlink()


def run(url: str, *command: str, retention: int = 3600) -> str:
    """Run a command of the bridge. Raises AssertionError with what it printed."""
    environ = {
        "PATH": os.environ.get("PATH", os.defpath),
        "DATABASE_URL": url,
        "BRIDGE_RETENTION": f"{retention}s,{retention}s",
    }
    done = subprocess.run(
        [sys.executable, "-m", "bridge", *command], cwd=CHECKOUT, env=environ, check=False,
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def again(work: Callable[[], T]) -> T:
    """Do it once the faults let it. Raises what the last try raised."""
    for left in reversed(range(_TRIES)):
        try:
            return work()
        except (StoreUnavailable, AssertionError, subprocess.TimeoutExpired):
            if not left:
                raise
            time.sleep(_PAUSE)
    raise AssertionError("there is always a last try")
