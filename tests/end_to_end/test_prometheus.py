"""The real Prometheus scrapes the real bridge; its tools check the alert rules and the dashboard."""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from bridge.core.metrics import METRICS
from bridge.outbox.pauses import Pausable
from bridge.outbox.store import Outbox
from docs.generate import ROOT
from tests.conftest import lacks
from tests.support import prometheus
from tests.support.documents import code_blocks
from tests.support.prometheus import Prometheus, promtool
from tests.support.pushes import RELEASE, VARIABLES, push, stand_in, write_table
from tests.support.server import STATUS_TOKEN, Server
from tests.support.tables import wait_until
from tests.support.theeye import Answer, Fault

RULES = ROOT / "docs" / "monitoring" / "prometheus-alerts.yml"
DASHBOARD = ROOT / "docs" / "monitoring" / "grafana-dashboard.json"
RUNBOOK = (ROOT / "docs" / "how-to" / "monitor.md").read_text("utf-8")

#: Scrapes so often that a rate needs only seconds.
CONFIG = """
global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
scrape_configs:
  - job_name: bridge
    authorization: {{credentials: {token}}}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
rule_files: [{rules}]
"""


@pytest.fixture(autouse=True)
def _installed() -> None:
    if not prometheus.is_installed():
        lacks("prometheus")


