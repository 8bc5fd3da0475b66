"""``python -m bridge demo --once``: the whole path, as a newcomer sees it first."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.demo import tour
from bridge.demo.theeye import Fault, StandIn
from bridge.errors import DemoFailed

ROOT = Path(__file__).parents[1]


def test_the_demo_shows_a_whole_delivery_and_ends_with_0() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "demo", "--once"],
        cwd=ROOT, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for shown in (
        "proved by X-Hub-Signature-256",
        'The bridge answered 202 {"event":1,"jobs":[{"id":1,"route":"deploy main","task":"deploy"}]',
        "NO  payload.ref: wanted \"refs/tags/v*\", found \"refs/heads/main\"",
        "sends: POST http://127.0.0.1:",
        "/job/secret/<secret>?customer=acme",
        "job 1: accepted",
        "TheEye's job ",
        "the task's script sees ['acme/api', 'main', '3b6e9a2d5f8c1047b3a6d9e2c5f80b1e4d7a0c36']",
        'NO  item.labels.severity: wanted "critical", found "warning"',
        "the task's script sees ['DiskFull on db2:9100', '']",
        "Every step did what it should.",
    ):  # fmt: skip
        assert shown in done.stdout
    assert not re.search(r"/job/secret/[0-9a-f]", done.stdout)


def test_a_step_that_goes_wrong_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """TheEye refuses every job: the demo must not end well."""
    start = StandIn.start

    def start_refusing(stand_in: StandIn) -> StandIn:
        started = start(stand_in)
        started.fault(Fault(reset=True, method="POST"))
        return started

    monkeypatch.setattr(StandIn, "start", start_refusing)
    monkeypatch.setattr(tour, "PATIENCE", 2.0)
    with pytest.raises(DemoFailed, match="expected job 1 to be accepted, found"):
        tour.run(lambda _line: None, once=True)
