"""From Jinja's syntax tree to what is allowed: checked against the lists, and rewritten; pure.

Field paths become one look-up that knows its whole path, text methods and comparisons become
functions with JSON's types. What is not on a list raises ExpressionError at its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from bridge.errors import ExpressionError
from bridge.expressions.filters import (
    FILTERS,
    NAMING_FILTERS,
    REGEX_FILTERS,
    REGEX_TESTS,
    TESTS,
    TEXT_METHODS,
)
from bridge.expressions.sandbox import Sandbox
from bridge.fields import Step, did_you_mean, path_text
from bridge.regex import compile_regex

_ALLOWED = (
    nodes.Add, nodes.And, nodes.Compare, nodes.Concat, nodes.CondExpr, nodes.Const, nodes.Dict, nodes.Div,
    nodes.Filter, nodes.FloorDiv, nodes.Getattr, nodes.Getitem, nodes.Keyword, nodes.List, nodes.Mod,
    nodes.Mul, nodes.Name, nodes.Neg, nodes.Not, nodes.Operand, nodes.Or, nodes.Pair, nodes.Pos,
    nodes.Slice, nodes.Sub, nodes.Test, nodes.Tuple, nodes.Call,
)  # fmt: skip

#: Methods that people know from Python's dict, and what to write here.
_DICT_METHODS = {"get": "| default(…)", "items": "the field itself", "keys": "the field itself"}


class Rewriter(NodeTransformer):
    """Rewrites the tree of one expression; afterwards `used` holds the names it reads."""

    def __init__(self, sandbox: Sandbox, text: str, names: Iterable[str]) -> None:
        self._sandbox = sandbox
        self._text = text
        self._names = tuple(names)
        self.used: set[str] = set()

    def generic_visit(self, node: nodes.Node, *args: object, **kwargs: object) -> nodes.Node:
        if not isinstance(node, _ALLOWED):
            self._refuse(f"{type(node).__name__} is not part of the expression language", "")
        return super().generic_visit(node, *args, **kwargs)

    def visit_Name(self, node: nodes.Name) -> nodes.Expr:  # noqa: N802 - Jinja's visitor calls it so
        if node.name == "null":
            return nodes.Const(None, lineno=node.lineno)
        if node.name == "env":
            self._refuse(
                "env stands only under theeye:, sources: and in tasks and keys, not here", "env",
                "an argument that is fixed can be written as it is",
            )  # fmt: skip
        if node.name not in self._names:
            guess = did_you_mean(node.name, self._names)
            if node.name in ("item", "index"):
                guess = "; it is there only in a route with loop"
            self._refuse(f"unknown name {node.name!r}{guess}", node.name, f"known: {', '.join(self._names)}")
        self.used.add(node.name)
        return node

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Expr:  # noqa: N802
        return self._field(node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:  # noqa: N802
        return self._field(node)

    def visit_Call(self, node: nodes.Call) -> nodes.Expr:  # noqa: N802
        method = node.node
        if not isinstance(method, nodes.Getattr):
            name = method.name if isinstance(method, nodes.Name) else ""
            hint = f"write it as a filter: x | {name}" if name in FILTERS else None
            self._refuse(f"there is no function {name!r}", name, hint)
        if method.attr not in TEXT_METHODS:
            base = self._source(method.node)
            hint = f"text has: {', '.join(TEXT_METHODS)}"
            if method.attr == "get":
                fields = [argument.value for argument in node.args if isinstance(argument, nodes.Const)]
                field = f".{fields[0]}" if fields else "…"
                otherwise = f"{fields[1]!r}" if len(fields) > 1 else "…"
                hint = f"write {base}{field} | default({otherwise})"
            elif method.attr in FILTERS:
                hint = f"write it as a filter: {base} | {method.attr}"
            guess = did_you_mean(method.attr, TEXT_METHODS)
            self._refuse(f"there is no method {method.attr!r}; objects have none{guess}", method.attr, hint)
        if node.kwargs or node.dyn_args or node.dyn_kwargs:
            self._refuse(f"{method.attr} takes its arguments in order, without names or stars", method.attr)
        return self._function(
            f".text.{method.attr}", self.visit(method.node), [self.visit(arg) for arg in node.args]
        )

    def visit_Filter(self, node: nodes.Filter) -> nodes.Expr:  # noqa: N802
        if node.name not in FILTERS:
            self._refuse(
                f"unknown filter {node.name!r}{did_you_mean(node.name, FILTERS)}", node.name,
                f"filters: {', '.join(sorted(FILTERS))}",
            )  # fmt: skip
        if node.node is None:
            self._refuse("a filter needs a value before it", node.name)
        if node.name in REGEX_FILTERS:
            self._regex(node)
        if node.name in ("default", "d") and len(node.args) != 1:
            self._refuse("default takes one value, as in x | default('')", node.name)
        self._named(node)
        self.generic_visit(node)
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Expr:  # noqa: N802
        if node.name not in TESTS:
            self._refuse(
                f"unknown test {node.name!r}{did_you_mean(node.name, TESTS)}", node.name,
                f"tests: {', '.join(sorted(TESTS))}",
            )  # fmt: skip
        if node.name in REGEX_TESTS:
            self._regex(node)
        self.generic_visit(node)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:  # noqa: N802
        first, *others = (self.visit(part) for part in node.nodes)
        return self._function(".concatenate", first, others)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Expr:  # noqa: N802
        left: nodes.Expr = self.visit(node.expr)
        whole: nodes.Expr | None = None
        for operand in node.ops:
            right: nodes.Expr = self.visit(operand.expr)
            pair = self._function(f".compare.{operand.op}", left, [right])
            whole = pair if whole is None else nodes.And(whole, pair, lineno=node.lineno)
            left = right
        assert whole is not None  # noqa: S101 - Jinja makes no comparison without an operand
        return whole

    def _function(self, name: str, first: nodes.Expr, others: list[nodes.Expr]) -> nodes.Filter:
        call = nodes.Filter(first, name, others, [], None, None, lineno=1)
        call.set_environment(self._sandbox)
        return call

    def _field(self, node: nodes.Getattr | nodes.Getitem) -> nodes.Expr:
        """A chain of fields from a name on becomes one look-up; a chain from elsewhere stays."""
        steps: list[Step] = []
        at: nodes.Expr = node
        while isinstance(at, nodes.Getattr | nodes.Getitem):
            if isinstance(at, nodes.Getattr):
                steps.append(at.attr)
            elif isinstance(at.arg, nodes.Const) and type(at.arg.value) in (str, int):
                steps.append(at.arg.value)
            else:
                break
            at = at.node
        if isinstance(at, nodes.Name):
            root = self.visit(at)
            constants: list[nodes.Expr] = [nodes.Const(at.name), nodes.Const(tuple(reversed(steps)))]
            return self._function(".field", root, constants)
        self.generic_visit(node)
        return node

    def _regex(self, node: nodes.Filter | nodes.Test) -> None:
        pattern = node.args[0] if node.args else None
        if not isinstance(pattern, nodes.Const) or not isinstance(pattern.value, str):
            self._refuse(
                f"{node.name} needs a regular expression in quotes, not one from elsewhere", node.name
            )
        try:
            self._sandbox.regexes[pattern.value] = compile_regex(pattern.value)
        except ExpressionError as error:
            self._refuse(error.message, node.name, "the syntax is RE2's")

    def _named(self, node: nodes.Filter) -> None:
        """Filters that take another's name must spell it out: an event chooses nothing."""
        what = NAMING_FILTERS.get(node.name)
        place = 1 if node.name.endswith("attr") else 0
        if what is None or len(node.args) <= place:
            return
        known = FILTERS if what == "filter" else TESTS
        named = node.args[place]
        name = named.value if isinstance(named, nodes.Const) else None
        if name not in known:
            guess = did_you_mean(str(name), known)
            self._refuse(f"{node.name} needs the name of a {what} in quotes{guess}", node.name)
        if name in REGEX_FILTERS or name in REGEX_TESTS:
            pattern = node.args[place + 1] if len(node.args) > place + 1 else None
            self._regex(nodes.Filter(None, name, [pattern] if pattern else [], [], None, None, lineno=1))

    def _source(self, node: nodes.Expr) -> str:
        if isinstance(node, nodes.Name):
            return node.name
        if isinstance(node, nodes.Getattr):
            return path_text(self._source(node.node), [node.attr])
        return "…"

    def _refuse(self, message: str, word: str, hint: str | None = None) -> NoReturn:
        raise ExpressionError(message, self._offset(word), hint)

    def _offset(self, word: str) -> int:
        """Where `word` first stands as a name of its own; 0 where that is not known."""
        at = 0
        for _, token, value in self._sandbox.lexer.tokeniter(self._text, None, state="variable"):
            if token == "name" and value == word:  # noqa: S105 - a kind of token, no secret
                return at
            at += len(value)
        return 0
