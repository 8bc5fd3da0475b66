"""The request of a job, the array on the wire, and what every answer means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bridge.core.event import JSON, Headers
from bridge.core.job import Outcome
from bridge.core.secrets import Secret
from bridge.core.task_arguments import ArgumentsType, arguments_problem, wire_arguments
from bridge.demo.agent import as_json, script_arguments
from bridge.demo.arguments import Argument, elements_of, matched
from bridge.theeye.answer import MAX_ERROR_BYTES, read_answer, read_retry_after
from bridge.theeye.request import TheEye, job_request
from tests.support.examples import examples
from tests.support.tables import NOW, key_of, make_task

DATA_URL = "data:text/plain;base64,aGk="

#: The contract's values and their neighbours.
VALUES: list[JSON] = [
    "", "main", "0", "null", "false", "[]", " ", "ä\u2028😀", DATA_URL,
    None, 0, 0.0, -0.0, False, True, 5, -1, 1.5, 1e-9, 2**53,
    [], {}, [1, 2], [[]], [None], {"order": 1}, {"value": "x"}, {"order": 0, "value": ""}, {"k": 1}, {"": ""},
]  # fmt: skip


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)


def on_the_wire(values: list[JSON], arguments_type: ArgumentsType) -> list[JSON]:
    """The array as TheEye reads it out of the request's bytes."""
    request = job_request(TheEye("acme"), make_task(arguments_type=arguments_type), tuple(values))
    array: list[JSON] = orjson.loads(request.body)["task_arguments"]
    return array


def seen_by_script(
    values: list[JSON], arguments_type: ArgumentsType, declared: list[Argument] | None = None
) -> tuple[str, ...]:
    """What TheEye's own rules make of the array: the texts that the task's script gets."""
    declared = (
        [Argument(f"argument {order}") for order in range(len(values))] if declared is None else declared
    )
    body = {"task": make_task().id, "customer": "acme", "task_arguments": on_the_wire(values, arguments_type)}
    sent = elements_of(declared, body)
    assert sent is not None, "400: too few"
    stored = matched(declared, sent, arguments_type.value)
    assert stored is not None, "200, terminated: InvalidTaskArguments"
    return script_arguments(stored)


def as_it_is(value: JSON, arguments_type: ArgumentsType, order: int) -> str:
    """How a script sees a value that nothing has changed on its way."""
    if value is None:
        # The agent makes an empty argument of a null; where TheEye has made text of it, it is text.
        return "" if arguments_type is ArgumentsType.LEGACY else "null"
    if arguments_type is ArgumentsType.JSON:
        return as_json(value)
    if isinstance(value, str):
        return f"theeye-agent-files/argument-{order}" if value == DATA_URL else value
    if arguments_type is ArgumentsType.TEXT and isinstance(value, float):
        return orjson.dumps(value).decode()
    return as_json(value)


