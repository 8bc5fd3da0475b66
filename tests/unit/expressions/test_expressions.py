"""Expressions: how they are cut out of a text, what they may say, and what they never do."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import jinja2
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.core.errors import EvaluationError, ExpressionError, Incomparable, MissingField, OverBudget
from bridge.core.event import JSON, Event, Headers
from bridge.core.fields import EVENT_NAMES, ITEM_NAMES
from bridge.expressions.expression import Language, scan
from bridge.expressions.filters import FILTERS, TESTS, TEXT_METHODS
from bridge.expressions.values import MAX_DEPTH, MAX_TEXT, MAX_TEXT_BUILT
from tests.support.examples import examples

pure = settings(max_examples=examples(150), deadline=None, derandomize=True, database=None)

ALL_NAMES = EVENT_NAMES + ITEM_NAMES


def scope(payload: JSON = None, **more: JSON) -> dict[str, JSON]:
    event = Event(
        source="github",
        event="push",
        action=None,
        delivery_id="d-1",
        headers=Headers([("X-Foo", "bar")]),
        query={"team": "ops"},
        payload=payload,
        received_at=0.0,
    )
    return {**event.scope, **more}


def value(text: str, payload: JSON = None) -> JSON:
    """The value of an argument's text."""
    return Language().template(text).value(scope(payload))


def of(expression: str, payload: JSON = None) -> JSON:
    """The value of one expression."""
    return value("${{ " + expression + " }}", payload)


def holds(expression: str, payload: JSON = None) -> tuple[bool, str | None]:
    return Language().condition(expression).is_true(scope(payload))


def refusal(expression: str) -> ExpressionError:
    """Why an expression does not compile; its offset is from the expression's start."""
    with pytest.raises(ExpressionError) as refused:
        Language().condition(expression)
    return refused.value


def failure(expression: str, payload: JSON = None) -> str:
    """Why an expression has no value."""
    with pytest.raises(EvaluationError) as failed:
        of(expression, payload)
    return str(failed.value)


def too_much(expression: str, payload: JSON = None) -> str:
    """Why an expression is not evaluated to its end."""
    with pytest.raises((EvaluationError, OverBudget)) as failed:
        of(expression, payload)
    return str(failed.value)


