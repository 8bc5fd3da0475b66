"""The code blocks of the docs, for tests that run them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def code_blocks(document: str, language: str) -> list[str]:
    """The blocks of that language in a document, in order; `document` is a path from the project's root."""
    text = (ROOT / document).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