class TestTheArrayOnTheWire:
    @pytest.mark.parametrize("order", [0, 1, 2])
    @pytest.mark.parametrize("value", VALUES, ids=repr)
    @pytest.mark.parametrize("arguments_type", ArgumentsType)
    def test_the_script_sees_each_value_as_it_is(
        self, arguments_type: ArgumentsType, value: JSON, order: int
    ) -> None:
        values: list[JSON] = ["before", "between", "after", "last"]
        values[order] = value

        seen = seen_by_script(values, arguments_type)

        expected = [as_it_is(one, arguments_type, at) for at, one in enumerate(values)]
        assert list(seen) == expected

    @pytest.mark.parametrize("arguments_type", ArgumentsType)
    def test_all_of_them_at_once(self, arguments_type: ArgumentsType) -> None:
        for values in (VALUES, VALUES[::-1]):
            seen = seen_by_script(values, arguments_type)
            assert list(seen) == [as_it_is(one, arguments_type, at) for at, one in enumerate(values)]

    @pytest.mark.parametrize("value", VALUES, ids=repr)
    @pytest.mark.parametrize("arguments_type", ArgumentsType)
    def test_fixed_arguments_between_keep_their_own_value(
        self, arguments_type: ArgumentsType, value: JSON
    ) -> None:
        declared = [Argument("first"), Argument("region", fixed="eu"), Argument("third")]

        seen = seen_by_script([value, None, value], arguments_type, declared)

        first, third = (as_it_is(value, arguments_type, order) for order in (0, 2))
        assert seen == (first, "eu", third)

    @pytest.mark.parametrize("arguments_type", ArgumentsType)
    @pytest.mark.parametrize("count", [0, 1, 2, 20])
    def test_one_element_an_order_and_none_shuffled(self, arguments_type: ArgumentsType, count: int) -> None:
        values = [f"value {order}" for order in range(count)]
        assert on_the_wire([*values], arguments_type) == [
            {"order": order, "value": value} for order, value in enumerate(values)
        ]
        assert seen_by_script([*values], arguments_type) == (
            tuple(as_it_is(value, arguments_type, 0) for value in values)
        )

    @pytest.mark.parametrize("arguments_type", [ArgumentsType.LEGACY, ArgumentsType.TEXT])
    @pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**63, 2**64 - 1, -(2**63)])
    def test_a_long_number_is_not_rounded(self, arguments_type: ArgumentsType, number: int) -> None:
        """A json task cannot be told: there, text would be another value."""
        assert seen_by_script([number, "x", number], arguments_type) == (str(number), "x", str(number))

    @pytest.mark.parametrize("arguments_type", ArgumentsType)
    def test_the_documented_form_but_where_it_would_leak(self, arguments_type: ArgumentsType) -> None:
        """An empty text, null, 0 and false stand bare; of these, text is made of 0 and false first."""
        values: list[JSON] = ["main", "", None, 0, False, True, 5, [], {"order": 1}]
        wrapped: list[JSON] = ["main", True, 5, [], {"order": 1}]
        if arguments_type is ArgumentsType.TEXT:
            wrapped = ["main", "0", "false", "true", "5", "[]", '{"order":1}']

        sent = on_the_wire(values, arguments_type)

        found = {order: element for order, element in enumerate(sent) if isinstance(element, dict)}
        assert [element["value"] for element in found.values()] == wrapped
        assert all(element["order"] == order for order, element in found.items())
        bare = [(order, element) for order, element in enumerate(sent) if order not in found]
        assert bare == (
            [(1, ""), (2, None)] + [(3, 0), (4, False)] * (arguments_type is not ArgumentsType.TEXT)
        )

    @pytest.mark.parametrize("arguments_type", ArgumentsType)
    def test_objects_and_lists_are_never_bare(self, arguments_type: ArgumentsType) -> None:
        values: list[JSON] = [value for value in VALUES if isinstance(value, list | dict)]
        for element in on_the_wire(values, arguments_type):
            assert set(element) == {"order", "value"}

    @given(
        value=ANYTHING,
        arguments_type=st.sampled_from(ArgumentsType),
        order=st.integers(0, 2),
    )  # fmt: skip
    @settings(deadline=None, max_examples=examples(300))
    def test_whatever_the_value(self, value: JSON, arguments_type: ArgumentsType, order: int) -> None:
        values: list[JSON] = ["a", "b", "c"]
        values[order] = value

        assume(arguments_problem(tuple(values), (), arguments_type, allow_data_urls=False) is None)

        seen = seen_by_script(values, arguments_type)

        assert len(seen) == 3
        if arguments_type is ArgumentsType.TEXT and not isinstance(value, str):
            assert orjson.loads(seen[order]) == value
        else:
            assert seen[order] == as_it_is(value, arguments_type, order)


