"""How to correct text that is not valid YAML, from the parser's problem and the line. Pure."""

from __future__ import annotations

import re

#: A blank that YAML does not treat as a blank.
_ODD_BLANK = re.compile(r":([^\S \t\r\n])")
#: The start of a line: indentation and a key.
_KEY_ALONE = re.compile(r"[ -]*[^\s:]+")
#: A key of the table, and a second key on the same line, which may be a secret.
_OUTER_KEY = re.compile(r" *(any_of|basic_auth|concurrency|match|retry|signature): [\w.]+")
#: A value, up to its closing quote.
_QUOTED_START = re.compile(r"""(: |- )(["']).*\2\s*$""")
#: Brackets that belong to a value, as in a regular expression.
_BRACKETS_IN_A_VALUE = re.compile(r"[\w)/.^-][\[{]|[\]}][+*?$]")

_FLOW_HINT = 'inside [ ] and { }, put quotes around an expression: ["${{ payload.after }}"]'
_FLOW_VALUE_HINT = "inside [ ] and { }, put quotes around a value that has brackets: {regex: '^v[0-9]+$'}"
COLON_HINT = "YAML reads ': ' as a key; put quotes around the whole value"
TAG_HINT = "to negate, write {not: …} in match and not … in when; or put quotes around the whole value"
_AND_HINT = "in an expression, write and instead of &&; or put quotes around the whole value"
_INDENTATION_HINT = "indent the keys of a mapping and the items of a list equally, with spaces"
_QUOTE_HINT = "YAML ends a quoted value at the next quote; put the other kind of quotes around it"


def odd_blank_hint(text: str) -> str | None:
    """Return how to correct a blank after a colon that only looks like a space."""
    odd = _ODD_BLANK.search(text)
    return None if odd is None else f"type a space after the colon, instead of U+{ord(odd[1]):04X}"


def syntax_hint(problem: str, context: str, before: str, after: str) -> str | None:
    """Return how to correct PyYAML's `problem`. `before` and `after` are the line around its place."""
    if "\t" in before or after.startswith("\t"):
        return "YAML does not allow tabs as indentation; use spaces"
    if "mapping values are not allowed" in problem:
        return _second_colon_hint(before)
    if "flow" in context and "${{" in before + after:
        return _FLOW_HINT
    if "flow" in context and _BRACKETS_IN_A_VALUE.search(before + after):
        return _FLOW_VALUE_HINT
    if "cannot start any token" in problem or "an alias" in context or "a directive" in context:
        return "put quotes around a value that begins with @, `, % or *"
    if "an anchor" in context:
        return _AND_HINT
    if "a tag" in context:
        return TAG_HINT
    if "could not find expected ':'" in problem:
        return "write key: value, with a space after the colon; or add the colon to the key on the line above"
    if "did not find expected" in problem and _QUOTED_START.search(before):
        return _QUOTE_HINT
    return _INDENTATION_HINT if "block" in context and not before.strip() else None


def _second_colon_hint(before: str) -> str:
    if _KEY_ALONE.fullmatch(before):
        return f"{_INDENTATION_HINT}; if the line above is a key without a colon, add the colon"
    outer = _OUTER_KEY.fullmatch(before)
    if outer is None:
        return COLON_HINT
    return f"write each key of {outer[1]} on a line below it, indented, or all between {{ and }}"
