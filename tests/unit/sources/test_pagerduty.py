"""PagerDuty's webhooks of version 3."""

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
from bridge.sources.base.proofs import MAX_SIGNATURES, RequiredProof
from tests.support.intake import JSON_HEADERS, VARIABLES, Intake, changed, sample

MakeIntake = Callable[[str], Intake]

PAGERDUTY = discover()["pagerduty"]

TABLE = """
sources:
  pagerduty: {secret: ["${{ env.TOKEN }}", "${{ env.TOKEN_OLD }}"]}
routes:
  - {name: everything, source: pagerduty, task: TASK, secret_key: KEY, task_arguments: ["${{ event }}"]}
"""

TRIGGERED = sample("pagerduty/incident.triggered.json")

#: As PagerDuty publishes it with its Go library: a secret, a body, its signature, and one that is wrong.
SECRET = "lDQHScfUeXUKaQRNF+8XIiDKZ7XX3itBAYzwU0TARw8lJqRnkKl2iB1anSb0Z+IK"
BODY = (
    b'{"event":{"id":"01BWDWL3NYY7LUFPZCC28QUCMK","event_type":"incident.priority_updated",'
    b'"resource_type":"incident","occurred_at":"2021-04-26T17:36:27.458Z",'
    b'"agent":{"html_url":"https://acme.pagerduty.com/users/PLH1HKV","id":"PLH1HKV",'
    b'"self":"https://api.pagerduty.com/users/PLH1HKV","summary":"Tenex Engineer",'
    b'"type":"user_reference"},"client":null,"data":{"id":"PGR0VU2","type":"incident",'
    b'"self":"https://api.pagerduty.com/incidents/PGR0VU2",'
    b'"html_url":"https://acme.pagerduty.com/incidents/PGR0VU2","number":2,"status":"triggered",'
    b'"title":"A little bump in the road",'
    b'"service":{"html_url":"https://acme.pagerduty.com/services/PF9KMXH","id":"PF9KMXH",'
    b'"self":"https://api.pagerduty.com/services/PF9KMXH","summary":"API Service",'
    b'"type":"service_reference"},'
    b'"assignees":[{"html_url":"https://acme.pagerduty.com/users/PTUXL6G","id":"PTUXL6G",'
    b'"self":"https://api.pagerduty.com/users/PTUXL6G","summary":"User 123","type":"user_reference"}],'
    b'"escalation_policy":{"html_url":"https://acme.pagerduty.com/escalation_policies/PUS0KTE",'
    b'"id":"PUS0KTE","self":"https://api.pagerduty.com/escalation_policies/PUS0KTE",'
    b'"summary":"Default","type":"escalation_policy_reference"},'
    b'"teams":[{"html_url":"https://acme.pagerduty.com/teams/PFCVPS0","id":"PFCVPS0",'
    b'"self":"https://api.pagerduty.com/teams/PFCVPS0","summary":"Engineering",'
    b'"type":"team_reference"}],'
    b'"priority":{"html_url":"https://acme.pagerduty.com/account/incident_priorities","id":"PSO75BM",'
    b'"self":"https://api.pagerduty.com/priorities/PSO75BM","summary":"P1",'
    b'"type":"priority_reference"},"urgency":"high",'
    b'"conference_bridge":{"conference_number":1000,"conference_url":"https://example.com"},'
    b'"resolve_reason":null}}}'
)
RIGHT = "0c0b9495b893a39e70d1fea2fe11fbe0a825f88b9f67846f6cc07dd2bc5476cd"
WRONG = "7020c8a7ec668a9b7012bc3dd82e483394b038f4230acc6785efbf2a7d8bcaf5"
ZEROS = "0" * 64


def holds(header: str, body: bytes = BODY, secret: str = SECRET) -> bool:
    request = Request("pagerduty", Headers([("X-PagerDuty-Signature", header)]), {}, body, 0.0)
    return RequiredProof(PAGERDUTY.proofs[0], (Secret(secret),)).verify(request)


def signed(body: bytes, secret: str = VARIABLES["TOKEN"]) -> str:
    return "v1=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def post(intake: Intake, body: bytes, webhook: str = "5a39c2d5") -> Answer:
    sent = {"X-PagerDuty-Signature": signed(body), "X-Webhook-Id": webhook}
    return intake.post("pagerduty", body, {**JSON_HEADERS, **sent})


def with_event(body: bytes, **values: Any) -> bytes:
    """The same webhook with other values in its event."""
    return changed(body, event={**orjson.loads(body)["event"], **values})


