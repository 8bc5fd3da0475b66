"""The files that a browser loads: htmx as its package has it, and no more JavaScript than there may be."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import bridge.web.page

STATIC = Path(bridge.web.page.__file__).parent / "static"
TEMPLATES = STATIC.with_name("templates")

#: dist/htmx.min.js of htmx.org 4.0.1 at npm.
HTMX = "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130"


def test_htmx_is_that_of_its_package_with_its_licence() -> None:
    assert sha256((STATIC / "htmx.min.js").read_bytes()).hexdigest() == HTMX
    assert "Zero-Clause BSD" in (STATIC / "htmx.LICENSE.txt").read_text()


def test_no_template_needs_eval_or_another_host() -> None:
    for template in TEMPLATES.glob("*.html"):
        text = template.read_text()
        assert not [each for each in ("hx-on", "js:", "click[", "http://", "https://") if each in text]


def test_our_own_javascript_is_short() -> None:
    assert len((STATIC / "page.js").read_text().splitlines()) <= 300
