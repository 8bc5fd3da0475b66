"""The filters, tests and text methods that an expression may use, and what it is rewritten to; pure.

Where Jinja's own filter takes JSON values as they are, it serves; the others are here because they
must count the text they build, keep JSON's types apart, or fail where Jinja's would guess.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from string import ascii_letters, digits
from typing import Any, cast

import jinja2
import orjson
from jinja2.filters import make_attrgetter
from jinja2.runtime import Context
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import pass_context, pass_environment

from bridge.errors import EvaluationError
from bridge.event import JSON
from bridge.expressions.operators import COMPARISONS, INTERNAL, budget, joined, spend, undefined
from bridge.expressions.values import Missing, elements, json_of, plain, present, text, text_of
from bridge.fields import MISSING, is_number, kind
from bridge.regex import compile_replacement

#: The name under which a scope carries the table's compiled regular expressions (by their text);
#: no expression can spell it.
REGEXES = ".regexes"

#: What a URL holds as it is.
_PLAIN_IN_URLS = (ascii_letters + digits + "_.-~").encode()

#: Of a text that is no number, how long it is where it is quoted.
_QUOTED = 60
#: Of decimals that `round` knows: more than a number can have.
_DECIMALS = 20
#: Of characters that `strip` takes off: it looks through all of them for each of the text's.
_STRIPPED = 100
#: Of a character of JSON, how many characters of text its values weigh.
_VALUE = 8
#: Of steps, what one replacement costs.
_REPLACEMENT = 4


def _number_of(value: JSON, operation: str) -> int | float:
    if not is_number(present(value)):
        raise EvaluationError(f"{operation} is for numbers, found {kind(value)}")
    return cast(int | float, value)


# Text.


def _text_method(name: str) -> Callable[..., Any]:
    @pass_context
    def call(context: Context, value: JSON, *arguments: Any) -> Any:
        subject = text(value, name)
        spend(context, len(subject))
        if name in ("upper", "lower", "title", "capitalize") and not subject.isascii():
            # One letter may become three; none grows both ways.
            upper, lower = (sum(map(len, map(case, subject))) for case in (str.upper, str.lower))
            spend(context, upper + lower - len(subject))
        for argument in map(present, arguments):
            if name == "strip" and isinstance(argument, str) and len(argument) > _STRIPPED:
                raise EvaluationError(f"strip looks for at most {_STRIPPED} characters")
        try:
            return getattr(subject, name)(*arguments)
        except (TypeError, ValueError, OverflowError) as error:
            raise EvaluationError(f"{name}: {error}") from error

    return call


@pass_context
def _replace(context: Context, value: JSON, old: str, new: str, count: int = -1) -> str:
    subject, old, new = text(value, "replace"), text(old, "replace"), text(new, "replace")
    times = subject.count(old) if _number_of(count, "replace") < 0 else min(subject.count(old), count)
    spend(context, len(subject) + times * max(0, len(new) - len(old)))
    return subject.replace(old, new, count)


@pass_context
def _join(context: Context, value: JSON, separator: str = "", attribute: str | None = None) -> str:
    between = text(separator, "join")
    field = make_attrgetter(context.environment, attribute) if attribute is not None else present
    return joined(context, between, map(field, elements(value, "join")))


@pass_context
def _string(context: Context, value: JSON) -> str:
    return joined(context, "", [value])


@pass_context
def _to_json(context: Context, value: JSON) -> str:
    written = json_of(value)
    spend(context, len(written))
    return written


@pass_context
def _urlencode(context: Context, value: JSON) -> str:
    if isinstance(present(value), dict):
        value = {text(name, "urlencode"): text_of(inner) for name, inner in value.items()}
        quoted = sum(_quoted(part, b"") + 1 for pair in value.items() for part in pair)
    else:
        quoted = _quoted(text(value, "urlencode"), b"/")
    spend(context, quoted)
    return str(jinja2.filters.do_urlencode(value))


def _quoted(part: str, also_plain: bytes) -> int:
    """How many characters it has in a URL, at the most."""
    encoded = part.encode()
    return len(encoded) + 2 * len(encoded.translate(None, _PLAIN_IN_URLS + also_plain))


# Numbers.


def _number(name: str, read: Callable[[Any], Any]) -> Callable[..., Any]:
    def convert(value: JSON, default: Any = MISSING) -> Any:
        if isinstance(present(value), str | int | float) and not isinstance(value, bool):
            try:
                return read(value)
            except (ValueError, OverflowError):
                pass  # as any other value that is no number
        if default is not MISSING:
            return default
        # Not a part of a longer one: no mask knows a part of a secret.
        is_short = isinstance(value, str) and len(value) <= _QUOTED
        found = f"the text {value!r}" if is_short else kind(value)
        raise EvaluationError(f"{name}: {found} is no number; {name}(0) would give 0 for it")

    return convert


def _abs(value: JSON) -> int | float:
    return abs(_number_of(value, "abs"))


def _round(value: JSON, precision: int = 0, method: str = "common") -> float:
    # Python would reckon 10 ** 1000000000 for it.
    if type(present(precision)) is not int or abs(precision) > _DECIMALS:
        raise EvaluationError(f"round takes a whole number of decimals, at most {_DECIMALS}")
    return jinja2.filters.do_round(_number_of(value, "round"), precision, cast(Any, method))


@pass_environment
def _sum(
    environment: SandboxedEnvironment, value: JSON, attribute: str | None = None, start: int = 0
) -> int | float:
    field = make_attrgetter(environment, attribute) if attribute is not None else present
    numbers = [start, *map(field, elements(value, "sum"))]
    return sum(_number_of(number, "sum") for number in numbers)


# Lists.


def _over_list(name: str) -> Callable[..., Any]:
    """Jinja's filter, from a list (never from a text's characters) to a list (never an iterator)."""
    inner = cast(Callable[..., Any], jinja2.filters.FILTERS[name])

    @wraps(inner)  # which keeps the mark of what Jinja passes first
    def call(passed: Any, value: JSON, *arguments: Any, **options: Any) -> Any:
        for argument in (*arguments, *options.values()):
            if isinstance(argument, Missing):
                bool(argument)  # raises, but in a condition, where it equals nothing
        return _listed(inner(passed, elements(value, name), *arguments, **options))

    return call


def _listed(result: Any) -> Any:
    return list(result) if hasattr(result, "__next__") else result


@pass_context
def _map(context: Context, value: JSON, *arguments: Any, **options: Any) -> list[JSON]:
    items = elements(value, "map")
    for argument in map(present, (*arguments[1:], options.get("default"))):
        # Every element may become this one.
        weight = 1 if isinstance(argument, str) else _VALUE
        spend(context, len(text_of(argument)), weight * len(items))
    return list(jinja2.filters.sync_do_map(context, items, *arguments, **options))


@pass_context
def _list(context: Context, value: JSON) -> list[JSON]:
    if isinstance(value, str):
        spend(context, len(value))
        return list(value)
    return elements(value, "list")


@pass_context
def _reverse(context: Context, value: JSON) -> JSON:
    if isinstance(value, str):
        spend(context, len(value))
        return value[::-1]
    return elements(value, "reverse")[::-1]


def _end(name: str, place: int) -> Callable[..., Any]:
    @pass_context
    def end(context: Context, value: JSON) -> JSON:
        items = value if isinstance(value, str) else elements(value, name)
        return items[place] if items else undefined(context, lambda: f"{name}: {kind(value)} is empty")

    return end


@pass_environment
def _unique(
    environment: SandboxedEnvironment, value: JSON, case_sensitive: bool = False, attribute: str | None = None
) -> list[JSON]:
    field = make_attrgetter(environment, attribute) if attribute is not None else present
    found: dict[object, JSON] = {}
    for item in elements(value, "unique"):
        key = plain(field(item))
        if isinstance(key, str) and not case_sensitive:
            key = key.lower()
        # To Python true is 1; as JSON text 1 is not 1.0.
        mark = key if is_number(key) else orjson.dumps(key, option=orjson.OPT_SORT_KEYS)
        found.setdefault(mark, item)
    return list(found.values())


# Anything.


def _default(value: JSON, otherwise: JSON) -> JSON:
    return otherwise if value is None or isinstance(value, Missing) else value


def _length(value: JSON) -> int:
    return len(value) if isinstance(value, str) else len(elements(value, "length"))


# Regular expressions.


@pass_context
def _regex_search(context: Context, value: JSON, pattern: str) -> JSON:
    regex = context.parent[REGEXES][pattern]
    found = regex.search(text(value, "regex_search"))
    if found is None:
        return undefined(context, lambda: f"a match of /{pattern}/ is missing in the text")
    result = found.group(1) if regex.groups else found.group(0)
    spend(context, len(result or ""))
    return cast(JSON, result)


@pass_context
def _regex_replace(context: Context, value: JSON, pattern: str, replacement: str) -> str:
    subject = text(value, "regex_replace")
    regex = context.parent[REGEXES][pattern]
    new = compile_replacement(text(replacement, "regex_replace"), regex)
    pieces: list[str] = []
    length = at = 0
    for found in regex.finditer(subject):
        budget(context).step(_REPLACEMENT)
        length += found.start() - at + sum(_grown(piece, found) for piece in new)
        budget(context).fits(length)
        pieces.append(subject[at : found.start()])
        pieces += [piece if isinstance(piece, str) else found.group(piece) or "" for piece in new]
        at = found.end()
    pieces.append(subject[at:])
    spend(context, length + len(pieces[-1]))
    return "".join(pieces)


def _grown(piece: str | int, found: Any) -> int:
    return len(piece) if isinstance(piece, str) else found.end(piece) - found.start(piece)


# Tests.


def _asked(test: Callable[..., Any]) -> Callable[..., bool]:
    """A test of a value that must be there; in a condition, what is missing fails it."""

    @wraps(test)
    def asked(value: JSON, *arguments: Any) -> bool:
        return bool(value) if isinstance(value, Missing) else bool(test(value, *arguments))

    return asked


def _divisible(value: JSON, number: JSON) -> bool:
    # A text would be formatted by %, as wide as it asks for.
    divisor = _number_of(number, "divisibleby")
    if not divisor:
        raise EvaluationError("divisibleby: nothing is divisible by 0")
    return _number_of(value, "divisibleby") % divisor == 0


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

#: Filters with an argument that names a filter or a test: of which kind it is, and its place.
NAMING_FILTERS = {
    "map": ("filter", 0),
    "select": ("test", 0),
    "reject": ("test", 0),
    "selectattr": ("test", 1),
    "rejectattr": ("test", 1),
}

#: Filters with an argument `attribute`: its place; None where it must be named.
ATTRIBUTE_FILTERS = {
    "join": 1, "map": None, "max": 1, "min": 1, "rejectattr": 0, "selectattr": 0, "sort": 2, "sum": 0,
    "unique": 1,
}  # fmt: skip

_OVER_LISTS = ("max", "min", "reject", "rejectattr", "select", "selectattr", "sort")

FILTERS: dict[str, Callable[..., Any]] = {
    **{name: _over_list(name) for name in _OVER_LISTS},
    **{name: _text_method(name) for name in ("capitalize", "lower", "title", "upper")},
    "abs": _abs,
    "count": _length,
    "d": _default,
    "default": _default,
    "first": _end("first", 0),
    "float": _number("float", float),
    "int": _number("int", int),
    "join": _join,
    "last": _end("last", -1),
    "length": _length,
    "list": _list,
    "map": _map,
    "regex_replace": _regex_replace,
    "regex_search": _regex_search,
    "replace": _replace,
    "reverse": _reverse,
    "round": _round,
    "string": _string,
    "sum": _sum,
    "to_json": _to_json,
    "trim": _text_method("strip"),
    "unique": _unique,
    "urlencode": _urlencode,
}

_JINJA_TESTS = ("boolean", "false", "float", "integer", "mapping", "none", "sequence", "string", "true")

TESTS: dict[str, Callable[..., Any]] = {
    **{name: _asked(cast(Callable[..., Any], jinja2.tests.TESTS[name])) for name in _JINJA_TESTS},
    "defined": jinja2.tests.test_defined,
    "divisibleby": _asked(_divisible),
    "eq": COMPARISONS["eq"],
    "equalto": COMPARISONS["eq"],
    "even": _asked(lambda value: _number_of(value, "even") % 2 == 0),
    "ge": COMPARISONS["gteq"],
    "gt": COMPARISONS["gt"],
    "in": COMPARISONS["in"],
    "le": COMPARISONS["lteq"],
    "lt": COMPARISONS["lt"],
    "match": _regex_test("match"),
    "ne": COMPARISONS["ne"],
    "number": _asked(is_number),
    "odd": _asked(lambda value: _number_of(value, "odd") % 2 == 1),
    "search": _regex_test("search"),
    "undefined": jinja2.tests.test_undefined,
}

#: All that compiled code may call, under names that one can write and names that one cannot.
CALLABLE: dict[str, Callable[..., Any]] = {
    **FILTERS,
    **INTERNAL,
    **{f".text.{name}": _text_method(name) for name in TEXT_METHODS},
    ".text.replace": _replace,
}
