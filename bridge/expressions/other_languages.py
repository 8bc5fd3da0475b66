"""Functions and filters of other languages, and what to write here instead. Pure."""

from __future__ import annotations

from bridge.expressions.filters import FILTERS, TEXT_METHODS

#: Replacements for functions of GitHub Actions and filters of Ansible.
INSTEAD_OF_NAME = {
    "contains": "'text' in x",
    "format": 'text around the expressions, such as "${{ payload.ref }} by ${{ payload.pusher.name }}"',
    "bool": "a comparison, such as x == 'true'",
    "ternary": "'a' if x else 'b'",
    "basename": "x | regex_replace('^.*/', '')",
    "dirname": "x | regex_replace('/[^/]*$', '')",
    **dict.fromkeys(
        ("always", "cancelled", "failure", "success"), "a condition on a field; a job has no earlier steps"
    ),
    **dict.fromkeys(("regex_findall", "findall"), "x | regex_search('…') for the first one"),
    "truncate": "x[:80]",
}


def instead_of_function(name: str) -> str:
    """Return what to write for another language's function, in any case."""
    if name in INSTEAD_OF_NAME:
        return f"write {INSTEAD_OF_NAME[name]}"
    for ours in FILTERS:
        if ours.replace("_", "") == name.replace("_", "").lower():
            return f"write it as a filter: x | {ours}"
    if name.lower() in TEXT_METHODS:
        return f"write it as a method: x.{name.lower()}(…)"
    return "there are no functions: write a filter, such as x | length, or a method, such as x.lower()"
