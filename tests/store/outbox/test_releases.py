"""This release upgrades the database of each earlier one, with data, and reads and delivers its jobs."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, select, text

from bridge import __version__
from bridge.core.job import JobState, Outcome
from bridge.core.secrets import Mask
from bridge.delivery import dispatcher
from bridge.http.client import HttpClient
from bridge.outbox import rates
from bridge.outbox.migrations import HEAD
from bridge.outbox.pauses import Pausable
from bridge.outbox.schema import metadata
from bridge.outbox.store import Outbox
from bridge.process.watchdog import Watchdog
from tests.support.delivery import Process, arguments, quick_client
from tests.support.documents import ROOT
from tests.support.intake import beside
from tests.support.release_database import FOLDER, HANGING, PAUSED, STATES, TASKS, load
from tests.support.tables import make_job, make_table, make_webhook, stand_in_task
from tests.support.terminal import Terminal
from tests.support.theeye import StandIn

ENGINES = ("sqlite", "postgresql")
RELEASES = sorted({path.name.removesuffix(".sql").rpartition(".")[0] for path in FOLDER.glob("*.sql")})


@pytest.fixture(params=RELEASES)
def url(request: pytest.FixtureRequest, empty_url: str) -> str:
    """The database of a release, in each engine."""
    load(request.param, empty_url)
    return empty_url


def tables(connection: Connection) -> MetaData:
    """The tables as the database has them."""
    found = MetaData()
    found.reflect(connection)
    return found


def rows(connection: Connection, of: MetaData) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of these tables, in their columns."""
    return {
        name: sorted(map(tuple, connection.execute(select(table))), key=str)
        for name, table in of.tables.items()
        if name != "alembic_version"
    }


def test_each_release_has_its_databases() -> None:
    """To make those of the last one: see CONTRIBUTING.md."""
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    released = set(re.findall(r"^## (\d+\.\d+\.\d+)", changelog, re.MULTILINE)) - {__version__}
    assert released
    for release in {*released, *RELEASES}:
        for engine in ENGINES:
            assert (FOLDER / f"{release}.{engine}.sql").exists()


def test_an_upgrade_keeps_every_row(url: str) -> None:
    with beside(url) as connection:
        before = tables(connection)
        stored = rows(connection, before)

    Outbox(url).close()

    with beside(url) as connection:
        assert rows(connection, before) == stored
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    assert {name for name, found in stored.items() if not found} == set(), "a table has no row to keep"


def test_this_release_reads_it(url: str) -> None:
    with closing(Outbox(url)) as outbox:
        counts = outbox.counts()
        events = [outbox.event(each.id) for each in outbox.events()]
        attempts = [attempt for job in outbox.jobs() for attempt in outbox.attempts(job.id)]
        refused, paused = outbox.refused(), outbox.paused()
        entries = outbox.audit.entries(since=None, limit=10)
        history = list(outbox.history(since=None, last=None))

    assert counts == {JobState(state): number for state, number in STATES.items()}
    assert {event.event for event in events} == {"push"}
    assert all(isinstance(event.payload, dict) for event in events)
    outcomes = Counter(attempt.outcome for attempt in attempts)
    assert outcomes == {Outcome.ACCEPTED: 3, Outcome.REFUSED: 1, Outcome.UNKNOWN: 2, None: 1}
    assert [each.status for each in refused] == [401]
    assert [each.name for each in paused] == [PAUSED.id]
    assert sorted(each.action.name for each in entries) == ["jobs cancel", "pause"]
    assert {each.action.actor for each in entries} == {"alice"}
    assert len(history) == len(events)


@pytest.fixture
def theeye() -> Iterator[StandIn]:
    with StandIn(["acme"], map(stand_in_task, TASKS)) as stand_in:
        yield stand_in


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Watchdog], HttpClient]:
    return quick_client(tmp_path_factory.mktemp("certificates"))


def test_this_release_delivers_its_jobs(
    url: str,
    theeye: StandIn,
    client: Callable[[Watchdog], HttpClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Otherwise a process waits for a lease before it recovers the claims of others.
    monkeypatch.setattr(dispatcher, "JUMP_THRESHOLD", math.inf)
    monkeypatch.setattr(rates, "store_time", lambda connection, here: here)
    table = make_table(tasks=TASKS, url=theeye.url)
    process = Process(url, table, Mask(), make_client=client)
    process.clock.offset = 3600  # the leases of a database that was just made have ended, too
    (waiting,) = process.outbox.jobs(state=JobState.WAITING)
    (sending,) = process.outbox.jobs(state=JobState.SENDING)
    try:
        process.start()
        process.wait_for(sending.id, JobState.ACCEPTED)
        assert process.outcomes(sending.id) == [Outcome.UNKNOWN, Outcome.ACCEPTED]
        assert process.job(waiting.id).state is JobState.WAITING
        process.outbox.resume(Pausable.TASK, PAUSED.id)
        process.wait_for(waiting.id, JobState.ACCEPTED)
        new = process.store(make_job("new", task=HANGING))
        process.wait_for(new[0], JobState.ACCEPTED)
    finally:
        process.close()
    assert arguments(theeye) == [*(sending.arguments or ()), *(waiting.arguments or ()), "new"]


def test_a_webhook_of_before_the_upgrade_is_a_duplicate_after_it(url: str) -> None:
    with closing(Outbox(url)) as outbox:
        (known, *_) = outbox.events()
        event = outbox.event(known.id)
        stored = outbox.store(make_webhook(event=event, digest=b"another body"))
    assert (stored.event_id, stored.duplicate) == (known.id, True)


def test_status_says_that_an_upgrade_is_due_and_makes_none(url: str, tmp_path: Path) -> None:
    (tmp_path / "terminal").mkdir()
    terminal = Terminal(tmp_path / "terminal")
    with beside(url) as connection:
        before = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()

    shown = terminal.run("db", "status", "--json", DATABASE_URL=url)
    done = terminal.run("db", "status", DATABASE_URL=url)

    is_due = before != HEAD
    assert shown.exit_code == done.exit_code == is_due
    found = json.loads(shown.stdout)
    assert (found["revision"], found["release_revision"]) == (before, HEAD)
    assert {state: number for state, number in found["jobs"].items() if number} == STATES
    due = f"schema: revision {before}; run `theeye-bridge db upgrade`, this release needs {HEAD}\n"
    assert (due in done.stdout) is is_due
    with beside(url) as connection:
        after = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    assert after == before


@pytest.mark.parametrize("release", RELEASES)
def test_this_release_backs_up_an_older_database_as_it_is(release: str, tmp_path: Path) -> None:
    old, copy = (f"sqlite:///{tmp_path / name}" for name in ("old.db", "copy.db"))
    load(release, old)
    with beside(old) as connection:
        before = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
        stored = rows(connection, tables(connection))
    (tmp_path / "terminal").mkdir()
    terminal = Terminal(tmp_path / "terminal")

    done = terminal.run("db", "backup", str(tmp_path / "copy.db"), DATABASE_URL=old)

    assert done.exit_code == 0, done.output
    for url in (old, copy):
        with beside(url) as connection:
            assert rows(connection, tables(connection)) == stored
            after = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
            assert after == before


def test_the_documented_revision_of_a_release_is_its_databases(
    url: str, request: pytest.FixtureRequest
) -> None:
    release = request.node.callspec.params["url"]
    page = (ROOT / "docs" / "how-to" / "upgrade.md").read_text("utf-8")
    with beside(url) as connection:
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    assert f"| {release} | {revision} |" in page
