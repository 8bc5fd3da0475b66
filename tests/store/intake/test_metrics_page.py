"""``GET /metrics``: who gets it, and the numbers on it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import orjson
import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from bridge import __version__
from bridge.core.errors import Refusal, StoreUnavailable
from bridge.core.event import rfc3339
from bridge.core.metrics import CAUSES, METRICS, WEBHOOK_SECONDS
from bridge.delivery.target import OUTAGE
from bridge.outbox import counters
from bridge.outbox.pauses import Pausable
from tests.store.intake.test_web import problem
from tests.support.intake import BEARER, JSON_HEADERS, TASK, VARIABLES, Intake, github_headers, sample
from tests.support.server import STATUS, STATUS_TOKEN
from tests.support.tables import wait_until

TABLE = """
sources:
  github: {secret: "${{ env.GITHUB_SECRET }}"}
  closed: {type: generic, bearer_token: "${{ env.TOKEN }}", event: payload.kind, delivery_id: payload.id}
routes:
  - {name: deploy, source: github, event: push, task: TASK, secret_key: KEY, task_arguments: []}
  - {name: named, source: closed, event: [deployed, built.ok], task: TASK, secret_key: KEY,
     task_arguments: []}
"""

PUSH = sample("github/push.json")

Numbers = dict[tuple[str, ...], float]


@pytest.fixture
def intake(make_intake: Callable[[str], Intake]) -> Intake:
    return make_intake(TABLE)


@pytest.fixture
def client(intake: Intake) -> FlaskClient:
    return intake.app().test_client()


def text_of(client: FlaskClient) -> str:
    response = client.get("/metrics", headers=STATUS)
    assert (response.status_code, response.mimetype) == (200, "text/plain")
    return response.text


def numbers(client: FlaskClient) -> Numbers:
    """Each number of the page, by the sample's name and the values of its labels in the declared order."""
    declared = {metric.name.removesuffix("_total"): metric.labels for metric in METRICS}
    return {
        (each.name, *(each.labels[name] for name in (*declared[family.name], "le") if name in each.labels)):
            each.value
        for family in text_string_to_metric_families(text_of(client))
        for each in family.samples
    }  # fmt: skip


def grown(after: Numbers, name: str) -> Numbers:
    """The numbers above 0 of a metric, by the labels."""
    return {tuple(labels): value for (metric, *labels), value in after.items() if metric == name and value}


def post(client: FlaskClient, kind: str, delivery: str) -> int:
    body = orjson.dumps({"kind": kind, "id": delivery})
    return client.post("/hooks/closed", data=body, headers={**JSON_HEADERS, **BEARER}).status_code


class TestToken:
    @pytest.mark.parametrize(
        "headers",
        [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {STATUS_TOKEN}"},
         {"Authorization": f"Bearer {STATUS_TOKEN}x"}],
    )  # fmt: skip
    def test_without_it_there_are_no_metrics(self, client: FlaskClient, headers: dict[str, str]) -> None:
        response = client.get("/metrics", headers=headers)
        assert problem(response, 401)["title"] == "send BRIDGE_STATUS_TOKEN as Authorization: Bearer"
        assert response.headers["WWW-Authenticate"] == "Bearer"

    def test_while_the_bridge_has_none_there_is_no_page(self, intake: Intake) -> None:
        client = intake.app({"BRIDGE_STATUS_TOKEN": ""}).test_client()
        response = client.get("/metrics", headers=STATUS)
        assert problem(response, 404)["title"] == "set BRIDGE_STATUS_TOKEN"

    def test_it_is_read_alone(self, client: FlaskClient) -> None:
        assert client.post("/metrics", headers=STATUS).status_code == 405


def test_every_declared_metric_is_on_the_page_with_its_kind(client: FlaskClient) -> None:
    lines = text_of(client).splitlines()
    shown = {line for line in lines if line.startswith("# ")}
    for metric in METRICS:
        assert f"# HELP {metric.name} {metric.meaning}" in shown
        assert f"# TYPE {metric.name} {metric.kind}" in shown
    assert len(shown) == 2 * len(METRICS)


