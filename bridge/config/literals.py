"""Literal text that looks like an expression, or like a pattern of another tool. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

#: A field, unless it is rather the name of a file.
_FIELD = (
    r"(?<![\w./$-])(?:payload|item|headers|query)"
    r"(?!\.(?:bin|csv|gz|html|js|json|log|md|py|sh|sql|tar|txt|xml|ya?ml|zip)\b)"
    r"""(?:\.[A-Za-z_]\w*|\[(?:\d+|\*|"[^"]*"|'[^']*')\])+(?![\w/-])"""
)
_BARE = "a field without ${{ }}"
_USUAL = "a field of the event, such as ${{ payload.after }}: variables and other syntax are never evaluated"
#: How a value is written elsewhere, and the expression in it.
_ELSEWHERE = tuple(
    (re.compile(looks, re.DOTALL), what)
    for looks, what in (
        (r"(?<!\$)\{\{(.*?)\}\}", "{{ }} without a leading $"),
        (r"\$\{(?!\{)([^{}]*)\}", "${ } with one brace"),
        (r"<%=?(.*?)%>|#\{(.*?)\}|\{%(.*?)%\}|%\((\w+)\)s|\$\(([^()]*)\)", "another tool's syntax"),
        (r"(?<![\w$\\])\$\.?([A-Za-z_][\w.]*)", "a name after $"),
        (rf"\{{({_FIELD})\}}|<({_FIELD})>|({_FIELD})", _BARE),
    )
)
_ALTERNATIVES = r"[\w./*-]+(\|[\w./*-]+)+"
_SEVERAL = "to match any of several values, write a list: [first, second]"
#: Syntax of other tools' patterns: a regular expression for it, its name, and the hint.
_PATTERNS = (
    (
        re.compile(r"==?[ ~]?\S.*|[<>]=? ?-?\d.*", re.DOTALL), "a comparison",
        "write only the text that must be equal; for any other comparison write a condition under when:",
    ),
    (
        re.compile(r"!.+", re.DOTALL), "! at the beginning",
        "to exclude a value, write {not: x} as the whole value; "
        "to match a text that begins with !, write {regex: '^!x'}",
    ),
    (
        re.compile(
            rf"\^\D.*|/.*[|()\[\]^$+\\].*/[gims]*|/[^/]+/[gims]+|.*\({_ALTERNATIVES}\).*|.*[*+)\]]\$|.*\\[dws.][*+{{]?.*"
            r"|refs/.*/\.\*.*|\.\*.*\.\*",
            re.DOTALL,
        ),
        "a regular expression", "write {regex: '…'}, without slashes around it",
    ),
    (re.compile(r".*\[[!^]?\w-\w[^\]]*\].*", re.DOTALL), "[ ]", "write {regex: '^…[0-9]…$'}"),
    (re.compile(r".*\{[^{}]*,[^{}]*\}.*", re.DOTALL), "{ , }", _SEVERAL),
    (re.compile(_ALTERNATIVES), "|", _SEVERAL),
)  # fmt: skip


def looks_like_an_expression(
    text: str, names: Iterable[str], is_expression: Callable[[str], bool]
) -> tuple[str, str] | None:
    """Return the kind of expression that a literal text looks like, and the hint, or None if it is text.

    `is_expression` says whether a text is an expression that reads a field.
    """
    # A name with _ and these two are no words that a script expects.
    if text in names and ("_" in text or text in ("payload", "item")):
        return f"{text} is plain text here", f"write ${{{{ {text} }}}}"
    for looks, what in _ELSEWHERE:
        found = looks.search(text)
        if found is None or ("${{" in text and what == _BARE):
            continue
        inside = next((group for group in found.groups() if group), "").strip()
        replaced, inside = (text, text) if is_expression(text) else (found[0], inside)
        spellings = (
            inside,
            inside.lstrip("."),
            re.sub(r"^(?:github\.event|event|body)\.", "payload.", inside),
        )
        field = next(filter(is_expression, spellings), None)
        written = _USUAL if field is None else text.replace(replaced, f"${{{{ {field} }}}}")
        return f"{what} is plain text", f"write {written}"
    return None


def looks_like_a_pattern(text: str) -> tuple[str, str] | None:
    """Return what a pattern is in other tools and what to write instead, or None."""
    for looks, what, hint in _PATTERNS:
        if looks.fullmatch(text):
            return f"{what} is plain text in a pattern", hint
    return None
