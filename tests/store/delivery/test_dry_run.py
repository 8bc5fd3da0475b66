"""A dry run does all but ask TheEye: each job ends as skipped, with the request that was not sent."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.core.job import JobState
from bridge.core.secrets import Mask, Secret
from bridge.core.task import Rate
from bridge.delivery.dispatcher import DRY_RUN_NOTICE
from bridge.outbox.store import Outbox
from bridge.theeye.request import TheEye
from tests.support import pushes
from tests.support.delivery import TASK, Process, quick_client
from tests.support.pushes import VARIABLES, push, write_table
from tests.support.server import Server
from tests.support.tables import (
    dead_job,
    items,
    key_of,
    make_job,
    make_table,
    make_task,
    stand_in_task,
    wait_until,
)
from tests.support.theeye import StandIn

# Delivery goes by what the store says, and tests/store/outbox asks both kinds.
pytestmark = pytest.mark.slow_unless(url="sqlite")

#: Started with TheEye's access token.
BY_TOKEN = replace(make_task(2), secret_key=None)
RATED = make_task(3, rate=Rate(1, 86400.0))
TOKEN = Secret("marked-token")


@pytest.fixture
def theeye() -> Iterator[StandIn]:
    with StandIn(["acme"], [stand_in_task(TASK), stand_in_task(RATED)]) as stand_in:
        yield stand_in


@pytest.fixture
def process(url: str, theeye: StandIn, tmp_path: Path) -> Iterator[Process]:
    table = make_table(tasks=(TASK, BY_TOKEN, RATED), url=theeye.url)
    table = replace(table, theeye=TheEye("acme", theeye.url, 5.0, TOKEN))
    mask = Mask([TOKEN, Secret(key_of(TASK)), Secret(key_of(RATED))])
    client = quick_client(tmp_path)
    with closing(Process(url, table, mask, dry_run=True, make_client=client)) as process:
        yield process.start()


def test_a_job_is_skipped_and_says_what_would_have_been_sent(
    process: Process, theeye: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    job_id = process.send()

    job = process.wait_for(job_id, JobState.SKIPPED)

    reason = f"dry run: not sent, POST {theeye.url}/job/secret/<secret>?customer=acme"
    assert (job.reason, job.window_attempts, job.claim_token) == (reason, 0, None)
    assert job.ended_at is not None
    assert process.outbox.attempts(job_id) == []
    assert f"job {job_id}: {reason}" in caplog.text
    assert key_of(TASK) not in caplog.text


def test_by_token_too(process: Process, theeye: StandIn) -> None:
    job = process.wait_for(process.send(task=BY_TOKEN), JobState.SKIPPED)
    assert job.reason == f"dry run: not sent, POST {theeye.url}/job?customer=acme"


def test_theeye_is_asked_nothing(process: Process, theeye: StandIn) -> None:
    """No job, and not whether it is there."""
    process.store(*items(40))
    wait_until(lambda: process.outbox.counts() == {JobState.SKIPPED: 40}, "the end of all")
    assert theeye.received == ()
    theeye.refuse()
    process.wait_for(process.send(), JobState.SKIPPED)
    assert process.delivery.trouble == DRY_RUN_NOTICE


def test_groups_go_on(process: Process) -> None:
    first = process.store(*items(5, group="g"))
    second = process.store(make_job("main", group="g"))
    for job_id in (*first, *second):
        process.wait_for(job_id, JobState.SKIPPED)
    ended = [process.job(job_id).ended_at or 0.0 for job_id in (*first, *second)]
    assert ended == sorted(ended)


def test_a_key_is_not_held_by_what_was_not_sent(process: Process) -> None:
    for _ in range(2):
        (job_id,) = process.store(make_job("main", once_key="k", once_within=3600.0))
        assert str(process.wait_for(job_id, JobState.SKIPPED).reason).startswith("dry run: ")


def test_a_rate_is_not_used_up_by_what_was_not_sent(process: Process) -> None:
    for job_id in process.store(*items(5, task=RATED)):
        process.wait_for(job_id, JobState.SKIPPED)


def test_what_could_not_be_built_is_dead_all_the_same(process: Process) -> None:
    (job_id,) = process.store(dead_job())
    process.wait_for(process.send(), JobState.SKIPPED)
    assert process.job(job_id).state is JobState.DEAD


def test_it_is_said_where_people_look(process: Process) -> None:
    assert process.delivery.trouble == DRY_RUN_NOTICE
    wait_until(lambda: [one.trouble for one in process.outbox.delivering(60)] == [DRY_RUN_NOTICE], "the beat")


def test_the_setting_reaches_delivery(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'bridge.db'}"
    with pushes.stand_in() as theeye:
        config = write_table(tmp_path, theeye.url)
        with Server(config, url, {**VARIABLES, "BRIDGE_DRY_RUN": "true"}) as server:
            assert push(server.port, "abc").status == 202
            with closing(Outbox(url, beside_a_server=True)) as outbox:
                wait_until(lambda: outbox.counts() == {JobState.SKIPPED: 1}, "the job's end")
            status, ready = server.get("/readyz")
            assert (status, ready["trouble"]) == (200, [DRY_RUN_NOTICE])
            assert DRY_RUN_NOTICE in server.log
        assert theeye.received == ()
