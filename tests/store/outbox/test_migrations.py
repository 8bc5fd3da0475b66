"""The store's schema over the releases: what a process finds when it starts, and what it leaves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from bridge.core.errors import StoreUnavailable
from bridge.outbox import migrations, session, sqlite
from bridge.outbox.migrations import HEAD
from bridge.outbox.schema import metadata
from bridge.outbox.store import Outbox
from tests.support.forked import Forked, run_program
from tests.support.intake import VARIABLES, table
from tests.support.postgresql import Cluster
from tests.support.tables import (
    PATIENCE,
    make_job,
    make_webhook,
    wait_until,
)
from tests.support.terminal import Terminal

CHECKOUT = Path(__file__).parents[3]

#: The revision of release 0.1.0, and the last one.
FIRST = "0001"

#: A revision that this release does not know.
NEWER = "9000"

TABLE = """
sources:
  open: {type: generic, allow_unsigned: true}
routes:
  - {name: any, source: open, task: TASK, secret_key: KEY, task_arguments: []}
"""

#: The next revision, as a later release will bring one.
NEXT = f"""
from alembic import op
from sqlalchemy import Column, Text

revision = "next"
down_revision = "{HEAD}"

def upgrade():
    op.add_column("jobs", Column("added", Text))
    op.create_index("jobs_by_added", "jobs", ["added"])
"""


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """A folder with this release's migrations and the next one."""
    scripts = tmp_path / "migrations"
    (scripts / "versions").mkdir(parents=True)
    for script in (migrations.SCRIPTS / "versions").glob("*.py"):
        shutil.copy(script, scripts / "versions")
    (scripts / "versions" / "next.py").write_text(NEXT, "utf-8")
    return scripts


def use_next(monkeypatch: pytest.MonkeyPatch, next_release: Path) -> None:
    """Let this process be of the next release."""
    monkeypatch.setattr(migrations, "SCRIPTS", next_release)
    monkeypatch.setattr(migrations, "HEAD", "next")


@pytest.fixture
def url(empty_url: str) -> str:
    return empty_url


def migrate(url: str) -> tuple[str | None, str | None]:
    """What a process does that starts; the revisions before and after."""
    outbox = Outbox(url)
    outbox.close()
    return outbox.revisions


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A transaction on the store beside the code under test, committed at the end."""
    engine = session.connect(url) if url.startswith("postgresql") else sqlite.connect(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def schema(url: str) -> list[str]:
    """Everything that the database says of its tables, but for the revision's."""
    with connected(url) as connection:
        if connection.dialect.name == "sqlite":
            found = connection.execute(
                text("SELECT name, sql FROM sqlite_master WHERE tbl_name != 'alembic_version'")
            )
            # A column that is added leaves the line break of the last one before its comma.
            words = {name: " ".join((sql or "").split()) for name, sql in found}
            return sorted(f"{name}: {re.sub(' (?=[,)])', '', words[name])}" for name in words)
        queries = {
            "column": "SELECT table_name, column_name, ordinal_position, data_type, is_nullable,"
            " column_default FROM information_schema.columns WHERE table_schema = 'public'",
            "index": "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'",
            "constraint": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
            " FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
            "sequence": "SELECT sequence_name, data_type FROM information_schema.sequences",
        }
        return sorted(
            f"{what}: {tuple(row)}"
            for what, query in queries.items()
            for row in connection.execute(text(query))
            if row[0] != "alembic_version"
        )


def rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    with connected(url) as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(table.select())]
            for table in metadata.sorted_tables
        }


