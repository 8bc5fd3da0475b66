"""Gitea's webhooks, and what Forgejo's and Gogs' have in common with them."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote_plus

import orjson
import pytest

from bridge.core.errors import NotAuthentic, Unreadable, UnsupportedContent
from bridge.core.event import Headers, Request
from bridge.core.secrets import Secret
from bridge.sources.base.discovery import discover
from bridge.sources.base.proofs import RequiredProof
from tests.support.intake import JSON_HEADERS, VARIABLES, Intake, everything_stored, sample, without

TABLE = """
sources:
  gitea: {secret: ["${{ env.GITHUB_SECRET_OLD }}", "${{ env.GITHUB_SECRET }}"]}
  forgejo: {secret: "${{ env.GITHUB_SECRET }}"}
  gogs: {secret: "${{ env.GITHUB_SECRET }}"}
routes:
  - source: gitea
    event: push
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.after }}"]
  - source: forgejo
    event: push
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.after }}"]
  - source: gogs
    event: push
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.after }}"]
"""

PUSH = sample("gitea/push.json")

FORM = "application/x-www-form-urlencoded"

each_brand = pytest.mark.parametrize("brand", ["Gitea", "Forgejo", "Gogs"])


@pytest.fixture
def intake(make_intake: Callable[[str], Intake]) -> Intake:
    return make_intake(TABLE)


def digest(body: bytes, secret: str = VARIABLES["GITHUB_SECRET"], algorithm: str = "sha256") -> str:
    """The bare hex of Gitea's signature."""
    return hmac.new(secret.encode(), body, algorithm).hexdigest()


def form(body: bytes, field: str = "payload") -> bytes:
    return f"{field}={quote_plus(body)}".encode()


def sent(
    body: bytes, brand: str = "Gitea", event: str = "push", delivery: str = "d-1", **headers: str | None
) -> dict[str, str]:
    """As the one of that brand sends this JSON, with the headers of the others that it sends too."""
    usual: dict[str, str | None] = {**JSON_HEADERS}
    for name in {"Gitea": ("Gitea", "Gogs"), "Forgejo": ("Forgejo", "Gitea", "Gogs")}.get(brand, ("Gogs",)):
        usual |= {
            f"X-{name}-Delivery": delivery,
            f"X-{name}-Event": event,
            f"X-{name}-Signature": digest(body),
        }
    if brand != "Gogs":
        usual |= {
            f"X-{brand}-Event-Type": event,
            "X-Hub-Signature": f"sha1={digest(body, algorithm='sha1')}",
            "X-Hub-Signature-256": f"sha256={digest(body)}",
        }
    usual |= {"X-GitHub-Delivery": delivery, "X-GitHub-Event": event}
    usual |= {name.replace("_", "-"): value for name, value in headers.items()}
    return there(usual)


def there(headers: Mapping[str, str | None]) -> dict[str, str]:
    """The headers but for those that are None."""
    return {name: value for name, value in headers.items() if value is not None}


def test_the_vector_of_a_form() -> None:
    """Made by the rule in Gitea's source: the JSON inside is signed."""
    body = b"payload=%7B%22zen%22%3A%22Keep+it+logically+awesome.%22%2C%22hook_id%22%3A1%7D"
    found = "a1239fb17562e24e5349646ab6955ea641a84f256f5b22eddb64e7f1fdbdf5ff"
    required = RequiredProof(discover()["gitea"].proofs[0], (Secret("mysecret"),))
    for content, expected in ((FORM, True), (f"{FORM}; charset=utf-8", True), ("application/json", False)):
        headers = Headers([("Content-Type", content), ("X-Gitea-Signature", found)])
        assert required.verify(Request("here", headers, {}, body, 0.0)) is expected


