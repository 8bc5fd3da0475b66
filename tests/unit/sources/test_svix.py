"""Svix: Standard Webhooks under its own names."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping
from pathlib import Path

import pytest

from bridge.core.errors import NotAuthentic, Unreadable
from bridge.core.event import Headers, Request
from bridge.core.secrets import Secret
from bridge.sources.base.discovery import discover
from bridge.sources.base.proofs import RequiredProof
from bridge.sources.base.source import Source
from tests.support.intake import sample

SVIX = discover()["svix"]

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
USER = sample("svix/user.created.json")

#: What Svix's own library makes of SECRET.
BODY = b'{"test": 2432232314}'
TIME = 1614265330
HEADERS = {
    "svix-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "svix-timestamp": "1614265330",
    "svix-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


def source(secret: str = SECRET) -> Source:
    return Source("svix", SVIX, (RequiredProof(SVIX.proofs[0], (Secret(secret),)),))


def verify(
    body: bytes = BODY, now: float = TIME, secret: str = SECRET, headers: Mapping[str, str | None] = HEADERS
) -> None:
    kept = {name: value for name, value in headers.items() if value is not None}
    request = Request("svix", Headers({"Content-Type": "application/json", **kept}.items()), {}, body, now)
    source(secret).verify(request)


def signed(body: bytes, identity: str = "msg_1", now: int = TIME) -> Request:
    """As Svix sends `body`."""
    key = b64decode(SECRET.removeprefix("whsec_"))
    digest = hmac.new(key, f"{identity}.{now}.".encode() + body, hashlib.sha256).digest()
    headers = {
        "Content-Type": "application/json",
        "svix-id": identity,
        "svix-timestamp": str(now),
        "svix-signature": "v1," + b64encode(digest).decode(),
    }
    return Request("svix", Headers(headers.items()), {}, body, now)


class TestSignature:
    """Over id, time and body; the key is base64."""

    def test_the_vector(self) -> None:
        for seconds in (0, 300, -300):
            verify(now=TIME + seconds)
        verify(secret=SECRET.removeprefix("whsec_"))
        several = f"v1a,AAAA nonsense v1,AAAA= {HEADERS['svix-signature']}"
        verify(headers={**HEADERS, "svix-signature": several})

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJe"),
            ("svix-id", None),
            ("svix-id", ""),
            ("svix-timestamp", "1614265331"),
            ("svix-timestamp", "1614265330.5"),
            ("svix-timestamp", None),
            ("svix-signature", None),
            ("svix-signature", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
            ("svix-signature", "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
            ("svix-signature", "v1,!!!g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
            ("svix-signature", "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
            ("svix-signature", "v1,\xff"),
        ],
    )
    def test_what_is_changed_is_refused(self, name: str, value: str | None) -> None:
        with pytest.raises(NotAuthentic):
            verify(headers={**HEADERS, name: value})

    def test_a_body_or_a_time_that_is_another(self) -> None:
        for body, now in ((BODY + b" ", TIME), (b"\xff", TIME), (BODY, TIME + 301), (BODY, TIME - 301)):
            with pytest.raises(NotAuthentic):
                verify(body, now)

    def test_the_standards_own_names_are_not_taken(self) -> None:
        names = {name.replace("svix-", "webhook-"): value for name, value in HEADERS.items()}
        headers = Headers({"Content-Type": "application/json", **names}.items())
        with pytest.raises(NotAuthentic, match="no svix-signature"):
            source().verify(Request("svix", headers, {}, BODY, TIME))


class TestEvent:
    """The body's type, and ``svix-id``."""

    def test_it_is_read(self) -> None:
        request = signed(USER, "msg_2")
        source().verify(request)
        event, _ = source().read(request)
        assert (event.full_name, event.delivery_id, event.body) == ("user.created", "msg_2", USER)
        assert "svix-signature" not in event.headers
        assert not source().type.is_setup_event(event)

    def test_the_id_of_the_standard_does_not_count(self) -> None:
        request = signed(USER)
        headers = Headers({**request.headers.without(["svix-id"]), "webhook-id": "msg_1"}.items())
        with pytest.raises(Unreadable, match="svix-id"):
            source().read(Request("svix", headers, {}, USER, TIME))

    def test_it_is_sent_as_it_is_taken(self) -> None:
        request = Request("svix", Headers(SVIX.headers_for(None).items()), {}, USER, TIME)
        sent = source().sign(request)
        source().verify(sent)
        assert source().read(sent)[0].delivery_id == sent.headers["svix-id"]


def test_the_samples_of_the_standard_are_read(senders: Path) -> None:
    samples = sorted((senders / "samples" / "standard-webhooks").glob("*.json"))
    assert samples
    for path in samples:
        request = signed(path.read_bytes())
        source().verify(request)
        assert source().read(request)[0].event == path.stem


def test_the_other_types_headers_name_the_type_to_write() -> None:
    other = {name.replace("svix", "webhook"): value for name, value in HEADERS.items()}
    expected = "has no svix-signature, but it has webhook-signature: write type: standard-webhooks"
    with pytest.raises(NotAuthentic, match=expected):
        verify(headers=other)
