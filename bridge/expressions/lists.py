"""Filters on lists; a text is not a list of characters; pure."""

from __future__ import annotations

from collections.abc import Callable, Sized
from functools import wraps
from typing import Any, cast

import jinja2
import orjson
from jinja2.filters import make_attrgetter
from jinja2.runtime import Context
from jinja2.utils import pass_context

from bridge.core.event import JSON
from bridge.core.exact_json import dumps
from bridge.core.json_values import is_number, json_type
from bridge.expressions.syntax_functions import budget, charge_text, join_texts, limit, missing_field
from bridge.expressions.values import (
    Missing,
    charge_walk,
    require_elements,
    require_present,
    require_text,
    to_json_value,
    to_text,
)

#: Characters that count against the TextLimit for each character of a value's JSON.
_CHARACTERS_PER_JSON_CHARACTER = 8
#: Budget steps for each name of the path of an element's field.
_FIELD = 2
#: Budget steps for a call of a filter or test with an element, besides its own.
_CALL = 8
#: Budget steps to write an element as JSON, to compare it with others.
_IDENTITY = 16
#: Characters of a text split into a list in one step.
_SPLIT_PER_STEP = 3

#: The position of the argument `attribute` of a filter; None if it must be named.
ATTRIBUTE_FILTERS = {
    "join": 1, "map": None, "max": 1, "min": 1, "rejectattr": 0, "selectattr": 0, "sort": 2, "sum": 0,
    "unique": 1,
}  # fmt: skip

_ORDERING = ("max", "min", "sort")
_OVER_LISTS = (*_ORDERING, "reject", "rejectattr", "select", "selectattr")


def attribute_getter(context: Context, attribute: str | int | None, items: Sized) -> Callable[[JSON], JSON]:
    """Return a function from an element to its field, or to itself; charges all the elements."""
    if attribute is None:
        return require_present
    budget(context).charge(_FIELD * len(items) * len(str(attribute).split(".")))
    return make_attrgetter(context.environment, attribute)


def _over_list(name: str) -> Callable[..., Any]:
    """Wrap Jinja's filter: it needs a list and returns a list, not an iterator."""
    inner = cast(Callable[..., Any], jinja2.filters.FILTERS[name])
    place = ATTRIBUTE_FILTERS.get(name)

    @pass_context
    @wraps(inner)  # for its signature
    def call(context: Context, value: JSON, *arguments: Any, **options: Any) -> Any:
        for argument in (*arguments, *options.values()):
            if isinstance(argument, Missing):
                bool(argument)  # raises, except in a condition, where it equals nothing
        budget(context).charge(_CALL)
        # A comparison of elements calls no function; it is charged below.
        items = require_elements(value, name, budget(context), 2 if name in _ORDERING else _CALL)
        attribute = options.get("attribute")
        if place is not None and len(arguments) > place:
            attribute = arguments[place]
        for part in [None] if attribute is None else str(attribute).split(","):
            field = attribute_getter(context, part, items)
            if name in _ORDERING:
                # A sort compares each element about log(n) times.
                times = 1 + len(items).bit_length() // 4 if name == "sort" else 1
                charge_walk([field(item) for item in items], budget(context), times)
        passed = context.environment if name in _ORDERING else context
        return _listed(inner(passed, items, *arguments, **options))

    return call


def _listed(result: Any) -> Any:
    return list(result) if hasattr(result, "__next__") else result


@pass_context
def _map(context: Context, value: JSON, *arguments: Any, **options: Any) -> list[JSON]:
    budget(context).charge(_CALL)
    items = require_elements(value, "map", budget(context), _CALL if arguments else 1)
    attribute_getter(context, options.get("attribute"), items)
    for argument in map(require_present, (*arguments[1:], options.get("default"))):
        # Every element may become this value.
        weight = 1 if isinstance(argument, str) else _CHARACTERS_PER_JSON_CHARACTER
        limit(context).charge(len(to_text(argument, budget(context))), weight * len(items))
    return list(jinja2.filters.sync_do_map(context, items, *arguments, **options))


@pass_context
def _list(context: Context, value: JSON) -> list[JSON]:
    if isinstance(value, str):
        charge_text(context, len(value))
        budget(context).charge(len(value) // _SPLIT_PER_STEP)
        return list(value)
    return list(require_elements(value, "list", budget(context)))


@pass_context
def _reverse(context: Context, value: JSON) -> JSON:
    if isinstance(value, str):
        charge_text(context, len(value))
        return value[::-1]
    return list(require_elements(value, "reverse", budget(context)))[::-1]


def _end(name: str, place: int) -> Callable[..., Any]:
    @pass_context
    def end(context: Context, value: JSON) -> JSON:
        items = value if isinstance(value, str | list) else require_elements(value, name, budget(context))
        return (
            items[place] if items else missing_field(context, lambda: f"{name}: {json_type(value)} is empty")
        )

    return end


@pass_context
def _unique(
    context: Context, value: JSON, case_sensitive: bool = False, attribute: str | None = None
) -> list[JSON]:
    items = require_elements(value, "unique", budget(context), _IDENTITY)
    field = attribute_getter(context, attribute, items)
    unique: dict[object, JSON] = {}
    for item in items:
        key = to_json_value(field(item), budget(context))
        if isinstance(key, str) and not case_sensitive:
            key = key.lower()
        # In Python true equals 1; as JSON text 1 differs from 1.0.
        identity = key if is_number(key) else dumps(key, option=orjson.OPT_SORT_KEYS)
        unique.setdefault(identity, item)
    return list(unique.values())


@pass_context
def _join(context: Context, value: JSON, separator: str = "", attribute: str | None = None) -> str:
    between = require_text(separator, "join")
    items = require_elements(value, "join", budget(context), 2)
    return join_texts(context, between, map(attribute_getter(context, attribute, items), items))


LIST_FILTERS: dict[str, Callable[..., Any]] = {
    **{name: _over_list(name) for name in _OVER_LISTS},
    "first": _end("first", 0),
    "join": _join,
    "last": _end("last", -1),
    "list": _list,
    "map": _map,
    "reverse": _reverse,
    "unique": _unique,
}