def rules() -> dict[str, dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def expressions() -> list[str]:
    """Those of the dashboard, with its variables filled in."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel["targets"]]
    return [each.replace("$job", "bridge").replace("$__rate_interval", "1m") for each in found]


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"\bbridge_\w+", expression))


def sample_names() -> set[str]:
    """The names of the samples of all declared metrics."""
    return {
        f"{metric.name}{part}"
        for metric in METRICS
        for part in (("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",))
    }


# The alert rules


class Case(NamedTuple):
    """The values of series, one a minute, and when they fire an alert."""

    series: dict[str, str]
    #: The minutes at which it does not fire yet, fires, and no longer fires.
    before: int
    fires: int
    after: int


DROP, RISE = "1x4 0x9 1x10", "0x4 1x9 0x10"
BUCKET = 'bridge_attempt_seconds_bucket{job="bridge", task="deploy", le="%s"}'
CASES = {
    "BridgeDown": Case({'up{job="bridge", instance="one"}': DROP}, 6, 8, 16),
    "BridgeNotReady": Case({'bridge_ready{job="bridge"}': DROP}, 6, 8, 16),
    "BridgeNotDelivering": Case({'bridge_delivering_processes{job="bridge"}': DROP}, 9, 11, 16),
    "BridgeTheEyeOutage": Case({'bridge_theeye_outage{job="bridge"}': RISE}, 9, 11, 16),
    "BridgeJobsDead": Case(
        {'bridge_jobs_ended_total{job="bridge", route="a", task="b", state="dead"}': "0x4 1x40"}, 4, 6, 25
    ),
    "BridgeJobsUnknown": Case({'bridge_jobs{job="bridge", state="unknown"}': RISE}, 4, 6, 16),
    "BridgeJobsLate": Case(
        {'bridge_oldest_waiting_job_age_seconds{job="bridge"}': "60x4 2000x9 0x10"}, 9, 11, 16
    ),
    "BridgeAttemptsSlow": Case(
        {BUCKET % "10": "0x80", BUCKET % "30": "0+60x30 1800x50", BUCKET % "+Inf": "0+60x30 1800x50"},
        10, 20, 60,
    ),
    "BridgeTableRejected": Case({'bridge_table_valid{job="bridge"}': DROP}, 6, 8, 16),
    "BridgeSilent": Case({'bridge_silent{job="bridge", source="a", route=""}': RISE}, 4, 6, 16),
    "BridgeRequestsRefused": Case(
        {'bridge_refused_requests_total{job="bridge", source="a", cause="not_authentic"}': "0x4 20x40"},
        4, 6, 25,
    ),
}  # fmt: skip


def rule_test(name: str, case: Case) -> dict[str, Any]:
    """A test of promtool, which counts the firing alerts of a name."""
    firing = f'count(ALERTS{{alertname="{name}", alertstate="firing"}})'
    one = [{"labels": "{}", "value": 1}]
    expected = {case.before: [], case.fires: one, case.after: []}
    return {
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in case.series.items()],
        "promql_expr_test": [
            {"expr": firing, "eval_time": f"{at}m", "exp_samples": samples}
            for at, samples in expected.items()
        ],
    }


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES), folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(CASES)} rules found" in done.stdout


def test_every_rule_fires_by_its_fault_and_ends_after_it(tmp_path: Path) -> None:
    assert CASES.keys() == rules().keys()
    tests = [rule_test(name, case) for name, case in CASES.items()]
    # Without any target of the job.
    tests.append(rule_test("BridgeDown", Case({'up{job="other"}': "1x40"}, 1, 3, 0)))
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = promtool("test", "rules", str(file), folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_runbook_entry() -> None:
    for name, rule in rules().items():
        assert rule["annotations"]["runbook"] == f"docs/how-to/monitor.md#{name.lower()}"
    headings = re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE)
    assert sorted(headings) == sorted(rules())


def test_every_metric_that_a_rule_or_a_panel_names_is_declared() -> None:
    used = metrics_in(" ".join([*(rule["expr"] for rule in rules().values()), *expressions()]))
    assert used <= sample_names(), used - sample_names()
    assert len(used) >= 15


def test_promtool_accepts_the_configuration_of_the_guide(tmp_path: Path) -> None:
    (text,) = code_blocks("docs/how-to/monitor.md", "yaml")
    token = tmp_path / "bridge-token"
    token.write_text(STATUS_TOKEN)
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/bridge-token", str(token)))
    (tmp_path / RULES.name).write_text(RULES.read_text())
    done = promtool("check", "config", "prometheus.yml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (scrape,) = yaml.safe_load(text)["scrape_configs"]
    assert scrape["job_name"] == "bridge", "the rules name this job"


# Prometheus and the bridge


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[Server]:
    """A bridge with jobs that were accepted and died, a duplicate, a refused request, and a paused task."""
    with stand_in() as theeye:
        theeye.fault(Fault(Answer(400), task_id=RELEASE))
        with Server(write_table(tmp_path, theeye.url), tmp_path / "bridge.db", VARIABLES) as server:
            with closing(Outbox(server.database_url, beside_a_server=True)) as outbox:
                outbox.pause(Pausable.ROUTE, "nightly")
            yield server


def traffic(server: Server, number: int) -> None:
    for branch in ("main", "release"):
        push(server.port, f"{branch}-{number}", branch)
    push(server.port, f"main-{number}")
    # Without a signature.
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", "/hooks/github", b"{}", {"Content-Type": "application/json"})
    assert connection.getresponse().status == 401
    connection.close()


def test_prometheus_scrapes_the_bridge_and_every_panel_has_data(bridge: Server, tmp_path: Path) -> None:
    config = CONFIG.format(token=STATUS_TOKEN, port=bridge.port, rules=RULES)
    with Prometheus(config, tmp_path) as server:
        wait_until(lambda: [each for each in server.targets() if each["health"] == "up"], "the first scrape")
        deadline = time.monotonic() + 60
        empty = expressions()
        number = 0
        # A rate needs two scrapes with growth between.
        while empty and time.monotonic() < deadline:
            number += 1
            traffic(bridge, number)
            time.sleep(0.5)
            empty = [each for each in empty if not server.query(each)]
        assert empty == []
        (dead,) = server.query('bridge_jobs_ended_total{state="dead", route="github * release"}')
        assert dead["metric"]["job"] == "bridge"
        # Rules are evaluated up to 500 ms after the scrape that a panel shows.
        firing = 'ALERTS{alertname="BridgeJobsDead", alertstate="firing"}'
        alerts = wait_until(lambda: server.query(firing), "the alert")
        assert [each["metric"]["task"] for each in alerts] == ["release"]
        assert server.query('ALERTS{alertname="BridgeDown"}') == []


def test_promtool_finds_no_fault_in_the_page(bridge: Server, tmp_path: Path) -> None:
    traffic(bridge, 1)
    request = urllib.request.Request(
        f"{bridge.url}/metrics", headers={"Authorization": f"Bearer {STATUS_TOKEN}"}
    )
    with urllib.request.urlopen(request) as response:
        page = response.read().decode()
    done = promtool("check", "metrics", folder=tmp_path, given=page)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
