"""The store on PostgreSQL: what is said of it alone. What every store does stands in test_outbox.py."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError, IntegrityError

from bridge.core.errors import NoSuchJob, StoreUnavailable
from bridge.core.job import Job, JobState
from bridge.outbox import pool, postgresql
from bridge.outbox.locks import lock
from bridge.outbox.migrations import HEAD
from bridge.outbox.pool import POOL_SIZE
from bridge.outbox.postgresql import CHANNEL, PostgreSQL
from bridge.outbox.session import Session, connect
from bridge.outbox.store import Outbox
from tests.support.postgresql import Cluster
from tests.support.tables import (
    PATIENCE,
    attempt_of,
    claim_jobs,
    in_threads,
    make_event,
    make_job,
    make_webhook,
    next_due,
    wait_until,
)

#: Seconds within which a write fails while no server listens.
SOON = 10.0

Open = Callable[..., Outbox]


@pytest.fixture(scope="module")
def cluster(postgresql_programs: None) -> Iterator[Cluster]:
    """One that these tests may stop."""
    with Cluster(fsync=False) as cluster:
        yield cluster


@pytest.fixture
def own_url(cluster: Cluster) -> Iterator[str]:
    """A database in the cluster that may be stopped, with a password that nobody asks for."""
    url = cluster.create_database()
    yield url.replace("bridge@", "bridge:marked-7Qz@")
    if not cluster.is_running:
        cluster.start()
    cluster.drop(url)


@pytest.fixture
def database(postgresql_url: str) -> Iterator[PostgreSQL]:
    database = PostgreSQL(postgresql_url)
    yield database
    database.close()


@pytest.fixture
def reopen() -> Iterator[Open]:
    opened: list[Outbox] = []

    def reopen(url: str) -> Outbox:
        opened.append(Outbox(url))
        return opened[-1]

    yield reopen
    for outbox in opened:
        outbox.close()


def execute(connection: Connection, statement: str) -> None:
    connection.execute(text(statement))


def show(connection: Connection, setting: str) -> str:
    found: str = connection.execute(text(f"SHOW {setting}")).scalar_one()
    return found


def listeners(database: PostgreSQL) -> int:
    """How many sessions of the database wait for announcements: LISTEN is the last that those said."""
    count = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )
    found: int = database.read(lambda connection: connection.execute(text(count)).scalar_one())
    return found


# Connections


@pytest.mark.parametrize(
    ("default", "used"), [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")]
)
def test_a_commit_lasts_whatever_the_database_is_set_to(postgresql_url: str, default: str, used: str) -> None:
    name = postgresql_url.rpartition("/")[2]
    setting = PostgreSQL(postgresql_url)
    setting.write(partial(execute, statement=f"ALTER DATABASE {name} SET synchronous_commit = {default}"))
    setting.close()
    database = PostgreSQL(postgresql_url)
    seen: list[str] = []
    together = threading.Barrier(POOL_SIZE)

    def look(connection: Connection) -> None:
        together.wait(PATIENCE)  # so that each has a connection of its own
        seen.append(show(connection, "synchronous_commit"))

    in_threads([partial(database.write, look)] * POOL_SIZE)
    in_threads([partial(database.write, look)] * POOL_SIZE)  # and once those come from the pool
    database.close()

    assert seen == [used] * 2 * POOL_SIZE


def test_many_threads_share_few_connections(database: PostgreSQL) -> None:
    database.listen(lambda: None)
    wait_until(lambda: listeners(database) == 1, "the listener")
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bridge'"
    mine = f"{count} AND datname = current_database()"

    def work(connection: Connection) -> int:
        connection.execute(text("SELECT pg_sleep(0.02)"))
        found: int = connection.execute(text(mine)).scalar_one()
        return found

    counted = in_threads([partial(database.write, work)] * 64)

    assert len(counted) == 64
    assert max(counted) == POOL_SIZE + 1


def test_an_answer_that_does_not_come_is_not_waited_for(
    database: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = partial(execute, statement="SELECT pg_sleep(1)")
    monkeypatch.setattr(Session, "answer_timeout", 0.2)
    silence = r"the database did not answer within 0\.2 s"
    with pytest.raises(StoreUnavailable, match=rf"^the database cannot be written: {silence}$"):
        database.write(slow)
    with pytest.raises(StoreUnavailable, match=rf"^the database cannot be read: {silence}$"):
        database.read(slow)
    database.upgrade(slow)


def test_a_connection_that_does_not_come_free_is_not_waited_for(
    database: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database._engine.pool, "_timeout", 0.1)
    with ExitStack() as taken:
        for _ in range(POOL_SIZE):
            taken.enter_context(database._engine.connect())
        with pytest.raises(StoreUnavailable, match=r"cannot be read: no database connection was free"):
            database.require_writable()
    database.require_writable()


def test_no_statement_is_prepared(database: PostgreSQL) -> None:
    """A pooler in front may give the next transaction to another session."""

    def work(connection: Connection) -> int:
        for number in range(20):
            connection.execute(text("SELECT :number + 1"), {"number": number})
        found: int = connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one()
        return found

    assert database.write(work) == 0


@pytest.mark.parametrize(
    "more",
    [
        "",
        "-c work_mem=5MB",
        "-c ignore_system_indexes=off",  # only a start of a session may set it
        "-c application_name=another",
    ],
)
def test_options_of_the_url_are_used(postgresql_url: str, more: str) -> None:
    database = PostgreSQL(f"{postgresql_url}?options={quote(f'{more} -c work_mem=1234kB')}")
    assert database.read(lambda connection: show(connection, "work_mem")) == "1234kB"
    assert database.read(lambda connection: show(connection, "application_name")) == "bridge"
    database.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("schema=public", 'DATABASE_URL cannot be used: invalid connection option "schema"'),
        ("sslmode=require&pgbouncer=true",
         'DATABASE_URL cannot be used: invalid connection option "pgbouncer"'),
        ("port=many", "DATABASE_URL cannot be used: Received non-integer port arguments: ('many',)"),
        ("autocommit=true", 'DATABASE_URL cannot be used: invalid connection option "autocommit"'),
        ("sslmode=odd",
         'the database cannot be read: connection is bad: invalid sslmode value: "odd"'),
    ],
)  # fmt: skip
def test_odd_options_are_said(options: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        Outbox(f"postgresql://bob:marked@127.0.0.1:1/x?{options}")

    assert str(caught.value) == said
    assert caplog.records == []


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("bridge:marked@127.0.0.1:1/x", "Connection refused"),
        ("bridge:marked@nowhere.invalid/x", "nowhere.invalid"),
        ("bridge:ma%40rk%2Fed@127.0.0.1:1/x", "Connection refused"),
        ("/x?host=/nowhere&user=bob&password=marked", "No such file or directory"),
    ],
)
def test_a_server_that_is_not_there_is_said_once_and_without_the_password(
    where: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        Outbox(f"postgresql://{where}")

    assert time.monotonic() - began < SOON
    message = str(caught.value)
    assert message.startswith("the database cannot be read: ")
    assert said in message
    assert "\n" not in message
    assert "ma" not in message.replace("Name", "").replace("name", "")
    assert caplog.records == []


def test_a_database_or_a_user_that_is_not_there_is_said(postgresql_url: str) -> None:
    for url, said in (
        (f"{postgresql_url}_none", 'database "test_'),
        (postgresql_url.replace("bridge@", "bob:marked@"), 'role "bob" does not exist'),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            Outbox(url)
        assert said in str(caught.value)
        assert "marked" not in str(caught.value)


# Units of work


def test_what_a_unit_raises_comes_through_and_undoes_it(database: PostgreSQL) -> None:
    database.write(partial(execute, statement="CREATE TABLE t (n integer PRIMARY KEY)"))

    def fails(connection: Connection) -> None:
        execute(connection, "INSERT INTO t VALUES (1)")
        raise NoSuchJob("there is no job 7")

    with pytest.raises(NoSuchJob, match="there is no job 7"):
        database.write(fails)

    count = text("SELECT count(*) FROM t")
    assert database.read(lambda connection: connection.execute(count).scalar_one()) == 0
    for _ in range(POOL_SIZE + 1):
        with pytest.raises(NoSuchJob):
            database.write(fails)
    database.write(partial(execute, statement="INSERT INTO t VALUES (1)"))
    with pytest.raises(IntegrityError):
        database.write(partial(execute, statement="INSERT INTO t VALUES (1)"))


def test_a_deadlock_or_a_serialization_failure_is_not_stored(database: PostgreSQL) -> None:
    """The sender sends again: it is the store that could not, not the request that is wrong."""
    for code in ("40P01", "40001", "57P01", "53300", "53100", "25006"):
        raises = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$"
        with pytest.raises(StoreUnavailable, match=r"^the database cannot be written: no"):
            database.write(partial(execute, statement=raises))


def test_a_closed_store_takes_nothing(postgresql_url: str) -> None:
    outbox = Outbox(postgresql_url)
    assert outbox.revisions == (None, HEAD)
    outbox.close()

    with pytest.raises(StoreUnavailable, match=r"^the database is closed$"):
        outbox.store(make_webhook())


# What is stored


def test_nul_is_kept_in_bodies_and_arguments(postgresql_url: str, reopen: Open) -> None:
    outbox = reopen(postgresql_url)
    body = orjson.dumps({"a": "\x00"}) + b"\x00\xff"
    stored = outbox.store(
        make_webhook(make_job("\x00"), event=make_event({"a": "\x00"}, body=body, query={"\x00": "\x00"}))
    )

    assert outbox.jobs()[0].arguments == ("\x00",)
    database = PostgreSQL(postgresql_url)
    raw = text("SELECT body FROM events")
    assert database.read(lambda connection: bytes(connection.execute(raw).scalar_one())) == body
    database.close()
    assert stored.jobs[0].state is JobState.WAITING


def test_nul_in_a_name_stores_nothing(postgresql_url: str, reopen: Open) -> None:
    """Sources refuse it with 400 and the table's names cannot hold it: here it is no more than an error."""
    outbox = reopen(postgresql_url)
    for webhook in (
        make_webhook(event=make_event(delivery_id="a\x00b")),
        make_webhook(make_job(route="a\x00b")),
        make_webhook(make_job(item_key="a\x00b")),
    ):
        with pytest.raises(DataError, match="NUL"):
            outbox.store(webhook)

    assert outbox.events() == []


