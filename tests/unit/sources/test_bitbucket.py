"""Bitbucket Cloud's webhooks, from the bytes of one to the stored event and its jobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from bridge.core.errors import NotAuthentic, Unreadable
from bridge.core.event import Headers, Request
from bridge.core.secrets import Secret
from bridge.sources.base.discovery import discover
from bridge.sources.base.proofs import RequiredProof
from tests.support.intake import JSON_HEADERS, Intake, sample, signature, without

TABLE = """
sources:
  bitbucket: {secret: "${{ env.GITHUB_SECRET }}"}
routes:
  - name: each branch
    source: bitbucket
    event: repo:push
    loop: payload.push.changes
    match: {item.new.type: branch}
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ item.new.name }}"]
  - name: merged
    source: bitbucket
    event: "pullrequest:*"
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ event }}"]
"""

PUSH = sample("bitbucket/repo;push.json")


@pytest.fixture
def intake(make_intake: Callable[[str], Intake]) -> Intake:
    return make_intake(TABLE)


def sent(body: bytes, event: str = "repo:push", /, **headers: str | None) -> dict[str, str]:
    """As Bitbucket sends it; None leaves a header out."""
    usual = {
        **JSON_HEADERS,
        "User-Agent": "Bitbucket-Webhooks/2.0",
        "X-Event-Key": event,
        "X-Hook-UUID": "1d8b2d0a-0a31-4a8f-a0b4-9d2b5d7c7e0f",
        "X-Request-UUID": "6f3d8a3e-7d1c-4f1b-8f55-0c2a4f5f2f11",
        "X-Attempt-Number": "1",
        "X-Hub-Signature": signature(body),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return {name: value for name, value in usual.items() if value is not None}


def test_the_published_vector() -> None:
    digest = "a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"
    required = RequiredProof(discover()["bitbucket"].proofs[0], (Secret("It's a Secret to Everybody"),))
    for header, expected in (("X-Hub-Signature", True), ("X-Hub-Signature-256", False)):
        headers = Headers([(header, f"sha256={digest}")])
        assert required.verify(Request("here", headers, {}, b"Hello World!", 0.0)) is expected


def test_a_push_of_a_branch_and_a_tag_becomes_a_job_of_the_branch(intake: Intake) -> None:
    answer = intake.post("bitbucket", PUSH, sent(PUSH))
    assert answer.status == 202
    assert [job.arguments for job in intake.jobs()] == [("main",)]
    event = intake.outbox.event(1)
    assert (event.event, event.action) == ("repo:push", None)
    assert event.delivery_id == "6f3d8a3e-7d1c-4f1b-8f55-0c2a4f5f2f11"
    assert event.headers["X-Hook-UUID"]
    assert "X-Hub-Signature" not in event.headers


def test_a_branch_that_is_deleted_matches_no_new_one(intake: Intake) -> None:
    body = sample("bitbucket/repo;push__delete_branch.json")
    assert intake.post("bitbucket", body, sent(body)).body["jobs"] == []


def test_a_glob_takes_every_pull_request(intake: Intake) -> None:
    body = sample("bitbucket/pullrequest;created.json")
    intake.post("bitbucket", body, sent(body, "pullrequest:created"))
    assert [job.arguments for job in intake.jobs()] == [("pullrequest:created",)]


@pytest.mark.parametrize("found", [None, "", "sha256=", signature(PUSH, "another"), signature(PUSH).upper()])
def test_without_the_right_signature(intake: Intake, found: str | None) -> None:
    with pytest.raises(NotAuthentic):
        intake.post("bitbucket", PUSH, sent(PUSH, X_Hub_Signature=found))
    assert intake.rows() == (0, 0)


def test_the_hooks_uuid_and_a_secret_in_the_url_prove_nothing(intake: Intake) -> None:
    for query in ({"secret": "It's a Secret to Everybody"}, {"token": "It's a Secret to Everybody"}):
        with pytest.raises(NotAuthentic):
            intake.post("bitbucket", PUSH, sent(PUSH, X_Hub_Signature=None), query)


def test_a_further_attempt_is_the_same_webhook(intake: Intake) -> None:
    intake.post("bitbucket", PUSH, sent(PUSH))
    intake.clock.now += 3600
    assert intake.post("bitbucket", PUSH, sent(PUSH, X_Attempt_Number="2")).body["duplicate"]
    assert not intake.post("bitbucket", PUSH, sent(PUSH, X_Request_UUID="another")).body["duplicate"]


def test_a_body_of_another_event_than_the_headers(intake: Intake) -> None:
    with pytest.raises(Unreadable, match="pullrequest"):
        intake.post("bitbucket", PUSH, sent(PUSH, "pullrequest:fulfilled"))
    body = without(PUSH, "push")
    with pytest.raises(Unreadable, match="without push"):
        intake.post("bitbucket", body, sent(body))


@pytest.mark.parametrize("name", ["X-Event-Key", "X-Request-UUID"])
def test_without_a_header_that_it_always_has(intake: Intake, name: str) -> None:
    for value in (None, ""):
        with pytest.raises(Unreadable, match=name):
            intake.post("bitbucket", PUSH, sent(PUSH, **{name: value}))


def test_an_event_that_is_not_known_yet_is_taken_on(intake: Intake) -> None:
    assert intake.post("bitbucket", b"{}", sent(b"{}", "repo:painted")).status == 200


def test_every_sample_goes_through(senders: Path, intake: Intake) -> None:
    for name, event in (("repo_push", "repo:push"), ("pullrequest_created", "pullrequest:created")):
        body = (senders / "samples" / "bitbucket" / f"{name}.json").read_bytes()
        answer = intake.post("bitbucket", body, sent(body, event, X_Request_UUID=name))
        stored = intake.outbox.event(answer.body["event"])
        assert (stored.full_name, stored.payload) == (event, orjson.loads(body))
