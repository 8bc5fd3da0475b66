"""A job that is dead when it is created leaves a WARNING: job, route, argument, reason and line."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import orjson
import pytest

from bridge.core.job import JobState
from tests.support.intake import Intake
from tests.support.terminal import Terminal

MakeIntake = Callable[[str], Intake]

TABLE = """
sources: {github: {allow_unsigned: true}}
tasks: {run: {id: TASK, secret_key: KEY}}
routes:
  - name: whole
    source: github
    event: push
    task: run
    task_arguments:
      - ${{ payload.ref }}
      - ${{ payload.gone }}
  - name: grouped
    source: github
    event: push
    task: run
    concurrency: {group: "${{ payload.group }}"}
    task_arguments: []
  - name: each
    source: github
    event: push
    loop: payload.commits
    task: run
    task_arguments:
      - ${{ item.id }}
      - >-
        ${{ item.name
        }}
"""

WARNINGS = [
    "event 1: route 'whole': job 1 is dead: argument 2: payload.gone is missing; a push has: "
    "after, before, commits, ref ({file}:12:9)",
    "event 1: route 'grouped': job 2 is dead: concurrency.group: payload.group is missing; a push has: "
    "after, before, commits, ref ({file}:13:5)",
    "event 1: route 'each': jobs 4, 5 are dead: argument 2: item.name is missing; item has: id "
    "({file}:26:9); argument 1: item.id is missing; item has: name ({file}:25:9)",
]


def push(**more: object) -> bytes:
    commits = [{"id": "a", "name": "b"}, {"id": "c"}, {"name": "d"}]
    return orjson.dumps({"ref": "r", "before": "0", "after": "1", "commits": commits, **more})


HEADERS = {"Content-Type": "application/json", "X-GitHub-Event": "push", "X-GitHub-Delivery": "d-1"}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


def test_each_route_with_dead_jobs_is_named(
    make_intake: MakeIntake, caplog: pytest.LogCaptureFixture
) -> None:
    intake = make_intake(TABLE)
    with caplog.at_level(logging.WARNING, "bridge.intake"):
        intake.post("github", push(), HEADERS)
    file = intake.table.routes[0].place.file if intake.table.routes[0].place else ""
    assert file.endswith("table.yml")
    assert warnings(caplog) == [each.format(file=file) for each in WARNINGS]
    assert [job.state for job in intake.jobs()].count(JobState.DEAD) == 4


def test_a_redelivery_does_not_repeat_it(make_intake: MakeIntake, caplog: pytest.LogCaptureFixture) -> None:
    intake = make_intake(TABLE)
    intake.post("github", push(), HEADERS)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "bridge.intake"):
        intake.post("github", push(), HEADERS)
    assert warnings(caplog) == []


def test_many_jobs_and_reasons_fit_a_line(make_intake: MakeIntake, caplog: pytest.LogCaptureFixture) -> None:
    intake = make_intake(TABLE)
    commits = [{"id": "a", f"x{n}": n} for n in range(30)]
    with caplog.at_level(logging.WARNING, "bridge.intake"):
        intake.post("github", push(commits=commits, gone=1, group="g"), HEADERS)
    (line,) = warnings(caplog)
    assert "jobs 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, and 20 more are dead: argument 2: item.name is" in line
    assert line.endswith("; and 27 more")


def test_a_job_that_can_be_sent_leaves_none(
    make_intake: MakeIntake, caplog: pytest.LogCaptureFixture
) -> None:
    intake = make_intake(TABLE)
    with caplog.at_level(logging.WARNING, "bridge.intake"):
        intake.post("github", push(commits=[], gone=1, group="g"), HEADERS)
    assert len(intake.jobs()) == 2
    assert warnings(caplog) == []


def test_a_replay_says_it_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    terminal = Terminal(tmp_path_factory.mktemp("replay"))
    terminal.store(("abc",), {"ref": "refs/heads/main", "commits": [1], "before": "0"})
    keys = {"TASK_KEY": "k1" * 32, "HOOK_SECRET": "x" * 32}
    result = terminal.run("events", "replay", "1", **keys)
    assert result.stdout == "event 1: jobs 2 (deploy: dead)\n"
    assert result.stderr == (
        "event 1: route 'deploy': job 2 is dead: argument 1: payload.after is missing; a push has: "
        f"before, commits, ref ({terminal.config}:{line_of(terminal, 'payload.after')}:9)\n"
    )
    assert json.loads(terminal.run("jobs", "list", "--state", "dead", "--json").stdout)


def line_of(terminal: Terminal, text: str) -> int:
    lines = terminal.config.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)
