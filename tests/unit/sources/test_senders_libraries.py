"""Senders' own libraries: what they sign the bridge takes on, and what it signs they accept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import gidgethub
import orjson
import pytest
import standardwebhooks
import stripe
import svix
from gidgethub import sansio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slack_sdk.signature import SignatureVerifier

from bridge.core.errors import NotAuthentic
from bridge.core.event import Headers, Request
from bridge.core.secrets import Secret
from bridge.sources.base.discovery import discover
from bridge.sources.base.proofs import RequiredProof
from bridge.sources.base.source import Source
from bridge.sources.base.source_type import Options
from tests.support.examples import examples
from tests.support.octokit import Octokit

TYPES = discover()

SECRET, ANOTHER = "It's a Secret to Everybody é", "It's a Secret to Nobody"
#: Of the senders whose secrets are base64.
WHSEC, ANOTHER_WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

few = settings(
    max_examples=examples(25), deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts


@dataclass(frozen=True)
class Sender:
    """A type, its library, and a body that the type reads."""

    type: str
    #: The headers that the library's signature makes, of a secret and a body.
    sign: Callable[[str, str], dict[str, str]]
    #: Whether the library accepts these headers and this body, by a secret.
    accepts: Callable[[str, Headers, bytes], bool]
    body: dict[str, object]
    event: str
    secret: str = SECRET
    another: str = ANOTHER

    def source(self, secret: str) -> Source:
        source_type = TYPES[self.type]
        (proof,) = (each for each in source_type.proofs_with(Options()) if each.key == "secret")
        return Source("here", source_type, (RequiredProof(proof, (Secret(secret),)),))

    def request(self, body: bytes, headers: dict[str, str] | None = None) -> Request:
        """It comes now, as the libraries ask the clock; without a proof, unless `headers` has one."""
        sent = {**TYPES[self.type].headers_for(self.event), **(headers or {})}
        return Request("here", Headers(sent.items()), {}, body, time.time())


def slack_sign(secret: str, body: str) -> dict[str, str]:
    moment = str(int(time.time()))
    signature = SignatureVerifier(secret).generate_signature(timestamp=moment, body=body)
    assert signature is not None
    return {"X-Slack-Request-Timestamp": moment, "X-Slack-Signature": signature}


def slack_accepts(secret: str, headers: Headers, body: bytes) -> bool:
    return SignatureVerifier(secret).is_valid_request(body, headers)


def stripe_sign(secret: str, body: str) -> dict[str, str]:
    return {"Stripe-Signature": str(stripe.WebhookSignature.generate_signature_header(body, secret))}


def stripe_accepts(secret: str, headers: Headers, body: bytes) -> bool:
    try:
        stripe.Webhook.construct_event(body, headers["Stripe-Signature"], secret)
    except stripe.SignatureVerificationError:
        return False
    return True


def standard_sign(secret: str, body: str) -> dict[str, str]:
    moment = datetime.now(UTC)
    signature = standardwebhooks.Webhook(secret).sign("msg_1", moment, body)
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": signature,
    }


def standard_accepts(secret: str, headers: Headers, body: bytes) -> bool:
    try:
        standardwebhooks.Webhook(secret).verify(body, dict(headers))
    except standardwebhooks.WebhookVerificationError:
        return False
    return True


def svix_sign(secret: str, body: str) -> dict[str, str]:
    moment = datetime.now(UTC)
    signature = svix.Webhook(secret).sign("msg_1", moment, body)
    return {
        "svix-id": "msg_1",
        "svix-timestamp": str(int(moment.timestamp())),
        "svix-signature": signature,
    }


def svix_accepts(secret: str, headers: Headers, body: bytes) -> bool:
    try:
        svix.Webhook(secret).verify(body, dict(headers))
    except svix.WebhookVerificationError:
        return False
    return True


SENDERS = [
    Sender("slack", slack_sign, slack_accepts, {"type": "block_actions"}, "block_actions"),
    Sender(
        "stripe", stripe_sign, stripe_accepts,
        {"object": "event", "id": "evt_1", "type": "charge.failed", "data": {}}, "charge.failed",
    ),
    Sender(
        "standard-webhooks", standard_sign, standard_accepts, {"type": "batch.completed"}, "batch.completed",
        WHSEC, ANOTHER_WHSEC,
    ),
    Sender("gitlab", standard_sign, standard_accepts, {}, "Push Hook", WHSEC, ANOTHER_WHSEC),
    Sender("svix", svix_sign, svix_accepts, {"type": "user.created"}, "user.created", WHSEC, ANOTHER_WHSEC),
]  # fmt: skip

each_sender = pytest.mark.parametrize("sender", [pytest.param(each, id=each.type) for each in SENDERS])

#: What else stands in a body, and how it is written.
extras = st.dictionaries(
    texts.filter(lambda name: name not in ("type", "action", "status")), values, max_size=4
)
layouts = st.sampled_from([0, orjson.OPT_INDENT_2, orjson.OPT_APPEND_NEWLINE])


@each_sender
@few
@given(extra=extras, layout=layouts)
def test_what_its_library_signs_is_taken_on(sender: Sender, extra: dict[str, object], layout: int) -> None:
    body = orjson.dumps({**extra, **sender.body}, option=layout)
    headers = sender.sign(sender.secret, body.decode())
    request = sender.request(body, headers)
    source = sender.source(sender.secret)
    source.verify_head(request.with_body(b""))
    source.verify(request)
    event, reading = source.read(request)
    assert event.full_name == sender.event
    assert reading.delivery_id == headers.get("webhook-id", headers.get("svix-id", reading.delivery_id))
    with pytest.raises(NotAuthentic):
        sender.source(sender.another).verify(request)
    with pytest.raises(NotAuthentic):
        source.verify(request.with_body(body + b" "))


@each_sender
@few
@given(extra=extras, layout=layouts)
def test_its_library_accepts_what_the_bridge_signs(
    sender: Sender, extra: dict[str, object], layout: int
) -> None:
    body = orjson.dumps({**extra, **sender.body}, option=layout)
    headers = sender.source(sender.secret).sign(sender.request(body)).headers
    assert sender.accepts(sender.secret, headers, body)
    assert not sender.accepts(sender.another, headers, body)
    assert not sender.accepts(sender.secret, headers, body + b" ")


@pytest.mark.parametrize("sender", [pytest.param(each, id=each.type) for each in SENDERS[2:]])
def test_its_library_signs_twice_while_a_secret_is_changed(sender: Sender) -> None:
    body = orjson.dumps(sender.body)
    new, old = (sender.sign(secret, body.decode()) for secret in (sender.another, sender.secret))
    name = next(each for each in new if each.endswith("-signature"))
    request = sender.request(body, {**new, name: f"{new[name]} {old[name]}"})
    for secret in (sender.secret, sender.another):
        sender.source(secret).verify(request)


@pytest.mark.parametrize("sender", [pytest.param(each, id=each.type) for each in SENDERS[2:]])
@pytest.mark.parametrize(
    "secret", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2I", "MfKQ9r8GKYqrTwjUPD8ILPZIo2I", "whsec_AAAAAA"]
)
def test_its_library_and_the_bridge_take_a_secret_without_its_padding(sender: Sender, secret: str) -> None:
    body = orjson.dumps(sender.body)
    source, padded = (
        sender.source(secret),
        sender.source(secret + "=" * (-len(secret.removeprefix("whsec_")) % 4)),
    )
    assert source.required[0].proof.secret_error(secret) is None
    request = sender.request(body, sender.sign(secret, body.decode()))
    for one in (source, padded):
        one.verify(request)
        assert sender.accepts(secret, one.sign(sender.request(body)).headers, body)


def github_request(body: bytes, headers: dict[str, str] | None = None) -> Request:
    sent = {**TYPES["github"].headers_for("sub_issues"), **(headers or {})}
    return Request("here", Headers(sent.items()), {}, body, time.time())


def github_source(secret: str = SECRET) -> Source:
    source_type = TYPES["github"]
    return Source("here", source_type, (RequiredProof(source_type.proofs[0], (Secret(secret),)),))


class TestGitHub:
    """gidgethub and @octokit/webhooks-methods."""

    @few
    @given(extra=extras, layout=layouts)
    def test_gidgethub_accepts_what_the_bridge_signs(self, extra: dict[str, object], layout: int) -> None:
        body = orjson.dumps({**extra, "action": "x"}, option=layout)
        request = github_source().sign(github_request(body))
        event = sansio.Event.from_http(request.headers, body, secret=SECRET)
        ours, _ = github_source().read(request)
        assert (event.event, event.delivery_id, event.data) == (ours.event, ours.delivery_id, ours.payload)
        for secret, sent in ((ANOTHER, body), (SECRET, body + b" ")):
            with pytest.raises(gidgethub.ValidationFailure):
                sansio.Event.from_http(request.headers, sent, secret=secret)

    @settings(few, max_examples=examples(5))
    @given(bodies=st.lists(extras, min_size=1, max_size=20), layout=layouts)
    def test_what_octokit_signs_is_taken_on(
        self, webhooks_methods: Octokit, bodies: list[dict[str, object]], layout: int
    ) -> None:
        written = [orjson.dumps({**body, "action": "x"}, option=layout) for body in bodies]
        signed = webhooks_methods.sign([(SECRET, body.decode()) for body in written])
        for body, signature in zip(written, signed, strict=True):
            request = github_request(body, {"X-Hub-Signature-256": signature})
            github_source().verify(request)
            assert github_source().read(request)[0].event == "sub_issues"
            with pytest.raises(NotAuthentic):
                github_source(ANOTHER).verify(request)
            with pytest.raises(NotAuthentic):
                github_source().verify(request.with_body(body + b" "))

    @settings(few, max_examples=examples(5))
    @given(bodies=st.lists(extras, min_size=1, max_size=20), layout=layouts)
    def test_octokit_accepts_what_the_bridge_signs(
        self, webhooks_methods: Octokit, bodies: list[dict[str, object]], layout: int
    ) -> None:
        calls = []
        for body in bodies:
            request = github_source().sign(github_request(orjson.dumps(body, option=layout)))
            calls.append((request.body.decode(), request.headers["X-Hub-Signature-256"]))
        right = webhooks_methods.verify([(SECRET, *call) for call in calls])
        wrong = webhooks_methods.verify([(ANOTHER, *call) for call in calls])
        assert all(right)
        assert not any(wrong)
