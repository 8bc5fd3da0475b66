"""Stripe's events: a signature header of its own form, a secret that is text as a whole."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import orjson
import pytest
import stripe
from stripe.events import _event_classes as thin

from bridge.core.errors import NotAuthentic, Unreadable
from bridge.core.event import Headers, Request
from bridge.core.secrets import Secret
from bridge.intake.answer import Answer
from bridge.sources.base.discovery import discover
from bridge.sources.base.proofs import MAX_SIGNATURES, RequiredProof
from tests.support.intake import JSON_HEADERS, VARIABLES, Intake, changed, sample, without

MakeIntake = Callable[[str], Intake]

STRIPE = discover()["stripe"]

TABLE = """
sources:
  stripe: {secret: "${{ env.TOKEN }}"}
routes:
  - {name: everything, source: stripe, task: TASK, secret_key: KEY, task_arguments: ["${{ event }}"]}
"""

PAID = sample("stripe/payment_intent.succeeded.json")

#: What Stripe's own libraries make of a secret, a time and a body.
SECRET = "whsec_test_secret"
TIME = 1700000000
BODY = b'{"id":"evt_test_webhook","object":"event"}'
RIGHT = "d95c6b7477fbd7e9f90b1b0ef5f9c7ac25abca5382460e0d988c2b2a5b71b990"
V0 = "6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39"
ZEROS = "0" * 64


def holds(header: str, secret: str = SECRET, body: bytes = BODY, now: float = TIME) -> bool:
    request = Request("stripe", Headers([("Stripe-Signature", header)]), {}, body, now)
    return RequiredProof(STRIPE.proofs[0], (Secret(secret),)).verify(request)


def signature(time: int | str, body: bytes = BODY, key: bytes = SECRET.encode()) -> str:
    return hmac.new(key, f"{time}.".encode() + body, hashlib.sha256).hexdigest()


def post(intake: Intake, body: bytes) -> Answer:
    time = int(intake.clock.now)
    right = signature(time, body, VARIABLES["TOKEN"].encode())
    return intake.post("stripe", body, {**JSON_HEADERS, "Stripe-Signature": f"t={time},v1={right}"})


@pytest.fixture
def intake(make_intake: MakeIntake) -> Intake:
    return make_intake(TABLE)


class TestSignature:
    """``t=<time>,v1=<hex>`` over ``<time>.<body>``."""

    @pytest.mark.parametrize(
        "header",
        [
            f"t={TIME},v1={RIGHT}",
            f"t={TIME},v1={ZEROS},v1={RIGHT},v0={V0}",
            f"t={TIME}, v1={RIGHT}",
            f"v1={RIGHT},t={TIME}",
            f"t={TIME},v2=x,=,,v1,v1={RIGHT},\xff",
            f"t={TIME}," + f"v0={V0}," * MAX_SIGNATURES + f"v1={RIGHT}",
        ],
    )
    def test_any_of_its_version_may_match(self, header: str) -> None:
        assert holds(header)

    @pytest.mark.parametrize(
        "header",
        [
            f"t={TIME},v0={RIGHT}",
            f"t={TIME},v0={V0}",
            f"t={TIME},v1={V0}",
            f"t={TIME},v2={RIGHT}",
            f"t={TIME},{RIGHT}",
            f"t={TIME},v1={RIGHT.upper()}",
            f"v1={RIGHT}",
            f"t={TIME}",
            f"T={TIME},v1={RIGHT}",
            f"t={TIME},t={TIME},v1={RIGHT}",
            f"t={TIME + 1},v1={RIGHT}",
            f"t= {TIME},v1={RIGHT}",
            f"t={TIME}.0,v1={RIGHT}",
            f"t={TIME};v1={RIGHT}",
            f"t=,v1={RIGHT}",
            f"t=abc,v1={RIGHT}",
            f"t={TIME}," + f"v1={ZEROS}," * MAX_SIGNATURES + f"v1={RIGHT}",
        ],
    )
    def test_anything_else_does_not(self, header: str) -> None:
        assert not holds(header)

    def test_the_body_and_the_secret_count(self) -> None:
        header = f"t={TIME},v1={RIGHT}"
        assert not holds(header, body=BODY + b"\n")
        assert not holds(header, secret="test_secret")

    def test_the_secret_is_no_base64(self) -> None:
        secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        decoded = b64decode(secret.removeprefix("whsec_"))
        assert holds(f"t={TIME},v1={signature(TIME, key=secret.encode())}", secret)
        assert not holds(f"t={TIME},v1={signature(TIME, key=decoded)}", secret)

    @pytest.mark.parametrize(("seconds", "right"), [(300, True), (-300, True), (301, False), (-301, False)])
    def test_a_time_in_the_future_is_as_bad_as_one_in_the_past(self, seconds: int, right: bool) -> None:
        assert holds(f"t={TIME},v1={RIGHT}", now=TIME + seconds) is right

    @pytest.mark.parametrize("time", ["17e8", " 1700000000", "+1700000000", "1700000000.5", "\xb2"])
    def test_a_signed_time_that_is_no_number(self, time: str) -> None:
        right = hmac.new(SECRET.encode(), time.encode("latin-1") + b"." + BODY, hashlib.sha256).hexdigest()
        assert not holds(f"t={time},v1={right}")


class TestEvent:
    """Its name and its id stand in the body."""

    @pytest.mark.parametrize(
        ("name", "event"),
        [
            ("payment_intent.succeeded", "payment_intent.succeeded"),
            ("account.updated__connect", "account.updated"),
            ("v1.billing.meter.error_report_triggered__thin", "v1.billing.meter.error_report_triggered"),
        ],
    )
    def test_it_becomes_its_jobs(self, intake: Intake, name: str, event: str) -> None:
        body = sample(f"stripe/{name}.json")
        assert post(intake, body).status == 202
        stored = intake.outbox.event(1)
        assert (stored.event, stored.action, stored.body) == (event, None, body)
        assert stored.delivery_id == orjson.loads(body)["id"]
        assert "stripe-signature" not in stored.headers

    def test_one_sent_again_days_later_is_the_same(self, intake: Intake) -> None:
        post(intake, PAID)
        intake.clock.now += 3 * 24 * 3600
        assert post(intake, PAID).body["duplicate"]
        assert not post(intake, changed(PAID, id="evt_2")).body["duplicate"]

    @pytest.mark.parametrize(
        "body",
        [
            b"{}", b"[]", b"null", without(PAID, "id"), without(PAID, "type"), changed(PAID, id=5),
            changed(PAID, type=None), changed(PAID, type=["x"]), changed(PAID, id=""),
        ],
    )  # fmt: skip
    def test_what_is_no_event(self, intake: Intake, body: bytes) -> None:
        with pytest.raises(Unreadable, match="a webhook of type stripe: expected the fields"):
            post(intake, body)
        assert intake.rows() == (0, 0)

    def test_those_of_its_library_are_known(self) -> None:
        snapshots = set(get_args(get_type_hints(stripe.Event)["type"]))
        assert len(snapshots) > 200
        assert {name for name in snapshots if "data" not in STRIPE.events.get(name, ())} == set()
        thin_events = {*thin._V2_EVENT_CLASS_LOOKUP, *thin._V2_EVENT_NOTIFICATION_CLASS_LOOKUP}
        assert {name.partition(".")[0] for name in thin_events} <= set(STRIPE.events)

    def test_one_without_what_it_tells_of(self, intake: Intake) -> None:
        with pytest.raises(Unreadable, match=r"a stripe payment_intent.succeeded without data"):
            post(intake, without(PAID, "data"))
        assert post(intake, changed(without(PAID, "data"), type="v1.of.tomorrow")).status == 202

    def test_without_a_signature(self, intake: Intake) -> None:
        with pytest.raises(NotAuthentic, match="no Stripe-Signature"):
            intake.post("stripe", PAID)


def test_every_sample_is_read(senders: Path, intake: Intake) -> None:
    samples = sorted((senders / "samples" / "stripe").glob("*.json"))
    assert samples
    for path in samples:
        body = path.read_bytes()
        event = intake.outbox.event(post(intake, body).body["event"])
        assert event.event == orjson.loads(body)["type"]
