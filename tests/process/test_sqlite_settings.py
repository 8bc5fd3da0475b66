"""What SQLite's promises rest on is read back, and settings that endanger them are named at the start."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bridge.core.errors import StoreUnavailable
from bridge.outbox import sqlite
from bridge.outbox.store import Outbox
from tests.support.pushes import VARIABLES, stand_in, write_table
from tests.support.server import Program, Server, Worker


def warnings(program: Program, of: str) -> int:
    """How many lines warn of the defect in SQLite."""
    text = f"{of}: releases before 3.51.3 can corrupt"
    return [text in line for line in program.log.splitlines()].count(True)


def test_a_file_system_without_wal_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own file locks by dot files stand for it: https://www.sqlite.org/vfs.html"""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreUnavailable, match="PRAGMA journal_mode is delete, not wal: put the database on"):
        Outbox("sqlite:///file:bridge.db?vfs=unix-dotfile&uri=true")


@pytest.mark.parametrize(("name", "other"), [("synchronous", 1), ("foreign_keys", 0)])
def test_another_setting_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, other: int
) -> None:
    monkeypatch.setitem(sqlite.SETTINGS, name, other)
    with pytest.raises(StoreUnavailable, match=f"PRAGMA {name} is ., not {other}: "):
        Outbox(f"sqlite:///{tmp_path / 'bridge.db'}")


@pytest.mark.parametrize("environ", [{"GUNICORN_CMD_ARGS": "--workers 3"}, {"WEB_CONCURRENCY": "3"}])
@pytest.mark.skipif(sqlite3.sqlite_version_info >= (3, 51, 3), reason="this SQLite has no such defect")
def test_three_web_processes_on_an_affected_sqlite_are_warned_of_once(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    with stand_in() as theeye:
        config = write_table(tmp_path, theeye.url)
        with Server(config, tmp_path / "bridge.db", {**VARIABLES, **environ}) as server:
            assert warnings(server, "with 3 web processes") == 1


@pytest.mark.skipif(sqlite3.sqlite_version_info >= (3, 51, 3), reason="this SQLite has no such defect")
def test_a_worker_on_an_affected_sqlite_warns(tmp_path: Path) -> None:
    with stand_in() as theeye:
        config = write_table(tmp_path, theeye.url)
        with Worker(config, tmp_path / "bridge.db", VARIABLES) as worker:
            assert warnings(worker, "with a worker beside the server") == 1


def open_files(pid: int) -> Iterator[str]:
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            yield str(file.readlink())


def test_heartbeats_need_no_writable_tmp(tmp_path: Path) -> None:
    """A read-only root has none, and gunicorn would not start."""
    with stand_in() as theeye:
        config = write_table(tmp_path, theeye.url)
        with Server(config, tmp_path / "bridge.db", VARIABLES) as server:
            heartbeats = [link for link in open_files(server.workers[0]) if "wgunicorn-" in link]
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(tmp_path)
    assert [Path(link).parent for link in heartbeats] == [Path(folder)] * len(heartbeats) != []
