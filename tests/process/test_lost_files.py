"""Files of an SQLite store are deleted while the server runs: nothing that was answered 202 is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.core.errors import StoreUnavailable
from bridge.outbox.sqlite import SQLite
from tests.support.forked import run_program
from tests.support.pushes import VARIABLES, push, write_table
from tests.support.server import Server
from tests.support.tables import wait_until
from tests.support.theeye import Answer, Fault, StandIn

#: Of a TheEye that is away: jobs wait.
AWAY = Fault(answer=Answer(503))
#: Why the bridge is not ready once the deleted log is in the database.
SAVED = "everything stored is saved"
JOBS = [sys.executable, "-m", "bridge", "jobs", "list"]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "bridge.db"


@pytest.fixture
def server(tmp_path: Path, database: Path, theeye: StandIn) -> Iterator[Server]:
    with Server(write_table(tmp_path, theeye.url, timeout="60s"), database, VARIABLES) as running:
        yield running


def delete(database: Path, suffix: str) -> None:
    database.with_name(f"{database.name}{suffix}").unlink()


def sqlite(database: Path, statement: str) -> str:
    """Run a statement from another process, as a person with SQLite's shell does."""
    code = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchall())"
    ran = subprocess.run(
        [sys.executable, "-c", code, str(database), statement], check=False, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
@pytest.mark.slow_unless(suffix="-wal")
def test_what_is_stored_outlives_a_deleted_file(
    server: Server, database: Path, theeye: StandIn, suffix: str
) -> None:
    theeye.fault(AWAY)
    commits = [f"commit-{number}" for number in range(5)]
    assert [push(server.port, commit).status for commit in commits] == [202] * 5

    delete(database, suffix)

    assert push(server.port, "refused").status == 503
    # Until the deleted log is saved, that is what is wrong.
    what = f"bridge.db{suffix} was moved or deleted"
    wait_until(lambda: what in server.get("/readyz")[1]["database"], what)
    status, told = server.get("/readyz")
    assert status == 503
    assert "stop the bridge and start it again" in told["database"]
    server.kill()
    theeye.clear()
    server.start()
    assert sorted(job.values[0] for job in theeye.wait_for(5)) == commits
    assert push(server.port, "taken").status == 202
    assert sqlite(database, "PRAGMA integrity_check") == "[('ok',)]"


def test_a_deleted_log_is_saved_while_no_webhook_comes(
    server: Server, database: Path, theeye: StandIn
) -> None:
    theeye.fault(AWAY)
    assert push(server.port, "one").status == 202
    delete(database, "-wal")
    wait_until(lambda: SAVED in server.log, "the log's line")
    server.kill()
    theeye.clear()
    server.start()
    theeye.wait_for(1)


def test_an_answer_that_comes_after_the_deletion_is_recorded(
    server: Server, database: Path, theeye: StandIn
) -> None:
    theeye.fault(Fault(hang=60.0, times=1))
    job_id = push(server.port, "one").jobs[0]
    theeye.wait_for_requests(1)
    delete(database, "-wal")
    assert push(server.port, "refused").status == 503
    theeye.clear()
    wait_until(lambda: f"job {job_id} of route" in server.log, "the record")
    server.kill()
    server.start()
    assert push(server.port, "two").status == 202
    assert [job.values[0] for job in theeye.wait_for(2)] == ["one", "two"]


def test_another_process_that_opens_the_database_is_no_alarm(
    server: Server, database: Path, theeye: StandIn
) -> None:
    for number in range(3):
        assert push(server.port, f"commit-{number}").status == 202
        sqlite(database, "PRAGMA wal_checkpoint(TRUNCATE)")
        sqlite(database, "SELECT count(*) FROM events")
        assert run_program(JOBS, {"DATABASE_URL": server.database_url}).returncode == 0
        assert server.get("/readyz")[0] == 200
    theeye.wait_for(3)
    assert "moved or deleted" not in server.log


def test_a_process_that_opens_other_files_is_not_mixed_with(
    server: Server, database: Path, theeye: StandIn
) -> None:
    theeye.fault(AWAY)
    assert push(server.port, "one").status == 202
    delete(database, "-wal")
    assert push(server.port, "refused").status == 503
    # Only from then on: a commit of another process before it would be lost with the deleted log.
    wait_until(lambda: SAVED in server.get("/readyz")[1]["database"], SAVED)
    wait_until(lambda: "now waiting" in server.log, "the record of the attempt")
    sqlite(database, "SELECT count(*) FROM events")
    sqlite(database, "CREATE TABLE foreign_table (x)")
    assert push(server.port, "refused").status == 503
    assert server.stop() == 0
    assert sqlite(database, "SELECT count(*) FROM events") == "[(1,)]"
    assert sqlite(database, "PRAGMA integrity_check") == "[('ok',)]"
    assert sqlite(database, "SELECT * FROM foreign_table") == "[]"


def test_a_commit_is_saved_even_if_another_process_opens_the_database_meanwhile(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SQLite(f"sqlite:///{database}", checkpoints=True)
    store.write(lambda connection: connection.exec_driver_sql("CREATE TABLE attempts (x)"))
    delete(database, "-wal")
    with pytest.raises(StoreUnavailable, match=SAVED):
        store.require_files()
    check = store._writer._before_commit

    def check_then_open() -> None:
        check()
        sqlite(database, "SELECT count(*) FROM attempts")

    monkeypatch.setattr(store._writer, "_before_commit", check_then_open)
    store.write(lambda connection: connection.exec_driver_sql("INSERT INTO attempts VALUES (1)"))
    sqlite(database, "CREATE TABLE foreign_table (x)")
    store.close()

    assert sqlite(database, "SELECT * FROM attempts") == "[(1,)]"
    assert sqlite(database, "SELECT * FROM foreign_table") == "[]"


def test_a_second_server_leaves_what_the_first_is_sending(
    tmp_path: Path, database: Path, theeye: StandIn
) -> None:
    """Even where somebody has deleted the lock file of an earlier release."""
    theeye.fault(Fault(hang=60.0))
    first = Server(write_table(tmp_path, theeye.url, timeout="60s"), database, VARIABLES)
    config = write_table(tmp_path, theeye.url, timeout="60s", name="second.yml")
    with first, Server(config, database, VARIABLES) as second:
        second.stop()
        assert [push(first.port, f"commit-{number}").status for number in range(3)] == [202] * 3
        theeye.wait_for_requests(3)
        database.with_name("bridge.db.lock").unlink(missing_ok=True)
        second.start()
        wait_until(lambda: second.get("/readyz")[1].get("delivering"), "the second server's delivery")
        theeye.clear()
        theeye.wait_for(3)
        assert push(second.port, "later").status == 202
        theeye.wait_for(4)
        assert "abandoned claim" not in second.log
    assert len(theeye.received) == 4
