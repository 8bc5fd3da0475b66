"""The files of a running server's SQLite store are for its user alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.pushes import VARIABLES, push, write_table
from tests.support.server import Server
from tests.support.theeye import StandIn

FILES = {"bridge.db", "bridge.db-wal", "bridge.db-shm"}


@contextmanager
def umask(value: int) -> Iterator[None]:
    """As a platform sets it, for what is started inside."""
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def run_a_server(tmp_path: Path, theeye: StandIn, database: Path, commit: str = "abc") -> dict[str, int]:
    """The modes of the files beside the database while the server runs and has stored a push."""
    config = write_table(tmp_path, theeye.url)
    with Server(config, database, VARIABLES) as server:
        assert push(server.port, commit).status == 202
        theeye.wait_for_requests(1)
        found = modes(database.parent)
        server.stop()
    return found


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o002])
@pytest.mark.slow_unless(mask=0o000)
def test_a_new_store_is_private_whatever_the_umask(tmp_path: Path, theeye: StandIn, mask: int) -> None:
    database = tmp_path / "var" / "bridge.db"
    with umask(mask):
        found = run_a_server(tmp_path, theeye, database)
    assert set(found) == FILES
    assert set(found.values()) == {0o600}
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o700


def test_the_store_of_an_earlier_release_becomes_private(tmp_path: Path, theeye: StandIn) -> None:
    database = tmp_path / "var" / "bridge.db"
    run_a_server(tmp_path, theeye, database)
    database.parent.chmod(0o755)
    for name in FILES:
        (database.parent / name).touch()
        (database.parent / name).chmod(0o644)
    found = run_a_server(tmp_path, theeye, database, "def")
    assert set(found) == FILES
    assert {found[name] for name in FILES} == {0o600}
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o755  # it may hold other files
