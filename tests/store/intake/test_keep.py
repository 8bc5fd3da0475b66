"""What of an event is stored, as its source says: `store_payload` and `redact`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from bridge.cli import main
from bridge.core.errors import BodyGone, EvaluationError
from bridge.core.event import JSON, Headers
from bridge.core.fields import parse_path
from bridge.core.job import JobState
from bridge.core.redaction import REDACTED, REDACTED_REASON, is_redacted, redact
from bridge.expressions.expression import Language
from bridge.expressions.filters import FILTERS, TESTS, TEXT_METHODS
from bridge.routing.route import Argument, Key
from tests.support.intake import JSON_HEADERS, VARIABLES, Intake, beside, everything_stored, table
from tests.support.tables import make_event, make_route, make_table

TABLE = """
sources:
  shop:
    type: generic
    allow_unsigned: true
    event: payload.type
    delivery_id: payload.id
    KEPT
routes:
  - name: buy
    source: shop
    event: order
    match: {payload.user.email: "*@example.com"}
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.user.email }}", "${{ payload.total }}"]
"""

REDACTS = "redact: [payload.user.email, 'headers[\"X-User\"]', query.who]"

#: What must not be stored of the event.
MARK = "marked@example.com"

ORDER = {"type": "order", "id": "o1", "total": 5, "user": {"name": "bob", "email": MARK}}
OTHER = {**ORDER, "type": "other"}

HEADERS = {**JSON_HEADERS, "X-User": "marked-header", "X-Other": "there"}
QUERY = {"who": "marked-query", "what": "there"}


@pytest.fixture
def intake(request: pytest.FixtureRequest, make_intake: Callable[[str], Intake]) -> Intake:
    """The intake of the table in which this stands for KEPT; by default nothing."""
    return make_intake(TABLE.replace("KEPT", getattr(request, "param", "")))


def kept(line: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("intake", [line], indirect=True)


def use_other_match(intake: Intake, keep: str, email: str) -> None:
    """Take on the same table, whose route wants this address."""
    intake.use(TABLE.replace("KEPT", keep).replace("*@example.com", email))


def post(intake: Intake, payload: JSON) -> dict[str, Any]:
    return intake.post("shop", orjson.dumps(payload), HEADERS, QUERY).body


def stored(intake: Intake, event_id: int = 1) -> tuple[dict[str, str], dict[str, str], bytes]:
    """The headers, the query and the body that are stored."""
    event = intake.outbox.stored_event(event_id)
    return dict(event.headers), dict(event.query), event.body


NOTHING: tuple[dict[str, str], dict[str, str], bytes] = ({}, {}, b"")


def whole(payload: JSON) -> tuple[dict[str, str], dict[str, str], bytes]:
    return {name.lower(): value for name, value in HEADERS.items()}, QUERY, orjson.dumps(payload)


# store_payload


@pytest.mark.parametrize("intake", ["", "store_payload: full"], indirect=True)
def test_by_default_everything_is_kept(intake: Intake) -> None:
    for payload in (ORDER, {**OTHER, "id": "o2"}):
        post(intake, payload)
    assert (stored(intake, 1), stored(intake, 2)) == (whole(ORDER), whole({**OTHER, "id": "o2"}))


@kept("store_payload: matched")
def test_what_made_no_job_is_kept_without_body_headers_and_query(intake: Intake) -> None:
    post(intake, ORDER)
    assert post(intake, {**OTHER, "id": "o2"}) == {"event": 2, "jobs": [], "duplicate": False}
    assert (stored(intake, 1), stored(intake, 2)) == (whole(ORDER), NOTHING)
    summary = intake.outbox.summary(2)
    assert (summary.source, summary.event, summary.delivery_id) == ("shop", "other", "o2")


@kept("store_payload: matched")
def test_a_dead_job_is_a_job(intake: Intake) -> None:
    order = {name: value for name, value in ORDER.items() if name != "total"}
    post(intake, order)
    assert [job.state for job in intake.jobs()] == [JobState.DEAD]
    assert stored(intake) == whole(order)


@kept("store_payload: matched")
def test_what_makes_a_job_when_it_comes_again_is_kept_then(intake: Intake) -> None:
    use_other_match(intake, "store_payload: matched", "nobody")
    post(intake, ORDER)
    assert stored(intake) == NOTHING
    use_other_match(intake, "store_payload: matched", MARK)
    assert len(post(intake, ORDER)["jobs"]) == 1
    assert stored(intake) == whole(ORDER)


@kept("store_payload: none")
def test_where_nothing_is_kept_jobs_have_their_arguments(intake: Intake) -> None:
    assert len(post(intake, ORDER)["jobs"]) == 1
    assert stored(intake) == NOTHING
    assert [job.arguments for job in intake.jobs()] == [(MARK, 5)]
    with pytest.raises(BodyGone):
        intake.outbox.event(1)


@kept("store_payload: none")
def test_a_redelivery_of_what_is_not_kept_completes_it(intake: Intake) -> None:
    use_other_match(intake, "store_payload: none", "nobody")
    post(intake, ORDER)
    use_other_match(intake, "store_payload: none", MARK)
    again = post(intake, ORDER)
    assert (again["event"], again["duplicate"], len(again["jobs"])) == (1, True, 1)
    assert stored(intake) == NOTHING


def test_a_hash_that_stands_for_the_id_is_that_of_what_came(make_intake: Callable[[str], Intake]) -> None:
    source = "{type: alertmanager, allow_unsigned: true, KEPT}"
    group = {
        "version": "4", "groupKey": "g", "status": "firing", "receiver": "r", "groupLabels": {},
        "commonLabels": {}, "commonAnnotations": {}, "externalURL": "", "truncatedAlerts": 0,
        "alerts": [{"status": "firing", "labels": {"a": "b"}, "annotations": {}, "generatorURL": "",
                    "startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
                    "fingerprint": "f1"}],
    }  # fmt: skip
    for line in (
        "store_payload: full",
        "store_payload: none",
        "redact: ['payload.alerts[*].fingerprint', payload.groupKey]",
    ):
        intake = make_intake("sources:\n  alerts: " + source.replace("KEPT", line) + "\nroutes: []\n")
        intake.post("alerts", orjson.dumps(group))
        assert intake.post("alerts", orjson.dumps(group)).body["duplicate"]
    # All on one store, so that one event has come six times.
    assert intake.rows() == (1, 0)


# redact


@kept(REDACTS)
def test_a_redacted_value_is_nowhere_in_the_store_but_in_arguments(intake: Intake, tmp_path: Path) -> None:
    post(intake, OTHER)
    assert b"marked" not in everything_stored(tmp_path)
    headers, query, body = stored(intake)
    assert (headers["x-user"], headers["x-other"]) == (REDACTED, "there")
    assert query == {"who": REDACTED, "what": "there"}
    assert orjson.loads(body) == {**OTHER, "user": {"name": "bob", "email": REDACTED}}


@kept(REDACTS)
def test_the_live_request_is_matched_and_sent_with_its_true_values(intake: Intake) -> None:
    assert len(post(intake, ORDER)["jobs"]) == 1
    assert [job.arguments for job in intake.jobs()] == [(MARK, 5)]
    assert MARK.encode() not in stored(intake)[2]


@kept(REDACTS)
def test_where_nothing_is_redacted_the_body_is_kept_byte_for_byte(intake: Intake) -> None:
    body = b'{ "type": "other", "id": "o1", "total": 5.0 }\n'
    intake.post("shop", body)
    assert stored(intake) == ({"content-type": "application/json"}, {}, body)


@kept("redact: [payload.id]")
def test_a_redacted_id_identifies_the_event_all_the_same(intake: Intake) -> None:
    post(intake, ORDER)
    assert post(intake, ORDER)["duplicate"]
    assert intake.outbox.event(1).delivery_id == "o1"
    assert intake.outbox.event(1).payload["id"] == REDACTED


@pytest.mark.parametrize("size", [0, 5000], ids=["as it is", "compressed"])
@kept(REDACTS)
def test_the_store_knows_whose_text_the_mark_is(intake: Intake, size: int) -> None:
    more = {"title": REDACTED, "more": "x" * size}
    bodies = [{**ORDER, **more}, {**ORDER, **more, "id": "o2", "user": {"name": "bob"}}]
    for body in bodies:
        intake.post("shop", orjson.dumps(body))
    events = [intake.outbox.event(number) for number in (1, 2)]
    assert [is_redacted(event) for event in events] == [True, False]
    assert [event.payload for event in events] == [
        {**bodies[0], "user": {"name": "bob", "email": REDACTED}}, bodies[1],
    ]  # fmt: skip
    assert [orjson.loads(event.body) for event in events] == [event.payload for event in events]


PAYLOAD = {
    "a": {"b": [{"c": 1, "d": [1, 2]}, {"c": None}, {"e": 5}, 7], "c.d": "x"},
    "list": [[1, 2], [3], {}],
    "none": None,
}


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("payload.a.b[0].c", [("a", "b", 0, "c")]),
        ("payload.a.b[-4].c", [("a", "b", 0, "c")]),
        ("payload.a.b[*].c", [("a", "b", 0, "c"), ("a", "b", 1, "c")]),
        ("payload.a.b[*]", [("a", "b", 0), ("a", "b", 1), ("a", "b", 2), ("a", "b", 3)]),
        ("payload.list[*][*]", [("list", 0, 0), ("list", 0, 1), ("list", 1, 0)]),
        ("payload.list[-1]", [("list", 2)]),
        ('payload.a["c.d"]', [("a", "c.d")]),
        ("payload.none", [("none",)]),
        ("payload.a", [("a",)]),
        ("payload.a.b[7].c", []),
        ("payload.a.b[-5]", []),
        ("payload.a.b.c", []),
        ("payload.a[*]", []),
        ("payload.a[0]", []),
        ("payload.none.x", []),
        ("payload.x.y", []),
        ("payload[0]", []),
    ],
)
def test_what_a_path_redacts(path: str, where: list[tuple[str | int, ...]]) -> None:
    expected = json.loads(json.dumps(PAYLOAD))
    for *steps, last in where:
        holder = expected
        for step in steps:
            holder = holder[step]
        holder[last] = REDACTED
    event = make_event(PAYLOAD, body=b"as it came")

    found = redact(event, [parse_path(path)])

    assert found.payload == expected
    assert found.body == (orjson.dumps(expected) if where else b"as it came")
    assert is_redacted(found) is bool(where)
    assert event.payload == PAYLOAD
    assert make_event(PAYLOAD).payload == json.loads(json.dumps(PAYLOAD))


def test_paths_may_lie_in_each_other() -> None:
    paths = [parse_path(each) for each in ("payload.a", "payload.a.b", "payload.list[0]", "payload.list[*]")]
    found = redact(make_event(PAYLOAD), paths)
    assert found.payload == {"a": REDACTED, "list": [REDACTED] * 3, "none": None}


def test_the_headers_name_goes_in_any_case() -> None:
    event = make_event({}, headers=Headers([("x-user", "marked"), ("X-Other", "b")]), query={"Q": "marked"})
    paths = [parse_path(each) for each in ('headers["X-USER"]', "query.q", "headers.none")]
    found = redact(event, paths)
    assert dict(found.headers) == {"x-user": REDACTED, "x-other": "b"}
    assert found.query == {"Q": "marked"}  # a parameter's name goes as it is written
    assert found.body == event.body


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=12,
)
STEPS = st.lists(st.sampled_from([".a", ".b", "[0]", "[-1]", "[1]", "[*]"]), min_size=1, max_size=4)


@given(JSONS, STEPS)
def test_of_any_payload_every_value_that_the_path_finds_is_redacted(payload: JSON, steps: list[str]) -> None:
    path = parse_path("payload" + "".join(steps))
    event = make_event(payload)
    before = path.values(event.scope)
    found = redact(event, [path])
    after = path.values({"payload": found.payload})
    if isinstance(before, list) and before:
        assert after == [REDACTED] * len(before)
    else:
        assert found.payload is payload


# What later work from the store makes of it


def argument(expression: str) -> Argument:
    return Argument("argument 1", Language().template(expression))


HIDDEN = ("payload.user.email", "payload.list[*].email", "payload.number", "payload.tags[*]", "payload.owner")


def holding(value: JSON) -> dict[str, JSON]:
    """A payload with this value where one of HIDDEN leads."""
    return {
        "user": {"email": value, "name": "bob"},
        "list": [{"email": value, "n": 1}, {"email": value, "n": 2}],
        "number": value,
        "tags": [value],
        "owner": value,
    }


EVENT = redact(make_event(holding(MARK)), map(parse_path, HIDDEN))


@pytest.mark.parametrize(
    "expression",
    [
        "${{ payload.user.email }}",
        "to ${{ payload.user.email }}",
        "${{ payload.user }}",
        "${{ payload | to_json }}",
        "${{ payload.list | map(attribute='email') | join(',') }}",
        "${{ payload.list }}",
        # What would turn the mark into something that looks like a value.
        "${{ payload.user.email | upper }}",
        "${{ payload.user.email | length }}",
        "${{ payload.user.email | default('nobody') }}",
        "${{ payload.user.email.split('@')[0] }}",
        "${{ payload.user['email'] | urlencode }}",
        "${{ payload.user.email[:5] }}",
        "${{ payload.number }}",
        "${{ 'a' if payload.user.email == 'b' else 'c' }}",
        "${{ payload.tags | first | upper }}",
        "${{ payload.tags | join(',') | upper }}",
        "${{ payload.user | to_json | upper }}",
        "${{ payload | to_json | length }}",
        "${{ payload.list | selectattr('email', 'equalto', 'x') | list | length }}",
        "${{ payload.owner.name | default('nobody') }}",
    ],
)
def test_an_argument_that_uses_a_redacted_field_is_not_built(expression: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        argument(expression).build(EVENT.scope)
    assert str(caught.value).startswith("argument 1: ")
    assert str(caught.value).endswith(REDACTED_REASON)


@pytest.mark.parametrize(
    ("path", "wanted", "field"),
    [
        ("payload.user.email", "*", "payload.user.email"),
        ("payload.user.email", {"not": "x@example.com"}, "payload.user.email"),
        ("payload.list[*].email", {"not": "x@example.com"}, "payload.list[0].email"),
        ("payload.number", {"not": 4}, "payload.number"),
        ("payload.owner.name", None, "payload.owner"),
        ("payload.tags[*].name", {"not": "x"}, "payload.tags[0]"),
    ],
)
def test_a_condition_on_a_redacted_field_does_not_hold_and_says_why(
    path: str, wanted: Any, field: str
) -> None:
    """Or a `not` would let through what it is there to keep out."""
    routed = make_table(make_route(match={path: wanted})).jobs_for(EVENT)
    assert routed.jobs == ()
    assert routed.warnings == (f"route 'first': {field} {REDACTED_REASON}",)


@pytest.mark.parametrize("path", ["query.who", 'headers["X-Who"]'])
def test_a_redacted_parameter_or_header_is_no_value_either(path: str) -> None:
    event = make_event({}, headers=Headers([("X-Who", "a")]), query={"who": "a"})
    routed = make_table(make_route(match={path: {"not": "b"}})).jobs_for(redact(event, [parse_path(path)]))
    assert routed.jobs == ()
    assert REDACTED_REASON in routed.warnings[0]


@pytest.mark.parametrize("pattern", ["x", None])
def test_a_condition_that_no_redacted_value_could_change_holds_as_it_did(pattern: str | None) -> None:
    assert make_table(make_route(match={"payload.user": {"not": pattern}})).jobs_for(EVENT).jobs


@pytest.mark.parametrize(
    ("when", "field"),
    [
        ("payload.user.email != 'x'", "payload.user.email"),
        ("'bot' not in payload.tags", "payload.tags[0]"),
        ("payload.tags | first != 'bot'", "payload.tags[0]"),
        ("payload.user != {'email': 'x', 'name': 'bob'}", "payload.user.email"),
        ("not payload.number", "payload.number"),
    ],
)
def test_a_when_on_a_redacted_field_is_false_and_says_why(when: str, field: str) -> None:
    routed = make_table(make_route(when=when)).jobs_for(EVENT)
    assert routed.jobs == ()
    assert routed.warnings == (f"route 'first': when: {field} {REDACTED_REASON}",)


def test_a_loop_over_redacted_fields_makes_nothing_and_says_why() -> None:
    routed = make_table(make_route(loop="payload.list", arguments=["${{ item.n }}"])).jobs_for(EVENT)
    assert routed.jobs == ()
    assert routed.warnings == (f"route 'first': loop: payload.list[0].email {REDACTED_REASON}",)


@pytest.mark.parametrize("expression", ["payload.user", "payload.tags", "payload.tags | first"])
def test_a_group_or_key_that_uses_a_redacted_field_is_not_built(expression: str) -> None:
    """Or jobs of unrelated events would wait for each other, or be left out."""
    key = Key("once_key", Language().template("${{ " + expression + " }}"))
    with pytest.raises(EvaluationError, match=REDACTED_REASON):
        key.text(EVENT.scope)


OF_FILTERS = {
    **dict.fromkeys(("default", "d", "join"), "('x')"), "map": "('upper')", "replace": "('b', 'c')",
    "regex_replace": "('b', 'c')", "regex_search": "('b')",
    **dict.fromkeys(("selectattr", "rejectattr"), "('email')"),
}  # fmt: skip
OF_TESTS = {
    **dict.fromkeys(("eq", "equalto", "ne"), "('bot')"), **dict.fromkeys(("ge", "gt", "le", "lt"), "(3)"),
    **dict.fromkeys(("match", "search"), "('b')"), "divisibleby": "(2)", "in": "(['bot', 5])",
}  # fmt: skip
USES = [
    *(f"X | {name}{OF_FILTERS.get(name, '')}" for name in FILTERS),
    *(f"X is {name}{OF_TESTS.get(name, '')}" for name in TESTS),
    *(f"(X).{name}({'' if name in ('lower', 'upper', 'strip') else repr('b')})" for name in TEXT_METHODS
      if name != "replace"),
    "X", "X == 'bot'", "X == ['bot']", "X != 'bot'", "X == X", "X < 3", "3 >= X", "'bot' in X",
    "'bot' not in X", "X in ['bot', 5]", "X in 'bots'", "X ~ '.'", "X + 1", "-X", "X[:1]", "'bot'[X:]",
    "(X)[0]", "X or 'a'", "X and 'a'", "not X", "'a' if X else 'b'", "{'a': X}['a'] | default('b')",
    "[X] | sort | length", "{'a': 1}[X] | default(2)", "X | map(attribute='email') | list",
    "X | sort(attribute='email') | length", "X | select('string') | list", "X | sum(attribute='n')",
    "X | map(attribute='email', default='x') | map('upper') | list",
]  # fmt: skip
SUBJECTS = (
    "payload.owner", "payload.owner.a", "payload.tags", "payload.tags | first", "payload.user",
    "payload.list", "payload.list[0]", "payload.list | map(attribute='email') | list", "payload",
    "payload.user.name",
)  # fmt: skip
TRUE_VALUES: tuple[JSON, ...] = ("bot", "", None, 0, 5, True, ["bot"], {"a": "bot"}, REDACTED)


@pytest.mark.parametrize("use", USES)
def test_an_expression_gives_what_it_gave_with_the_true_values_or_nothing(use: str) -> None:
    language = Language()
    events = [make_event(holding(value)) for value in TRUE_VALUES]
    for subject in SUBJECTS:
        text = use.replace("X", f"({subject})")
        template, condition = language.template("${{ " + text + " }}"), language.condition(text)
        try:
            value = template.value(EVENT.scope)
        except EvaluationError:
            pass
        else:
            assert [template.value(event.scope) for event in events] == [value] * len(events), text
        holds, warning = condition.is_true(EVENT.scope)
        if warning is None:
            assert [condition.is_true(event.scope) for event in events] == [(holds, None)] * len(events), text


@pytest.mark.parametrize("expression", ["payload.tags | length", "payload.user.name", "payload.list[1].n"])
def test_what_no_redacted_value_could_change_is_built(expression: str) -> None:
    assert argument("${{ " + expression + " }}").build(EVENT.scope) in (1, 2, "bob")


def test_a_senders_own_text_is_no_mark() -> None:
    event = make_event({"title": REDACTED, "tags": [REDACTED]}, headers=Headers([("x-user", REDACTED)]))
    route = make_route(
        match={"payload.title": {"not": "x"}, 'headers["x-user"]': "*bridge>"},
        when="'bot' not in payload.tags",
        arguments=["${{ payload.title | upper }}", "${{ payload.tags }}"],
    )
    routed = make_table(route).jobs_for(redact(event, [parse_path("payload.user")]))
    assert [job.arguments for job in routed.jobs] == [(REDACTED.upper(), [REDACTED])]
    assert routed.warnings == ()


# The commands


class Terminal:
    """The commands on the store and the table of an intake."""

    def __init__(self, intake: Intake, folder: Path) -> None:
        config = folder / "commands.yml"
        config.write_text((folder / "table.yml").read_text("utf-8"), "utf-8")
        self._environ = {
            **VARIABLES, "BRIDGE_CONFIG": str(config), "DATABASE_URL": f"sqlite:///{intake.database}",
        }  # fmt: skip
        self._config = config

    def use(self, text: str) -> None:
        self._config.write_text(table(text), "utf-8")

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, env=self._environ)


@pytest.fixture
def terminal(intake: Intake, tmp_path: Path) -> Iterator[Terminal]:
    yield Terminal(intake, tmp_path)


def kill_job(intake: Intake) -> None:
    with closing(intake), beside(f"sqlite:///{intake.database}") as connection:
        connection.execute(text("UPDATE jobs SET state = 'dead', reason = '403'"))


@kept("store_payload: none")
def test_an_event_without_its_body_is_shown_all_the_same(intake: Intake, terminal: Terminal) -> None:
    post(intake, ORDER)
    output = terminal.run("events", "show", "1").output.splitlines()
    assert output[0] == "event 1: order of source shop"
    assert "  its body is not stored" in output
    assert "  delivery o1" in output
    assert output[-1].split()[1] == "waiting"
    shown = json.loads(terminal.run("events", "show", "--json", "1").output)
    assert (shown["payload"], shown["body_stored"], shown["headers"]) == (None, False, {})
    assert len(shown["jobs"]) == 1


def test_of_an_event_with_its_body_the_data_says_so(intake: Intake, terminal: Terminal) -> None:
    post(intake, ORDER)
    shown = json.loads(terminal.run("events", "show", "--json", "1").output)
    assert (shown["payload"], shown["body_stored"]) == (ORDER, True)


@kept("store_payload: none")
@pytest.mark.parametrize("command", [("explain", "1"), ("jobs", "retry", "1")], ids=" ".join)
def test_a_command_that_needs_the_body_says_what_to_do(
    intake: Intake, terminal: Terminal, command: tuple[str, ...]
) -> None:
    post(intake, ORDER)
    kill_job(intake)
    result = terminal.run(*command)
    assert result.exit_code == 1
    # `jobs` says of each job what became of it, which is no error of the command's own.
    error = "" if command[0] == "jobs" else "Error: "
    assert result.output == (
        f"{error}the body of event 1 is not stored (store_payload, BRIDGE_RETENTION). Let the sender "
        "redeliver it: that rebuilds the original dead jobs. If the body is then stored, retry jobs of "
        "`events replay` with `jobs retry`\n"
    )


def test_a_dead_replayed_job_is_retried_once_the_body_has_come_again(
    intake: Intake, terminal: Terminal
) -> None:
    post(intake, ORDER)
    intake.set_state(1, JobState.ACCEPTED)
    terminal.run("events", "replay", "1")
    intake.set_state(2, JobState.DEAD)
    with beside(f"sqlite:///{intake.database}") as connection:
        connection.execute(text("UPDATE events SET body = X''"))
    assert terminal.run("jobs", "retry", "2").output.startswith("the body of event 1 is not stored")

    post(intake, ORDER)

    assert terminal.run("jobs", "retry", "2").output == "job 2 is waiting to be sent\n"


@kept(REDACTS)
def test_explain_shows_of_a_stored_event_what_is_stored(intake: Intake, terminal: Terminal) -> None:
    post(intake, ORDER)
    output = terminal.run("explain", "1").output
    assert f'NO  payload.user.email: expected "*@example.com", got "{REDACTED}"' in output
    assert f"warning: route 'buy': payload.user.email {REDACTED_REASON}" in output


@kept(REDACTS)
def test_a_retry_that_needs_a_redacted_argument_stays_dead_and_says_why(
    intake: Intake, terminal: Terminal
) -> None:
    post(intake, ORDER)
    kill_job(intake)
    terminal.use(TABLE.replace("KEPT", REDACTS).replace('match: {payload.user.email: "*@example.com"}', ""))
    result = terminal.run("jobs", "retry", "1")
    why = f"argument 1: payload.user.email {REDACTED_REASON}"
    assert (result.exit_code, result.output) == (1, f"job 1 stays dead: {why}\n")


@kept(REDACTS)
def test_a_retry_whose_route_asks_for_a_redacted_field_says_why(intake: Intake, terminal: Terminal) -> None:
    post(intake, ORDER)
    kill_job(intake)
    result = terminal.run("jobs", "retry", "1")
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "job 1 stays dead: 403; not retried: its route was removed or no longer matches; "
        "its route may need a redacted field: let the sender send the webhook again",
    ]


def test_a_retry_takes_a_senders_own_text_for_no_mark(intake: Intake, terminal: Terminal) -> None:
    post(intake, {**ORDER, "total": REDACTED})
    kill_job(intake)
    assert terminal.run("jobs", "retry", "1").output == "job 1 is waiting to be sent\n"


@kept(REDACTS)
def test_a_redelivery_builds_a_dead_job_again_from_what_it_carries(intake: Intake) -> None:
    post(intake, ORDER)
    intake.set_state(1, JobState.DEAD)
    assert len(post(intake, ORDER)["jobs"]) == 1
    (job,) = intake.jobs()
    assert (job.state, job.arguments) == (JobState.WAITING, (MARK, 5))
