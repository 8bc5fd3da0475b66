"""What a route asks: ``event:``, the lines of ``match:``, ``when:``; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import re2

from bridge.core.budget import budget_of
from bridge.core.errors import EvaluationError
from bridge.core.event import JSON, full_name
from bridge.core.fields import ITEM_NAMES, Each, Path, missing_message, reject_lone_surrogates
from bridge.core.json_text import display, json_text
from bridge.core.json_values import Absent, json_equal
from bridge.core.regex import CompiledRegex, compile_regex
from bridge.expressions.expression import Expression


class Pattern(Protocol):
    """What a value is held against."""

    def matches(self, value: JSON) -> bool: ...

    def steps(self, value: JSON) -> int:
        """The steps that `matches` costs, at the most."""

    #: As the table says it, in JSON's spelling.
    def __str__(self) -> str: ...


@dataclass(frozen=True)
class Glob:
    """Text in which only ``*`` (any text) and ``?`` (any character) are special; ``\\*`` is literal."""

    text: str
    _exact: str | None
    #: What stands before and after a single ``*``: it needs no regular expression.
    _ends: tuple[str, str] | None
    _regex: CompiledRegex | None

    @classmethod
    def parse(cls, text: str) -> Glob:
        literal: list[str] = []
        regex: list[str] = []
        #: Of each ``*``, how much of the literal text stands before it.
        stars: list[int] = []
        characters = iter(reject_lone_surrogates(text))
        for character in characters:
            if character == "\\":
                following = next(characters, "\\")
                # A backslash before anything else is a backslash.
                taken = following if following in "*?\\" else "\\" + following
                literal.append(taken)
                regex.append(re2.escape(taken))
            elif character in "*?":
                if character == "*":
                    stars.append(len(literal))
                regex.append("(?s:.*)" if character == "*" else "(?s:.)")
            else:
                literal.append(character)
                regex.append(re2.escape(character))
        wildcards = len(regex) - len(literal)
        if wildcards == 0:
            return cls(text, "".join(literal), None, None)
        if wildcards == len(stars) == 1:
            ends = "".join(literal[: stars[0]]), "".join(literal[stars[0] :])
            return cls(text, None, ends, None)
        return cls(text, None, None, compile_regex("".join(regex)))

    @property
    def is_exact(self) -> bool:
        return self._exact is not None

    def matches(self, value: JSON) -> bool:
        if not isinstance(value, str):
            return False
        if self._ends is not None:
            before, after = self._ends
            is_long = len(value) >= len(before) + len(after)
            return is_long and value.startswith(before) and value.endswith(after)
        if self._regex is None:
            return value == self._exact
        return self._regex.fullmatch(value) is not None

    def steps(self, value: JSON) -> int:
        return self._regex.steps(value) if self._regex is not None and isinstance(value, str) else 1

    def __str__(self) -> str:
        return display(self.text)


@dataclass(frozen=True)
class Literal:
    """``true``, ``5`` or ``null``: that JSON value, or the same text (labels are text)."""

    value: bool | int | float | None
    text: str

    def matches(self, value: JSON) -> bool:
        return value == self.text if isinstance(value, str) else json_equal(value, self.value)

    def steps(self, value: JSON) -> int:
        del value  # a list or an object is not looked into: it equals no scalar
        return 2

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Regex:
    """Searches text, with RE2."""

    text: str
    _regex: CompiledRegex

    @classmethod
    def parse(cls, text: str) -> Regex:
        return cls(text, compile_regex(text))

    def matches(self, value: JSON) -> bool:
        return isinstance(value, str) and self._regex.search(value) is not None

    def steps(self, value: JSON) -> int:
        return self._regex.steps(value) if isinstance(value, str) else 1

    def __str__(self) -> str:
        return f"text with /{self.text}/"


@dataclass(frozen=True)
class AnyOf:
    """A list: any of them."""

    patterns: tuple[Pattern, ...]

    def matches(self, value: JSON) -> bool:
        return any(pattern.matches(value) for pattern in self.patterns)

    def steps(self, value: JSON) -> int:
        return 1 + sum(pattern.steps(value) for pattern in self.patterns)

    def __str__(self) -> str:
        return "any of " + ", ".join(map(str, self.patterns))


class Check(Protocol):
    """One thing that a route asks of an event, or of one item of it."""

    @property
    def subject(self) -> str:
        """What is looked at: a path, ``event`` or ``when``."""

    @property
    def is_per_item(self) -> bool:
        """Whether it must be asked for each item of the loop."""

    @property
    def expected(self) -> str: ...

    def passes(self, scope: Mapping[str, JSON]) -> tuple[bool, str | None]:
        """Whether it holds, and what went wrong where it does not for an error. Raises OverBudget."""

    def actual(self, scope: Mapping[str, JSON]) -> str:
        """What stands there instead, for a person. Raises OverBudget."""


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
                return not self.negated and _takes_missing(self.pattern), None
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
        return json_text(values if Each() in self.path.steps else values[0])


def _takes_missing(pattern: Pattern) -> bool:
    if isinstance(pattern, AnyOf):
        return any(map(_takes_missing, pattern.patterns))
    return isinstance(pattern, Literal) and pattern.value is None


@dataclass(frozen=True)
class EventCheck:
    """A route's ``event:``, any of its entries.

    An entry without ``*`` and ``?`` equals the event, or ``event.action``. A glob is held
    against ``event.action``, or the event where it has no action. It charges no steps, so that an event that
    is over its budget leaves routes of other events alone: their number and names' lengths are the table's.
    """

    globs: tuple[Glob, ...]

    subject = "event"
    is_per_item = False

    @property
    def expected(self) -> str:
        return " or ".join(glob.text for glob in self.globs)

    def passes(self, scope: Mapping[str, JSON]) -> tuple[bool, str | None]:
        event, full = scope["event"], self.actual(scope)
        return any(glob.matches(full) or (glob.is_exact and glob.matches(event)) for glob in self.globs), None

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
        is_true, warning = self.expression.is_true(scope)
        return is_true, f"when: {warning}" if warning else None

    def actual(self, scope: Mapping[str, JSON]) -> str:
        is_true, warning = self.expression.is_true(scope)
        return warning or ("true" if is_true else "false")
