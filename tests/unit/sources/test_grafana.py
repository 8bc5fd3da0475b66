"""Grafana: Alertmanager's notification, with a signature that its user may shape."""

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
from bridge.sources.base.source import Source
from tests.support.intake import BEARER, JSON_HEADERS, VARIABLES, Intake, basic, changed, sample

MakeIntake = Callable[[str], Intake]

SECRET = VARIABLES["GITHUB_SECRET"]

ROUTE = """
routes:
  - source: grafana
    loop: payload.alerts
    match: {item.status: [firing, resolved]}
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ item.labels.instance }}", "${{ item.status }}"]
"""

FIRING = sample("grafana/firing.json")
RESOLVED = sample("grafana/resolved.json")

SIGNATURE, TIME = "X-Grafana-Alerting-Signature", "X-Grafana-Alerting-Timestamp"

TIMED = f"signature: {{timestamp_header: {TIME}}}"


def table(*keys: str) -> str:
    return f"sources: {{grafana: {{{', '.join(keys)}}}}}\n{ROUTE}"


@pytest.fixture
def intake(make_intake: MakeIntake) -> Intake:
    return make_intake(table("bearer_token: '${{ env.TOKEN }}'"))


def post(intake: Intake, body: bytes) -> Answer:
    return intake.post("grafana", body, {**JSON_HEADERS, "User-Agent": "Grafana", **BEARER})


def sign(body: bytes, time: str | None = None, secret: str = SECRET) -> str:
    content = body if time is None else time.encode() + b":" + body
    return hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()


def holds(source: Source, secret: str, body: bytes, headers: dict[str, str], now: float) -> bool:
    (required,) = source.required
    request = Request("grafana", Headers(headers.items()), {}, body, now)
    return required.proof.verify(request, [Secret(secret)])


class TestSignature:
    """A bare hex HMAC of the body, or of the time, a colon and the body."""

    def test_the_vector_without_a_time(self, make_intake: MakeIntake) -> None:
        source = make_intake(table("secret: '${{ env.GITHUB_SECRET }}'")).source("grafana")
        headers = {SIGNATURE: "3bcebf43c85d20bba6e3b6ba278af1d2ba3ab0d57de271b0ad30b833e851c5a6"}
        assert holds(source, "secret", b"test message", headers, 0.0)
        assert not holds(source, "secret", b"test messagf", headers, 0.0)
        assert not holds(source, "secre", b"test message", headers, 0.0)
        timed = {SIGNATURE: "36fa366a807205a13fc507ea4413374566ad5808c7ca7653f94d121fe5e64c2d"}
        assert not holds(source, "secret", b"test message", timed, 0.0)

    def test_the_vector_with_a_time(self, make_intake: MakeIntake) -> None:
        source = make_intake(table("secret: '${{ env.GITHUB_SECRET }}'", TIMED)).source("grafana")
        headers = {
            SIGNATURE: "36fa366a807205a13fc507ea4413374566ad5808c7ca7653f94d121fe5e64c2d", TIME: "1700000000",
        }  # fmt: skip
        assert holds(source, "secret", b"test message", headers, 1_700_000_000.0)
        assert holds(source, "secret", b"test message", headers, 1_700_000_300.0)
        for now in (1_700_000_301.0, 1_699_999_699.0):
            assert not holds(source, "secret", b"test message", headers, now)
        assert not holds(source, "secret", b"test message", {**headers, TIME: "1700000001"}, 1_700_000_000.0)
        untimed = {SIGNATURE: "3bcebf43c85d20bba6e3b6ba278af1d2ba3ab0d57de271b0ad30b833e851c5a6"}
        assert not holds(source, "secret", b"test message", untimed, 1_700_000_000.0)
        assert not holds(source, "secret", b"test message", {**untimed, TIME: ""}, 1_700_000_000.0)

    def test_it_comes_in_and_leaves_no_trace(self, make_intake: MakeIntake) -> None:
        intake = make_intake(table("secret: '${{ env.GITHUB_SECRET }}'", TIMED))
        time = str(int(intake.clock()))
        headers = {**JSON_HEADERS, SIGNATURE: sign(FIRING, time), TIME: time}
        assert intake.post("grafana", FIRING, headers).status == 202
        assert not {SIGNATURE.lower(), TIME.lower()} & set(intake.outbox.event(1).headers)
        for time in ("", "x", "1e9", str(int(intake.clock()) - 301), str(int(intake.clock()) + 301)):
            with pytest.raises(NotAuthentic):
                intake.post("grafana", FIRING, {**headers, SIGNATURE: sign(FIRING, time), TIME: time})

    def test_in_a_header_of_ones_own(self, make_intake: MakeIntake) -> None:
        keys = "signature: {header: X-Ours}"
        intake = make_intake(table("secret: '${{ env.GITHUB_SECRET }}'", keys))
        assert intake.post("grafana", FIRING, {**JSON_HEADERS, "X-Ours": sign(FIRING)}).status == 202
        with pytest.raises(NotAuthentic):
            intake.post("grafana", FIRING, {**JSON_HEADERS, SIGNATURE: sign(FIRING)})

    def test_send_signs_as_it_does(self, make_intake: MakeIntake) -> None:
        source = make_intake(table("secret: '${{ env.GITHUB_SECRET }}'", TIMED)).source("grafana")
        request = source.sign(Request("grafana", Headers(JSON_HEADERS.items()), {}, FIRING, 1_800_000_000.7))
        assert request.headers[TIME] == "1800000000"
        assert request.headers[SIGNATURE] == sign(FIRING, "1800000000")
        source.verify(request)

    @pytest.mark.parametrize(
        ("keys", "proof"),
        [
            ("bearer_token: '${{ env.TOKEN }}'", BEARER),
            (
                "basic_auth: {username: maria, password: '${{ env.PASSWORD }}'}",
                basic("maria", VARIABLES["PASSWORD"]),
            ),
        ],
    )
    def test_or_in_authorization(self, make_intake: MakeIntake, keys: str, proof: dict[str, str]) -> None:
        intake = make_intake(table(keys))
        assert intake.post("grafana", FIRING, {**JSON_HEADERS, **proof}).status == 202
        with pytest.raises(NotAuthentic):
            intake.post("grafana", FIRING, {**JSON_HEADERS, SIGNATURE: sign(FIRING)})


