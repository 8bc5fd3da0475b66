"""User-facing texts avoid a short list of idioms that readers had to read twice."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from docs.generate import MARKED
from tests.support.documents import PAGES, name_of, prose

#: An idiom, and what to write instead.
IDIOMS = {
    r"\bstands?\b(?!-in)": "is; represents; is written",
    r"\b(?:told|tells?)\b": "says; reports",
    r"\b(?:hears?|heard)\b": "receives",
    r"\bkept\b": "stored; unchanged",
    r"\btak(?:es?|en) (?:on|for|off|out|up)\b": "accepts; removes",
    r"\b(?:comes?|came|come) again\b": "arrives again; is a duplicate",
    r"\b(?:gives?|given|giving) (?:way|out)\b": "is ended first; is issued",
    r"\b(?:holds?|held) (?:up|against)\b": "blocks; is compared with",
    r"\blooks? after\b": "manages",
    r"\baffair\b": "concerns only",
    r"\b(?:go|goes|went) by\b": "uses",
    r"\b(?:go|goes|went) on\b": "continues",
    r"\bput(?:s|ting)? off\b": "delays",
    r"\bin force\b": "active",
    r"\bfor ever\b": "always",
    r"\bnow and then\b": "sometimes; every …",
    r"\bwhoever\b": "anyone who",
    r"\bfind(?:s|ing)? themselves\b": "is",
    r"(?<!there )(?<!There )\bis no(?:ne\b| (?!longer\b)\w+)": "is not a",
    r"\bis told of\b": "reports",
    r"\bwhat is missing\b": "a missing value",
    r"(?m)(?:^|(?<=[.!:] )|(?<=\| )|(?<=- ))(?:What|Whether|One that) (?![^.\n]*\?)": "a noun first",
    r"(?m)(?:^|(?<=[.!:] ))Of (?!course\b)": "the verb first",
}

#: Parts of pages that are generated from texts that are not in scope yet: the commands' help.
OUT_OF_SCOPE: tuple[str, ...] = ()


def texts() -> Iterator[tuple[str, str]]:
    """Yield each text in scope, after its place. Help texts and messages can be added here."""
    for page in PAGES:
        text = MARKED.sub(
            lambda part: "\n" * part[0].count("\n") if part[1] in OUT_OF_SCOPE else part[0],
            page.read_text("utf-8"),
        )
        yield from paragraphs(name_of(page), prose(text))


def paragraphs(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield each paragraph, list item and row of a table, without headings, after its place."""
    start, lines = 1, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if lines and re.match(r"\s*(?:$|[-|#>]|\d+\.)", line):
            yield f"{name}:{start}", " ".join(lines)
            lines = []
        if line.strip() and not line.startswith("#"):
            start = start if lines else number
            lines.append(line.strip())


def found_in(text: str) -> list[str]:
    """Return each idiom in the text, with the better words."""
    return [
        f"{found[0]!r}: write {better}"
        for idiom, better in IDIOMS.items()
        if (found := re.search(idiom, text)) is not None
    ]


def test_no_text_has_a_banned_idiom() -> None:
    found = [f"{place}: {each}" for place, text in texts() for each in found_in(text)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        ("a webhook that comes again is kept", False),
        ("What was answered 2xx is stored.", False),
        ("the body is no JSON", False),
        ("It stands in the file.", False),
        ("There is no broker; the file is no longer read.", True),
        ("a stand-in TheEye", True),
        ("- What is missing is made.", False),
    ],
)
def test_an_idiom_is_found_and_plain_words_are_not(text: str, is_plain: bool) -> None:
    assert (found_in(text) == []) is is_plain
