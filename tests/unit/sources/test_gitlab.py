"""GitLab's hooks: the token, the signature, what the event is called, and what identifies it."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.config.load import load
from bridge.core.errors import ConfigError, NotAuthentic, Unreadable
from bridge.core.event import Headers, Request
from bridge.core.secrets import Secret
from bridge.sources.base.discovery import discover
from bridge.sources.base.proofs import Proof, RequiredProof
from bridge.sources.base.source import Source
from bridge.sources.base.source_type import ParsedWebhook
from tests.support.intake import JSON_HEADERS, VARIABLES, Intake, everything_stored, sample, table

GITLAB = discover()["gitlab"]
TOKEN, SIGNATURE = GITLAB.proofs

SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

PUSH = sample("gitlab/Push Hook.json")

#: As GitLab 19 sends it: the id comes with a signature or without one.
DELIVERY = "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"

TABLE = """
sources:
  gitlab: {token: "${{ env.TOKEN }}"}
  signed: {type: gitlab, secret: "${{ env.SIGNING }}"}
  both: {type: gitlab, token: "${{ env.TOKEN }}", secret: "${{ env.SIGNING }}"}
  either: {type: gitlab, any_of: {token: "${{ env.TOKEN }}", secret: "${{ env.SIGNING }}"}}
routes:
  - {name: everything, source: gitlab, task: TASK, secret_key: KEY, task_arguments: ["${{ event }}"]}
  - name: failed
    source: gitlab
    event: Pipeline Hook.failed
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.object_attributes.sha }}"]
"""


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    made = Intake(TABLE, tmp_path, {**VARIABLES, "SIGNING": SIGNING})
    yield made
    made.close()


def sent(event: str = "Push Hook", /, **headers: str | None) -> dict[str, str]:
    """The headers of a webhook with a token, as GitLab 17.4 sends it; None leaves one out."""
    usual = {
        **JSON_HEADERS,
        "User-Agent": "GitLab/17.4.0",
        "X-Gitlab-Event": event,
        "X-Gitlab-Instance": "https://gitlab.example.com",
        "X-Gitlab-Webhook-UUID": "02affd2d-2cba-4033-917d-ec22d5dc4b38",
        "X-Gitlab-Event-UUID": "13792a34-cac6-4fda-95a8-c58e00a3954e",
        "Idempotency-Key": DELIVERY,
        "X-Gitlab-Token": VARIABLES["TOKEN"],
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return {name: value for name, value in usual.items() if value is not None}


def signature(body: bytes, time: int, delivery: str = DELIVERY, secret: str = SIGNING) -> str:
    key = b64decode(secret.removeprefix("whsec_"))
    signed = f"{delivery}.{time}.".encode() + body
    return "v1," + b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def signed(body: bytes, time: float, **headers: str | None) -> dict[str, str]:
    """As GitLab 19 sends it with a signing token alone."""
    found = {
        "webhook_id": DELIVERY,
        "webhook_timestamp": str(int(time)),
        "webhook_signature": signature(body, int(time)),
        "X_Gitlab_Token": None,
    }
    return sent(**{**found, **headers})


def reading(event: str, payload: Any, **headers: str | None) -> ParsedWebhook:
    body = orjson.dumps(payload)
    return GITLAB.read(Request("here", Headers(sent(event, **headers).items()), {}, body, 0.0), payload)


def named(event: str, payload: Any) -> tuple[str, str | None]:
    """What the type calls it: the event and its action."""
    read = reading(event, payload)
    return read.event, read.action


def stored(event: str, payload: Any) -> str:
    """The event as a source of this type stores it."""
    body = orjson.dumps(payload)
    request = Request("here", Headers(sent(event).items()), {}, body, 0.0)
    return Source("here", GITLAB, ()).read(request)[0].event


def test_a_failed_pipeline_becomes_its_jobs(intake: Intake) -> None:
    body = sample("gitlab/Pipeline Hook.failed.json")
    answer = intake.post("gitlab", body, sent("Pipeline Hook"))
    assert answer.status == 202
    assert [job["route"] for job in answer.body["jobs"]] == ["everything", "failed"]
    sha = orjson.loads(body)["object_attributes"]["sha"]
    assert [job.arguments for job in intake.jobs()] == [("Pipeline Hook",), (sha,)]
    event = intake.outbox.event(answer.body["event"])
    assert (event.full_name, event.delivery_id, event.body) == ("Pipeline Hook.failed", DELIVERY, body)


class TestVectors:
    """Published and recomputed ones."""

    BODY = b'{"object_kind":"push","event_name":"push"}'

    def holds(self, proof: Proof, secret: str, now: float = 0.0, **headers: str) -> bool:
        found = Headers((name.replace("_", "-"), value) for name, value in headers.items())
        return RequiredProof(proof, (Secret(secret),)).verify(Request("here", found, {}, self.BODY, now))

    def test_a_token(self) -> None:
        assert self.holds(TOKEN, "sampleToken!", X_Gitlab_Token="sampleToken!")
        assert not self.holds(TOKEN, "sampleToken!", X_Gitlab_Token="sampletoken!")

    @pytest.mark.parametrize(("later", "expected"), [(0, True), (300, True), (301, False)])
    def test_a_signature(self, later: float, expected: bool) -> None:
        headers = {
            "Idempotency_Key": DELIVERY,
            "webhook_id": DELIVERY,
            "webhook_timestamp": "1674087231",
            "webhook_signature": "v1,pJIOsIDWjGf4sk6RSvbRiwT5WnwmL8O1g+WuN2DJL3I=",
        }
        now = 1674087231.0
        assert self.holds(SIGNATURE, SIGNING, now + later, **headers) is expected
        assert not self.holds(SIGNATURE, SIGNING, now, **{**headers, "webhook_id": "another"})


class TestProof:
    """A token, a signature, both or either: the table says which, never the request."""

    def refused(self, intake: Intake, source: str, headers: Mapping[str, str]) -> None:
        with pytest.raises(NotAuthentic):
            intake.post(source, PUSH, headers)
        assert intake.rows() == (0, 0)

    def test_a_token_is_enough_though_the_id_of_a_signature_is_there(self, intake: Intake) -> None:
        """From 19.0 the id and the time come without a signature too."""
        headers = sent(webhook_id=DELIVERY, webhook_timestamp=str(int(intake.clock())))
        assert intake.post("gitlab", PUSH, headers).status == 202

    @pytest.mark.parametrize("token", [None, "", "t0ken", "T0KEN-0123456789", "t0ken-0123456789 ", "\xff"])
    def test_another_token(self, intake: Intake, token: str | None) -> None:
        self.refused(intake, "gitlab", sent(X_Gitlab_Token=token))

    def test_a_token_in_another_header(self, intake: Intake) -> None:
        found = VARIABLES["TOKEN"]
        self.refused(intake, "gitlab", sent(X_Gitlab_Token=None, Authorization=f"Bearer {found}"))

    def test_a_signature(self, intake: Intake) -> None:
        answer = intake.post("signed", PUSH, signed(PUSH, intake.clock()))
        assert (answer.status, intake.outbox.event(1).event) == (200, "Push Hook")

    def test_a_token_where_a_signature_is_asked_for(self, intake: Intake) -> None:
        self.refused(intake, "signed", sent())
        now = str(int(intake.clock()))
        self.refused(intake, "signed", sent(webhook_id=DELIVERY, webhook_timestamp=now))

    def test_a_signature_where_a_token_is_asked_for(self, intake: Intake) -> None:
        self.refused(intake, "gitlab", signed(PUSH, intake.clock()))

    def test_a_signature_of_another_body_id_or_time(self, intake: Intake) -> None:
        now = intake.clock()
        self.refused(intake, "signed", signed(PUSH + b" ", now))
        self.refused(intake, "signed", signed(PUSH, now, webhook_id="another"))
        self.refused(intake, "signed", signed(PUSH, now, webhook_timestamp=str(int(now) + 1)))
        self.refused(intake, "signed", signed(PUSH, now - 301))

    def test_both(self, intake: Intake) -> None:
        self.refused(intake, "both", sent())
        self.refused(intake, "both", signed(PUSH, intake.clock()))
        headers = signed(PUSH, intake.clock(), X_Gitlab_Token=VARIABLES["TOKEN"])
        assert intake.post("both", PUSH, headers).status == 200

    def test_either_while_hooks_move_to_signatures(self, intake: Intake) -> None:
        self.refused(intake, "either", sent(X_Gitlab_Token="other"))
        assert not intake.post("either", PUSH, sent(Idempotency_Key="a")).body["duplicate"]
        assert not intake.post("either", PUSH, signed(PUSH, intake.clock())).body["duplicate"]

    def test_what_send_would_send_is_taken_on(self, intake: Intake) -> None:
        for name in ("gitlab", "signed", "both", "either"):
            source = intake.source(name)
            request = intake.request(name, PUSH, GITLAB.headers_for("Push Hook"))
            source.verify(source.sign(request))

    def test_it_is_stored_nowhere(self, intake: Intake, tmp_path: Path) -> None:
        headers = signed(PUSH, intake.clock(), X_Gitlab_Token=VARIABLES["TOKEN"])
        intake.post("both", PUSH, headers)
        stored = everything_stored(tmp_path)
        assert DELIVERY.encode() in stored
        for text in (VARIABLES["TOKEN"], SIGNING, headers["webhook-signature"]):
            assert text.encode() not in stored

    def test_a_token_as_a_signing_secret_is_a_mistake_of_the_table(self, tmp_path: Path) -> None:
        (tmp_path / "table.yml").write_text(table('sources: {gitlab: {secret: "${{ env.A }}"}}\nroutes: []'))
        with pytest.raises(ConfigError, match="whsec_") as caught:
            load(tmp_path / "table.yml", {"A": "a plain token"}, discover())
        assert "a plain token" not in str(caught.value)


class TestEvent:
    """What it is called: the header's name, but a system hook's is in its body."""

    @pytest.mark.parametrize(
        ("event", "payload", "action"),
        [
            ("Push Hook", {"object_kind": "push", "event_name": "push"}, None),
            ("Merge Request Hook", {"object_attributes": {"action": "merge", "state": "merged"}}, "merge"),
            ("Issue Hook", {"object_kind": "work_item", "object_attributes": {"action": "open"}}, "open"),
            ("Pipeline Hook", {"object_attributes": {"status": "success", "tag": False}}, "success"),
            ("Job Hook", {"object_kind": "build", "build_status": "running"}, "running"),
            ("Deployment Hook", {"object_kind": "deployment", "status": "failed"}, "failed"),
            ("Release Hook", {"object_kind": "release", "action": "create"}, "create"),
            ("Member Hook", {"event_name": "user_add_to_group"}, None),
            ("A New Hook", {"object_kind": "new"}, None),
        ],
    )
    def test_of_a_project_or_group(self, event: str, payload: Any, action: str | None) -> None:
        assert named(event, payload) == (event, action)

    @pytest.mark.parametrize(
        ("payload", "event", "action"),
        [
            ({"event_name": "push", "ref": "refs/heads/main"}, "push", None),
            ({"event_name": "project_create"}, "project_create", None),
            (
                {"object_kind": "merge_request", "object_attributes": {"action": "open"}},
                "merge_request", "open",
            ),
            ({"event_name": "tag_push", "object_kind": "another"}, "tag_push", None),
        ],
    )  # fmt: skip
    def test_of_a_system_hook(self, payload: Any, event: str, action: str | None) -> None:
        assert named("System Hook", payload) == (event, action)

    def test_a_template_of_the_users_own_may_leave_everything_out(self) -> None:
        payloads: list[Any] = [
            {"deploy": "api"},
            {},
            [],
            "text",
            5,
            None,
            {"object_kind": 5, "event_name": []},
        ]
        for payload in payloads:
            assert named("Push Hook", payload) == ("Push Hook", None)
            assert named("System Hook", payload) == ("System Hook", None)

    def test_a_body_does_not_name_another_event_than_the_header(self) -> None:
        assert named("Note Hook", {"event_name": "push"}) == ("Note Hook", None)

    @pytest.mark.parametrize(
        ("hook", "kind"),
        [
            ("Note Hook", "push"), ("Push Hook", "tag_push"), ("Pipeline Hook", "build"),
            ("Job Hook", "pipeline"), ("Issue Hook", "note"), ("Deployment Hook", "deploy_token"),
            ("Project Hook", "push"), ("Member Hook", "build"), ("Subgroup Hook", "note"),
        ],
    )  # fmt: skip
    def test_a_body_of_another_kind_than_its_hook_is_refused(self, hook: str, kind: str) -> None:
        """A token covers neither: whoever may trigger one hook must not start another's tasks."""
        with pytest.raises(Unreadable, match=f"a gitlab {hook} whose object_kind is {kind}"):
            stored(hook, {"object_kind": kind})

    @pytest.mark.parametrize(
        ("hook", "kind"),
        [
            ("Push Hook", "push"), ("Job Hook", "build"), ("Issue Hook", "work_item"),
            ("Work Item Hook", "issue"), ("Confidential Issue Hook", "issue"), ("Note Hook", "note"),
            ("Confidential Note Hook", "note"), ("Note Hook", "of_tomorrow"), ("Tomorrow Hook", "push"),
            ("Member Hook", "user_add_to_group"), ("Push Hook", ""),
        ],
    )  # fmt: skip
    def test_a_body_of_its_hooks_kind_or_a_new_one_passes(self, hook: str, kind: str) -> None:
        assert stored(hook, {"object_kind": kind}) == hook

    @pytest.mark.parametrize(
        ("hook", "name"),
        [
            ("Push Hook", "user_add_to_group"), ("Member Hook", "push"), ("Project Hook", "subgroup_create"),
            ("Merge Request Hook", "user_add_to_group"), ("Note Hook", "push"),
        ],
    )  # fmt: skip
    def test_a_body_with_the_event_name_of_another_hook_is_refused(self, hook: str, name: str) -> None:
        with pytest.raises(Unreadable, match=f"a gitlab {hook} whose event_name is {name}"):
            stored(hook, {"event_name": name})
        assert stored(hook, {"event_name": "of_tomorrow"}) == hook

    def test_a_system_event_is_named_by_the_body_alone(self) -> None:
        with pytest.raises(Unreadable, match="X-Gitlab-Event is project_create"):
            stored("project_create", {"object_kind": "note"})
        assert stored("System Hook", {"event_name": "project_create"}) == "project_create"

    def test_without_the_header(self, intake: Intake) -> None:
        for event in (None, ""):
            with pytest.raises(Unreadable, match="X-Gitlab-Event"):
                intake.post("gitlab", PUSH, sent(X_Gitlab_Event=event))
        assert intake.rows() == (0, 0)

    def test_send_says_which_hook_it_is(self) -> None:
        assert GITLAB.headers_for("Push Hook")["X-Gitlab-Event"] == "Push Hook"
        assert GITLAB.headers_for("project_create")["X-Gitlab-Event"] == "System Hook"
        headers = GITLAB.headers_for("Push Hook")
        assert headers["webhook-id"] == headers["Idempotency-Key"]

    def warnings(self, folder: Path, events: str) -> list[str]:
        route = f"{{source: gitlab, event: {events}, task: TASK, secret_key: KEY, task_arguments: []}}"
        path = folder / "table.yml"
        path.write_text(table(f'sources: {{gitlab: {{token: "${{{{ env.TOKEN }}}}"}}}}\nroutes: [{route}]'))
        return [problem.message for problem in load(path, VARIABLES, discover()).problems]

    def test_check_knows_the_names(self, tmp_path: Path) -> None:
        for events in ("Push Hook", "[Job Hook.failed, project_create]", '"*"', "[push, Push Hook]"):
            assert self.warnings(tmp_path, events) == []
        for events in ("push", "tag_push", "merge_request"):
            assert "is an event of system hooks" in self.warnings(tmp_path, events)[0]
        assert "no known event 'pipeline'" in self.warnings(tmp_path, "pipeline")[0]


