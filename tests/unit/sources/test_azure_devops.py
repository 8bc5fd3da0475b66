"""Azure DevOps: nothing is signed, and the id depends on what the subscription sends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.core.errors import NotAuthentic, Unreadable
from bridge.sources.base.discovery import discover
from tests.support.intake import JSON_HEADERS, VARIABLES, Intake, basic, changed, sample, without

MakeIntake = Callable[[str], Intake]

TABLE = """
sources:
  azure-devops:
    basic_auth: {username: azure, password: "${{ env.PASSWORD }}"}
routes:
  - source: azure-devops
    event: build.*
    match: {payload.resource.status: failed}
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.resource.buildNumber }}"]
"""

AZURE = discover()["azure-devops"]

BUILD = sample("azure-devops/build.complete.json")

HEADERS = {
    "Content-Type": "application/json; charset=utf-8", "User-Agent": "VSServices/19.250",
    **basic("azure", VARIABLES["PASSWORD"]),
}  # fmt: skip


@pytest.fixture
def intake(make_intake: MakeIntake) -> Intake:
    return make_intake(TABLE)


def delivery(intake: Intake, body: bytes) -> str:
    return intake.outbox.event(intake.post("azure-devops", body, HEADERS).body["event"]).delivery_id


def test_a_job_of_a_build(intake: Intake) -> None:
    assert intake.post("azure-devops", BUILD, HEADERS).status == 202
    assert [job.arguments for job in intake.jobs()] == [("20270115.2",)]
    event = intake.outbox.event(1)
    assert (event.event, event.action) == ("build.complete", None)


def test_the_samples(intake: Intake, senders: Path) -> None:
    paths = sorted((senders / "samples" / "azuredevops").glob("*.json"))
    assert [path.stem for path in paths] == ["build.complete", "git.push"]
    for path in paths:
        body = path.read_bytes()
        answer = intake.post("azure-devops", body, HEADERS)
        event = intake.outbox.event(answer.body["event"])
        assert (event.event, event.delivery_id) == (path.stem, orjson.loads(body)["id"])
        assert event.event in AZURE.events


def test_a_known_event_may_come_without_its_resource(intake: Intake) -> None:
    """*Resource details to send: None*; the event stands in the body, so that no header can belie it."""
    assert intake.post("azure-devops", without(BUILD, "resource"), HEADERS).status == 200
    assert (
        intake.post("azure-devops", changed(BUILD, resource=None, notificationId=18), HEADERS).status == 200
    )


class TestIdentity:
    """``subscriptionId`` and ``notificationId``, else the event's ``id``."""

    def test_the_subscriptions_number(self, intake: Intake) -> None:
        assert delivery(intake, BUILD) == "6f2c0f6a-52d4-4b86-bb0c-6b2f5a1c7d11/17"
        again = intake.post("azure-devops", changed(BUILD, createdDate="later"), HEADERS)
        assert again.body["duplicate"]

    def test_one_event_of_two_subscriptions(self, intake: Intake) -> None:
        found = {delivery(intake, changed(BUILD, subscriptionId=name)) for name in ("a", "b")}
        assert found == {"a/17", "b/17"}

    def test_the_button_sends_one_id_over_and_over(self, intake: Intake) -> None:
        canned = changed(BUILD, id="03c164c2-8912-4d5e-8009-3707d5f83734")
        found = {delivery(intake, changed(canned, notificationId=number)) for number in (1, 2, 3)}
        assert len(found) == 3

    @pytest.mark.parametrize("key", ["subscriptionId", "notificationId"])
    @pytest.mark.parametrize("value", [None, "", True, 1.5, [], {}])
    def test_without_either_the_event(self, intake: Intake, key: str, value: Any) -> None:
        assert delivery(intake, changed(BUILD, **{key: value})) == "4a5d99d6-1c75-4e53-91b9-ee80057d4ce3"

    def test_without_any(self, intake: Intake) -> None:
        for body in (without(without(BUILD, "subscriptionId"), "id"), b"{}", b"[]", b'{"eventType":"x"}'):
            with pytest.raises(Unreadable, match="expected the field eventType"):
                intake.post("azure-devops", body, HEADERS)
        assert intake.rows() == (0, 0)


class TestProof:
    """Basic auth, or a header of the subscription's own."""

    def test_basic_auth(self, intake: Intake) -> None:
        for headers in ({}, basic("azure", "x"), basic("x", VARIABLES["PASSWORD"])):
            with pytest.raises(NotAuthentic):
                intake.post("azure-devops", BUILD, {**JSON_HEADERS, **headers})

    def test_a_header(self, make_intake: MakeIntake) -> None:
        keys = "type: azure-devops, header: X-Bridge-Token, token: '${{ env.TOKEN }}'"
        intake = make_intake(f"sources: {{azure: {{{keys}}}}}\nroutes: []")
        sent = {**JSON_HEADERS, "X-Bridge-Token": VARIABLES["TOKEN"]}
        assert intake.post("azure", BUILD, sent).status == 200
        assert "x-bridge-token" not in intake.outbox.event(1).headers
        for headers in ({}, {"X-Bridge-Token": "x"}, {"X-Token": VARIABLES["TOKEN"]}):
            with pytest.raises(NotAuthentic):
                intake.post("azure", BUILD, {**JSON_HEADERS, **headers})
