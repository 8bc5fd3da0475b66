"""Compile paths, patterns and expressions, and report mistakes at their column."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from bridge.config import literals
from bridge.config.document import Invalid, Items, Node, Scalar, Section
from bridge.config.problems import Problems
from bridge.config.readers import describe
from bridge.core.errors import EvaluationError, ExpressionError
from bridge.core.fields import EVENT_NAMES, Path, parse_path
from bridge.core.suggestions import closest_match
from bridge.expressions.expression import Expression, Language, Template
from bridge.routing.match import (
    NOT,
    OPERATOR_FORMS,
    OPERATORS,
    AnyOf,
    Condition,
    EventCheck,
    Glob,
    Literal,
    Pattern,
)
from bridge.routing.route import Value

T = TypeVar("T")

#: Characters of a path, a pattern, or a text with expressions.
TEXT_LENGTH_LIMIT = 10_000

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,17})\.[0-9]{1,17}")
#: A pattern need not fit into 64 bits.
_PATTERN_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,38})")
#: What YAML has for true, false and null in other files.
_OTHER_SPELLINGS = {"true", "false", "null", "yes", "no", "on", "off", "~"}
#: What a pattern's key is called in other tools, and what to write instead.
_ELSEWHERE = {
    **dict.fromkeys(
        ("in", "any", "any_of", "one_of", "or"),
        "write only the list, such as [a, b]; it matches any of its elements",
    ),
    **dict.fromkeys(("eq", "equals", "glob"), "write only the text"),
    **dict.fromkeys(("ne", "not_in"), f"write {{{NOT}: …}}"),
    **{name: f"write {{{key}: …}}" for key, each in OPERATORS.items() for name in each.names_elsewhere},
}
#: The values of plain scalars that are no text.
WORDS = {"true": True, "false": False, "null": None}


class Compiler:
    """Compile for one table. A mistake is reported and returns None."""

    def __init__(self, problems: Problems) -> None:
        self._error, self._warn = problems.error, problems.warning
        language = Language()
        self._template = language.template
        self._condition = language.condition

    def path(self, scalar: Scalar, names: tuple[str, ...] = EVENT_NAMES) -> Path | None:
        return self._try(scalar, lambda: parse_path(scalar, names))

    def condition(self, scalar: Scalar, names: tuple[str, ...]) -> Expression | None:
        """Compile a ``when`` or a ``loop``."""
        return self._try(scalar, lambda: self._condition(scalar, names))

    def loop(self, scalar: Scalar) -> Expression | None:
        """Compile a ``loop``. A loop that reads no field must be a list."""
        expression = self.condition(scalar, EVENT_NAMES)
        if expression is not None and not expression.names and not _is_list(expression):
            hint = "name a field that holds one, such as payload.commits"
            self._error(scalar.place, f"loop: found {describe(scalar)}, expected a list", hint)
        return expression

    def events(self, scalars: Iterable[Scalar]) -> EventCheck | None:
        globs = [self._glob(scalar) for scalar in scalars]
        return EventCheck(tuple(glob for glob in globs if glob is not None)) if globs else None

    def line(self, key: Scalar, node: Node, names: tuple[str, ...]) -> Condition | None:
        """One line of ``match:``."""
        path = self.path(key, names)
        if path is not None and isinstance(node, Section) and _is_nested(node):
            hint = f"write {path.text}.{next(iter(node))}: and its pattern"
            self._error(node.place, f"found {describe(node)}, expected a pattern", hint)
            return None
        if path is None and _is_nested(node):
            return None  # the key is reported, and all below it follows from it
        negated = isinstance(node, Section) and set(node) == {NOT}
        field = "" if path is None else next((each for each in path.steps[::-1] if isinstance(each, str)), "")
        pattern = self._any(node.named(NOT) if isinstance(node, Section) and negated else node, field)
        return None if path is None or pattern is None else Condition(path, pattern, negated)

    def _any(self, node: Node, field: str) -> Pattern | None:
        """Compile the patterns for a field of this name."""
        if not isinstance(node, Items):
            return self._pattern(node, field)
        if not node:
            self._error(node.place, "found an empty list, expected at least one pattern")
            return None
        patterns = [self._pattern(item, field) for item in node]
        return AnyOf(tuple(pattern for pattern in patterns if pattern is not None))

    def _pattern(self, node: Node, field: str) -> Pattern | None:
        if isinstance(node, Invalid):
            return None
        if isinstance(node, Scalar):
            return self._scalar_pattern(node, field)
        key = next(iter(node), "") if isinstance(node, Section) else ""
        if isinstance(node, Section) and set(node) == {key} and key in OPERATORS:
            operand = node.named(key)
            if isinstance(operand, Scalar):
                return None if self._is_expression(operand) else self._operator(key, operand, field)
        self._error(
            node.place,
            f"found {describe(node)}, expected a pattern",
            _ELSEWHERE.get(key, f"write text, a list of texts, {OPERATOR_FORMS}"),
        )
        return None

    def _operator(self, key: str, operand: Scalar, field: str) -> Pattern | None:
        """Compile a regular expression, and warn about one that is probably not what it should be."""
        pattern = self._try(operand, lambda: OPERATORS[key].parse(operand))
        if literals.looks_like_slashes(operand, field):
            message = f"the slashes in {key}: are part of the regular expression"
            self._warn(operand.place, message, f"write {operand[1:].rpartition('/')[0]}")
        elif pattern and operand.strip("^$") != ".*" and pattern.matches("") and pattern.matches("\x7f"):
            message = "this regular expression matches every text"
            self._warn(operand.place, message, literals.instead_of_any_text(operand))
        return pattern

    def _scalar_pattern(self, scalar: Scalar, field: str) -> Pattern | None:
        if scalar.plain:
            if scalar in WORDS:
                return Literal(WORDS[scalar], str(scalar))
            if _PATTERN_INTEGER.fullmatch(scalar):
                return Literal(int(scalar), str(scalar))
            if _DECIMAL.fullmatch(scalar):
                return Literal(float(scalar), str(scalar))
            if scalar.lower() in _OTHER_SPELLINGS:
                message = f"{scalar} is text: only true, false, null and numbers are not text"
                self._warn(scalar.place, message, f'write true, false or null, or "{scalar}"')
        if scalar.endswith("\n"):
            self._warn(scalar.place, "the pattern ends in a line break", literals.NO_LINE_BREAK)
        elif literal := literals.looks_like_an_expression(scalar, (), self._reads_a_field):
            self._warn(scalar.place, literal[0], "to compare with a field, write a condition under when:")
        elif foreign := literals.looks_like_a_pattern(scalar, field):
            self._warn(scalar.place, *foreign)
        return self._glob(scalar)

    def _glob(self, scalar: Scalar) -> Glob | None:
        return None if self._is_expression(scalar) else self._try(scalar, lambda: Glob.parse(scalar))

    def _is_expression(self, scalar: Scalar) -> bool:
        """Whether it is one where none is evaluated, which is reported."""
        if "${{" in scalar and not scalar.cut:
            is_env = re.search(r"\benv\.", scalar)
            hint = "write the value itself in the table" if is_env else "for an expression use when:"
            self._error(scalar.place, "found an expression, expected a pattern", hint)
        return "${{" in scalar

    def template(self, scalar: Scalar, names: tuple[str, ...]) -> Template | None:
        """Compile text with expressions: a group, a once_key."""
        return self._checked(scalar, names, self._try(scalar, lambda: self._template(scalar, names)))

    def value(self, node: Node, names: tuple[str, ...]) -> Value:
        """Compile an argument: text with expressions, true, false, null, an integer, or a list or mapping."""
        if isinstance(node, Items):
            return tuple(self.value(item, names) for item in node)
        if isinstance(node, Section):
            return {str(key): self.value(inner, names) for key, inner in node.items()}
        if node.plain and node in WORDS:
            return WORDS[node]
        if node.plain and _INTEGER.fullmatch(node):
            return int(node)
        if "${{" not in node:
            return self._checked(node, names, self._template(node, names))
        return self.template(node, names)

    def _checked(self, scalar: Scalar, names: tuple[str, ...], made: Template | None) -> Template | None:
        """Warn about a valid text that is probably meant as an expression, or as something else."""
        flaw = literals.looks_like_an_expression(scalar, names, lambda text: self._reads_a_field(text, names))
        if made is not None and (flaw := flaw or literals.argument_flaw(scalar)):
            self._warn(scalar.place, *flaw)
        return made

    def _reads_a_field(self, text: str, names: tuple[str, ...] = EVENT_NAMES) -> bool:
        try:
            return bool(self._condition(text, names).paths)
        except ExpressionError:
            return False

    def _try(self, scalar: Scalar, compile_it: Callable[[], T]) -> T | None:
        if isinstance(scalar, Invalid):
            return None  # already reported
        if len(scalar) > TEXT_LENGTH_LIMIT:
            message = f"found {len(scalar):,} characters, expected at most {TEXT_LENGTH_LIMIT:,}"
            self._error(scalar.place, message)
            return None
        try:
            return compile_it()
        except ExpressionError as error:
            if not scalar.cut:  # otherwise the comment is already reported
                self._error(scalar.at(error.offset), error.message, error.hint)
            return None


def _is_nested(node: Node) -> bool:
    """Return whether it is a mapping of conditions, or a list of these, and no pattern."""
    first = node[0] if isinstance(node, Items) and node else node
    key = next(iter(first), None) if isinstance(first, Section) else None
    return key is not None and key not in _ELSEWHERE and closest_match(key, (NOT, *OPERATORS)) is None


def _is_list(constant: Expression) -> bool:
    try:
        return isinstance(constant.value({}), list)
    except EvaluationError:
        return False
