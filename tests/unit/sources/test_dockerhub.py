"""Docker Hub: a token in the URL, a push by its second, and a callback that is never called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

import tests.support.intake
from bridge.core.errors import NotAuthentic, Unreadable
from bridge.intake.answer import Answer
from bridge.sources.base.discovery import discover
from tests.support.intake import JSON_HEADERS, VARIABLES, Intake, everything_stored, sample

MakeIntake = Callable[[str], Intake]

TABLE = """
sources:
  dockerhub: {url_token: "${{ env.TOKEN }}"}
routes:
  - source: dockerhub
    event: push
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.repository.repo_name }}:${{ payload.push_data.tag }}"]
"""

PUSH = sample("dockerhub/push.json")


@pytest.fixture
def intake(make_intake: MakeIntake) -> Intake:
    return make_intake(TABLE)


def post(intake: Intake, body: bytes, token: str | None = VARIABLES["TOKEN"]) -> Answer:
    return intake.post("dockerhub", body, JSON_HEADERS, {} if token is None else {"token": token})


def pushed(**values: Any) -> bytes:
    """PUSH with other values in its push_data."""
    payload = orjson.loads(PUSH)
    payload["push_data"].update(values)
    return orjson.dumps(payload)


def test_a_job_of_a_push(intake: Intake) -> None:
    assert post(intake, PUSH).status == 202
    assert [job.arguments for job in intake.jobs()] == [("acme/api:latest",)]
    event = intake.outbox.event(1)
    assert (event.event, event.action, event.delivery_id) == ("push", None, "acme/api:latest@1800000000")


def test_the_token_is_checked_and_not_stored(intake: Intake, tmp_path: Path) -> None:
    for token in (None, "", "x", VARIABLES["TOKEN"] + "x", "é", "\udcff"):
        with pytest.raises(NotAuthentic, match="token in its URL"):
            post(intake, PUSH, token)
    with pytest.raises(NotAuthentic):
        intake.post("dockerhub", PUSH, {**JSON_HEADERS, "token": VARIABLES["TOKEN"]})
    post(intake, PUSH)
    assert VARIABLES["TOKEN"].encode() not in everything_stored(tmp_path)


def test_the_callback_is_never_called(make_intake: MakeIntake, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def fetch(url: str) -> bytes:
        fetched.append(url)
        return b""

    monkeypatch.setattr(tests.support.intake, "discover", lambda: discover(fetch))
    intake = make_intake(TABLE)
    post(intake, sample("dockerhub/push__float.json"))
    post(intake, PUSH)
    assert fetched == []
    assert b"callback_url" in intake.outbox.event(1).body


def test_the_samples(intake: Intake, senders: Path) -> None:
    (path,) = (senders / "samples" / "dockerhub").glob("*.json")
    assert post(intake, path.read_bytes()).status == 202
    assert intake.outbox.event(1).delivery_id == "svendowideit/testhook:latest@1417566161"


class TestIdentity:
    """The repository, the tag and the second."""

    def test_whole_or_with_a_fraction(self, intake: Intake) -> None:
        post(intake, pushed(pushed_at=1800000000))
        assert post(intake, pushed(pushed_at=1.8e9)).body["duplicate"]
        assert not post(intake, pushed(pushed_at=1800000001)).body["duplicate"]
        assert not post(intake, pushed(tag="1.27")).body["duplicate"]

    @pytest.mark.parametrize("value", [None, True, "1800000000", "", [], {}])
    def test_no_second(self, intake: Intake, value: Any) -> None:
        with pytest.raises(Unreadable):
            post(intake, pushed(pushed_at=value))

    @pytest.mark.parametrize("value", [None, "", 5, [], {}])
    def test_no_tag(self, intake: Intake, value: Any) -> None:
        with pytest.raises(Unreadable):
            post(intake, pushed(tag=value))

    @pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b'{"push_data":[],"repository":5}'])
    def test_another_payload(self, intake: Intake, body: bytes) -> None:
        with pytest.raises(Unreadable):
            post(intake, body)
        assert intake.rows() == (0, 0)
