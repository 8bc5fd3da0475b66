"""A PostgreSQL role with the grants of docs/how-to/database.md, on rows alone, runs the bridge."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from bridge.outbox.migrations import HEAD
from bridge.outbox.store import Outbox
from tests.support.daemon import PATIENCE
from tests.support.documents import code_blocks
from tests.support.forked import run_program
from tests.support.postgresql import USER, Cluster, find_programs
from tests.support.pushes import VARIABLES, push, wait_until_none_waits, write_table
from tests.support.server import CHECKOUT, Server, Worker
from tests.support.theeye import StandIn

ROLES, GRANTS = code_blocks("docs/how-to/database.md", "sql")


#: Undoes ROLES, and what the tests add.
REMOVAL = """
DROP DATABASE bridge WITH (FORCE);
DROP ROLE IF EXISTS bridge_app_2;
DROP ROLE bridge_app;
DROP ROLE bridge_owner;
"""


@pytest.fixture
def cluster(postgresql_cluster: Cluster) -> Iterator[Cluster]:
    """The shared one, with the documented roles and their empty database."""
    execute(postgresql_cluster.url("postgres"), ROLES)
    yield postgresql_cluster
    execute(postgresql_cluster.url("postgres"), REMOVAL)


def url_of(cluster: Cluster, role: str) -> str:
    """The URL of the documented database for a role."""
    return cluster.url("bridge").replace(f"{USER}@", f"{role}@")


def execute(url: str, statements: str) -> None:
    """Execute each statement in a transaction of its own."""
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        for statement in statements.split(";\n"):
            if statement.strip():
                connection.execute(statement.encode())


def command(url: str, config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m bridge`` with these arguments on a database."""
    environ = {"PATH": os.environ["PATH"], "DATABASE_URL": url, "BRIDGE_CONFIG": str(config), **VARIABLES}
    return run_program([sys.executable, "-m", "bridge", *arguments], environ)


def succeed(url: str, config: Path, *arguments: str) -> str:
    """The same; its output. Fails where the command does."""
    done = command(url, config, *arguments)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def upgrade_and_grant(cluster: Cluster, config: Path) -> str:
    """What the docs say to do; the URL of the role that runs the bridge."""
    owner = url_of(cluster, "bridge_owner")
    assert HEAD in succeed(owner, config, "db", "upgrade")
    execute(owner, GRANTS)
    return url_of(cluster, "bridge_app")


def test_a_role_with_the_documented_grants_runs_the_bridge(
    tmp_path: Path, cluster: Cluster, theeye: StandIn
) -> None:
    config = write_table(tmp_path, theeye.url)
    url = upgrade_and_grant(cluster, config)
    web_only = {**VARIABLES, "BRIDGE_DELIVER": "false"}

    with Server(config, url, web_only) as server, Worker(config, url, VARIABLES):
        succeed(url, config, "pause", "release")
        assert push(server.port, "commit-1").status == 202
        assert push(server.port, "commit-1").status == 200
        (held,) = push(server.port, "commit-2", "release").jobs
        theeye.wait_for(1)
        succeed(url, config, "jobs", "cancel", str(held))
        succeed(url, config, "resume", "release")
        succeed(url, config, "events", "replay", "1")
        theeye.wait_for(2)
        assert server.get("/readyz")[0] == 200
        with closing(Outbox(url)) as outbox:
            wait_until_none_waits(outbox, PATIENCE)
    execute(url, "UPDATE events SET received_at = 0;\nUPDATE jobs SET created_at = 0, ended_at = 0")
    assert succeed(url, config, "prune")
    with closing(Outbox(url)) as outbox:
        assert not outbox.events(limit=10)


def test_the_role_can_neither_change_the_schema_nor_its_revision(tmp_path: Path, cluster: Cluster) -> None:
    url = upgrade_and_grant(cluster, write_table(tmp_path, "http://127.0.0.1:9"))

    for statement in (
        "CREATE TABLE more (id int)",
        "CREATE TEMPORARY TABLE more (id int)",
        "DROP TABLE events",
        "ALTER TABLE jobs DROP COLUMN state",
        "TRUNCATE attempts",
        "UPDATE alembic_version SET version_num = '9000'",
    ):
        with pytest.raises(InsufficientPrivilege):
            execute(url, statement)