class TestEvent:
    """As Alertmanager's."""

    def test_a_job_an_alert(self, intake: Intake) -> None:
        assert len(post(intake, FIRING).body["jobs"]) == 2
        assert [job.arguments for job in intake.jobs()] == [("web-1", "firing"), ("web-2", "resolved")]
        event = intake.outbox.event(1)
        assert (event.event, event.action, event.body) == ("firing", None, FIRING)

    @pytest.mark.parametrize(
        "body",
        [
            b"[]", b"null", b"{}", changed(FIRING, status="ok"), changed(FIRING, status="alerting"),
            changed(FIRING, status=["firing"]), changed(FIRING, alerts=None), changed(FIRING, alerts={}),
        ],
    )  # fmt: skip
    def test_a_payload_of_another_kind(self, intake: Intake, body: bytes) -> None:
        with pytest.raises(Unreadable, match=r"type grafana: .* use type: generic"):
            post(intake, body)
        assert intake.rows() == (0, 0)

    @pytest.mark.parametrize("alert", [None, 1, "x", [], {}, {"fingerprint": None}, {"fingerprint": [{}]}])
    def test_alerts_of_any_kind(self, intake: Intake, alert: Any) -> None:
        body = changed(FIRING, alerts=[alert, {"status": "firing", "labels": {"instance": "x"}}])
        assert post(intake, body).status == 202
        assert [job.arguments for job in intake.jobs()] == [("x", "firing")]

    def test_the_samples(self, intake: Intake, senders: Path) -> None:
        (path,) = (senders / "samples" / "grafana").glob("*.json")
        body = path.read_bytes()
        assert post(intake, body).status == 202
        assert intake.outbox.event(1).event == "resolved"
        assert len(intake.jobs()) == len(orjson.loads(body)["alerts"])


class TestComesAgain:
    """By what it tells, for a short while: its reminders have the same bytes."""

    def test_within_the_window(self, intake: Intake) -> None:
        post(intake, FIRING)
        intake.clock.now += 29
        other = changed(FIRING, externalURL="https://other.example.org/", title="x")
        assert post(intake, other).body["duplicate"], "of another replica"
        intake.clock.now += 2
        assert not post(intake, FIRING).body["duplicate"], "a reminder"

    def test_what_tells_more_is_new(self, intake: Intake) -> None:
        post(intake, FIRING)
        for more in (RESOLVED, changed(FIRING, receiver="other"), changed(FIRING, groupKey="{}:{}")):
            assert not post(intake, more).body["duplicate"]
