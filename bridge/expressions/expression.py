"""``${{ … }}``: compiled when the table loads, evaluated for an event; pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import jinja2
from jinja2 import nodes

from bridge.core.budget import Budget, budget_of
from bridge.core.errors import EvaluationError, ExpressionError, Incomparable, OverBudget
from bridge.core.event import JSON
from bridge.core.fields import EVENT_NAMES, Path, reject_lone_surrogates
from bridge.core.json_values import MISSING
from bridge.expressions.comparisons import Comparison, comparisons
from bridge.expressions.rewrite import Rewriter
from bridge.expressions.sandbox import Sandbox
from bridge.expressions.values import Missing, MissingInCondition, TextLimit, to_json_value, to_text

__all__ = ["Expression", "Language", "Template", "scan"]

T = TypeVar("T")

_OPENING = "${{"
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
#: The syntax of other languages, and what to write instead.
_FOREIGN = tuple(
    (re.compile(theirs), ours)
    for theirs, ours in (
        (r"^\{\{", "an expression is written ${{ … }}"),
        (r"&&", "write and, not &&"),
        (r"\|\|", "write or, not ||; for a default value write x | default(y)"),
        (r"\b(AND|OR|NOT)\b", "write and, or, not in small letters"),
        (r"=~|(?<!\.)\bmatches\b", "for a regular expression write x is search('…')"),
        (r"(?<!\.)\bcontains\b", "write 'text' in x"),
        (r"\?\?|\?:", "write x | default(y)"),
        (r"\?\.", "write . instead of ?.; add | default(y) in arguments"),
        (r"\?", "write a if x else b"),
        (r"^[\w.]+\[\*\]$", "write it without [*]: that is the whole list"),
        (r"^\.|\$", "write the whole field without $, such as payload.x or item.labels.x"),
        (r"\[\*\]|\.\*", "[*] is only for match; write x | map(attribute='name') | list"),
        (r"===|!==", "write == or !="),
        (r"<>", "write !="),
        (r"!(?!=)", "write not x, not !x"),
        (r"(?<![=!<>])=(?!=)", "write == to compare"),
    )
)
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
#: Budget steps for a single field, and for an evaluation by Jinja, besides one for each node.
_LOOK_UP = 2
_EVALUATION = 24
#: Budget steps for a text of several parts, besides those for its expressions.
_TEXT = 6
#: Budget steps for an error and its message.
_FAILURE = 60


@dataclass(frozen=True)
class Part:
    """A piece of a text: literal, or the content of a ``${{ }}``, which begins at `offset`."""

    text: str
    is_expression: bool
    offset: int


def scan(text: str) -> list[Part]:
    """Split a text at its ``${{ … }}``, which may contain quotes and brackets.

    Raises ExpressionError for one that is empty or not closed.
    """
    parts: list[Part] = []
    at = 0
    while (start := text.find(_OPENING, at)) >= 0:
        if start > at:
            parts.append(Part(text[at:start], False, at))
        end = _closing(text, start)
        inside = text[start + len(_OPENING) : end]
        if not inside.strip():
            raise ExpressionError("${{ }} is empty", start)
        parts.append(Part(inside, True, start + len(_OPENING)))
        at = end + 2
    if at < len(text):
        parts.append(Part(text[at:], False, at))
    return parts


def _closing(text: str, start: int) -> int:
    """Return the offset of the ``}}`` that closes the ``${{`` at `start`."""
    expected: list[str] = []
    at = start + len(_OPENING)
    while at < len(text):
        character = text[at]
        if character in "'\"":
            at = _after_quote(text, at)
            continue
        if not expected and text.startswith("}}", at):
            return at
        if character in _BRACKETS:
            expected.append(_BRACKETS[character])
        elif character in ")]}":
            wanted = expected.pop() if expected else None
            if character != wanted:
                reason = "no bracket is open" if wanted is None else f"expected {wanted!r}"
                hint = "an expression ends with }}" if character == "}" and not expected else None
                raise ExpressionError(f"unexpected {character!r}: {reason}", at, hint)
        at += 1
    missing = f"; {expected[-1]!r} is missing" if expected else ""
    raise ExpressionError(f"the ${{{{ is not closed{missing}", start, "end the expression with }}")


def _after_quote(text: str, start: int) -> int:
    at = start + 1
    while at < len(text):
        if text[at] == "\\":
            at += 2
        elif text[at] == text[start]:
            return at + 1
        else:
            at += 1
    raise ExpressionError(f"the quote {text[start]} is not closed", start)


def _truth(value: Any, _: Budget) -> bool:
    return bool(value)


@dataclass(frozen=True)
class Expression:
    """One compiled expression."""

    text: str
    #: The names it reads, such as payload and item.
    names: frozenset[str]
    #: The fields it reads; a path ends before a step that depends on a value.
    paths: tuple[Path, ...]
    #: The paths that may be missing, since `default` or `is defined` follows, and those inside them.
    optional: frozenset[Path]
    comparisons: tuple[Comparison, ...]
    _sandbox: Sandbox = field(repr=False, compare=False)
    _code: jinja2.Template = field(repr=False, compare=False)
    #: The budget steps of its evaluation, besides those of its operations.
    _steps: int = field(repr=False, compare=False)
    #: The field, if the expression is nothing else. Most are, and need no Jinja.
    _field: Path | None = field(repr=False, compare=False)

    def value(self, scope: Mapping[str, JSON]) -> JSON:
        """Evaluate it to a JSON value. Raises EvaluationError or OverBudget."""
        return self._evaluate(scope, to_json_value)

    def is_true(self, scope: Mapping[str, JSON]) -> tuple[bool, str | None]:
        """Return whether it is true, and the error if it is false for one. Raises OverBudget."""
        try:
            return self._evaluate(scope, _truth), None
        except Incomparable:
            return False, None
        except EvaluationError as error:
            return False, str(error)

    def _evaluate(self, scope: Mapping[str, JSON], finish: Callable[[Any, Budget], T]) -> T:
        budget = budget_of(scope)
        budget.charge(self._steps)
        try:
            if self._field is None or (value := self._field.value(scope)) is MISSING:
                value = self._sandbox.evaluate(self._code, scope, budget)
            return finish(value, budget)
        except OverBudget:
            raise
        except EvaluationError:
            budget.charge(_FAILURE)
            raise
        except Exception as error:
            budget.charge(_FAILURE)
            # An event's data may make a filter raise anything.
            raise EvaluationError(f"{self.text}: {str(error) or type(error).__name__}") from error


@dataclass(frozen=True)
class Template:
    """A text of the table with any number of expressions in it."""

    text: str
    _parts: tuple[str | Expression, ...]

    @property
    def expressions(self) -> list[Expression]:
        return [part for part in self._parts if isinstance(part, Expression)]

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for each in self.expressions for path in each.paths)

    @property
    def optional(self) -> frozenset[Path]:
        return frozenset(path for each in self.expressions for path in each.optional)

    def value(self, scope: Mapping[str, JSON]) -> JSON:
        """Return the value of a single ``${{ }}`` with its type, and anything else as text.

        Raises EvaluationError or OverBudget.
        """
        if len(self._parts) == 1:
            only = self._parts[0]
            return only.value(scope) if isinstance(only, Expression) else only
        values = (part.value(scope) if isinstance(part, Expression) else part for part in self._parts)
        budget = budget_of(scope)
        budget.charge(_TEXT)
        texts = [to_text(value, budget) for value in values]
        length = sum(map(len, texts))
        TextLimit().require_fit(length)
        budget.charge_text(length)
        return "".join(texts)


class Language:
    """Compiles the expressions of one table."""

    def __init__(self) -> None:
        self._strict = Sandbox(Missing)
        self._lenient = Sandbox(MissingInCondition)
        #: Many routes have equal expressions.
        self._compiled: dict[tuple[Sandbox, str, tuple[str, ...]], Expression] = {}

    def template(self, text: str, names: Iterable[str] = EVENT_NAMES) -> Template:
        """Compile an argument, where a missing field is an error. Raises ExpressionError."""
        names = tuple(names)
        parts = [
            self._compile(self._strict, part, names) if part.is_expression else part.text
            for part in scan(reject_lone_surrogates(text))
        ]
        return Template(text, tuple(parts) or ("",))

    def condition(self, text: str, names: Iterable[str] = EVENT_NAMES) -> Expression:
        """Compile a ``when`` or ``loop``, with or without ``${{ }}``, where a missing field is false.

        Raises ExpressionError.
        """
        part = Part(reject_lone_surrogates(text), True, 0)
        if _OPENING in text:
            parts = [part for part in scan(text) if part.text.strip()]
            if len(parts) != 1 or not parts[0].is_expression:
                raise ExpressionError(
                    "found text around ${{ }}, expected one expression", 0, "remove the ${{ }}"
                )
            part = parts[0]
        return self._compile(self._lenient, part, tuple(names))

    def _compile(self, sandbox: Sandbox, part: Part, names: tuple[str, ...]) -> Expression:
        stripped = part.text.strip()
        if (known := self._compiled.get((sandbox, stripped, names))) is not None:
            return known
        offset = part.offset + part.text.index(stripped)
        try:
            tree = sandbox.parse_one(stripped)
            compared = tuple(comparisons(tree))  # before the tree is rewritten
            rewriter = Rewriter(sandbox, stripped, names)
            rewritten = rewriter.visit(tree)
            code = sandbox.compile_one(rewritten)
        except jinja2.TemplateSyntaxError as error:
            why, hint = _syntax(str(error.message), stripped)
            raise ExpressionError(f"{stripped!r} is not a valid expression: {why}", offset, hint) from error
        except ExpressionError as error:
            raise error.shifted(offset) from error.__cause__
        except (RecursionError, ValueError, SyntaxError, MemoryError) as error:
            raise ExpressionError(
                "the expression, or a number in it, is too long or nested too deeply", offset
            ) from error
        optional = frozenset(
            path for path in rewriter.paths if any(path.is_inside(guard) for guard in rewriter.optional)
        )
        used, paths = frozenset(rewriter.used), tuple(rewriter.paths)
        only = _only_field(rewritten, rewriter)
        steps = _EVALUATION if only is None else _LOOK_UP
        steps += sum(1 for _ in rewritten.find_all(nodes.Expr))
        made = Expression(stripped, used, paths, optional, compared, sandbox, code, steps, only)
        self._compiled[sandbox, stripped, names] = made
        return made


def _only_field(rewritten: nodes.Expr, rewriter: Rewriter) -> Path | None:
    """Return the field if the whole expression is one with a constant path."""
    if isinstance(rewritten, nodes.Name):
        return Path(rewritten.name, rewritten.name, ())
    if not isinstance(rewritten, nodes.Filter) or rewritten.name != ".field" or len(rewriter.paths) != 1:
        return None
    (path,) = rewriter.paths
    steps = rewritten.args[1]
    is_whole = isinstance(steps, nodes.Tuple) and len(steps.items) == len(path.steps)
    return path if is_whole and isinstance(rewritten.node, nodes.Name) else None


def _syntax(message: str, text: str) -> tuple[str, str | None]:
    """Return the message for a syntax error, and what to write instead."""
    if "end of template" in message:
        return "unexpected end", None
    code = _QUOTED.sub("''", text)
    return message, next((ours for theirs, ours in _FOREIGN if theirs.search(code)), None)
