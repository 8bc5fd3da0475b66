"""TheEye, or a proxy before it, compresses its answer unasked: the job is sent once."""

from __future__ import annotations

import gzip
import zlib
from contextlib import closing
from functools import partial
from pathlib import Path

import orjson

from bridge.core.job import JobState
from bridge.outbox.store import Outbox
from tests.support.pushes import VARIABLES, push, stand_in, write_table
from tests.support.server import Server
from tests.support.tables import wait_until
from tests.support.theeye import Answer, Fault

TAKEN = orjson.dumps({"id": "5f3c9a7be4b0a1c2d3e4f599", "lifecycle": "ready", "state": "in_progress"})


def has_accepted(outbox: Outbox, jobs: int) -> bool:
    return outbox.counts() == {JobState.ACCEPTED: jobs}


def test_the_job_is_accepted_once(tmp_path: Path) -> None:
    codings = {"gzip": gzip.compress(TAKEN), "x-gzip": gzip.compress(TAKEN), "deflate": zlib.compress(TAKEN)}
    with (
        stand_in() as theeye,
        Server(write_table(tmp_path, theeye.url), tmp_path / "b.db", VARIABLES) as server,
    ):
        for coding, body in codings.items():
            theeye.fault(Fault(answer=Answer(200, body, (("Content-Encoding", coding),)), times=1))
        theeye.fault(Fault(answer=Answer(200, b"\x0b\x02", (("Content-Encoding", "br"),)), times=1))
        with closing(Outbox(server.database_url, beside_a_server=True)) as outbox:
            for number in range(len(codings)):
                assert push(server.port, f"commit-{number}").status == 202
                wait_until(partial(has_accepted, outbox, number + 1))
            assert len(theeye.received) == len(codings)

            assert push(server.port, "unknown", "release").status == 202
            wait_until(lambda: outbox.counts().get(JobState.UNKNOWN) == 1)
            assert outbox.jobs()[0].reason == (
                "200, but the answer cannot be read: Content-Encoding: br, expected gzip or deflate; "
                "TheEye may have it (on_unknown: hold)"
            )
