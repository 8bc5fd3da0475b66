"""The stand-in TheEye keeps the contract of TheEye's Job API: its answers, its matching, and its faults."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from bridge.core.event import Headers
from bridge.demo.agent import SCRIPT, TOO_LONG, as_json, failure, script_arguments
from bridge.demo.arguments import (
    Argument,
    ArgumentsType,
    StandInTask,
    job_of,
    matched,
)
from tests.support.theeye import Answer, Fault, Received, Records, StandIn

TOKEN = "a-user-s-access-token"
DATA_URL = "data:text/plain;base64,aGk="


def task(number: int, *arguments: str | Argument, **more: Any) -> StandInTask:
    return StandInTask(
        id=f"5f3c9a7be4b0a1c2d3e4f5{number:02}",
        secret_key=f"Key{number:02}".ljust(64, "x"),
        name=f"task {number}",
        arguments=tuple(Argument(a) if isinstance(a, str) else a for a in arguments),
        **more,
    )


FIXED = Argument("region", fixed="fixed-value-eu-west")
NONE = task(1)
ONE = task(2, "commit")
THREE = task(3, "repository", "branch", "commit")
GAP = task(4, "repository", FIXED, "commit")
BY_TYPE: dict[ArgumentsType, StandInTask] = {
    "legacy": task(7, "first", FIXED, "third"),
    "json": task(8, "first", FIXED, "third", arguments_type="json"),
    "text": task(9, "first", FIXED, "third", arguments_type="text"),
}
TASKS = (
    NONE, ONE, THREE, GAP, *BY_TYPE.values()
)  # fmt: skip
BY_TOKEN = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


HEADERS = {"Accept": "application/json", "Content-Type": "application/json"}


def send(
    stand_in: StandIn,
    path: str,
    body: object = None,
    *,
    method: str = "POST",
    headers: dict[str, str] = HEADERS,
) -> Reply:
    connection = http.client.HTTPConnection(urlsplit(stand_in.url).netloc, timeout=10)
    try:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        return Reply(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def order(to: StandInTask, elements: list[Any], **more: Any) -> dict[str, Any]:
    return {"task": to.id, "customer": "acme", "task_arguments": elements, **more}


def numbered(*values: object) -> list[dict[str, object]]:
    return [{"order": number, "value": value} for number, value in enumerate(values)]


def send_order(stand_in: StandIn, to: StandInTask, elements: list[Any], **more: Any) -> Reply:
    return send(stand_in, f"/job/secret/{to.secret_key}", order(to, elements, **more))


@pytest.fixture(autouse=True)
def silence(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is printed and nothing is logged, whatever a test does to the stand-in."""
    yield
    assert capfd.readouterr() == ("", "")
    assert caplog.get_records("call") + caplog.get_records("teardown") == []


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with StandIn(["acme", "other"], TASKS, access_token=TOKEN) as running:
        yield running


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as running:
        yield running


