"""`db status` and `db backup`: what they show and copy, and that they change nothing."""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from shutil import copy

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from bridge.core.event import rfc3339
from bridge.core.job import JobState
from bridge.outbox.migrations import HEAD
from bridge.outbox.sqlite import read_only
from bridge.outbox.store import Outbox
from tests.support.intake import beside
from tests.support.postgresql import Cluster, find_programs
from tests.support.tables import NOW, dead_job, make_job, make_webhook
from tests.support.terminal import Terminal


@pytest.fixture
def filled(outbox: Outbox, url: str) -> str:
    """A store with two events, two jobs that wait and a dead one."""
    outbox.store(make_webhook(make_job("a"), make_job("b", route="second"), delivery_id="1"))
    outbox.store(make_webhook(dead_job(), delivery_id="2", received_at=NOW + 1))
    return url


def ids(path: Path) -> tuple[list[int], list[int]]:
    """The ids of the events and jobs in an SQLite file."""
    with closing(Outbox(f"sqlite:///{path}", create=False)) as outbox:
        return [each.id for each in outbox.events()], [each.id for each in outbox.jobs()]


# db status


def test_status_shows_what_is_stored(terminal: Terminal, filled: str) -> None:
    done = terminal.run("db", "status", DATABASE_URL=filled)

    assert done.exit_code == 0, done.output
    database, *rest = done.stdout.splitlines()
    assert re.search(r"/\S+ \((sqlite|postgresql) [\d.]+, [\d,]+ bytes\)$", database)
    assert rest == [
        f"schema: revision {HEAD}",
        f"events: 2, the oldest of {rfc3339(NOW)}",
        "jobs: 2 waiting, 1 dead",
    ]


def test_status_in_json(terminal: Terminal, filled: str) -> None:
    shown = json.loads(terminal.run("db", "status", "--json", DATABASE_URL=filled).stdout)

    assert shown["jobs"] == {**{str(state): 0 for state in JobState}, "waiting": 2, "dead": 1}
    assert (shown["events"], shown["oldest_event_at"]) == (2, rfc3339(NOW))
    assert (shown["revision"], shown["release_revision"]) == (HEAD, HEAD)
    assert shown["engine"] == filled.partition(":")[0]
    assert shown["size"] > 8192


def test_status_of_an_empty_store(terminal: Terminal) -> None:
    assert terminal.run("db", "status").stdout.splitlines()[2:] == ["events: 0", "jobs: 0"]


def test_status_of_a_newer_schema(terminal: Terminal, empty_url: str) -> None:
    Outbox(empty_url).close()
    with beside(empty_url) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9000'")

    done = terminal.run("db", "status", DATABASE_URL=empty_url)

    assert done.exit_code == 1
    assert f"schema: revision 9000, of a newer release; this release knows up to {HEAD}\n" in done.stdout


def test_status_shows_no_password(terminal: Terminal, postgresql_store: str) -> None:
    url = postgresql_store.replace("@", ":marked@", 1)
    done = terminal.run("db", "status", DATABASE_URL=url)
    assert done.exit_code == 0
    assert "marked" not in done.output


def test_status_of_a_server_that_is_away(terminal: Terminal) -> None:
    done = terminal.run("db", "status", DATABASE_URL="postgresql://127.0.0.1:9/bridge")
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: the database cannot be read: ")


def test_sslmode_reaches_the_driver(terminal: Terminal, postgresql_store: str) -> None:
    done = terminal.run("db", "status", DATABASE_URL=f"{postgresql_store}?sslmode=require")
    assert done.exit_code == 1
    assert "server does not support SSL, but SSL was required" in done.stderr


# A connection that reads only


def test_it_cannot_write(terminal: Terminal) -> None:
    with read_only(terminal.database_url) as connection:
        for statement in ("DELETE FROM events", "PRAGMA user_version = 7"):
            with pytest.raises(OperationalError, match="readonly database"):
                connection.exec_driver_sql(statement)


@pytest.fixture
def crashed(terminal: Terminal, tmp_path: Path) -> Path:
    """A database as a crash leaves it: its last commits are only in its log."""
    folder = tmp_path / "crashed"
    folder.mkdir()
    with closing(Outbox(terminal.database_url, beside_a_server=True)) as outbox:
        outbox.store(make_webhook(make_job("in the log")))
        for file in tmp_path.glob("bridge.db*"):
            copy(file, folder)
    (folder / "bridge.db-shm").unlink()
    return folder / "bridge.db"


@pytest.mark.parametrize("command", ["status", "backup"])
def test_the_files_of_a_crashed_bridge_stay_as_they_are(
    terminal: Terminal, crashed: Path, command: str
) -> None:
    files = [crashed, crashed.with_name("bridge.db-wal")]
    before = [file.read_bytes() for file in files]
    assert before[1], "the commits are not in the log: the test shows nothing"

    done = terminal.run("db", command, DATABASE_URL=f"sqlite:///{crashed}")

    assert done.exit_code == 0, done.output
    assert [file.read_bytes() for file in files] == before
    assert re.search(r"events: 1,.*\njobs: 1 waiting$|, 1 events, 1 jobs$", done.stdout)


# db backup


