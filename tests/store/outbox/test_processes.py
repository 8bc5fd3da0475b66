"""Processes that deliver say so in the store, and ``/readyz`` tells what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.app import Bridge, table_watcher, wire
from bridge.config.load import load
from bridge.core.attempt_result import AttemptResult
from bridge.core.job import JobState
from bridge.core.problem import Place, Problem, Severity
from bridge.core.secrets import Mask, Secret
from bridge.delivery.dispatcher import HEARTBEAT_INTERVAL
from bridge.outbox.processes import FORGET_AFTER, Process
from bridge.outbox.store import Outbox
from bridge.process.settings import Settings
from bridge.sources.base.discovery import discover
from bridge.web.application import create_app
from bridge.web.health import PROCESS_TIMEOUT_SECONDS
from tests.support.intake import VARIABLES, table
from tests.support.postgresql import Cluster
from tests.support.sending import ENDS
from tests.support.server import STATUS, STATUS_TOKEN
from tests.support.tables import (
    NOW,
    PATIENCE,
    Clock,
    attempt_of,
    claim_jobs,
    in_threads,
    make_job,
    make_webhook,
    wait_until,
)

TABLE = """
sources:
  open: {type: generic, allow_unsigned: true}
routes:
  - {name: any, source: open, task: TASK, secret_key: KEY, task_arguments: []}