class TestAnswers:
    """The contract's table "Answers (seen)", row by row."""

    def test_all_right(self, stand_in: StandIn) -> None:
        reply = send_order(stand_in, THREE, numbered("acme/api", "main", "6113728f"))

        assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
        assert (reply.json["lifecycle"], reply.json["state"]) == ("ready", "in_progress")
        assert re.fullmatch("[0-9a-f]{24}", reply.json["id"])
        (job,) = stand_in.jobs
        assert (job.id, job.task_id, job.customer) == (reply.json["id"], THREE.id, "acme")
        assert job.elements == tuple(numbered("acme/api", "main", "6113728f"))
        assert job.script_arguments == ("acme/api", "main", "6113728f")

    @pytest.mark.parametrize(
        "elements",
        [
            pytest.param(
                [{"order": "0", "value": "a"}, {"order": 1, "value": "b"}, {"order": 2, "value": "c"}],
                id="text order",
            ),
            pytest.param([{"order": n, "value": "a"} for n in (1, 2, 3)], id="counted from 1"),
            pytest.param([{"order": n, "value": "a"} for n in (1, 0, 2)], id="0 not first"),
            pytest.param([{"order": n, "value": "a"} for n in (0, 1, 7)], id="wrong order"),
            pytest.param(
                [{"order": 0, "value": "a"}, {"order": True, "value": "b"}, {"order": 2}], id="boolean"
            ),
        ],
    )
    def test_arguments_that_cannot_be_matched_make_a_job_that_never_runs(
        self, stand_in: StandIn, elements: list[Any]
    ) -> None:
        reply = send_order(stand_in, THREE, elements)

        assert reply.status == 200
        assert (reply.json["state"], reply.json["lifecycle"]) == ("error", "terminated")
        assert reply.json["output"] == '"InvalidTaskArguments"'
        (job,) = stand_in.jobs
        assert (job.lifecycle, job.script_arguments) == ("terminated", None)
        assert job.elements == tuple(elements)

    @pytest.mark.parametrize(
        ("to", "given", "needed"),
        [
            (THREE, numbered("a", "b"), 3),
            (THREE, [], 3),
            (GAP, numbered("a"), 2),
            (ONE, [], 1),
            (THREE, {"0": "a", "1": "b", "2": "c"}, 3),
        ],
    )
    def test_fewer_arguments_than_the_task_needs(
        self, stand_in: StandIn, to: StandInTask, given: Any, needed: int
    ) -> None:
        reply = send_order(stand_in, to, given)

        message = f"Invalid Task Arguments. An array of length {needed} is required. Optionals must be null"
        assert (reply.status, reply.json) == (400, {"statusCode": 400, "message": message})
        assert stand_in.jobs == ()

    @pytest.mark.parametrize(("to", "gets"), [(NONE, ()), (ONE, ("a",)), (THREE, ("a", "b", "c"))])
    def test_more_arguments_than_declared_are_dropped(
        self, stand_in: StandIn, to: StandInTask, gets: tuple[str, ...]
    ) -> None:
        reply = send_order(stand_in, to, numbered("a", "b", "c", "d"))

        assert (reply.status, reply.json["lifecycle"]) == (200, "ready")
        assert stand_in.jobs[0].script_arguments == gets
        assert stand_in.jobs[0].elements == tuple(numbered("a", "b", "c", "d"))

    @pytest.mark.parametrize("arguments", [{"task_arguments": []}, {}])
    def test_a_task_without_arguments_needs_none(self, stand_in: StandIn, arguments: dict[str, Any]) -> None:
        body = {"task": NONE.id, "customer": "acme", **arguments}

        assert send(stand_in, f"/job/secret/{NONE.secret_key}", body).json["lifecycle"] == "ready"

        assert (stand_in.jobs[0].elements, stand_in.jobs[0].script_arguments) == ((), ())

    @pytest.mark.parametrize(
        ("change", "status", "text"),
        [
            ({"customer": None}, 403, "organization is required"),
            ({"customer": ""}, 403, "organization is required"),
            ({"customer": "nobody"}, 404, "organization not found"),
            ({"customer": "ACME"}, 404, "organization not found"),
            ({"customer": {"$ne": ""}}, 404, "organization not found"),
            ({"task": None}, 400, "task is required"),
            ({"task": "deploy"}, 400, "task id is invalid"),
            ({"task": "5f3c9a7be4b0a1c2d3e4f50"}, 400, "task id is invalid"),
            ({"task": "5f3c9a7be4b0a1c2d3e4f50g"}, 400, "task id is invalid"),
            ({"task": {"$ne": ""}}, 400, "task id is invalid"),
            ({"task": "000000000000000000000000"}, 404, "task not found"),
        ],
    )
    def test_names_that_are_wrong(
        self, stand_in: StandIn, change: dict[str, Any], status: int, text: str
    ) -> None:
        reply = send(stand_in, f"/job/secret/{ONE.secret_key}", order(ONE, numbered("a")) | change)

        assert (reply.status, reply.json) == (status, text)
        assert stand_in.jobs == ()

    def test_the_customer_is_looked_at_before_the_task_and_the_task_before_the_key(
        self, stand_in: StandIn
    ) -> None:
        assert send(stand_in, "/job/secret/wrong", {}).json == "organization is required"
        assert send(stand_in, "/job/secret/wrong", {"customer": "acme"}).json == "task is required"
        assert (
            send(stand_in, "/job/secret/wrong", {"customer": "acme", "task": ONE.id}).json == "invalid secret"
        )

    def test_another_organization_gets_the_job(self, stand_in: StandIn) -> None:
        reply = send_order(stand_in, ONE, numbered("a"), customer="other")

        assert (reply.status, reply.json["customer_name"]) == (200, "other")
        assert stand_in.jobs[0].customer == "other"

    def test_the_bodys_customer_wins_over_the_querys(self, stand_in: StandIn) -> None:
        path = f"/job/secret/{ONE.secret_key}?customer=other"
        in_query_alone = {"task": ONE.id, "task_arguments": numbered("a")}

        send(stand_in, path, in_query_alone)
        send(stand_in, path, {**in_query_alone, "customer": "acme"})

        assert [job.customer for job in stand_in.jobs] == ["other", "acme"]

    @pytest.mark.parametrize(
        "key", ["short", THREE.secret_key, ONE.secret_key.lower(), ONE.secret_key[:-1], ONE.secret_key + "x"]
    )
    def test_a_wrong_key(self, stand_in: StandIn, key: str) -> None:
        reply = send(stand_in, f"/job/secret/{key}", order(ONE, numbered("a")))

        assert (reply.status, reply.body) == (403, b'"invalid secret"')
        assert stand_in.jobs == ()

    def test_a_key_that_has_not_64_characters_is_wrong_even_if_the_task_has_it(self) -> None:
        short = StandInTask("5f3c9a7be4b0a1c2d3e4f501", "short", "short")
        with StandIn(["acme"], [short]) as stand_in:
            assert send_order(stand_in, short, []).json == "invalid secret"

    def test_a_trailing_slash_echoes_the_key(self, stand_in: StandIn) -> None:
        reply = send(stand_in, f"/job/secret/{ONE.secret_key}/", order(ONE, numbered("a")))

        assert reply.status == 404
        assert ONE.secret_key in reply.json["message"]
        assert stand_in.jobs == ()

    @pytest.mark.parametrize("accept", [None, "*/*", "text/html"])
    def test_accept_must_be_json(self, stand_in: StandIn, accept: str | None) -> None:
        headers = {"Content-Type": "application/json"} | ({} if accept is None else {"Accept": accept})

        reply = send(stand_in, f"/job/secret/{ONE.secret_key}", order(ONE, numbered("a")), headers=headers)

        assert (reply.status, stand_in.jobs) == (406, ())

    @pytest.mark.parametrize(
        "body",
        [b"{", b"\xef\xbb\xbf" + json.dumps(order(ONE, numbered("a"))).encode(), b'{"task": NaN}'],
        ids=["cut", "BOM", "NaN"],
    )
    def test_broken_json(self, stand_in: StandIn, body: bytes) -> None:
        reply = send(stand_in, f"/job/secret/{ONE.secret_key}?customer=acme", body)

        assert (reply.status, reply.json["code"]) == (400, "InvalidContent")
        assert reply.json["message"].startswith("Invalid JSON: ")
        assert stand_in.jobs == ()

    def test_a_body_that_is_not_called_json_is_not_read(self, stand_in: StandIn) -> None:
        headers = {"Accept": "application/json", "Content-Type": "text/plain"}

        reply = send(stand_in, f"/job/secret/{ONE.secret_key}", order(ONE, numbered("a")), headers=headers)

        assert reply.json == "organization is required"

    @pytest.mark.parametrize(
        ("query", "headers"),
        [("", {"Authorization": f"Bearer {TOKEN}"}), (f"?access_token={TOKEN}", {})],
    )
    def test_a_token_opens_every_task(self, stand_in: StandIn, query: str, headers: dict[str, str]) -> None:
        for to in (ONE, NONE):
            reply = send(stand_in, f"/job{query}", order(to, numbered("a")), headers=HEADERS | headers)
            assert (reply.status, reply.json["lifecycle"]) == (200, "ready")
        assert [job.task_id for job in stand_in.jobs] == [ONE.id, NONE.id]

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": "Bearer expired"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": f"Token {TOKEN}"},
            {"Authorization": "Bearer"},
        ],
    )
    def test_a_wrong_token(self, stand_in: StandIn, headers: dict[str, str]) -> None:
        reply = send(stand_in, "/job", order(ONE, numbered("a")), headers=HEADERS | headers)

        assert (reply.status, stand_in.jobs) == (401, ())
        assert "stack" in reply.json

    @pytest.mark.parametrize("customer", ["other", "nobody", None, {"$ne": ""}])
    def test_with_a_token_the_customer_is_the_tokens(self, stand_in: StandIn, customer: Any) -> None:
        body = order(ONE, numbered("a"), customer=customer)
        reply = send(stand_in, "/job?customer=other", body, headers=HEADERS | BY_TOKEN)

        assert (reply.status, reply.json["customer_name"], stand_in.jobs[0].customer) == (200, "acme", "acme")

    def test_without_an_access_token_no_token_opens(self) -> None:
        with StandIn(["acme"], [ONE]) as stand_in:
            for headers in ({}, {"Authorization": "Bearer None"}):
                reply = send(stand_in, "/job", order(ONE, numbered("a")), headers=HEADERS | headers)
                assert reply.status == 401

    def test_it_is_alive(self, stand_in: StandIn) -> None:
        assert send(stand_in, "/", method="GET", headers={}).status == 200

    def test_a_method_that_is_not_there(self, stand_in: StandIn) -> None:
        assert send(stand_in, "/job", method="GET").status == 405

    def test_the_200_is_full_of_secrets_and_names_them(self, stand_in: StandIn) -> None:
        reply = send_order(stand_in, GAP, [{"order": 0, "value": "a"}, None, {"order": 2, "value": "c"}])

        (job,) = stand_in.jobs
        assert reply.json["secret"] == job.secret
        assert job.secret not in repr(job)
        assert reply.json["env"]["DATABASE_PASSWORD"] in stand_in.confidential
        assert reply.json["task_arguments_values"] == ["a", "fixed-value-eu-west", "c"]
        assert {job.secret, "fixed-value-eu-west", *reply.json["acl"]} <= stand_in.confidential
        assert {GAP.secret_key, TOKEN} <= stand_in.confidential
        assert GAP.secret_key not in repr(GAP)


