"""``python -m bridge worker`` beside web processes that only receive."""

from __future__ import annotations

import signal
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bridge.core.job import JobState
from bridge.outbox.store import Outbox
from tests.support.pushes import VARIABLES, push, write_table
from tests.support.server import Program, Server, Worker
from tests.support.tables import wait_until
from tests.support.theeye import Fault, StandIn

RECEIVES_ONLY = {**VARIABLES, "BRIDGE_DELIVER": "false"}
DELIVERING = {"ready": True, "database": "answers", "delivering": True}
NO_WORKER = {
    **DELIVERING,
    "delivering": False,
    "trouble": ["no process that delivers was seen in the last 30 s: start a worker"],
}


@pytest.fixture
def config(tmp_path: Path, theeye: StandIn) -> Path:
    return write_table(tmp_path, theeye.url, timeout="20s")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return tmp_path / "bridge.db"
    url: str = request.getfixturevalue("postgresql_url")
    return url


def states(url: str) -> list[JobState]:
    with closing(Outbox(url, beside_a_server=True)) as outbox:
        return [job.state for job in outbox.jobs()]


def test_readiness_tells_whether_a_worker_is_there(config: Path, database: Path | str) -> None:
    with Server(config, database, RECEIVES_ONLY) as server:
        assert server.get("/readyz") == (200, NO_WORKER)
        with Worker(config, database, VARIABLES) as worker:
            wait_until(lambda: server.get("/readyz") == (200, DELIVERING), "the worker's first beat")
            assert worker.stop() == 0
            assert server.get("/readyz") == (200, NO_WORKER)


@pytest.mark.parametrize("set_token", ["", "short-7"])
@pytest.mark.slow_unless(set_token="short-7")
def test_readiness_tells_strangers_no_details(config: Path, tmp_path: Path, set_token: str) -> None:
    """Behind a proxy, everybody comes from this machine, as this test does."""
    environ = {**RECEIVES_ONLY, "BRIDGE_STATUS_TOKEN": set_token, "BRIDGE_DRYRUN": "true"}
    with Server(config, tmp_path / "bridge.db", environ) as server:
        how = "send BRIDGE_STATUS_TOKEN as Authorization: Bearer" if set_token else "set BRIDGE_STATUS_TOKEN"
        for token in ("", "wrong", f"{set_token}x"):
            status, found = server.get("/readyz", token=token)
            assert (status, found) == (200, {"ready": True, "trouble": 1, "details": how})
        if set_token:
            assert server.get("/readyz", token=set_token) == (200, NO_WORKER)
        (tmp_path / "bridge.db").rename(tmp_path / "moved.db")
        assert server.get("/readyz", token="") == (503, {"ready": False, "details": how})
        assert server.stop() == 0
    assert "/readyz: no process that delivers was seen in the last 30 s: start a worker" in server.log
    assert "bridge.db was moved or deleted" in server.log
    assert ("BRIDGE_STATUS_TOKEN is easily guessed" in server.log) == bool(set_token)
    assert "no variable BRIDGE_DRYRUN and ignores it; did you mean BRIDGE_DRY_RUN?" in server.log


def test_a_server_with_a_blank_token_does_not_start(config: Path, tmp_path: Path) -> None:
    server = Server(config, tmp_path / "bridge.db", {**RECEIVES_ONLY, "BRIDGE_STATUS_TOKEN": " \t"})
    with pytest.raises(AssertionError, match="BRIDGE_STATUS_TOKEN: it is blank"):
        server.start()


def test_a_webhook_wakes_a_worker_on_postgresql(config: Path, theeye: StandIn, postgresql_url: str) -> None:
    waits = []
    with (
        Server(config, postgresql_url, {**RECEIVES_ONLY, "WEB_CONCURRENCY": "2"}) as server,
        Worker(config, postgresql_url, VARIABLES),
    ):
        for number in range(1, 11):
            posted_at = time.time()
            assert push(server.port, f"commit-{number}").status == 202
            waits.append(theeye.wait_for_requests(number)[-1].at - posted_at)
    # The worker has just asked the store, and would ask again after 2 s only.
    assert statistics.median(waits) < 1.0, waits


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("hangs", "stop", "state"), [(1.5, "20s", JobState.ACCEPTED), (30.0, "3s", JobState.UNKNOWN)]
)
@pytest.mark.slow_unless(how=signal.SIGTERM)
def test_what_a_worker_sends_finishes_or_is_recorded_as_unknown(
    config: Path,
    theeye: StandIn,
    postgresql_url: str,
    how: signal.Signals,
    hangs: float,
    stop: str,
    state: JobState,
) -> None:
    theeye.fault(Fault(hang=hangs))
    with (
        Server(config, postgresql_url, RECEIVES_ONLY) as server,
        Worker(config, postgresql_url, {**VARIABLES, "BRIDGE_STOP_TIMEOUT": stop}) as worker,
    ):
        assert push(server.port, "abc", "release").status == 202
        theeye.wait_for_requests(1)
        begun = time.monotonic()
        assert worker.stop(how) == 0
        assert time.monotonic() - begun < 15, worker.log
        assert states(postgresql_url) == [state]
        assert "Traceback" not in worker.log


@pytest.fixture
def nowhere() -> Iterator[str]:
    """The URL of a database that is not there."""
    with socket.socket() as taken:  # bound and not listening: nobody else can listen there
        taken.bind(("127.0.0.1", 0))
        yield f"postgresql://bridge:hunter2secret@127.0.0.1:{taken.getsockname()[1]}/bridge"


def test_a_worker_without_its_database_ends_with_one_line(config: Path, nowhere: str) -> None:
    worker = Worker(config, nowhere, VARIABLES)
    with pytest.raises(AssertionError, match="the worker ended with 1"):
        worker.start()
    assert_says_why(worker)
    table, *why = worker.log.splitlines()
    assert "the active routing table" in table
    assert len(why) == 1, worker.log


def test_a_server_without_its_database_does_not_start(config: Path, nowhere: str) -> None:
    server = Server(config, nowhere, RECEIVES_ONLY)
    with pytest.raises(AssertionError, match="the server ended with 1"):
        server.start()
    assert_says_why(server)
    assert "Booting worker" not in server.log


def assert_says_why(program: Program) -> None:
    assert "onnection refused" in program.log
    assert "Traceback" not in program.log
    assert "hunter2secret" not in program.log