def test_webhooks_are_counted_by_their_result(
    client: FlaskClient, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "time", SimpleNamespace(time=intake.clock))
    for _ in range(2):
        client.post("/hooks/github", data=PUSH, headers=github_headers(PUSH))
    client.post("/hooks/github", data=PUSH, headers=github_headers(PUSH, "push", "another"))
    ping = b'{"zen": "", "hook_id": 1, "hook": {}}'
    client.post("/hooks/github", data=ping, headers=github_headers(ping, "ping", "of-ping"))
    found = numbers(client)
    assert grown(found, "bridge_events_total") == {
        ("github", "push", "matched"): 2,
        ("github", "push", "duplicate"): 1,
        ("github", "ping", "unmatched"): 1,
    }
    assert grown(found, "bridge_jobs_created_total") == {("deploy", TASK): 2}
    assert found["bridge_jobs", "waiting"] == 2
    assert found["bridge_webhook_seconds_count", "github"] == 3
    assert found["bridge_webhook_seconds_bucket", "github", "+Inf"] == 3
    assert found["bridge_last_event_timestamp_seconds", "github"] == intake.clock()


def test_refused_requests_are_counted_by_their_cause(client: FlaskClient, intake: Intake) -> None:
    for _ in range(25):
        client.post("/hooks/github", data=PUSH, headers=JSON_HEADERS)
    client.post("/hooks/closed", data=b"{", headers={**JSON_HEADERS, **BEARER})
    client.post("/hooks/nothing", data=b"{}")
    client.post("/elsewhere", data=b"{}")
    client.get("/hooks/github")
    intake.refusals.close()
    assert grown(numbers(client), "bridge_refused_requests_total") == {
        ("github", "not_authentic"): 25, ("closed", "unreadable"): 1,
        ("unknown", "unknown_source"): 2, ("github", "wrong_method"): 1,
    }  # fmt: skip


