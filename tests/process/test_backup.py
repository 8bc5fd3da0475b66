"""A backup of SQLite taken while the bridge runs, and put in place of a lost database."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from bridge.core.job import JobState
from bridge.outbox.store import Outbox
from tests.support.forked import run_program
from tests.support.pushes import (
    VARIABLES,
    Clients,
    assert_promises,
    commit_of,
    push,
    wait_until_none_waits,
    write_table,
)
from tests.support.server import Server
from tests.support.theeye import Fault, StandIn

#: How long what is pushed may take to be stored or delivered, seconds.
PATIENCE = 60.0


def run(server: Server, *arguments: str) -> str:
    """Run a command beside the server, as another process; its output."""
    command = [sys.executable, "-m", "bridge", *arguments]
    done = run_program(command, server._environ)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def restore(server: Server, backup: Path) -> None:
    """Put a backup in place of the database, as docs/how-to/backup.md says."""
    database = Path(server.database)
    for file in database.parent.glob(f"{database.name}*"):
        file.unlink()
    database.write_bytes(backup.read_bytes())


def commits(path: Path, *states: JobState) -> set[str]:
    """The commits of the jobs in these states, or in any."""
    with closing(Outbox(f"sqlite:///{path}", beside_a_server=True, create=False)) as outbox:
        jobs = outbox.jobs(limit=1_000_000)
    return {commit_of(job) for job in jobs if not states or job.state in states}


def sent(theeye: StandIn) -> Counter[str]:
    """How many times TheEye got each commit."""
    return Counter(str(job.values[0]) for job in theeye.jobs)


def test_backups_under_load_harm_nothing_and_can_be_restored(tmp_path: Path, theeye: StandIn) -> None:
    theeye.fault(Fault(hang=0.05))
    config = write_table(tmp_path, theeye.url)
    taken: set[str] = set()
    with Server(config, tmp_path / "bridge.db", VARIABLES) as server:
        clients = Clients(server.port, 6)
        clients.start()
        for number in range(4):
            clients.wait_for(len(clients.taken) + 30, PATIENCE)
            taken = clients.taken
            backup = tmp_path / f"backup-{number}.db"
            output = run(server, "db", "backup", str(backup))
            assert re.search(r" bytes, \d+ events, \d+ jobs$", output)
            # The webhooks that were answered before the backup began.
            assert taken <= commits(copy_of(backup))
        clients.finish(PATIENCE)
        with closing(Outbox(server.database_url, beside_a_server=True)) as outbox:
            wait_until_none_waits(outbox, PATIENCE)
            assert_promises(clients.taken, outbox, theeye)
        assert server.stop() == 0
        with closing(sqlite3.connect(tmp_path / "bridge.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

        before = sent(theeye)
        unfinished = commits(copy_of(backup), JobState.WAITING, JobState.SENDING)
        restore(server, backup)
        server.start()
        with closing(Outbox(server.database_url, beside_a_server=True)) as outbox:
            wait_until_none_waits(outbox, PATIENCE)
        assert commits(tmp_path / "bridge.db", JobState.ACCEPTED, JobState.UNKNOWN) >= taken
        assert set(sent(theeye) - before) <= unfinished
        assert push(server.port, "after").status == 202


def copy_of(backup: Path) -> Path:
    """A copy, to be opened: the backup itself stays one file."""
    copy = backup.with_suffix(".copy")
    copy.write_bytes(backup.read_bytes())
    return copy


@pytest.mark.parametrize("avoided", [False, True])
def test_jobs_that_were_accepted_after_the_backup_are_sent_again_unless_canceled(
    tmp_path: Path, theeye: StandIn, avoided: bool
) -> None:
    config = write_table(tmp_path, theeye.url)
    stopped = {**VARIABLES, "BRIDGE_DELIVER": "false"}
    database, backup = tmp_path / "bridge.db", tmp_path / "backup.db"
    with Server(config, database, stopped) as receiving:
        for commit in ("one", "two"):
            assert push(receiving.port, commit).status == 202
        run(receiving, "db", "backup", str(backup))
        receiving.stop()
    with Server(config, database, VARIABLES) as server:
        theeye.wait_for(2, PATIENCE)
        with closing(Outbox(server.database_url, beside_a_server=True)) as outbox:
            wait_until_none_waits(outbox, PATIENCE)
        server.stop()
        restore(server, backup)
    if avoided:
        with Server(config, database, stopped) as receiving:
            assert "two" in run(receiving, "jobs", "show", "2")
            assert len(run(receiving, "jobs", "list", "--state", "waiting").splitlines()) == 3
            run(receiving, "jobs", "cancel", "2")
            receiving.stop()
    with Server(config, database, VARIABLES) as server:
        with closing(Outbox(server.database_url, beside_a_server=True)) as outbox:
            wait_until_none_waits(outbox, PATIENCE)
        assert sent(theeye) == {"one": 2, "two": 1 if avoided else 2}
        assert server.stop() == 0
