"""The reason of a wrong proof says its form, never its value."""

from __future__ import annotations

import pytest

from bridge.core.event import Headers, Request
from bridge.core.secrets import Secret
from bridge.sources.base.discovery import discover
from bridge.sources.base.event_mismatch import EventMatcher
from bridge.sources.base.proofs import BasicAuth, BearerToken, HmacSignature, Proof

SIGNED = HmacSignature("X-Signature", prefix="sha256=")


@pytest.mark.parametrize(
    ("proof", "value", "flaw"),
    [
        (BearerToken(), "Token marked", "expected Bearer, found Token"),
        (BearerToken(), "Basic bWFya2Vk", "expected Bearer, found Basic"),
        (BearerToken(), "Bearer Bearer marked", "found Bearer twice"),
        (BearerToken(), "marked", "expected Bearer, found no known scheme"),
        (BearerToken(), "bearer marked", None),
        (BasicAuth(), "Bearer marked", "expected Basic, found Bearer"),
        (SIGNED, "a" * 44, "expected sha256= and 64 hex digits, found 44 characters without sha256="),
        (SIGNED, "SHA256=" + "a" * 64,
         "expected sha256= and 64 hex digits, found 71 characters without sha256="),
        (SIGNED, "sha256=" + "a" * 44, "expected sha256= and 64 hex digits, found 44 characters"),
        (SIGNED, "sha256=" + "a" * 64, None),
        (HmacSignature("X-Signature", encoding="base64"), "a" * 64,
         "expected 44 base64 digits, found 64 characters"),
    ],
)  # fmt: skip
def test_the_form_of_a_proof(proof: Proof, value: str, flaw: str | None) -> None:
    request = Request("s", Headers([(proof.header, value)]), {}, b"{}", 0.0)
    assert not proof.verify(request, (Secret("a-secret"),))
    assert proof.form_flaw(request) == flaw


def test_an_event_without_its_fields_names_the_event_that_its_body_looks_like() -> None:
    matcher: EventMatcher = discover()["github"].event_matcher
    push = {
        "ref": "refs/heads/main",
        "before": "0",
        "after": "1",
        "commits": [],
        "pusher": {},
        "forced": False,
    }
    more = {"created": False, "deleted": False, "compare": "", "base_ref": None, "head_commit": None}
    reason = matcher.mismatch("pull_request", {**push, **more, "repository": {}})
    assert reason is not None
    assert reason.endswith("; the body looks like that of push")
