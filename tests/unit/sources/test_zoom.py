"""Zoom's webhooks, and the validation of the URL that it asks for."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.config.load import load
from bridge.core.errors import NotAuthentic, Unreadable
from bridge.core.event import Headers, Request
from bridge.core.secrets import Secret
from bridge.intake.answer import Answer
from bridge.sources.base.discovery import discover
from bridge.sources.base.proofs import RequiredProof
from bridge.sources.base.source import Source
from tests.support.intake import (
    JSON_HEADERS,
    VARIABLES,
    Intake,
    changed,
    everything_stored,
    sample,
    table,
    without,
)

MakeIntake = Callable[[str], Intake]

ZOOM = discover()["zoom"]

TABLE = """
sources:
  zoom: {secret: ["${{ env.TOKEN }}", "${{ env.TOKEN_OLD }}"]}
routes:
  - {name: everything, source: zoom, task: TASK, secret_key: KEY, task_arguments: ["${{ event }}"]}
"""

STARTED = sample("zoom/meeting.started.json")
VALIDATION = sample("zoom/endpoint.url_validation.json")


def signed(body: bytes, now: float, secret: str = VARIABLES["TOKEN"]) -> dict[str, str]:
    """The headers with which Zoom sends `body`."""
    text = f"v0:{int(now)}:".encode() + body
    digest = hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
    return {**JSON_HEADERS, "x-zm-request-timestamp": str(int(now)), "x-zm-signature": f"v0={digest}"}


def post(intake: Intake, body: bytes, secret: str = VARIABLES["TOKEN"]) -> Answer:
    return intake.post("zoom", body, signed(body, intake.clock.now, secret))


def encrypted(token: str, secret: str = VARIABLES["TOKEN"]) -> str:
    return hmac.new(secret.encode(), token.encode(), hashlib.sha256).hexdigest()


@pytest.fixture
def intake(make_intake: MakeIntake) -> Intake:
    return make_intake(TABLE)


class TestValidation:
    """The answer is an HMAC of the token, with the key that signs."""

    def test_the_vector(self) -> None:
        body = (
            b'{"payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"},"event_ts":1654503849680,'
            b'"event":"endpoint.url_validation"}'
        )
        source = Source("zoom", ZOOM, (RequiredProof(ZOOM.proofs[0], (Secret("secretToken"),)),))
        headers = Headers(signed(body, 1654503849.0, "secretToken").items())
        request = Request("zoom", headers, {}, body, 1654503849.0)
        event, _ = source.read(request)
        assert source.reply(request, event) == {
            "plainToken": "qgg8vlvZRS6UYooatFL8Aw",
            "encryptedToken": "ea251a65049c298c3ebfa801067f1681fdbf1658223310325b5e74a5630b382d",
        }

    def test_it_is_answered_each_time(self, intake: Intake) -> None:
        token = "pA1nT0k3n-abc_DEF"
        for _ in range(2):
            answer = post(intake, VALIDATION)
            assert answer.status == 200
            assert answer.body == {"plainToken": token, "encryptedToken": encrypted(token)}
        assert intake.rows() == (1, 0)

    def test_with_the_secret_that_the_sender_has(self, intake: Intake) -> None:
        old = VARIABLES["TOKEN_OLD"]
        answer = post(intake, VALIDATION, old)
        assert answer.body["encryptedToken"] == encrypted("pA1nT0k3n-abc_DEF", old)

    def test_nobody_else_gets_anything_signed(self, intake: Intake) -> None:
        """Else a text such as ``v0:<time>:<body>`` as plainToken would give the signature of that body."""
        forged = f"v0:{int(intake.clock.now)}:".encode() + STARTED
        body = orjson.dumps(
            {"event": "endpoint.url_validation", "payload": {"plainToken": forged.decode()}, "event_ts": 1}
        )
        for headers in ({}, {"x-zm-signature": "v0=" + "0" * 64, "x-zm-request-timestamp": "1800000000"}):
            with pytest.raises(NotAuthentic):
                intake.post("zoom", body, {**JSON_HEADERS, **headers})
        assert intake.rows() == (0, 0)

    def test_nor_at_a_source_that_takes_from_anybody(self, make_intake: MakeIntake) -> None:
        intake = make_intake("sources: {zoom: {allow_unsigned: true}}\nroutes: []")
        answer = intake.post("zoom", VALIDATION)
        assert answer.status == 200
        assert "encryptedToken" not in answer.body

    @pytest.mark.parametrize("token", [None, "", 5, [], {"a": 1}])
    def test_a_token_that_is_no_text(self, intake: Intake, token: Any) -> None:
        with pytest.raises(Unreadable, match="plainToken"):
            post(intake, changed(VALIDATION, payload={"plainToken": token}))

    def test_a_token_of_any_text(self, intake: Intake) -> None:
        token = "\u2603 \x00 é"
        answer = post(intake, changed(VALIDATION, payload={"plainToken": token}))
        assert answer.body == {"plainToken": token, "encryptedToken": encrypted(token)}


class TestEvent:
    """A webhook has no id."""

    def test_it_becomes_its_jobs(self, intake: Intake) -> None:
        assert post(intake, STARTED).status == 202
        assert [job.arguments for job in intake.jobs()] == [("meeting.started",)]
        assert intake.outbox.event(1).full_name == "meeting.started"
        assert intake.outbox.event(1).body == STARTED

    def test_a_known_one_has_a_payload(self, intake: Intake) -> None:
        with pytest.raises(Unreadable, match=r"a zoom meeting.started without payload"):
            post(intake, without(STARTED, "payload"))
        assert post(intake, changed(without(STARTED, "payload"), event="of.tomorrow")).status == 202

    def test_it_is_the_same_at_zooms_third_repeat(self, intake: Intake) -> None:
        post(intake, STARTED)
        for minutes in (5, 20, 60):
            intake.clock.now += minutes * 60
            turned = dict(reversed(orjson.loads(STARTED).items()))
            turned["payload"] = dict(reversed(turned["payload"].items()))
            assert post(intake, orjson.dumps(turned)).body["duplicate"]

    def test_at_another_time_it_is_another(self, intake: Intake) -> None:
        post(intake, STARTED)
        assert not post(intake, changed(STARTED, event_ts=1799999999124)).body["duplicate"]
        assert not post(intake, changed(STARTED, event="meeting.ended")).body["duplicate"]
        assert not post(intake, changed(STARTED, payload={})).body["duplicate"]

    def test_the_token_for_downloads_is_not_stored(self, intake: Intake, tmp_path: Path) -> None:
        recorded = sample("zoom/recording.completed.json")
        assert post(intake, changed(recorded, download_token="marked-1")).status == 202
        assert post(intake, changed(recorded, download_token="marked-2")).body["duplicate"]
        assert intake.outbox.event(1).payload == orjson.loads(recorded)
        assert b"marked-" not in everything_stored(tmp_path)

    @pytest.mark.parametrize("seconds", [301.0, -301.0])
    def test_a_time_that_is_too_far(self, intake: Intake, seconds: float) -> None:
        headers = signed(STARTED, intake.clock.now + seconds)
        with pytest.raises(NotAuthentic):
            intake.post("zoom", STARTED, headers)

    @pytest.mark.parametrize(
        "body",
        [
            b"{}",
            b"[]",
            b"null",
            without(STARTED, "event"),
            changed(STARTED, event=""),
            changed(STARTED, event=5),
        ],
    )
    def test_what_is_no_event(self, intake: Intake, body: bytes) -> None:
        with pytest.raises(Unreadable):
            post(intake, body)
        assert intake.rows() == (0, 0)


@pytest.mark.parametrize(
    ("event", "warned"),
    [
        ("meeting.started", False), ("phone.callee_missed", False), ("session.user_joined", False),
        ("endpoint.url_validation", True), ("meeting.startd", True), ("meeting.*", False),
    ],
)  # fmt: skip
def test_check_warns_of_a_name_that_zoom_does_not_have(tmp_path: Path, event: str, warned: bool) -> None:
    path = tmp_path / "table.yml"
    path.write_text(table(TABLE.replace("source: zoom,", f'source: zoom, event: "{event}",')), "utf-8")
    problems = load(path, VARIABLES, discover()).problems
    assert [event in problem.message for problem in problems] == [True] * warned