class TestRequest:
    KEY = '/?#%&=+ "ä' * 5 + "k" * 14

    def test_its_url_holds_the_key_and_the_customer_quoted(self) -> None:
        task = make_task(secret_key=Secret(self.KEY))
        request = job_request(TheEye("a&b c/ä", "https://eye.example/base"), task, ())

        url = urlsplit(request.url)
        assert (url.scheme, url.netloc, url.fragment) == ("https", "eye.example", "")
        assert url.path == ("/base/job/secret/" + "%2F%3F%23%25%26%3D%2B%20%22%C3%A4" * 5 + "k" * 14)
        assert parse_qs(url.query, strict_parsing=True) == {"customer": ["a&b c/ä"]}

    def test_its_body_names_task_and_customer_and_always_has_arguments(self) -> None:
        request = job_request(TheEye("acme"), make_task(), ())

        assert request.url == f"https://api.theeye.io/job/secret/{key_of(make_task())}?customer=acme"
        assert orjson.loads(request.body) == {
            "task": make_task().id,
            "customer": "acme",
            "task_arguments": [],
        }

    def test_its_headers_are_those_that_theeye_wants(self) -> None:
        assert job_request(TheEye("acme"), make_task(), ()).headers == {
            "Accept": "application/json",
            "Content-Type": "application/json",
        }

    def test_a_task_without_a_key_goes_by_the_token(self) -> None:
        theeye = TheEye("a&b", "https://eye.example", access_token=Secret("marked.token~1="))
        request = job_request(theeye, make_task(secret_key=None), ("main",))

        assert request.url == request.shown_url == "https://eye.example/job?customer=a%26b"
        assert request.headers["Authorization"] == "Bearer marked.token~1="
        assert "Authorization" not in job_request(theeye, make_task(), ()).headers
        assert "marked" not in repr(request) + repr(theeye)

    @pytest.mark.parametrize("key", [KEY, "k1" * 32])
    def test_nothing_that_is_shown_holds_the_key(self, key: str) -> None:
        task = make_task(secret_key=Secret(key))
        request = job_request(TheEye("acme"), task, ("main",))

        assert request.shown_url == "https://api.theeye.io/job/secret/<secret>?customer=acme"
        for shown in (repr(request), str(request), repr(task), request.body.decode()):
            assert key not in shown
            assert request.url not in shown


JOB: dict[str, JSON] = {
    "id": "6a1f3c9a7be4b0a1c2d3e4f5",
    "lifecycle": "ready",
    "state": "in_progress",
    "output": [],
    "secret": "secret-of-the-job",
    "env": {"DATABASE_PASSWORD": "env-of-the-task"},
}

TERMINATED = JOB | {"lifecycle": "terminated", "state": "error", "output": '"InvalidTaskArguments"'}


#: What an answer must have to be taken for a job.
NEEDED = ("id", "lifecycle", "state")


def without(job: dict[str, JSON], key: str) -> dict[str, JSON]:
    return {name: value for name, value in job.items() if name != key}


def answered(status: int, body: object = b"", headers: dict[str, str] | None = None) -> Any:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return read_answer(status, Headers((headers or {}).items()), data, NOW, 0.25)


def expected_outcome(status: int) -> Outcome:
    """The table of design §6, said once more."""
    if status in (407, 425, 429, 503):
        return Outcome.UNAVAILABLE
    if status != 408 and 300 <= status < 500:
        return Outcome.REFUSED
    return Outcome.UNKNOWN


class TestStatus:
    @pytest.mark.parametrize(
        "body",
        [b"", JOB, "text", b"<html>\n <b>Bad</b>\n</html>", b"\xff\xfe"],
        ids=["nothing", "a job", "a text", "HTML", "no text"],
    )
    def test_every_status_but_200(self, body: object) -> None:
        statuses = [status for status in range(100, 600) if status != 200]
        verdicts = {status: answered(status, body, {"Retry-After": "7"}) for status in statuses}

        found = {status: verdict.outcome for status, verdict in verdicts.items()}
        assert found == {status: expected_outcome(status) for status in statuses}
        for status, verdict in verdicts.items():
            assert verdict.theeye_job_id is None
            assert verdict.detail.startswith(str(status))
            again = verdict.outcome in (Outcome.UNAVAILABLE, Outcome.UNKNOWN)
            assert verdict.retry_after == (7.0 if again else None)

    @pytest.mark.parametrize("status", [201, 202, 204, 206, 303, 500])
    def test_only_a_200_is_read_as_a_job(self, status: int) -> None:
        assert answered(status, JOB).theeye_job_id is None

    def test_a_redirect_says_what_to_do(self) -> None:
        verdict = answered(303, b"", {"Location": "/job/1/secret/the-secret/result"})
        assert verdict.detail == "303, a redirect, which is never followed; check theeye.url"


