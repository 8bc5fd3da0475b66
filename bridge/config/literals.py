"""Literal text that looks like an expression, or like a pattern of another tool. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from bridge.core.fields import path_elsewhere

#: A field, unless it is rather the name of a file.
_FIELD = (
    r"(?<![\w./$-])(?:payload|item|headers|query)"
    r"(?!\.(?:bin|csv|gz|html|js|json|log|md|py|sh|sql|tar|txt|xml|ya?ml|zip)\b)"
    r"""(?:\.[A-Za-z_]\w*|\[(?:\d+|\*|"[^"]*"|'[^']*')\])+(?![\w/-])"""
)
_BARE = "a field without ${{ }}"
#: A field as GitHub Actions and Ansible name it.
_CONTEXT = re.compile(r"(?:github|ansible_eda)\.[\w.]+")
#: A field and filters, of which one may be unknown here.
_FILTERED = re.compile(rf"{_FIELD}(?:\s*\|\s*\w+(?:\([^()]*\))?)+")
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
#: A regular expression as other languages write it.
_SLASHES = re.compile(r"/(?:\^.*|.*\$)/[gims]*|/.+/[gi]+", re.DOTALL)
NO_LINE_BREAK = "write |- or >- instead of | or >"
#: A field that is usually a number.
_NUMBER = r"((?:payload|item)\.[\w.]*\b(?:number|iid|\w+_(?:number|count|attempt)))\b"
#: Mistakes in arguments: a token, a number beside a plus sign and text, one line that ends in a break.
_FLAWS = (
    (
        re.compile(
            r"\b(?:gh[opsur]_|github_pat_|glpat-|xox[abeoprs]-|[rs]k_live_|AKIA[0-9A-Z]{12}|eyJ[\w-]+\.eyJ)[\w-]{4}"
            r"|-----BEGIN [A-Z ]*PRIVATE KEY|\ABearer [\w.~+/-]{8,}=*\Z|\ABasic [\w+/]{7,}=+\Z"
        ),
        "a literal token: the bridge and TheEye store and show each argument",
        "give the token to the task at TheEye instead, where its script reads it",
    ),
    (
        re.compile(rf"""['"]\s*\+\s*{_NUMBER}(?!\s*[|.])|{_NUMBER}\s*\+\s*['"]"""),
        "+ joins only texts, and {} is a number", "write ~ instead of +, such as 'x' ~ payload.y",
    ),
    (re.compile(r"\A[^\n]+\n\Z"), "the text ends in a line break", NO_LINE_BREAK),
    (
        re.compile(r"""regex_replace\([^()]*(?:\([^()]*\)[^()]*)+,\s*['"][^'"]*\$1\b"""),
        "$1 is plain text in a replacement", r"write \1 for the first group",
    ),
    (
        re.compile(rf"""\$\{{\{{\s*['"]({_FIELD})['"]\s*\}}\}}"""),
        "{} in quotes is plain text", "remove the quotes",
    ),
)  # fmt: skip
_ALTERNATIVES = r"[\w./*-]+(\|[\w./*-]+)+"
_SEVERAL = "to match any of several values, write a list: [first, second]"
#: Fields whose values are single words: without a space, a dot or a slash.
_WORDS = {"alertname", "env", "environment", "job", "level", "namespace", "priority", "severity", "team"}
#: Fields with one word, branch or state, in which neither a comma nor a space is usual.
_SINGLE = {
    "action", "base_ref", "conclusion", "event", "head_branch", "ref", "severity", "source_branch", "state",
    "status", "target_branch",
}  # fmt: skip
_WORD = r"[\w./-]+"
#: Fields with the files of a commit.
_COMMITTED = {"added", "modified", "removed"}
#: Fields of files, whose names may have any sign before an extension.
_FILES = {"added", "file", "filename", "files", "modified", "path", "paths", "removed"}
#: Syntax of other tools' patterns: a regular expression for it, its name, and the hint. In it, … is the
#: group `inside`.
_PATTERNS = (
    (re.compile(r"=~ ?([\"']?)(?P<inside>.+)\1", re.DOTALL), "=~", "write {regex: '^…$'}"),
    (re.compile(r"!~ ?([\"']?)(?P<inside>.+)\1", re.DOTALL), "!~", "write {not: {regex: '^…$'}}"),
    (re.compile(r"([\"'])(?P<inside>[^\"']+)\1"), "the inner pair of quotes", "write …"),
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
    if _CONTEXT.fullmatch(text) and (meant := path_elsewhere(text, names)):
        return f"{_BARE} is plain text", f"write ${{{{ {meant} }}}}"
    for looks, what in _ELSEWHERE:
        found = looks.search(text)
        if found is None or ("${{" in text and what == _BARE):
            continue
        inside = next((group for group in found.groups() if group), "").strip()
        whole = is_expression(text) or (what == _BARE and _FILTERED.fullmatch(text))
        replaced, inside = (text, text) if whole else (found[0], inside)
        spellings = (inside, inside.lstrip("."), path_elsewhere(inside.lstrip("."), names))
        field = inside if whole else next((each for each in spellings if each and is_expression(each)), None)
        written = _USUAL if field is None else text.replace(replaced, f"${{{{ {field} }}}}")
        return f"{what} is plain text", f"write {written}"
    return None


def looks_like_a_pattern(text: str, field: str = "") -> tuple[str, str] | None:
    """Return what a pattern is in other tools and what to write instead, or None.

    `field` is the name of the field that it is compared with.
    """
    for looks, what, hint in _PATTERNS:
        if found := looks.fullmatch(text):
            inside = found.groupdict().get("inside", "…")
            alternatives = f"({inside})" if "|" in inside and "regex" in hint else inside
            return f"{what} is plain text in a pattern", hint.replace("…", alternatives)
    if (excluded := re.fullmatch(r"(?i:not) +(\S+)", text)) and (field in _WORDS or "/" in excluded[1]):
        return "not is plain text in a pattern", f"write {{not: {excluded[1]}}}"
    if field in _COMMITTED and text.endswith("/"):
        return "no path of a file ends with /", f"write {text}*"
    if field in _SINGLE and re.fullmatch(rf"{_WORD}(?:(?:, ?| or | \|\| ){_WORD})+", text):
        return "several values are plain text in a pattern", _SEVERAL
    before = "" if field in _WORDS else r"(?<![^-_:])"
    if re.search(r"\.\+" if field in _FILES else rf"{before}\.\*|\.\+", text):
        glob = text.replace(".*", "*").replace(".+", "?*")
        return "a regular expression is plain text in a pattern", f"write {glob}, or {{regex: '^{text}$'}}"
    return None


def looks_like_slashes(regex: str, field: str) -> bool:
    """Return whether slashes around a regular expression are probably those of other languages."""
    has_slashes = field in _FILES or re.search(r"(?i)ref|ur[il]|link|path|file|dir", field)
    return bool(_SLASHES.fullmatch(regex) or (not has_slashes and re.fullmatch("/.+/", regex)))


def argument_flaw(text: str) -> tuple[str, str] | None:
    """Return a probable mistake in an argument, and the hint, or None."""
    for looks, message, hint in _FLAWS:
        if found := looks.search(text):
            return message.format(next(filter(None, found.groups()), "")), hint
    return None


def instead_of_any_text(regex: str) -> str:
    """Return what to write for a regular expression that matches every text."""
    if re.fullmatch(r"[\w./*-]+", regex):
        return f"write {regex} without regex:, as a pattern for the whole text"
    return f"to match the whole text, write ^(?:{regex})$"
