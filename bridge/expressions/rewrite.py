"""Check Jinja's syntax tree against the allowed names, and rewrite it; pure.

A field path becomes one look-up. Text methods and comparisons become functions on JSON values. Anything that
is not allowed raises ExpressionError at its offset.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from inspect import signature
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

from bridge.core.errors import ExpressionError
from bridge.core.fields import (
    CONTAINERS,
    EVENT_NAMES,
    FOREIGN_NAMES,
    Path,
    Step,
    path_elsewhere,
    path_text,
    reject_lone_surrogates,
)
from bridge.core.regex import compile_regex, compile_replacement
from bridge.core.suggestions import did_you_mean
from bridge.expressions.comparisons import constant_step
from bridge.expressions.filters import (
    FILTERS,
    NAMING_FILTERS,
    REGEX_FILTERS,
    REGEX_TESTS,
    SUM_HINT,
    SUM_OF_LISTS,
    TESTS,
    TEXT_METHODS,
)
from bridge.expressions.lists import ATTRIBUTE_FILTERS
from bridge.expressions.other_languages import INSTEAD_OF_NAME, instead_of_function
from bridge.expressions.sandbox import Sandbox
from bridge.expressions.syntax_functions import VALUE

_ALLOWED = (
    nodes.Add, nodes.And, nodes.Compare, nodes.Concat, nodes.CondExpr, nodes.Const, nodes.Dict, nodes.Div,
    nodes.Filter, nodes.FloorDiv, nodes.Getattr, nodes.Getitem, nodes.Keyword, nodes.List, nodes.Mod,
    nodes.Mul, nodes.Name, nodes.Neg, nodes.Not, nodes.Operand, nodes.Or, nodes.Pair, nodes.Pos,
    nodes.Slice, nodes.Sub, nodes.Test, nodes.Tuple, nodes.Call,
)  # fmt: skip


class Rewriter(NodeTransformer):
    """Rewrites the tree of one expression.

    Then `used` has the names that it reads, `paths` the fields, and `optional` those that may be missing.
    """

    def __init__(self, sandbox: Sandbox, text: str, names: Iterable[str]) -> None:
        self._sandbox = sandbox
        self._text = text
        self._names = tuple(names)
        self.used: set[str] = set()
        self.paths: list[Path] = []
        self.optional: list[Path] = []
        self._optional_node: nodes.Expr | None = None

    def generic_visit(self, node: nodes.Node, *args: object, **kwargs: object) -> nodes.Node:
        if not isinstance(node, _ALLOWED):
            what = getattr(node, "operator", type(node).__name__)
            self._refuse(f"{what} is not part of the expression language", "")
        return super().generic_visit(node, *args, **kwargs)

    def visit_Const(self, node: nodes.Const) -> nodes.Expr:
        self._constant(node.value)
        return node

    def visit_Name(self, node: nodes.Name) -> nodes.Expr:
        if node.name == "null":
            return nodes.Const(None, lineno=node.lineno)
        if node.name in ("env", "secrets", "vars"):
            where = "under theeye: and sources:, as a task's id, and in secret_key"
            hint = "write the value itself in the table"
            is_secret = node.name == "secrets" or re.search(r"KEY|PASS|SECRET|TOKEN", self._text)
            hint = "give the secret to the task at TheEye, where its script reads it" if is_secret else hint
            self._refuse(f"env is available only {where}", node.name, hint)
        if node.name not in self._names:
            guess = did_you_mean(node.name, self._names, sure=True)
            if node.name in ("item", "index"):
                guess = "; it exists only in a route with loop"
            meant = self._with_a_dash(node.name) or self._elsewhere(node.name)
            known = f"known: {', '.join(self._names)}"
            if "payload" in self._names and not guess and node.name not in FOREIGN_NAMES:
                known = f"for a field write payload.{node.name}, for text '{node.name}'; {known}"
            self._refuse(f"unknown name {node.name!r}{guess}", node.name, meant or known)
        self.used.add(node.name)
        return node

    def _elsewhere(self, name: str) -> str | None:
        """Return what to write if `name` begins a field as other tools name it."""
        whole = re.search(rf"(?<![\w.]){name}[\w.]*", self._text)
        meant = path_elsewhere(whole[0], self._names) if whole else None
        return meant and f"write {meant}"

    def _with_a_dash(self, name: str) -> str | None:
        """Return what to write if `name` is the end of a field such as ``headers.X-GitHub-Event``."""
        for word in re.findall(r"[\w.-]+", self._text):
            if f"-{name}" in word:
                base = word[: word.index("-")].rpartition(".")[0]
                odd = word[len(base) + 1 :].partition(".")[0]
                return f"write {path_text(base, [odd])}" if base else None
        return None

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Expr:
        return self._field(node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:
        if isinstance(node.arg, nodes.Slice):
            bounds = (node.arg.start, node.arg.stop, node.arg.step)
            return self._function(
                ".slice",
                self.visit(node.node),
                [nodes.Const(None) if bound is None else self.visit(bound) for bound in bounds],
            )
        return self._field(node)

    def visit_CondExpr(self, node: nodes.CondExpr) -> nodes.Expr:
        self.generic_visit(node)
        if node.expr2 is None:
            # Jinja's own value is neither missing nor false nor JSON.
            node.expr2 = self._function(".no_else", nodes.Const(None), [])
        return node

    def visit_Call(self, node: nodes.Call) -> nodes.Expr:
        method = node.node
        if not isinstance(method, nodes.Getattr):
            name = method.name if isinstance(method, nodes.Name) else ""
            self._refuse(f"unknown function {name!r}", name, instead_of_function(name))
        if method.attr not in TEXT_METHODS:
            guess = did_you_mean(method.attr, TEXT_METHODS)
            self._refuse(
                f"unknown method {method.attr!r}; objects have no methods{guess}", method.attr,
                self._instead(method, node.args), after=".",
            )  # fmt: skip
        if node.kwargs or node.dyn_args or node.dyn_kwargs:
            self._refuse(
                f"{method.attr} needs its arguments in order, without names or *", method.attr, after="."
            )
        return self._function(
            f".text.{method.attr}", self.visit(method.node), [self.visit(arg) for arg in node.args]
        )

    def _instead(self, method: nodes.Getattr, arguments: list[nodes.Expr]) -> str:
        base = self._source(method.node)
        if method.attr == "get":
            field, otherwise = base + "…", "…"
            if arguments and (step := constant_step(arguments[0])) is not None:
                self._constant(step)
                field = path_text(base, [step])
            if len(arguments) > 1 and isinstance(arguments[1], nodes.Const):
                otherwise = repr(arguments[1].value)
            return f"write {field} | default({otherwise})"
        if method.attr in ("contains", "includes"):
            return f"write … in {base}"
        if method.attr in FILTERS:
            return f"write it as a filter: {base} | {method.attr}"
        return f"text has: {', '.join(TEXT_METHODS)}"

    def visit_Filter(self, node: nodes.Filter) -> nodes.Expr:
        if node.name not in FILTERS:
            guess, hint = did_you_mean(node.name, FILTERS), f"filters: {', '.join(sorted(FILTERS))}"
            if node.name in (*TEXT_METHODS, *INSTEAD_OF_NAME):
                guess, hint = "", instead_of_function(node.name)
            self._refuse(f"unknown filter {node.name!r}{guess}", node.name, hint, after="|")
        if node.node is None:
            self._refuse("a filter needs a value before it", node.name)
        if node.name in ("default", "d") and len(node.args) != 1:
            self._refuse("default needs one value, as in x | default('')", node.name, after="|")
        self._arguments(node, FILTERS[node.name])
        if node.name == "sum" and any(isinstance(each.value, nodes.List) for each in node.kwargs):
            self._refuse(SUM_OF_LISTS, node.name, SUM_HINT, after="|")
        self._note_optional(node)
        self.generic_visit(node)
        return node

    def visit_Test(self, node: nodes.Test) -> nodes.Expr:
        if node.name not in TESTS:
            self._refuse(
                f"unknown test {node.name!r}{did_you_mean(node.name, TESTS)}", node.name,
                f"tests: {', '.join(sorted(TESTS))}", after="is",
            )  # fmt: skip
        self._arguments(node, TESTS[node.name])
        self._note_optional(node)
        self.generic_visit(node)
        return node

    def _note_optional(self, node: nodes.Filter | nodes.Test) -> None:
        """Note that the value before these may be missing."""
        if node.name in ("default", "d", "defined", "undefined"):
            self._optional_node = node.node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        first, *others = (self.visit(part) for part in node.nodes)
        return self._function(".concatenate", first, others)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Expr:
        operators = tuple(operand.op for operand in node.ops)
        others = [self.visit(operand.expr) for operand in node.ops]
        return self._function(".compare", self.visit(node.expr), [nodes.Const(operators), *others])

    def _function(self, name: str, first: nodes.Expr, others: list[nodes.Expr]) -> nodes.Filter:
        call = nodes.Filter(first, name, others, [], None, None, lineno=1)
        call.set_environment(self._sandbox)
        return call

    def _field(self, node: nodes.Getattr | nodes.Getitem) -> nodes.Expr:
        """Make one look-up of a chain of fields, so that errors name the whole path."""
        is_guarded = node is self._optional_node
        steps: list[nodes.Expr] = []
        at: nodes.Expr = node
        while isinstance(at, nodes.Getattr) or (
            isinstance(at, nodes.Getitem) and not isinstance(at.arg, nodes.Slice)
        ):
            if isinstance(at, nodes.Getitem) and isinstance(at.arg, nodes.Tuple):
                hint = f"for every element write {self._source(at.node)} | map(attribute='name') | list"
                self._refuse("expected one field or number between [ and ]", "", hint)
            steps.append(nodes.Const(at.attr) if isinstance(at, nodes.Getattr) else self.visit(at.arg))
            at = at.node
        root = at.name if isinstance(at, nodes.Name) else VALUE
        if root in EVENT_NAMES and root not in CONTAINERS:
            hint = self._elsewhere(root) or "a field of the webhook is written payload.…"
            self._refuse(f"{root} has no fields: it is text or a number", root, hint)
        if root != VALUE:
            path: list[Step] = []
            for step in map(constant_step, steps[::-1]):
                if step is None:
                    break
                path.append(step)
            self.paths.append(Path(path_text(root, path), root, tuple(path)))
            if is_guarded:
                self.optional.append(self.paths[-1])
        constants: list[nodes.Expr] = [nodes.Const(root), nodes.Tuple(steps[::-1], "load")]
        return self._function(".field", self.visit(at), constants)

    def _constant(self, value: Any) -> None:
        if isinstance(value, str):
            try:
                reject_lone_surrogates(value)
            except ExpressionError as error:
                self._refuse(error.message, "", error.hint)
        if isinstance(value, float) and not math.isfinite(value):
            self._refuse("a number is too large for JSON", "")
        if type(value) is int and value >= 2**64:
            self._refuse("a whole number has more than 64 bits", "")

    def _arguments(self, node: nodes.Filter | nodes.Test, function: Callable[..., Any]) -> None:
        """Check the number of arguments, and that an event chooses no pattern, attribute or name."""
        if node.dyn_args or node.dyn_kwargs:
            self._refuse(f"{node.name} needs its arguments one by one, without *", node.name)
        given: list[None] = [None] * (len(node.args) + 1 + hasattr(function, "jinja_pass_arg"))
        try:
            signature(function).bind(*given, **{str(option.key): None for option in node.kwargs})
        except TypeError as error:
            self._refuse(f"{node.name}: {error}", node.name)
        if node.name in REGEX_TESTS or node.name in REGEX_FILTERS:
            self._regex(node)
        if node.name in ATTRIBUTE_FILTERS:
            self._attribute(node)
        if node.name in NAMING_FILTERS:
            self._named(node)

    def _regex(self, node: nodes.Filter | nodes.Test) -> None:
        pattern = self._quoted(node, 0, "a regular expression")
        try:
            regex = self._sandbox.regexes[pattern] = compile_regex(pattern)
            if node.name == "regex_replace":
                # It has escapes such as \1, so it must not come from an event, either.
                compile_replacement(self._quoted(node, 1, "a replacement"), regex)
        except ExpressionError as error:
            self._refuse(error.message, node.name, error.hint or "the syntax is RE2's")

    def _attribute(self, node: nodes.Filter | nodes.Test) -> None:
        place = ATTRIBUTE_FILTERS[node.name]
        given = [option.value for option in node.kwargs if option.key == "attribute"]
        if place is not None:
            given += node.args[place : place + 1]
        if not all(isinstance(attribute, nodes.Const) for attribute in given):
            self._refuse(f"{node.name} needs its attribute in quotes, not a computed one", node.name)

    def _named(self, node: nodes.Filter | nodes.Test) -> None:
        """Check the filter or test that this filter names: an event must not choose it."""
        what, place = NAMING_FILTERS[node.name]
        if len(node.args) <= place:
            if node.name == "map" and not any(option.key == "attribute" for option in node.kwargs):
                self._refuse("map needs the name of a filter in quotes, or attribute='…'", node.name)
            if len(node.args) < place:
                self._refuse(f"{node.name} needs the name of a field in quotes", node.name)
            return
        known = FILTERS if what == "filter" else TESTS
        name = self._quoted(node, place, f"the name of a {what}")
        if name not in known:
            hint = f"{what}s: {', '.join(sorted(known))}"
            guess = did_you_mean(name, known, sure=node.name == "map")
            if node.name == "map" and not guess:
                hint = f"for a field write map(attribute={name!r})"
            hint = f"write '{_OPERATORS[name]}'" if name in _OPERATORS else hint
            self._refuse(f"{node.name}: unknown {what} {name!r}{guess}", node.name, hint)
        inner = nodes.Filter(None, name, node.args[place + 1 :], node.kwargs, None, None, lineno=1)
        self._arguments(inner, known[name])

    def _quoted(self, node: nodes.Filter | nodes.Test, place: int, what: str) -> str:
        given = node.args[place] if len(node.args) > place else None
        if not isinstance(given, nodes.Const) or not isinstance(given.value, str):
            self._refuse(f"{node.name} needs {what} in quotes, not a computed one", node.name)
        return given.value

    def _source(self, node: nodes.Expr) -> str:
        if isinstance(node, nodes.Name):
            return node.name
        if isinstance(node, nodes.Getattr):
            return path_text(self._source(node.node), [node.attr])
        if isinstance(node, nodes.Getitem) and (step := constant_step(node.arg)) is not None:
            self._constant(step)
            return path_text(self._source(node.node), [step])
        return VALUE

    def _refuse(self, message: str, word: str, hint: str | None = None, after: str | None = None) -> NoReturn:
        raise ExpressionError(message, self._offset(word, after), hint)

    def _offset(self, word: str, after: str | None) -> int:
        """Return the offset of the first name `word`, after that sign if given; 0 if it is not found."""
        at = 0
        before = ""
        for _, token, value in self._sandbox.lexer.tokeniter(self._text, None, state="variable"):
            if token == "name" and value == word and (before == after if after else before != "."):  # noqa: S105 - a kind of token, no secret
                return at
            if token != "whitespace" and not (value == "not" and before == "is"):  # noqa: S105 - the same
                before = value
            at += len(value)
        return 0


#: Names of the tests that compare like these.
_OPERATORS = {"==": "eq", "=": "eq", "equals": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