def test_ids_may_be_huge(postgresql_url: str, reopen: Open) -> None:
    outbox = reopen(postgresql_url)
    database = PostgreSQL(postgresql_url)
    for name in ("events", "jobs", "attempts", "refused_requests"):
        database.write(partial(execute, statement=f"SELECT setval('{name}_id_seq', {2**53})"))
    database.close()

    stored = outbox.store(make_webhook(make_job("x")))

    assert (stored.event_id, stored.jobs[0].id) == (2**53 + 1, 2**53 + 1)
    assert outbox.store(make_webhook(make_job("x"))).duplicate
    _, (job,) = claim_jobs(outbox)
    assert attempt_of(outbox, job) == 2**53 + 1
    assert outbox.attempts(job.id)[0].job_id == job.id
    with pytest.raises(NoSuchJob):
        outbox.job(2**63 - 1)


# Announcements


def test_a_job_wakes_the_other_process_and_its_own_once(postgresql_url: str, reopen: Open) -> None:
    here, there = reopen(postgresql_url), reopen(postgresql_url)
    woken: dict[str, list[int]] = {"here": [], "there": []}
    here.listen(lambda: woken["here"].append(1))
    there.listen(lambda: woken["there"].append(1))
    looks = PostgreSQL(postgresql_url)
    wait_until(lambda: listeners(looks) == 2, "both listeners")

    here.store(make_webhook(make_job("x")))
    wait_until(lambda: woken["there"], "the announcement")
    assert len(woken["here"]) == 1

    there.store(make_webhook(make_job("x"), delivery_id="2"))
    wait_until(lambda: len(woken["here"]) == 2, "the announcement")
    # Its own came before the one that was heard last, and was passed over.
    assert len(woken["there"]) == 2
    looks.close()