#: What an element at order 0 becomes: for a legacy, a json and a text task. The contract's leak table.
LEAKS: list[tuple[Any, Any, str, str]] = [
    ({"order": 0, "value": "main"}, "main", '"main"', "main"),
    ({"order": 0, "value": ""}, '{"order":0,"value":""}', '""', ""),
    ({"order": 0, "value": None}, '{"order":0,"value":null}', "null", '{"order":0,"value":null}'),
    ({"order": 0, "value": 0}, '{"order":0,"value":0}', "0", '{"order":0,"value":0}'),
    ({"order": 0, "value": False}, '{"order":0,"value":false}', "false", '{"order":0,"value":false}'),
    ({"order": 0, "value": 5}, "5", "5", '{"order":0,"value":5}'),
    ({"order": 0, "value": {"k": 1}}, '{"k":1}', '{"k":1}', '{"order":0,"value":{"k":1}}'),
    ({"order": 0, "value": True}, "true", "true", '{"order":0,"value":true}'),
    ({"order": 0, "value": 1.5}, "1.5", "1.5", '{"order":0,"value":1.5}'),
    ({"order": 0, "value": []}, "[]", "[]", '{"order":0,"value":[]}'),
    ({"order": 0, "value": {}}, "{}", "{}", '{"order":0,"value":{}}'),
    ("", "", '""', ""),
    (None, None, "null", "null"),
    (0, 0, "0", "0"),
    (5, "5", "5", "5"),
    (False, False, "false", "false"),
    ({"order": 0}, '{"order":0}', '{"order":0}', '{"order":0}'),
    ({"value": "x"}, "x", '"x"', "x"),
    ({"label": "commit", "value": "x"}, "x", '"x"', "x"),
]


