"""The documentation that users read, and its code blocks, for the tests that check and run them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from docs import generate

ROOT = generate.ROOT
PAGES = [*generate.pages(), ROOT / "SECURITY.md"]

_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced code block."""

    #: From the project's root, such as ``docs/tutorial.md``.
    page: str
    #: Of the fence that opens it.
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def name_of(page: Path) -> str:
    """Return a page's path from the project's root."""
    return page.relative_to(ROOT).as_posix()


def _blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(name_of(page), text.count("\n", 0, found.start()) + 1, found[2], textwrap.dedent(found[3]))
        for found in _FENCED.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in _blocks(page)]


def code_blocks(document: str, language: str) -> list[str]:
    """Return the blocks of that language in a document, in order; `document` is a path from the root."""
    return [block.text for block in BLOCKS if (block.page, block.language) == (document, language)]


def prose(text: str) -> str:
    """Return a page's text with its lines, but without code and the addresses of links."""
    text = _FENCED.sub(lambda found: "\n" * found[0].count("\n"), text)
    text = re.sub(r"`[^`\n]*`", "`…`", text)
    return re.sub(r"\]\([^)\n]*\)", "]", text)