def test_a_backup_has_the_webhooks_and_is_private(terminal: Terminal, tmp_path: Path) -> None:
    job = terminal.store(("a",))
    target = tmp_path / "copy.db"
    before = os.umask(0)
    try:
        done = terminal.run("db", "backup", str(target))
    finally:
        os.umask(before)

    size = target.stat().st_size
    assert (done.exit_code, done.output) == (0, f"backup: {target}\n{size:,} bytes, 1 events, 1 jobs\n")
    assert target.stat().st_mode & 0o777 == 0o600
    assert ids(target) == ([job.event_id], [job.id])


def test_a_backup_is_one_file(terminal: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    assert terminal.run("db", "backup", str(folder)).exit_code == 0
    (made,) = folder.iterdir()
    assert re.fullmatch(r"bridge-\d{8}T\d{6}Z\.db", made.name)


def test_by_default_it_is_beside_the_database(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    assert terminal.run("db", "backup").exit_code == 0
    assert len([*tmp_path.glob("bridge-*.db")]) == 1


def test_a_relative_path_is_shown_whole(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"backup: {tmp_path}/copy.db\n" in terminal.run("db", "backup", "copy.db").output


def test_no_file_is_replaced(terminal: Terminal, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_text("another file")
    done = terminal.run("db", "backup", str(target))
    assert (done.exit_code, done.output) == (1, f"Error: {target} exists: name another file\n")
    assert target.read_text() == "another file"


def test_a_folder_that_does_not_exist(terminal: Terminal, tmp_path: Path) -> None:
    target = tmp_path / "gone" / "copy.db"
    done = terminal.run("db", "backup", str(target))
    assert done.exit_code == 1
    source = tmp_path / "bridge.db"
    assert done.output.startswith(f"Error: {source} cannot be backed up to {target}: [Errno 2] No such file")


def damage(path: Path) -> None:
    """Overwrite the pages of an index."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'jobs_by_state'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


def test_a_damaged_database_gives_no_backup(terminal: Terminal, tmp_path: Path) -> None:
    terminal.store(("a",))
    damage(tmp_path / "bridge.db")
    folder = tmp_path / "backups"
    folder.mkdir()

    done = terminal.run("db", "backup", str(folder))

    assert done.exit_code == 1
    assert re.match(r"Error: the database is damaged, and there is no backup of it: .*[pP]age", done.output)
    assert [*folder.iterdir()] == []


def test_a_full_disk_leaves_no_part(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    connect = sqlite3.connect

    def limited(*arguments: object, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)  # type: ignore[call-overload]  # the arguments of the call are passed on
        connection.execute("PRAGMA max_page_count = 2")
        return connection

    monkeypatch.setattr(sqlite3, "connect", limited)
    done = terminal.run("db", "backup", str(folder))
    monkeypatch.undo()

    assert done.exit_code == 1
    assert done.output.endswith(": database or disk is full\n")
    assert [*folder.iterdir()] == []


def test_another_file_is_no_database(terminal: Terminal, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_text("another program's file " * 100)
    for command in ("status", "backup"):
        done = terminal.run("db", command, DATABASE_URL=f"sqlite:///{other}")
        assert (done.exit_code, done.output) == (
            1, f"Error: {other} cannot be read: file is not a database\n",
        )  # fmt: skip


# PostgreSQL


def test_for_postgresql_it_prints_the_command_without_the_password(terminal: Terminal) -> None:
    url = "postgresql://bob:marked@db.example:5432/bridge?sslmode=verify-full&password=marked"
    done = terminal.run("db", "backup", DATABASE_URL=url)
    assert done.exit_code == 2
    assert done.output.endswith(
        "Error: db backup copies only SQLite; for PostgreSQL, run as the role that owns the tables\n"
        "pg_dump --format=custom --file=bridge.dump "
        "'postgresql://bob@db.example:5432/bridge?sslmode=verify-full'\n"
    )


def test_the_printed_command_makes_a_dump_that_can_be_restored(
    terminal: Terminal, postgresql_cluster: Cluster, postgresql_store: str, tmp_path: Path
) -> None:
    with closing(Outbox(postgresql_store)) as outbox:
        outbox.store(make_webhook(make_job("a")))
    printed = terminal.run("db", "backup", DATABASE_URL=postgresql_store).output.splitlines()[-1]
    programs = find_programs()
    assert programs is not None
    restored = postgresql_cluster.create_database()

    dump, *options = shlex.split(printed)
    subprocess.run([programs / dump, *options], cwd=tmp_path, check=True)
    restore = [str(programs / "pg_restore"), "--no-owner", f"--dbname={restored}", "bridge.dump"]
    subprocess.run(restore, cwd=tmp_path, check=True)

    with closing(Outbox(restored, create=False)) as outbox:
        assert outbox.revisions == (HEAD, HEAD)
        (job,) = outbox.jobs()
        assert (job.state, job.arguments) == (JobState.WAITING, ("a",))
        assert outbox.event(job.event_id).body
        # Its sequences continue after the restored rows.
        assert outbox.store(make_webhook(make_job("b"), delivery_id="2")).jobs[0].id == job.id + 1
    with closing(psycopg.connect(restored)) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (2,)
    postgresql_cluster.drop(restored)