class TestMatching:
    """The contract's rules 1 to 5, and its table of what leaks."""

    @pytest.mark.parametrize(("element", "legacy", "as_json", "text"), LEAKS)
    def test_what_the_task_gets(self, element: Any, legacy: Any, as_json: str, text: str) -> None:
        declared = [Argument("only")]

        assert matched(declared, [element], "legacy") == (legacy,)
        assert matched(declared, [element], "json") == (as_json,)
        assert matched(declared, [element], "text") == (text,)

    @pytest.mark.parametrize("arguments_type", ["legacy", "json", "text"])
    @pytest.mark.parametrize("bare", [{"order": 1, "branch": "main"}, {"value": "x", "branch": "main"}])
    def test_a_bare_object_with_order_or_value_is_misread(
        self, bare: dict[str, Any], arguments_type: ArgumentsType
    ) -> None:
        assert matched([Argument("only")], [bare], arguments_type) != (as_json(bare),)

    @pytest.mark.parametrize(
        ("elements", "gets"),
        [
            pytest.param(
                [{"order": 0, "value": "a"}, {"order": 1, "value": "b"}], ("a", "b"), id="as documented"
            ),
            pytest.param(
                [{"order": 1, "value": "b"}, {"order": 0, "value": "a"}], None, id="0 counts by its index"
            ),
            pytest.param(
                [{"order": 0.0, "value": "a"}, {"order": 1.0, "value": "b"}], ("a", "b"), id="floats"
            ),
            pytest.param([{"order": "0", "value": "a"}, {"order": "1", "value": "b"}], None, id="text"),
            pytest.param([{"value": "a"}, {"value": "b"}], ("a", "b"), id="no order is the index"),
            pytest.param(["a", "b"], ("a", "b"), id="bare is the index"),
            pytest.param(
                [{"value": "a"}, {"order": 1, "value": "b"}, {"order": 1, "value": "c"}],
                ("a", "b"),
                id="first wins",
            ),
            pytest.param(
                ["a", {"order": 2, "value": "c"}, {"order": 1, "value": "b"}], ("a", "b"), id="shuffled"
            ),
            pytest.param(
                [{"order": 2, "value": "c"}, {"order": 0, "value": "b"}], None, id="0 second is order 1"
            ),
            pytest.param([["x"], []], ('["x"]', "[]"), id="lists are the index"),
        ],
    )
    def test_an_order_is_a_number_from_0_or_else_the_index(
        self, elements: list[Any], gets: tuple[str, ...] | None
    ) -> None:
        assert matched([Argument("first"), Argument("second")], elements, "legacy") == gets

    @pytest.mark.parametrize(
        ("elements", "gets"),
        [
            ([{"order": 0, "value": "a"}, None, {"order": 2, "value": "c"}], ("a", "F", "c")),
            (
                [{"order": 0, "value": "a"}, {"order": 1, "value": "mine"}, {"order": 2, "value": "c"}],
                ("a", "F", "c"),
            ),
            ([{"order": 0, "value": "a"}, {"order": 2, "value": "c"}], ("a", "F", "c")),
            ([{"order": 0, "value": "a"}, {"order": 1, "value": "c"}], None),
            (["a", "c"], None),
        ],
    )
    def test_a_fixed_argument_is_not_sent_but_counts(
        self, elements: list[Any], gets: tuple[str, ...] | None
    ) -> None:
        declared = [Argument("first"), Argument("fixed", fixed="F"), Argument("third")]

        assert matched(declared, elements, "legacy") == gets

    def test_the_agent_makes_null_empty_and_a_data_url_a_file(self) -> None:
        a, b, *rest = script_arguments([DATA_URL, "data:a/b;charset=x;base64,", None, 0, False, ""])

        assert (a, b) == ("theeye-agent-files/argument-0", "theeye-agent-files/argument-1")
        assert rest == ["", "0", "false", ""]

    @pytest.mark.parametrize(
        "dropped",
        [
            "data:,fix the parser", "data:text/plain,x", "data:;base64,aGk=", " data:,x", "\ufeffDATA:\n,x",
            " data:a/b;base64,x", "DATA:a/b;base64,x", "data:a/b;BASE64,x",
        ],
    )  # fmt: skip
    def test_any_other_data_url_is_dropped_and_the_following_arguments_move_up(self, dropped: str) -> None:
        assert script_arguments([dropped, "SAFE", "C"]) == ("SAFE", "C")

    @pytest.mark.parametrize("text", ["data:", "data:x", "x data:,x", "\u200bdata:,x", "\x1cdata:,x"])
    def test_other_texts_are_not(self, text: str) -> None:
        assert script_arguments([text]) == (text,)

    @pytest.mark.parametrize(
        ("arguments", "runs"),
        [
            (("x" * (TOO_LONG - len(SCRIPT) - 2),), True),
            (("x" * (TOO_LONG - len(SCRIPT) - 1),), False),
            (("é" * 65_450,), True),
            (("é" * 65_550,), False),
            (("x" * 66_000, "x" * 66_000), False),
            (("'" * 32_700,), True),
            (("'" * 32_800,), False),
            (("",) * 43_000, True),
            (("",) * 44_000, False),
        ],
        ids=[
            "one that just fits", "one too long", "bytes count", "not characters", "two together",
            "quotes are escaped", "and count", "blanks and quotes", "count too",
        ],
    )  # fmt: skip
    def test_the_agent_starts_one_command_of_a_bounded_length(
        self, arguments: tuple[str, ...], runs: bool
    ) -> None:
        assert failure(arguments) == (None if runs else "spawn E2BIG")

    @pytest.mark.parametrize(("to", "runs"), [("legacy", False), ("text", False), ("json", True)])
    def test_a_nul_is_a_200_and_then_a_failure(
        self, stand_in: StandIn, to: ArgumentsType, runs: bool
    ) -> None:
        reply = send_order(stand_in, BY_TYPE[to], numbered("a\x00b", "", "c"))

        assert (reply.status, reply.json["lifecycle"]) == (200, "ready")
        (job,) = stand_in.jobs
        assert (job.script_arguments is not None, job.failure is None) == (runs, runs)

    def test_arguments_that_are_too_long_are_a_200_and_then_a_failure(self, stand_in: StandIn) -> None:
        reply = send_order(stand_in, THREE, numbered("x" * 66_000, "x" * 66_000, "c"))

        assert (reply.status, reply.json["lifecycle"]) == (200, "ready")
        assert (stand_in.jobs[0].script_arguments, stand_in.jobs[0].failure) == (None, "spawn E2BIG")

    def test_a_data_url_reaches_a_json_task_as_json_text(self) -> None:
        stored = matched([Argument("only")], [{"order": 0, "value": DATA_URL}], "json")

        assert stored == (f'"{DATA_URL}"',)
        assert script_arguments(stored) == stored

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (5.0, "5"),
            (-0.0, "0"),
            (0.1, "0.1"),
            (-1.5, "-1.5"),
            (2**53 + 1, "9007199254740992"),
            (12345678901234567890, "12345678901234567000"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (0.000001, "0.000001"),
            (1e-7, "1e-7"),
            (1.25e-10, "1.25e-10"),
            (True, "true"),
            ('ä"\n\x7f', '"ä\\"\\n\x7f"'),
            ({"b": [1, {"a": None}], "a": ""}, '{"b":[1,{"a":null}],"a":""}'),
        ],
    )
    def test_json_text_is_javascripts(self, value: Any, text: str) -> None:
        assert as_json(value) == text


