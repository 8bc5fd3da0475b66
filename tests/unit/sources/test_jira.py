"""Jira: a signature over the raw body, a body that may be missing, an id that is kept over retries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from bridge.core.errors import NotAuthentic, Unreadable, UnsupportedContent
from bridge.core.event import Event, Headers, Request
from bridge.core.secrets import Secret
from bridge.intake.answer import Answer
from bridge.sources.base.discovery import discover
from tests.support.intake import JSON_HEADERS, VARIABLES, Intake, changed, github_headers, sample, signature

MakeIntake = Callable[[str], Intake]

TABLE = """
sources:
  jira: {secret: "${{ env.GITHUB_SECRET }}"}
routes:
  - source: jira
    event: "jira:issue_*"
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.issue.key | default(query.issue) }}"]
  - {name: bare, source: jira, event: event, task: TASK, task_arguments: ["${{ query.issue }}"]}
"""

CREATED = sample("jira/jira;issue_created.issue_created.json")
UPDATED = sample("jira/jira;issue_updated.json")
PUSH = sample("github/push.json")

#: A source beside it.
GITHUB = '  github: {secret: "${{ env.GITHUB_SECRET }}"}\n'

#: As Jira sends it with one webhook.
ID = {"X-Atlassian-Webhook-Identifier": "0d4e2a7c-8f6f-4f3e-9d7a-5c1b2e3f4a5b"}


@pytest.fixture
def intake(make_intake: MakeIntake) -> Intake:
    return make_intake(TABLE)


def post(
    intake: Intake, body: bytes, headers: Mapping[str, str] = ID, query: Mapping[str, str] | None = None
) -> Answer:
    sent = {"Content-Type": "application/json; charset=UTF-8", "X-Hub-Signature": signature(body), **headers}
    return intake.post("jira", body, sent, query)


class TestSignature:
    """``X-Hub-Signature``, which in spite of its name holds an HMAC-SHA256."""

    @pytest.mark.parametrize(
        ("secret", "body", "header", "holds"),
        [
            (
                "It's a Secret to Everybody", b"Hello World!",
                "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9", True,
            ),
            (
                "It's a Secret to Everybody", b"Hello World",
                "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9", False,
            ),
            (
                "It's a Secret to Everybody", b"Hello World!",
                "a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9", False,
            ),
        ],
    )  # fmt: skip
    def test_vectors(self, secret: str, body: bytes, header: str, holds: bool) -> None:
        request = Request("jira", Headers([("X-Hub-Signature", header)]), {}, body, 0.0)
        assert discover()["jira"].proofs[0].verify(request, [Secret(secret)]) is holds

    @pytest.mark.parametrize("header", ["sha1=0", "sha256=", ""])
    def test_no_other(self, intake: Intake, header: str) -> None:
        with pytest.raises(NotAuthentic):
            post(intake, CREATED, {"X-Hub-Signature": header, "X-Hub-Signature-256": signature(CREATED)})

    def test_sha1_is_none(self, intake: Intake) -> None:
        with pytest.raises(NotAuthentic):
            post(intake, CREATED, {"X-Hub-Signature": signature(CREATED, algorithm="sha1")})

    def test_a_token_in_the_url_where_there_is_no_secret(self, make_intake: MakeIntake) -> None:
        intake = make_intake("sources: {jira: {url_token: '${{ env.TOKEN }}'}}\nroutes: []")
        assert intake.post("jira", CREATED, JSON_HEADERS, {"token": VARIABLES["TOKEN"]}).status == 200
        for query in ({}, {"token": "x"}, {"token": ""}):
            with pytest.raises(NotAuthentic):
                intake.post("jira", CREATED, JSON_HEADERS, query)
        assert "token" not in intake.outbox.event(1).query


class TestEvent:
    """The body says it."""

    def stored(self, intake: Intake, body: bytes) -> Event:
        return intake.outbox.event(post(intake, body).body["event"])

    def test_the_finer_name_is_the_action(self, intake: Intake) -> None:
        event = self.stored(intake, CREATED)
        assert (event.event, event.action) == ("jira:issue_created", "issue_created")
        assert [job.arguments for job in intake.jobs()] == [("OPS-41",)]

    def test_an_older_server_has_none(self, intake: Intake) -> None:
        assert self.stored(intake, UPDATED).action is None

    @pytest.mark.parametrize("action", [None, 5, "", [], {}])
    def test_what_is_no_text_is_none(self, intake: Intake, action: object) -> None:
        assert self.stored(intake, changed(CREATED, issue_event_type_name=action)).action is None

    @pytest.mark.parametrize(
        "body", [b"{}", b"[]", b"null", b" ", b'{"webhookEvent":5}', b'{"webhookEvent":""}']
    )
    def test_without_a_name(self, intake: Intake, body: bytes) -> None:
        with pytest.raises(Unreadable):
            post(intake, body)

    def test_the_samples(self, senders: Path, intake: Intake) -> None:
        paths = sorted((senders / "samples" / "jira").glob("*.json"))
        assert len(paths) == 2
        names = [self.names(intake, path.read_bytes(), path.name) for path in paths]
        assert names == [("comment_created", None), ("jira:issue_created", "issue_created")]

    def names(self, intake: Intake, body: bytes, delivery: str) -> tuple[str, str | None]:
        answer = post(intake, body, {"X-Atlassian-Webhook-Identifier": delivery})
        event = intake.outbox.event(answer.body["event"])
        return event.event, event.action


class TestNoBody:
    """*Exclude body*: what is told stands in the URL."""

    def test_the_query_tells_it(self, intake: Intake) -> None:
        answer = post(intake, b"", query={"issue": "OPS-41"})
        assert answer.status == 202
        event = intake.outbox.event(1)
        assert (event.event, event.action, event.payload, event.body) == ("event", None, {}, b"{}")
        assert [job.arguments for job in intake.jobs()] == [("OPS-41",)]

    def test_it_is_signed_too(self, intake: Intake) -> None:
        with pytest.raises(NotAuthentic):
            post(intake, b"", {"X-Hub-Signature": signature(b"x")})

    def test_without_an_id_the_query_tells_them_apart(self, intake: Intake) -> None:
        first = post(intake, b"", {}, {"issue": "OPS-41", "user": "maria"})
        assert not first.body["duplicate"]
        assert post(intake, b"", {}, {"user": "maria", "issue": "OPS-41"}).body["duplicate"]
        assert not post(intake, b"", {}, {"issue": "OPS-42", "user": "maria"}).body["duplicate"]


class TestNoContentType:
    """Where nothing is sent, no type of content needs to be named."""

    BARE: ClassVar[dict[str, str]] = {"X-Hub-Signature": signature(b""), **ID}

    @pytest.mark.parametrize("length", [{}, {"Content-Length": "0"}])
    def test_it_is_taken(self, intake: Intake, length: dict[str, str]) -> None:
        assert intake.post("jira", b"", {**self.BARE, **length}, {"issue": "OPS-41"}).status == 202

    def test_a_type_that_is_named_counts(self, intake: Intake) -> None:
        with pytest.raises(UnsupportedContent):
            intake.post("jira", b"", {**self.BARE, "Content-Type": "text/html"})

    def test_a_body_is_named(self, intake: Intake) -> None:
        for length in ({}, {"Content-Length": str(len(CREATED))}, {"Content-Length": "0"}):
            sent = {"X-Hub-Signature": signature(CREATED), **ID, **length}
            with pytest.raises(UnsupportedContent):
                intake.post("jira", CREATED, sent)


class TestWeb:
    """Through the web application, which checks first what needs no body."""

    def status(self, intake: Intake, source: str, body: bytes | None, headers: Mapping[str, str]) -> int:
        client = intake.app().test_client()
        return client.post(f"/hooks/{source}?issue=OPS-41", data=body, headers=headers).status_code

    def test_no_type_of_no_body_is_taken(self, intake: Intake) -> None:
        assert self.status(intake, "jira", None, {**ID, "X-Hub-Signature": signature(b"")}) == 202
        assert intake.outbox.event(1).event == "event"

    def test_no_type_of_a_body_is_not(self, make_intake: MakeIntake) -> None:
        intake = make_intake(TABLE.replace("sources:\n", f"sources:\n{GITHUB}"))
        assert self.status(intake, "jira", CREATED, {**ID, "X-Hub-Signature": signature(CREATED)}) == 415
        github = github_headers(PUSH)
        assert self.status(intake, "github", PUSH, github) == 200
        del github["Content-Type"]
        assert self.status(intake, "github", PUSH, github) == 415
        assert intake.rows() == (1, 0)

    @pytest.mark.parametrize("coming", [{"Content-Length": "1"}, {"Transfer-Encoding": "chunked"}])
    def test_it_is_not_read_first(self, intake: Intake, coming: dict[str, str]) -> None:
        head = intake.request("jira", b"", {**ID, "X-Hub-Signature": signature(b"x"), **coming})
        with pytest.raises(UnsupportedContent):
            intake.check_head(head)


class TestComesAgain:
    """Jira sends again on 409, so a duplicate must never be answered so."""

    def test_by_its_id_however_late(self, intake: Intake) -> None:
        post(intake, CREATED, {**ID})
        intake.clock.now += 3600
        again = post(intake, CREATED, {**ID, "X-Atlassian-Webhook-Retry": "1"})
        assert (again.status, again.body["duplicate"]) == (200, True)
        assert len(intake.jobs()) == 1

    def test_the_same_change_of_another_webhook(self, intake: Intake) -> None:
        post(intake, CREATED)
        other = post(intake, CREATED, {"X-Atlassian-Webhook-Identifier": "another"})
        assert not other.body["duplicate"]

    def test_without_an_id_within_a_window(self, intake: Intake) -> None:
        post(intake, CREATED, {})
        intake.clock.now += 29
        assert post(intake, CREATED, {}).body["duplicate"]
        intake.clock.now += 2
        assert not post(intake, CREATED, {}).body["duplicate"]