def test_a_refusal_that_cannot_be_stored_is_counted_later(
    client: FlaskClient, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []
    store = intake.outbox.store_refused

    def fail_once(*arguments: object) -> None:
        tried.append(arguments)
        if len(tried) == 1:
            raise StoreUnavailable("the disk is full")
        store(*arguments)  # type: ignore[arg-type]  # the arguments of the call are passed on

    def unavailable(_: object) -> None:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(intake.outbox, "store_refused", fail_once)
    with monkeypatch.context() as patched:
        patched.setattr(intake.outbox, "store", unavailable)
        assert client.post("/hooks/github", data=PUSH, headers=github_headers(PUSH)).status_code == 503
    wait_until(lambda: len(tried) == 2, "the second try")
    intake.refusals.close()
    assert grown(numbers(client), "bridge_refused_requests_total") == {("github", "unavailable"): 1}


def test_every_refusal_has_a_cause() -> None:
    def statuses(kind: type[Refusal]) -> set[int]:
        own = {kind.status} if hasattr(kind, "status") else set()
        return own.union(*map(statuses, kind.__subclasses__()))

    assert statuses(Refusal) <= set(CAUSES)


class TestEventNames:
    """A sender may invent any number of names; no metric may have as many labels."""

    def test_names_that_the_type_does_not_know_share_one_label(self, client: FlaskClient) -> None:
        for number in range(20):
            headers = github_headers(b"{}", f"invented_{number}", f"delivery-{number}")
            assert client.post("/hooks/github", data=b"{}", headers=headers).status_code == 200
        assert grown(numbers(client), "bridge_events_total") == {("github", "other", "unmatched"): 20}

    def test_a_name_in_the_table_is_a_label(self, client: FlaskClient) -> None:
        assert post(client, "deployed", "1") == 202
        assert post(client, "built", "2") == 200
        assert post(client, "built.ok", "3") == 202
        assert grown(numbers(client), "bridge_events_total") == {
            ("closed", "deployed", "matched"): 1,
            ("closed", "other", "unmatched"): 1,
            ("closed", "built.ok", "matched"): 1,
        }


def test_counters_begin_with_0_for_what_the_table_has(client: FlaskClient) -> None:
    found = numbers(client)
    assert found["bridge_jobs_ended_total", "deploy", TASK, "dead"] == 0
    assert found["bridge_jobs_created_total", "named", TASK] == 0
    assert found["bridge_attempts_total", TASK, "refused"] == 0
    assert found["bridge_refused_requests_total", "closed", "not_authentic"] == 0
    assert ("bridge_jobs_ended_total", "deploy", TASK, "waiting") not in found


def test_the_gauges(client: FlaskClient, intake: Intake) -> None:
    found = numbers(client)
    assert (found["bridge_ready",], found["bridge_table_valid",]) == (1, 1)
    assert (found["bridge_delivering_processes",], found["bridge_theeye_outage",]) == (0, 0)
    assert found["bridge_oldest_waiting_job_age_seconds",] == 0
    assert found["bridge_table_info", intake.loaded.version.hash, ""] == 1
    assert found["bridge_build_info", __version__] == 1
    assert grown(found, "bridge_paused") == {}

    intake.outbox.pause(Pausable.ROUTE, "deploy")
    intake.outbox.heartbeat("one", f"{OUTAGE}{rfc3339(intake.clock() - 9)[:19]}Z, circuit open: why")
    intake.outbox.heartbeat("two", None)
    found = numbers(client)
    assert (found["bridge_delivering_processes",], found["bridge_theeye_outage",]) == (2, 1)
    assert grown(found, "bridge_paused") == {("route", "deploy"): 1}


def test_a_silent_source_is_shown(make_intake: Callable[[str], Intake]) -> None:
    intake = make_intake(TABLE.replace('GITHUB_SECRET }}"', 'GITHUB_SECRET }}", expect_every: 1h'))
    client = intake.app().test_client()
    intake.outbox.expectations.alert(None)
    assert numbers(client)["bridge_silent", "github", ""] == 0
    intake.clock.now += 3601
    assert numbers(client)["bridge_silent", "github", ""] == 1


def test_buckets_count_all_smaller_values(client: FlaskClient, intake: Intake) -> None:
    for seconds in (0.004, 0.02, 0.02, 99):
        intake.outbox._durations.append(("github", seconds))
    client.post("/hooks/github", data=PUSH, headers=github_headers(PUSH))
    found = numbers(client)
    by_bound = [
        (bound, found["bridge_webhook_seconds_bucket", "github", bound]) for bound in WEBHOOK_SECONDS.bounds
    ]
    assert by_bound[:3] == [("0.005", 1), ("0.01", 1), ("0.025", 3)]
    assert by_bound[-2:] == [("10", 3), ("+Inf", 4)]
    assert found["bridge_webhook_seconds_count", "github"] == 4
    assert found["bridge_webhook_seconds_sum", "github"] == pytest.approx(99.044)


def test_a_store_that_does_not_answer_leaves_the_numbers_of_the_process(
    client: FlaskClient, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise StoreUnavailable("moved")

    monkeypatch.setattr(intake.outbox, "ping", fail)
    assert {name: value for (name, *_), value in numbers(client).items()} == {
        "bridge_ready": 0, "bridge_table_valid": 1, "bridge_table_info": 1, "bridge_log_blocked": 0,
        "bridge_build_info": 1,
    }  # fmt: skip


def test_no_secret_leaves_in_a_label(intake: Intake, client: FlaskClient) -> None:
    """A route may be named after one by mistake."""
    token = VARIABLES["TOKEN"]
    intake.outbox.pause(Pausable.ROUTE, f"after {token}")
    assert token not in text_of(client)
    assert 'name="after ' in text_of(client)
    assert not any(secret in text_of(client) for secret in (*VARIABLES.values(), STATUS_TOKEN))
