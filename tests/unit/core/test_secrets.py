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


@pytest.mark.parametrize("secrets", [1, 2, 9])
@pytest.mark.parametrize("limit", [0, 1, 40, 80])
def test_no_part_of_a_secret_is_left_at_a_cut(secrets: int, limit: int) -> None:
    secret = "0123456789abcdef" * 2
    mask = Mask([Secret(secret)])
    for before in range(100):
        text = "." * before + secret * secrets + "." * 200
        shown = mask.cut(text, limit)
        assert len(shown) <= limit
        assert mask(text).startswith(shown)
        assert "0123" not in shown


def test_a_text_without_a_secret_is_cut_at_the_limit() -> None:
    mask = Mask([Secret("0123456789abcdef")])
    assert [mask.cut("x" * 500, limit) for limit in (0, 20, 499, 500, 501)] == [
        "x" * limit for limit in (0, 20, 499, 500, 500)
    ]
    assert Mask().cut("x" * 500, 20) == "x" * 20
