"""What a route asks: globs, literals, regexes, lines of match, the event, when."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.core.errors import ExpressionError
from bridge.core.event import JSON, Event, Headers
from bridge.core.fields import EVENT_NAMES, ITEM_NAMES, parse_path
from bridge.core.json_text import display
from bridge.core.json_values import MISSING
from bridge.expressions.expression import Language
from bridge.routing.match import AnyOf, Condition, EventCheck, Glob, Literal, Pattern, Regex, When
from tests.support.examples import examples

pure = settings(max_examples=examples(200), deadline=None, derandomize=True, database=None)

ALL_NAMES = EVENT_NAMES + ITEM_NAMES

TRUE, FALSE, FIVE, NULL = (
    Literal(True, "true"),
    Literal(False, "false"),
    Literal(5, "5"),
    Literal(None, "null"),
)


def scope(
    payload: JSON = None, event: str = "push", action: str | None = None, **more: JSON
) -> dict[str, JSON]:
    made = Event(
        source="github",
        event=event,
        action=action,
        delivery_id="d-1",
        headers=Headers([("X-Foo", "bar")]),
        query={},
        payload=payload,
        received_at=0.0,
    )
    return {**made.scope, **more}


# Globs.


@pytest.mark.parametrize(
    ("glob", "text", "matches"),
    [
        ("main", "main", True),
        ("main", "Main", False),
        ("main", "maintenance", False),
        ("main", "domain", False),
        ("", "", True),
        ("", "a", False),
        ("refs/heads/*", "refs/heads/main", True),
        ("refs/heads/*", "refs/heads/release/1.0", True),
        ("refs/heads/*", "refs/heads/", True),
        ("refs/heads/*", "refs/tags/1", False),
        ("*", "", True),
        ("*", "a\nb\r\nc", True),
        ("*.md", "docs/a.md", True),
        ("*.md", "docs/aXmd", False),
        ("a*b*c", "a--b--c", True),
        ("a*b*c", "a--c--b", False),
        ("release/?", "release/1", True),
        ("release/?", "release/", False),
        ("release/?", "release/12", False),
        ("a?c", "a/c", True),
        ("a?c", "a\nc", True),
        ("?", "😀", True),
        ("?", "é", True),
        ("*é?", "caféX", True),
        ("MAIN*", "main", False),
        (r"\*", "*", True),
        (r"\*", "x", False),
        (r"a\**", "a*bc", True),
        (r"a\**", "abc", False),
        (r"\?", "?", True),
        (r"\?", "x", False),
        (r"\\*", "\\x", True),
        (r"\\", "\\", True),
        (r"\d", r"\d", True),
        (r"\d", "5", False),
        ("a\\", "a\\", True),
        ("*\\", "a\\", True),
        # What is special elsewhere is not special here.
        ("[ab]", "[ab]", True),
        ("[ab]", "a", False),
        ("a.c", "abc", False),
        ("a.c*", "abc", False),
        ("{a,b}", "a", False),
        ("(a|b)+*", "a", False),
        ("^a$*", "a", False),
        ("!a", "b", False),
        ("**", "a/b", True),
        ("src/**/*.js", "src/a.js", True),
        ("src/**/*.js", "src/a/b/c.js", True),
        ("src/**/*.js", "srca.js", False),
        ("src/**/a.js", "src/ba.js", False),
        ("**/a.js", "a.js", True),
        ("**/a.js", "b/a.js", True),
        ("**/a.js", "ba.js", False),
        ("src/**", "src/a/b", True),
        ("a**/b", "a/b", True),
        ("a**/b", "ab", False),
        (r"src/\**/b", "src/*x/b", True),
        (r"src/\**/b", "src/b", False),
        ("a\x00*", "a\x00b", True),
    ],
)
def test_in_a_glob_only_star_and_question_mark_are_special(glob: str, text: str, matches: bool) -> None:
    assert Glob.parse(glob).matches(text) is matches


@pytest.mark.parametrize("value", [None, True, 5, 1.5, ["main"], {"main": 1}, MISSING])
@pytest.mark.parametrize("glob", ["*", "5", "true", "null", "?"])
def test_a_glob_matches_text_alone(glob: str, value: JSON) -> None:
    assert not Glob.parse(glob).matches(value)


@pytest.mark.parametrize(
    ("glob", "exact"), [("a", True), (r"\*", True), ("a*", False), ("?", False), ("", True)]
)
def test_a_glob_is_exact_where_nothing_is_special(glob: str, exact: bool) -> None:
    assert (Glob.parse(glob).exact is not None) is exact


@pytest.mark.parametrize("glob", ["a\ud800", "a\ud800*"])
def test_half_a_surrogate_pair_in_a_glob_is_refused_at_its_place(glob: str) -> None:
    with pytest.raises(ExpressionError, match="lone surrogate") as refused:
        Glob.parse(glob)

    assert refused.value.offset == 1


@pytest.mark.timeout(30)
def test_a_glob_takes_time_linear_in_the_text() -> None:
    assert not Glob.parse("*a" * 30 + "b").matches("a" * 200_000)


@pure
@given(st.text(max_size=10).filter(lambda text: not set(text) & set("*?\\")), st.text(max_size=10))
def test_a_glob_without_specials_is_equality(glob: str, text: str) -> None:
    assert Glob.parse(glob).matches(text) is (glob == text)
    assert Glob.parse(glob).matches(glob)


def reference(glob: str, text: str) -> bool:
    """The definition, tried out letter by letter."""
    if not glob:
        return not text
    if glob[0] == "*":
        return any(reference(glob[1:], text[at:]) for at in range(len(text) + 1))
    if glob[0] == "?":
        return bool(text) and reference(glob[1:], text[1:])
    literal = glob[1] if re.match(r"\\[*?\\]", glob) else glob[0]
    rest = glob[2:] if re.match(r"\\[*?\\]", glob) else glob[1:]
    return text[:1] == literal and reference(rest, text[1:])


@pure
@given(st.text("ab/*?\\\n", max_size=7), st.text("ab/*?\\\n", max_size=7))
@example("a**b", "a/b")
@example("\\\\*", "\\")
def test_a_glob_agrees_with_its_definition(glob: str, text: str) -> None:
    assert Glob.parse(glob).matches(text) is reference(glob, text)


# Literals, regexes, lists.


@pytest.mark.parametrize(
    ("literal", "takes", "leaves"),
    [
        (TRUE, [True, "true"], [False, 1, 1.0, "True", "yes", None, [True]]),
        (FALSE, [False, "false"], [True, 0, 0.0, "", "False", None]),
        (FIVE, [5, 5.0, "5"], [6, 5.5, "5.0", "05", True, None, [5]]),
        (Literal(1, "1"), [1, 1.0, "1"], [True, "true"]),
        (Literal(0, "0"), [0, 0.0, -0.0, "0"], [False, "", None]),
        (Literal(1.5, "1.5"), [1.5, "1.5"], [1, 2, "1.50"]),
        (NULL, [None, "null"], [False, 0, "", "None", [], {}]),
    ],
)
def test_a_literal_is_that_json_value_or_the_same_text(
    literal: Literal, takes: list[JSON], leaves: list[JSON]
) -> None:
    assert [value for value in takes + leaves if literal.matches(value)] == takes
    assert not any(literal.matches(value) for value in leaves)


@pytest.mark.parametrize(
    ("regex", "value", "matches"),
    [
        ("^v[0-9]+$", "v12", True),
        ("^v[0-9]+$", "v12a", False),
        ("[0-9]", "release-1", True),
        ("(?i)wip", "A WIP", True),
        ("wip", "A WIP", False),
        ("()", "", True),
        (".", 5, False),
        (".*", None, False),
        ("a", ["a"], False),
    ],
)
def test_a_regex_searches_text_alone(regex: str, value: JSON, matches: bool) -> None:
    assert Regex.parse(regex).matches(value) is matches


def test_a_regex_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ExpressionError, match="invalid regular expression"):
        Regex.parse("(?<=a)b")


@pytest.mark.parametrize(
    ("value", "matches"),
    [("main", True), ("release/1", True), ("master", False), (5, True), ("x9", True), (None, False)],
)
def test_a_list_is_any_of_its_patterns(value: JSON, matches: bool) -> None:
    either = AnyOf((Glob.parse("main"), Glob.parse("release/*"), FIVE, Regex.parse("[0-9]$")))

    assert either.matches(value) is matches


def test_an_empty_list_of_patterns_matches_nothing() -> None:
    assert not AnyOf(()).matches("")


@pytest.mark.parametrize(
    ("pattern", "shown"),
    [
        (Glob.parse('a"*'), '"a\\"*"'),
        (TRUE, "true"),
        (NULL, "null"),
        (Regex.parse("^a"), "text with /^a/"),
        (AnyOf((Glob.parse("a"), FIVE)), 'any of "a", 5'),
    ],
)
def test_a_pattern_shows_as_the_table_says_it(pattern: Pattern, shown: str) -> None:
    assert str(pattern) == shown


# Lines of match.

MAIN = Glob.parse("main")
SRC = Glob.parse("src/*")


@pytest.mark.parametrize(
    ("path", "payload", "pattern", "is_it", "is_it_not"),
    [
        # A field that is there.
        ("payload.a", {"a": "main"}, MAIN, True, False),
        ("payload.a", {"a": "dev"}, MAIN, False, True),
        ("payload.a", {"a": None}, MAIN, False, True),
        ("payload.a", {"a": ["main"]}, MAIN, False, True),
        ("payload.a", {"a": False}, FALSE, True, False),
        ("payload.a", {"a": "false"}, FALSE, True, False),
        ("payload.a", {"a": 0}, FALSE, False, True),
        ("payload.a", {"a": 5.0}, FIVE, True, False),
        ("payload.a", {"a": None}, NULL, True, False),
        ("payload.a", {"a": "null"}, NULL, True, False),
        ("payload.a", {"a": "x"}, NULL, False, True),
        ("payload.a", {"a": "dev"}, AnyOf((MAIN, Glob.parse("dev"))), True, False),
        ("payload.a", {"a": "x"}, AnyOf((MAIN, Glob.parse("dev"))), False, True),
        ('headers["x-FOO"]', {}, Glob.parse("bar"), True, False),
        # A field that is missing matches null alone, and is not "not x" either.
        ("payload.a", {}, MAIN, False, False),
        ("payload.a", {}, Glob.parse("*"), False, False),
        ("payload.a", {}, Regex.parse("a*"), False, False),
        ("payload.a", {}, FALSE, False, False),
        ("payload.a", {}, NULL, True, False),
        ("payload.a", {}, AnyOf((MAIN, NULL)), True, False),
        ("payload.a", {}, AnyOf((MAIN, FALSE)), False, False),
        ("payload.a", None, MAIN, False, False),
        ("payload.a.b.c", {"a": "text"}, NULL, True, False),
        ("payload.a[3]", {"a": [1]}, NULL, True, False),
        # Any element; those without the field are passed over.
        ("payload.a[*]", {"a": ["dev", "main"]}, MAIN, True, False),
        ("payload.a[*]", {"a": ["dev"]}, MAIN, False, True),
        ("payload.a[*]", {"a": []}, MAIN, False, True),
        ("payload.a[*]", {}, MAIN, False, False),
        ("payload.a[*]", {"a": "main"}, MAIN, False, False),
        ("payload.a[*]", {}, NULL, True, False),
        ("payload.a[*]", {"a": [None]}, NULL, True, False),
        ("payload.a[*]", {"a": [1]}, NULL, False, True),
        ("payload.a[*].b", {"a": [{"b": "main"}, {}]}, MAIN, True, False),
        ("payload.a[*].b", {"a": [{"c": "main"}, 5]}, MAIN, False, True),
        ("payload.a[*].b", {"a": [{"c": "main"}]}, NULL, False, True),
        ("payload.a[*].b", {"a": [{"b": None}]}, NULL, True, False),
        # Stars in stars.
        ("payload.a[*].m[*]", {"a": [{"m": []}, {"m": ["x", "src/a"]}]}, SRC, True, False),
        ("payload.a[*].m[*]", {"a": [{"m": ["x"]}, {"m": ["docs/src/a"]}]}, SRC, False, True),
        ("payload.a[*].m[*]", {"a": [{"m": "src/a"}, {}]}, SRC, False, True),
        ("payload.a[*].m[*]", {"a": []}, SRC, False, True),
        ("payload.a[*].m[*]", {"b": []}, SRC, False, False),
    ],
)
def test_a_line_holds_for_its_value_and_with_not_for_none_such(
    path: str, payload: JSON, pattern: Pattern, is_it: bool, is_it_not: bool
) -> None:
    compiled = parse_path(path)

    assert Condition(compiled, pattern).passes(scope(payload)) == (is_it, None)
    assert Condition(compiled, pattern, negated=True).passes(scope(payload)) == (is_it_not, None)


def test_not_a_list_means_none_of_them() -> None:
    none_of = Condition(parse_path("payload.a"), AnyOf((MAIN, Glob.parse("dev"))), negated=True)

    assert [none_of.passes(scope({"a": value}))[0] for value in ("main", "dev", "x")] == [False, False, True]


@pytest.mark.parametrize(
    ("path", "pattern", "negated", "payload", "wanted", "found"),
    [
        ("payload.a", MAIN, False, {"a": "dev"}, '"main"', '"dev"'),
        ("payload.a", MAIN, True, {"a": "main"}, 'not "main"', '"main"'),
        ("payload.a", AnyOf((MAIN, NULL)), True, {"a": 5}, 'not any of "main", null', "5"),
        ("payload.a[*]", SRC, False, {"a": ["x", 1]}, '"src/*"', '["x",1]'),
        ("payload.a[*].b", SRC, False, {"a": [{}]}, '"src/*"', "[]"),
        ("payload.a", MAIN, False, {"b": 1}, '"main"', "payload.a is missing; a push has: b"),
        ("headers", MAIN, False, {}, '"main"', '{"x-foo":"bar"}'),
    ],
)
def test_a_line_says_what_it_wants_and_what_stands_there(
    path: str, pattern: Pattern, negated: bool, payload: JSON, wanted: str, found: str
) -> None:
    line = Condition(parse_path(path), pattern, negated)

    assert (line.subject, line.expected, line.actual(scope(payload))) == (path, wanted, found)


@pytest.mark.parametrize(
    ("path", "about_item"), [("item.a", True), ("index", True), ("payload.item", False), ("event", False)]
)
def test_a_line_about_item_or_index_is_asked_per_item(path: str, about_item: bool) -> None:
    assert Condition(parse_path(path, ALL_NAMES), MAIN).is_per_item is about_item


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2)
    ),
    max_leaves=10,
)
PATTERNS = st.sampled_from(
    [MAIN, SRC, Glob.parse("*"), TRUE, FIVE, NULL, Regex.parse("a"), AnyOf((MAIN, NULL))]
)
PATHS = st.sampled_from(
    ["payload", "payload.a", "payload[*]", "payload.a[*].b", "payload[0].b[*]", "payload.a[-1]"]
)


@pure
@given(JSON_VALUES, PATTERNS, PATHS)
def test_a_line_never_holds_with_its_not_and_never_raises(payload: JSON, pattern: Pattern, path: str) -> None:
    line = Condition(parse_path(path), pattern)
    opposite = Condition(parse_path(path), pattern, negated=True)

    assert not (line.passes(scope(payload))[0] and opposite.passes(scope(payload))[0])
    assert line.actual(scope(payload)).encode()


# The event.


@pytest.mark.parametrize(
    ("globs", "event", "action", "holds"),
    [
        # Without * and ?: the event, or event and action.
        (["push"], "push", None, True),
        (["push"], "pull_request", None, False),
        (["issues"], "issues", "opened", True),
        (["issues.opened"], "issues", "opened", True),
        (["issues.opened"], "issues", "closed", False),
        (["issues.opened"], "issues", None, False),
        (["opened"], "issues", "opened", False),
        (["Push"], "push", None, False),
        ([r"a\*"], "a*", "x", True),
        # A glob: event and action where there is an action, else the event.
        (["issues.*"], "issues", "opened", True),
        (["issues.*"], "issues", None, False),
        (["issue*"], "issues", "opened", True),
        (["issue*"], "issues", None, True),
        (["issue?"], "issues", None, True),
        (["issue?"], "issues", "opened", False),
        (["*.opened"], "issues", "opened", True),
        (["*"], "push", None, True),
        # Any of several; an action that is empty is none.
        (["push", "issues.opened"], "issues", "opened", True),
        (["push", "issues.opened"], "issues", "closed", False),
        (["issues.*"], "issues", "", False),
    ],
)
def test_an_event_is_named_alone_or_with_its_action(
    globs: list[str], event: str, action: str | None, holds: bool
) -> None:
    check = EventCheck(tuple(map(Glob.parse, globs)))

    assert check.passes(scope({}, event, action)) == (holds, None)


def test_the_check_of_the_event_says_what_it_wants_and_found() -> None:
    check = EventCheck((Glob.parse("push"), Glob.parse("issues.*")))

    assert (check.subject, check.is_per_item, check.expected) == ("event", False, "push or issues.*")
    assert check.actual(scope({}, "issues", "opened")) == "issues.opened"
    assert check.actual(scope({}, "push")) == "push"


# when.


def when(text: str) -> When:
    return When(Language().condition(text, ALL_NAMES))


@pytest.mark.parametrize(
    ("text", "holds", "warning"),
    [
        ("payload.n > 3", True, None),
        ("${{ payload.n > 3 }}", True, None),
        ("payload.n > 9", False, None),
        ("payload.missing", False, None),
        ("not payload.missing", True, None),
        ("payload.missing > 3", False, None),
        ("not payload.missing > 3", False, None),
        ("payload.n | upper", False, "when: upper needs text, got a number"),
    ],
)
def test_when_holds_or_not_and_keeps_what_went_wrong(text: str, holds: bool, warning: str | None) -> None:
    assert when(text).passes(scope({"n": 5})) == (holds, warning)


def test_when_says_what_it_wants_and_found() -> None:
    check = when("${{ payload.n > 3 }}")

    assert (check.subject, check.expected) == ("when", "payload.n > 3")
    assert check.actual(scope({"n": 5})) == "true"
    assert check.actual(scope({"n": 1})) == "false"
    assert when("payload.n | upper").actual(scope({"n": 5})) == "upper needs text, got a number"


@pytest.mark.parametrize(
    ("text", "about_item"),
    [
        ("item.a == 1", True),
        ("payload.a or index > 0", True),
        ("payload.l | map('default', item) | list", True),
        ("payload.item", False),
        ("'item' in payload", False),
    ],
)
def test_when_is_asked_per_item_where_it_names_item_or_index(text: str, about_item: bool) -> None:
    assert when(text).is_per_item is about_item


# Showing values.


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (MISSING, "missing"),
        (None, "null"),
        ("é", '"é"'),
        ({"a": [1, True]}, '{"a":[1,true]}'),
        (Headers(), "{}"),
    ],
)
def test_a_value_shows_as_json(value: Any, shown: str) -> None:
    assert display(value) == shown


def test_a_long_value_shows_cut() -> None:
    value = "x" * 1000

    assert display(value) == orjson.dumps(value).decode()[:200] + "… (1002 characters)"
