"""The bench: its baseline does not change, and its report computes what it says."""

from __future__ import annotations

import argparse
import hashlib
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bench import growth
from bench.growth_cases import routes
from bench.load import read_wrk, watch
from bench.memory import MemorySample, quarters
from bench.report import Goal, Ratio, Run, median, ratio, report
from bench.round import percentile
from bench.sample import Sample
from bench.sink import Count
from tests.support.tables import Clock

BENCH = Path(__file__).parents[2] / "bench"

BASELINE = {
    "plain.py": "8eb24d2dcab96220f86c5066fc0c59e6d391c3188e8d1ee9e4ef56ae0321d784",
    "push.json": "0b228ff4c27b16b26e6da7bc42f9d30c1661729266a56048c224ca936b6ed4fd",
    "push.lua": "2e360992218c061ff0888212cd92fd957f547ce4f8cc897431c188210c58131b",
    "sink.js": "61e959d57f758673a11c747fe9c2dbc703c7a42022ba67832c095b1ce52edd93",
}

WRK = """\
Running 5s test @ http://127.0.0.1:8080/hooks/github
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    15.23ms   12.51ms   1.02s    92.50%
    Req/Sec     1.10k   140.31     1.32k    70.00%
  Latency Distribution
     50%  980.00us
     75%   15.02ms
     90%   20.11ms
     99%    1.02s\x20
  5513 requests in 5.01s, 1.02MB read
  Socket errors: connect 0, read 2, write 0, timeout 1
  Non-2xx or 3xx responses: 13
Requests/sec:   1100.40
"""


def sample(accepted: float, delivered: float | None = None) -> Sample:
    """A sample of which these two matter."""
    return Sample(
        accepted=accepted,
        answer_p50=1.0,
        answer_p99=2.0,
        cpu=1.5,
        server_cpu=None,
        pss=100.0,
        server_pss=None,
        refused=0,
        delivered=delivered,
    )


ROUNDS = {
    "flask": [sample(1000), sample(900), sample(2000)],
    "sqlite": [sample(300, 250), sample(360, 150), sample(500, 240)],
}
ACCEPTED = Goal("accepted/s while delivering", "accepted", "sqlite", "flask")


@pytest.mark.parametrize("name", BASELINE)
def test_the_baseline_is_unchanged(name: str) -> None:
    assert hashlib.sha256((BENCH / name).read_bytes()).hexdigest() == BASELINE[name]


def test_a_median_is_that_of_the_rounds_and_none_where_a_figure_does_not_apply() -> None:
    assert median(ROUNDS["sqlite"], "delivered") == 240
    assert median(ROUNDS["flask"], "delivered") is None


def test_a_ratio_is_that_of_the_medians_with_the_range_within_a_round() -> None:
    assert ratio(ROUNDS, ACCEPTED) == Ratio(value=0.36, lowest=0.25, highest=0.4)


@pytest.mark.parametrize(
    "goal", [Goal("", "accepted", "sqlite", "base"), Goal("", "delivered", "sqlite", "flask")]
)
def test_a_target_that_was_not_measured_has_no_ratio(goal: Goal) -> None:
    assert ratio(ROUNDS, goal) is None


def test_the_report_has_the_medians_the_ratios_and_the_targets_that_were_not_measured() -> None:
    titles = {"flask": "bare Flask", "sqlite": "bridge, SQLite"}
    page = report(Run(["3 rounds"], titles, ROUNDS, {}, ["Node-RED: run npm install"]))
    assert "- 3 rounds\n\nNot measured:\n\n- Node-RED: run npm install\n" in page
    assert "| bridge, SQLite | 360 | 1.0 | 2.0 | 240 |" in page
    assert "| accepted/s while delivering | bridge, SQLite | bare Flask | 0.36 (0.25 to 0.40) |" in page


def test_the_figures_of_wrk_are_read_in_one_unit() -> None:
    load = read_wrk(WRK, began=7.0)
    assert (load.began, load.seconds, load.accepted, load.refused) == (7.0, 5.01, 5500, 13)
    assert load.socket_errors == 3
    assert (load.p50, load.p99) == (0.98, 1020.0)


@pytest.mark.parametrize("arrivals", [[0.005, 0.0243, 0.052], [0.005, 0.0243]], ids=["all", "one is lost"])
def test_the_probe_reports_when_each_job_arrived(arrivals: list[float]) -> None:
    clock = Clock(now=0.0)

    def count() -> Count:
        there = [at for at in arrivals if at <= clock.now]
        return Count(len(there), there[-1] if there else 0.0)

    def sleep(seconds: float) -> None:
        clock.now += seconds

    assert watch([0.0, 0.02, 0.04], count, clock, sleep) == arrivals


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile(range(1, 51), 99) == 50
    assert percentile(range(1, 51), 50) == 25
    assert percentile([3.0], 99) == 3.0


GROWTH = [MemorySample(jobs, 100 + pss) for jobs, pss in zip(range(0, 801, 100), range(9), strict=True)]


def test_the_memory_is_the_median_of_each_quarter_of_the_jobs() -> None:
    assert quarters(GROWTH) == [100.5, 102.5, 104.5, 107]
    with pytest.raises(ValueError, match="no sample from job 200 to 400"):
        quarters([*GROWTH[:2], *GROWTH[4:]])


def test_the_report_has_the_growth_of_the_memory_in_the_second_half() -> None:
    page = report(Run([], {"sqlite": "bridge, SQLite"}, {}, {"sqlite": GROWTH}, []))
    assert "| bridge, SQLite | 800 | 100.5 | 102.5 | 104.5 | 107.0 | 108.0 | 2.5 |" in page


#: Need processes.
NOT_IN_PROCESS = ("page", "processes")


@pytest.mark.parametrize(
    "table", [each for each in growth.TABLES if each.name not in NOT_IN_PROCESS], ids=lambda table: table.name
)
def test_growth_is_measured_at_its_smallest_sizes(table: growth.Table, tmp_path: Path) -> None:
    smallest = replace(table, sizes=table.sizes[:2])
    options = argparse.Namespace(fast=True, rounds=2)
    with ExitStack() as running:
        samples = growth.measure_table(smallest, growth.SQLITE, options, tmp_path, None, running)
    assert {size: len(rounds) for size, rounds in samples.items()} == dict.fromkeys(
        smallest.sizes_for(fast=True), 2
    )
    figures = [value for rounds in samples.values() for each in rounds for value in each.values()]
    assert figures
    assert min(figures) > 0
    assert not list(tmp_path.glob("*"))


def test_a_table_of_growth_has_ratios_to_its_smallest_size_and_its_goals() -> None:
    goals = [growth.Goal("claim, ms", 1000, 10, 1.5), growth.Goal("claim, ms", 10_000, 10, 1.5)]
    table = growth.Table("a", "jobs", routes, (0, 10, 1000), goals=goals)
    claims = {0: [1.0, 1.0, 1.0], 10: [2.0, 2.5, 2.0], 1000: [3.0, 2.5, 2.5]}
    samples = {size: [{"claim, ms": value} for value in values] for size, values in claims.items()}
    samples[10] = [{**each, "prune, ms": 120.0} for each in samples[10]]

    rows, goal = growth.section(table, samples)

    assert rows.splitlines()[2:] == ["| 0 | 1 (0.50) |  |", "| 10 | 2 | 120 |", "| 1,000 | 2.5 (1.25) |  |"]
    assert goal == "- claim, ms: 1,000 to 10: 1.25 (1.00 to 1.50), goal: at most 1.5"
