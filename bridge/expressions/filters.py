"""The filters, tests and text methods that an expression may use, and what it is rewritten to; pure.

Where Jinja's own filter takes JSON values as they are, it serves; the others are here because they
must count the text they build, keep JSON's types apart, or fail where Jinja's would guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import jinja2
import orjson
from jinja2.runtime import Context
from jinja2.utils import pass_context

from bridge.errors import EvaluationError, Incomparable
from bridge.event import JSON, Headers
from bridge.expressions.values import Budget, Missing, plain, present, text, text_of
from bridge.fields import MISSING, Path, Step, is_number, kind, missing_message, path_text, same, take

#: The names under which a scope carries its Budget and the table's compiled regular
#: expressions (by their text); no expression can spell them.
BUDGET = ".budget"
REGEXES = ".regexes"


def _spend(context: Context, characters: int) -> None:
    budget: Budget = context.parent[BUDGET]
    budget.spend(characters)


# What an expression is rewritten to.


@pass_context
def _field(context: Context, value: JSON, root: str, steps: tuple[Step, ...]) -> JSON:
    found = value
    for step in steps:
        found = take(found, step)
        if found is MISSING:
            path = Path(path_text(root, steps), root, steps)
            return context.environment.undefined(missing_message(path, context.parent))
    return found


@pass_context
def _concatenate(context: Context, first: JSON, *others: JSON) -> str:
    texts = [text_of(value) for value in (first, *others)]
    _spend(context, sum(map(len, texts)))
    return "".join(texts)


def _text_method(name: str) -> Callable[..., Any]:
    # upper() may make three characters of one.
    growth = 3 if name in ("upper", "title", "capitalize") else 1

    @pass_context
    def call(context: Context, value: JSON, *arguments: Any) -> Any:
        subject = text(value, name)
        _spend(context, len(subject) * growth)
        try:
            return getattr(subject, name)(*map(present, arguments))
        except (TypeError, ValueError) as error:
            raise EvaluationError(f"{name}: {error}") from error

    return call


@pass_context
def _replace(context: Context, value: JSON, old: str, new: str, count: int = -1) -> str:
    subject, old, new = text(value, "replace"), text(old, "replace"), text(new, "replace")
    times = subject.count(old) if count < 0 else min(subject.count(old), count)
    _spend(context, len(subject) + times * max(0, len(new) - len(old)))
    return subject.replace(old, new, count)


def _equal(one: JSON, other: JSON) -> bool:
    for side in (one, other):
        if isinstance(side, Missing):
            return bool(side)
    return same(one, other)


def _within(one: JSON, other: JSON) -> bool:
    if isinstance(other, Missing):
        return bool(other)
    if isinstance(other, str | dict | Headers):
        return isinstance(one, str) and one in other
    if isinstance(other, Iterable):
        return any(_equal(one, element) for element in other)
    raise EvaluationError(f"nothing is in {kind(other)}; expected a list, text or an object")


def _order(compare: Callable[[Any, Any], bool]) -> Callable[[JSON, JSON], bool]:
    def ordered(one: JSON, other: JSON) -> bool:
        for side in (one, other):
            if isinstance(side, Missing) and not side:
                raise Incomparable("what is missing has no order")
        numbers = is_number(one) and is_number(other)
        if not numbers and not (isinstance(one, str) and isinstance(other, str)):
            raise Incomparable(f"{kind(one)} and {kind(other)} have no order")
        return compare(one, other)

    return ordered


COMPARISONS: dict[str, Callable[[JSON, JSON], bool]] = {
    "eq": _equal,
    "ne": lambda one, other: not _equal(one, other),
    "in": _within,
    "notin": lambda one, other: not _within(one, other),
    "lt": _order(lambda one, other: one < other),
    "lteq": _order(lambda one, other: one <= other),
    "gt": _order(lambda one, other: one > other),
    "gteq": _order(lambda one, other: one >= other),
}


# Filters and tests that one may write.


def _default(value: JSON, otherwise: JSON) -> JSON:
    return otherwise if value is None or isinstance(value, Missing) else value


@pass_context
def _join(context: Context, value: JSON, separator: str = "", attribute: str | None = None) -> str:
    if isinstance(present(value), str) or not isinstance(value, Iterable):
        raise EvaluationError(f"join is for a list, found {kind(value)}")
    take_field = context.environment.getattr
    texts = [text_of(element if attribute is None else take_field(element, attribute)) for element in value]
    _spend(context, sum(map(len, texts)) + len(text(separator, "join")) * len(texts))
    return separator.join(texts)


@pass_context
def _string(context: Context, value: JSON) -> str:
    return _concatenate(context, value)


@pass_context
def _to_json(context: Context, value: JSON) -> str:
    written = orjson.dumps(plain(value)).decode()
    _spend(context, len(written))
    return written


@pass_context
def _urlencode(context: Context, value: JSON) -> str:
    if not isinstance(present(value), dict):
        text(value, "urlencode")
    _spend(context, 3 * len(text_of(value)))
    return str(jinja2.filters.do_urlencode(value))


def _number(name: str, read: Callable[[Any], Any]) -> Callable[..., Any]:
    def convert(value: JSON, default: Any = MISSING) -> Any:
        if isinstance(present(value), str | int | float) and not isinstance(value, bool):
            try:
                return read(value)
            except (ValueError, OverflowError):
                pass  # as any other value that is no number
        if default is not MISSING:
            return default
        found = f"the text {value[:60]!r}" if isinstance(value, str) else kind(value)
        raise EvaluationError(f"{name}: {found} is no number; {name}(0) would give 0 for it")

    return convert


def _length(value: JSON) -> int:
    if isinstance(present(value), str | list | tuple | dict | Headers):
        return len(value)
    if isinstance(value, Iterable):
        return sum(1 for _ in value)
    raise EvaluationError(f"{kind(value)} has no length")


@pass_context
def _regex_search(context: Context, value: JSON, pattern: str) -> JSON:
    regex = context.parent[REGEXES][pattern]
    found = regex.search(text(value, "regex_search"))
    if found is None:
        return context.environment.undefined(f"a match of /{pattern}/ is missing in the text")
    return found.group(1) if regex.groups else found.group(0)


@pass_context
def _regex_replace(context: Context, value: JSON, pattern: str, replacement: str) -> str:
    subject, pieces, at = text(value, "regex_replace"), [], 0
    for found in context.parent[REGEXES][pattern].finditer(subject):
        pieces += [subject[at : found.start()], found.expand(replacement)]
        _spend(context, len(pieces[-2]) + len(pieces[-1]))
        at = found.end()
    pieces.append(subject[at:])
    _spend(context, sum(map(len, pieces)))
    return "".join(pieces)


def _regex_test(method: str) -> Callable[..., bool]:
    @pass_context
    def test(context: Context, value: JSON, pattern: str) -> bool:
        if isinstance(value, Missing):
            return bool(value)
        return getattr(context.parent[REGEXES][pattern], method)(text(value, method)) is not None

    return test


#: What text can do besides filters, as ``payload.ref.removeprefix('refs/heads/')``.
TEXT_METHODS = (
    "removeprefix", "removesuffix", "startswith", "endswith", "lower", "upper", "strip", "split", "replace",
)  # fmt: skip

#: Filters and tests whose first argument is a regular expression.
REGEX_FILTERS = ("regex_replace", "regex_search")
REGEX_TESTS = ("match", "search")

#: Filters whose first argument names a filter or a test.
NAMING_FILTERS = {
    "map": "filter",
    "select": "test",
    "reject": "test",
    "selectattr": "test",
    "rejectattr": "test",
}

_JINJA_FILTERS = (
    "abs", "first", "last", "list", "map", "max", "min", "reject", "rejectattr", "reverse", "round",
    "select", "selectattr", "sort", "sum", "unique",
)  # fmt: skip

FILTERS: dict[str, Callable[..., Any]] = {
    **{name: jinja2.filters.FILTERS[name] for name in _JINJA_FILTERS},
    **{name: _text_method(name) for name in ("capitalize", "lower", "title", "upper")},
    "count": _length,
    "d": _default,
    "default": _default,
    "float": _number("float", float),
    "int": _number("int", int),
    "join": _join,
    "length": _length,
    "regex_replace": _regex_replace,
    "regex_search": _regex_search,
    "replace": _replace,
    "string": _string,
    "to_json": _to_json,
    "trim": _text_method("strip"),
    "urlencode": _urlencode,
}

_JINJA_TESTS = (
    "boolean", "defined", "divisibleby", "even", "false", "float", "integer", "mapping", "none", "number",
    "odd", "sequence", "string", "true", "undefined",
)  # fmt: skip

TESTS: dict[str, Callable[..., Any]] = {
    **{name: cast(Callable[..., Any], jinja2.tests.TESTS[name]) for name in _JINJA_TESTS},
    "eq": COMPARISONS["eq"],
    "equalto": COMPARISONS["eq"],
    "ge": COMPARISONS["gteq"],
    "gt": COMPARISONS["gt"],
    "in": COMPARISONS["in"],
    "le": COMPARISONS["lteq"],
    "lt": COMPARISONS["lt"],
    "match": _regex_test("match"),
    "ne": COMPARISONS["ne"],
    "search": _regex_test("search"),
}

#: What rewriting puts in, under names that cannot be written.
INTERNAL: dict[str, Callable[..., Any]] = {
    ".field": _field,
    ".concatenate": _concatenate,
    **{f".compare.{name}": compare for name, compare in COMPARISONS.items()},
    **{f".text.{name}": _text_method(name) for name in TEXT_METHODS},
    ".text.replace": _replace,
}