class Test200:
    def test_a_job_that_runs(self) -> None:
        verdict = answered(200, JOB)
        assert (verdict.outcome, verdict.detail, verdict.theeye_job_id) == (Outcome.ACCEPTED, "", JOB["id"])
        assert verdict.retry_after is None

    def test_a_job_that_waits_for_a_person(self) -> None:
        verdict = answered(200, JOB | {"lifecycle": "onhold"})
        assert (verdict.outcome, verdict.theeye_job_id) == (Outcome.ACCEPTED, JOB["id"])
        assert verdict.detail == (
            "the job waits at TheEye for a person. If TheEye asks for an approval, the job then "
            "runs with its arguments. If it asks for input, the arguments are lost"
        )

    @pytest.mark.parametrize(
        "change",
        [
            {},
            {"state": "in_progress"},
            {"lifecycle": "ready"},
            {"lifecycle": "onhold"},
        ],
        ids=["both", "terminated alone", "error alone", "error and onhold"],
    )
    def test_a_job_that_will_never_run(self, change: dict[str, str]) -> None:
        verdict = answered(200, TERMINATED | change)
        assert (verdict.outcome, verdict.theeye_job_id) == (Outcome.REFUSED, JOB["id"])
        assert verdict.detail == "200, but the job will never run: InvalidTaskArguments"

    @pytest.mark.parametrize(
        ("output", "said"),
        [
            ("InvalidTaskArguments", ": InvalidTaskArguments"),
            ('"\\"twice\\""', ': "twice"'),
            ({"message": "no"}, ': {"message":"no"}'),
            (["a", 1], ': ["a",1]'),
            (None, ""),
            ("", ""),
            ("7", ": 7"),
        ],
    )
    def test_its_output_says_why(self, output: JSON, said: str) -> None:
        assert (
            answered(200, TERMINATED | {"output": output}).detail == f"200, but the job will never run{said}"
        )

    def test_without_output_it_is_refused_all_the_same(self) -> None:
        assert answered(200, without(TERMINATED, "output")).outcome is Outcome.REFUSED

    @pytest.mark.parametrize(
        "body",
        [b"", b"OK", b"<html></html>", b"{", b'{"id": "1"', b"\xef\xbb\xbf{}", b"\xff", b"[" * 5000, b"NaN"],
    )
    def test_what_is_no_json_is_unknown(self, body: bytes) -> None:
        verdict = answered(200, body)
        assert (verdict.outcome, verdict.detail) == (Outcome.UNKNOWN, "200, but the answer cannot be read")

    @pytest.mark.parametrize(
        "body",
        [
            [], {}, [JOB], "ok", None, 1, True,
            *(without(JOB, key) for key in NEEDED),
            *(JOB | {key: odd} for key in NEEDED for odd in (None, "", 5, ["x"], {"a": 1}, True)),
            without(TERMINATED, "id"),
        ],
        ids=repr,
    )  # fmt: skip
    def test_what_is_no_job_is_unknown(self, body: JSON) -> None:
        verdict = answered(200, body)
        assert (verdict.outcome, verdict.theeye_job_id) == (Outcome.UNKNOWN, None)
        assert verdict.detail == "200, but the answer is not a job"

    @pytest.mark.parametrize("body", [JOB, TERMINATED, JOB | {"lifecycle": "onhold"}, JOB | {"id": None}])
    def test_nothing_else_of_it_is_kept(self, body: JSON) -> None:
        shown = repr(answered(200, body))
        assert "secret-of-the-job" not in shown
        assert "env-of-the-task" not in shown


class TestWhatAnErrorSays:
    @pytest.mark.parametrize(
        ("status", "body", "detail"),
        [
            (403, "organization is required", "403 organization is required"),
            (404, "organization not found", "404 organization not found"),
            (400, "task is required", "400 task is required"),
            (400, "task id is invalid", "400 task id is invalid"),
            (404, "task not found", "404 task not found"),
            (403, "invalid secret", "403 invalid secret"),
            (500, "Internal Server Error", "500 Internal Server Error"),
            (
                400,
                {"statusCode": 400, "message": "Invalid Task Arguments. An array of length 3 is required."},
                "400 Invalid Task Arguments. An array of length 3 is required.",
            ),
            (400, {"code": "InvalidContent", "message": "Invalid JSON: x"}, "400 Invalid JSON: x"),
            (406, {"code": "NotAcceptable", "message": "Server accepts: json"}, "406 Server accepts: json"),
            (
                401,
                {"name": "a", "message": "authentication failed", "stack": "Error: at Bearer"},
                "401 authentication failed",
            ),
            (400, {"message": "no", "errors": [{"field": "a"}]}, '400 no: [{"field":"a"}]'),
            (400, {"errors": ["a", "b"]}, '400 ["a","b"]'),
            (400, {"message": '"wrapped"', "errors": None}, "400 wrapped"),
            (400, {"message": {"a": 1}}, '400 {"a":1}'),
            (400, {"other": 1}, "400"),
            (400, '"in JSON twice"', "400 in JSON twice"),
            (400, [1, 2], "400 [1,2]"),
            (400, None, "400"),
            (400, b"", "400"),
            (502, b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n</html>\r\n",
             "502 <html> <head><title>502 Bad Gateway</title></head> </html>"),
            (413, b"  too\n\tlarge  ", "413 too large"),
            (500, b"\xff\x00\xfe", "500 \ufffd\x00\ufffd"),
            (503, b'{"message": "cut', '503 {"message": "cut'),
        ],
    )  # fmt: skip
    def test_both_forms_and_what_a_proxy_says(self, status: int, body: object, detail: str) -> None:
        assert answered(status, body).detail == detail

    @pytest.mark.parametrize(
        "body",
        [
            b"x" * 10**6,
            orjson.dumps("x" * 10**6),
            orjson.dumps({"message": "x" * 10**6, "errors": ["y" * 10**6]}),
            b"[" * 10**6,
            b"\xf0\x9f\x98\x80" * 10**5,
        ],
        ids=["text", "a JSON text", "an object", "nested", "cut inside of a character"],
    )  # fmt: skip
    def test_of_a_long_one_only_the_beginning(self, body: bytes) -> None:
        assert len(answered(500, body).detail) <= MAX_ERROR_BYTES + 4
        assert (
            len(answered(200, orjson.dumps(TERMINATED | {"output": body.decode()})).detail)
            <= MAX_ERROR_BYTES + 40
        )


