"""Field paths, what they lead to, and what is said where they lead nowhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.core.errors import ExpressionError
from bridge.core.event import JSON, Event, Headers
from bridge.core.fields import (
    EVENT_NAMES,
    ITEM_NAMES,
    Each,
    Step,
    child,
    missing_message,
    parse_path,
    path_text,
)
from bridge.core.json_values import MISSING, is_number, json_equal, json_type
from bridge.core.suggestions import did_you_mean
from tests.support.examples import examples

pure = settings(max_examples=examples(150), deadline=None, derandomize=True, database=None)

ALL_NAMES = EVENT_NAMES + ITEM_NAMES


def scope(payload: JSON, **more: JSON) -> dict[str, JSON]:
    event = Event(
        source="github",
        event="push",
        action=None,
        delivery_id="d-1",
        headers=Headers([("X-GitHub-Event", "push"), ("User-Agent", "hook")]),
        query={"team": "ops"},
        payload=payload,
        received_at=0.0,
    )
    return {**event.scope, **more}


# Several names.


PUSH: JSON = {"commits": [{"added": ["a"], "removed": []}, {"added": [], "modified": ["b", "c"]}, {}]}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("payload.commits[*].{added,modified,removed}[*]", ["a", "b", "c"]),
        ("payload.commits[0].{added,removed}", [["a"], []]),
        ("payload.commits[2].{added,removed}", MISSING),
        ("payload.commits[*].{x,y}[*]", []),
    ],
)
def test_several_names_lead_to_each_of_their_fields(text: str, values: JSON) -> None:
    assert parse_path(text).values(scope(PUSH)) == values


def test_each_choice_of_several_names_is_a_path() -> None:
    path = parse_path("payload.{a,b}[*].{c,d}")
    texts = ["payload.a[*].c", "payload.a[*].d", "payload.b[*].c", "payload.b[*].d"]

    assert [each.text for each in path.alternatives()] == texts
    assert path_text(path.root, path.steps) == path.text
    assert (path.is_single, parse_path("payload.a[0].b").is_single) == (False, True)


# Reading a path.


@pytest.mark.parametrize(
    ("text", "root", "steps"),
    [
        ("payload", "payload", ()),
        ("event", "event", ()),
        ("payload.ref", "payload", ("ref",)),
        ("payload.a._b.C9", "payload", ("a", "_b", "C9")),
        ("payload.__class__", "payload", ("__class__",)),
        ('payload["c.d"]', "payload", ("c.d",)),
        ("payload['c d']", "payload", ("c d",)),
        ('payload[ "a" ].b', "payload", ("a", "b")),
        ('payload[""]', "payload", ("",)),
        (r'payload["a\"b\\c"]', "payload", ('a"b\\c',)),
        ('payload["é😀"]', "payload", ("é😀",)),
        ('payload["*"]', "payload", ("*",)),
        ("payload.a[0]", "payload", ("a", 0)),
        ("payload.a[-1].b", "payload", ("a", -1, "b")),
        ("payload[0][1]", "payload", (0, 1)),
        ("payload.a[*]", "payload", ("a", Each())),
        ("payload[*].b[*]", "payload", (Each(), "b", Each())),
        ('headers["X-GitHub-Event"]', "headers", ("X-GitHub-Event",)),
        ('payload.a.b[0]["c.d"]', "payload", ("a", "b", 0, "c.d")),
        ("payload.a[*].{b,c}[*]", "payload", ("a", Each(), ("b", "c"), Each())),
        ("payload.{b, c, d}.e", "payload", (("b", "c", "d"), "e")),
    ],
)
def test_a_path_is_names_after_dots_and_the_rest_in_brackets(
    text: str, root: str, steps: tuple[Step, ...]
) -> None:
    path = parse_path(text)

    assert (path.text, path.root, path.steps) == (text, root, steps)


@pytest.mark.parametrize(
    ("text", "offset", "says", "hint"),
    [
        ("", 0, "expected a field path such as payload.ref", None),
        ("9payload", 0, "expected a field path", None),
        (" payload", 0, "expected a field path", None),
        ("payloads.a", 0, "unknown name 'payloads'; did you mean payload?", "payload, headers, query"),
        ("range", 0, "unknown name 'range'", "a path begins with one of"),
        ("payload.", 8, "after a dot", None),
        ("payload..a", 8, "after a dot", None),
        ("payload.a-b", 8, "got 'a-b'", 'payload["a-b"]'),
        ("payload.x.0", 10, "got '0'", "write payload.x[0]"),
        ("payload.été", 8, "letters, digits and _", 'payload["été"]'),
        ("payload.naïve", 8, "letters, digits and _", 'payload["naïve"]'),
        ('payload.a"b', 8, "got 'a\"b'", r'payload["a\"b"]'),
        ("headers.X-Foo", 8, "got 'X-Foo'", 'headers["X-Foo"]'),
        ("payload.a b", 8, "got 'a b'", 'payload["a b"]'),
        ("payload[a]", 7, "expected . or [", None),
        ("payload[٣]", 7, "expected . or [", None),
        ("payload[1", 7, "expected . or [", None),
        ("payload[**]", 7, "expected . or [", None),
        ('payload["a]', 7, "expected . or [", None),
        ("payload['it''s']", 7, "expected . or [", None),
        ("payload.a[1]b", 12, "expected . or [", None),
        ("payload/a", 7, "expected . or [", None),
        ("event.name", 5, "event has no fields: it is text or a number", "write payload.name"),
        ("delivery_id[0]", 11, "has no fields", None),
        ('payload["\ud800"]', 9, "lone surrogate", "write the character itself"),
    ],
)
def test_a_path_that_cannot_be_read_is_refused_at_its_place(
    text: str, offset: int, says: str, hint: str | None
) -> None:
    with pytest.raises(ExpressionError) as refused:
        parse_path(text)

    assert says in refused.value.message
    assert refused.value.offset == offset
    assert (hint or "") in (refused.value.hint or "")
    assert (refused.value.hint is None) == (hint is None)


@pytest.mark.parametrize("text", ["item", "item.labels.severity", "index"])
def test_item_and_index_are_there_only_where_they_are_allowed(text: str) -> None:
    assert parse_path(text, ALL_NAMES).text == text
    with pytest.raises(ExpressionError, match="unknown name"):
        parse_path(text)


def test_index_is_a_number_and_has_no_fields() -> None:
    with pytest.raises(ExpressionError, match="index has no fields: it is text or a number"):
        parse_path("index.a", ALL_NAMES)


@pure
@given(st.text(max_size=30) | st.text('payload.["*]0\\ \n', max_size=30).map("payload".__add__))
def test_any_text_is_a_path_or_an_expression_error(text: str) -> None:
    try:
        path = parse_path(text)
    except ExpressionError as error:
        assert 0 <= error.offset <= len(text)
    else:
        assert parse_path(path_text(path.root, path.steps)).steps == path.steps


STEPS = st.lists(
    st.text(max_size=8)
    | st.text("\\\"'.[]*\n a", max_size=6)
    | st.integers(-999_999_999, 999_999_999)
    | st.just(Each()),
    max_size=6,
)


@pure
@given(STEPS)
@example(["\\", '"', "\\\n", "\r\n", "\x00", ""])
def test_a_written_path_reads_as_the_same_steps(steps: list[Step]) -> None:
    path = parse_path(path_text("payload", steps))

    assert (path.root, path.steps) == ("payload", tuple(steps))


# What a path leads to.

PAYLOAD = {
    "ref": "refs/heads/main",
    "zero": 0,
    "null": None,
    "no": False,
    "text": "abc",
    "items": "a field",
    "keys": {"values": {"get": 1}},
    "list": [1, [2, 3], {"a": 4}],
    "c.d": 5,
    "0": "a name",
    "": "nameless",
    "X": 1,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("payload.ref", "refs/heads/main"),
        ("payload.zero", 0),
        ("payload.null", None),
        ("payload.no", False),
        ('payload["c.d"]', 5),
        ('payload["0"]', "a name"),
        ('payload[""]', "nameless"),
        ("payload.items", "a field"),
        ("payload.keys.values.get", 1),
        ("payload.list[0]", 1),
        ("payload.list[1][1]", 3),
        ("payload.list[-1].a", 4),
        ("payload.list[-3]", 1),
        ("query.team", "ops"),
        ("event", "push"),
        ("action", None),
        ("source", "github"),
        ("delivery_id", "d-1"),
        ("received_at", "1970-01-01T00:00:00.000000Z"),
        # Nothing is there:
        ("payload.x", MISSING),
        ("payload.x.y[0]", MISSING),
        ("payload.null.x", MISSING),
        ("payload.text.upper", MISSING),
        ("payload.text[0]", MISSING),
        ("payload.zero.real", MISSING),
        ("payload.list.append", MISSING),
        ('payload.list["0"]', MISSING),
        ("payload[0]", MISSING),
        ("payload.list[3]", MISSING),
        ("payload.list[-4]", MISSING),
        ("payload.__class__", MISSING),
        ("payload.copy", MISSING),
        ("query.token", MISSING),
    ],
)
def test_a_path_leads_to_a_field_and_never_to_what_python_has_there(text: str, value: JSON) -> None:
    found = parse_path(text).value(scope(PAYLOAD))

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("name", ["X-GitHub-Event", "x-github-event", "X-GITHUB-EVENT"])
def test_headers_are_found_in_any_case(name: str) -> None:
    assert parse_path(f'headers["{name}"]').value(scope({})) == "push"


def test_fields_of_the_payload_are_found_in_their_own_case_only() -> None:
    assert parse_path("payload.x").value(scope(PAYLOAD)) is MISSING
    assert parse_path("payload.X").value(scope(PAYLOAD)) == 1


def test_item_and_index_come_from_the_scope() -> None:
    of_item = scope({}, item={"a": [1]}, index=7)

    assert parse_path("item.a[0]", ALL_NAMES).value(of_item) == 1
    assert parse_path("index", ALL_NAMES).value(of_item) == 7
    assert parse_path("index", ALL_NAMES).value(scope({})) is MISSING


@pytest.mark.parametrize("step", [True, False])
def test_a_boolean_is_no_place_in_a_list(step: bool) -> None:
    assert child([1, 2], step) is MISSING


@pytest.mark.parametrize(
    ("text", "payload", "values"),
    [
        ("payload.a", {"a": 1}, [1]),
        ("payload.a", {"a": None}, [None]),
        ("payload.a", {}, MISSING),
        ("payload[*]", [1, None, "x"], [1, None, "x"]),
        ("payload[*]", [], []),
        ("payload[*]", {"a": 1}, MISSING),
        ("payload[*]", "text", MISSING),
        ("payload.a[*]", {}, MISSING),
        ("payload.a[*]", {"a": None}, MISSING),
        ("payload.a[*]", {"a": "text"}, MISSING),
        ("payload.a[*].b", {"a": []}, []),
        ("payload.a[*].b", {"a": [{"b": 1}, {"c": 2}, {"b": 3}]}, [1, 3]),
        ("payload.a[*].b", {"a": [{"b": None}, 5, "b", None, []]}, [None]),
        ("payload.a[*].b", {"a": [{"c": 1}]}, []),
        ("payload.a[*].b[*]", {"a": [{"b": [1, 2]}, {"b": []}, {"b": "x"}, {}, {"b": [3]}]}, [1, 2, 3]),
        ("payload.a[*].b[*]", {"a": [{}]}, []),
        ("payload[*][*]", [[1], [[2]], 3], [1, [2]]),
        ("payload[*][0]", [[1, 9], [], [2]], [1, 2]),
        ("payload[*].b[0].c[*]", [{"b": [{"c": [1]}]}, {"b": []}], [1]),
    ],
)
def test_a_star_leads_to_every_element_that_has_the_field(text: str, payload: JSON, values: JSON) -> None:
    assert parse_path(text).values(scope(payload)) == values


# What is said of what is missing.


@pytest.mark.parametrize(
    ("text", "payload", "message"),
    [
        (
            "payload.pull_request",
            {"before": 1, "after": 2},
            "payload.pull_request is missing; a push has: after, before",
        ),
        (
            "payload.pull_request.head.sha",
            {"ref": 1},
            "payload.pull_request is missing; a push has: ref",
        ),
        (
            "payload.repositry.name",
            {"repository": {}},
            "payload.repositry is missing; a push has: repository; did you mean payload.repository?",
        ),
        ("payload.a.b", {"a": {}}, "payload.a.b is missing; payload.a has no fields"),
        ("payload.a.b", {"a": None}, "payload.a.b is missing; payload.a is null"),
        ("payload.a.b", {"a": "x"}, "payload.a.b is missing; payload.a is text"),
        ("payload.a.b", {"a": True}, "payload.a.b is missing; payload.a is a boolean"),
        ("payload.a.b", {"a": 1.5}, "payload.a.b is missing; payload.a is a number"),
        ("payload.a[2].b", {"a": [1, 2]}, "payload.a[2] is missing; payload.a is a list of 2"),
        ("payload.a[*].b", {"a": "x"}, "payload.a[*] is missing; payload.a is text"),
        ("payload.a", [1], "payload.a is missing; a push is a list of 1"),
        (
            'payload.labels["team name"]',
            {"labels": {"team-name": 1}},
            'payload.labels["team name"] is missing; payload.labels has: team-name; '
            'did you mean payload.labels["team-name"]?',
        ),
        (
            'headers["X-Gitlab-Event"]',
            {},
            'headers["X-Gitlab-Event"] is missing; headers has: user-agent, x-github-event; '
            'did you mean headers["x-github-event"]?',
        ),
    ],
)
def test_a_missing_field_is_told_with_its_path_what_there_was_and_a_guess(
    text: str, payload: JSON, message: str
) -> None:
    assert missing_message(parse_path(text), scope(payload)) == message


def test_a_missing_item_is_told_without_the_loop() -> None:
    assert missing_message(parse_path("item.a", ALL_NAMES), scope({})) == "item.a is missing; item is missing"


def test_a_long_list_of_names_is_cut() -> None:
    message = missing_message(parse_path("payload.x"), scope({f"n{i:03}": 0 for i in range(50)}))

    assert "n000, n001" in message
    assert "n019, …" in message
    assert "n020" not in message


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "make",
    [
        lambda: {"k" * 2_000_000: 1},
        lambda: {f"fielt{i:06}": 0 for i in range(400_000)},
        lambda: {f"{i}" + "k" * 10_000: 0 for i in range(100)},
    ],
    ids=["one long name", "many names like it", "many long names"],
)
def test_what_is_said_stays_short_and_quick_whatever_an_event_holds(make: Callable[[], JSON]) -> None:
    payload = make()
    path = parse_path("payload.field000001")

    for _ in range(50):
        assert len(missing_message(path, scope(payload))) < 2000


# Values.


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (MISSING, "missing"),
        (None, "null"),
        (True, "a boolean"),
        (0, "a number"),
        (1.5, "a number"),
        ("", "text"),
        ([], "a list"),
        ((1,), "a list"),
        ({}, "an object"),
        (Headers(), "an object"),
    ],
)
def test_the_kind_of_a_value_is_its_json_type(value: object, words: str) -> None:
    assert json_type(value) == words


@pytest.mark.parametrize(
    ("value", "number"), [(1, True), (1.5, True), (True, False), ("1", False), (None, False)]
)
def test_booleans_are_no_numbers(value: object, number: bool) -> None:
    assert is_number(value) is number


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (5, 5.0, True),
        (2**53 + 1, float(2**53), False),
        (-0.0, 0, True),
        (1, True, False),
        (0, False, False),
        (True, True, True),
        (True, False, False),
        ("5", 5, False),
        ("a", "a", True),
        ("a", "A", False),
        (None, None, True),
        (None, False, False),
        (None, "", False),
        (MISSING, MISSING, False),
        (MISSING, None, False),
        ([1, True], [1.0, True], True),
        ([1], [True], False),
        ([1], [1, 2], False),
        ((1, 2), [1, 2], True),
        ([], {}, False),
        ([], "", False),
        ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": 1, "b": 1}, False),
        ({"a": None}, {}, False),
    ],
)
def test_equality_is_jsons_with_numbers_as_numbers(one: object, other: object, equal: bool) -> None:
    assert json_equal(one, other) is equal
    assert json_equal(other, one) is equal


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.0, 1.0, 2.5])
    | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=1), inner, max_size=3),
    max_leaves=8,
)


def typed(value: Any) -> Any:
    """The value in a form for which Python's own equality is JSON's, with 5 = 5.0."""
    if isinstance(value, list):
        return ["list", [typed(inner) for inner in value]]
    if isinstance(value, dict):
        return ["object", {name: typed(inner) for name, inner in value.items()}]
    return [json_type(value), value]


@pure
@given(JSON_VALUES, JSON_VALUES)
def test_equality_is_symmetric_and_agrees_with_json(one: JSON, other: JSON) -> None:
    assert json_equal(one, other) == json_equal(other, one) == (typed(one) == typed(other))
    assert json_equal(one, one)


@pytest.mark.parametrize(
    ("word", "guess"),
    [("payloda", "; did you mean payload?"), ("zzz", ""), ("", ""), ("payload", "; did you mean payload?")],
)
def test_a_guess_is_made_only_where_something_is_close(word: str, guess: str) -> None:
    assert did_you_mean(word, EVENT_NAMES) == guess


@pure
@given(JSON_VALUES, STEPS)
def test_no_path_raises_on_any_payload(payload: JSON, steps: list[Step]) -> None:
    path = parse_path(path_text("payload", steps))
    values = path.values(scope(payload))

    assert values is MISSING or isinstance(values, list)
    assert missing_message(path, scope(payload))
