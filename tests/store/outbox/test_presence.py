"""FileLock tells whether another process delivers from the same database, between real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

from bridge.core.errors import StoreUnavailable
from bridge.outbox.presence import FileLock
from tests.support.tables import PATIENCE, wait_until

CHECKOUT = Path(__file__).parents[3]

#: Does what each line of its input says, and answers with a line.
OTHER = """
import sys
from pathlib import Path
from bridge.outbox.presence import FileLock

presence = FileLock(Path(sys.argv[1]))
for line in sys.stdin:
    print(getattr(presence, line.strip())(), flush=True)
"""


class Other:
    """Another process with a FileLock of its own."""

    def __init__(self, database: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(database)],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Other:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def ask(self, what: str) -> None:
        """Let it do something, without waiting until that is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def do(self, what: str) -> str:
        self.ask(what)
        return self.answer()

    @property
    def waits(self) -> bool:
        """Whether it waits for the lock, as the kernel sees it."""
        lines = Path("/proc/locks").read_text().splitlines()
        return any("-> FLOCK" in line and f" {self._process.pid} " in line for line in lines)

    def kill(self) -> None:
        """As a crash ends it: nothing of its own code runs any more."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.communicate(timeout=PATIENCE)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "bridge.db"
    path.touch()
    return path


@pytest.fixture
def other(database: Path) -> Iterator[Other]:
    with Other(database) as running:
        yield running


@pytest.fixture
def presence(database: Path) -> Iterator[FileLock]:
    mine = FileLock(database)
    yield mine
    mine.close()


def test_whoever_is_first_is_alone(presence: FileLock) -> None:
    assert presence.is_alone()


def test_whoever_comes_second_is_not(presence: FileLock, other: Other) -> None:
    assert presence.is_alone()
    presence.share()

    assert other.do("is_alone") == "False"
    assert other.do("share") == "None"


def test_a_third_is_not_alone_while_any_is_left(database: Path, presence: FileLock, other: Other) -> None:
    assert other.do("is_alone") == "True"
    other.do("share")
    with Other(database) as third:
        assert third.do("is_alone") == "False"
        third.do("share")
        other.kill()
        assert not presence.is_alone()
        third.kill()
        assert presence.is_alone()


@pytest.mark.parametrize("shared", [True, False], ids=["while it delivers", "while it takes up"])
def test_one_that_was_killed_holds_nothing(presence: FileLock, other: Other, shared: bool) -> None:
    assert other.do("is_alone") == "True"
    if shared:
        other.do("share")
    assert not presence.is_alone()

    other.kill()

    assert presence.is_alone()


def test_one_that_ends_in_order_holds_nothing(presence: FileLock, other: Other) -> None:
    other.do("is_alone")
    other.do("share")
    other.do("close")
    assert presence.is_alone()


def test_while_one_is_alone_nobody_else_arrives(presence: FileLock, other: Other) -> None:
    """What the first takes up must not be what a second has claimed meanwhile."""
    assert presence.is_alone()
    other.ask("share")
    wait_until(lambda: other.waits, "its wait")

    presence.share()

    assert other.answer() == "None"


def test_a_process_of_mine_does_not_hold_it_for_me(database: Path, presence: FileLock) -> None:
    """What a delivering process starts must not look like a delivering process."""
    first = FileLock(database)
    assert first.is_alone()
    first.share()
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False, stdout=subprocess.DEVNULL
    )
    try:
        first.close()
        wait_until(presence.is_alone, "the end of what the child inherited")
    finally:
        child.communicate(b"\n", timeout=PATIENCE)


def test_it_locks_the_database_file_and_leaves_none_beside_it(database: Path, presence: FileLock) -> None:
    """A file beside it could be deleted, and then a second process would be alone, too."""
    assert presence.is_alone()
    presence.share()
    assert list(database.parent.iterdir()) == [database]


def test_it_is_independent_of_the_locks_of_sqlite(database: Path, presence: FileLock) -> None:
    assert presence.is_alone()
    script = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('CREATE TABLE t (x)')"
    subprocess.run([sys.executable, "-c", script, str(database)], check=True)


def test_the_lock_of_another_database_is_another(tmp_path: Path, presence: FileLock) -> None:
    assert presence.is_alone()
    (tmp_path / "other.db").touch()
    elsewhere = FileLock(tmp_path / "other.db")
    assert elsewhere.is_alone()
    elsewhere.close()


def test_a_database_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"bridge\.db cannot be opened: No such file"):
        FileLock(tmp_path / "nowhere" / "bridge.db")
