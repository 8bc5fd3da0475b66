"""Which arguments TheEye's agent cannot hand to the script as they are, by the stand-in's agent."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from bridge.core.event import JSON
from bridge.core.task_arguments import (
    MAX_SHELL_TEXT_BYTES,
    ArgumentsType,
    argument_problem,
    arguments_problem,
    wire_arguments,
)
from bridge.demo import agent
from bridge.demo.arguments import Argument, matched
from tests.support.examples import examples

LEGACY, AS_JSON, TEXT = ArgumentsType
RAW = pytest.mark.parametrize("arguments_type", [LEGACY, TEXT])

DROPPED = (
    "it begins like a data URL (data:…,), and TheEye's agent drops such an argument and moves the "
    "following arguments up by one; put text before it"
)


def judged(*arguments: JSON, of: ArgumentsType = LEGACY, allowed: bool = False) -> str | None:
    return arguments_problem(arguments, (), of, allow_data_urls=allowed)


def run(arguments: tuple[JSON, ...], arguments_type: ArgumentsType) -> tuple[tuple[str, ...], str | None]:
    """The texts that the stand-in's agent hands to the script, and why it cannot start it."""
    sent: list[JSON] = orjson.loads(orjson.dumps(wire_arguments(arguments, arguments_type)))
    stored = matched([Argument("any")] * len(arguments), sent, arguments_type.value)
    assert stored is not None
    given = agent.script_arguments(stored)
    return given, agent.failure(given)


class TestDataUrls:
    #: JavaScript's blanks.
    BLANKS = (
        "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
        "\u2028\u2029\u202f\u205f\u3000\ufeff"
    )
    DROPPED = (
        "data:,fix the parser",
        "data:,",
        "data:text/plain,x",
        "data:text/plain;charset=utf-8,x",
        "data:;base64,aGk=",
        "dAtA:,x",
        "  data:,x",
        f"{BLANKS}data:,x",
        *(f"{blank}data:,x" for blank in BLANKS),
        "data:\n\r\u2028anything at all,x",
        "data:no comma for 9,000 characters" + "." * 9000 + ",",
    )
    #: Which the agent's test may take for a file or not: nothing that is sure to become one.
    ODD = (
        "DATA:a/b;base64,x",
        "data:a/b;BASE64,x",
        "data:a/b;ba\u017fe64,x",
        " data:a/b;base64,x",
        "\ufeffdata:a/b;base64,x",
        "data:a/b;charset=utf-8;base64,x",
        "data:a/b;base64;base64,x",
        "data:a/;base64,x",
        "data:/b;base64,x",
        "data:a;base64,x",
        "data:a/b\n;base64,x",
        "data:a\n/b;base64,x",
        "data:a/b\\..\\c;base64,x",
        "data:a/../../c;base64,x",
        "data:a/b;base64,\u00e9",
        "data:a/b;base64,a b",
        "data:a/b;base64,aGk=\n",
        "data:a/b;base64,=aGk",
        "data:a/b;base64,,",
    )
    FILES = (
        "data:text/plain;base64,aGk=",
        "data:a/b;base64,",
        "data:Application/vnd.ms-Excel;base64,+/+/",
        "data:image/svg+xml;base64,aGkK",
        "data:a/x-b2;base64,aA==",
    )

    @RAW
    @pytest.mark.parametrize("text", DROPPED)
    def test_one_that_the_agent_drops_is_refused(self, text: str, arguments_type: ArgumentsType) -> None:
        assert run((text, "SAFE", "C"), arguments_type) == (("SAFE", "C"), None)
        assert judged("A", text, "C", of=arguments_type) == f"argument 2: {DROPPED}"
        only = f"argument 2: {DROPPED}, or send data:<media type>;base64,<base64>"
        assert judged("A", text, "C", of=arguments_type, allowed=True) == only

    @RAW
    @pytest.mark.parametrize("text", ODD)
    @pytest.mark.parametrize("allowed", [False, True])
    def test_one_that_may_be_dropped_is_refused(
        self, text: str, arguments_type: ArgumentsType, allowed: bool
    ) -> None:
        assert str(judged(text, of=arguments_type, allowed=allowed)).startswith(f"argument 1: {DROPPED}")

    @RAW
    @pytest.mark.parametrize("text", FILES)
    def test_a_file_needs_the_routes_word(self, text: str, arguments_type: ArgumentsType) -> None:
        given, failure = run((text, "SAFE"), arguments_type)
        assert (given[1:], failure) == (("SAFE",), None)
        assert given[0] != text
        assert judged(text, of=arguments_type, allowed=True) is None
        assert judged(text, of=arguments_type) == (
            "argument 1: it begins like a data URL (data:…,), and TheEye's agent turns it into a file; "
            "if you want a file, set allow_data_urls: true on the route; otherwise put text before it"
        )

    @pytest.mark.parametrize("text", [*DROPPED, *ODD, *FILES])
    def test_on_a_json_task_it_is_text(self, text: str) -> None:
        assert run((text,), AS_JSON) == ((orjson.dumps(text).decode(),), None)
        assert judged(text, of=AS_JSON) is None

    @RAW
    @pytest.mark.parametrize(
        "value",
        [
            "data", "data:", "data:;base64", "data;,", "metadata:,x", "fix data:,x", "x\ndata:,x",
            "\u200bdata:,", ["data:,x"], {"data:": ",x"}, {"a": "data:,x"}, [], {}, None, True, 5, 1.5,
        ],
        ids=repr,
    )  # fmt: skip
    def test_what_is_none(self, value: JSON, arguments_type: ArgumentsType) -> None:
        given, failure = run((value, "SAFE"), arguments_type)
        assert (len(given), failure) == (2, None)
        assert judged(value, "SAFE", of=arguments_type) is None


