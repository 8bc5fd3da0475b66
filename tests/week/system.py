"""The processes of the week: at first those of an earlier release, which current ones replace."""

from __future__ import annotations

import sqlite3
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path

from tests.chaos.system import System
from tests.support.disk import filled
from tests.support.postgresql import Cluster
from tests.support.server import CHECKOUT, Program


class Production(System):
    """It runs the release in `folder` until `upgrade`."""

    def __init__(self, config: Path, cluster: Cluster | None, folder: Path) -> None:
        super().__init__(config, cluster)
        for program in self._programs:
            # A process that shares memory with the tests would count less than it needs.
            program.may_fork = False
            program.folder = folder

    @property
    def pids(self) -> list[int]:
        """The processes that were started, without those that they started."""
        return [program.pid for program in self._programs if program.is_running]

    def upgrade(self) -> Iterator[Program]:
        """Replace one program after another; those that are replaced."""
        for program in (*self.workers, self.server):
            program.folder = CHECKOUT
            self._restart(program)
            yield program

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Nothing can be stored on SQLite inside, after a while."""
        assert self._disk is not None, "this machine mounts no small file system"
        # One who reads keeps the log from starting again in the room that it has, so that it must grow.
        with closing(sqlite3.connect(self._path, isolation_level=None)) as reader, filled(self._disk):
            reader.execute("BEGIN")
            reader.execute("SELECT id FROM events LIMIT 1").fetchone()
            yield

    @contextmanager
    def without_delivery(self) -> Iterator[None]:
        """No process delivers inside: the workers are stopped, or the web process by a wrong setting."""
        if self.workers:
            for worker in self.workers:
                assert worker.stop() == 0
            yield
            for worker in self.workers:
                worker.start()
        else:
            self.server.set("BRIDGE_DELIVER", "false")
            self._restart(self.server)
            yield
            self.server.set("BRIDGE_DELIVER", "true")
            self._restart(self.server)


def unpack(commit: str, folder: Path) -> Path:
    """The code of another commit. Raises CalledProcessError where git does not have it."""
    command = ["git", "archive", commit, "bridge"]
    archive = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder
