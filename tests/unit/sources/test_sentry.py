"""Sentry's webhooks: bare hex, a resource in a header that is not signed, and no id."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.core.errors import NotAuthentic, Unreadable
from bridge.core.event import Headers, Request
from bridge.core.secrets import Secret
from bridge.intake.answer import Answer
from bridge.sources.base.discovery import discover
from bridge.sources.base.proofs import RequiredProof
from bridge.sources.base.source import Source
from tests.support.intake import (
    FIXTURES,
    JSON_HEADERS,
    VARIABLES,
    Intake,
    changed,
    everything_stored,
    sample,
    without,
)

MakeIntake = Callable[[str], Intake]

SENTRY = discover()["sentry"]

TABLE = """
sources:
  sentry: {secret: "${{ env.TOKEN }}"}
routes:
  - {name: everything, source: sentry, task: TASK, secret_key: KEY, task_arguments: ["${{ event }}"]}
"""

ISSUE = sample("sentry/issue.created.json")
ALERT = sample("sentry/event_alert.triggered.json")
ERROR = sample("sentry/error.created.json")

RESOURCES = ("comment", "error", "event_alert", "installation", "issue", "metric_alert")


def signed(body: bytes, resource: str, request_id: str = "1" * 32) -> dict[str, str]:
    """The headers with which Sentry sends `body`."""
    return {
        **JSON_HEADERS,
        "Sentry-Hook-Resource": resource,
        "Sentry-Hook-Timestamp": "1700000000",
        "Request-ID": request_id,
        "Sentry-Hook-Signature": hmac.new(VARIABLES["TOKEN"].encode(), body, hashlib.sha256).hexdigest(),
    }


def post(intake: Intake, body: bytes, resource: str, request_id: str = "1" * 32) -> Answer:
    return intake.post("sentry", body, signed(body, resource, request_id))


def with_data(body: bytes, key: str, **values: Any) -> bytes:
    """The same webhook with other values in the object at this key of its data."""
    data = orjson.loads(body)["data"]
    return changed(body, data={**data, key: {**data[key], **values}})


@pytest.fixture
def intake(make_intake: MakeIntake) -> Intake:
    return make_intake(TABLE)


class TestSignature:
    """Bare hex over the raw body; the time beside it is not signed."""

    BODY = b'{"action":"created","data":{"issue":{"title":"caf\\u00e9"}}}'
    RIGHT = "4aa5b4137f6dcceb187e90f4df193aadc0295420b6bed68a2be1fac794038347"

    def request(self, signature: str, body: bytes, now: float = 0.0) -> Request:
        headers = {
            "Content-Type": "application/json",
            "Sentry-Hook-Resource": "issue",
            "Sentry-Hook-Timestamp": "1700000000",
            "Request-ID": "0123456789abcdef0123456789abcdef",
            "Sentry-Hook-Signature": signature,
        }
        return Request("sentry", Headers(headers.items()), {}, body, now)

    def source(self) -> Source:
        return Source("sentry", SENTRY, (RequiredProof(SENTRY.proofs[0], (Secret("client-secret"),)),))

    def test_the_vector(self) -> None:
        source = self.source()
        for now in (1700000000.0, 1800000000.0):
            source.verify(self.request(self.RIGHT, self.BODY, now))
        event, _ = source.read(self.request(self.RIGHT, self.BODY))
        assert event.full_name == "issue.created"
        assert event.payload["data"]["issue"]["title"] == "café"

    @pytest.mark.parametrize(
        "signature", [f"sha256={RIGHT}", f"v1={RIGHT}", RIGHT.upper(), "", f"{RIGHT},{RIGHT}"]
    )
    def test_another_spelling(self, signature: str) -> None:
        with pytest.raises(NotAuthentic):
            self.source().verify(self.request(signature, self.BODY))

    def test_the_body_written_anew_is_another(self) -> None:
        with pytest.raises(NotAuthentic):
            self.source().verify(self.request(self.RIGHT, orjson.dumps(orjson.loads(self.BODY))))

    def test_the_signature_of_its_user_interface_proves_nothing(self, intake: Intake) -> None:
        headers = signed(ISSUE, "issue")
        headers["Sentry-App-Signature"] = headers.pop("Sentry-Hook-Signature")
        with pytest.raises(NotAuthentic):
            intake.post("sentry", ISSUE, headers)


class TestEvent:
    """The resource is the event, and the body must be of it."""

    @pytest.mark.parametrize("name", [path.stem for path in sorted((FIXTURES / "sentry").glob("*.json"))])
    def test_it_is_named_as_sentry_names_it(self, intake: Intake, name: str) -> None:
        body = sample(f"sentry/{name}.json")
        answer = post(intake, body, name.partition(".")[0])
        assert answer.status == (200 if name == "installation.created" else 202)
        event = intake.outbox.event(1)
        assert (event.full_name, event.body) == (name, body)
        assert "sentry-hook-signature" not in event.headers

    @pytest.mark.parametrize("name", [path.stem for path in sorted((FIXTURES / "sentry").glob("*.json"))])
    def test_a_signed_body_cannot_be_shown_as_another_resource(self, intake: Intake, name: str) -> None:
        body = sample(f"sentry/{name}.json")
        for resource in RESOURCES:
            if resource != name.partition(".")[0]:
                with pytest.raises(Unreadable, match=f"a sentry {resource} without data"):
                    post(intake, body, resource)
        assert intake.rows() == (0, 0)

    def test_a_resource_that_is_new_at_sentry_is_taken_on(self, intake: Intake) -> None:
        assert post(intake, b'{"action":"done","data":{"seer":{}}}', "seer").status == 202
        assert intake.outbox.event(1).full_name == "seer.done"

    def test_another_key_beside_it_does_not_matter(self, intake: Intake) -> None:
        body = changed(ISSUE, data={"issue": {}, "event": {}})
        assert post(intake, body, "issue").status == 202

    @pytest.mark.parametrize(
        "body",
        [
            b"{}", b"[]", b"null", without(ISSUE, "data"), without(ISSUE, "action"),
            changed(ISSUE, data=None), changed(ISSUE, data=[]), changed(ISSUE, data=["issue"]),
            changed(ISSUE, data="issue"),
        ],
    )  # fmt: skip
    def test_what_is_none(self, intake: Intake, body: bytes) -> None:
        with pytest.raises(Unreadable):
            post(intake, body, "issue")
        assert intake.rows() == (0, 0)

    def test_without_a_resource(self, intake: Intake) -> None:
        for resource in ("", None):
            headers = {**signed(ISSUE, "issue"), "Sentry-Hook-Resource": resource}
            sent = {name: value for name, value in headers.items() if value is not None}
            with pytest.raises(Unreadable, match="Sentry-Hook-Resource"):
                intake.post("sentry", ISSUE, sent)

    def test_the_code_of_an_installation_is_not_stored(self, intake: Intake, tmp_path: Path) -> None:
        created = sample("sentry/installation.created.json")
        body = with_data(created, "installation", code="marked-1")
        assert post(intake, body, "installation").status == 200
        event = intake.outbox.event(1)
        assert event.payload == orjson.loads(created) == orjson.loads(event.body)
        assert b"marked-" not in everything_stored(tmp_path)
        assert intake.rows() == (1, 0)

    def test_the_end_of_an_installation_is_an_event(self, intake: Intake) -> None:
        body = changed(sample("sentry/installation.created.json"), action="deleted")
        assert post(intake, body, "installation").status == 202


def test_check_knows_the_resources_that_an_integration_may_ask_for() -> None:
    asked_for = {"issue", "error", "comment", "seer", "preprod_artifact"}
    always = {"installation", "event_alert", "metric_alert"}
    keys = {name: SENTRY.events.get(name, ()) for name in asked_for | always}
    assert {
        name for name in keys if [key.partition(".")[0] for key in keys[name]] != ["action", "data"]
    } == set()


class TestIdentity:
    """`Request-ID` is another at each attempt."""

    @pytest.mark.parametrize(
        ("body", "resource"), [(ISSUE, "issue"), (ALERT, "event_alert"), (ERROR, "error")]
    )
    def test_one_sent_again_is_the_same(self, intake: Intake, body: bytes, resource: str) -> None:
        post(intake, body, resource)
        for number in range(3):
            intake.clock.now += 305
            assert post(intake, body, resource, f"{number}" * 32).body["duplicate"]
        intake.clock.now += 305
        assert not post(intake, body, resource).body["duplicate"]

    def test_an_alert_that_was_read_anew_is_the_same(self, intake: Intake) -> None:
        post(intake, ALERT, "event_alert")
        assert post(intake, with_data(ALERT, "event", level="fatal"), "event_alert").body["duplicate"]

    def test_another_rule_or_event_is_another(self, intake: Intake) -> None:
        post(intake, ALERT, "event_alert")
        other = orjson.loads(ALERT)["data"] | {"triggered_rule": "Tell the team"}
        assert not post(intake, changed(ALERT, data=other), "event_alert").body["duplicate"]
        assert not post(intake, with_data(ALERT, "event", event_id="e5"), "event_alert").body["duplicate"]

    def test_the_same_event_as_an_error_and_in_an_alert_are_two(self, intake: Intake) -> None:
        event = orjson.loads(ALERT)["data"]["event"]
        alert = changed(ALERT, action="created", data={"event": event})
        post(intake, with_data(ERROR, "error", event_id=event["event_id"]), "error")
        assert not post(intake, alert, "event_alert").body["duplicate"]
        assert not post(intake, changed(alert, action="triggered"), "event_alert").body["duplicate"]

    def test_an_issue_whose_state_changes_is_another(self, intake: Intake) -> None:
        post(intake, changed(ISSUE, action="assigned"), "issue")
        again = with_data(changed(ISSUE, action="assigned"), "issue", assignedTo={"id": "7"})
        assert not post(intake, again, "issue").body["duplicate"]
        assert not post(intake, changed(ISSUE, action="resolved"), "issue").body["duplicate"]


def test_every_sample_is_read(senders: Path, intake: Intake) -> None:
    samples = sorted((senders / "samples" / "sentry").glob("*.json"))
    assert samples
    for path in samples:
        resource = path.stem.partition(".")[0]
        answer = post(intake, path.read_bytes(), resource)
        assert intake.outbox.event(answer.body["event"]).full_name == path.stem
