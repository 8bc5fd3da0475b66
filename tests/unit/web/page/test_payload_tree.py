"""The payload as a tree: its paths, its values, and its bounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bridge.core.exact_json import loads
from bridge.core.fields import parse_path
from bridge.web.page.payload_tree import MAX_NODES, MAX_TEXT, MAX_TEXTS, Node, tree


def nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from nodes(child)


def test_each_leaf_has_its_path_and_its_value() -> None:
    payload = {"ref": "main", "list": [{"a.b": 5}], "none": None, "yes": True}
    leaves = {
        node.path: (node.kind, node.text, node.value) for node in nodes(tree(payload)) if not node.children
    }
    assert leaves == {
        "payload.ref": ("text", '"main"', "main"),
        'payload.list[0]["a.b"]': ("number", "5", "5"),
        "payload.none": ("word", "null", "null"),
        "payload.yes": ("word", "true", "true"),
    }


def test_a_path_leads_to_its_value() -> None:
    payload = {"a": [{"b c": {"d": "x"}}], '"': "quote"}
    for node in nodes(tree(payload)):
        if node.kind == "text":
            assert parse_path(node.path).value({"payload": payload}) == node.value


def test_a_long_number_keeps_its_digits() -> None:
    digits = "9" * 40
    (child,) = tree(loads(f'{{"n": {digits}}}'.encode())).children
    assert child.text == child.value == digits


@pytest.mark.parametrize(
    "payload",
    [
        {f"key{number}": number for number in range(10_000)},
        [[number] * 50 for number in range(1000)],
        {"text": "x" * 5_000_000},
        {f"key{number}": "\x00" * 10_000 for number in range(1000)},
        {"k" * 100_000: 1, "second": 2},
    ],
    ids=["keys", "lists", "text", "escapes", "name"],
)
def test_a_payload_of_any_size_has_a_bounded_tree(payload: Any) -> None:
    found = list(nodes(tree(payload)))
    assert len(found) <= MAX_NODES + 1
    assert all(len(node.text) <= 6 * MAX_TEXT + 50 for node in found)
    assert sum(len(node.text) + len(node.path) for node in found) < 2 * MAX_TEXTS + 6 * MAX_TEXT


def test_what_is_not_shown_is_counted() -> None:
    whole = tree(list(range(5000)))
    assert len(whole.children) + whole.hidden == 5000
    assert whole.hidden


def test_a_long_text_is_cut_and_says_its_length() -> None:
    (child,) = tree({"text": "x" * 5_000_000}).children
    assert child.text.endswith('…" (5,000,000 characters)')
    # A condition with a part of it would never match.
    assert child.value is None


def test_a_deep_value_is_shown() -> None:
    payload: Any = "x"
    for _ in range(64):
        payload = [payload]
    assert len(list(nodes(tree(payload)))) == 65
