"""A JSON value as a tree of nodes of bounded size, each with the path of its field; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from bridge.core.event import JSON
from bridge.core.exact_json import dumps
from bridge.core.fields import Step, path_text

#: The most nodes of one tree.
MAX_NODES = 2000
#: The longest text of a node, in characters, and of all nodes together.
MAX_TEXT = 500
MAX_TEXTS = 200_000
#: An object or a list with more nodes is folded at first.
FOLD_FROM = 30


@dataclass
class Node:
    """One field, or one element of a list."""

    #: The name or the index; the root's is ``payload``.
    key: str
    #: As conditions and arguments write it.
    path: str
    #: ``object``, ``list``, ``text``, ``number`` or ``word`` (true, false, null).
    kind: str
    #: The value of a leaf as JSON; the number of children of the others.
    text: str
    #: The whole value of a leaf, for a condition; None if it is too long for one.
    value: str | None = None
    children: list[Node] = field(default_factory=list)
    #: How many children are not shown.
    hidden: int = 0

    @property
    def is_open(self) -> bool:
        """Whether its children are visible at first."""
        return len(self.children) <= FOLD_FROM


def tree(value: JSON, root: str = "payload") -> Node:
    """Return the tree of a value."""
    return _Builder().node(root, value, root, ())


class _Builder:
    """Builds one tree within the limits."""

    def __init__(self) -> None:
        self._nodes, self._texts = MAX_NODES, MAX_TEXTS

    def node(self, key: str, value: JSON, root: str, steps: tuple[Step, ...]) -> Node:
        self._nodes -= 1
        path = path_text(root, steps)
        if not isinstance(value, dict | list):
            return self._leaf(key, path, value)
        kind = "object" if isinstance(value, dict) else "list"
        node = Node(key, path, kind, f"{len(value):,}")
        for step, inner in _items(value):
            if self._nodes <= 0 or self._texts <= 0:
                node.hidden = len(value) - len(node.children)
                break
            node.children.append(self.node(str(step), inner, root, (*steps, step)))
        return node

    def _leaf(self, key: str, path: str, value: JSON) -> Node:
        kind = (
            "text"
            if isinstance(value, str)
            else "word"
            if value is None or value in (True, False)
            else "number"
        )
        # Cut before it is encoded: the text may have megabytes.
        is_long = isinstance(value, str) and len(value) > MAX_TEXT
        text = dumps(value[:MAX_TEXT] if is_long else value).decode()[: 6 * MAX_TEXT]
        self._texts -= len(text) + len(path)
        if is_long:
            return Node(key, path, kind, f'{text[:-1]}…" ({len(value):,} characters)')
        return Node(key, path, kind, text, value if isinstance(value, str) else text)


def _items(value: JSON) -> Iterator[tuple[Step, JSON]]:
    if isinstance(value, dict):
        yield from value.items()
    else:
        yield from enumerate(value)
