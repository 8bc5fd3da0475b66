"""The pure parts of the week: scaled rules, and the verdicts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conftest import lacks
from tests.support import prometheus
from tests.support.prometheus import promtool
from tests.week.judgement import Firing, Planned, Sample, judge_alerts, judge_counter, judge_growth
from tests.week.plan import FAULTS, RULES
from tests.week.rules import scaled, seconds


def of_one(rule: dict[str, str], factor: float = 30) -> dict[str, str]:
    (group,) = scaled({"groups": [{"name": "bridge", "rules": [rule]}]}, factor)["groups"]
    (found,) = group["rules"]
    return dict(found)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("up == 0 or absent(up)", "up == 0 or absent(up)"),
        ('increase(bridge_refused_requests_total{cause="a"}[15m]) > 10',
         'increase(bridge_refused_requests_total{cause="a"}[30000ms]) > 10'),
        ("max(bridge_oldest_job_age_seconds) > 1800", "max(bridge_oldest_job_age_seconds) > 60"),
        ("q(0.95, rate(bridge_attempt_seconds_bucket[15m])) > 10",
         "q(0.95, rate(bridge_attempt_seconds_bucket[30000ms])) > 0.333333"),
        ("rate(bridge_jobs_total[1h30m]) > 1", "rate(bridge_jobs_total[180000ms]) > 1"),
    ],
)  # fmt: skip
def test_times_of_an_expression_are_scaled_and_counts_are_not(expression: str, expected: str) -> None:
    assert of_one({"expr": expression}) == {"expr": expected}


def test_the_time_before_a_rule_fires_is_scaled() -> None:
    assert of_one({"expr": "up == 0", "for": "2m"})["for"] == "4000ms"


def test_the_rules_that_are_scaled_stay_as_they_were() -> None:
    rules = {"groups": [{"name": "bridge", "rules": [{"expr": "up == 0", "for": "2m"}]}]}
    scaled(rules, 30)
    assert rules["groups"][0]["rules"] == [{"expr": "up == 0", "for": "2m"}]


def test_not_a_duration() -> None:
    with pytest.raises(ValueError, match="soon is not a duration"):
        seconds("soon")


def test_promtool_accepts_the_scaled_rules(tmp_path: Path) -> None:
    if not prometheus.is_installed():
        lacks("prometheus")
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(scaled(yaml.safe_load(RULES.read_text()), 30)))
    done = promtool("check", "rules", "rules.yml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_rule_has_one_planned_fault() -> None:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    assert sorted(FAULTS) == sorted(rule["alert"] for rule in group["rules"])


# Alerts

PLANNED = [Planned("Down", 10, 20)]


def problems(*firings: Firing) -> list[str]:
    return [each.what for each in judge_alerts(["Down"], PLANNED, firings)]


def test_an_alert_that_fires_by_its_fault_and_clears_is_good() -> None:
    assert problems(Firing("Down", 12, 24)) == []
    assert problems(Firing("Down", 2, 4), Firing("Down", 12, 24), Firing("Late", 50, 60)) == []


@pytest.mark.parametrize(
    "firings", [[], [Firing("Late", 12, 24)], [Firing("Down", 2, 24)], [Firing("Down", 21, 24)]]
)
def test_an_alert_that_did_not_begin_to_fire_by_its_fault(firings: list[Firing]) -> None:
    assert problems(*firings) == ["Down did not fire from 10 s to 20 s"]


def test_an_alert_that_did_not_clear() -> None:
    assert problems(Firing("Down", 12)) == ["Down fires since 12 s and did not clear"]
    assert problems(Firing("Down", 12, 24), Firing("Late", 50)) == ["Late fires since 50 s and did not clear"]


def test_a_rule_without_a_fault() -> None:
    (found,) = judge_alerts(["Down", "Late"], PLANNED, [Firing("Down", 12, 24)])
    assert found.what == "Late has no planned fault"


# Growth


def growth(second: list[int | None], last: list[int | None]) -> list[str]:
    samples = [Sample(2, each, 100) for each in second] + [Sample(7, each, 100) for each in last]
    return [each.what for each in judge_growth(samples, 2, 7)]


def test_growth_is_that_of_the_medians() -> None:
    assert growth([100, 100, 900], [1, 114, 900]) == []
    assert growth([100, None, 100], [None, 50, 50]) == []
    assert growth([100, 100, 900], [1, 116, 117]) == ["memory grew by 16%, from 100 to 116 bytes"]


def test_growth_of_the_disk() -> None:
    found = judge_growth([Sample(2, 1, 100), Sample(7, 1, 200)], 2, 7)
    assert [each.what for each in found] == ["disk grew by 100%, from 100 to 200 bytes"]


def test_growth_that_was_not_measured() -> None:
    assert growth([None], [100]) == ["memory was not measured on day 2 or day 7"]


# Counters


def test_a_counter_shows_what_happened() -> None:
    assert judge_counter("jobs", {("a",): 2, ("b",): 0}, {("a",): 2, ("c",): 0}) == []


def test_a_counter_that_shows_something_else() -> None:
    found = judge_counter("jobs", {("a",): 2, ("b",): 1}, {("a",): 3, ("c",): 4})
    assert [each.what for each in found] == [
        "jobs['a'] is 2, and 3 happened", "jobs['b'] is 1, and 0 happened", "jobs['c'] is 0, and 4 happened",
    ]  # fmt: skip
