"""Bitbucket Data Center's webhooks, and the test that it does not sign."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.core.errors import NotAuthentic, UnknownSource, Unreadable, UnsupportedContent
from tests.support.intake import VARIABLES, Intake, basic, changed, sample, signature, without

TABLE = """
sources:
  bitbucket: {type: bitbucket-server, secret: "${{ env.GITHUB_SECRET }}"}
  basic: {type: bitbucket-server, basic_auth: {username: maria, password: "${{ env.PASSWORD }}"}}
  both:
    type: bitbucket-server
    secret: "${{ env.GITHUB_SECRET }}"
    basic_auth: {username: maria, password: "${{ env.PASSWORD }}"}
  github: {secret: "${{ env.GITHUB_SECRET }}"}
routes:
  - name: each ref
    source: bitbucket
    event: repo:refs_changed
    loop: payload.changes
    match: {item.type: {not: DELETE}}
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ item.ref.displayId }}"]
  - {name: everything, source: bitbucket, task: TASK, secret_key: KEY, task_arguments: ["${{ event }}"]}
"""

PUSH = sample("bitbucket-server/repo;refs_changed.json")


@pytest.fixture
def intake(make_intake: Callable[[str], Intake]) -> Intake:
    return make_intake(TABLE)


def sent(body: bytes, event: str = "repo:refs_changed", /, **headers: str | None) -> dict[str, str]:
    """As Bitbucket sends it; None leaves a header out."""
    usual = {
        "Content-Type": "application/json; charset=UTF-8",
        "User-Agent": "Atlassian HttpClient 4.2.0 / Bitbucket-8.19.2 (8019002) / Default",
        "X-Event-Key": event,
        "X-Request-Id": "f3b8b3a4-6f6c-4a57-9d7a-14f6c2a2d0cf",
        "X-Hub-Signature": signature(body),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return {name: value for name, value in usual.items() if value is not None}


def test_a_push_of_two_branches_becomes_a_job_of_each(intake: Intake) -> None:
    answer = intake.post("bitbucket", PUSH, sent(PUSH))
    assert answer.status == 202
    assert [job.arguments for job in intake.jobs()] == [("main",), ("rounding",), ("repo:refs_changed",)]
    event = intake.outbox.event(1)
    assert (event.event, event.action) == ("repo:refs_changed", None)
    assert event.delivery_id == "f3b8b3a4-6f6c-4a57-9d7a-14f6c2a2d0cf"


def test_a_branch_that_is_deleted_says_so(intake: Intake) -> None:
    body = sample("bitbucket-server/repo;refs_changed__delete_branch.json")
    assert [job["route"] for job in intake.post("bitbucket", body, sent(body)).body["jobs"]] == ["everything"]


class TestProof:
    """A signature, basic auth, or both."""

    def test_a_wrong_signature_or_none(self, intake: Intake) -> None:
        for found in (None, "", "sha256=", signature(PUSH, "another"), signature(PUSH, algorithm="sha1")):
            with pytest.raises(NotAuthentic):
                intake.post("bitbucket", PUSH, sent(PUSH, X_Hub_Signature=found))
        assert intake.rows() == (0, 0)

    def test_basic_auth(self, intake: Intake) -> None:
        maria = basic("maria", VARIABLES["PASSWORD"])
        assert intake.post("basic", PUSH, {**sent(PUSH, X_Hub_Signature=None), **maria}).status == 200
        with pytest.raises(NotAuthentic):
            intake.post("basic", PUSH, sent(PUSH))

    def test_both(self, intake: Intake) -> None:
        maria = basic("maria", VARIABLES["PASSWORD"])
        for headers in (sent(PUSH), {**sent(PUSH, X_Hub_Signature=None), **maria}):
            with pytest.raises(NotAuthentic):
                intake.post("both", PUSH, headers)
        assert intake.post("both", PUSH, {**sent(PUSH), **maria}).status == 200
        assert "authorization" not in intake.outbox.event(1).headers


class TestConnection:
    """*Test connection*, which is not signed though the hook has a secret."""

    BODY = b'{"test": true}'

    def headers(self, **headers: str | None) -> dict[str, str]:
        return sent(self.BODY, "diagnostics:ping", X_Hub_Signature=None, **headers)

    @pytest.mark.parametrize("source", ["bitbucket", "basic", "both"])
    def test_it_is_answered_and_starts_and_stores_nothing(self, intake: Intake, source: str) -> None:
        for body in (self.BODY, b"", b"{", PUSH):
            answer = intake.post(source, body, self.headers(X_Request_Id=None))
            assert (answer.status, answer.body) == (200, {"test": True})
        assert intake.rows() == (0, 0)

    def test_whatever_signature_it_has(self, intake: Intake) -> None:
        headers = {**self.headers(), "X-Hub-Signature": signature(self.BODY, "another")}
        assert intake.post("bitbucket", self.BODY, headers).status == 200
        assert intake.rows() == (0, 0)

    @pytest.mark.parametrize(
        "event", ["diagnostics:ping ", "Diagnostics:Ping", "diagnostics:pong", "repo:refs_changed", ""]
    )
    def test_nothing_else_is_taken_for_it(self, intake: Intake, event: str) -> None:
        with pytest.raises(NotAuthentic):
            intake.post("bitbucket", self.BODY, self.headers(X_Event_Key=event))

    def test_what_the_body_says_does_not_make_one(self, intake: Intake) -> None:
        body = changed(PUSH, eventKey="diagnostics:ping", test=True)
        with pytest.raises(NotAuthentic):
            intake.post("bitbucket", body, sent(body, X_Hub_Signature=None))

    def test_it_opens_no_other_type_and_no_other_source(self, intake: Intake) -> None:
        with pytest.raises(NotAuthentic):
            intake.post("github", self.BODY, self.headers())
        with pytest.raises(UnknownSource):
            intake.post("nowhere", self.BODY, self.headers())


class TestReading:
    """The event is named twice, and only one of the two is signed."""

    def test_the_header_must_say_what_the_body_says(self, intake: Intake) -> None:
        for event in ("pr:opened", "repo:modified", "repo:painted"):
            with pytest.raises(Unreadable):
                intake.post("bitbucket", PUSH, sent(PUSH, event))
        keys: list[Any] = [5, None, [], "Repo:refs_changed"]
        for key in keys:
            body = changed(PUSH, eventKey=key)
            with pytest.raises(Unreadable, match="eventKey"):
                intake.post("bitbucket", body, sent(body))
        assert intake.rows() == (0, 0)

    def test_a_body_that_does_not_say_it(self, intake: Intake) -> None:
        body = without(PUSH, "eventKey")
        assert intake.post("bitbucket", body, sent(body)).status == 202

    def test_without_a_header_that_it_always_has(self, intake: Intake) -> None:
        for name in ("X-Event-Key", "X-Request-Id"):
            for value in (None, ""):
                with pytest.raises(Unreadable, match=name):
                    intake.post("bitbucket", PUSH, sent(PUSH, **{name: value}))

    def test_a_content_type_is_more_than_one_spelling(self, intake: Intake) -> None:
        for number, content in enumerate(("application/json", "application/json;charset=utf-8")):
            headers = sent(PUSH, X_Request_Id=str(number), Content_Type=content)
            assert intake.post("bitbucket", PUSH, headers).status == 202
        with pytest.raises(UnsupportedContent):
            intake.post("bitbucket", PUSH, sent(PUSH, Content_Type="application/x-www-form-urlencoded"))

    def test_the_same_id_is_the_same_webhook(self, intake: Intake) -> None:
        intake.post("bitbucket", PUSH, sent(PUSH))
        assert intake.post("bitbucket", PUSH, sent(PUSH)).body["duplicate"]
        assert not intake.post("bitbucket", PUSH, sent(PUSH, X_Request_Id="another")).body["duplicate"]


def test_every_sample_goes_through(senders: Path, intake: Intake) -> None:
    folder = senders / "samples" / "bitbucket-server"
    body = (folder / "repo_refs_changed.json").read_bytes()
    stored = intake.outbox.event(intake.post("bitbucket", body, sent(body)).body["event"])
    assert (stored.full_name, stored.payload) == ("repo:refs_changed", orjson.loads(body))
    ping = (folder / "diagnostics_ping.json").read_bytes()
    answer = intake.post("bitbucket", ping, sent(ping, "diagnostics:ping", X_Hub_Signature=None))
    assert answer.status == 200
    assert intake.rows()[0] == 1