def set_revision(url: str, revision: str) -> None:
    with connected(url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": revision})


# What the migrations make


def test_the_last_revision_is_the_head_and_all_follow_from_the_first() -> None:
    script = ScriptDirectory(str(Path(migrations.__file__).parent))

    assert (script.get_bases(), script.get_heads()) == ([FIRST], [HEAD])


def test_the_migrations_make_what_the_tables_say(url: str) -> None:
    migrate(url)

    with connected(url) as connection:
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_they_make_on_sqlite_what_the_tables_would(tmp_path: Path) -> None:
    """Also what Alembic does not compare: the conditions of indexes, keys that count up."""
    made, migrated = (f"sqlite:///{tmp_path / name}.db" for name in ("made", "migrated"))
    with connected(made) as connection:
        metadata.create_all(connection)
    migrate(migrated)

    assert schema(migrated) == schema(made)
    assert "AUTOINCREMENT" in str(schema(made))
    assert "WHERE" in str(schema(made))


def test_they_make_on_postgresql_what_the_tables_would(
    postgresql_cluster: Cluster, postgresql_url: str
) -> None:
    made = postgresql_cluster.create_database()
    with connected(made) as connection:
        metadata.create_all(connection)
    migrate(postgresql_url)

    assert schema(postgresql_url) == schema(made)
    everything = "\n".join(schema(made))
    assert "WHERE ((state = 'waiting'::text) AND (NOT blocked))" in everything
    assert "FOREIGN KEY (event_id) REFERENCES events(id)" in everything
    postgresql_cluster.drop(made)


def test_an_empty_store_is_made_and_a_made_one_is_left_alone(url: str) -> None:
    assert migrate(url) == (None, HEAD)
    before = schema(url)

    assert migrate(url) == (HEAD, HEAD)
    assert schema(url) == before


def test_another_programs_table_of_a_common_name_is_not_taken_for_it(url: str) -> None:
    with connected(url) as connection:
        connection.execute(text("CREATE TABLE jobs (id integer)"))

    with pytest.raises(Exception, match=r"(?i)jobs.* already exists"):
        Outbox(url)

    with connected(url) as connection:
        assert connection.execute(text("SELECT count(*) FROM jobs")).scalar_one() == 0


# A store that this release cannot use


def refuses(revision: str) -> str:
    return (
        f"the database is at revision {revision}, from a newer release of the bridge or another program; "
        f"this release knows up to {HEAD}. Deploy the newer release again, or set another "
        "DATABASE_URL"
    )


@pytest.mark.parametrize("revision", [NEWER, "1975ea83b712"])
def test_a_store_of_a_newer_release_is_refused_and_left_as_it_is(url: str, revision: str) -> None:
    migrate(url)
    set_revision(url, revision)
    before = schema(url)

    with pytest.raises(StoreUnavailable) as caught:
        Outbox(url)

    assert str(caught.value) == refuses(revision)
    assert schema(url) == before
    with connected(url) as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [
            revision
        ]
    set_revision(url, HEAD)
    assert migrate(url) == (HEAD, HEAD)


def environ(url: str, folder: Path) -> dict[str, str]:
    config = folder / "table.yml"
    config.write_text(table(TABLE), "utf-8")
    return {
        "PATH": os.environ.get("PATH", os.defpath), "DATABASE_URL": url, "BRIDGE_CONFIG": str(config),
        "PORT": "0", **VARIABLES,
    }  # fmt: skip


def run(command: list[str], url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return run_program([sys.executable, "-m", *command], environ(url, folder))


@pytest.mark.parametrize("command", [["jobs", "list"], ["events", "list", "--json"], ["db", "upgrade"]])
@pytest.mark.slow_unless(empty_url="sqlite")
def test_a_command_says_so_in_one_line(url: str, tmp_path: Path, command: list[str]) -> None:
    migrate(url)
    set_revision(url, NEWER)

    done = run(["bridge", *command], url, tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Error: {refuses(NEWER)}\n")


@pytest.mark.slow_unless(empty_url="sqlite")
def test_a_worker_does_not_start_on_it(url: str, tmp_path: Path) -> None:
    migrate(url)
    set_revision(url, NEWER)

    done = run(["bridge", "worker"], url, tmp_path)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"Error: {refuses(NEWER)}"
    assert "Traceback" not in done.stderr


@pytest.mark.slow_unless(empty_url="sqlite")
def test_the_server_does_not_start_on_it(url: str, tmp_path: Path) -> None:
    """It ends, where it could start processes for ever that end at once."""
    migrate(url)
    set_revision(url, NEWER)

    done = run(
        [
            "gunicorn",
            "-c",
            "python:bridge.server.gunicorn_config",
            "--bind",
            "127.0.0.1:0",
            "bridge.wsgi:app",
        ],
        url,
        tmp_path,
    )

    assert done.returncode != 0
    assert refuses(NEWER) in done.stderr
    assert "Traceback" not in done.stderr


# What goes wrong on the way


def failing(monkeypatch: pytest.MonkeyPatch, index: str) -> None:
    """The next migration fails where it makes this index, its last or last but one statement."""
    from alembic import op  # noqa: PLC0415 - its names exist only once it is imported

    create: Callable[..., None] = op.create_index

    def create_index(name: str, *arguments: Any, **more: Any) -> None:
        if name == index:
            raise RuntimeError("the power went")
        create(name, *arguments, **more)

    monkeypatch.setattr(op, "create_index", create_index)


@pytest.mark.parametrize("index", ["events_by_fingerprint", "jobs_ready", "refused_requests_by_source"])
def test_a_migration_that_fails_leaves_an_empty_store_empty(
    url: str, monkeypatch: pytest.MonkeyPatch, index: str
) -> None:
    with monkeypatch.context() as patched:
        failing(patched, index)
        with pytest.raises(RuntimeError, match="the power went"):
            Outbox(url)

    assert schema(url) == []
    with connected(url) as connection:
        assert migrations.revision(connection) is None
    assert migrate(url) == (None, HEAD)


def test_a_migration_that_fails_leaves_a_store_as_it_was(
    url: str, monkeypatch: pytest.MonkeyPatch, next_release: Path
) -> None:
    migrate(url)
    before = schema(url)
    use_next(monkeypatch, next_release)
    with monkeypatch.context() as patched:
        failing(patched, "jobs_by_added")
        with pytest.raises(RuntimeError, match="the power went"):
            Outbox(url)

    assert schema(url) == before
    with connected(url) as connection:
        assert migrations.revision(connection) == HEAD
    assert migrate(url) == (HEAD, "next")


def open_at_once(url: str, folder: Path, *release: str) -> list[str]:
    """Return what six processes write that open the store at the same moment."""
    gate, outputs = folder / "gate", [folder / f"opened-{number}" for number in range(6)]
    command = [sys.executable, "-m", "tests.support.open_store", str(gate), url, *release]
    processes = [Forked(command, CHECKOUT, {}, output) for output in outputs]
    wait_until(lambda: all(each.exists() and each.read_text() for each in outputs), "the processes' start")
    gate.touch()
    assert [process.wait(PATIENCE) for process in processes] == [0] * 6
    return sorted(output.read_text().removeprefix("ready\n") for output in outputs)


def test_six_processes_open_an_empty_store_at_once(url: str, tmp_path: Path) -> None:
    assert open_at_once(url, tmp_path) == [f"{HEAD} {HEAD}\n"] * 5 + [f"None {HEAD}\n"]


def test_six_processes_of_the_next_release_open_a_store_at_once(
    url: str, tmp_path: Path, next_release: Path
) -> None:
    outbox = Outbox(url)
    outbox.store(make_webhook(make_job("x"), delivery_id="before"))
    outbox.close()
    before = rows(url)

    opened = open_at_once(url, tmp_path, str(next_release), "next")

    assert opened == [f"{HEAD} next\n"] + ["next next\n"] * 5
    assert rows(url) == before


# The command


@pytest.mark.slow_unless(empty_url="sqlite")
def test_db_upgrade_says_what_it_did(url: str, tmp_path: Path) -> None:
    for said in (
        f"upgraded the database from nothing to revision {HEAD}",
        f"the database is at revision {HEAD}",
    ):
        done = run(["bridge", "db", "upgrade"], url, tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{said}\n", "")


def test_db_upgrade_says_from_where(
    url: str, monkeypatch: pytest.MonkeyPatch, next_release: Path, tmp_path: Path
) -> None:
    terminal = Terminal(tmp_path)
    migrate(url)
    use_next(monkeypatch, next_release)

    done = terminal.run("db", "upgrade", DATABASE_URL=url)

    assert (done.exit_code, done.output) == (0, f"upgraded the database from {HEAD} to revision next\n")