@pytest.fixture
def intake(make_intake: MakeIntake) -> Intake:
    return make_intake(TABLE)


class TestSignature:
    """One ``v1=<hex>`` a secret; any may match."""

    @pytest.mark.parametrize(
        "header",
        [
            f"v1={RIGHT}",
            f"v1={ZEROS},v1={RIGHT}",
            f"v1={RIGHT},v1={ZEROS}",
            f"v1={ZEROS}, v1={RIGHT}",
            f"v2={RIGHT},v1={RIGHT},\xff",
        ],
    )
    def test_the_right_one_holds(self, header: str) -> None:
        assert holds(header)

    @pytest.mark.parametrize(
        "header",
        [
            f"v1={WRONG}",
            f"v1={ZEROS}",
            f"v2={RIGHT}",
            f"v0={RIGHT}",
            RIGHT,
            f"sha256={RIGHT}",
            f"v1={RIGHT.upper()}",
            f"v1={RIGHT};v1={ZEROS}",
            f"v1={ZEROS}," * MAX_SIGNATURES + f"v1={RIGHT}",
        ],
    )
    def test_another_does_not(self, header: str) -> None:
        assert not holds(header)

    def test_the_body_and_the_secret_count(self) -> None:
        assert not holds(f"v1={RIGHT}", BODY + b"\n")
        assert not holds(f"v1={RIGHT}", secret=SECRET.lower())

    def test_a_rotation_on_both_sides(self, intake: Intake) -> None:
        for number, secrets in enumerate([("old", "TOKEN_OLD"), ("TOKEN", "new")]):
            body = with_event(TRIGGERED, id=f"01-{number}")
            header = ",".join(signed(body, VARIABLES.get(secret, secret)) for secret in secrets)
            sent = {**JSON_HEADERS, "X-PagerDuty-Signature": header}
            assert intake.post("pagerduty", body, sent).status == 202

    def test_without_one(self, intake: Intake) -> None:
        with pytest.raises(NotAuthentic):
            intake.post("pagerduty", TRIGGERED)


class TestEvent:
    """Always one, in the body."""

    @pytest.mark.parametrize("name", ["incident.triggered", "incident.annotated"])
    def test_it_becomes_its_jobs(self, intake: Intake, name: str) -> None:
        body = sample(f"pagerduty/{name}.json")
        assert post(intake, body).status == 202
        stored = intake.outbox.event(1)
        assert (stored.event, stored.action, stored.body) == (name, None, body)
        assert stored.delivery_id == orjson.loads(body)["event"]["id"]
        assert "x-pagerduty-signature" not in stored.headers

    def test_a_copy_under_another_webhook_id_is_the_same(self, intake: Intake) -> None:
        post(intake, TRIGGERED)
        intake.clock.now += 48 * 3600
        assert post(intake, TRIGGERED, "another").body["duplicate"]
        assert not post(intake, with_event(TRIGGERED, id="01-2")).body["duplicate"]

    def test_a_ping_starts_nothing(self, intake: Intake) -> None:
        answer = post(intake, sample("pagerduty/pagey.ping.json"))
        assert (answer.status, answer.body["jobs"]) == (200, [])
        assert intake.rows() == (1, 0)

    def test_what_no_route_matches_is_answered_with_2xx(self, make_intake: MakeIntake) -> None:
        intake = make_intake(TABLE.partition("routes:")[0] + "routes: []")
        assert post(intake, TRIGGERED).status == 200

    @pytest.mark.parametrize(
        "body",
        [
            b"{}", b"[]", b"null", b'{"event":[]}', b'{"event":"incident.triggered"}',
            with_event(TRIGGERED, id=None), with_event(TRIGGERED, id=5), with_event(TRIGGERED, id=""),
            with_event(TRIGGERED, event_type=None), with_event(TRIGGERED, event_type=["x"]),
            b'{"messages":[{"id":"1","event":"incident.trigger"}]}',
        ],
    )  # fmt: skip
    def test_what_is_no_event_of_version_3(self, intake: Intake, body: bytes) -> None:
        with pytest.raises(Unreadable, match="webhooks v3"):
            post(intake, body)
        assert intake.rows() == (0, 0)


def test_every_sample_is_read(senders: Path, intake: Intake) -> None:
    samples = sorted((senders / "samples" / "pagerduty").glob("*.json"))
    assert samples
    for path in samples:
        event = intake.outbox.event(post(intake, path.read_bytes()).body["event"])
        assert event.event == path.stem
