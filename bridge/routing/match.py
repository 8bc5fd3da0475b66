"""A route's conditions: ``event:``, the lines of ``match:``, and ``when:``; pure.

A new operator of ``match:`` is a subclass of Operator that OPERATORS lists. The compiler, the JSON Schema and
`explain` follow from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import re2

from bridge.core.budget import budget_of
from bridge.core.errors import EvaluationError, ExpressionError
from bridge.core.event import JSON, full_name
from bridge.core.fields import ITEM_NAMES, Path, missing_message, reject_lone_surrogates
from bridge.core.json_text import display, json_text
from bridge.core.json_values import Absent, json_equal
from bridge.core.regex import CompiledRegex, compile_regex
from bridge.expressions.expression import Expression


class Pattern:
    """An expected value. ``str(pattern)`` is what `explain` shows of it."""

    def matches(self, value: JSON) -> bool:
        raise NotImplementedError

    def matches_missing(self) -> bool:
        """Return whether a field that does not exist matches."""
        return False

    def steps(self, value: JSON) -> int:
        """Return an upper bound of the steps that `matches` costs."""
        del value
        return 1


_PARTS = re.compile(r"(?<![^/])\*\*/|\\.|.", re.DOTALL)
_WILDCARDS = {"*": "(?s:.*)", "?": "(?s:.)", "**/": "(?s:.*/)?"}


@dataclass(frozen=True)
class Glob(Pattern):
    """Text in which only ``*`` (any text), ``?`` (any character) and ``**/`` (folders, or none) are special.

    ``\\*`` is literal. ``**/`` is special at the beginning and after a slash, as in GitHub's path filters.
    """

    text: str
    #: The only text that it matches, if it has no wildcard.
    exact: str | None
    #: The text before and after a single ``*``, which needs no regular expression.
    _ends: tuple[str, str] | None
    _regex: CompiledRegex | None

    @classmethod
    def parse(cls, text: str) -> Glob:
        """Raises ExpressionError."""
        literal: list[str] = []
        regex: list[str] = []
        #: The length of `literal` at each ``*``.
        stars: list[int] = []
        for part in _PARTS.findall(reject_lone_surrogates(text)):
            if part in _WILDCARDS:
                if part == "*":
                    stars.append(len(literal))
                regex.append(_WILDCARDS[part])
                continue
            # A backslash before any other character is literal, too.
            literal.append(part[1:] if part in (r"\*", r"\?", r"\\") else part)
            regex.append(re2.escape(literal[-1]))
        wildcards = len(regex) - len(literal)
        if wildcards == 0:
            return cls(text, "".join(literal), None, None)
        if wildcards == len(stars) == 1:
            ends = "".join(literal[: stars[0]]), "".join(literal[stars[0] :])
            return cls(text, None, ends, None)
        return cls(text, None, None, compile_regex("".join(regex)))

    def matches(self, value: JSON) -> bool:
        if not isinstance(value, str):
            return False
        if self._ends is not None:
            before, after = self._ends
            is_long = len(value) >= len(before) + len(after)
            return is_long and value.startswith(before) and value.endswith(after)
        if self._regex is None:
            return value == self.exact
        return self._regex.fullmatch(value) is not None

    def steps(self, value: JSON) -> int:
        return self._regex.steps(value) if self._regex is not None and isinstance(value, str) else 1

    def __str__(self) -> str:
        return display(self.text)


@dataclass(frozen=True)
class Literal(Pattern):
    """``true``, ``5`` or ``null``: that JSON value, or the same text, since labels are text."""

    value: bool | int | float | None
    text: str

    def matches(self, value: JSON) -> bool:
        return value == self.text if isinstance(value, str) else json_equal(value, self.value)

    def matches_missing(self) -> bool:
        return self.value is None

    def steps(self, value: JSON) -> int:
        del value  # a list or an object differs from any literal without a look inside
        return 2

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class AnyOf(Pattern):
    """A list: any of its patterns."""

    patterns: tuple[Pattern, ...]

    def matches(self, value: JSON) -> bool:
        return any(pattern.matches(value) for pattern in self.patterns)

    def matches_missing(self) -> bool:
        return any(pattern.matches_missing() for pattern in self.patterns)

    def steps(self, value: JSON) -> int:
        return 1 + sum(pattern.steps(value) for pattern in self.patterns)

    def __str__(self) -> str:
        return "any of " + ", ".join(map(str, self.patterns))


class Operator(Pattern):
    """A pattern that is written as a mapping of one key, such as ``{regex: …}``."""

    #: The key.
    name: ClassVar[str]
    #: The JSON Schema of the value below the key.
    operand: ClassVar[Mapping[str, Any]]
    #: What other tools call it. `check` suggests `name` for these.
    names_elsewhere: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Compile the value below the key. Raises ExpressionError."""
        raise NotImplementedError


