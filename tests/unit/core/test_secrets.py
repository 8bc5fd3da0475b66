"""Mask: what it replaces, in which spelling."""

from __future__ import annotations

import pytest

from bridge.core.secrets import Mask, Secret


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("POST /job/SECRET/x1?a=b", "POST /job/SECRET/<secret>?a=b"),
        ("?a=b&Token=x1&c=d", "?a=b&Token=<secret>&c=d"),
        ("access_TOKEN=x1", "access_TOKEN=<secret>"),
        ("BEARER abcdef", "BEARER <secret>"),
        ("basic abcdef", "basic <secret>"),
    ],
)
@pytest.mark.parametrize("suffix", ["", " é"])
def test_a_credential_is_masked_in_any_case(text: str, masked: str, suffix: str) -> None:
    assert Mask()(text + suffix) == masked + suffix


@pytest.mark.parametrize("text", ["SAFE-KEY-1", "safe-key-1", "\u017fafe-\u212aey-1"])
def test_a_letter_beyond_ascii_is_also_the_one_whose_case_it_is(text: str) -> None:
    mask = Mask([Secret("\u017fafe-\u212aey-1")])
    assert mask(f"the {text}") == "the <secret>"
    assert mask.contains_secret(f"the {text}")
