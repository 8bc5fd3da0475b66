"""One event cannot block the bridge: all of its matching and arguments share one budget of steps."""

from __future__ import annotations

import http.client
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.config.load import load
from bridge.core.budget import BUDGET, DETAILED_MESSAGES, MAX_STEPS, Budget
from bridge.core.errors import EvaluationError, OverBudget
from bridge.core.event import JSON
from bridge.core.fields import EVENT_NAMES, ITEM_NAMES, missing_message, parse_path
from bridge.core.job import JobState, NewJob
from bridge.core.secrets import Mask
from bridge.expressions.expression import Language
from bridge.report.explanation import explanation_lines
from bridge.routing.match import Regex
from bridge.routing.route import Key, Once, Route, item_key
from bridge.sources.base.discovery import discover
from tests.support.intake import BEARER, JSON_HEADERS, VARIABLES, Intake, changed, sample, table
from tests.support.server import Server
from tests.support.tables import make_event, make_route, make_table

#: Names of which each is close to `instance_name`.
SIMILAR = {f"instance_nam{number}": "x" for number in range(1_000)}

LANGUAGE = Language()

# Receiving goes by what the store says, and tests/store/outbox asks both kinds.
pytestmark = pytest.mark.slow_unless(url="sqlite")

MakeIntake = Callable[[str], Intake]


@pytest.fixture
def make_intake(url: str, tmp_path: Path) -> Iterator[MakeIntake]:
    """Makes the intake of one table, on a store of each kind."""
    with ExitStack() as made:
        yield lambda text: made.enter_context(closing(Intake(text, tmp_path, url=url)))


def steps(work: Any, payload: JSON) -> int:
    """The steps that `work` is charged, whether it succeeds or not."""
    budget = Budget(10**12)
    with suppress(EvaluationError):
        work({**make_event(payload).scope, BUDGET: budget})
    return budget.spent


# What counts by size.

TEXT = "ab" * 500_000
ACCENTS = "é" * 200_000
NUMBERS = list(range(100_000))
OBJECTS = [{"a": {"b": number}} for number in range(20_000)]
NAMED = {str(number): number for number in range(10_000)}