@dataclass(frozen=True)
class Documented:
    """An element in the documented form; `at` puts it at its order."""

    value: Any


#: A value; as a script sees it, plain and as JSON; and the element that is right for it on a legacy, a json
#: and a text task.
RIGHT: list[tuple[Any, str, str, Any, Any, Any]] = [
    ("main", "main", '"main"', Documented("main"), Documented("main"), Documented("main")),
    ("", "", '""', "", Documented(""), Documented("")),
    (0, "0", "0", 0, Documented(0), Documented("0")),
    (False, "false", "false", False, Documented(False), Documented("false")),
    (True, "true", "true", Documented(True), Documented(True), Documented("true")),
    (5, "5", "5", Documented(5), Documented(5), Documented("5")),
    (1.5, "1.5", "1.5", Documented(1.5), Documented(1.5), Documented("1.5")),
    ([], "[]", "[]", Documented([]), Documented([]), Documented("[]")),
    ({}, "{}", "{}", Documented({}), Documented({}), Documented("{}")),
    ([1, 2], "[1,2]", "[1,2]", Documented([1, 2]), Documented([1, 2]), Documented("[1,2]")),
    (
        {"order": 1},
        '{"order":1}',
        '{"order":1}',
        Documented({"order": 1}),
        Documented({"order": 1}),
        Documented('{"order":1}'),
    ),
    (
        {"value": "x"},
        '{"value":"x"}',
        '{"value":"x"}',
        Documented({"value": "x"}),
        Documented({"value": "x"}),
        Documented('{"value":"x"}'),
    ),
    ({"k": 1}, '{"k":1}', '{"k":1}', Documented({"k": 1}), Documented({"k": 1}), Documented('{"k":1}')),
    ("0", "0", '"0"', Documented("0"), Documented("0"), Documented("0")),
    ("null", "null", '"null"', Documented("null"), Documented("null"), Documented("null")),
]


class TestTheArrayThatIsRightOnEveryKindOfTask:
    """One element per order, index == order, gaps null: what the bridge must send, written by hand."""

    def seen(self, stand_in: StandIn, arguments_type: ArgumentsType, element: Any) -> tuple[str, str]:
        """What the script gets where the element stands at order 0 and at order 2."""

        def at(number: int) -> Any:
            return {"order": number, "value": element.value} if isinstance(element, Documented) else element

        reply = send_order(stand_in, BY_TYPE[arguments_type], [at(0), None, at(2)])
        assert reply.json["lifecycle"] == "ready"
        first, fixed, third = stand_in.jobs[-1].script_arguments or ()
        assert fixed == "fixed-value-eu-west"
        return first, third

    @pytest.mark.parametrize(
        ("value", "plain", "as_json", "legacy", "as_json_element", "text"), RIGHT, ids=str
    )
    def test_the_script_sees_the_value_as_it_is(
        self,
        stand_in: StandIn,
        value: Any,
        plain: str,
        as_json: str,
        legacy: Any,
        as_json_element: Any,
        text: Any,
    ) -> None:
        assert json.loads(as_json) == value
        assert plain == (value if isinstance(value, str) else as_json)
        assert self.seen(stand_in, "legacy", legacy) == (plain, plain)
        assert self.seen(stand_in, "json", as_json_element) == (as_json, as_json)
        assert self.seen(stand_in, "text", text) == (plain, plain)

    def test_null(self, stand_in: StandIn) -> None:
        assert self.seen(stand_in, "legacy", None) == ("", "")
        assert stand_in.jobs[-1].values[0] is None
        assert self.seen(stand_in, "json", Documented(None)) == ("null", "null")
        assert self.seen(stand_in, "text", None) == ("null", "null")

    def test_a_data_url_passes_the_supervisor_as_it_is_and_the_agent_makes_a_file_of_it(
        self, stand_in: StandIn
    ) -> None:
        for arguments_type in ("legacy", "text"):
            first, third = self.seen(stand_in, arguments_type, Documented(DATA_URL))
            assert stand_in.jobs[-1].values == (DATA_URL, "fixed-value-eu-west", DATA_URL)
            assert DATA_URL not in (first, third)
            assert first != third
        assert self.seen(stand_in, "json", Documented(DATA_URL)) == (f'"{DATA_URL}"', f'"{DATA_URL}"')


