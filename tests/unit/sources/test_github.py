"""GitHub's webhooks, from the bytes of one to the stored event and its jobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import orjson
import pytest

from bridge.core.errors import NotAuthentic, Unreadable, UnsupportedContent
from bridge.core.event import Headers, Request
from bridge.core.secrets import Secret
from bridge.sources.base.discovery import discover
from bridge.sources.base.proofs import RequiredProof
from tests.support.intake import (
    FIXTURES,
    VARIABLES,
    Intake,
    changed,
    everything_stored,
    github_headers,
    sample,
    signature,
    without,
)

MakeIntake = Callable[[str], Intake]

TABLE = """
sources:
  github:
    secret: ["${{ env.GITHUB_SECRET }}", "${{ env.GITHUB_SECRET_OLD }}"]
routes:
  - {name: everything, source: github, task: TASK, secret_key: KEY, task_arguments: ["${{ event }}"]}
  - name: deploy
    source: github
    event: push
    match: {payload.ref: refs/heads/main, payload.deleted: false}
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.after }}", "${{ payload.head_commit.message }}"]
"""

PUSH = sample("github/push.json")

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def form(body: bytes) -> bytes:
    """As GitHub encodes a webhook whose content type is the form."""
    return b"payload=" + quote_plus(body).encode()


@pytest.fixture
def intake(make_intake: MakeIntake) -> Intake:
    return make_intake(TABLE)


def test_a_push_becomes_its_jobs(intake: Intake) -> None:
    answer = intake.post("github", PUSH, github_headers(PUSH))
    assert answer.status == 202
    assert [job["route"] for job in answer.body["jobs"]] == ["everything", "deploy"]
    after = orjson.loads(PUSH)["after"]
    message = "Round half to even, as the bank does (#41)\n\nCo-authored-by: Zoë <zoe@example.com>"
    assert [job.arguments for job in intake.jobs()] == [("push",), (after, message)]
    event = intake.outbox.event(answer.body["event"])
    assert (event.event, event.action) == ("push", None)
    assert event.delivery_id == "72d3162e-cc78-11e3-81ab-4c9367dc0958"
    assert event.body == PUSH
    assert event.payload == orjson.loads(PUSH)


@pytest.mark.parametrize(
    ("name", "event", "action"),
    [
        ("push__delete_branch", "push", None),
        ("push__tag", "push", None),
        ("pull_request.opened", "pull_request", "opened"),
        ("issues.opened", "issues", "opened"),
        ("release.published", "release", "published"),
        ("workflow_run.completed", "workflow_run", "completed"),
    ],
)
def test_other_events_are_named_as_github_names_them(
    intake: Intake, name: str, event: str, action: str | None
) -> None:
    body = sample(f"github/{name}.json")
    answer = intake.post("github", body, github_headers(body, event))
    assert answer.status == 202
    assert [job["route"] for job in answer.body["jobs"]] == ["everything"]
    stored = intake.outbox.event(answer.body["event"])
    assert (stored.event, stored.action, stored.body) == (event, action, body)


class TestSignature:
    """Only ``X-Hub-Signature-256`` counts."""

    def refused(self, intake: Intake, **headers: str | None) -> None:
        sent = {**github_headers(PUSH), **{name.replace("_", "-"): value for name, value in headers.items()}}
        with pytest.raises(NotAuthentic):
            intake.post("github", PUSH, {name: value for name, value in sent.items() if value is not None})
        assert intake.rows() == (0, 0)

    def test_without_one(self, intake: Intake) -> None:
        self.refused(intake, X_Hub_Signature_256=None, X_Hub_Signature=None)

    def test_sha_1_alone_is_refused(self, intake: Intake) -> None:
        self.refused(intake, X_Hub_Signature_256=None)
        self.refused(intake, X_Hub_Signature_256=signature(PUSH, algorithm="sha1"))

    def test_in_the_older_header(self, intake: Intake) -> None:
        self.refused(intake, X_Hub_Signature_256=None, X_Hub_Signature=signature(PUSH))

    def test_with_an_empty_secret(self, intake: Intake) -> None:
        self.refused(intake, X_Hub_Signature_256=signature(PUSH, ""))

    def test_with_the_old_secret_while_it_rotates(self, intake: Intake) -> None:
        old = signature(PUSH, VARIABLES["GITHUB_SECRET_OLD"])
        headers = {**github_headers(PUSH), "X-Hub-Signature-256": old}
        assert intake.post("github", PUSH, headers).status == 202
        intake.use(TABLE.replace(', "${{ env.GITHUB_SECRET_OLD }}"', ""))
        with pytest.raises(NotAuthentic):
            intake.post("github", PUSH, headers)

    def test_a_signature_is_over_the_bytes_and_not_over_what_they_mean(self, intake: Intake) -> None:
        again = orjson.dumps(orjson.loads(PUSH))
        assert again != PUSH
        with pytest.raises(NotAuthentic):
            intake.post("github", again, github_headers(PUSH))

    def test_nothing_is_parsed_before_it_holds(self, intake: Intake) -> None:
        headers = github_headers(PUSH)
        for body in (b"{", b"[" * 100_000, b"\xff"):
            with pytest.raises(NotAuthentic):
                intake.post("github", body, headers)


class TestForm:
    """The signature covers the form as it came."""

    def test_a_signed_form(self, intake: Intake) -> None:
        raw = form(PUSH)
        answer = intake.post("github", raw, {**github_headers(raw), **FORM})
        assert answer.status == 202
        event = intake.outbox.event(answer.body["event"])
        assert event.body == PUSH
        assert event.payload == orjson.loads(PUSH)

    def test_a_signature_over_the_json_in_it_is_refused(self, intake: Intake) -> None:
        with pytest.raises(NotAuthentic):
            intake.post("github", form(PUSH), {**github_headers(PUSH), **FORM})

    @pytest.mark.parametrize(
        "body",
        [b"", b"payload", b"payload=", b"other=%7B%7D", b"payload=%7B", b"payload=%ff", b"payload=%zz", b"{}",
         b"payload=%7B%7D&a&b&c&d&e&f&g&h&i&j"],
    )  # fmt: skip
    def test_one_without_the_payload(self, intake: Intake, body: bytes) -> None:
        with pytest.raises(Unreadable):
            intake.post("github", body, {**github_headers(body), **FORM})
        assert intake.rows() == (0, 0)

    def test_without_a_signature_to_check_a_form_is_not_taken(self, make_intake: MakeIntake) -> None:
        intake = make_intake("sources: {github: {allow_unsigned: true}}\nroutes: []")
        raw = form(PUSH)
        with pytest.raises(UnsupportedContent):
            intake.post("github", raw, {**github_headers(raw), **FORM})
        assert intake.post("github", PUSH, github_headers(PUSH)).status == 200

    def test_json_that_says_it_is_a_form_and_the_reverse(self, intake: Intake) -> None:
        for body, content in ((PUSH, FORM), (form(PUSH), {})):
            with pytest.raises(Unreadable):
                intake.post("github", body, {**github_headers(body), **content})


class TestPing:
    """What GitHub sends when a webhook is made."""

    def test_it_is_stored_and_not_routed(self, intake: Intake) -> None:
        body = sample("github/ping.json")
        answer = intake.post("github", body, github_headers(body, "ping"))
        assert (answer.status, answer.body) == (200, {"event": 1, "jobs": [], "duplicate": False})
        assert intake.outbox.event(1).event == "ping"
        assert intake.rows() == (1, 0)

    def test_it_must_be_signed(self, intake: Intake) -> None:
        body = sample("github/ping.json")
        with pytest.raises(NotAuthentic):
            intake.post("github", body, github_headers(PUSH, "ping"))

    def test_an_organization_has_no_repository_in_it(self, intake: Intake) -> None:
        body = without(sample("github/ping.json"), "repository")
        assert intake.post("github", body, github_headers(body, "ping")).status == 200

    def test_as_a_form(self, intake: Intake) -> None:
        raw = form(sample("github/ping.json"))
        assert intake.post("github", raw, {**github_headers(raw, "ping"), **FORM}).status == 200


class TestHeaders:
    """The signature covers no header: what they say must fit the body."""

    @pytest.mark.parametrize("name", ["X-GitHub-Event", "X-GitHub-Delivery"])
    @pytest.mark.parametrize("value", [None, ""])
    def test_both_must_be_there(self, intake: Intake, name: str, value: str | None) -> None:
        headers = {**github_headers(PUSH), name: value}
        with pytest.raises(Unreadable, match=f"no header {name}"):
            intake.post("github", PUSH, {key: text for key, text in headers.items() if text is not None})
        assert intake.rows() == (0, 0)

    @pytest.mark.parametrize(
        ("name", "event"),
        [
            ("push", "pull_request"),
            ("push", "ping"),
            ("push", "release"),
            ("push", "delete"),
            ("pull_request.opened", "push"),
            ("pull_request.opened", "issues"),
            ("issues.opened", "issue_comment"),
            ("ping", "push"),
            ("workflow_run.completed", "workflow_job"),
            ("release.published", "deployment"),
        ],
    )
    def test_a_body_of_another_event(self, intake: Intake, name: str, event: str) -> None:
        body = sample(f"github/{name}.json")
        with pytest.raises(Unreadable, match=f"a github {event} without"):
            intake.post("github", body, github_headers(body, event))
        assert intake.rows() == (0, 0)

    @pytest.mark.parametrize("body", [b"[]", b"null", b'"ref"', b"1", b'["ref","before","after"]'])
    def test_a_body_that_is_no_object(self, intake: Intake, body: bytes) -> None:
        with pytest.raises(Unreadable):
            intake.post("github", body, github_headers(body))

    @pytest.mark.parametrize(
        ("event", "body"),
        [
            ("deployment", {"deployment": {"id": 1, "ref": "main"}}),
            ("deployment_status", {"deployment": {"id": 1}, "deployment_status": {"state": "success"}}),
            ("secret_scanning_alert_location", {"alert": {"number": 1}, "location": {"type": "commit"}}),
        ],
    )
    def test_an_event_that_some_releases_send_without_an_action(
        self, intake: Intake, event: str, body: dict[str, Any]
    ) -> None:
        sent = orjson.dumps({**body, "repository": {"full_name": "acme/api"}, "sender": {"login": "bot"}})
        assert intake.post("github", sent, github_headers(sent, event)).status == 202
        assert intake.outbox.event(1).full_name == event

    def test_an_event_that_is_new_at_github_is_taken_on(self, intake: Intake) -> None:
        body = b'{"action":"created","sub_issue":{}}'
        assert intake.post("github", body, github_headers(body, "sub_issues")).status == 202
        assert intake.outbox.event(1).full_name == "sub_issues.created"

    @pytest.mark.parametrize("action", [None, 5, "", [], {}])
    def test_an_action_that_is_no_text_is_none(self, intake: Intake, action: Any) -> None:
        body = changed(sample("github/issues.opened.json"), action=action)
        assert intake.post("github", body, github_headers(body, "issues")).status == 202
        assert intake.outbox.event(1).full_name == "issues"

    def test_names_have_limits(self, intake: Intake) -> None:
        for action in ("x" * 256, "a\x00b"):
            body = changed(sample("github/issues.opened.json"), action=action)
            with pytest.raises(Unreadable, match="the action must be"):
                intake.post("github", body, github_headers(body, "issues"))
        with pytest.raises(Unreadable, match="the event must be"):
            intake.post("github", b"{}", github_headers(b"{}", "x" * 256))
        assert intake.rows() == (0, 0)
        assert intake.post("github", PUSH, github_headers(PUSH, delivery="x" * 300)).status == 202

    def test_credentials_and_signatures_are_stored_nowhere(self, intake: Intake, tmp_path: Path) -> None:
        private = {
            "Authorization": "Bearer marked-1",
            "Proxy-Authorization": "Basic marked-2",
            "Cookie": "a=marked-3",
        }
        sent = {**github_headers(PUSH), **private}
        intake.post("github", PUSH, sent, {"token": "marked-4", "environment": "prod"})
        event = intake.outbox.event(1)
        names = {"x-hub-signature", "x-hub-signature-256", *(name.lower() for name in private)}
        assert set(event.headers) == {name.lower() for name in sent} - names
        assert event.query == {"environment": "prod"}
        stored = everything_stored(tmp_path)
        assert b"GitHub-Hookshot" in stored
        for text in ("marked-", signature(PUSH), signature(PUSH, algorithm="sha1"), *VARIABLES.values()):
            assert text.encode() not in stored


class TestRedelivery:
    """GitHub's "Redeliver" keeps the delivery id."""

    def test_it_is_harmless(self, intake: Intake) -> None:
        first = intake.post("github", PUSH, github_headers(PUSH))
        intake.clock.now += 3 * 24 * 3600
        again = intake.post("github", PUSH, github_headers(PUSH))
        assert (again.status, again.body) == (200, {"event": 1, "jobs": [], "duplicate": True})
        assert intake.rows() == (1, len(first.body["jobs"]))

    def test_another_delivery_of_the_same_push_is_another_webhook(self, intake: Intake) -> None:
        intake.post("github", PUSH, github_headers(PUSH))
        other = intake.post("github", PUSH, github_headers(PUSH, delivery="b0e6aa32"))
        assert (other.status, other.body["duplicate"]) == (202, False)
        assert intake.rows() == (2, 4)

    def test_the_same_delivery_of_another_source_is_another_webhook(self, make_intake: MakeIntake) -> None:
        both = 'type: github, secret: "${{ env.GITHUB_SECRET }}"'
        intake = make_intake(f"sources: {{one: {{{both}}}, two: {{{both}}}}}\nroutes: []")
        for source in ("one", "two"):
            assert not intake.post(source, PUSH, github_headers(PUSH)).body["duplicate"]
        assert intake.rows() == (2, 0)


