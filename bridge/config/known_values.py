"""Values that the known fields of a sender never have, and what to write instead. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bridge.config.compile import WORDS
from bridge.core.event import JSON
from bridge.core.suggestions import closest_match
from bridge.routing.match import Glob
from bridge.sources.base.known_fields import ANY, FieldTree

#: Special characters of a pattern.
SPECIAL = re.compile(r"[*?\\]|\$\{\{")
#: How a branch or a tag may begin in other tools.
_REF_START = re.compile(r"/?(?:refs/)?(?:(?:heads?|branch(?:es)?|tags?|(?:remotes/)?origin)/)?")
#: The start of a value that some senders have and others lack: of a path, a ref, a URL, or an owner.
_STARTS = (r"^(?:\.?/)+", r"^refs/(?:heads|tags)/", r"^(?:\w+:/+|\w+@)?[^/:]*[.][^/:]*[/:]", r"^.*/")
#: Words of people and other senders for known values.
_OTHER_WORDS = {
    "created": "opened", "failed": "failure",
    "merged": "closed, and add payload.pull_request.merged: true under match:",
}  # fmt: skip
#: The field that usually identifies an object, in order of preference.
_NAMES = ("full_name", "path_with_namespace", "login", "name", "username", "title", "id")


def misfit(value: JSON, known: FieldTree, path: str) -> str | None:
    """Return what to write instead of a value or a pattern that the field at `path` never has, or None."""
    if value is None or known is None:
        return None
    if isinstance(known, list | Mapping):
        is_count = isinstance(known, list) and type(value) in (int, float)
        return f"it is a list: write {path} | length" if is_count else _instead_of_whole(known, path)
    if not isinstance(value, str):
        written = f"'{str(value).lower()}'" if isinstance(value, bool) else f"{path} | float"
        return f"it is text: write {written}" if known else None
    if _fits(value, known):
        return None
    if not known:
        return f"it is true or false: write {value if value in WORDS else 'true or false'}, without quotes"
    forms = [form for form in known if form[0] != "!"]
    for start in _STARTS:
        shorter = re.sub(start, "", value).removesuffix(".git")
        if shorter and _fits(shorter, known) and (not forms or re.search(r"\w", shorter)):
            return f"write {shorter}"
    if forms and "*" in forms[0]:
        return _with_start(value, forms)
    meant = _OTHER_WORDS.get(value, "")
    if meant.partition(",")[0] not in known:
        meant = closest_match(value, known, cutoff=0.8) or ""
    return f"write {meant}" if meant else f"known: {', '.join(known)}"


def _instead_of_whole(known: FieldTree, path: str) -> str:
    what = "a list" if isinstance(known, list) else "an object"
    while isinstance(known, list):
        path, known = f"{path}[*]", known[0]
    if isinstance(known, Mapping):
        named = [name for name in (*_NAMES, *known) if name in known and name != ANY]
        path = f"one of its fields, such as {path}.{(named or ['…'])[0]}"
    return f"it is {what}: write {path}{' under match:' if '[*]' in path else ''}"


def _with_start(value: str, forms: list[str]) -> str:
    """Return what to write for the end of a known form, such as a branch without refs/heads/."""
    rest = _REF_START.sub("", value, 1)
    written = [f"{form.rpartition('*')[0]}{rest}" for form in forms]
    if len(forms) > 1 and re.match(r"(?:refs/)?tags?/", value.lstrip("/")):
        return f"write {written[1]}"
    if len(forms) > 1 and re.match(r"v?[\d*?]", rest):
        return f"write {written[0]} for a branch, {written[1]} for a tag"
    return f"write {written[0]}"


def _fits(pattern: str, known: tuple[str, ...]) -> bool:
    """Return whether some text matches the pattern and these forms."""
    allowed = [form for form in known if form[0] != "!"]
    if any(Glob.parse(form[1:]).matches(pattern) for form in known if form[0] == "!"):
        return False
    return (not allowed and bool(known)) or any(_overlap(pattern, form) for form in allowed)


def _overlap(pattern: str, form: str) -> bool:
    if not SPECIAL.search(pattern):
        return Glob.parse(form).matches(pattern)
    ours, theirs = (re.split(r"[*?\\]", text)[0] for text in (pattern, form))
    near = ours.startswith(theirs) or theirs.startswith(ours)
    return near and ("*" in form or Glob.parse(pattern).matches(form))