class TestRecords:
    def test_every_request_is_kept_as_it_came(self, stand_in: StandIn) -> None:
        body = json.dumps(order(ONE, numbered("a"))).encode()
        path = f"/job/secret/{ONE.secret_key}"
        send(
            stand_in,
            f"{path}?customer=other&customer=acme&empty=",
            body,
            headers=HEADERS | {"X-Trace": "t%201"},
        )
        send(stand_in, "/a%20b/", method="GET", headers={})

        first, second = stand_in.received
        assert (first.method, first.path, first.body, first.status) == ("POST", path, body, 200)
        assert first.query == {"customer": "acme", "empty": ""}
        assert (first.headers["x-trace"], first.task_id) == ("t%201", ONE.id)
        assert first.at <= stand_in.jobs[0].at <= second.at
        assert (second.method, second.path, second.body, second.task_id) == ("GET", "/a%20b/", b"", None)
        assert second.status == 404
        assert ONE.secret_key not in repr(first)

    def test_a_body_of_unknown_length_is_read_too(self, stand_in: StandIn) -> None:
        body = json.dumps(order(ONE, numbered("a"))).encode()
        connection = http.client.HTTPConnection(urlsplit(stand_in.url).netloc, timeout=10)
        connection.request(
            "POST", f"/job/secret/{ONE.secret_key}", iter([body[:9], body[9:]]), HEADERS, encode_chunked=True
        )
        assert connection.getresponse().status == 200
        connection.close()

        assert stand_in.received[0].body == body

    def test_a_broken_body_is_kept_too(self, stand_in: StandIn) -> None:
        send(stand_in, f"/job/secret/{ONE.secret_key}", b"{")

        assert (stand_in.received[0].body, stand_in.received[0].status) == (b"{", 400)

    def test_waiting_ends_with_the_job_that_was_waited_for(
        self, stand_in: StandIn, pool: ThreadPoolExecutor
    ) -> None:
        waiting = pool.submit(stand_in.wait_for, 2)
        send_order(stand_in, ONE, numbered("a"))
        assert not waiting.done()
        send_order(stand_in, ONE, numbered("b"))

        assert [job.script_arguments for job in waiting.result(10)] == [("a",), ("b",)]
        assert stand_in.wait_for(1) == stand_in.jobs

    def test_what_is_waited_for_wakes_at_once(self, pool: ThreadPoolExecutor) -> None:
        records = Records()
        job, request = job_of(ONE, "acme", ()), Received(0, "GET", "/", {}, Headers(), b"", None)

        waiting = pool.submit(records.wait_for, 1, timeout=8)
        assert is_held(waiting)
        records.save(job)
        assert waiting.result(4) == (job,)

        waiting_for_request = pool.submit(records.wait_for_requests, 1, timeout=8)
        assert is_held(waiting_for_request)
        records.note(request)
        assert waiting_for_request.result(4) == (request,)

    def test_waiting_in_vain_says_what_was_waited_for(self, stand_in: StandIn) -> None:
        send_order(stand_in, ONE, numbered("a"))

        with pytest.raises(TimeoutError, match=r"waited 0\.01 s for 2 jobs and got 1"):
            stand_in.wait_for(2, timeout=0.01)
        with pytest.raises(TimeoutError, match="for 3 requests and got 1"):
            stand_in.wait_for_requests(3, timeout=0.01)

    def test_many_at_once(self, stand_in: StandIn) -> None:
        with ThreadPoolExecutor(16) as many:
            replies = list(many.map(lambda n: send_order(stand_in, ONE, numbered(f"{n}")), range(64)))

        assert {reply.status for reply in replies} == {200}
        assert {job.id for job in stand_in.jobs} == {reply.json["id"] for reply in replies}
        assert {job.script_arguments for job in stand_in.jobs} == {(f"{n}",) for n in range(64)}
        assert [received.status for received in stand_in.received] == [200] * 64