class TestNul:
    @RAW
    def test_in_a_text_it_is_refused(self, arguments_type: ArgumentsType) -> None:
        assert run(("a\x00b",), arguments_type)[1] is not None
        flaw = "it contains a NUL character: TheEye's agent cannot start a script with it; remove it"
        assert judged("fine", "a\x00b", of=arguments_type) == f"argument 2: {flaw}"

    @pytest.mark.parametrize("arguments_type", ArgumentsType)
    @pytest.mark.parametrize("value", [["\x00"], {"\x00": 1}, {"a": ["b\x00"]}], ids=repr)
    def test_in_a_list_or_object_it_is_written_out(self, value: JSON, arguments_type: ArgumentsType) -> None:
        (given,), failure = run((value,), arguments_type)
        assert ("\\u0000" in given, failure) == (True, None)
        assert judged(value, of=arguments_type) is None

    def test_so_it_is_in_each_text_of_a_json_task(self) -> None:
        assert run(("\x00",), AS_JSON) == (('"\\u0000"',), None)
        assert judged("\x00", of=AS_JSON) is None


class TestLength:
    @pytest.mark.parametrize(
        ("arguments_type", "character", "bytes_each", "around"),
        [
            (LEGACY, "x", 1, 2),
            (TEXT, "x", 1, 2),
            (AS_JSON, "x", 1, 4),
            (LEGACY, "é", 2, 2),
            (LEGACY, "😀", 4, 2),
            (LEGACY, "'", 5, 2),
            (AS_JSON, "'", 5, 4),
            (LEGACY, '"', 1, 2),
            (AS_JSON, '"', 2, 4),
            (LEGACY, "\n", 1, 2),
            (AS_JSON, "\n", 2, 4),
            (AS_JSON, "\x01", 6, 4),
        ],
    )
    def test_one_argument_counts_as_it_stands_in_the_shell(
        self, arguments_type: ArgumentsType, character: str, bytes_each: int, around: int
    ) -> None:
        fits = (MAX_SHELL_TEXT_BYTES - around) // bytes_each
        assert judged(character * fits, of=arguments_type) is None
        assert run((character * fits,), arguments_type)[1] is None
        size = around + bytes_each * (fits + 1)
        assert str(judged(character * (fits + 1), of=arguments_type)).startswith(
            f"argument 1: {size:,} bytes of shell text, but at most 120,000 are allowed"
        )

    @pytest.mark.parametrize("arguments_type", [LEGACY, TEXT])
    def test_all_of_a_job_count_together(self, arguments_type: ArgumentsType) -> None:
        # Two pairs of quotes and a blank.
        half = "x" * ((MAX_SHELL_TEXT_BYTES - 5) // 2)
        assert judged(half, half + "x", of=arguments_type) is None
        assert str(judged(half, half + "xx", of=arguments_type)) == (
            "the arguments together: 120,001 bytes of shell text, but at most 120,000 are allowed: "
            "TheEye's agent cannot start a script with more; "
            "send an id, and let the script fetch the rest"
        )

    def test_many_short_ones_count_their_quotes_and_blanks(self) -> None:
        assert judged(*[""] * 40_000) is None
        assert judged(*[""] * 40_001) is not None

    @pytest.mark.parametrize("arguments_type", [LEGACY, AS_JSON])
    @pytest.mark.parametrize("number", [1e20, -1e20, 1e16, 1.5e-6, 1e300, 5.0, 2**63])
    def test_numbers_count_as_javascript_writes_them(
        self, number: float, arguments_type: ArgumentsType
    ) -> None:
        """orjson writes 1e20, and JavaScript 100000000000000000000."""
        value = {"texts": ["1e20", '\\"1e20'], "numbers": [number] * 20_000}
        passed = 0
        for count in range(0, 20_000, 500):
            value["numbers"] = [number] * count
            if judged(value, of=arguments_type) is None:
                passed += 1
                assert run((value,), arguments_type)[1] is None
        assert passed > 0

    def test_texts_that_look_like_numbers_count_as_they_are(self) -> None:
        assert judged(["1e20"] * ((MAX_SHELL_TEXT_BYTES - 4) // 7)) is None
        assert judged("1e20 " * ((MAX_SHELL_TEXT_BYTES - 2) // 5)) is None

    def test_numbers_of_a_text_task_are_sent_as_text_and_count_so(self) -> None:
        value = [1e20] * 19_000
        assert run((value,), TEXT) == ((orjson.dumps(value).decode(),), None)
        assert judged(value, of=TEXT) is None


#: Pieces of every kind that the rules know; these two stand for long ones.
LONG = {b"L": b"x" * 30_000, b"Q": b"'" * 9_000}
PIECES = st.sampled_from(["data:", ",", ";base64", "a/b", " ", "\ufeff", "\x00", "'", "é", "L", "Q"])
TEXTS = st.lists(PIECES, max_size=8).map("".join)
VALUES = st.recursive(
    TEXTS
    | st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)


def lengthened(arguments: list[JSON]) -> tuple[JSON, ...]:
    text = orjson.dumps(arguments)
    for short, long in LONG.items():
        text = text.replace(short, long)
    return tuple(orjson.loads(text))


@given(
    arguments=st.lists(VALUES, max_size=5),
    arguments_type=st.sampled_from(ArgumentsType),
    allowed=st.booleans(),
)
@example(arguments=["data:,x", "SAFE", "C"], arguments_type=LEGACY, allowed=False)
@example(arguments=["LLLL"], arguments_type=LEGACY, allowed=False)
@settings(deadline=None, max_examples=examples(400))
def test_what_passes_runs_with_every_argument_at_its_place(
    arguments: list[JSON], arguments_type: ArgumentsType, allowed: bool
) -> None:
    values = lengthened(arguments)
    assume(judged(*values, of=arguments_type, allowed=allowed) is None)
    texts, failure = run(values, arguments_type)
    assert (len(texts), failure) == (len(values), None)
    assert allowed or not any(text.startswith("theeye-agent-files/") for text in texts)


def test_the_reason_names_the_argument_as_far_as_the_task_does() -> None:
    bad = ("data:,",)
    assert str(arguments_problem(bad, ("commit",), LEGACY, allow_data_urls=False)).startswith(
        "commit: it begins"
    )
    assert str(arguments_problem(("a", *bad), ("commit",), LEGACY, allow_data_urls=False)).startswith(
        "argument 2: "
    )
    assert str(argument_problem("data:,", LEGACY, allow_data_urls=False)).startswith("it begins")
    assert argument_problem("fine", LEGACY, allow_data_urls=False) is None
