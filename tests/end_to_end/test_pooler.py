"""The bridge behind PgBouncer in transaction mode, where each transaction may have another session."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text

from bridge.core.errors import StoreUnavailable
from bridge.core.job import JobState
from bridge.outbox.postgresql import PostgreSQL
from bridge.outbox.store import Outbox
from tests.conftest import lacks
from tests.support.daemon import find_program
from tests.support.pgbouncer import PgBouncer
from tests.support.postgresql import Cluster
from tests.support.pushes import (
    VARIABLES,
    Clients,
    assert_promises,
    stand_in,
    wait_until_none_waits,
    write_table,
)
from tests.support.server import Server, Worker
from tests.support.tables import in_threads
from tests.support.theeye import StandIn


@pytest.fixture
def theeye() -> Iterator[StandIn]:
    with stand_in() as stand:
        yield stand


@pytest.fixture(scope="session")
def pgbouncer_program() -> None:
    if find_program("pgbouncer") is None:
        lacks("pgbouncer")


@pytest.fixture
def pooler(pgbouncer_program: None, postgresql_url: str) -> Iterator[PgBouncer]:
    """In front of an empty database of the test's own."""
    with PgBouncer(postgresql_url) as pooler:
        yield pooler


def execute(url: str, *statements: str) -> None:
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def make_commits_weak(url: str) -> None:
    """Let every later session lose its last commits when the server is killed."""
    name = url.rpartition("/")[2]
    execute(
        url,
        f"ALTER DATABASE {name} SET synchronous_commit = off",
        f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'",
    )


def test_every_session_has_what_a_transaction_needs(pooler: PgBouncer, postgresql_url: str) -> None:
    """Also those that the pooler opens after the bridge has connected."""
    with closing(PostgreSQL(pooler.url)) as database:

        def look(connection: Connection) -> tuple[str, ...]:
            shown = "synchronous_commit", "transaction_isolation", "lock_timeout"
            return tuple(connection.execute(text(f"SHOW {name}")).scalar_one() for name in shown)

        def session(connection: Connection) -> int:
            time.sleep(0.05)  # so that others have another session
            pid: int = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            return pid

        in_threads([partial(database.write, look)] * 5)
        make_commits_weak(postgresql_url)
        execute(pooler.admin_url, "RECONNECT")
        pids = in_threads([partial(database.write, session)] * 15)
        looks = in_threads([partial(database.write, look)] * 30)
    assert len(set(pids)) == 3
    assert set(looks) == {("on", "read committed", "5s")}


def test_nothing_is_left_in_a_session(pooler: PgBouncer) -> None:
    """Other programs may get it next."""
    with closing(PostgreSQL(pooler.url)) as database:
        database.listen(lambda: None)
        database.write(lambda connection: connection.execute(text("SELECT 1")))
        database.announce()
    left = (
        "SELECT (SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_settings"
        " WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding',"
        " 'DateStyle', 'TimeZone', 'standard_conforming_strings', 'IntervalStyle'))"
    )
    with closing(psycopg.connect(pooler.url, autocommit=True, prepare_threshold=None)) as other:
        assert {other.execute(left).fetchone() for _ in range(6)} == {(0, 0)}


def test_nothing_is_lost_or_doubled(
    tmp_path: Path, theeye: StandIn, pooler: PgBouncer, postgresql_url: str
) -> None:
    config = write_table(tmp_path, theeye.url)
    web = {**VARIABLES, "BRIDGE_DELIVER": "false", "WEB_CONCURRENCY": "2"}
    with Server(config, pooler.url, web) as server, Worker(config, pooler.url, VARIABLES) as worker:
        clients = Clients(server.port, 8, commits=150)
        clients.start()
        clients.wait_for(50, 30)
        execute(pooler.admin_url, "RECONNECT")
        clients.finish(60)
        with closing(Outbox(pooler.url)) as outbox:
            wait_until_none_waits(outbox, 60)
            assert assert_promises(clients.taken, outbox, theeye) == 0
        log = server.log + worker.log
        assert server.get("/readyz")[0] == 200
        assert log.count("a pooler is in front of PostgreSQL") == 1
        assert "other processes are not" not in log
        assert "Traceback" not in log
    assert "when not linked" not in pooler.log


def test_a_commit_that_was_answered_outlives_a_kill_of_the_server(
    tmp_path: Path, theeye: StandIn, pgbouncer_program: None, postgresql_programs: None
) -> None:
    config = write_table(tmp_path, theeye.url)
    with Cluster() as cluster:
        url = cluster.create_database()
        execute(url, "ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()")
        with PgBouncer(url) as pooler:
            with Server(config, pooler.url, {**VARIABLES, "BRIDGE_DELIVER": "false"}) as server:
                in_threads([partial(server.get, "/readyz")] * 12)
                make_commits_weak(url)
                execute(pooler.admin_url, "RECONNECT")
                clients = Clients(server.port, 4, commits=40)
                clients.start()
                clients.finish(30)
                cluster.kill()
            cluster.start()
            with closing(Outbox(url)) as outbox:
                assert outbox.counts() == {JobState.WAITING: 40}


def test_a_pooler_of_statements_is_refused(pgbouncer_program: None, postgresql_url: str) -> None:
    with PgBouncer(postgresql_url, mode="statement") as pooler:
        with pytest.raises(Exception, match=r"the database cannot be read: .*statement pooling") as caught:
            Outbox(pooler.url)
        assert "\n" not in str(caught.value)


def test_options_are_refused(pooler: PgBouncer, postgresql_url: str) -> None:
    """Else the bridge would use another schema, and another store, than without the pooler."""
    execute(postgresql_url, "CREATE SCHEMA bridge")
    options = "?options=-csearch_path%3Dbridge"
    with closing(Outbox(f"{postgresql_url}{options}")) as outbox:
        assert outbox.events() == []
    with pytest.raises(StoreUnavailable, match="has options, but a pooler is in front of PostgreSQL"):
        Outbox(f"{pooler.url}{options}")
