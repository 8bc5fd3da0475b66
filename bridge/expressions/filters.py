"""The filters, tests and text methods of expressions; pure.

Jinja's own filters are used where they are right for JSON. The others are here to charge the text that they
build, to distinguish JSON's types, or to fail where Jinja's would guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from string import ascii_letters, digits
from typing import Any, cast

import jinja2
from jinja2.runtime import Context
from jinja2.utils import pass_context

from bridge.core.errors import EvaluationError, Unreadable
from bridge.core.event import JSON
from bridge.core.json_values import MISSING, is_number, json_type
from bridge.core.payload import parse_json
from bridge.core.regex import CompiledRegex, compile_replacement
from bridge.expressions.lists import LIST_FILTERS, attribute_getter
from bridge.expressions.syntax_functions import (
    COMPARISONS,
    INTERNAL,
    budget,
    charge_search,
    charge_text,
    join_texts,
    limit,
    missing_field,
)
from bridge.expressions.values import (
    Missing,
    require_elements,
    require_present,
    require_text,
    to_json_text,
    to_text,
)

#: The key of the table's compiled regular expressions, by their text, in a scope. No expression can name it.
REGEXES = ".regexes"

#: The characters that a URL does not escape.
_UNESCAPED_IN_URLS = (ascii_letters + digits + "_.-~").encode()

#: The longest text that a message about an invalid number quotes.
_QUOTED_TEXT_LIMIT = 60
#: The most decimals for `round`, more than a number can have.
_DECIMALS_LIMIT = 20
#: The most characters that `strip` removes: it compares each character of the text with all of them.
_STRIPPED_LIMIT = 100

#: Budget steps for a pair of an object that is written into a URL.
_PAIR = 16
#: Budget steps for a result of a regular expression, besides the search.
_RESULT = 8
#: Characters beyond ASCII whose case one step changes.
_CASED_PER_STEP = 2
#: Characters compared by `strip` in one step.
_STRIPPED_PER_STEP = 4
#: Characters of a URL written in one step.
_QUOTED_PER_STEP = 16
#: Budget steps for each value that `from_json` reads.
_PARSED_VALUE = 2
#: Characters of a number read in one step.
_DIGITS_PER_STEP = 16


def _number_of(value: JSON, operation: str) -> int | float:
    if not is_number(require_present(value)):
        raise EvaluationError(f"{operation} needs a number, got {json_type(value)}")
    return cast(int | float, value)


# Text.


def _text_method(name: str) -> Callable[..., Any]:
    @pass_context
    def call(context: Context, value: JSON, *arguments: Any) -> Any:
        subject = require_text(value, name)
        charge_text(context, len(subject))
        if name in ("upper", "lower", "title", "capitalize") and not subject.isascii():
            budget(context).charge(len(subject) // _CASED_PER_STEP)
            # A letter may become three in one of the cases.
            upper, lower = (sum(map(len, map(case, subject))) for case in (str.upper, str.lower))
            charge_text(context, upper + lower - len(subject))
        for argument in map(require_present, arguments):
            if name == "strip" and isinstance(argument, str):
                if len(argument) > _STRIPPED_LIMIT:
                    raise EvaluationError(f"strip removes at most {_STRIPPED_LIMIT} characters")
                budget(context).charge(len(subject) // _STRIPPED_PER_STEP)
            if name == "split" and isinstance(argument, str):
                charge_search(context, subject, argument)
        try:
            made = getattr(subject, name)(*arguments)
        except (TypeError, ValueError, OverflowError) as error:
            raise EvaluationError(f"{name}: {error}") from error
        if name == "split":
            budget(context).charge(len(made))
        return made

    return call


@pass_context
def _replace(context: Context, value: JSON, old: str, new: str, count: int = -1) -> str:
    subject, old, new = (
        require_text(value, "replace"),
        require_text(old, "replace"),
        require_text(new, "replace"),
    )
    budget(context).charge_text(2 * len(subject))
    for _ in range(2):  # count searches, too
        charge_search(context, subject, old)
    times = subject.count(old) if _number_of(count, "replace") < 0 else min(subject.count(old), count)
    charge_text(context, len(subject) + times * max(0, len(new) - len(old)))
    return subject.replace(old, new, count)


@pass_context
def _string(context: Context, value: JSON) -> str:
    return join_texts(context, "", [value])


@pass_context
def _to_json(context: Context, value: JSON) -> str:
    written = to_json_text(value, budget(context))
    charge_text(context, len(written))
    return written


@pass_context
def _from_json(context: Context, value: JSON) -> JSON:
    text = require_text(value, "from_json")
    charge_text(context, len(text))
    # Each value but the first follows one of these, so a refused text costs no memory.
    budget(context).charge(_PARSED_VALUE * sum(map(text.count, ",[{")))
    try:
        return parse_json(text.encode())
    except Unreadable as error:
        raise EvaluationError(f"from_json: {str(error).replace('the body', 'the text')}") from error


@pass_context
def _urlencode(context: Context, value: JSON) -> str:
    if isinstance(require_present(value), dict):
        left = budget(context)
        left.charge(_PAIR * len(value))
        value = {require_text(name, "urlencode"): to_text(inner, left) for name, inner in value.items()}
        quoted = sum(_quoted(part, b"") + 1 for pair in value.items() for part in pair)
    else:
        quoted = _quoted(require_text(value, "urlencode"), b"/")
    charge_text(context, quoted)
    budget(context).charge(quoted // _QUOTED_PER_STEP)
    return str(jinja2.filters.do_urlencode(value))


def _quoted(part: str, also_plain: bytes) -> int:
    """Return an upper bound of its length in a URL."""
    encoded = part.encode()
    return len(encoded) + 2 * len(encoded.translate(None, _UNESCAPED_IN_URLS + also_plain))


# Numbers.


def _number(name: str, read: Callable[[Any], Any]) -> Callable[..., Any]:
    @pass_context
    def convert(context: Context, value: JSON, default: Any = MISSING) -> Any:
        if isinstance(require_present(value), str | int | float) and not isinstance(value, bool):
            if isinstance(value, str):
                budget(context).charge(len(value) // _DIGITS_PER_STEP)
            try:
                return read(value)
            except (ValueError, OverflowError):
                pass  # as for any other value that is not a number
        if default is not MISSING:
            return default
        # A longer text is not quoted in part: no mask finds part of a secret.
        is_short = isinstance(value, str) and len(value) <= _QUOTED_TEXT_LIMIT
        subject = f"the text {value!r}" if is_short else json_type(value)
        raise EvaluationError(f"{name}: {subject} is not a number; {name}(0) would give 0 instead")

    return convert


def _abs(value: JSON) -> int | float:
    return abs(_number_of(value, "abs"))


def _round(value: JSON, precision: int = 0, method: str = "common") -> float:
    # Python would compute 10 ** precision.
    if type(require_present(precision)) is not int or abs(precision) > _DECIMALS_LIMIT:
        raise EvaluationError(f"round needs a whole number of decimals, at most {_DECIMALS_LIMIT}")
    return jinja2.filters.do_round(_number_of(value, "round"), precision, cast(Any, method))


#: A ``sum`` of lists, and the hint.
SUM_OF_LISTS = "sum adds numbers, not lists"
SUM_HINT = "to match any changed file, write payload.commits[*].{added,modified,removed}[*]: under match"


@pass_context
def _sum(context: Context, value: JSON, attribute: str | None = None, start: int = 0) -> int | float:
    items = require_elements(value, "sum", budget(context), 2)
    numbers = [start, *map(attribute_getter(context, attribute, items), items)]
    if any(isinstance(number, list) for number in numbers):
        raise EvaluationError(f"{SUM_OF_LISTS}: {SUM_HINT}")
    return sum(_number_of(number, "sum") for number in numbers)


# Anything.


def _default(value: JSON, otherwise: JSON) -> JSON:
    return otherwise if value is None or isinstance(value, Missing) else value


def _length(value: JSON) -> int:
    if not isinstance(require_present(value), str | list | tuple | Mapping):
        raise EvaluationError(f"length needs a list, got {json_type(value)}")
    return len(value)


# Regular expressions.


def _regex(context: Context, pattern: str) -> CompiledRegex:
    return cast(CompiledRegex, context.parent[REGEXES][pattern])


@pass_context
def _regex_search(context: Context, value: JSON, pattern: str) -> JSON:
    subject = require_text(value, "regex_search")
    regex = _regex(context, pattern)
    budget(context).charge(_RESULT + regex.steps(subject))
    match = regex.search(subject)
    if match is None:
        return missing_field(context, lambda: f"a match of /{pattern}/ is missing in the text")
    result = match.group(1) if regex.groups else match.group(0)
    charge_text(context, len(result or ""))
    return cast(JSON, result)


@pass_context
def _regex_replace(context: Context, value: JSON, pattern: str, replacement: str) -> str:
    subject = require_text(value, "regex_replace")
    regex = _regex(context, pattern)
    new = compile_replacement(require_text(replacement, "regex_replace"), regex)
    pieces: list[str] = []
    length = at = 0
    budget(context).charge(2 * _RESULT)
    for match in regex.matches(subject, budget(context)):
        length += match.start() - at + sum(_grown(piece, match) for piece in new)
        limit(context).require_fit(length)
        pieces.append(subject[at : match.start()])
        pieces += [piece if isinstance(piece, str) else match.group(piece) or "" for piece in new]
        at = match.end()
    pieces.append(subject[at:])
    charge_text(context, length + len(pieces[-1]))
    return "".join(pieces)


def _grown(piece: str | int, match: Any) -> int:
    return len(piece) if isinstance(piece, str) else match.end(piece) - match.start(piece)


# Tests.


def _of_present(test: Callable[..., Any]) -> Callable[..., bool]:
    """Wrap a test so that a missing value raises or, in a condition, fails it."""

    @wraps(test)
    def wrapper(value: JSON, *arguments: Any) -> bool:
        return bool(value) if isinstance(value, Missing) else bool(test(value, *arguments))

    return wrapper


def _divisible(value: JSON, number: JSON) -> bool:
    # % formats a text, to any width that it names.
    divisor = _number_of(number, "divisibleby")
    if not divisor:
        raise EvaluationError("divisibleby: nothing is divisible by 0")
    return _number_of(value, "divisibleby") % divisor == 0


def _regex_test(method: str) -> Callable[..., bool]:
    @pass_context
    def test(context: Context, value: JSON, pattern: str) -> bool:
        if isinstance(value, Missing):
            return bool(value)
        subject, regex = require_text(value, method), _regex(context, pattern)
        budget(context).charge(regex.steps(subject))
        return getattr(regex, method)(subject) is not None

    return test


#: The methods of text, such as ``payload.ref.removeprefix('refs/heads/')``.
TEXT_METHODS = (
    "removeprefix", "removesuffix", "startswith", "endswith", "lower", "upper", "strip", "split", "replace",
)  # fmt: skip

#: Filters and tests whose first argument is a regular expression.
REGEX_FILTERS = ("regex_replace", "regex_search")
REGEX_TESTS = ("match", "search")

#: Filters with an argument that names a filter or a test: its kind and position.
NAMING_FILTERS = {
    "map": ("filter", 0),
    "select": ("test", 0),
    "reject": ("test", 0),
    "selectattr": ("test", 1),
    "rejectattr": ("test", 1),
}

FILTERS: dict[str, Callable[..., Any]] = {
    **LIST_FILTERS,
    **{name: _text_method(name) for name in ("capitalize", "lower", "title", "upper")},
    "abs": _abs,
    "count": _length,
    "d": _default,
    "default": _default,
    "float": _number("float", float),
    "from_json": _from_json,
    "int": _number("int", int),
    "length": _length,
    "regex_replace": _regex_replace,
    "regex_search": _regex_search,
    "replace": _replace,
    "round": _round,
    "string": _string,
    "sum": _sum,
    "to_json": _to_json,
    "trim": _text_method("strip"),
    "urlencode": _urlencode,
}

_JINJA_TESTS = ("boolean", "false", "float", "integer", "mapping", "none", "sequence", "string", "true")

TESTS: dict[str, Callable[..., Any]] = {
    **{name: _of_present(cast(Callable[..., Any], jinja2.tests.TESTS[name])) for name in _JINJA_TESTS},
    "defined": jinja2.tests.test_defined,
    "divisibleby": _of_present(_divisible),
    "eq": COMPARISONS["eq"],
    "equalto": COMPARISONS["eq"],
    "even": _of_present(lambda value: _number_of(value, "even") % 2 == 0),
    "ge": COMPARISONS["gteq"],
    "gt": COMPARISONS["gt"],
    "in": COMPARISONS["in"],
    "le": COMPARISONS["lteq"],
    "lt": COMPARISONS["lt"],
    "match": _regex_test("match"),
    "ne": COMPARISONS["ne"],
    "number": _of_present(is_number),
    "odd": _of_present(lambda value: _number_of(value, "odd") % 2 == 1),
    "search": _regex_test("search"),
    "undefined": jinja2.tests.test_undefined,
}

#: All functions that compiled expressions may call.
CALLABLE: dict[str, Callable[..., Any]] = {
    **FILTERS,
    **INTERNAL,
    **{f".text.{name}": _text_method(name) for name in TEXT_METHODS},
    ".text.replace": _replace,
}
