"""Regular expressions and their replacements: RE2's syntax, compiled once, linear in the text."""

from __future__ import annotations

import pytest

from bridge.core.errors import ExpressionError
from bridge.core.regex import compile_regex, compile_replacement


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("b+", "aabbc", "bb"),
        ("^b", "ab", None),
        ("(?i)MAIN", "refs/heads/main", "main"),
        (".", "😀", "😀"),
        ("é", "café", "é"),
        ("", "anything", ""),
        ("a\x00b", "a\x00b", "a\x00b"),
    ],
)
def test_a_regex_searches_text(pattern: str, text: str, found: str | None) -> None:
    match = compile_regex(pattern).search(text)

    assert (match.group(0) if match else None) == found


@pytest.mark.parametrize(
    ("pattern", "cause"),
    [
        ("(", "missing )"),
        ("[b", "missing ]"),
        (r"(a)\1", "escape sequence"),
        ("a(?=b)", "(?="),
        ("((x{1000}){1000}){1000}", "repetition size"),
    ],
)
def test_a_regex_that_re2_cannot_read_is_refused_with_its_cause(pattern: str, cause: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        compile_regex(pattern)

    assert repr(pattern) in str(refused.value)
    assert cause in str(refused.value)


def test_a_refused_regex_writes_nothing_to_the_log_of_re2(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ExpressionError):
        compile_regex("(")

    assert capfd.readouterr() == ("", "")


def test_half_a_surrogate_pair_in_a_regex_is_refused_at_its_place() -> None:
    with pytest.raises(ExpressionError, match="lone surrogate") as refused:
        compile_regex("ab\ud800")

    assert refused.value.offset == 2
    assert str(refused.value).isascii()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*c", "(.*a){20}c", r"^(\w+\s?)*$"])
def test_a_regex_takes_time_linear_in_the_text(pattern: str) -> None:
    assert compile_regex(pattern).search("a" * 200_000 + "!") is None


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", ()),
        ("plain é", ("plain é",)),
        (r"\1", (1,)),
        (r"a\0b\2c", ("a", 0, "b", 2, "c")),
        (r"\\1", ("\\", "1")),
        (r"\\\1", ("\\", 1)),
        ("a\nb", ("a\nb",)),
    ],
)
def test_a_replacement_is_text_and_numbers_of_groups(text: str, pieces: tuple[str | int, ...]) -> None:
    assert compile_replacement(text, compile_regex("(a)(b)")) == pieces


@pytest.mark.parametrize("text", [r"\3", r"\n", "\\", r"\g<1>", r"\x41", r"\ud800", r"\१"])
def test_a_replacement_with_anything_else_after_a_backslash_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError, match="2 groups") as refused:
        compile_replacement(text, compile_regex("(a)(b)"))

    assert refused.value.hint