@pytest.mark.parametrize(
    ("expression", "payload", "least"),
    [
        ("-1 in payload", NUMBERS, 300_000),
        ("-1 not in payload", NUMBERS, 300_000),
        ("'x' in payload", ["y"] * 100_000, 100_000),
        ("payload.one in payload.many", {"one": [1] * 1000 + [2], "many": [[1] * 1000 + [3]] * 90}, 270_000),
        ("payload.one in payload.many", {"one": TEXT + "c", "many": [TEXT + "d"] * 9}, 27_000),
        ("'x' in payload", TEXT, 10_000),
        ("payload.part in payload.text", {"text": "a" * 2_000, "part": "b" + "a" * 900}, 900),
        ("payload.a == payload.b", {"a": NUMBERS, "b": [*NUMBERS]}, 300_000),
        ("payload.a != payload.b", {"a": NUMBERS, "b": [*NUMBERS]}, 300_000),
        ("payload.a == payload.b", {"a": dict(NAMED), "b": dict(NAMED)}, 50_000),
        ("payload.a == payload.b", {"a": TEXT, "b": TEXT[:-1] + "c"}, 3_000),
        ("payload.a < payload.b", {"a": TEXT, "b": TEXT}, 7_000),
        ("payload | sort | length", NUMBERS, 500_000),
        ("payload | sort(attribute='a.b') | length", OBJECTS, 100_000),
        ("payload | sort | length", ["x" * 50_000] * 10, 15_000),
        ("payload | unique | length", NUMBERS, 1_500_000),
        ("payload | unique(attribute='a') | length", OBJECTS, 400_000),
        ("payload | min", NUMBERS, 300_000),
        ("payload | max(attribute='a.b') | length", OBJECTS, 140_000),
        ("payload | max | length", ["x" * 50_000] * 10, 15_000),
        ("payload | max | length", ["é" * 50_000] * 10, 90_000),
        ("payload | max | length", [[1] * 1_000 + [number] for number in range(90)], 90_000),
        ("payload | max | length", [dict(NAMED)], 20_000),
        ("payload | sum", NUMBERS, 200_000),
        ("payload | sum('a.b')", OBJECTS, 100_000),
        ("payload | join | length", ["y"] * 100_000, 200_000),
        ("payload | join | length", NUMBERS[:10_000], 50_000),
        ("payload | join(',', 'a.b') | length", OBJECTS, 150_000),
        ("payload | to_json | length", NUMBERS, 108_000),
        ("payload | string | length", NUMBERS, 108_000),
        ("payload", NUMBERS, 100_000),
        ("payload", TEXT, 30_000),
        ("payload.l", {"l": {"a": OBJECTS}}, 150_000),
        ("payload | list | length", TEXT, 345_000),
        ("payload | list | length", NUMBERS, 100_000),
        ("payload | reverse | length", NUMBERS, 100_000),
        ("payload | first", dict(NAMED), 10_000),
        ("payload[1:] | length", NUMBERS, 3_000),
        ("(payload + payload) | length", NUMBERS, 6_000),
        ("payload | map(attribute='a.b') | length", OBJECTS, 100_000),
        ("payload | map('abs') | length", NUMBERS, 800_000),
        ("payload | map('default', 0) | length", NUMBERS, 800_000),
        ("payload | map('map', 'abs') | length", [[]] * 10_000, 180_000),
        ("payload | map('select') | length", [[]] * 10_000, 180_000),
        ("payload | select('even') | length", NUMBERS, 800_000),
        ("payload | reject('even') | length", NUMBERS, 800_000),
        ("payload | selectattr('a.b', 'eq', 1) | length", OBJECTS, 240_000),
        ("payload | rejectattr('a.b') | length", OBJECTS, 240_000),
        ("payload | upper | length", TEXT, 15_000),
        ("payload | upper | length", ACCENTS, 105_000),
        ("payload.lower() | length", ACCENTS, 105_000),
        ("payload.strip('xyz') | length", TEXT, 250_000),
        ("payload.split('a') | length", TEXT, 500_000),
        ("payload.split(payload[:900]) | length", "b" + "a" * 2_000, 900),
        ("payload.replace('a', 'b') | length", TEXT, 45_000),
        ("payload.replace(payload[:900], '') | length", "b" + "a" * 2_000, 1_900),
        ("(payload ~ payload) | length", TEXT[:500_000], 15_000),
        ("(payload + payload) | length", TEXT[:500_000], 15_000),
        ("payload[1:] | length", TEXT, 15_000),
        ("payload | reverse | length", TEXT, 15_000),
        ("payload | urlencode | length", ACCENTS[:100_000], 45_000),
        ("payload | urlencode | length", dict(NAMED), 165_000),
        ("payload | int(0)", "9" * 1_000_000, 60_000),
        ("payload | float(0)", "9" * 1_000_000, 60_000),
        ("payload is search('b.{30}c')", TEXT, 100_000),
        ("payload is match('ab*c')", TEXT, 10_000),
        ("payload | regex_search('b.{30}c')", TEXT, 100_000),
        ("payload | regex_search('(?s).*') | length", TEXT, 84_000),
        ("payload | regex_replace('ab', 'c') | length", TEXT[:10_000], 80_000),
        ("payload | regex_replace('a.*x|a', '') | length", TEXT[:10_000], 200_000),
        ("payload | regex_replace('x', 'y') | length", TEXT, 45_000),
        ("payload | map('regex_replace', 'x', '') | length", ["y"] * 1_000, 40_000),
        ("payload | map('regex_search', 'y') | length", ["y"] * 1_000, 32_000),
        # A name that the event chose is read once more where it is looked up.
        ("payload.o[payload.name]", {"name": TEXT, "o": {TEXT: 1}}, len(TEXT) // 64),
        ("payload.name in payload.o", {"name": TEXT, "o": {TEXT: 1}}, len(TEXT) // 64),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 60 else "",
)  # fmt: skip
def test_operations_are_charged_by_the_size_of_what_they_work_on(
    expression: str, payload: JSON, least: int
) -> None:
    template = LANGUAGE.template("${{ " + expression + " }}")
    assert steps(template.value, payload) >= least


@pytest.mark.parametrize(
    ("path", "pattern", "payload", "least"),
    [
        ("payload[*]", "x", ["y"] * 100_000, 200_000),
        ("payload[*]", {"not": "x"}, ["y"] * 100_000, 200_000),
        ("payload[*].a.b", 9, [{"a": {"b": 1}}] * 10_000, 40_000),
        ("payload[*][*]", "x", [["y"] * 100] * 1_000, 200_000),
        ("payload[*]", ["a", "b", "c", "d"], ["y"] * 100_000, 500_000),
        ("payload[*]", "*a*b*", ["y"] * 10_000, 160_000),
        ("payload", "*a*c*", TEXT, 100_000),
    ],
)
def test_conditions_are_charged_by_what_they_go_through(
    path: str, pattern: JSON, payload: JSON, least: int
) -> None:
    (condition,) = make_route(match={path: pattern}).checks
    assert steps(condition.passes, payload) >= least


def test_a_regular_expression_is_charged_by_its_own_size_too() -> None:
    short, long = Regex.parse("b.c"), Regex.parse("b.{100}c")
    assert long.steps(TEXT) > 20 * short.steps(TEXT) > 20 * 20_000


def test_a_long_expression_is_charged_for_each_of_its_parts() -> None:
    few, many = (LANGUAGE.template("${{ [" + "payload.a, " * number + "] }}") for number in (10, 500))
    assert steps(many.value, {"a": 1}) - steps(few.value, {"a": 1}) >= 490 * 5


@pytest.mark.parametrize(
    ("text", "payload", "least"),
    [
        # An error, of the bridge and of Python.
        ("${{ payload | abs }}", "x", 80),
        ("${{ payload | sort }}", [1, "x"], 100),
        # Text around values.
        ("${{ payload }}.", TEXT, 45_000),
        ("${{ payload.a }}${{ payload.b }}", {"a": "x", "b": "y"}, 19),
    ],
)
def test_errors_and_texts_of_several_parts_are_charged(text: str, payload: JSON, least: int) -> None:
    assert steps(LANGUAGE.template(text).value, payload) >= least


def test_each_condition_each_item_and_each_job_is_charged() -> None:
    def spent(payload: JSON, route: Route) -> int:
        identity = make_table().sources["github"].type
        return steps(lambda scope: route.evaluate(scope, identity), payload)

    assert spent({"a": 1}, make_route(match={"payload.a": 0})) >= 7
    of_item = make_route(loop="payload", match={"item.a": 0})
    assert spent([{}] * 1_000, of_item) - spent([{}] * 500, of_item) >= 500 * 15
    job = make_route(loop="payload")
    assert spent(list(range(100)), job) - spent(list(range(50)), job) >= 50 * 39


def test_an_items_identity_and_a_key_are_charged() -> None:
    budget = Budget()
    item_key({"text": "x" * 160_000}, budget)
    assert budget.spent >= 10_000

    key = Key("group", LANGUAGE.template("${{ payload.list }}"))
    assert steps(key.text, {"list": list(range(200))}) >= 420


def test_a_budget_that_is_spent_stays_spent() -> None:
    budget = Budget(10)
    budget.charge(10)
    for _ in range(2):
        with pytest.raises(OverBudget, match="more than 10 steps"):
            budget.charge(1)


def test_a_usual_group_of_alerts_fits_with_room() -> None:
    payload = orjson.loads(sample("alertmanager/firing.json"))
    payload["alerts"] = [{**payload["alerts"][0], "fingerprint": f"{number:016x}"} for number in range(800)]
    route = make_route(
        source="alerts",
        loop="payload.alerts",
        match={"item.labels.severity": ["critical", "page"], "item.status": "firing"},
        when="item.labels.alertname != 'Watchdog'",
        arguments=[
            "${{ item.labels.alertname }}",
            "${{ item.annotations.summary | default('') }}",
            "${{ item.labels.instance }} ${{ item.startsAt }}",
        ],
    )
    names = (*EVENT_NAMES, *ITEM_NAMES)
    key = Key("once_key", LANGUAGE.template("${{ item.fingerprint }} ${{ item.startsAt }}", names))
    route = replace(route, once=Once(600, key))
    event = make_event(payload, source="alerts")
    budget = Budget()
    made = route.evaluate({**event.scope, BUDGET: budget}, make_table().sources["alerts"].type)
    assert (len(made.jobs), made.aborted) == (800, None)
    assert budget.spent < MAX_STEPS / 4


# A route that is not evaluated to its end.

HEAVY: dict[str, Any] = {"when": "payload.number in payload.list"}


SORTED = Key("once_key", LANGUAGE.template("${{ payload.list | sort }}"))


def heavy(**more: JSON) -> dict[str, JSON]:
    """A payload for which one look through its list is over the budget."""
    return {"number": -1, "list": [0] * (MAX_STEPS // 3 + 1), **more}


def jobs_of(payload: JSON, *routes: Any) -> tuple[NewJob, ...]:
    return make_table(*routes).jobs_for(make_event(payload)).jobs


class TestRoutes:
    def test_each_that_is_not_evaluated_to_its_end_makes_one_dead_job(self) -> None:
        routes = [
            make_route("before", arguments=["${{ payload.number }}"]),
            make_route("heavy", **HEAVY),
            make_route("after", loop="payload.list", arguments=["${{ item }}"]),
            make_route("of another event", events=["issues"], **HEAVY),
        ]
        before, *dead = jobs_of(heavy(), *routes)

        assert (before.route, before.arguments) == ("before", (-1,))
        assert [(job.route, job.arguments, job.item_key, job.item_index) for job in dead] == [
            ("heavy", None, "", None), ("after", None, "", None),
        ]  # fmt: skip
        for job in dead:
            assert (job.reason or "").startswith("the routes need more than 1,000,000 steps for this event")

    def test_one_that_had_made_some_of_its_jobs_makes_none_of_them(self) -> None:
        when = "item < 3 or item in payload.list"
        route = make_route(loop="[1, 2, 3]", when=when, arguments=["${{ item }}"])
        (job,) = jobs_of(heavy(), route)
        assert (job.arguments, job.item_key) == (None, "")

    def test_otherwise_is_not_asked_as_nobody_knows_whether_another_matched(self) -> None:
        otherwise = replace(make_route("otherwise"), otherwise=True)
        assert [job.route for job in jobs_of(heavy(), make_route("heavy", **HEAVY), otherwise)] == ["heavy"]

    def test_otherwise_itself(self) -> None:
        never, otherwise = make_route("never", match={"payload.number": 0}), make_route("otherwise", **HEAVY)
        (job,) = jobs_of(heavy(), never, replace(otherwise, otherwise=True))
        assert (job.route, job.arguments) == ("otherwise", None)

    def test_not_is_no_way_around_the_budget(self) -> None:
        (job,) = jobs_of(heavy(), make_route(when="not payload.number in payload.list"))
        assert job.arguments is None

    @pytest.mark.parametrize(
        "route",
        [
            make_route(**HEAVY),
            make_route(match={"payload.list[*]": ["a", "b", "c"]}),
            make_route(loop="payload.list | sort"),
            make_route(arguments=["${{ payload.list | unique }}"]),
            replace(make_route(), once=Once(60, SORTED)),
        ],
    )
    def test_explain_says_of_it_what_the_server_makes_of_it(self, route: Any) -> None:
        table = make_table(make_route("light"), route, make_route("of another event", events=["issues"]))
        event = make_event(heavy())
        routed, explained = table.jobs_for(event), table.explain(event)

        assert [job.arguments for job in routed.jobs] == [(), None]
        assert tuple(job for each in explained for job in each.jobs) == routed.jobs
        (finding,) = explained[1].results
        assert (finding.subject, finding.actual, finding.passed) == ("budget", routed.jobs[1].reason, False)
        shown = [line.text for line in explanation_lines(event, explained, table, Mask())]
        assert "route 'first': 1 job, 1 of them dead: the event is over its budget" in shown
        assert f"  DEAD: {routed.jobs[1].reason}" in shown

    def test_what_explain_alone_looks_at_is_bounded_too(self) -> None:
        route = make_route(
            match={"payload.number": 0, "payload.list[*]": [str(number) for number in range(40)]}
        )
        (each,) = make_table(route).explain(make_event(heavy()))
        assert (each.jobs, each.matched) == ((), False)
        assert each.results[1].actual.startswith("not evaluated: the routes need more than")


class TestMessages:
    """Of an event only the first messages list many fields and guess."""

    def test_the_first_three(self) -> None:
        route = make_route(loop="payload.items", arguments=["${{ payload.labels.instance_name }}"])
        jobs = jobs_of({"items": list(range(800)), "labels": SIMILAR}, route)

        reasons = [job.reason or "" for job in jobs]
        assert [reason for reason in reasons if "did you mean" in reason] == reasons[:DETAILED_MESSAGES]
        short = "argument 1: payload.labels.instance_name is missing; payload.labels has 1000 fields"
        assert set(reasons[DETAILED_MESSAGES:]) == {short}

    def test_a_few_fields_are_always_listed(self) -> None:
        route = make_route(loop="payload.items", arguments=["${{ item.name }}"])
        jobs = jobs_of({"items": [{"n": number} for number in range(9)]}, route)
        assert {(job.reason or "").partition("; did")[0] for job in jobs} == {
            "argument 1: item.name is missing; item has: n"
        }

    def test_one_failure_of_many_items_is_one_warning(self) -> None:
        route = make_route(loop="payload.items", when="payload.labels.instance_name | upper == 'X'")
        routed = make_table(route).jobs_for(make_event({"items": list(range(99)), "labels": SIMILAR}))
        (warning,) = routed.warnings
        assert "did you mean" in warning

    @pytest.mark.parametrize("name", ["instance_name", "i" * 60])
    def test_a_guess_is_charged_by_the_names_that_are_compared(self, name: str) -> None:
        path = parse_path(f"payload.{name}")
        few = steps(lambda scope: missing_message(path, scope), {"i" * 59 + "x": 0, "instance_nam": 0})
        many = {name[: len(name) - 4] + f"{number:04}": 0 for number in range(100)}
        assert steps(lambda scope: missing_message(path, scope), many) > few + 4_000

    def test_a_list_of_names_is_charged(self) -> None:
        names = {f"{'x' * 90}{number}": 0 for number in range(1_000)}
        assert steps(lambda scope: missing_message(parse_path("payload.a"), scope), names) >= 4_000

    def test_without_a_guess_it_costs_a_name_or_none(self) -> None:
        scope = {**make_event(SIMILAR).scope, BUDGET: (budget := Budget(detailed_messages=0))}
        missing_message(parse_path("payload.instance_name"), scope)
        assert budget.spent < 100


def test_check_says_of_a_when_without_fields_that_it_is_over_the_budget(tmp_path: Path) -> None:
    numbers = ", ".join(map(str, range(1_000)))
    when = f"'[{numbers}] | select(\"in\", [{numbers}]) | list'"
    path = tmp_path / "table.yml"
    path.write_text(table(HOOKS.replace("item in payload.allowed", when)))
    said = [str(problem) for problem in load(path, VARIABLES, discover()).problems]
    assert any("it is always over the budget of an event" in each for each in said), said


# Asked for again.

HOOKS = """
sources:
  shop:
    type: generic
    bearer_token: ${{ env.TOKEN }}
    event: payload.kind
    delivery_id: payload.id
routes:
  - name: lines
    source: shop
    loop: payload.lines
    when: item in payload.allowed
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ item }}"]
"""
#: As HOOKS, but mended.
MENDED = HOOKS.replace("item in payload.allowed", "item > 0")


def order(lines: int = 3, allowed: int = MAX_STEPS // 4) -> bytes:
    return orjson.dumps({"kind": "order", "id": "1", "lines": list(range(lines)), "allowed": [-1] * allowed})


class TestAgain:
    def test_it_is_stored_and_its_sender_answered(self, make_intake: MakeIntake) -> None:
        intake = make_intake(HOOKS)
        answer = intake.post("shop", order(), {**JSON_HEADERS, **BEARER})

        assert (answer.status, [job["route"] for job in answer.body["jobs"]]) == (202, ["lines"])
        (job,) = intake.jobs()
        assert (job.state, job.item_key) == (JobState.DEAD, "")
        assert "1,000,000 steps" in (job.reason or "")

    def test_sent_again_it_stays_one_dead_job(self, make_intake: MakeIntake) -> None:
        intake = make_intake(HOOKS)
        for _ in range(2):
            intake.post("shop", order(), {**JSON_HEADERS, **BEARER})
        (job,) = intake.jobs()
        assert job.state is JobState.DEAD

    def test_sent_again_after_the_route_was_mended_it_makes_the_jobs(self, make_intake: MakeIntake) -> None:
        intake = make_intake(HOOKS)
        intake.post("shop", order(), {**JSON_HEADERS, **BEARER})
        intake.use(MENDED)
        answer = intake.post("shop", order(), {**JSON_HEADERS, **BEARER})

        assert (answer.status, len(answer.body["jobs"])) == (202, 2)
        whole, *jobs = intake.jobs()
        assert (whole.state, whole.reason) == (
            JobState.SKIPPED, "replaced: the route now created one job for each item",
        )  # fmt: skip
        assert [(job.state, job.arguments) for job in jobs] == [
            (JobState.WAITING, (1,)), (JobState.WAITING, (2,)),
        ]  # fmt: skip
        assert intake.post("shop", order(), {**JSON_HEADERS, **BEARER}).body["jobs"] == []

    def test_dead_jobs_of_items_are_left_alone_while_nothing_is_known_of_them(
        self, make_intake: MakeIntake
    ) -> None:
        intake = make_intake(MENDED.replace("${{ item }}", "${{ item.gone }}"))
        intake.post("shop", order(), {**JSON_HEADERS, **BEARER})
        before = [(job.id, job.state, job.reason) for job in intake.jobs()]
        intake.use(HOOKS)
        intake.post("shop", order(), {**JSON_HEADERS, **BEARER})

        *items, whole = intake.jobs()
        assert [(job.id, job.state, job.reason) for job in items] == before
        assert (whole.state, whole.item_key) == (JobState.DEAD, "")

    def test_a_person_who_canceled_all_items_gets_none_of_them(self, make_intake: MakeIntake) -> None:
        intake = make_intake(HOOKS)
        intake.post("shop", order(), {**JSON_HEADERS, **BEARER})
        (whole,) = intake.jobs()
        intake.outbox.cancel(whole.id, (JobState.DEAD,))
        intake.use(MENDED)

        assert intake.post("shop", order(), {**JSON_HEADERS, **BEARER}).body["jobs"] == []
        assert [job.state for job in intake.jobs()] == [JobState.CANCELED]

    def test_a_route_whose_items_have_their_jobs_gets_no_dead_one(self, make_intake: MakeIntake) -> None:
        intake = make_intake(MENDED)
        intake.post("shop", order(), {**JSON_HEADERS, **BEARER})
        before = intake.jobs()
        intake.use(HOOKS)

        assert intake.post("shop", order(), {**JSON_HEADERS, **BEARER}).body["jobs"] == []
        assert intake.jobs() == before


# The server.

SERVER = """
sources:
  alerts: {type: alertmanager, bearer_token: "${{ env.TOKEN }}"}
  shop: {type: generic, bearer_token: "${{ env.TOKEN }}"}
routes:
  - name: page
    source: alerts
    loop: payload.alerts
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.commonLabels.instance_name }}"]
  - name: allowed
    source: shop
    loop: payload.list
    when: item.i in payload.allowed
    task: TASK
    secret_key: KEY
    task_arguments: []
"""


def post(server: Server, source: str, body: bytes) -> tuple[int, Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        connection.request("POST", f"/hooks/{source}", body, {**JSON_HEADERS, **BEARER})
        response = connection.getresponse()
        return response.status, orjson.loads(response.read())


def test_a_running_server_stores_what_it_does_not_evaluate(tmp_path: Path) -> None:
    config = tmp_path / "table.yml"
    config.write_text(table(SERVER))
    firing = sample("alertmanager/firing.json")
    alert = orjson.loads(firing)["alerts"][0]
    alerts = [{**alert, "fingerprint": f"{number:016x}"} for number in range(800)]
    allowed = {"list": [{"i": number} for number in range(200)], "allowed": [-1] * 250_000}
    with Server(config, tmp_path / "bridge.db", {**VARIABLES, "BRIDGE_DELIVER": "false"}) as server:
        status, answer = post(server, "alerts", changed(firing, alerts=alerts, commonLabels=SIMILAR))
        assert (status, len(answer["jobs"])) == (202, 800)
        status, answer = post(server, "shop", orjson.dumps(allowed))
        assert (status, [job["route"] for job in answer["jobs"]]) == (202, ["allowed"])
    with closing(sqlite3.connect(tmp_path / "bridge.db")) as connection:
        stored = connection.execute("SELECT route, state, reason FROM jobs ORDER BY id").fetchall()
    assert len(stored) == 801
    assert {state for _, state, _ in stored} == {"dead"}
    assert len([reason for _, _, reason in stored if "did you mean" in reason]) == DETAILED_MESSAGES
    assert stored[-1][2].startswith("the routes need more than 1,000,000 steps for this event")