def at(seconds: float, zone: timezone = UTC) -> str:
    """An HTTP date so many seconds from now."""
    return format_datetime(datetime.fromtimestamp(NOW, zone) + timedelta(seconds=seconds), usegmt=zone is UTC)


class TestRetryAfter:
    DAY = 86400.0

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("0", 0), ("1", 1), (" 120 ", 120), ("007", 7), ("86400", DAY), ("86401", DAY),
            ("0" * 40 + "30", 30), ("9" * 400, DAY), ("1" + "0" * 10_000, DAY),
            (at(90), 90), (at(0), 0), (at(-90), 0), (at(-1e9), 0), (at(1e9), DAY),
            (at(90, timezone(timedelta(hours=5))), 90), (at(90, timezone(-timedelta(hours=11))), 90),
            ("Wed, 21 Oct 9999 07:28:00 GMT", DAY), ("Fri, 31 Dec 9999 23:59:59 -2359", DAY),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Wed, 21 Oct 2015 07:28:00 -0000", 0),
            ("Tuesday, 14-Nov-23 22:13:50 GMT", 30), ("Tue Nov 14 22:13:50 2023", 30),
        ],
    )  # fmt: skip
    def test_seconds_and_dates(self, text: str, seconds: float) -> None:
        assert read_retry_after({"Retry-After": text}, NOW) == pytest.approx(seconds)

    @pytest.mark.parametrize(
        "text",
        ["", " ", "soon", "-5", "+5", "1.5", "1e3", "0x10", "5s", "120, 120", "٣", "²", "1 2", "None", "\x00",
         "Wed, 21 Oct 99999 07:28:00 GMT", "Wed, 41 Oct 2015 07:28:00 GMT", "Wed, 21 Oct", "9" * 400 + "x"],
    )  # fmt: skip
    def test_what_is_neither_says_nothing(self, text: str) -> None:
        assert read_retry_after({"Retry-After": text}, NOW) is None

    def test_without_one(self) -> None:
        assert read_retry_after({}, NOW) is None

    def test_in_whatever_case_the_header_comes(self) -> None:
        assert answered(503, b"", {"retry-after": "9"}).retry_after == 9

    @given(text=st.text('0123456789:,-+. GMTaebcdJnov/()"\\;é\x00', max_size=40) | st.text(max_size=20))
    @settings(deadline=None, max_examples=examples(500))
    def test_whatever_comes(self, text: str) -> None:
        found = read_retry_after({"Retry-After": text}, NOW)
        assert found is None or 0 <= found <= self.DAY


@given(status=st.integers(100, 599), body=st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
@settings(deadline=None, max_examples=examples(300))
def test_whatever_is_answered_has_an_outcome(status: int, body: bytes) -> None:
    verdict = read_answer(status, Headers(), body, NOW, 0.25)
    assert verdict.outcome is (expected_outcome(status) if status != 200 else Outcome.UNKNOWN)
    assert wire_arguments((), ArgumentsType.LEGACY) == []
