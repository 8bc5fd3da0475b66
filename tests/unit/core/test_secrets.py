"""Mask: what it replaces, in which spelling."""

from __future__ import annotations

import random
from collections.abc import Callable
from urllib.parse import quote

import orjson
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


SECRET = "s3cr3t'ß key"
#: Another secret begins it, and a mask makes that longer.
LONG = "abcd" * 20 + "\x1bend"


@pytest.mark.parametrize("secret", [SECRET, LONG])
@pytest.mark.parametrize("spelling", [str, lambda text: orjson.dumps(text).decode(), quote])
def test_no_part_of_a_secret_is_left_where_a_text_is_cut(secret: str, spelling: Callable[[str], str]) -> None:
    mask, written = Mask([Secret(SECRET), Secret(LONG), Secret("abcd")]), spelling(secret)
    for at in range(400):
        for rest in ("", "-" * 2000):
            shown = mask.cut("." * at + written + rest, 100)
            assert not [part for part in (written[:3], "\\u", "x1b") if part in shown], at
            assert len(shown) <= 101


def test_what_a_mask_shortens_or_lengthens_shows_no_part_of_the_next_secret() -> None:
    secrets = ("kkkk", "kkkkq" * 20, "z" * 100)
    mask, chance = Mask(map(Secret, secrets)), random.Random(7)
    for _ in range(5000):
        text = "".join(chance.choices((*secrets, "." * chance.randint(1, 50)), k=12))
        assert not set("kqz") & set(mask.cut(text, 100)), text


def test_the_beginning_of_a_text_is_left_as_it_is() -> None:
    mask = Mask([Secret(SECRET)])
    assert mask.cut("a" * 1000, 10) == "a" * 10 + "…"
    assert mask.cut("a" * 11, 10) == "a" * 10 + "…"
    assert mask.cut("a" * 10, 10) == "a" * 10
    assert mask.cut("\ud800" * 10_000, 7) == "\\ud800\\…"


def test_a_credential_that_is_cut_is_masked() -> None:
    for at in range(400):
        shown = Mask().cut("." * at + " Bearer abcdefghijkl" + "." * 1000, 100)
        assert "abc" not in shown, at


def test_a_huge_text_costs_no_more_than_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    masked: list[int] = []

    def measured(_: Mask, text: str) -> str:
        masked.append(len(text))
        return text

    monkeypatch.setattr(Mask, "__call__", measured)
    Mask([Secret(SECRET)]).cut("x" * 5_000_000, 100)
    assert sum(masked) < 1000