class TestFaults:
    @pytest.mark.parametrize(
        "answer",
        [
            Answer(503, b"", (("Retry-After", "2"),)),
            Answer(429, b'"slow down"', (("Retry-After", "Wed, 21 Oct 2037 07:28:00 GMT"),)),
            Answer(502, b"<html>Bad Gateway</html>", (("Content-Type", "text/html"),)),
            Answer(302, b"", (("Location", "http://127.0.0.1:9/elsewhere"),)),
            Answer(200, b"<html>no JSON</html>", (("Content-Type", "text/html"),)),
            Answer(200, b'{"id": ', (("Content-Type", "application/json"),)),
            Answer(599, b"unheard of"),
        ],
        ids=lambda answer: str(answer.status),
    )
    def test_any_answer(self, stand_in: StandIn, answer: Answer) -> None:
        stand_in.fault(Fault(answer))

        reply = send_order(stand_in, ONE, numbered("a"))

        assert (reply.status, reply.body) == (answer.status, answer.body)
        assert set(answer.headers) <= set(reply.headers.items())
        assert stand_in.jobs == ()
        assert stand_in.received[0].status == answer.status

    def test_a_failure_after_the_job_was_saved(self, stand_in: StandIn) -> None:
        stand_in.fault(Fault(Answer(500, b'"Internal Server Error"'), saves=True))

        assert send_order(stand_in, ONE, numbered("a")).status == 500
        assert stand_in.jobs[0].script_arguments == ("a",)

    def test_what_is_refused_anyway_is_not_saved(self, stand_in: StandIn) -> None:
        stand_in.fault(Fault(Answer(500), saves=True))

        assert send(stand_in, "/job/secret/wrong", order(ONE, numbered("a"))).status == 500
        assert stand_in.jobs == ()

    @pytest.mark.parametrize("saves", [False, True])
    def test_a_reset_after_the_request_was_read(self, stand_in: StandIn, saves: bool) -> None:
        stand_in.fault(Fault(reset=True, saves=saves))

        with pytest.raises(ConnectionResetError) as caught:
            send_order(stand_in, ONE, numbered("a"))

        assert type(caught.value) is ConnectionResetError  # and no RemoteDisconnected, which is an end
        assert len(stand_in.jobs) == int(saves)
        assert json.loads(stand_in.received[0].body) == order(ONE, numbered("a"))
        assert stand_in.received[0].status is None
        stand_in.clear()
        assert send_order(stand_in, ONE, numbered("a")).status == 200

    @pytest.mark.parametrize("saves", [False, True])
    def test_a_hang_ends_with_the_true_answer_when_it_is_cleared(
        self, stand_in: StandIn, pool: ThreadPoolExecutor, saves: bool
    ) -> None:
        stand_in.fault(Fault(hang=600, saves=saves))
        sending = pool.submit(send_order, stand_in, ONE, numbered("a"))
        (received,) = stand_in.wait_for_requests(1)
        if saves:
            stand_in.wait_for(1)

        assert (received.status, len(stand_in.jobs), sending.done()) == (None, int(saves), False)
        stand_in.clear()
        assert sending.result(10).status == 200
        assert (stand_in.received[0].status, len(stand_in.jobs)) == (200, 1)

    def test_a_hang_ends_by_itself(self, stand_in: StandIn) -> None:
        stand_in.fault(Fault(Answer(504), hang=0.01))

        assert send_order(stand_in, ONE, numbered("a")).status == 504

    def test_a_hang_does_not_hold_up_the_others_or_the_stop(
        self, stand_in: StandIn, pool: ThreadPoolExecutor
    ) -> None:
        stand_in.fault(Fault(hang=600, times=1))
        sending = pool.submit(send_order, stand_in, ONE, numbered("a"))
        stand_in.wait_for_requests(1)

        assert send_order(stand_in, ONE, numbered("b")).status == 200
        stand_in.stop()

        with pytest.raises(http.client.RemoteDisconnected):
            sending.result(10)
        assert (stand_in.received[0].status, len(stand_in.jobs)) == (None, 1)

    def test_a_dripped_answer_comes_a_byte_at_a_time(self, stand_in: StandIn) -> None:
        stand_in.fault(Fault(drip=600))
        with raw_order(stand_in, ONE, numbered("a")) as connection:
            assert connection.recv(100) == b"H"
            assert len(stand_in.jobs) == 1
            stand_in.clear()
            head, _, body = read_all(connection).partition(b"\r\n\r\n")

        assert head.startswith(b"TTP/1.1 200 OK\r\n")
        assert json.loads(body)["id"] == stand_in.jobs[0].id

    def test_any_answer_can_be_dripped(self, stand_in: StandIn) -> None:
        stand_in.fault(Fault(Answer(503, b"out", (("Retry-After", "7"),)), drip=0.00001))

        reply = send_order(stand_in, ONE, numbered("a"))

        assert (reply.status, reply.body, reply.headers["Retry-After"]) == (503, b"out", "7")

    def test_a_drip_does_not_hold_up_the_stop(self, stand_in: StandIn) -> None:
        stand_in.fault(Fault(drip=600))
        with raw_order(stand_in, ONE, numbered("a")) as connection:
            assert connection.recv(100) == b"H"
            stand_in.stop()
            assert read_all(connection) == b""

    def test_refused_connections_and_the_same_port_again(self, stand_in: StandIn) -> None:
        url = stand_in.url
        stand_in.refuse()
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                send_order(stand_in, ONE, numbered("a"))
        with socket.socket() as another, pytest.raises(OSError, match="in use"):
            another.bind(("127.0.0.1", urlsplit(url).port or 0))
        stand_in.listen()

        assert stand_in.url == url
        assert send_order(stand_in, ONE, numbered("a")).status == 200
        assert len(stand_in.received) == 1

    def test_a_stand_in_that_refuses_can_be_stopped(self, stand_in: StandIn) -> None:
        stand_in.refuse()
        stand_in.stop()
        with socket.socket() as another:
            another.bind(("127.0.0.1", urlsplit(stand_in.url).port or 0))

    def test_only_the_next_few(self, stand_in: StandIn) -> None:
        stand_in.fault(Fault(Answer(503), times=2))
        stand_in.fault(Fault(Answer(429), times=1))

        assert [send_order(stand_in, ONE, numbered("a")).status for _ in range(4)] == [503, 503, 429, 200]

    def test_only_one_task(self, stand_in: StandIn) -> None:
        stand_in.fault(Fault(Answer(500), task_id=ONE.id, times=1))

        assert send_order(stand_in, NONE, []).status == 200
        assert send(stand_in, "/", method="GET").status == 200
        assert send_order(stand_in, ONE, numbered("a")).status == 500
        assert send_order(stand_in, ONE, numbered("a")).status == 200

    @pytest.mark.parametrize(
        ("method", "statuses"), [("POST", (503, 200)), ("GET", (200, 503)), (None, (503, 503))]
    )
    def test_only_jobs_or_only_the_question_whether_it_lives(
        self, stand_in: StandIn, method: str | None, statuses: tuple[int, int]
    ) -> None:
        stand_in.fault(Fault(Answer(503), method=method))

        posted = send_order(stand_in, ONE, numbered("a")).status
        assert (posted, send(stand_in, "/", method="GET").status) == statuses

    def test_clear_ends_all_of_them(self, stand_in: StandIn) -> None:
        stand_in.fault(Fault(Answer(503)))
        stand_in.fault(Fault(reset=True))
        stand_in.clear()

        assert send_order(stand_in, ONE, numbered("a")).status == 200
        stand_in.fault(Fault(Answer(429)))
        assert send_order(stand_in, ONE, numbered("a")).status == 429

    def test_after_clear_a_new_hang_holds_again(self, stand_in: StandIn, pool: ThreadPoolExecutor) -> None:
        stand_in.clear()
        stand_in.fault(Fault(hang=600))
        sending = pool.submit(send_order, stand_in, ONE, numbered("a"))

        assert is_held(sending)
        stand_in.clear()
        assert sending.result(10).status == 200

    def test_faults_that_make_no_sense(self) -> None:
        with pytest.raises(ValueError, match="a fault with reset has no answer"):
            Fault(Answer(500), reset=True)
        with pytest.raises(ValueError, match="a fault with reset has no answer"):
            Fault(drip=1, reset=True)
        with pytest.raises(ValueError, match="times is 0"):
            Fault(times=0)