def test_what_does_not_wait_is_not_announced(postgresql_url: str, reopen: Open) -> None:
    here, there = reopen(postgresql_url), reopen(postgresql_url)
    heard: list[int] = []
    there.listen(lambda: heard.append(len(there.jobs())))
    looks = PostgreSQL(postgresql_url)
    wait_until(lambda: listeners(looks) == 1, "the listener")

    here.store(make_webhook(delivery_id="without jobs"))
    here.close()
    looks.write(partial(execute, statement=f"NOTIFY {CHANNEL}, 'another'"))

    wait_until(lambda: heard, "the announcement")
    assert heard == [0]
    looks.close()


def test_what_was_committed_last_is_announced_before_the_end(postgresql_url: str, reopen: Open) -> None:
    here, there = reopen(postgresql_url), reopen(postgresql_url)
    heard: list[int] = []
    there.listen(lambda: heard.append(1))
    looks = PostgreSQL(postgresql_url)
    wait_until(lambda: listeners(looks) == 1, "the listener")

    here.store(make_webhook(make_job("x")))
    here.close()

    wait_until(lambda: heard, "the announcement")
    looks.close()


def test_many_jobs_are_announced_together(
    postgresql_url: str, reopen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = reopen(postgresql_url)
    notices: list[int] = []
    held, notify = threading.Event(), postgresql.Announcer._notify

    def counting(herald: postgresql.Announcer) -> None:
        notices.append(1)
        assert held.wait(PATIENCE)
        notify(herald)

    monkeypatch.setattr(postgresql.Announcer, "_notify", counting)
    for number in range(20):
        outbox.store(make_webhook(make_job("x"), delivery_id=f"{number}"))
    held.set()
    outbox.close()

    assert 1 <= len(notices) <= 2


# A server that goes and comes back


def test_while_it_is_away_nothing_is_stored_and_no_password_is_said(
    cluster: Cluster, own_url: str, reopen: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    outbox = reopen(own_url)
    outbox.listen(lambda: None)
    outbox.store(make_webhook(make_job("x")))
    cluster.stop()

    messages = []
    for attempt in range(3):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            outbox.store(make_webhook(make_job("x"), delivery_id=f"{attempt}"))
        assert time.monotonic() - began < SOON
        messages.append(str(caught.value))
    with pytest.raises(StoreUnavailable) as caught:
        outbox.ping()
    wait_until(lambda: "cannot LISTEN; this process polls for new jobs" in caplog.text, "the warning")

    assert not [message for message in (*messages, str(caught.value), caplog.text) if "marked" in message]
    cluster.start()
    assert len(outbox.jobs()) == 1


def test_after_a_restart_the_first_write_is_stored(
    cluster: Cluster, own_url: str, reopen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many connections the pool had; a moment after their last use they are asked first."""
    outbox = reopen(own_url)
    in_threads([partial(outbox.store, make_webhook(delivery_id=f"{n}")) for n in range(POOL_SIZE)])
    cluster.stop()
    cluster.start()
    monkeypatch.setattr(pool, "UNCHECKED_IDLE", 0.0)

    assert not outbox.store(make_webhook(make_job("x"), delivery_id="first")).duplicate
    in_threads([partial(outbox.store, make_webhook(delivery_id=f"after {n}")) for n in range(POOL_SIZE)])


def test_after_a_restart_in_no_time_one_write_fails_at_most(
    cluster: Cluster, own_url: str, reopen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = reopen(own_url)
    in_threads([partial(outbox.store, make_webhook(delivery_id=f"{n}")) for n in range(POOL_SIZE)])
    cluster.stop()
    cluster.start()
    monkeypatch.setattr(pool, "UNCHECKED_IDLE", 1e9)

    with pytest.raises(StoreUnavailable):
        outbox.store(make_webhook(delivery_id="first"))
    for number in range(POOL_SIZE):
        outbox.store(make_webhook(delivery_id=f"after {number}"))


def test_a_session_that_dies_while_the_clock_is_ahead_is_replaced_once(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLAlchemy compares times of the wall clock."""
    wall, opened = SimpleNamespace(time=lambda: time.time() + 3600), []
    connect = Session.connect

    def counting(*arguments: Any, **parameters: Any) -> Session:
        opened.append(1)
        return connect(*arguments, **parameters)

    end = "SELECT pg_terminate_backend(pg_backend_pid())"
    with closing(PostgreSQL(postgresql_url)) as database:
        with monkeypatch.context() as ahead:
            ahead.setattr("sqlalchemy.pool.base.time", wall)
            with pytest.raises(StoreUnavailable):
                database.write(partial(execute, statement=end))
        monkeypatch.setattr(Session, "connect", counting)
        for _ in range(5):
            database.write(partial(execute, statement="SELECT 1"))
    assert len(opened) == 1


def test_after_a_restart_others_are_heard_again(cluster: Cluster, own_url: str, reopen: Open) -> None:
    here, there = reopen(own_url), reopen(own_url)
    heard: list[int] = []
    there.listen(lambda: heard.append(1))
    looks = PostgreSQL(own_url)
    wait_until(lambda: listeners(looks) == 1, "the listener")
    cluster.stop()
    cluster.start()
    wait_until(lambda: heard, "a wake-up for what was announced meanwhile")
    looks.close()
    heard.clear()

    def store() -> None:
        try:
            here.store(make_webhook(make_job("x")))
        except StoreUnavailable:  # of a connection that died a moment ago
            here.store(make_webhook(make_job("x")))

    store()
    wait_until(lambda: heard, "the announcement")


class TestWhatOthersDo:
    """Whatever a database is set to, and whatever another process does to it."""

    def test_one_that_is_frozen_in_a_transaction_holds_up_nobody_for_long(self, postgresql_url: str) -> None:
        engine = connect(postgresql_url)
        with closing(Outbox(postgresql_url)) as outbox, engine.connect() as frozen:
            (job,) = outbox.store(make_webhook(make_job())).jobs
            lock(frozen, ("claim",))
            with pytest.raises(StoreUnavailable, match="lock timeout"):
                claim_jobs(outbox)
            wait_until(lambda: bool(claimed_after_all(outbox)))
            assert outbox.job(job.id).state is JobState.SENDING
            frozen.invalidate()
        engine.dispose()

    def test_a_database_that_is_set_to_another_isolation(self, postgresql_url: str) -> None:
        change(postgresql_url, "SET default_transaction_isolation = 'repeatable read'")
        engine = connect(postgresql_url)
        with engine.connect() as connection:
            shown = connection.execute(text("SHOW transaction_isolation")).scalar_one()
        engine.dispose()
        assert shown == "read committed"

    def test_a_database_that_rounds_floats(self, postgresql_url: str) -> None:
        change(postgresql_url, "SET extra_float_digits = -10")
        with closing(Outbox(postgresql_url)) as outbox:
            stored = outbox.store(make_webhook(make_job(), event=make_event(received_at=1796000123.25)))
            assert outbox.event(stored.event_id).received_at == 1796000123.25
            assert next_due(outbox) == pytest.approx(time.time(), abs=PATIENCE)

    def test_a_database_that_takes_reads_alone_is_not_ready(self, postgresql_url: str) -> None:
        with closing(Outbox(postgresql_url)) as outbox:
            outbox.ping()
            change(postgresql_url, "SET default_transaction_read_only = on")
            outbox._database.close()
        database = PostgreSQL(postgresql_url)
        with pytest.raises(StoreUnavailable, match="is read-only"):
            database.require_writable()
        database.close()

    def test_a_table_that_is_gone_is_the_stores_failure(self, postgresql_url: str) -> None:
        with closing(Outbox(postgresql_url)) as outbox:
            with other(postgresql_url).begin() as connection:
                connection.execute(text("DROP TABLE jobs CASCADE"))
            with pytest.raises(StoreUnavailable, match='relation "jobs" does not exist'):
                outbox.store(make_webhook(make_job()))

    def test_another_programs_database_is_refused(self, postgresql_url: str) -> None:
        with other(postgresql_url).begin() as connection:
            connection.execute(text("CREATE TABLE alembic_version (version_num text)"))
            connection.execute(text("INSERT INTO alembic_version VALUES ('0002')"))
        with pytest.raises(StoreUnavailable, match="another program's"):
            Outbox(postgresql_url)

    def test_two_that_meet_in_a_deadlock_both_come_through(self, postgresql_url: str) -> None:
        with closing(Outbox(postgresql_url)) as outbox:
            both = threading.Barrier(2, timeout=5.0)

            def work(first: str, second: str) -> Callable[[Connection], str]:
                tries = count()

                def unit(connection: Connection) -> str:
                    lock(connection, (first,))
                    if next(tries) == 0:
                        both.wait()
                    lock(connection, (second,))
                    return first

                return unit

            units = [work("a", "b"), work("b", "a")]
            done = in_threads([partial(outbox._database.write, unit) for unit in units])
            assert sorted(done) == ["a", "b"]


def claimed_after_all(outbox: Outbox) -> list[Job]:
    try:
        return claim_jobs(outbox)[1]
    except StoreUnavailable:
        return []


def other(url: str) -> Engine:
    """As another program connects."""
    return create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)


def change(url: str, setting: str) -> None:
    """Set something for all later connections to this database."""
    with other(url).begin() as connection:
        connection.execute(text(f"ALTER DATABASE {make_url(url).database} {setting}"))
