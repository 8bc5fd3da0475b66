"""From a body's bytes to JSON, within limits."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from time import process_time
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.core import exact_json
from bridge.core.errors import Unreadable
from bridge.core.payload import (
    FORM_SLICE_BYTES,
    MAX_FORM_FIELDS,
    MAX_JSON_DEPTH,
    MAX_JSON_VALUES,
    parse_form,
    parse_json,
)
from tests.support.examples import examples

MEBIBYTE = 1024 * 1024

#: As large as a body may be.
LARGE = 25 * MEBIBYTE

pure = settings(max_examples=examples(200), deadline=None, derandomize=True, database=None)


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return (opening * depth + closing * depth).encode()


def cost(work: Callable[[], Any]) -> tuple[float, int]:
    """Seconds of this process's time, and bytes of Python's memory at the most."""
    begun = process_time()
    tracemalloc.start()
    try:
        work()
        return process_time() - begun, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class TestJson:
    """What is JSON and what is not."""

    @pytest.mark.parametrize(
        ("body", "value"),
        [
            (b"{}", {}),
            (b" [1, 2.5, true, null] \r\n\t", [1, 2.5, True, None]),
            (b'"text"', "text"),
            (b"0", 0),
            (b'"\\u0000"', "\x00"),
            (b'"\\ud83d\\ude00"', "\U0001f600"),
            ('"Zoë"'.encode(), "Zoë"),
            (b'{"a":1,"a":2}', {"a": 2}),
            (b'"\\u2028\\u0085"', "\u2028\x85"),
            (b"\xef\xbb\xbf{}", {}),  # a byte order mark
        ],
    )
    def test_a_value_of_any_kind(self, body: bytes, value: Any) -> None:
        assert parse_json(body) == value

    @pytest.mark.parametrize(
        "body",
        [
            b"", b" ", b"\x00", b"{", b"}", b"[1,]", b"{'a':1}", b"{a:1}", b'{"a":1}{"b":2}', b"[1]x", b'"a',
            b"tru", b"// no\n{}", b"NaN", b"Infinity", b"-Infinity", b"[NaN]", b"[1e999,NaN]", b"01",
            b"+1", b"-", b".5",
            '{"a":1}'.encode("utf-16"),
            b'"\x00"', b'"\n"', b'"\xff\n"', b'"\\x41"', b'"\\u00g0"', b'"\\ud800\\x41"', b'"\\ud8"',
        ],
    )  # fmt: skip
    def test_what_is_none(self, body: bytes) -> None:
        with pytest.raises(Unreadable, match="the body is not valid JSON"):
            parse_json(body)

    @pytest.mark.parametrize(
        ("body", "value"),
        [
            (b'"cut \\ud83d"', "cut \ufffd"),
            (b'"\\uDC00\\uD800"', "\ufffd\ufffd"),
            (b'"\\ud83d\\ude00 \\ud83d\\ud83d\\ude00"', "\U0001f600 \ufffd\U0001f600"),
            (b'"\\\\ud83d \\ud83d"', "\\ud83d \ufffd"),
            (b'{"\\ud800":1}', {"\ufffd": 1}),
            (b'"a\xffb"', "a\ufffdb"),
            (b'"a\xed\xa0\xbdb"', "a\ufffd\ufffd\ufffdb"),  # a surrogate in UTF-8
            ('{"é":1}'.encode("latin-1"), {"\ufffd": 1}),
        ],
    )
    def test_what_is_no_unicode_becomes_a_replacement_character(self, body: bytes, value: Any) -> None:
        assert parse_json(body) == value

    def test_whole_numbers_are_exact_up_to_64_bits(self) -> None:
        assert parse_json(b"18446744073709551615") == 2**64 - 1
        assert parse_json(b"-9223372036854775808") == -(2**63)

    @pytest.mark.parametrize("digits", [20, 30, 300])
    def test_larger_ones_are_read_as_every_sender_in_javascript_does(self, digits: int) -> None:
        value = parse_json(b"9" * digits)
        assert isinstance(value, float)
        assert float(value) == float("9" * digits)

    def test_very_long_numbers_are_refused_or_read_at_once(self) -> None:
        def work() -> None:
            for body in (
                b"9" * MEBIBYTE,
                b"0." + b"9" * MEBIBYTE,
                b"-" + b"1" * MEBIBYTE,
                b"1e" + b"9" * MEBIBYTE,
            ):
                try:
                    parse_json(body)
                except Unreadable:
                    continue

        seconds, _ = cost(work)
        assert seconds < 5

    @pure
    @given(st.binary(max_size=60) | st.text('{}[],:"\\u0d8e19-.nat ', max_size=60).map(str.encode))
    @example(b'{"a":')
    @example(b"18500000000000000000")
    def test_nothing_else_is_raised(self, body: bytes) -> None:
        try:
            value = parse_json(body)
        except Unreadable:
            return
        assert exact_json.loads(exact_json.dumps(value)) == value


class TestDepth:
    """How deep objects and lists may stand in each other."""

    @pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
    def test_up_to_the_limit(self, opening: str, closing: str) -> None:
        each = opening.count("[") + opening.count("{")
        body = (opening * (MAX_JSON_DEPTH // each) + "1" + closing * (MAX_JSON_DEPTH // each)).encode()
        parse_json(body)
        with pytest.raises(Unreadable, match="nested more than 64 deep"):
            parse_json(b"[" + body + b"]")

    def test_the_depth_is_the_deepest_one_not_the_first(self) -> None:
        wide = b"[" + b"[],{}," * 2000 + nested(MAX_JSON_DEPTH - 1) + b"]"
        parse_json(wide)
        with pytest.raises(Unreadable, match="nested"):
            parse_json(b"[" + b"[],{}," * 2000 + nested(MAX_JSON_DEPTH) + b"]")

    def test_brackets_in_text_are_no_depth(self) -> None:
        assert parse_json(b'["' + b"[{" * 500 + b'"]') == ["[{" * 500]

    @pytest.mark.parametrize("depth", [65, 1000, 1024, 1025, 5000, 100_000])
    def test_deeper_ones_are_refused(self, depth: int) -> None:
        for body in (nested(depth), nested(depth, '{"a":', "}").replace(b":}", b":1}"), b"[" * depth):
            with pytest.raises(Unreadable):
                parse_json(body)


class TestValues:
    """How many values a body may hold."""

    def test_up_to_the_limit(self) -> None:
        body = b"[" + b"1," * (MAX_JSON_VALUES - 2) + b"1]"
        assert len(parse_json(body)) == MAX_JSON_VALUES - 1  # and the list itself
        with pytest.raises(Unreadable, match="more than 500,000 commas and brackets"):
            parse_json(body[:-1] + b",1]")

    def test_the_most_that_are_taken_cost_little(self) -> None:
        body = b"[" + b"{}," * (MAX_JSON_VALUES // 2 - 1) + b"1]"
        seconds, memory = cost(lambda: parse_json(body))
        assert seconds < 10
        assert memory < 100 * MEBIBYTE

    @pytest.mark.parametrize("unit", [b"[],", b"{},", b"0,", b'"":0,', b"[[],", b",", b"["])
    def test_a_large_body_of_small_ones_costs_nothing(self, unit: bytes) -> None:
        body = b"[" + unit * (LARGE // len(unit))

        def work() -> None:
            with pytest.raises(Unreadable, match="more than 500,000 commas and brackets"):
                parse_json(body)

        seconds, memory = cost(work)
        assert seconds < 5
        assert memory < MEBIBYTE


class TestForm:
    """``application/x-www-form-urlencoded``, as GitHub's older webhooks send."""

    @pytest.mark.parametrize(
        ("body", "fields"),
        [
            (b"payload=%7B%22a%22%3A1%7D", {"payload": '{"a":1}'}),
            (b"payload=%7b+%7D", {"payload": "{ }"}),
            (b"a=1&b=2&c=3", {"a": "1", "b": "2", "c": "3"}),
            (b"+%7B=1&%5B%22=2", {" {": "1", '["': "2"}),
            (b"a=b=c", {"a": "b=c"}),
            (b"a=", {"a": ""}),
            (b"a", {"a": ""}),
            (b"a%3Db=1%262", {"a=b": "1&2"}),
            (b"a=%00", {"a": "\x00"}),
            (b"a=Zo%C3%AB", {"a": "Zoë"}),
            (b"a=%F0%9F%98%80", {"a": "\U0001f600"}),
            (b"a=\\x41\\u0041\\N{DASH}%5C", {"a": "\\x41\\u0041\\N{DASH}\\"}),
            (b"a=%2541", {"a": "%41"}),
            (b"a=1;b=2", {"a": "1;b=2"}),
        ],
    )
    def test_names_and_values(self, body: bytes, fields: dict[str, str]) -> None:
        assert parse_form(body) == fields

    @pytest.mark.parametrize("before", range(4))
    def test_an_escape_at_the_end_of_a_slice(self, before: int) -> None:
        plain = "x" * (FORM_SLICE_BYTES - before)
        assert parse_form(f"a={plain}%C3%AB%41%25+".encode()) == {"a": f"{plain}ëA% "}
        with pytest.raises(Unreadable, match="percent-encoded"):
            parse_form(f"a={plain}%4".encode())

    @pytest.mark.parametrize("body", [b"a=%", b"a=%4", b"a=%zz", b"a=%u0041", b"a=%\xff", b"%=a", b"a=%+1"])
    def test_broken_escapes(self, body: bytes) -> None:
        with pytest.raises(Unreadable, match="percent-encoded"):
            parse_form(body)

    @pytest.mark.parametrize("body", [b"a=%ff", b"a=\xff", b"a=%c3", b"a=%ed%a0%80", b"%ff=a"])
    def test_what_is_no_utf_8(self, body: bytes) -> None:
        with pytest.raises(Unreadable, match="percent-encoded UTF-8"):
            parse_form(body)

    @pytest.mark.parametrize(
        "blanks", [b"", b" ", b"\r\n\t \x0b\x0c", b"\x00", b"\xef\xbb\xbf", b"\xfe\xff\x00"]
    )
    @pytest.mark.parametrize("json", [b"{}", b"[1]", b'"a"', b'{"a":"&payload=%7B%7D&"}'])
    def test_json_is_no_form(self, blanks: bytes, json: bytes) -> None:
        with pytest.raises(Unreadable, match="begins like JSON"):
            parse_form(blanks + json)

    @pytest.mark.parametrize("body", [b"a=1&b=2&a=3", b"a=1&%61=1", b"a&a", b"&"])
    def test_a_name_stands_once(self, body: bytes) -> None:
        with pytest.raises(Unreadable, match="two fields of the same name"):
            parse_form(body)

    def test_how_many_fields(self) -> None:
        fields = {f"f{number}": "x" for number in range(MAX_FORM_FIELDS)}
        assert parse_form(urlencode(fields).encode()) == fields
        with pytest.raises(Unreadable, match="more than 10 fields"):
            parse_form(urlencode({**fields, "one": "more"}).encode())
        with pytest.raises(Unreadable, match="more than 10 fields"):
            parse_form(b"&" * LARGE)
        with pytest.raises(Unreadable, match=r"more than 1 field$"):
            parse_form(b"a=1&b=2", 1)

    @pure
    @given(st.dictionaries(st.text(), st.text(), max_size=MAX_FORM_FIELDS))
    def test_what_was_encoded_comes_out(self, fields: dict[str, str]) -> None:
        assert parse_form(urlencode(fields).encode()) == (fields or {"": ""})

    @pure
    @given(st.binary(max_size=40) | st.text("%+&=\\xuN{}41cé ", max_size=40).map(str.encode))
    def test_nothing_else_is_raised(self, body: bytes) -> None:
        try:
            fields = parse_form(body)
        except Unreadable:
            return
        assert all(isinstance(text, str) for pair in fields.items() for text in pair)

    @pytest.mark.parametrize("unit", [b"%5B%5D%2C", b"+", b"%2B", b"\\", b"=", b"%C3%A9"])
    def test_a_large_one_costs_little(self, unit: bytes) -> None:
        body = b"payload=" + unit * (LARGE // len(unit))
        seconds, memory = cost(lambda: parse_form(body))
        assert seconds < 10
        assert memory < 10 * LARGE
