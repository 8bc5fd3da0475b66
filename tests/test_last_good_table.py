"""A table with mistakes never replaces a good one in a running server; a cold start refuses it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.demo.theeye import StandIn
from tests.pushes import RELEASE, VARIABLES, push, stand_in, write_table
from tests.server import Server
from tests.tables import wait_until

TROUBLE = "the routing table has mistakes, the last good one stays in force; run check"


@pytest.fixture
def theeye() -> Iterator[StandIn]:
    with stand_in() as stand:
        yield stand


@pytest.fixture
def config(tmp_path: Path, theeye: StandIn) -> Path:
    return write_table(tmp_path, theeye.url)


def spoil(config: Path) -> None:
    """Two mistakes: no route names a task that is there."""
    text = config.read_text()
    config.write_text(
        text.replace("task: deploy\n", "task: deplyo\n").replace("task: release\n", "task: relaese\n")
    )


def trouble(server: Server) -> list[str]:
    status, found = server.get("/readyz")
    assert status == 200
    told: list[str] = found.get("trouble", [])
    return told


@pytest.mark.parametrize("start", ["a killed worker's", "a reload's"])
def test_what_starts_in_the_middle_of_a_bad_edit_has_the_last_good_table(
    tmp_path: Path, config: Path, theeye: StandIn, start: str
) -> None:
    with Server(config, tmp_path / "bridge.db", VARIABLES) as server:
        assert trouble(server) == []
        good = config.read_text()
        spoil(config)
        assert trouble(server) == []  # it has not been read
        for number in (1, 2):  # what was handed on is handed on again
            if start == "a reload's":
                server.reload()
            else:
                server.kill_worker(*server.workers)
            assert trouble(server) == [TROUBLE]
            assert push(server.port, f"commit-{number}").status == 202
        assert [job.values for job in theeye.wait_for(2)] == [("commit-1",), ("commit-2",)]
        assert re.search(r"table\.yml:\d+:\d+: error: .*deplyo", server.log)

        # The other way round: what is pushed to main is released.
        config.write_text(good.replace("heads/main", "heads/x").replace("heads/release", "heads/main"))
        server.reload()
        assert trouble(server) == []
        assert push(server.port, "commit-3").status == 202
        assert [job.task_id for job in theeye.wait_for(3)[2:]] == [RELEASE]

        # The table that a reload brought is the one to fall back to now.
        spoil(config)
        server.kill_worker(*server.workers)
        assert wait_until(lambda: trouble(server) == [TROUBLE])
        assert push(server.port, "commit-4").status == 202
        assert [job.task_id for job in theeye.wait_for(4)[3:]] == [RELEASE]
        assert "Traceback" not in server.log


def test_a_cold_start_on_a_table_with_mistakes_is_refused_with_every_one(
    tmp_path: Path, config: Path
) -> None:
    spoil(config)
    server = Server(config, tmp_path / "bridge.db", VARIABLES)
    with pytest.raises(AssertionError, match="the server ended with 1"):
        server.start()
    errors = [line for line in server.log.splitlines() if re.search(r"table\.yml:\d+:\d+: error: ", line)]
    assert len(errors) == 2, server.log
    assert "Traceback" not in server.log