class TestStartAndStop:
    def test_the_port_stays_the_same_over_a_restart(
        self, stand_in: StandIn, pool: ThreadPoolExecutor
    ) -> None:
        url = stand_in.url
        send_order(stand_in, ONE, numbered("a"))
        stand_in.stop()
        with pytest.raises(ConnectionRefusedError):
            send_order(stand_in, ONE, numbered("b"))
        stand_in.start()

        assert stand_in.url == url
        stand_in.fault(Fault(Answer(504), hang=600))
        sending = pool.submit(send_order, stand_in, ONE, numbered("c"))
        assert is_held(sending)
        stand_in.clear()
        assert sending.result(10).status == 504
        assert len(stand_in.jobs) == 1

    def test_it_stops_twice_and_before_it_was_started(self, stand_in: StandIn) -> None:
        stand_in.stop()
        stand_in.stop()
        StandIn(["acme"], TASKS).stop()

    def test_a_port_that_is_taken(self, stand_in: StandIn) -> None:
        second = StandIn(["acme"], TASKS, port=urlsplit(stand_in.url).port or 0)

        with pytest.raises(OSError, match="in use"):
            second.start()

    def test_it_has_no_url_before_it_has_a_port(self) -> None:
        with pytest.raises(RuntimeError, match="call start"):
            _ = StandIn(["acme"], TASKS).url

    def test_a_sender_that_goes_away_in_the_middle_leaves_no_trace(self, stand_in: StandIn) -> None:
        with raw_connection(stand_in) as connection:
            connection.sendall(half_an_order())
        assert send_order(stand_in, ONE, numbered("a")).status == 200

        stand_in.stop()
        assert (len(stand_in.received), len(stand_in.jobs)) == (1, 1)

    def test_a_sender_that_says_no_more_does_not_hold_up_the_stop(self, stand_in: StandIn) -> None:
        stopping = threading.Thread(target=stand_in.stop)
        with raw_connection(stand_in) as connection:
            connection.sendall(half_an_order())
            send_order(stand_in, ONE, numbered("a"))
            stopping.start()
            stopping.join(4)
            assert not stopping.is_alive()
            assert len(stand_in.received) == 1

    def test_what_is_no_http_is_refused(self, stand_in: StandIn) -> None:
        with raw_connection(stand_in) as connection:
            connection.sendall(b"no HTTP at all\r\n\r\n")
            assert b"400" in read_all(connection)


def is_held(future: Future[Any]) -> bool:
    return bool(wait([future], timeout=0.05).not_done)


def raw_connection(stand_in: StandIn) -> socket.socket:
    parts = urlsplit(stand_in.url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10)


def raw_order(stand_in: StandIn, to: StandInTask, elements: list[Any]) -> socket.socket:
    body = json.dumps(order(to, elements)).encode()
    lines = [f"{name}: {value}" for name, value in {**HEADERS, "Content-Length": len(body)}.items()]
    head = "\r\n".join([f"POST /job/secret/{to.secret_key} HTTP/1.1", "Host: here", *lines, "", ""])
    connection = raw_connection(stand_in)
    connection.sendall(head.encode() + body)
    return connection


def half_an_order() -> bytes:
    return b"POST /job HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{"


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))