class TestIdentity:
    """What makes it the same webhook when it comes again."""

    def again(self, intake: Intake, first: Mapping[str, str], second: Mapping[str, str]) -> bool:
        intake.post("gitlab", PUSH, first)
        intake.clock.now += 5
        return bool(intake.post("gitlab", PUSH, second).body["duplicate"])

    def test_its_idempotency_key(self, intake: Intake) -> None:
        assert self.again(intake, sent(), sent(X_Gitlab_Webhook_UUID="new", X_Gitlab_Event_UUID="new"))

    def test_another_idempotency_key(self, intake: Intake) -> None:
        assert not self.again(intake, sent(), sent(Idempotency_Key="another"))

    def test_the_signed_id_where_it_comes(self, intake: Intake) -> None:
        """Whoever sends a signed webhook once more cannot make it another one."""
        first = signed(PUSH, intake.clock())
        intake.post("signed", PUSH, first)
        again = intake.post("signed", PUSH, {**first, "Idempotency-Key": "another"})
        assert again.body["duplicate"]

    def test_a_hash_for_a_while_where_none_comes(self, intake: Intake) -> None:
        old = sent(Idempotency_Key=None)
        assert self.again(intake, old, {**old, "X-Gitlab-Webhook-UUID": "new"})
        intake.clock.now += 30
        assert not intake.post("gitlab", PUSH, old).body["duplicate"]

    def test_the_hash_is_over_the_event_and_the_body(self) -> None:
        one = reading("Issue Hook", {"a": 1}).fingerprint
        assert one == reading("Issue Hook", {"a": 1}, Idempotency_Key="another").fingerprint
        assert one != reading("Confidential Issue Hook", {"a": 1}).fingerprint
        assert one != reading("Issue Hook", {"a": 2}).fingerprint


def test_every_sample_goes_through(senders: Path, intake: Intake) -> None:
    names = {
        "push": ("Push Hook", "Push Hook"),
        "merge_request": ("Merge Request Hook", "Merge Request Hook.open"),
        "pipeline": ("Pipeline Hook", "Pipeline Hook.success"),
        "system_push": ("System Hook", "push"),
    }
    found = sorted((senders / "samples" / "gitlab").glob("*.json"))
    assert {path.stem for path in found} == names.keys()
    for path in found:
        header, name = names[path.stem]
        answer = intake.post("gitlab", path.read_bytes(), sent(header, Idempotency_Key=path.stem))
        assert intake.outbox.event(answer.body["event"]).full_name == name
