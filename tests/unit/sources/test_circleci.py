"""CircleCI's outbound webhooks."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import pytest

from bridge.core.errors import NotAuthentic, Unreadable
from bridge.core.event import Headers, Request
from bridge.core.secrets import Secret
from bridge.intake.answer import Answer
from bridge.sources.base.discovery import discover
from bridge.sources.base.proofs import RequiredProof
from tests.support.intake import JSON_HEADERS, VARIABLES, Intake, changed, sample, without

MakeIntake = Callable[[str], Intake]

CIRCLECI = discover()["circleci"]

TABLE = """
sources:
  circleci: {secret: "${{ env.TOKEN }}"}
routes:
  - {name: everything, source: circleci, task: TASK, secret_key: KEY, task_arguments: ["${{ event }}"]}
"""

COMPLETED = sample("circleci/workflow-completed.json")
PING = sample("circleci/ping.json")

#: As CircleCI's documentation prints them: secret, body, signature.
VECTORS = [
    ("secret", "hello world", "734cc62f32841568f45715aeb9f4d7891324e6d948e4c6c60c0621cdac48623a"),
    ("another-secret", "lalala", "daa220016c8f29a8b214fbfc3671aeec2145cfb1e6790184ffb38b6d0425fa00"),
]


def holds(header: str, secret: str, body: str) -> bool:
    request = Request("circleci", Headers([("circleci-signature", header)]), {}, body.encode(), 0.0)
    return RequiredProof(CIRCLECI.proofs[0], (Secret(secret),)).verify(request)


def post(intake: Intake, body: bytes, event: str = "workflow-completed") -> Answer:
    digest = hmac.new(VARIABLES["TOKEN"].encode(), body, hashlib.sha256).hexdigest()
    sent = {"circleci-event-type": event, "circleci-signature": f"v1={digest}"}
    return intake.post("circleci", body, {**JSON_HEADERS, "User-Agent": "CircleCI-Webhook/1.0", **sent})


@pytest.fixture
def intake(make_intake: MakeIntake) -> Intake:
    return make_intake(TABLE)


@pytest.mark.parametrize(("secret", "body", "digest"), VECTORS)
class TestVectors:
    """``v1=<hex>`` among other versions."""

    def test_they_hold(self, secret: str, body: str, digest: str) -> None:
        for header in (f"v1={digest}", f"v1={digest},v2=0123", f"v2=0123, v1={digest}", f",v2,v1={digest}"):
            assert holds(header, secret, body)

    def test_what_is_changed_does_not(self, secret: str, body: str, digest: str) -> None:
        for header in (f"v2={digest}", digest, f"v1={digest.upper()}", f"V1={digest}", "v1=", "v2=0123"):
            assert not holds(header, secret, body)
        assert not holds(f"v1={digest}", secret, body + " ")
        assert not holds(f"v1={digest}", secret + " ", body)


class TestEvent:
    """What happened and its id are the body's."""

    @pytest.mark.parametrize("event", ["workflow-completed", "job-completed"])
    def test_it_becomes_its_jobs(self, intake: Intake, event: str) -> None:
        body = sample(f"circleci/{event}.json")
        assert post(intake, body, event).status == 202
        stored = intake.outbox.event(1)
        assert (stored.event, stored.action, stored.body) == (event, None, body)
        assert "circleci-signature" not in stored.headers

    def test_the_header_is_not_signed_and_does_not_count(self, intake: Intake) -> None:
        post(intake, COMPLETED, "ping")
        assert intake.outbox.event(1).event == "workflow-completed"
        assert len(intake.jobs()) == 1

    def test_one_sent_again_is_the_same(self, intake: Intake) -> None:
        post(intake, COMPLETED)
        intake.clock.now += 24 * 3600
        assert post(intake, COMPLETED).body["duplicate"]

    def test_a_ping_starts_nothing(self, intake: Intake) -> None:
        for number, body in enumerate((PING, changed(PING, id="8bd71c28")), start=1):
            answer = post(intake, body, "ping")
            assert (answer.status, answer.body["jobs"]) == (200, [])
            assert intake.rows() == (number, 0)

    @pytest.mark.parametrize("event", ["workflow-completed", "job-completed"])
    @pytest.mark.parametrize("value", [None, 5, "", [], {}])
    def test_without_an_id(self, intake: Intake, event: str, value: Any) -> None:
        with pytest.raises(Unreadable, match="expected the fields type and id"):
            post(intake, changed(sample(f"circleci/{event}.json"), id=value))

    @pytest.mark.parametrize(
        "body",
        [
            b"{}", b"[]", b"null", without(COMPLETED, "type"), changed(COMPLETED, type=5),
            without(COMPLETED, "workflow"),
        ],
    )  # fmt: skip
    def test_what_is_no_event(self, intake: Intake, body: bytes) -> None:
        with pytest.raises(Unreadable):
            post(intake, body)
        assert intake.rows() == (0, 0)

    def test_without_a_signature(self, intake: Intake) -> None:
        with pytest.raises(NotAuthentic):
            intake.post("circleci", COMPLETED)


def test_it_is_sent_with_the_events_name() -> None:
    assert CIRCLECI.headers_for("ping")["circleci-event-type"] == "ping"
    assert "circleci-event-type" not in CIRCLECI.headers_for(None)