@dataclass(frozen=True)
class Regex(Operator):
    """Searches text, with RE2."""

    name = "regex"
    operand: ClassVar = {"type": ["string", "number", "boolean"], "minLength": 1}
    names_elsewhere = ("matches", "re")

    text: str
    _regex: CompiledRegex

    @classmethod
    def parse(cls, text: str) -> Self:
        if not text:
            raise ExpressionError("regex is empty: it would match any text", 0, "remove the line")
        return cls(text, compile_regex(text))

    def matches(self, value: JSON) -> bool:
        return isinstance(value, str) and self._regex.search(value) is not None

    def steps(self, value: JSON) -> int:
        return self._regex.steps(value) if isinstance(value, str) else 1

    def __str__(self) -> str:
        return f"text with /{self.text}/"


OPERATORS: Mapping[str, type[Operator]] = {operator.name: operator for operator in (Regex,)}
#: The key of a mapping around a pattern, or a list of them, that makes the line its opposite.
NOT = "not"
#: The mappings that a line of ``match:`` may have, for messages: ``{not: …} or {regex: …}``.
OPERATOR_FORMS = " or ".join(f"{{{name}: …}}" for name in (NOT, *OPERATORS))


def charged_text(value: JSON, scope: Mapping[str, JSON]) -> str:
    """Return a value in full for an explanation. Raises OverBudget."""
    text = json_text(value)
    budget_of(scope).charge_text(len(text))
    return text


class Check(Protocol):
    """One condition of a route on an event, or on one item of it."""

    @property
    def subject(self) -> str:
        """The field path, ``event`` or ``when``."""

    @property
    def is_per_item(self) -> bool:
        """Whether it reads ``item`` or ``index``."""

    @property
    def expected(self) -> str: ...

    def passes(self, scope: Mapping[str, JSON]) -> tuple[bool, str | None]:
        """Return whether it passes, and the error if it fails for one. Raises OverBudget."""

    def actual(self, scope: Mapping[str, JSON]) -> str:
        """Return the actual value as text for a person. Raises OverBudget."""


@dataclass(frozen=True)
class Condition:
    """One line of ``match:``: a path, and what its value must be or must not be."""

    path: Path
    pattern: Pattern
    negated: bool = False

    @property
    def subject(self) -> str:
        return self.path.text

    @property
    def is_per_item(self) -> bool:
        return self.path.root in ITEM_NAMES

    @property
    def expected(self) -> str:
        return f"not {self.pattern}" if self.negated else str(self.pattern)

    def passes(self, scope: Mapping[str, JSON]) -> tuple[bool, str | None]:
        try:
            values = self.path.values(scope)
            if isinstance(values, Absent):
                return not self.negated and self.pattern.matches_missing(), None
            budget = budget_of(scope)
            for value in values:
                budget.charge(self.pattern.steps(value))
                if self.pattern.matches(value):
                    return not self.negated, None
        except EvaluationError as error:
            return False, str(error)
        return self.negated, None

    def actual(self, scope: Mapping[str, JSON]) -> str:
        try:
            values = self.path.values(scope)
        except EvaluationError as error:
            return str(error)
        if isinstance(values, Absent):
            return missing_message(self.path, scope)
        return charged_text(values[0] if self.path.is_single else values, scope)


@dataclass(frozen=True)
class EventCheck:
    """A route's ``event:``: any of its globs.

    A glob is matched with ``event.action``, or with the event if that has no action; without ``*`` and ``?``
    it may also equal the event alone. It costs no steps, so that an event over its budget does not affect the
    routes of other events.
    """

    globs: tuple[Glob, ...]

    subject = "event"
    is_per_item = False

    @property
    def expected(self) -> str:
        return " or ".join(glob.text for glob in self.globs)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The only texts that it accepts, as the event or with its action; None if a glob has a wildcard."""
        names = [glob.exact for glob in self.globs]
        return None if None in names else tuple(name for name in names if name is not None)

    def passes(self, scope: Mapping[str, JSON]) -> tuple[bool, str | None]:
        event, full = scope["event"], self.actual(scope)
        return any(glob.matches(full) or glob.exact == event for glob in self.globs), None

    def actual(self, scope: Mapping[str, JSON]) -> str:
        return full_name(scope["event"], scope["action"])


@dataclass(frozen=True)
class When:
    """A route's ``when:``."""

    expression: Expression

    subject = "when"

    @property
    def is_per_item(self) -> bool:
        return not self.expression.names.isdisjoint(ITEM_NAMES)

    @property
    def expected(self) -> str:
        return self.expression.text

    def passes(self, scope: Mapping[str, JSON]) -> tuple[bool, str | None]:
        is_true, error = self.expression.is_true(scope)
        return is_true, f"when: {error}" if error else None

    def actual(self, scope: Mapping[str, JSON]) -> str:
        is_true, error = self.expression.is_true(scope)
        return error or ("true" if is_true else "false")