@each_brand
class TestFamily:
    """Each with the headers of its own name."""

    def test_a_push_becomes_its_job(self, intake: Intake, brand: str) -> None:
        answer = intake.post(brand.lower(), PUSH, sent(PUSH, brand))
        assert answer.status == 202
        assert [job.arguments for job in intake.jobs()] == [(orjson.loads(PUSH)["after"],)]
        event = intake.outbox.event(1)
        assert (event.full_name, event.delivery_id, event.body) == ("push", "d-1", PUSH)

    def test_a_form_is_signed_over_the_json_in_it(self, intake: Intake, brand: str) -> None:
        headers = sent(PUSH, brand, Content_Type=FORM)
        assert intake.post(brand.lower(), form(PUSH), headers).status == 202
        assert intake.outbox.event(1).body == PUSH

    def test_a_form_is_not_signed_over_its_bytes(self, intake: Intake, brand: str) -> None:
        """As GitHub does it."""
        headers = sent(form(PUSH), brand, Content_Type=FORM)
        with pytest.raises(NotAuthentic):
            intake.post(brand.lower(), form(PUSH), headers)

    @pytest.mark.parametrize("found", [None, "", " ", "sha256=", "sha256=" + digest(PUSH), digest(PUSH, "")])
    def test_another_signature(self, intake: Intake, brand: str, found: str | None) -> None:
        """Without a secret in the settings the headers come, but empty."""
        headers = {**sent(PUSH, brand), f"X-{brand}-Signature": found}
        with pytest.raises(NotAuthentic):
            intake.post(brand.lower(), PUSH, there(headers))
        assert intake.rows() == (0, 0)

    def test_only_its_own_headers_count(self, intake: Intake, brand: str) -> None:
        for name, error in (("Signature", NotAuthentic), ("Event", Unreadable), ("Delivery", Unreadable)):
            gone = dict.fromkeys([f"X-{brand}-{name}", f"X-{brand}-Event-Type"])
            with pytest.raises(error):
                intake.post(brand.lower(), PUSH, there({**sent(PUSH, brand), **gone}))
        assert intake.rows() == (0, 0)

    def test_no_signature_of_any_name_is_stored(self, intake: Intake, brand: str, tmp_path: Path) -> None:
        headers = sent(PUSH, brand, Authorization="Bearer marked")
        intake.post(brand.lower(), PUSH, headers)
        assert not [name for name in intake.outbox.event(1).headers if "signature" in name]
        stored = everything_stored(tmp_path)
        for text in (digest(PUSH), digest(PUSH, algorithm="sha1"), "marked"):
            assert text.encode() not in stored

    def test_a_body_without_the_keys_of_its_event(self, intake: Intake, brand: str) -> None:
        body = without(PUSH, "after")
        with pytest.raises(Unreadable, match="without after"):
            intake.post(brand.lower(), body, sent(body, brand))
        with pytest.raises(Unreadable, match="without action"):
            intake.post(brand.lower(), PUSH, sent(PUSH, brand, "pull_request"))

    def test_the_same_delivery_is_the_same_webhook(self, intake: Intake, brand: str) -> None:
        intake.post(brand.lower(), PUSH, sent(PUSH, brand))
        assert intake.post(brand.lower(), PUSH, sent(PUSH, brand)).body["duplicate"]
        replayed = intake.post(brand.lower(), PUSH, sent(PUSH, brand, delivery="d-2"))
        assert not replayed.body["duplicate"]

    def test_the_action_is_the_bodys(self, intake: Intake, brand: str) -> None:
        body = sample(f"{brand.lower()}/pull_request.opened.json")
        intake.post(brand.lower(), body, sent(body, brand, "pull_request"))
        event = intake.outbox.event(1)
        assert (event.event, event.action) == ("pull_request", "opened")

    def test_what_send_would_send_is_taken_on(self, intake: Intake, brand: str) -> None:
        source = intake.source(brand.lower())
        headers = source.type.headers_for("push")
        source.verify(source.sign(intake.request(brand.lower(), PUSH, headers)))
        assert source.read(intake.request(brand.lower(), PUSH, headers))[0].full_name == "push"


