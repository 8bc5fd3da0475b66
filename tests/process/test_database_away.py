"""The database goes away under load and comes back: nothing taken is lost, and nobody restarts anything."""

from __future__ import annotations

import http.client
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from bridge.core.job import JobState, Outcome
from bridge.outbox.store import Outbox
from tests.support.postgresql import Cluster
from tests.support.pushes import (
    VARIABLES,
    Clients,
    assert_promises,
    push,
    wait_until_none_waits,
    write_table,
)
from tests.support.server import HeldServer, Server, Worker
from tests.support.tables import in_threads, wait_until
from tests.support.theeye import Fault, StandIn

#: Seconds; a lease is 35 s: a claim that was committed and never heard of is free after it.
STOPPED, FROZEN, LEASE_AND_MORE = 20.0, 10.0, 60.0
#: Within how many seconds a sender gets its 503 while nothing listens; the wait for a connection is 5 s.
SOON = 10.0


@pytest.fixture
def cluster(postgresql_programs: None) -> Iterator[Cluster]:
    """One of the test's own, with fsync, as it runs elsewhere."""
    with Cluster() as cluster:
        yield cluster


def readiness(server: Server) -> int:
    """The status; 0 where none came soon."""
    try:
        return server.get("/readyz", timeout=SOON)[0]
    except (OSError, http.client.HTTPException):
        return 0


def run(tmp_path: Path, theeye: StandIn, url: str, away: Callable[[Server, Clients], None]) -> Clients:
    """Under load until `away` has returned and some time more; the clients, for their answers."""
    config = write_table(tmp_path, theeye.url)
    web = {**VARIABLES, "BRIDGE_DELIVER": "false", "WEB_CONCURRENCY": "2"}
    with Server(config, url, web) as server, Worker(config, url, VARIABLES) as worker:
        pids = set(server.workers)
        clients = Clients(server.port, 8)
        clients.start()
        clients.wait_for(200, 30)
        away(server, clients)
        clients.wait_for(len(clients.taken) + 200, 30)
        clients.finish(30)
        wait_until(lambda: readiness(server) == 200, "readiness")
        with closing(Outbox(url)) as outbox:
            wait_until_none_waits(outbox, LEASE_AND_MORE)
            assert_promises(clients.taken, outbox, theeye)
        assert set(server.workers) == pids, "a web process was replaced"
        assert worker.is_running
        assert server.stop() == worker.stop() == 0
        assert "Traceback" not in server.log + worker.log
        return clients


@pytest.mark.timeout(180)
def test_a_database_that_is_stopped_and_started(tmp_path: Path, theeye: StandIn, cluster: Cluster) -> None:
    back = 0.0

    def away(server: Server, clients: Clients) -> None:
        nonlocal back
        cluster.stop()
        before = len(clients.answers)
        until = time.monotonic() + STOPPED
        while time.monotonic() < until:
            assert readiness(server) == 503
            assert server.get("/healthz")[0] == 200
            threading.Event().wait(1.0)
        # A commit that was answered before the stop may be read by its client only now.
        meanwhile = Counter(answer.status for answer in clients.answers[before + 8 :])
        assert meanwhile.keys() == {503}, meanwhile
        cluster.start()
        back = time.monotonic()

    clients = run(tmp_path, theeye, cluster.create_database(), away)
    refused = [answer for answer in clients.answers if not answer.is_taken]
    assert {answer.status for answer in refused} == {503}
    assert {answer.retry_after for answer in refused} == {"10"}
    assert max(answer.took for answer in refused) < SOON
    assert [answer for answer in refused if answer.begun > back] == []


def test_an_answer_that_comes_meanwhile_is_recorded_once_it_is_back(
    tmp_path: Path, theeye: StandIn, cluster: Cluster
) -> None:
    config = write_table(tmp_path, theeye.url, timeout="60s")
    url = cluster.create_database()
    theeye.fault(Fault(hang=60))
    with Server(config, url, VARIABLES) as server:
        assert push(server.port, "abc").status == 202
        theeye.wait_for_requests(1)
        cluster.stop()
        theeye.clear()
        wait_until(lambda: "not recorded yet: " in server.log, "a record that fails")
        cluster.start()
        with closing(Outbox(url)) as outbox:
            wait_until(lambda: outbox.counts() == {JobState.ACCEPTED: 1}, "the record")
            (job,) = outbox.jobs()
            assert [attempt.outcome for attempt in outbox.attempts(job.id)] == [Outcome.ACCEPTED]
    assert len(theeye.received) == 1


def test_workers_that_are_killed_meanwhile_start_once_it_is_back(
    tmp_path: Path, theeye: StandIn, cluster: Cluster
) -> None:
    web = {**VARIABLES, "WEB_CONCURRENCY": "2"}
    config = write_table(tmp_path, theeye.url)
    with Server(config, cluster.create_database(), web) as server:
        cluster.stop()
        for pid in server.workers:
            os.kill(pid, signal.SIGKILL)
        threading.Event().wait(6.0)
        assert server.is_running, server.log
        # One every 2 s for each of the two, and not one after the other as fast as they start.
        tried = "the web process cannot start, next try in 2 s: "
        assert server.log.count(tried) <= 10, server.log
        wait_until(lambda: server.log.count(tried) >= 2, "a try of each")
        cluster.start()
        assert push(server.port, "abc").status == 202
        theeye.wait_for(1)
        assert "Traceback" not in server.log


def test_first_processes_that_find_no_database_start_once_it_is_back(
    tmp_path: Path, theeye: StandIn, cluster: Cluster
) -> None:
    web = {**VARIABLES, "WEB_CONCURRENCY": "2"}
    server = HeldServer(write_table(tmp_path, theeye.url), cluster.create_database(), web)

    def database() -> None:
        wait_until(lambda: server.log.count("Booting worker") == 2, "its first processes")
        cluster.stop()
        server.gate.touch()
        wait_until(lambda: "cannot start, next try in 2 s: " in server.log, "one that cannot start")
        cluster.start()

    with ExitStack() as running:
        in_threads([lambda: running.enter_context(server), database])
        assert push(server.port, "abc").status == 202
        theeye.wait_for(1)
        assert "Traceback" not in server.log


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_a_database_that_is_frozen_and_goes_on(tmp_path: Path, theeye: StandIn, cluster: Cluster) -> None:
    def away(server: Server, clients: Clients) -> None:
        cluster.freeze()
        until = time.monotonic() + FROZEN
        while time.monotonic() < until:
            status, told = server.get("/readyz", timeout=SOON)
            assert status == 503
            assert re.search("did not answer within|connection was free|timeout expired", told["database"])
            assert server.get("/healthz")[0] == 200
        cluster.thaw()

    clients = run(tmp_path, theeye, cluster.create_database(), away)
    assert {answer.status for answer in clients.answers} <= {200, 202, 503}
    assert max(answer.took for answer in clients.answers) < SOON
    assert {answer.retry_after for answer in clients.answers if answer.status == 503} <= {"10"}