def memory(work: Callable[[], Any]) -> int:
    """The bytes that Python held at the most, beyond what it held before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Cutting ${{ }} out of a text.


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("plain", ["plain"]),
        ("${{ a }}", [(" a ", 3)]),
        ("${{a}}", [("a", 3)]),
        ("x ${{ a }} y", ["x ", (" a ", 5), " y"]),
        ("${{ a }}${{ b }}", [(" a ", 3), (" b ", 11)]),
        ("${{ '}}' }}", [(" '}}' ", 3)]),
        ('${{ "}}" }}', [(' "}}" ', 3)]),
        (r"${{ 'it\'s }}' }}", [(r" 'it\'s }}' ", 3)]),
        (r"${{ '\\' }}", [(r" '\\' ", 3)]),
        ('${{ "\'" }}', [(' "\'" ', 3)]),
        ("${{ '${{ x }}' }}", [(" '${{ x }}' ", 3)]),
        ("${{ {'a': 1} }}", [(" {'a': 1} ", 3)]),
        ("${{ {'a': 1}}}", [(" {'a': 1}", 3)]),
        ("${{ {'a': {'b': 1}}}}", [(" {'a': {'b': 1}}", 3)]),
        ("${{{'a': 1}}}", [("{'a': 1}", 3)]),
        ("${{ [1, (2)][0] }}}}", [(" [1, (2)][0] ", 3), "}}"]),
        ("${{ a\n }}\n", [(" a\n ", 3), "\n"]),
        # All that is no ${{ is text.
        ("{{ a }}", ["{{ a }}"]),
        ("$ {{ a }}", ["$ {{ a }}"]),
        ("${ a }", ["${ a }"]),
        ("}} {% if x %} {# c #}", ["}} {% if x %} {# c #}"]),
        ("'${{ a }}'", ["'", (" a ", 4), "'"]),
        ("$${{ a }}", ["$", (" a ", 4)]),
    ],
)
def test_an_expression_ends_where_its_quotes_and_brackets_do(
    text: str, parts: list[str | tuple[str, int]]
) -> None:
    scanned = scan(text)

    assert [(part.text, part.offset) if part.is_expression else part.text for part in scanned] == parts
    assert all(text.startswith(part.text, part.offset) for part in scanned)


@pytest.mark.parametrize(
    ("text", "offset", "says"),
    [
        ("a ${{ b", 2, "the ${{ is not closed"),
        ("${{ b }", 6, "unexpected '}': no bracket is open"),
        ("${{ (b }}", 7, "unexpected '}': expected ')'"),
        ("${{ (b", 0, "the ${{ is not closed; ')' is missing"),
        ("${{ {'a': 1} ", 0, "the ${{ is not closed"),
        ("${{ b] }}", 5, "unexpected ']': no bracket is open"),
        ("${{ 'b }}", 4, "the quote ' is not closed"),
        ("${{ 'b\\' }}", 4, "the quote ' is not closed"),
        ('${{ "b\\', 4, 'the quote " is not closed'),
        ("x ${{ }}", 2, "${{ }} is empty"),
        ("${{}}", 0, "${{ }} is empty"),
        ("${{ \n }}", 0, "${{ }} is empty"),
        ("${{ a }} ${{", 9, "the ${{ is not closed"),
    ],
)
def test_an_expression_that_does_not_end_is_refused_at_its_place(text: str, offset: int, says: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        scan(text)

    assert says in refused.value.message
    assert refused.value.offset == offset


@pytest.mark.parametrize(
    "text",
    [
        "{{ payload.a }}",
        "{{ 7 * 7 }}",
        "{% if true %}x{% endif %}",
        "{% raw %}",
        "{# a comment #}",
        "{{ cycler.__init__.__globals__ }}",
        "# line",
        "\x00{ payload }\x00",
        "\x00% if x %\x00",
        "é😀",
    ],
)
def test_jinjas_own_delimiters_are_text(text: str) -> None:
    assert value(text) == text
    assert value(text + "${{ 1 }}") == text + "1"
    assert of("payload", text) == text


def test_an_empty_text_stays_one() -> None:
    assert value("") == ""


@pytest.mark.parametrize(
    "expression",
    ["payload # a", "{# a #}", "{% if payload %}", "{{ payload }}", "#", "payload }}", "\x00{ payload }\x00"],
)
def test_jinjas_own_delimiters_are_no_part_of_an_expression(expression: str) -> None:
    assert refusal(expression)


def test_a_hash_in_quotes_is_text() -> None:
    assert of("'#1' ~ payload['#']", {"#": "#2"}) == "#1#2"


# What a text gives.

EVERY_TYPE = [None, True, False, 0, -5, 1.5, "", "main", "5", [], [1, "a", None], {}, {"a": {"b": [1]}}]


@pytest.mark.parametrize("payload", EVERY_TYPE, ids=repr)
def test_one_expression_alone_keeps_its_type(payload: JSON) -> None:
    for text in ("${{ payload }}", "${{payload}}"):
        assert value(text, payload) == payload
        assert type(value(text, payload)) is type(payload)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (None, "null"),
        (True, "true"),
        (5, "5"),
        (5.0, "5.0"),
        ("main", "main"),
        ("", ""),
        ('"', '"'),
        ([1, "é", None], '[1,"é",null]'),
        ({"a": {"b": False}}, '{"a":{"b":false}}'),
    ],
)
def test_in_other_text_what_is_no_text_becomes_json_text(payload: JSON, text: str) -> None:
    assert value("<${{ payload }}>", payload) == f"<{text}>"
    assert value(" ${{ payload }}", payload) == f" {text}"
    assert value("${{ payload }}${{ payload }}", payload) == text * 2
    assert of("'<' ~ payload ~ '>'", payload) == f"<{text}>"
    assert of("payload | string", payload) == text
    assert of("[payload, payload] | join(', ')", payload) == f"{text}, {text}"


@pytest.mark.parametrize("payload", EVERY_TYPE, ids=repr)
def test_to_json_is_compact_and_not_escaped_for_html(payload: JSON) -> None:
    assert of("payload | to_json", payload) == orjson.dumps(payload).decode()
    assert of("'<é&>' | to_json") == '"<é&>"'


@pytest.mark.parametrize("payload", EVERY_TYPE, ids=repr)
def test_from_json_reads_what_to_json_writes(payload: JSON) -> None:
    assert of("payload | to_json | from_json", payload) == payload


def test_a_field_of_json_text_is_read_with_from_json() -> None:
    message = {"Message": orjson.dumps({"AlarmName": 'disk "db1" full', "lines": [1]}).decode()}

    assert of("(payload.Message | from_json).AlarmName", message) == 'disk "db1" full'
    assert of("(payload.Message | from_json).lines[0]", message) == 1
    assert of("(payload.Message | from_json).None | default('-')", message) == "-"
    assert holds("(payload.Message | from_json).AlarmName is search('db1')", message) == (True, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("disk full", "from_json: the text is not valid JSON: "),
        ("", "from_json: the text is not valid JSON: "),
        ("[" * 65 + "]" * 65, "from_json: the JSON is nested more than 64 deep"),
        (["a"], "from_json needs text, got a list"),
    ],
)
def test_a_text_that_is_not_json_says_so(text: JSON, message: str) -> None:
    assert failure("payload | from_json", text).startswith(message)


def test_from_json_of_many_values_is_charged_before_it_is_read() -> None:
    def attempt() -> None:
        with pytest.raises(OverBudget):
            of("payload | map('from_json') | length", ["[" + "[]," * 300_000 + "1]"] * 5)

    assert memory(attempt) < 64 * MAX_TEXT


def test_a_text_knows_the_names_that_it_reads() -> None:
    template = Language().template("${{ item.a ~ payload.event }} ${{ index }} source", ALL_NAMES)

    assert [each.names for each in template.expressions] == [{"item", "payload"}, {"index"}]
    assert Language().template("payload").expressions == []


def test_names_may_come_from_an_iterator() -> None:
    template = Language().template("${{ item }}${{ item }}", iter(["item"]))

    assert template.value({"item": 1}) == "11"


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("1 + 2 * 3", 7),
        ("7 // 2 + 7 % 4", 6),
        ("1 / 2", 0.5),
        ("-payload.n + +2", -3),
        ("payload.n > 3 and 'yes' or 'no'", "yes"),
        ("'a' if payload.n > 9 else 'b'", "b"),
        ("payload.l[0]", 1),
        ("payload.l[-1]", 3),
        ("payload.l[1:]", [2, 3]),
        ("payload.l[:-1]", [1, 2]),
        ("payload.l[::-1][0]", 3),
        ("payload.sha[:7]", "0123456"),
        ("payload[payload.key]", 5),
        ("payload.l[payload.l[0]]", 2),
        ("payload.l + [4]", [1, 2, 3, 4]),
        ("[payload.n, 'x', {'k': payload.l}]", [5, "x", {"k": [1, 2, 3]}]),
        ("(1, (2, 3))", [1, [2, 3]]),
        ("{payload.key: 1}", {"n": 1}),
        ("payload.n in payload.l", False),
        ("2 in payload.l and 'n' in payload and '12' in payload.sha", True),
        ("'zz' not in payload", True),
        ("1 < payload.n <= 5 != 6", True),
        ("1 < payload.n < 5", False),
        ("none == null", True),
        ("not payload.n", False),
        ("headers['x-FOO'] ~ headers.get", None),
        ("query.team", "ops"),
        ("event ~ ' ' ~ source ~ ' ' ~ delivery_id", "push github d-1"),
        ("received_at", "1970-01-01T00:00:00.000000Z"),
    ],
)
def test_jinjas_expressions_work_on_json(expression: str, result: JSON) -> None:
    payload = {"n": 5, "l": [1, 2, 3], "sha": "0123456789", "key": "n"}
    if result is None:
        assert failure(expression, payload).startswith("headers.get is missing")
    else:
        assert of(expression, payload) == result
        assert type(of(expression, payload)) is type(result)


# Fields win.

DICT_METHODS = [
    "items", "keys", "values", "count", "get", "copy", "pop", "update", "clear", "setdefault", "fromkeys",
    "popitem", "index", "append", "sort", "format", "upper", "title", "length", "if", "not", "in", "is",
    "and", "None", "True",
]  # fmt: skip


@pytest.mark.parametrize("name", DICT_METHODS)
def test_a_field_wins_over_a_method_of_its_name(name: str) -> None:
    assert of(f"payload.{name}", {name: "the field"}) == "the field"
    assert of(f"payload['{name}']", {name: "the field"}) == "the field"
    assert of(f"payload.a.{name}[0]", {"a": {name: [1]}}) == 1
    assert of("payload.l | map(attribute='" + name + "')", {"l": [{name: 1}]}) == [1]


@pytest.mark.parametrize("name", [*DICT_METHODS, "__class__", "__init__", "_mutate"])
@pytest.mark.parametrize("payload", [{}, [], "text", 5, True, None], ids=repr)
def test_a_method_is_no_field(name: str, payload: JSON) -> None:
    with pytest.raises(MissingField, match=f"payload.{name} is missing"):
        of(f"payload.{name}", payload)
    with pytest.raises(MissingField):
        of(f"[payload] | map(attribute='{name}')", payload)


@pytest.mark.parametrize(
    ("expression", "offset", "says"),
    [
        ("payload.get('a', 'b')", 8, "write payload.a | default('b')"),
        ("payload.x.get('a')", 10, "write payload.x.a | default(…)"),
        ("payload['x'].get('a-b', 5)", 13, 'write payload.x["a-b"] | default(5)'),
        ("payload.get(payload.a)", 8, "write payload… | default(…)"),
        ("payload.get()", 8, "default(…)"),
        ("payload.get(1.5)", 8, "default(…)"),
        ("payload[none].get('a')", 14, "default(…)"),
        ("payload.items()", 8, "unknown method 'items'; objects have no methods; text has: removeprefix"),
        ("payload.a.join(',')", 10, "write it as a filter: payload.a | join"),
        ("payload.a.startwith('x')", 10, "did you mean startswith?"),
        ("payload.format('x')", 8, "unknown method 'format'"),
        ("'{}'.format(payload)", 5, "unknown method 'format'"),
        ("payload.l.append(1)", 10, "unknown method 'append'"),
        ("payload.__class__()", 8, "unknown method '__class__'"),
        ("length(payload)", 0, "write it as a filter: x | length"),
        ("payload()", 0, "unknown function 'payload'"),
        ("payload.a()()", 0, "unknown function ''"),
        ("payload.a.upper(*payload.l)", 10, "upper needs its arguments in order"),
        ("payload.a.replace('a', new='b')", 10, "replace needs its arguments in order"),
    ],
)
def test_objects_have_no_methods_and_the_hint_says_what_to_write(
    expression: str, offset: int, says: str
) -> None:
    refused = refusal(expression)

    assert says in str(refused)
    assert refused.offset == offset


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("'refs/heads/main'.removeprefix('refs/heads/')", "main"),
        ("'a.git'.removesuffix('.git')", "a"),
        ("'main'.startswith('ma')", True),
        ("'main'.startswith(('x', 'm'))", True),
        ("'main'.endswith('x')", False),
        ("'MaIn'.lower()", "main"),
        ("'main'.upper()", "MAIN"),
        ("' a '.strip()", "a"),
        ("'xax'.strip('x')", "a"),
        ("'a/b/c'.split('/')", ["a", "b", "c"]),
        ("'a/b/c'.split('/', 1)[1]", "b/c"),
        ("'aaa'.replace('a', 'b')", "bbb"),
        ("'aaa'.replace('a', 'b', 2)", "bba"),
        ("'ab'.replace('', '-')", "-a-b-"),
        ("payload.a.upper().lower().strip()", "x"),
    ],
)
def test_text_has_a_few_methods(expression: str, result: JSON) -> None:
    assert of(expression, {"a": "x"}) == result


@pytest.mark.parametrize("method", TEXT_METHODS)
@pytest.mark.parametrize("payload", [None, 5, True, ["a"], {"a": "b"}])
def test_text_methods_are_for_text_alone(method: str, payload: JSON) -> None:
    arguments = (
        "'a', 'b'" if method == "replace" else "" if method in ("lower", "upper", "strip", "split") else "'a'"
    )

    assert f"{method} needs text, got" in failure(f"payload.{method}({arguments})", payload)


@pytest.mark.parametrize(
    "expression",
    [
        "'a'.upper(1)",
        "'a'.split('')",
        "'a'.startswith(1)",
        "'a'.split('b', 10 * 9223372036854775807)",
        "'a'.replace('a')",
    ],
)
def test_wrong_arguments_of_a_text_method_are_told(expression: str) -> None:
    assert failure(expression)


# What is missing.


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("payload.pull_request", "payload.pull_request is missing; a push has: a, l, ref"),
        ("payload.pull_request.head.sha", "payload.pull_request is missing; a push has: a, l, ref"),
        ("payload.reff", "payload.reff is missing; a push has: a, l, ref; did you mean payload.ref?"),
        ("payload.a.c", "payload.a.c is missing; payload.a has: b"),
        ("payload.a.b.c.d", "payload.a.b.c is missing; payload.a.b is null"),
        ("payload.l[5].x", "payload.l[5] is missing; payload.l is a list of 1"),
        ("payload.l[-2]", "payload.l[-2] is missing; payload.l is a list of 1"),
        ("payload[payload.ref]", "payload.main is missing; a push has: a, l, ref"),
        ("payload.l[0]['x y']", 'payload.l[0]["x y"] is missing; payload.l[0] has no fields'),
        ("headers['X-Bar']", 'headers["X-Bar"] is missing; headers has: x-foo'),
        ("(payload.l | first).id", "(…).id is missing; (…) has no fields"),
        ("payload.x ~ ''", "payload.x is missing"),
        ("payload.x + 1", "payload.x is missing"),
        ("1 - payload.x", "payload.x is missing"),
        ("-payload.x", "payload.x is missing"),
        ("not payload.x", "payload.x is missing"),
        ("payload.x or 'a'", "payload.x is missing"),
        ("'a' if payload.x else 'b'", "payload.x is missing"),
        ("payload.x == 'a'", "payload.x is missing"),
        ("'a' != payload.x", "payload.x is missing"),
        ("payload.x < 5", "payload.x is missing"),
        ("payload.x in []", "payload.x is missing"),
        ("payload.x in 'text'", "payload.x is missing"),
        ("'a' in payload.x", "payload.x is missing"),
        ("[payload.x] == ['a']", "payload.x is missing"),
        ("{'a': payload.x} == {'a': 1}", "payload.x is missing"),
        ("payload.x is string", "payload.x is missing"),
        ("payload.x is none", "payload.x is missing"),
        ("payload.x is even", "payload.x is missing"),
        ("payload.x is match('a')", "payload.x is missing"),
        ("payload.x.upper()", "payload.x is missing"),
        ("'a'.startswith(payload.x)", "payload.x is missing"),
        ("payload[payload.x]", "payload.x is missing"),
        ("payload.l[payload.x:]", "payload.x is missing"),
        ("payload.x[1:]", "payload.x is missing"),
        ("[payload.x, 1] | sort", "payload.x is missing"),
        ("[payload.x, 1] | max", "payload.x is missing"),
        ("[] | select('eq', payload.x)", "payload.x is missing"),
        ("[] | sort(reverse=payload.x)", "payload.x is missing"),
        ("[] | map('default', payload.x)", "payload.x is missing"),
        ("(payload.x | default(payload.y)).z", "payload.y is missing"),
        ("[{}] | map(attribute='id')", "(…).id is missing; (…) has no fields"),
        ("'a' if false", "an if without else has no value"),
        ("[] | first", "first: a list is empty"),
        ("'' | last", "last: text is empty"),
        ("[] | max", "empty"),
        ("'abc' | regex_search('[0-9]')", "a match of /[0-9]/ is missing"),
        # Inside lists and objects.
        ("[payload.x]", "payload.x is missing"),
        ("[1, {'a': [payload.x]}]", "payload.x is missing"),
        ("{'a': payload.x}", "payload.x is missing"),
        ("{payload.x: 1}", "payload.x is missing"),
        ("[payload.x] | to_json", "payload.x is missing"),
        ("[payload.x] | join", "payload.x is missing"),
        ("{'a': payload.x} | urlencode", "payload.x is missing"),
    ],
)
def test_in_an_argument_what_is_missing_is_an_error_with_its_path(expression: str, message: str) -> None:
    with pytest.raises(MissingField) as missing:
        of(expression, {"ref": "main", "a": {"b": None}, "l": [{}]})

    assert message in str(missing.value)
    with pytest.raises(MissingField):
        value("x ${{ " + expression + " }}", {"ref": "main", "a": {"b": None}, "l": [{}]})


NO_ARGUMENTS = [
    "abs", "capitalize", "count", "first", "float", "int", "join", "last", "length", "list", "lower",
    "from_json", "max", "min", "reverse", "round", "sort", "string", "sum", "title", "to_json", "trim",
    "unique", "upper", "urlencode", "select", "map('upper')", "replace('a', 'b')", "regex_replace('a', 'b')",
    "regex_search('a')", "reject", "int(0)", "rejectattr('a')", "selectattr('a')", "map(attribute='a')",
]  # fmt: skip


def test_every_filter_is_tried_with_what_is_missing() -> None:
    assert {name.partition("(")[0] for name in NO_ARGUMENTS} | {"default", "d"} == set(FILTERS)


@pytest.mark.parametrize("written", NO_ARGUMENTS)
def test_every_filter_but_default_says_what_is_missing(written: str) -> None:
    with pytest.raises(MissingField, match=r"payload\.x\.y is missing; payload\.x has no fields"):
        of(f"payload.x.y | {written}", {"x": {}})


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("payload.x | default('d')", "d"),
        ("payload.x | d('d')", "d"),
        ("payload.x.y.z[0].w | default('d')", "d"),
        ("payload.null | default('d')", "d"),
        ("payload.null.y.z | default('d')", "d"),
        ("payload.l[9].a | default('d')", "d"),
        ("payload['a b'] | default('d')", "d"),
        ("payload[payload.x] | default('d')", "d"),
        ("payload.x[1:] | default('d')", "d"),
        ("(payload.l | first).a.b | default('d')", "d"),
        ("('a' if false) | default('d')", "d"),
        ("('abc' | regex_search('[0-9]')) | default('d')", "d"),
        ("payload.x | default(payload.y) | default('d')", "d"),
        ("payload.x | default(null)", None),
        ("payload.x | default([])", []),
        ("(payload.x | default({})).a | default(1)", 1),
        ("payload.empty | default('d')", ""),
        ("payload.no | default('d')", False),
        ("payload.zero | default('d')", 0),
        ("payload.l | default('d')", []),
        ("[payload.x, payload.null, 1] | map('default', 'd')", ["d", "d", 1]),
        ("payload.rows | map(attribute='n', default=0)", [1, 0]),
        ("payload.x is defined", False),
        ("payload.null is defined", True),
        ("payload.x.y is undefined", True),
        ("payload.x if payload.x is defined else 'd'", "d"),
    ],
)
def test_default_is_for_missing_and_null_at_any_depth(expression: str, result: JSON) -> None:
    payload = {"null": None, "l": [], "empty": "", "no": False, "zero": 0, "rows": [{"n": 1}, {}]}

    assert of(expression, payload) == result


@pytest.mark.parametrize(
    "written", ["default", "default()", "default('a', true)", "default(otherwise='a')", "d"]
)
def test_default_takes_one_value(written: str) -> None:
    refused = refusal(f"payload.x | {written}")

    assert "default needs one value, as in x | default('')" in str(refused)
    assert refused.offset == 12


@pytest.mark.timeout(30)
def test_what_is_missing_costs_nothing_where_nobody_uses_it() -> None:
    huge = {f"field{i:06}": i for i in range(300_000)}
    template = Language().template("${{ payload.fieldx | default('') }}")
    condition = Language().condition("not payload.fieldx")

    for _ in range(1000):
        assert template.value(scope(huge)) == ""
        assert condition.is_true(scope(huge)) == (True, None)


# when and loop.


@pytest.mark.parametrize(
    ("text", "result"),
    [
        # A missing value is false and equals nothing.
        ("payload.x", False),
        ("payload.x.y.z", False),
        ("not payload.draft", True),
        ("not payload.x.y", True),
        ("payload.x == 'a'", False),
        ("payload.x == null", False),
        ("payload.x == payload.x", False),
        ("payload.x != 'a'", True),
        ("payload.x in ['a']", False),
        ("payload.x in 'abc'", False),
        ("payload.x not in ['a']", True),
        ("'a' in payload.x", False),
        ("'a' not in payload.x", True),
        ("[payload.x] == [1]", False),
        ("payload.x or payload.n", True),
        ("payload.x and payload.n", False),
        ("payload.x is defined", False),
        ("payload.x is not defined", True),
        ("payload.x is string", False),
        ("payload.x is none", False),
        ("payload.x is match('a')", False),
        ("payload.x is eq 5", False),
        ("payload.rows | selectattr('a', 'eq', payload.x)", False),
        ("payload.rows | rejectattr('a', 'eq', payload.x)", True),
        ("payload.x | default(true)", True),
        ("payload[payload.x]", False),
        ("payload.l[payload.n]", False),
        ("1 if payload.x else 0", False),
        ("true if payload.x", False),
        # Truth is JSON's, and the empty are false.
        ("payload.n", True),
        ("payload.zero", False),
        ("payload.l", False),
        ("payload.null", False),
        ("payload.null == null", True),
        ("true", True),
        ("payload.rows | selectattr('a', 'eq', 2)", False),
        ("payload.rows | selectattr('a', 'eq', 1)", True),
        ("not (payload.rows | map(attribute='a') | select('eq', 2))", True),
        ("payload.rows | map(attribute='a') == [1]", True),
        # Order.
        ("payload.n > 3", True),
        ("payload.n >= 5.0", True),
        ("payload.text < 'b'", True),
        ("payload.n < 3", False),
        ("not payload.n < 3", True),
        ("payload.l | length > 0", False),
        # Equality knows its types.
        ("payload.n == 5.0", True),
        ("payload.n == '5'", False),
        ("payload.yes == 1", False),
        ("payload.yes in [1, 'true']", False),
        ("payload.yes == true", True),
        ("1 in [true]", False),
        ("payload.rows == [{'a': 1.0}]", True),
        ("payload.rows == [{'a': true}]", False),
    ],
)
def test_in_when_a_missing_value_is_false_and_equals_nothing(text: str, result: bool) -> None:
    payload = {"n": 5, "zero": 0, "l": [], "null": None, "text": "abc", "yes": True, "rows": [{"a": 1}]}

    assert holds(text, payload) == (result, None)
    assert holds("${{ " + text + " }}", payload) == (result, None)


UNORDERED = [
    "payload.x > 3", "3 > payload.x", "payload.x <= payload.x", "payload.null < 3", "payload.null >= null",
    "payload.text > 3", "payload.n < '9'", "payload.l > []", "payload.yes > false", "payload.n > true",
    "{} < {}", "payload.n is gt payload.x", "payload.text is lt 3", "1 < payload.n < payload.x",
]  # fmt: skip
AROUND = [
    "{}", "not {}", "not not {}", "{} or true", "false or {}", "(not {}) or payload.n", "[not {}]",
    "1 if {} else 1",
]  # fmt: skip


@pytest.mark.parametrize("comparison", UNORDERED)
@pytest.mark.parametrize("around", AROUND)
def test_an_order_comparison_of_unlike_things_makes_the_whole_when_false(
    comparison: str, around: str
) -> None:
    payload = {"n": 5, "null": None, "text": "abc", "yes": True, "l": [1]}

    assert holds(around.format(f"({comparison})"), payload) == (False, None)


def test_a_comparison_that_is_not_reached_is_not_made() -> None:
    assert holds("payload.x is not defined or payload.x > 3", {}) == (True, None)
    assert holds("payload.x > 3 if payload.x is defined else true", {}) == (True, None)


def test_in_an_argument_an_order_comparison_of_unlike_things_is_an_error() -> None:
    with pytest.raises(Incomparable, match="text and a number cannot be compared with <"):
        of("payload > 3", "a")


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("payload.n | upper", "upper needs text, got a number"),
        ("not (payload.n | upper)", "upper needs text, got a number"),
        ("(payload.n | upper) or true", "upper needs text, got a number"),
        ("payload.x | length > 0", "payload.x is missing; a push has: l, n"),
        ("payload.n / 0", "division by zero"),
        ("payload.n + 'a'", "+ does not support a number and text"),
        ("1 in payload.n", "in needs a list, text or an object, got a number"),
        ("payload.l | sort", "not supported between"),
        ("payload.l[true]", "got a boolean"),
    ],
)
def test_any_other_error_makes_when_false_and_is_told(text: str, warning: str) -> None:
    result, told = holds(text, {"n": 5, "l": [1, "a"]})

    assert result is False
    assert told is not None
    assert warning in told


@pytest.mark.parametrize(
    "text", ["${{ payload.a }}", " ${{ payload.a }} ", "${{ payload.a }}\n", " payload.a\n", "payload.a"]
)
def test_a_condition_stands_with_or_without_its_braces(text: str) -> None:
    condition = Language().condition(text)

    assert condition.text == "payload.a"
    assert condition.is_true(scope({"a": 1})) == (True, None)
    assert condition.value(scope({"a": [1]})) == [1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("not ${{ payload.a }}", "found text around ${{ }}"),
        ("${{ payload.a }} and ${{ payload.b }}", "found text around ${{ }}"),
        ("${{ payload.a }}${{ payload.b }}", "found text around ${{ }}"),
        ("", "is not a valid expression"),
        (" \n", "is not a valid expression"),
        ("${{ }}", "${{ }} is empty"),
        ("payload.a payload.b", "unexpected 'payload'"),
        ("payload.a =", "is not a valid expression"),
        ("payload.a = 1", "is not a valid expression"),
        ("payload.a && true", "is not a valid expression"),
        ("payload.a, payload.b", "unexpected ','"),
        ("1 2", "unexpected"),
    ],
)
def test_a_condition_is_one_expression(text: str, says: str) -> None:
    assert says in str(refusal(text))


def test_a_loop_over_what_is_missing_is_an_error_with_its_path() -> None:
    with pytest.raises(
        MissingField, match=r"payload\.alerts is missing; a push has: alert; did you mean payload\.alert"
    ):
        Language().condition("payload.alerts").value(scope({"alert": []}))


def test_a_condition_knows_the_names_that_it_reads() -> None:
    assert Language().condition("item.a and payload.index", ALL_NAMES).names == {"item", "payload"}


# What there is: an allow-list.


@pytest.mark.parametrize(
    "name",
    [
        "range",
        "dict",
        "lipsum",
        "cycler",
        "joiner",
        "namespace",
        "self",
        "loop",
        "caller",
        "varargs",
        "kwargs",
        "context",
        "environment",
        "result",
        "undefined",
        "blocks",
        "super",
        "__builtins__",
        "__class__",
        "g",
        "config",
        "item",
        "index",
        "_",
        "Payload",
    ],
)
@pytest.mark.parametrize(
    "around", ["{}", "payload.x ~ {}", "payload.{0} | default({0})", "{}.x", "{}['x']", "[{}]"]
)
def test_there_are_no_names_but_those_of_the_event(name: str, around: str) -> None:
    refused = refusal(around.format(name))

    assert f"unknown name {name!r}" in refused.message
    assert "known: payload, headers" in str(refused.hint)
    assert refused.offset == around.format(name).rindex(name)


@pytest.mark.parametrize(
    "name", ["range", "dict", "lipsum", "cycler", "joiner", "namespace", "caller", "super"]
)
def test_there_are_no_functions(name: str) -> None:
    assert f"unknown function {name!r}" in str(refusal(f"{name}(payload)"))


def test_env_is_told_to_stand_elsewhere() -> None:
    refused = refusal("payload.a ~ env.KEY")

    assert (
        "env is available only under theeye: and sources:, as a task's id, and in secret_key"
        in refused.message
    )
    assert refused.offset == 12


def test_item_and_index_are_told_to_need_a_loop() -> None:
    assert "only in a route with loop" in str(refusal("item.a"))


@pytest.mark.parametrize("name", sorted(set(jinja2.filters.FILTERS) - set(FILTERS)))
def test_jinjas_other_filters_are_not_there(name: str) -> None:
    for expression in (f"payload | {name}", f"payload | map('{name}')", f"payload | map('map', '{name}')"):
        assert f"unknown filter {name!r}" in str(refusal(expression))


@pytest.mark.parametrize(
    "name", sorted(set(jinja2.tests.TESTS) - set(TESTS) - set("=!<>") - {"==", "!=", "<=", ">="})
)
def test_jinjas_other_tests_are_not_there(name: str) -> None:
    for expression in (
        f"payload is {name}",
        f"payload | select('{name}')",
        f"payload | rejectattr('a', '{name}')",
    ):
        assert f"unknown test {name!r}" in str(refusal(expression))


@pytest.mark.parametrize("name", [".field", ".compare", ".slice", ".text.upper", "text.upper", "==", ">"])
def test_inner_functions_cannot_be_named(name: str) -> None:
    for expression in (
        f"payload | {name}",
        f"payload | map('{name}')",
        f"payload is {name}",
        f"payload | select('{name}')",
    ):
        assert refusal(expression)


@pytest.mark.parametrize(
    ("expression", "offset", "says"),
    [
        ("payloda.a", 0, "unknown name 'payloda'; did you mean payload?"),
        ("payload.x ~  headrs.y", 13, "did you mean headers?"),
        ("payload.lenght | lenght", 17, "unknown filter 'lenght'; did you mean length?"),
        ("payload.a |\n upcase", 13, "unknown filter 'upcase'"),
        ("payload.a | uper | lower", 12, "did you mean upper?"),
        ("payload.numbr is numbr", 17, "unknown test 'numbr'; did you mean number?"),
        ("payload.numbr is not numbr", 21, "unknown test 'numbr'; did you mean number?"),
        ("payload | map('uper')", 10, "unknown filter 'uper'; did you mean upper?"),
        ("payload | select('odds')", 10, "unknown test 'odds'; did you mean odd?"),
        ("'x' ~ payload.a.uper()", 16, "did you mean upper?"),
        (
            "payload | regex_search('(')",
            10,
            "expression '(': missing ): (; the syntax is RE2's",
        ),
        ("payload is match('[')", 11, "invalid regular expression"),
        ("payload ** 2", 0, "** is not part of the expression language"),
        ("payload | map", 10, "map needs the name of a filter in quotes"),
        ("payload | selectattr", 10, "selectattr needs the name of a field in quotes"),
        ("payload | replace('a')", 10, "replace: missing a required argument: 'new'"),
        ("payload | length(1)", 10, "length: too many positional arguments"),
        ("payload | join(sep=',')", 10, "join: got an unexpected keyword argument 'sep'"),
        ("payload | join(context=1)", 10, "join: multiple values for argument 'context'"),
        ("payload is divisibleby", 11, "divisibleby: missing a required argument"),
        ("1e999", 0, "a number is too large for JSON"),
        ("18446744073709551616", 0, "a whole number has more than 64 bits"),
        (r"'a\ud800'", 0, "lone surrogate"),
        (r"payload['\udfff']", 0, "lone surrogate"),
        (r"payload['\udfff'].get('a')", 0, "lone surrogate"),
        (r"payload.get('\udfff')", 0, "lone surrogate"),
        (r"payload | map('default', '\ud83d\ude00')", 0, "lone surrogate"),
        (r"payload is search('\ud800')", 11, "lone surrogate"),
        ("payload == '\ud800'", 12, "lone surrogate"),
    ],
)
def test_a_mistake_is_told_at_its_place_with_a_guess(expression: str, offset: int, says: str) -> None:
    refused = refusal(expression)

    assert says in str(refused)
    assert refused.offset == offset
    assert str(refused).encode()


def test_a_place_counts_from_the_start_of_the_whole_text() -> None:
    text = "é ${{ payload.a }} ${{  payload.b | uper }}"

    with pytest.raises(ExpressionError) as refused:
        Language().template(text)

    assert refused.value.offset == text.index("uper")


def test_half_a_surrogate_pair_in_text_is_refused() -> None:
    with pytest.raises(ExpressionError, match="lone surrogate") as refused:
        Language().template("ab\ud800 ${{ payload }}")

    assert refused.value.offset == 2


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("[3, 1, 2] | sort", [1, 2, 3]),
        ("[3, 1, 2] | sort(reverse=true)", [3, 2, 1]),
        ("payload.rows | sort(attribute='n') | map(attribute='n')", [1, 2]),
        ("['b', 'A'] | sort | join(',')", "A,b"),
        ("[3, 1] | max", 3),
        ("payload.rows | min(attribute='n')", {"n": 1, "o": {"p": "x"}}),
        ("[1, 2.5] | sum", 3.5),
        ("payload.rows | sum(attribute='n')", 3),
        ("[1] | sum(start=2)", 3),
        ("-5 | abs", 5),
        ("2.567 | round(1)", 2.6),
        ("2.5 | round(0, 'ceil')", 3.0),
        ("1234 | round(-2)", 1200),
        ("['a', 'b'] | first", "a"),
        ("['a', 'b'] | last", "b"),
        ("'ab' | first", "a"),
        ("'ab' | last", "b"),
        ("'ab' | list", ["a", "b"]),
        ("'ab' | reverse", "ba"),
        ("[1, 2] | reverse", [2, 1]),
        ("{'b': 1, 'a': 2} | list", ["b", "a"]),
        ("{'b': 1, 'a': 2} | sort", ["a", "b"]),
        ("'abc' | length + [1] | count", 4),
        ("({'a': 1} | length) + ('é😀' | count) + ((1, 2) | length)", 5),
        ("headers | length", 1),
        ("['a', 'A', 'b'] | unique", ["a", "b"]),
        ("['a', 'A'] | unique(case_sensitive=true)", ["a", "A"]),
        ("[1, 1.0, true, '1', null, [1], [1]] | unique", [1, True, "1", None, [1]]),
        ("payload.rows | unique(attribute='o.p') | length", 1),
        ("payload.rows | map(attribute='o.p') | unique", ["x"]),
        ("payload.rows | join(', ', attribute='o.p')", "x, x"),
        ("payload.rows | selectattr('n', 'gt', 1) | map(attribute='n')", [2]),
        ("payload.rows | rejectattr('n', 'in', [2]) | map(attribute='n')", [1]),
        ("payload.rows | selectattr('o.p') | length", 2),
        ("[1, 2, 3, 4] | select('even')", [2, 4]),
        ("[1, 2, 3, 4] | reject('odd') | map('string') | join('+')", "2+4"),
        ("['ax', 'b'] | select('match', 'a')", ["ax"]),
        ("['xa', 'b'] | select('search', 'a')", ["xa"]),
        ("[['b', 'a'], ['c']] | map('sort') | map('join')", ["ab", "c"]),
        ("[['a'], ['b']] | map('map', 'upper')", [["A"], ["B"]]),
        ("(['a', 'b'] | map('upper'))[1]", "B"),
        ("['a', null] | map('default', [])", ["a", []]),
        ("['a-b', 'c'] | map('replace', '-', '')", ["ab", "c"]),
        ("['1', 'x'] | map('int', 0)", [1, 0]),
        ("'5' | int + 1", 6),
        ("'5.5' | float", 5.5),
        ("5.9 | int", 5),
        ("'x' | int(0)", 0),
        ("null | float(1.5)", 1.5),
        ("true | int(7)", 7),
        ("'a b/é' | urlencode", "a%20b/%C3%A9"),
        ("{'a': 'x y', 'b': [1], 'c': true, 'd': null} | urlencode", "a=x+y&b=%5B1%5D&c=true&d=null"),
        ("'hello world' | title", "Hello World"),
        ("'hello' | capitalize", "Hello"),
        ("'  x ' | trim", "x"),
        ("'abc123' | regex_search('[0-9]+')", "123"),
        ("'v1.2' | regex_search('v([0-9]+)')", "1"),
        ("'v' | regex_search('v([0-9]+)?')", None),
        ("'a1b22' | regex_replace('[0-9]+', '#')", "a#b#"),
        (r"'key=value' | regex_replace('(\\w+)=(\\w+)', '\\2=\\1\\\\é')", "value=key\\é"),
        ("'abc' | regex_replace('', '-')", "-a-b-c-"),
        ("'main' is match('ma') and 'main' is not match('in')", True),
        ("'main' is search('in')", True),
        ("5 is number and true is not number and true is boolean", True),
        ("5 is integer and 5.0 is float and 'a' is string and {} is mapping and [] is sequence", True),
        ("4 is even and 3 is odd and 9 is divisibleby(3) and 1.5 is not odd", True),
        ("null is none and true is true and false is false", True),
        ("1 is lt 2 and 2 is ge 2 and 1 is le 1 and 1 is ne true and 1 is eq 1.0 and 1 is equalto 1", True),
        ("'a' is in ['a']", True),
    ],
)
def test_filters_and_tests_work_on_json(expression: str, result: JSON) -> None:
    payload = {"rows": [{"n": 1, "o": {"p": "x"}}, {"n": 2, "o": {"p": "x"}}]}

    assert of(expression, payload) == result
    assert orjson.dumps(of(expression, payload)) == orjson.dumps(result)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("'x' | int", "int: the text 'x' is not a number; int(0) would give 0 instead"),
        (f"'{61 * 'x'}' | int", "int: text is not a number"),
        ("null | float", "float: null is not a number"),
        ("true | int", "int: a boolean is not a number"),
        ("(1e308 * 10) | int", "not a number"),
        ("true | abs", "abs needs a number, got a boolean"),
        ("'a' | round", "round needs a number, got text"),
        ("1.5 | round('a')", "round needs a whole number of decimals"),
        ("1.5 | round(true)", "round needs a whole number of decimals"),
        ("1.5 | round(1, 'up')", "method must be"),
        ("[1, true] | sum", "sum needs a number, got a boolean"),
        ("['a'] | sum(start='')", "sum needs a number, got text"),
        ("5 | length", "length needs a list, got a number"),
        ("null | join", "join needs a list, got null"),
        ("'ab' | join", "join needs a list, got text"),
        ("[1] | join(5)", "join needs text, got a number"),
        ("5 | urlencode", "urlencode needs text, got a number"),
        ("5 | upper", "upper needs text, got a number"),
        ("5 | list", "list needs a list, got a number"),
        ("[1, 'a'] | max", "not supported between"),
        ("'a' is even", "even needs a number, got text"),
        ("true is odd", "odd needs a number, got a boolean"),
        ("5 is divisibleby(0)", "nothing is divisible by 0"),
        ("5 is divisibleby('a')", "divisibleby needs a number"),
        ("5 is match('a')", "match needs text, got a number"),
        ("5 in 5", "in needs a list, text or an object, got a number"),
        ("[1][1.0]", "got a number"),
        ("{'true': 1}[true]", "got a boolean"),
        ("[1, 2][true]", "got a boolean"),
        ("[1]['a':]", "a slice needs whole numbers, got text"),
        ("[1][::0]", "slice step cannot be zero"),
        ("{}[1:]", "a slice needs text or a list, got an object"),
        ("-true", "- does not support a boolean"),
        ("+'a'", "+ does not support text"),
        ("1 // 0", "by zero"),
        ("1.5 % 0", "modulo"),
        ("[1] - [1]", "- does not support a list and a list"),
    ],
)
def test_what_does_not_go_together_is_told(expression: str, says: str) -> None:
    assert says in failure(expression)


LIST_FILTERS = [
    "map('upper')", "map(attribute='a')", "select", "reject", "select('eq', 'a')", "selectattr('a')",
    "rejectattr('a')", "sort", "max", "min", "unique", "sum", "join",
]  # fmt: skip


@pytest.mark.parametrize("written", LIST_FILTERS)
@pytest.mark.parametrize("payload", ["text", 5, True, None], ids=repr)
def test_what_is_for_lists_takes_no_text_apart(written: str, payload: JSON) -> None:
    assert "needs a list, got" in failure(f"payload | {written}", payload)


@pytest.mark.parametrize("operator", ["*", "%", "-", "/", "//"])
@pytest.mark.parametrize(
    ("left", "right"),
    [("'a'", "5"), ("5", "'a'"), ("'%d'", "5"), ("[1]", "5"), ("5", "true"), ("null", "1"), ("'a'", "'a'")],
)
def test_star_and_percent_and_the_like_are_for_numbers_alone(operator: str, left: str, right: str) -> None:
    assert f"{operator} does not support" in failure(f"{left} {operator} {right}")


# Limits.


@pytest.mark.parametrize(
    "expression",
    [
        "payload.half ~ payload.rest",
        "payload.half ~ '' ~ payload.rest",
        "payload.half + payload.rest",
        "[payload.half, payload.rest] | join",
        "[payload.half, payload.rest[1:]] | join('x')",
        "(payload.half + 'bb' + payload.rest[2:]) | replace('bb', 'xx')",
        "(payload.half ~ 'b' ~ payload.rest[2:]).replace('b', 'xx')",
        "(payload.half ~ 'b' ~ payload.rest[2:]) | regex_replace('b', 'xx')",
        "payload.whole.upper()",
        "payload.whole | lower",
        "payload.whole.strip()",
        "payload.whole | trim",
        "payload.whole | title",
        "payload.whole[:]",
        "payload.whole | reverse",
        "payload.whole | string",
        "payload.whole | urlencode",
        "payload.whole | regex_search('(?s).*')",
        "payload.accents | upper",
        "payload.dotted.lower()",
        "(payload.rest2 | to_json)[:]",
        "'' ~ [payload.rest2[2:]]",
    ],
)
def test_a_text_has_at_most_a_mebibyte(expression: str) -> None:
    half = "a" * (MAX_TEXT // 2)
    fits = {
        "half": half,
        "rest": half,
        "rest2": "a" * (MAX_TEXT - 2),
        "whole": half * 2,
        # Two characters each in the other case.
        "accents": "ß" * (MAX_TEXT // 2),
        "dotted": "İ" * (MAX_TEXT // 2),
    }
    longer = {name: text + text[0] for name, text in fits.items() if name != "half"}

    assert len(of(expression, fits)) == MAX_TEXT
    assert f"at most {MAX_TEXT:,}" in failure(expression, fits | longer) or "builds more" in failure(
        expression, fits | longer
    )


def test_a_value_with_text_around_it_has_at_most_a_mebibyte() -> None:
    half = "a" * (MAX_TEXT // 2)

    assert len(value("${{ payload }}${{ payload }}", half)) == MAX_TEXT
    with pytest.raises(EvaluationError, match=f"at most {MAX_TEXT:,}"):
        value("${{ payload }}${{ payload }}.", half)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("expression", "payload"),
    [
        ("payload ~ payload", "a" * MAX_TEXT),
        ("payload + payload", "a" * MAX_TEXT),
        ("payload.replace('', payload)", "a" * MAX_TEXT),
        ("payload | replace('a', payload)", "a" * 100_000),
        ("payload | regex_replace('a', '" + "b" * 10_000 + "')", "a" * 100_000),
        ("payload | regex_replace('(?s)a.*', '" + r"\\0" * 1000 + "')", "b" + "a" * (MAX_TEXT // 2)),
        ("payload | list", "a" * (MAX_TEXT + 1)),
        ("payload | urlencode", "é" * MAX_TEXT),
        ("payload | join", ["a" * MAX_TEXT] * 500),
        ("[payload] | join", ["a" * MAX_TEXT] * 500),
        ("payload | join", [["a" * (MAX_TEXT // 2)]] * 500),
        ("payload | join('" + "b" * 10_000 + "')", [""] * 10_000),
        ("payload ~ ''", ["a" * MAX_TEXT] * 500),
        ("payload | to_json", ["a" * MAX_TEXT] * 500),
        ("payload | string", dict.fromkeys(map(str, range(500)), "a" * MAX_TEXT)),
        ("payload | urlencode", dict.fromkeys(map(str, range(500)), "a" * MAX_TEXT)),
    ],
)
def test_a_text_that_is_too_long_is_never_built(expression: str, payload: JSON) -> None:
    template = Language().template("${{ " + expression + " }}")

    def attempt() -> None:
        with pytest.raises(EvaluationError, match="characters"):
            template.value(scope(payload))

    assert memory(attempt) < 9 * MAX_TEXT


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "written",
    [
        "map('replace', 'a', payload.big)",
        "map('upper')",
        "map('replace', 'a', 'b')",
        "map('string')",
        "map('reverse')",
    ],
)
def test_all_the_texts_of_one_evaluation_have_a_limit_together(written: str) -> None:
    lists = {"l": ["a" * (MAX_TEXT // 2)] * 40, "big": "b"}
    template = Language().template("${{ payload.l | " + written + " | length }}")

    def attempt() -> None:
        with pytest.raises(EvaluationError, match=f"builds more than {MAX_TEXT_BUILT:,} characters"):
            template.value(scope(lists))

    assert memory(attempt) < MAX_TEXT_BUILT + 2 * MAX_TEXT
    lists["l"] = lists["l"][:20]
    assert template.value(scope(lists)) == 20


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("written", "payload"),
    [
        ("map('default', payload.b)", {"a": [None] * 100_000, "b": [1] * 100_000}),
        ("map('default', payload.b)", {"a": [None] * 100_000, "b": "b" * 1_000_000}),
        ("map('int', payload.b)", {"a": [None] * 100_000, "b": [1] * 100_000}),
        ("map(attribute='x', default=payload.b)", {"a": [{}] * 100_000, "b": {"c": [1] * 100_000}}),
        ("map('map', 'default', payload.b)", {"a": [[None] * 300] * 300, "b": [1] * 100_000}),
    ],
)
def test_one_value_is_not_multiplied_by_a_long_list(written: str, payload: dict[str, JSON]) -> None:
    assert "builds more than" in failure(f"payload.a | {written}", payload)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("expression", "payload"),
    [
        ("payload.a | select('in', payload.b)", {"a": list(range(200_000)), "b": [-1] * 200_000}),
        ("payload.a | reject('in', payload.b)", {"a": ["x"] * 200_000, "b": "y" * MAX_TEXT}),
        ("payload.a | map('regex_replace', '.', 'x')", {"a": ["a" * 1000] * 10_000}),
        (
            "payload.a.strip(payload.b)",
            {"a": "z" * MAX_TEXT, "b": "".join(map(chr, range(1000, 50_000))) * 20 + "z"},
        ),
        (
            "payload.a | trim(payload.b)",
            {"a": "z" * MAX_TEXT, "b": "".join(map(chr, range(1000, 50_000))) * 20 + "z"},
        ),
        ("payload.a | sum(start=payload.b)", {"a": [[1]] * 200_000, "b": []}),
        ("5 | round(-30000000)", None),
        ("1.5 | round(20000000, 'floor')", None),
        ("payload.a | round(payload.b)", {"a": 5, "b": -1_000_000_000}),
        ("payload.a is even", {"a": "%0999999999d"}),
        ("payload.a is divisibleby(3)", {"a": "%0999999999d"}),
        ("payload.a | map('upper')", {"a": "a" * 20_000_000}),
        ("payload.a | sort", {"a": "a" * 20_000_000}),
        ("payload.a | unique", {"a": "a" * 20_000_000}),
        ("payload.a | list", {"a": "a" * 20_000_000}),
        ("payload.a | int", {"a": "9" * 20_000_000}),
        ("payload.a | float", {"a": "9" * 20_000_000}),
        ("payload.a | float", {"a": "1e" + "9" * 1_000_000}),
        (" * ".join(["(payload.a | int)"] * 50), {"a": "9" * 4000}),
        (" + ".join(["payload.a"] * 40), {"a": [1] * 200_000}),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_no_event_makes_an_expression_work_for_long(expression: str, payload: JSON) -> None:
    assert len(too_much(expression, payload)) < 2000


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "expression",
    [
        "(" * 5000 + "1" + ")" * 5000,
        "[" * 5000 + "]" * 5000,
        "{'a':" * 5000 + "1" + "}" * 5000,
        "not " * 5000 + "1",
        "-" * 5000 + "1",
        "1" + " + 1" * 5000,
        "1" + " and 1" * 5000,
        "'a'" + " | upper" * 5000,
        "'a'" + ".upper()" * 5000,
        "1 if 1 else " * 5000 + "1",
        "payload" + "[payload" * 5000 + "]" * 5000,
        "'a' | default(" * 5000 + "1" + ")" * 5000,
        "9" * 5000,
        "1" * 20_000 + ".5",
    ],
    ids=lambda text: text[:12],
)
def test_an_expression_nested_too_deeply_or_too_long_is_refused(expression: str) -> None:
    assert refusal(expression).offset == 0
    with pytest.raises(ExpressionError):
        Language().template("${{ " + expression + " }}")


@pytest.mark.timeout(30)
def test_nested_comparisons_do_not_double_the_work() -> None:
    expression = "2"
    for _ in range(25):
        expression = f"(1 == {expression} == 1)"

    assert of(expression) is False


@pytest.mark.parametrize("payload", [{"a": [1]}])
def test_long_flat_expressions_are_fine(payload: JSON) -> None:
    assert of("'a'" + " ~ 'a'" * 2000) == "a" * 2001
    assert of("[" + "1, " * 2000 + "1]") == [1] * 2001
    assert of("(" * 40 + "payload.a[0]" + ")" * 40, payload) == 1


# Regular expressions are constants.


@pytest.mark.parametrize(
    "expression",
    [
        "'a' | regex_search(payload.p)",
        "'a' | regex_replace(payload.p, 'b')",
        "'a' | regex_replace('a', payload.p)",
        "'a' | regex_replace('a' ~ 'b', 'b')",
        "'a' | regex_search(5)",
        "'a' | regex_search(pattern=payload.p)",
        "'a' is match(payload.p)",
        "'a' is search('a' ~ payload.p)",
        "['a'] | map('regex_search', payload.p)",
        "['a'] | map('regex_replace', 'a', payload.p)",
        "['a'] | select('match', payload.p)",
        "['a'] | rejectattr('a', 'search', payload.p)",
        "[['a']] | map('select', 'match', payload.p)",
        "[['a']] | map('map', 'regex_search', payload.p)",
    ],
)
def test_a_regex_and_its_replacement_are_constants(expression: str) -> None:
    assert "in quotes, not a computed one" in str(refusal(expression))


@pytest.mark.parametrize(
    "expression",
    [
        "payload is match('(')",
        "payload | select('search', '(')",
        "payload | map('map', 'regex_search', '(')",
        "payload | regex_search('(?=a)')",
    ],
)
def test_a_regex_is_compiled_when_the_table_loads(expression: str) -> None:
    assert "invalid regular expression" in str(refusal(expression))


@pytest.mark.parametrize("replacement", [r"\\3", r"\\n", r"\\"])
def test_a_replacement_is_checked_when_the_table_loads(replacement: str) -> None:
    assert "has 1 groups" in str(refusal(f"payload | regex_replace('(a)', '{replacement}')"))


@pytest.mark.timeout(30)
def test_regexes_take_time_linear_in_the_events_text() -> None:
    assert holds("payload is search('(a+)+$')", "a" * 1_000_000 + "b") == (False, None)


# Event data is never evaluated.

HOSTILE = [
    "${{ 7 * 7 }}", "{{ 7 * 7 }}", "{% for x in y %}{% endfor %}",
    "{{ payload.__class__.__init__.__globals__ }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "%s%n%(a)s", "{0.__class__} {payload}", "\\1\\g<0>\\x41", "__class__", "upper", ".field", "a.b.0", "*",
    "(a+)+$", "\x00{ payload }\x00", "' ~ payload ~ '", "}} ${{ 1", "'; import os; '", "env",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_an_events_text_stays_as_it_is(text: str) -> None:
    payload = {"a": text, text: text, "l": [text]}

    assert of("payload.a", payload) == text
    assert value("<${{ payload.a }}>", payload) == f"<{text}>"
    assert of("payload[payload.a]", payload) == text
    assert of("'x'.replace('x', payload.a)", payload) == text
    assert of("payload.l | map('replace', payload.a, payload.a) | join(payload.a)", payload) == text
    assert of("payload.x | default(payload.a)", payload) == text
    assert of("payload.a in payload.l and payload.a == payload.l[0]", payload) is True
    assert of("payload.l | select('eq', payload.a) | first", payload) == text


@pytest.mark.parametrize(
    "expression",
    [
        "payload.l | map(payload.a)",
        "payload.l | map(*payload.l)",
        "payload.l | map(**payload)",
        "payload.l | map('map', payload.a)",
        "payload.l | map('select', payload.a)",
        "payload.l | map('selectattr', 'a', payload.a)",
        "payload.l | map(attribute=payload.a)",
        "payload.l | map('map', attribute=payload.a)",
        "payload.l | select(payload.a)",
        "payload.l | reject(*payload.l)",
        "payload.l | selectattr(payload.a)",
        "payload.l | rejectattr('a', payload.a)",
        "payload.l | sort(attribute=payload.a)",
        "payload.l | sort(false, false, payload.a)",
        "payload.l | sum(payload.a)",
        "payload.l | unique(false, payload.a)",
        "payload.l | min(attribute=payload.a)",
        "payload.l | join(',', payload.a)",
        "payload is divisibleby(*payload.l)",
        "payload.a is eq(**payload)",
        "payload.a.upper(**payload)",
    ],
)
def test_an_event_chooses_no_filter_test_or_attribute(expression: str) -> None:
    assert refusal(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "payload.x.__class__.__init__.__globals__",
        "payload['__class__']",
        "payload.__class__.__mro__[1].__subclasses__",
        "''.__class__",
        "[].__class__",
        "(payload | first).__class__",
        "headers.__class__",
        "headers._values",
        "headers.without",
        "payload | map(attribute='__class__')",
        "[''] | map(attribute='__class__.__mro__')",
        "[headers] | join(attribute='_values')",
        "[payload, payload] | sort(attribute='__class__')",
        "[payload] | sum(attribute='__len__')",
        "payload.x.y._undefined_hint",
        "payload.x._why",
    ],
)
def test_no_expression_reaches_a_python_object(expression: str) -> None:
    with pytest.raises(MissingField):
        of(expression, {"a": 1})


@pytest.mark.parametrize(
    "expression",
    [
        "payload | attr('__class__')",
        "payload.x.__class__.__init__.__globals__['os'].popen('id')",
        "''.__class__.__mro__[1].__subclasses__()",
        "'{0.__class__}'.format(payload)",
        "'{0.__class__}' | format(payload)",
        "'a'.format_map(payload)",
        "'a'.join(payload)",
        "payload.update({'a': 1})",
        "payload.clear()",
        "payload.l.sort()",
        "payload | tojson",
        "payload | pprint",
        "payload | xmlattr",
        "payload | safe",
        "payload | groupby('a')",
        "payload is callable",
        "payload is sameas(payload)",
        "'upper' is filter",
        "payload.__class__('a')",
        "(lambda: 1)()",
        "[x for x in payload]",
        "payload := 1",
        "import os",
        "payload; payload",
        "_('a')",
    ],
)
def test_known_ways_out_of_a_sandbox_do_not_compile(expression: str) -> None:
    assert refusal(expression)


def test_an_evaluation_changes_nothing_of_the_event() -> None:
    payload = {"l": [3, 1, 2], "o": {"a": [1]}, "t": "x"}
    given_scope = scope(payload)
    before = orjson.dumps(payload)
    result = (
        Language()
        .template("${{ [payload.l | sort | reverse, payload.l + [4], payload.o, headers] }}")
        .value(given_scope)
    )
    result[2]["a"].append("changed")
    result[1].append("changed")

    assert orjson.dumps(payload) == before
    assert set(given_scope) == set(scope())


# What comes out is JSON.


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("1e308 * 10", "inf is not a JSON number"),
        ("'nan' | float", "nan is not a JSON number"),
        ("['-inf' | float]", "-inf is not a JSON number"),
        ("18446744073709551615 + 1", "more than 64 bits"),
        ("-9223372036854775808 - 1", "more than 64 bits"),
        ("{'a': [9223372036854775807 * 9223372036854775807]}", "more than 64 bits"),
        ("'9' * 1 if false else '99999999999999999999' | int", "more than 64 bits"),
        ("{1: 'a'}", "an object's key must be text, got a number"),
        ("{null: 'a'}", "an object's key must be text, got null"),
        ("{[1]: 'a'}", "unhashable"),
    ],
)
def test_what_is_no_json_is_an_error(expression: str, says: str) -> None:
    assert says in failure(expression)
    assert says in failure(f"'' ~ ({expression})")
    with pytest.raises(EvaluationError, match=re.escape(says)):
        value("x ${{ " + expression + " }}")


@pytest.mark.parametrize(
    "not_json",
    [
        {1, 2},
        b"bytes",
        object(),
        range(3),
        iter([1]),
        "\ud800",
        ["a\udfff"],
        {"\ud800": 1},
        {1: 2},
        float("nan"),
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0],
)
def test_what_is_no_json_in_the_event_is_an_error_too(not_json: object) -> None:
    with pytest.raises(EvaluationError):
        of("payload", not_json)
    with pytest.raises(EvaluationError):
        of("[payload]", [not_json])


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("payload | map('upper')", ["A"]),
        ("payload | select", ["a"]),
        ("payload | reverse", ["a"]),
        ("payload | unique", ["a"]),
        ("{'a': payload | map('upper')}", {"a": ["A"]}),
        ("[(1, 2)]", [[1, 2]]),
        ("headers", {"x-foo": "bar"}),
        ("18446744073709551615", 2**64 - 1),
        ("-9223372036854775808", -(2**63)),
    ],
)
def test_what_comes_out_has_jsons_own_types(expression: str, result: JSON) -> None:
    found = of(expression, ["a"])

    assert found == result
    assert type(found) is type(result)
    assert orjson.loads(orjson.dumps(found)) == result


def test_what_comes_out_is_not_nested_deeper_than_can_be_written() -> None:
    nested: JSON = "x"
    for _ in range(MAX_DEPTH - 1):
        nested = [nested]

    assert orjson.dumps(of("[payload]", nested))
    for text in (
        "${{ [[payload]] }}",
        "x${{ [[payload]] }}",
        "${{ '' ~ [[payload]] }}",
        "${{ {'a': {'b': payload}} }}",
    ):
        with pytest.raises(EvaluationError, match=f"more than {MAX_DEPTH} deep"):
            value(text, nested)


def test_a_failure_without_words_still_says_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    language = Language()
    template = language.template("${{ payload | sum }}")

    def out_of_memory(*_args: object) -> None:
        raise MemoryError

    monkeypatch.setattr("bridge.expressions.filters.require_elements", out_of_memory)

    with pytest.raises(EvaluationError, match=r"payload \| sum: MemoryError"):
        template.value(scope([]))


# Whatever is written, whatever is sent.

LETTERS = st.text("payload.ab'\"[](){}|~$ =!<>+-*/%,:0159\\\n#\x00\ud800é", max_size=25)
TEXTS = (
    LETTERS
    | LETTERS.map("${{{{ {} }}}}".format)
    | st.text(max_size=20).map("${{{{ payload.a | {} }}}}".format)
)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "items"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@pure
@given(TEXTS, JSON_VALUES)
@example("payload\r\n", None)
def test_any_text_compiles_or_is_refused_at_a_place_in_it(text: str, payload: JSON) -> None:
    language = Language()
    for compile_it in (language.template, language.condition):
        try:
            compiled = compile_it(text, ALL_NAMES)
        except ExpressionError as error:
            assert 0 <= error.offset <= len(text)
            continue
        try:
            orjson.dumps(compiled.value(scope(payload)))
        except EvaluationError as error:
            assert str(error).encode()


ATOMS = [
    "payload", "payload.a", "payload.b", "payload.items", "payload[payload.a]", "headers", "event", "'a'",
    "'%d'", "''", "0", "-1", "2.5", "true", "null", "[]", "[1, 'a']", "{'a': 1}", "(1, 2)", "[payload.x]",
]  # fmt: skip
OPERATORS = ["+", "-", "*", "/", "//", "%", "~", "and", "or", "==", "!=", "<", "<=", ">", ">=", "in"]
ASKED = set(TESTS) - {"match", "search", "in", "divisibleby", "eq", "equalto", "ne", "lt", "le", "gt", "ge"}
FORMS = [
    *(f"({{}} | {written})" for written in NO_ARGUMENTS), "({} | default({}))",
    "({} | map('default', {}))", "({} | join({}))", "({} | replace({}, {}))", "({} | round({}))",
    "({} | sort(attribute='a.0'))", "({} | int({}))", *(f"({{}} is {name})" for name in sorted(ASKED)),
    "({} is in {})", "({} is divisibleby({}))", "({} is lt {})", "({} is search('a'))",
    *(f"({{}} {operator} {{}})" for operator in OPERATORS), "(not {})", "(-{})",
    *(f"{{}}.{method}({{}})" for method in TEXT_METHODS), "({} if {})", "({} if {} else {})", "{}[{}]",
    "{}[{}:{}]", "[{}, {}]", "{{'k': {}}}", "{{{}: {}}}", "{}.a", "{}.items",
]  # fmt: skip


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> str:
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(ATOMS))
    form = draw(st.sampled_from(FORMS))
    return form.format(*(draw(expressions(depth - 1)) for _ in range(form.replace("{{", "").count("{"))))


@settings(pure, max_examples=examples(250))
@given(expressions(), JSON_VALUES)
def test_any_expression_on_any_payload_gives_json_or_an_evaluation_error(text: str, payload: JSON) -> None:
    language = Language()
    try:
        compiled = language.template("${{ " + text + " }}"), language.condition(text)
    except ExpressionError:
        return
    before = orjson.dumps(payload)
    try:
        assert orjson.dumps(compiled[0].value(scope(payload)))
    except EvaluationError as error:
        assert str(error).encode()
        assert "object at 0x" not in str(error)
    assert type(compiled[1].is_true(scope(payload))[0]) is bool
    assert orjson.dumps(payload) == before
