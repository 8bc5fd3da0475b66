"""A PostgreSQL role that may open few connections."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, text

from bridge.core.errors import StoreUnavailable
from bridge.outbox import pool
from bridge.outbox.pool import POOL_SIZE, ElasticPool
from bridge.outbox.postgresql import PostgreSQL
from bridge.outbox.session import Session
from bridge.outbox.store import Outbox
from tests.support.forked import run_program
from tests.support.postgresql import USER, Cluster
from tests.support.tables import in_threads, make_job, make_webhook, wait_until

#: Connections of the role, fewer than two processes want.
LIMIT = 6


@pytest.fixture
def limited_url(postgresql_cluster: Cluster, postgresql_url: str) -> Iterator[str]:
    """The database of a role with LIMIT connections."""
    name = postgresql_url.rpartition("/")[2]
    with closing(psycopg.connect(postgresql_url, autocommit=True)) as connection:
        connection.execute(f"CREATE ROLE limited LOGIN CONNECTION LIMIT {LIMIT}".encode())
        connection.execute(f"ALTER DATABASE {name} OWNER TO limited".encode())
    yield postgresql_url.replace(f"{USER}@", "limited@")
    postgresql_cluster.drop(postgresql_url)
    with closing(psycopg.connect(postgresql_cluster.url("postgres"), autocommit=True)) as connection:
        connection.execute(b"DROP ROLE limited")


def sessions(url: str) -> int:
    """How many sessions the limited role has."""
    with closing(psycopg.connect(url.replace("limited@", f"{USER}@"))) as connection:
        counted = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'limited'")
        return int(counted.fetchall()[0][0])


def pause(connection: Connection) -> None:
    connection.execute(text("SELECT pg_sleep(0.02)"))


def test_bursts_of_several_processes_wait_for_room(limited_url: str) -> None:
    with ExitStack() as opened:
        stores = [opened.enter_context(closing(Outbox(limited_url))) for _ in range(3)]

        def store(number: int) -> bool:
            webhook = make_webhook(make_job(f"{number}"), delivery_id=f"{number}")
            return stores[number % 3].store(webhook).duplicate

        for burst in range(3):
            assert Counter(in_threads([partial(store, 60 * burst + n) for n in range(60)])) == {False: 60}
            assert sessions(limited_url) <= LIMIT


def test_idle_sessions_are_given_back_but_one(limited_url: str) -> None:
    with closing(PostgreSQL(limited_url)) as database:
        in_threads([partial(database.write, pause)] * POOL_SIZE * 2)
        used = database._engine.pool
        assert isinstance(used, ElasticPool)
        wait_until(lambda: sessions(limited_url) == 1, "the end of idle sessions")
        assert used.status() == "1 sessions, 1 of them idle"
        assert len(in_threads([partial(database.write, pause)] * POOL_SIZE * 2)) == POOL_SIZE * 2


def test_idle_sessions_are_given_back_under_steady_traffic(
    limited_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "SURPLUS_IDLE", 0.5)
    with closing(PostgreSQL(limited_url)) as database:
        in_threads([partial(database.write, pause)] * POOL_SIZE * 2)
        assert sessions(limited_url) == POOL_SIZE

        def is_closed() -> bool:
            database.announce()
            return sessions(limited_url) == 1

        wait_until(is_closed, "the end of idle sessions")


def test_a_command_gets_a_connection_once_a_burst_is_over(limited_url: str) -> None:
    with closing(PostgreSQL(limited_url)) as one, closing(PostgreSQL(limited_url)) as other:
        together = threading.Barrier(LIMIT)

        def work(_connection: Connection) -> None:
            together.wait(20)

        in_threads([*[partial(one.write, work)] * POOL_SIZE, partial(other.write, work)])
        assert sessions(limited_url) == LIMIT
        done = run_program([sys.executable, "-m", "bridge", "db", "upgrade"], {"DATABASE_URL": limited_url})
    assert done.returncode == 0, done.stderr


def test_without_room_it_says_what_to_do(limited_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as held, closing(PostgreSQL(limited_url)) as database:
        for _ in range(LIMIT):
            held.enter_context(closing(psycopg.connect(limited_url)))
        monkeypatch.setattr(database._engine.pool, "_timeout", 0.3)
        tries: list[int] = []
        connect = Session.connect

        def counting(*arguments: Any, **parameters: Any) -> Session:
            tries.append(1)
            return connect(*arguments, **parameters)

        monkeypatch.setattr(Session, "connect", counting)
        with pytest.raises(StoreUnavailable) as caught:
            database.require_writable()
        said = str(caught.value)
        assert said.startswith("the database cannot be read: PostgreSQL accepts no more connections (")
        assert said.endswith('"limited"): raise the limit, or run fewer processes; each needs up to 6')
        assert 2 <= len(tries) <= 4


def test_what_comes_free_in_this_process_is_used(limited_url: str) -> None:
    with ExitStack() as held, closing(PostgreSQL(limited_url)) as database:
        database.write(pause)
        for _ in range(LIMIT - 1):
            held.enter_context(closing(psycopg.connect(limited_url)))
        assert len(in_threads([partial(database.write, pause)] * 20)) == 20