class TestForm:
    """What is signed stands inside, so a form is parsed before it is known to be authentic."""

    @pytest.mark.parametrize(
        "body",
        [
            b"", b"payload", b"payload=", b"other=%7B%7D", b"%", b"payload=%zz", b"payload=%ff", b"&" * 5000,
            b"payload=" + b"%" * 100_000, b"\xff\xfe=\xff", b"payload=%7B%7D&payload=%5B%5D",
        ],
    )  # fmt: skip
    def test_any_bytes_are_refused_and_never_raise(self, intake: Intake, body: bytes) -> None:
        with pytest.raises(NotAuthentic):
            intake.post("gitea", body, sent(PUSH, Content_Type=FORM))

    def test_a_form_that_is_none_is_unreadable_even_if_signed(self, intake: Intake) -> None:
        for body in (b"payload=%zz", form(PUSH, "other"), form(PUSH) + b"&" + form(PUSH, "other"), PUSH):
            with pytest.raises(Unreadable):
                intake.post("gitea", body, sent(b"", Content_Type=FORM))
            for signed in (body, PUSH):
                with pytest.raises(NotAuthentic):
                    intake.post("gitea", body, sent(signed, Content_Type=FORM))
        assert intake.rows() == (0, 0)

    def test_what_is_verified_is_what_is_read(self, intake: Intake) -> None:
        """A form with two fields of the name is refused, whichever of them is signed."""
        other = form(b'{"ref": "refs/heads/evil"}')
        for body in (form(PUSH) + b"&" + other, other + b"&" + form(PUSH)):
            with pytest.raises(NotAuthentic):
                intake.post("gitea", body, sent(PUSH, Content_Type=FORM))
        assert intake.rows() == (0, 0)

    def test_json_that_is_called_a_form_and_the_other_way_round(self, intake: Intake) -> None:
        with pytest.raises(NotAuthentic):
            intake.post("gitea", PUSH, sent(PUSH, Content_Type=FORM))
        with pytest.raises(NotAuthentic):
            intake.post("gitea", form(PUSH), sent(PUSH))
        with pytest.raises(UnsupportedContent):
            intake.post("gitea", PUSH, sent(PUSH, Content_Type="text/plain"))


def test_the_finer_name_where_the_coarse_one_is_empty(intake: Intake) -> None:
    body = orjson.dumps({"action": "created", "package": {"name": "api"}})
    headers = sent(body, event="", X_Gitea_Event_Type="package")
    assert intake.post("gitea", body, headers).status == 200
    assert intake.outbox.event(1).full_name == "package.created"


def test_a_label_is_a_pull_request_with_an_action(intake: Intake) -> None:
    body = sample("gitea/pull_request.opened.json").replace(b'"opened"', b'"label_updated"')
    intake.post("gitea", body, sent(body, event="pull_request", X_Gitea_Event_Type="pull_request_label"))
    event = intake.outbox.event(1)
    assert event.full_name == "pull_request.label_updated"
    assert event.headers["X-Gitea-Event-Type"] == "pull_request_label"


def test_either_secret_while_it_rotates(intake: Intake) -> None:
    old = digest(PUSH, VARIABLES["GITHUB_SECRET_OLD"])
    for content, body in (("application/json", PUSH), (FORM, form(PUSH))):
        headers = sent(PUSH, delivery=content, Content_Type=content, X_Gitea_Signature=old)
        assert intake.post("gitea", body, headers).status == 202


def test_every_sample_goes_through(senders: Path, intake: Intake) -> None:
    for name, full_name in (("push", "push"), ("pull_request", "pull_request.opened")):
        body = (senders / "samples" / "gitea" / f"{name}.json").read_bytes()
        for raw, content in ((body, "application/json"), (form(body), FORM)):
            headers = sent(body, event=name, delivery=f"{name}-{content}", Content_Type=content)
            answer = intake.post("gitea", raw, headers)
            stored = intake.outbox.event(answer.body["event"])
            assert (stored.full_name, stored.body) == (full_name, body)