"""

NO_WORKER = "no process that delivers was seen in the last 30 s: start a worker"


# In the store


def test_nobody_delivers_at_first(outbox: Outbox) -> None:
    assert outbox.delivering(PROCESS_TIMEOUT_SECONDS) == []
    outbox.unregister("never seen")


def test_a_process_says_that_it_delivers(outbox: Outbox, clock: Clock, reopen: Callable[[], Outbox]) -> None:
    outbox.heartbeat("a", None)
    clock.now += 5
    reopen().heartbeat("b", "TheEye is out since 2023-11-14T22:13:20Z: no connection")

    assert outbox.delivering(PROCESS_TIMEOUT_SECONDS) == [
        Process(NOW, None),
        Process(NOW + 5, "TheEye is out since 2023-11-14T22:13:20Z: no connection"),
    ]


def test_what_it_says_replaces_what_it_said(outbox: Outbox, clock: Clock) -> None:
    for trouble in (None, "out", "still out", None):
        clock.now += 1
        outbox.heartbeat("a", trouble)
        assert outbox.delivering(PROCESS_TIMEOUT_SECONDS) == [Process(clock.now, trouble)]


def test_one_that_leaves_is_gone_at_once(outbox: Outbox) -> None:
    outbox.heartbeat("a", None)
    outbox.heartbeat("b", "out")
    outbox.unregister("b")

    assert outbox.delivering(PROCESS_TIMEOUT_SECONDS) == [Process(NOW, None)]


@pytest.mark.parametrize(("silent", "seen"), [(0.0, 1), (29.9, 1), (30.0, 1), (30.1, 0), (1e6, 0)])
def test_one_that_is_silent_is_not_seen(outbox: Outbox, clock: Clock, silent: float, seen: int) -> None:
    outbox.heartbeat("a", None)
    clock.now += silent

    assert len(outbox.delivering(30.0)) == seen


def test_one_that_was_silent_is_seen_again(outbox: Outbox, clock: Clock) -> None:
    outbox.heartbeat("a", "out")
    clock.now += 10 * FORGET_AFTER
    outbox.heartbeat("a", None)

    assert outbox.delivering(PROCESS_TIMEOUT_SECONDS) == [Process(clock.now, None)]


def test_those_that_a_kill_ended_do_not_gather(outbox: Outbox, clock: Clock) -> None:
    for number in range(5):
        outbox.heartbeat(f"killed {number}", None)
    clock.now += FORGET_AFTER - 1
    outbox.heartbeat("later", None)
    assert len(outbox.delivering(1e9)) == 6
    clock.now += 2
    outbox.heartbeat("latest", None)

    assert {process.heartbeat_at for process in outbox.delivering(1e9)} == {clock.now - 2, clock.now}


def test_two_clocks_that_differ_a_little_do_no_harm(outbox: Outbox, clock: Clock) -> None:
    clock.now += 100
    outbox.heartbeat("ahead", None)
    clock.now -= 100

    assert outbox.delivering(PROCESS_TIMEOUT_SECONDS) == [Process(NOW + 100, None)]


def test_what_keeps_it_from_sending_may_hold_any_text(outbox: Outbox) -> None:
    outbox.heartbeat("a", "a\x00b ü😀 " + "x" * 10_000)

    assert outbox.delivering(PROCESS_TIMEOUT_SECONDS)[0].trouble == "a\\u0000b ü😀 " + "x" * 10_000


def test_many_say_so_at_once(outbox: Outbox, reopen: Callable[[], Outbox]) -> None:
    stores = [outbox, reopen(), reopen()]

    def live(number: int) -> None:
        for _ in range(5):
            stores[number % 3].heartbeat(f"process {number}", None)
        if number % 2:
            stores[number % 3].unregister(f"process {number}")

    in_threads([lambda number=number: live(number) for number in range(12)])  # type: ignore[misc]

    assert len(outbox.delivering(PROCESS_TIMEOUT_SECONDS)) == 6


# At /readyz


@dataclass
class Web:
    """A web process that only receives, unless it is told otherwise."""

    bridge: Bridge

    def ready(self, **changed: Any) -> tuple[int, dict[str, Any]]:
        """The status and body of /readyz."""
        response = create_app(replace(self.bridge, **changed)).test_client().get("/readyz", headers=STATUS)
        assert response.content_type == "application/json"
        body: dict[str, Any] = orjson.loads(response.data)
        return response.status_code, body


def make_web(outbox: Outbox, folder: Path, deliver: str = "false") -> Web:
    path = folder / "table.yml"
    path.write_text(table(TABLE), "utf-8")
    loaded = load(path, VARIABLES, discover())
    mask = Mask([*loaded.secrets, Secret(VARIABLES["TOKEN"])])
    settings = Settings.from_environ({"BRIDGE_DELIVER": deliver, "BRIDGE_STATUS_TOKEN": STATUS_TOKEN})
    return Web(wire(settings, table_watcher(settings), loaded, outbox, mask))


@pytest.fixture
def web(outbox: Outbox, tmp_path: Path) -> Web:
    return make_web(outbox, tmp_path)


READY = {"ready": True, "database": "answers"}


def test_without_a_worker_it_is_ready_and_says_so(web: Web) -> None:
    assert web.ready() == (200, {**READY, "delivering": False, "trouble": [NO_WORKER]})


def test_with_a_worker_nothing_is_wrong(web: Web, reopen: Callable[[], Outbox]) -> None:
    worker = reopen()
    worker.heartbeat("w", None)
    assert web.ready() == (200, {**READY, "delivering": True})

    worker.unregister("w")
    assert web.ready()[1]["trouble"] == [NO_WORKER]


def test_a_worker_that_was_killed_is_missed_after_three_beats(
    web: Web, reopen: Callable[[], Outbox], clock: Clock
) -> None:
    reopen().heartbeat("w", None)
    clock.now += 2 * HEARTBEAT_INTERVAL + 1
    assert web.ready() == (200, {**READY, "delivering": True})
    clock.now += HEARTBEAT_INTERVAL

    assert web.ready() == (200, {**READY, "delivering": False, "trouble": [NO_WORKER]})


OUTAGE = "TheEye has been unreachable since 2023-11-14T22:13:{}Z, circuit open: {}"
FIRST, SECOND = OUTAGE.format(20, "answered 503"), OUTAGE.format(25, "no connection to 10.0.0.7")


def accept(outbox: Outbox, clock: Clock, at: float) -> None:
    """Let a job be accepted whose attempt starts at this time."""
    clock.now = at
    outbox.store(make_webhook(make_job(), delivery_id=f"accepted at {at}"))
    end(outbox, JobState.ACCEPTED)


def end(outbox: Outbox, state: JobState) -> None:
    token, (job,) = claim_jobs(outbox)
    attempt = attempt_of(outbox, job)
    outcome, decision = ENDS[state]
    outbox.record(job, token, attempt, AttemptResult(0.1, outcome, 200, "", None), decision)


def test_an_outage_is_told_once_from_its_beginning(web: Web, outbox: Outbox, clock: Clock) -> None:
    accept(outbox, clock, NOW - 5)
    clock.now = NOW + 10
    for name, trouble in (("a", SECOND), ("b", FIRST), ("c", None), ("d", SECOND), ("e", "another trouble")):
        outbox.heartbeat(name, trouble)

    assert web.ready()[1]["trouble"] == [FIRST, "another trouble"]


def test_an_outage_is_over_once_any_process_has_delivered(web: Web, outbox: Outbox, clock: Clock) -> None:
    for name, trouble in (("a", SECOND), ("b", FIRST)):
        outbox.heartbeat(name, trouble)
    accept(outbox, clock, NOW + 3)
    assert web.ready()[1]["trouble"] == [SECOND]
    accept(outbox, clock, NOW + 5.5)
    assert web.ready()[1]["trouble"] == [SECOND]  # it may have begun later in this second
    outbox.store(make_webhook(make_job(), delivery_id="refused"))
    clock.now = NOW + 7
    end(outbox, JobState.DEAD)
    assert web.ready()[1]["trouble"] == [SECOND]  # a refusal may come from a proxy
    accept(outbox, clock, NOW + 8)
    assert "trouble" not in web.ready()[1]


@pytest.mark.parametrize(
    "text", ["TheEye has been unreachable since 2023-13-", "TheEye has been unreachable since"]
)
def test_another_text_is_no_outage(web: Web, outbox: Outbox, clock: Clock, text: str) -> None:
    accept(outbox, clock, NOW + 8)
    outbox.heartbeat("a", text)
    assert web.ready()[1]["trouble"] == [text]


def test_what_troubles_any_worker_is_told_once_and_masked(web: Web, reopen: Callable[[], Outbox]) -> None:
    worker = reopen()
    worker.heartbeat("a", f"TheEye is out: {VARIABLES['TOKEN']} at /job/secret/abcdef")
    worker.heartbeat("b", f"TheEye is out: {VARIABLES['TOKEN']} at /job/secret/abcdef")
    worker.heartbeat("c", "another trouble")
    worker.heartbeat("d", None)

    status, body = web.ready()

    assert status == 200
    told = ["TheEye is out: <secret> at /job/secret/<secret>", "another trouble"]
    assert body == {**READY, "delivering": True, "trouble": told}


def test_a_table_that_was_refused_is_told(web: Web) -> None:
    problem = Problem(Place("table.yml", 1, 1), Severity.ERROR, "a mistake", None)
    web.bridge.reloader.rejected = (problem,)
    status, body = web.ready()

    assert status == 200
    refused = (
        "the routing table is invalid; the last valid one stays active; run check: "
        "table.yml:1:1: error: a mistake"
    )
    assert body["trouble"] == [NO_WORKER, refused]


def test_a_process_that_delivers_itself_is_seen_by_the_others(
    outbox: Outbox, tmp_path: Path, reopen: Callable[[], Outbox]
) -> None:
    here, beside = make_web(outbox, tmp_path, "true"), make_web(reopen(), tmp_path)
    here.bridge.delivery.start()
    try:
        assert here.ready() == (200, {**READY, "delivering": True})
        wait_until(lambda: beside.ready() == (200, {**READY, "delivering": True}), "its beat")
    finally:
        here.bridge.delivery.stop(PATIENCE)

    assert beside.ready()[1]["trouble"] == [NO_WORKER]


def test_a_store_that_is_away_is_told_without_its_password(postgresql_programs: None, tmp_path: Path) -> None:
    with Cluster(fsync=False) as cluster:
        url = cluster.create_database().replace("bridge@", "bridge:marked-7Qz@")
        outbox = Outbox(url)
        web = make_web(outbox, tmp_path)
        assert web.ready()[0] == 200
        cluster.stop()

        status, body = web.ready()

        assert status == 503
        assert set(body) == {"ready", "database"}
        assert body["ready"] is False
        assert body["database"].startswith("the database cannot be read: ")
        assert "marked-7Qz" not in body["database"]
        cluster.start()
        assert web.ready()[0] == 200
        outbox.close()