def test_the_tables_of_a_later_release_are_granted_too(tmp_path: Path, cluster: Cluster) -> None:
    url = upgrade_and_grant(cluster, write_table(tmp_path, "http://127.0.0.1:9"))

    execute(url_of(cluster, "bridge_owner"), "CREATE TABLE later (id serial PRIMARY KEY, name text)")

    execute(url, "INSERT INTO later (name) VALUES ('a');\nUPDATE later SET name = 'b';\nDELETE FROM later")


def test_a_second_role_takes_over_when_the_password_is_rotated(tmp_path: Path, cluster: Cluster) -> None:
    config = write_table(tmp_path, "http://127.0.0.1:9")
    upgrade_and_grant(cluster, config)

    execute(
        cluster.url("bridge"),
        "CREATE ROLE bridge_app_2 LOGIN PASSWORD '…' IN ROLE bridge_app;\nALTER ROLE bridge_app NOLOGIN",
    )

    succeed(url_of(cluster, "bridge_app_2"), config, "pause", "deploy")
    assert command(url_of(cluster, "bridge_app"), config, "pause").returncode != 0


def test_a_dump_is_restored_with_the_grants(tmp_path: Path, cluster: Cluster, theeye: StandIn) -> None:
    config = write_table(tmp_path, theeye.url)
    url = upgrade_and_grant(cluster, config)
    programs = find_programs()
    dump, restore = [
        line.replace("db.example.com", urlsplit(url).netloc.rpartition("@")[2]).replace(
            "?sslmode=verify-full", ""
        )
        for block in code_blocks("docs/how-to/backup.md", "sh")
        for line in block.splitlines()
        if line.startswith("pg_")
    ]
    with Server(config, url, {**VARIABLES, "BRIDGE_DELIVER": "false"}) as server:
        assert push(server.port, "one").status == 202
        subprocess.run([f"{programs}/{dump}"], shell=True, cwd=tmp_path, check=True)
        assert push(server.port, "lost").status == 202
    execute(cluster.url("postgres"), "CREATE DATABASE bridge_restored OWNER bridge_owner")
    restored = f"{url}_restored"
    try:
        subprocess.run([f"{programs}/{restore}"], shell=True, cwd=tmp_path, check=True)
        with Server(config, restored, VARIABLES) as server:
            assert [job.values for job in theeye.wait_for(1)] == [("one",)]
            assert push(server.port, "lost").status == 202
            theeye.wait_for(2)
            assert server.get("/readyz")[0] == 200
    finally:
        cluster.drop(restored)


@pytest.mark.parametrize("revision", [None, "0001"])
@pytest.mark.slow_unless(revision=None)
def test_a_start_without_the_right_to_upgrade_says_what_to_run(
    tmp_path: Path, cluster: Cluster, revision: str | None
) -> None:
    config = write_table(tmp_path, "http://127.0.0.1:9")
    url = url_of(cluster, "bridge_app")
    found = "empty"
    if revision is not None:
        found = f"at revision {revision}"
        migrate_to(url_of(cluster, "bridge_owner"), revision)
        execute(url_of(cluster, "bridge_owner"), GRANTS)

    with pytest.raises(AssertionError) as ended:
        Server(config, url, VARIABLES).start()

    (line,) = [line for line in str(ended.value).splitlines() if "bridge db upgrade" in line]
    assert f"the database's schema is {found}, this release needs revision {HEAD}" in line
    assert "of the role that owns the database" in line
    assert "Traceback" not in str(ended.value)

    succeed(url_of(cluster, "bridge_owner"), config, "db", "upgrade")
    execute(url_of(cluster, "bridge_owner"), GRANTS)
    succeed(url, config, "jobs", "list")


def migrate_to(url: str, revision: str) -> None:
    """Bring an empty database to an older revision, as that release's `db upgrade` did."""
    script = (
        "import sys\n"
        "from bridge.outbox.store import Outbox, migrations\n"
        "migrations.HEAD = sys.argv[2]\n"
        "Outbox(sys.argv[1]).close()\n"
    )
    subprocess.run([sys.executable, "-c", script, url, revision], cwd=CHECKOUT, check=True)
