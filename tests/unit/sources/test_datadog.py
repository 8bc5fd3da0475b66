"""Datadog: a template of the user's own, told apart by what stands in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.core.errors import NotAuthentic, Unreadable, UnsupportedContent
from bridge.core.event import Event
from bridge.sources.base.discovery import discover
from tests.support.intake import BEARER, JSON_HEADERS, VARIABLES, Intake, basic, changed, sample, without

MakeIntake = Callable[[str], Intake]

TABLE = """
sources:
  datadog: {bearer_token: "${{ env.TOKEN }}"}
routes:
  - source: datadog
    event: "*.Triggered"
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.title }}"]
"""

TRIGGERED = sample("datadog/query_alert_monitor.Triggered.json")
RECOVERED = sample("datadog/query_alert_monitor.Recovered__no_id.json")


@pytest.fixture
def intake(make_intake: MakeIntake) -> Intake:
    return make_intake(TABLE)


def stored(intake: Intake, body: bytes) -> Event:
    return intake.outbox.event(intake.post("datadog", body, {**JSON_HEADERS, **BEARER}).body["event"])


def test_a_job_of_what_was_triggered(intake: Intake) -> None:
    event = stored(intake, TRIGGERED)
    assert (event.event, event.action) == ("query_alert_monitor", "Triggered")
    assert stored(intake, RECOVERED).action == "Recovered"
    assert [job.arguments for job in intake.jobs()] == [("[Triggered on {host:web-1}] CPU is high",)]


def test_the_samples(intake: Intake, senders: Path) -> None:
    (path,) = (senders / "samples" / "datadog").glob("*.json")
    event = stored(intake, path.read_bytes())
    assert (event.full_name, event.delivery_id) == ("query_alert_monitor.Triggered", "7000000000000000001")


def test_the_template_of_the_guide_is_json_that_it_reads(intake: Intake) -> None:
    setup = " ".join(discover()["datadog"].guide.setup.split())
    template = setup[setup.index('`{"id"') + 1 :].partition("`")[0]
    event = stored(intake, template.encode())
    assert (event.full_name, event.delivery_id) == ("$EVENT_TYPE.$ALERT_TRANSITION", "$ID")


class TestNames:
    """Where the template lacks them."""

    @pytest.mark.parametrize("value", [None, "", 5, True, [], {}])
    def test_without_an_event(self, intake: Intake, value: Any) -> None:
        assert stored(intake, changed(TRIGGERED, event_type=value)).full_name == "event.Triggered"

    @pytest.mark.parametrize("value", [None, "", 5, True, [], {}])
    def test_without_an_action(self, intake: Intake, value: Any) -> None:
        assert stored(intake, changed(TRIGGERED, alert_transition=value)).action is None

    @pytest.mark.parametrize("body", [b"[]", b"null", b'"$EVENT_TITLE"', b"5", b"$EVENT_TITLE", b"body=x"])
    def test_no_object(self, intake: Intake, body: bytes) -> None:
        with pytest.raises(Unreadable):
            stored(intake, body)


class TestIdentity:
    """``$ID``; else the alert's cycle, transition and time; else a hash in a window."""

    def test_its_id(self, intake: Intake) -> None:
        assert stored(intake, TRIGGERED).delivery_id == "7000000000000000001"
        intake.clock.now += 3600
        answer = intake.post("datadog", changed(TRIGGERED, title="x"), {**JSON_HEADERS, **BEARER})
        assert answer.body["duplicate"]

    def test_without_quotes_in_the_template(self, intake: Intake) -> None:
        assert stored(intake, changed(TRIGGERED, id=7000000000000000001)).delivery_id == "7000000000000000001"

    @pytest.mark.parametrize("value", [None, "", True, 1.5, [], {}])
    def test_the_cycle(self, intake: Intake, value: Any) -> None:
        event = stored(intake, changed(TRIGGERED, id=value))
        assert event.delivery_id == "3203087230954870/Triggered/1800000000000"

    def test_one_cycle_that_goes_on(self, intake: Intake) -> None:
        bodies = [
            changed(RECOVERED, alert_transition=transition, last_updated=time)
            for transition, time in (("Triggered", "1"), ("Re-Triggered", "2"), ("Re-Triggered", "3"))
        ]
        assert len({stored(intake, body).delivery_id for body in bodies}) == 3

    @pytest.mark.parametrize("key", ["alert_cycle_key", "alert_transition", "last_updated"])
    def test_a_hash(self, intake: Intake, key: str) -> None:
        body = without(RECOVERED, key)
        assert "@" in stored(intake, body).delivery_id
        intake.clock.now += 29
        headers = {**JSON_HEADERS, **BEARER}
        assert intake.post("datadog", body, headers).body["duplicate"]
        intake.clock.now += 2
        assert not intake.post("datadog", body, headers).body["duplicate"]


class TestProof:
    """A header of one's own, or a user and a password in the URL, which come as basic auth."""

    @pytest.mark.parametrize(
        ("keys", "proof"),
        [
            ("bearer_token: '${{ env.TOKEN }}'", BEARER),
            (
                "basic_auth: {username: maria, password: '${{ env.PASSWORD }}'}",
                basic("maria", VARIABLES["PASSWORD"]),
            ),
            ("header: X-Datadog-Key, token: '${{ env.TOKEN }}'", {"X-Datadog-Key": VARIABLES["TOKEN"]}),
        ],
        ids=["bearer", "basic", "header"],
    )
    def test_each(self, make_intake: MakeIntake, keys: str, proof: dict[str, str]) -> None:
        intake = make_intake(f"sources: {{datadog: {{{keys}}}}}\nroutes: []")
        assert intake.post("datadog", TRIGGERED, {**JSON_HEADERS, **proof}).status == 200
        assert not {name.lower() for name in proof} & set(intake.outbox.event(1).headers)
        for other in ({}, dict.fromkeys(proof, "x"), {"X-Token": VARIABLES["TOKEN"]}):
            with pytest.raises(NotAuthentic):
                intake.post("datadog", TRIGGERED, {**JSON_HEADERS, **other})

    def test_a_form_is_not_taken(self, intake: Intake) -> None:
        headers = {"Content-Type": "application/x-www-form-urlencoded", **BEARER}
        with pytest.raises(UnsupportedContent):
            intake.post("datadog", b"payload=%7B%7D", headers)


def test_its_numbers_keep_their_digits(intake: Intake) -> None:
    assert orjson.loads(stored(intake, TRIGGERED).body)["last_updated"] == "1800000000000"
