"""kill -9 while webhooks come in: nothing is lost, nothing needless sent twice."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from bridge.outbox.store import Outbox
from tests.support.pushes import (
    VARIABLES,
    Clients,
    assert_promises,
    stand_in,
    wait_until_none_waits,
    write_table,
)
from tests.support.server import Program, Server, Worker
from tests.support.tables import in_threads
from tests.support.theeye import Fault, StandIn

#: Which of the processes are killed, in this order, while the webhooks come in.
KILLS = ("worker", "web", "web", "worker", "all", "web", "worker", "worker", "web")

#: How long all webhooks may take to be taken, kills and all, seconds.
TAKEN_WITHIN = 60.0
#: A lease (5 s + 30 s), and as much again for what then is sent: seconds.
LEASE_AND_MORE = 70.0


@pytest.fixture
def theeye() -> Iterator[StandIn]:
    with stand_in() as stand:
        # Long enough that a kill finds sends in flight.
        stand.fault(Fault(hang=0.03))
        yield stand


def spread(kills: int, commits: int) -> list[int]:
    """After how many pushes each kill comes: at random, but the same in every run."""
    return sorted(random.Random(20261124).sample(range(commits // 20, commits - commits // 20), kills))


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_one_process_on_sqlite(tmp_path: Path, theeye: StandIn) -> None:
    config = write_table(tmp_path, theeye.url)
    with Server(config, tmp_path / "bridge.db", VARIABLES) as server:
        clients = Clients(server.port, 8, commits=500)
        clients.start()
        for taken in spread(5, 500):
            clients.wait_for(taken, TAKEN_WITHIN)
            server.kill()
            server.start()
        clients.finish(TAKEN_WITHIN)
        with closing(Outbox(server.database_url, beside_a_server=True)) as outbox:
            # Less than a lease: what a crash left claimed comes free at start-up.
            wait_until_none_waits(outbox, 30)
            lost = assert_promises(clients.taken, outbox, theeye)
    assert len(clients.taken) == 500
    assert lost, "no kill found a send in flight: the test has shown nothing"


@pytest.mark.timeout(240)
@pytest.mark.slow
def test_any_of_four_processes_on_postgresql(tmp_path: Path, theeye: StandIn, postgresql_url: str) -> None:
    config = write_table(tmp_path, theeye.url)
    server = Server(config, postgresql_url, {**VARIABLES, "BRIDGE_DELIVER": "false", "WEB_CONCURRENCY": "2"})
    workers = [Worker(config, postgresql_url, VARIABLES, name=name) for name in ("worker-1", "worker-2")]
    everything: list[Program] = [server, *workers]
    which = random.Random(20261125)
    with ExitStack() as running:
        for program in everything:
            running.enter_context(program)
        clients = Clients(server.port, 16, commits=2000)
        clients.start()
        for victim, taken in zip(KILLS, spread(len(KILLS), 2000), strict=True):
            clients.wait_for(taken, TAKEN_WITHIN)
            if victim == "web":
                server.kill_worker(which.choice(server.workers))
            else:
                killed = everything if victim == "all" else [which.choice(workers)]
                in_threads([program.kill for program in killed])
                in_threads([program.start for program in killed])
        clients.finish(TAKEN_WITHIN)
        with closing(Outbox(postgresql_url)) as outbox:
            wait_until_none_waits(outbox, LEASE_AND_MORE)
            lost = assert_promises(clients.taken, outbox, theeye)
    assert len(clients.taken) == 2000
    assert lost, "no kill found a send in flight: the test has shown nothing"


@contextmanager
def nobody_commits(url: str) -> Iterator[None]:
    """Until it ends no event can be committed."""
    if url.startswith("postgresql"):
        with psycopg.connect(url) as connection:
            connection.execute("LOCK TABLE events IN SHARE MODE")
            yield
            connection.rollback()
    else:
        path = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_nothing_is_answered_before_it_is_committed(
    tmp_path: Path, theeye: StandIn, database: str, request: pytest.FixtureRequest
) -> None:
    where: Path | str = tmp_path / "bridge.db"
    if database == "postgresql":
        where = request.getfixturevalue("postgresql_url")
    with Server(write_table(tmp_path, theeye.url), where, VARIABLES) as server:
        clients = Clients(server.port, 8, commits=100)
        with (
            closing(Outbox(server.database_url, beside_a_server=True)) as outbox,
            nobody_commits(server.database_url),
        ):
            clients.start()
            threading.Event().wait(1.0)  # for an answer that must not come
            assert not clients.taken
            assert outbox.events() == []
            server.kill()
        server.start()
        clients.finish(TAKEN_WITHIN)
        assert len(theeye.wait_for(100, 30)) == 100