class TestShared:
    """The senders' published vectors and samples, where they are there."""

    def test_every_vector_gives_its_verdict(self, senders: Path) -> None:
        proof = discover()["github"].proofs[0]
        checked = 0
        for vector in orjson.loads((senders / "vectors.json").read_bytes()):
            if vector["sender"] != "github":
                continue
            required = RequiredProof(proof, (Secret(vector["secret"]),))
            request = Request("here", Headers(vector["headers"].items()), {}, vector["body"].encode(), 0.0)
            assert required.verify(request) is (vector["expect"] is True), vector["origin"]
            checked += 1
        assert checked >= 4

    def test_every_sample_goes_through_signed(self, senders: Path, intake: Intake) -> None:
        samples = sorted((senders / "samples" / "github").glob("*.json"))
        assert samples
        for number, path in enumerate(samples):
            body = path.read_bytes()
            action = orjson.loads(body).get("action")
            event = path.stem.partition("_tag")[0].removesuffix(f".{action}")
            for raw, content in ((body, {}), (form(body), FORM)):
                headers = {
                    **github_headers(raw, event, delivery=f"d{number}-{len(content)}-{len(raw)}"),
                    **content,
                }
                answer = intake.post("github", raw, headers)
                assert answer.status == (200 if event == "ping" else 202)
                stored = intake.outbox.event(answer.body["event"])
                assert (stored.event, stored.action, stored.body) == (event, action, body)

    def test_the_fixtures_have_the_shape_of_the_samples(self, senders: Path) -> None:
        for path in (senders / "samples" / "github").glob("*.json"):
            own = FIXTURES / "github" / path.name.replace("_tag", "__tag")
            real = orjson.loads(path.read_bytes())
            allowed = set(real) | {"organization", "base_ref"}
            assert set(orjson.loads(own.read_bytes())) <= allowed, own.name
