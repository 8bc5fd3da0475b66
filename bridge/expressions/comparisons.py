"""What an expression compares with a constant, for warnings; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import nodes

from bridge.core.event import JSON
from bridge.core.fields import Each, Path, Step, path_text

#: The comparisons of two values' order.
_ORDERS = ("lt", "lteq", "gt", "gteq")
#: A regular expression that is only the beginning of a text.
_BEGINNING = re.compile(r"\^?([\w/-]+)")
#: One name or several.
_NAMES = re.compile(r"[A-Za-z][\w./-]{2,}(?:, ?[\w./-]+)*")
#: Fields and filters whose value is a number.
_COUNTS = ("count", "length", "number", "size")


@dataclass(frozen=True)
class Comparison:
    """A value that is compared with a constant."""

    #: The field, or that of its elements for ``x in list``; None if the value is not a field.
    path: Path | None
    #: The value's last field or filter, such as ``length``; empty for other values.
    name: str
    #: ``==``, also for its contrary and for each constant of a list; ``order`` for ``<`` and the like; ``in``
    #: for a part of a constant text; ``match`` for the test of this name.
    operator: str
    constant: JSON

    @property
    def value(self) -> JSON:
        """The value that the field has, or its beginning for ``match``; None if nothing is known of it."""
        if self.operator == "match":
            beginning = _BEGINNING.fullmatch(str(self.constant))
            return beginning and beginning[1]
        # The order of texts says nothing about them.
        is_known = self.operator == "==" or (self.operator == "order" and type(self.constant) in (int, float))
        return self.constant if is_known else None

    @property
    def text_mistake(self) -> tuple[str, str] | None:
        """The message and the hint for a text that should be a list or a number."""
        text, operator = self.constant, self.operator
        if not isinstance(text, str):
            return None
        if operator == "in" and _NAMES.fullmatch(text):
            values = ", ".join(f"'{value}'" for value in re.split(", ?", text))
            return f"in '{text}' also matches each part of this text", f"write a list: in [{values}]"
        if operator == "order" and self.name in _COUNTS and text.removeprefix("-").isdecimal():
            message = f"'{text}' is text; its order with a number is always false"
            return message, f"write {text} without quotes"
        return None


def comparisons(tree: nodes.Expr) -> Iterator[Comparison]:
    """Yield the comparisons of one value with a constant."""
    for node in (tree, *tree.find_all((nodes.Compare, nodes.Test))):
        if isinstance(node, nodes.Compare) and len(node.ops) == 1:
            yield from _compared(node.expr, node.ops[0].op, node.ops[0].expr)
        elif isinstance(node, nodes.Test) and node.name == "match" and node.args:
            yield from _of(node.node, "match", [node.args[0]])
        elif isinstance(node, nodes.Test) and node.name == "in" and node.args:
            yield from _compared(node.node, "in", node.args[0])


def constant_step(node: nodes.Expr) -> Step | None:
    """Return the name or index of a look-up; None if it depends on a value."""
    value = node.value if isinstance(node, nodes.Const) else None
    return value if type(value) in (str, int) else None


def _compared(left: nodes.Expr, operator: str, right: nodes.Expr) -> Iterator[Comparison]:
    is_in = operator in ("in", "notin")
    if is_in and isinstance(right, nodes.List | nodes.Tuple):
        yield from _of(left, "==", right.items)
    elif is_in and isinstance(right, nodes.Const):
        yield from _of(left, "in", [right])
    elif is_in:
        yield from _of(right, "==", [left], elements=True)
    else:
        kind = "order" if operator in _ORDERS else "=="
        yield from _of(left, kind, [right])
        yield from _of(right, kind, [left])


def _of(
    value: nodes.Expr, operator: str, others: list[nodes.Expr], *, elements: bool = False
) -> Iterator[Comparison]:
    path = _constant_path(value)
    if path is not None and elements:
        path = Path(f"{path.text}[*]", path.root, (*path.steps, Each()))
    name = ""
    if isinstance(value, nodes.Filter | nodes.Getattr):
        name = value.name if isinstance(value, nodes.Filter) else value.attr
    for other in others:
        if isinstance(other, nodes.Const):
            yield Comparison(path, name, operator, other.value)


def _constant_path(node: nodes.Expr) -> Path | None:
    """Return the path of an expression that is only a field."""
    steps: list[Step] = []
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        step = node.attr if isinstance(node, nodes.Getattr) else constant_step(node.arg)
        if step is None:
            return None
        steps.insert(0, step)
        node = node.node
    if not isinstance(node, nodes.Name):
        return None
    return Path(path_text(node.name, steps), node.name, tuple(steps))
