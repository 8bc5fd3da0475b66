"""Which jobs a table makes of an event, and that `explain` says the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.errors import EvaluationError
from bridge.core.event import JSON, Event, Headers
from bridge.core.fields import EVENT_NAMES, ITEM_NAMES
from bridge.core.job import Job, JobState, NewJob
from bridge.core.task_arguments import MAX_SHELL_TEXT_BYTES, ArgumentsType
from bridge.expressions.expression import Language
from bridge.routing import routing_table as table_module
from bridge.routing.check_result import CheckResult, Explanation
from bridge.routing.route import MAX_WARNINGS, Argument, Concurrency, Key, Once, OnDead, Route, item_key
from bridge.routing.routing_table import MISS_STEPS, Routed, RoutingTable
from bridge.routing.silence import Expectation, OnSilence, Watched
from tests.support.examples import examples
from tests.support.tables import NOW, make_event, make_route, make_table, make_task


def route_of(event: Event, *routes: Route) -> Routed:
    return make_table(*routes).jobs_for(event)


def jobs_of(payload: JSON, *routes: Route) -> tuple[NewJob, ...]:
    """The jobs; nothing may have gone wrong."""
    routed = route_of(make_event(payload), *routes)
    assert routed.warnings == ()
    return routed.jobs


def argument_of(payload: JSON, value: Any, **more: Any) -> JSON:
    """The one argument of the one job. Raises EvaluationError with its reason where it is dead."""
    (job,) = jobs_of(payload, make_route(arguments=[value], **more))
    if job.arguments is None:
        raise EvaluationError(job.reason)
    return job.arguments[0]


class Spy:
    """A check that notes how often it was asked, and of which item."""

    subject = "spy"
    expected = "to be asked"

    def __init__(self, *, is_per_item: bool = False, passed: bool = True) -> None:
        self.is_per_item = is_per_item
        self._passed = passed
        self.asked: list[JSON] = []

    def passes(self, scope: Mapping[str, JSON]) -> tuple[bool, str | None]:
        self.asked.append(scope.get("item"))
        return self._passed, None

    def actual(self, scope: Mapping[str, JSON]) -> str:
        return "asked"


class TestWhichRoutes:
    def test_every_route_that_matches_in_the_order_of_the_table(self) -> None:
        routes = [
            make_route("c"),
            make_route("no", match={"payload.ref": "other"}),
            make_route("a", loop="payload.list", arguments=["${{ item }}"]),
            make_route("of another source", source="alerts"),
            make_route("b", match={"payload.ref": "main"}, task=make_task(2)),
        ]

        jobs = jobs_of({"ref": "main", "list": [1, 2]}, *routes)

        assert [(job.route, job.arguments) for job in jobs] == [
            ("c", ()),
            ("a", (1,)),
            ("a", (2,)),
            ("b", ()),
        ]

    def test_a_job_names_its_task_and_has_no_item(self) -> None:
        (job,) = jobs_of({}, make_route("deploy", task=make_task(7), arguments=["x"]))
        assert job == NewJob("deploy", make_task(7).id, "task 7", "", None, ("x",), None)

    def test_no_route_no_job(self) -> None:
        assert route_of(make_event({})) == Routed((), ())

    def test_every_check_must_hold(self) -> None:
        checks: dict[str, Any] = {
            "events": ["push"],
            "match": {"payload.a": 1, "payload.b": 2},
            "when": "payload.c == 3",
        }
        payload = {"a": 1, "b": 2, "c": 3}
        assert len(jobs_of(payload, make_route(**checks))) == 1
        for name in payload:
            assert jobs_of(payload | {name: 0}, make_route(**checks)) == ()
        assert jobs_of(payload, make_route(**checks | {"events": ["pull_request"]})) == ()

    def test_what_does_not_hold_ends_the_asking(self) -> None:
        first, second, third = Spy(), Spy(passed=False), Spy()
        jobs_of({}, replace(make_route(), checks=(first, second, third)))
        assert [len(spy.asked) for spy in (first, second, third)] == [1, 1, 0]


class TestLoop:
    def test_one_job_an_item(self) -> None:
        route = make_route(
            loop="payload.list", arguments=["${{ item.name }}", "${{ index }}", "${{ payload.x }}"]
        )

        jobs = jobs_of({"x": "of the event", "list": [{"name": "a"}, {"name": "b"}]}, route)

        assert [job.arguments for job in jobs] == [("a", 0, "of the event"), ("b", 1, "of the event")]
        assert [job.item_index for job in jobs] == [0, 1]

    def test_match_and_when_are_asked_per_item(self) -> None:
        route = make_route(
            loop="payload.list",
            match={"item.severity": "critical"},
            when="index > 0 and item.n < 9",
            arguments=["${{ item.n }}"],
        )
        severities = ["critical", "warning", "critical", "critical"]
        payload = {"list": [{"severity": name, "n": n * 3} for n, name in enumerate(severities)]}

        jobs = jobs_of(payload, route)

        assert [(job.item_index, job.arguments) for job in jobs] == [(2, (6,))]

    def test_what_is_asked_of_the_event_is_asked_once_and_first(self) -> None:
        of_item, of_event = Spy(is_per_item=True), Spy()
        route = replace(make_route(loop="payload.list"), checks=(of_item, of_event))

        jobs_of({"list": ["a", "b", "c"]}, route)

        assert of_event.asked == [None]
        assert of_item.asked == ["a", "b", "c"]

    def test_the_loop_is_not_evaluated_where_the_event_does_not_match(self) -> None:
        ways: list[dict[str, Any]] = [
            {"match": {"payload.ref": "main"}},
            {"events": ["ping"]},
            {"when": "payload.ref == 'main'"},
        ]
        for no in ways:
            assert route_of(make_event({"ref": "x"}), make_route(loop="payload.gone", **no)) == Routed((), ())

    def test_a_condition_on_item_and_event_is_asked_per_item(self) -> None:
        route = make_route(loop="payload.list", when="item == payload.wanted", arguments=["${{ index }}"])
        assert [job.arguments for job in jobs_of({"wanted": "b", "list": ["a", "b"]}, route)] == [(1,)]

    def test_an_empty_list_makes_no_job_and_is_no_mistake(self) -> None:
        assert jobs_of({"list": []}, make_route(loop="payload.list")) == ()

    @pytest.mark.parametrize(
        ("value", "kind"),
        [({"a": 1}, "an object"), ("text", "text"), (None, "null"), (5, "a number"), (True, "a boolean")],
    )
    def test_a_loop_over_what_is_no_list_is_told(self, value: JSON, kind: str) -> None:
        routes = [make_route("looping", loop="payload.list", arguments=["${{ item }}"]), make_route("other")]

        routed = route_of(make_event({"list": value}), *routes)

        assert [job.route for job in routed.jobs] == ["other"]
        (warning,) = routed.warnings
        assert warning.startswith("route 'looping': loop: payload.list is ")
        assert warning.endswith(", expected a list")
        assert kind.rsplit(maxsplit=1)[-1] in warning

    @pytest.mark.parametrize(
        ("loop", "said"),
        [("payload.gone", "payload.gone is missing"), ("[1 / payload.zero]", "division by zero")],
    )
    def test_a_loop_that_has_no_value_is_told(self, loop: str, said: str) -> None:
        routed = route_of(make_event({"zero": 0}), make_route("looping", loop=loop))

        assert routed.jobs == ()
        (warning,) = routed.warnings
        assert warning.startswith("route 'looping': loop: ")
        assert said in warning


class TestItemsAreTheSame:
    LOOP = make_route(loop="payload.list", arguments=["${{ item }}"])

    def test_equal_items_make_one_job(self) -> None:
        jobs = jobs_of({"list": [{"a": 1, "b": 2}, "x", {"b": 2, "a": 1}, "x"]}, self.LOOP)
        assert [(job.item_index, job.arguments) for job in jobs] == [(0, ({"a": 1, "b": 2},)), (1, ("x",))]

    def test_what_only_looks_equal_is_another(self) -> None:
        values = [1, "1", True, "true", None, "null", [], {}, "", 0, False, [1], ["1"], {"1": 1}, 1.5]
        jobs = jobs_of({"list": values}, self.LOOP)
        assert len({job.item_key for job in jobs}) == len(jobs) == len(values)

    def test_a_key_depends_on_the_item_alone(self) -> None:
        one = jobs_of({"list": ["a", "b", {"k": [1, 2]}]}, self.LOOP)
        other = jobs_of({"list": [{"k": [1, 2]}, "b"], "more": 1}, make_route("x", loop="payload.list"))
        assert {job.item_key for job in other} < {job.item_key for job in one}
        assert one[0].item_key == item_key("a")

    def test_of_two_only_those_that_match_count(self) -> None:
        route = make_route(loop="payload.list", when="index != 0", arguments=["${{ index }}"])
        assert [job.arguments for job in jobs_of({"list": ["same", "same", "same"]}, route)] == [(1,)]

    def test_two_routes_make_a_job_each(self) -> None:
        jobs = jobs_of({"list": ["a", "a"]}, self.LOOP, make_route("second", loop="payload.list"))
        assert [job.route for job in jobs] == ["first", "second"]
        assert jobs[0].item_key == jobs[1].item_key

    def test_the_source_says_what_identifies_an_item(self) -> None:
        """An alert is known by its fingerprint and times, whatever its text."""
        alert = {
            "fingerprint": "f1",
            "status": "firing",
            "startsAt": "10:00",
            "endsAt": "x",
            "labels": {"a": 1},
        }
        alerts = [
            alert,
            alert | {"labels": {"a": 2}, "endsAt": "y"},
            alert | {"startsAt": "11:00"},
            alert | {"status": "resolved"},
            alert | {"status": "resolved", "endsAt": "y"},
            alert | {"fingerprint": "f2"},
        ]
        route = make_route(source="alerts", loop="payload.alerts")
        event = make_event({"alerts": alerts}, source="alerts", event="firing")

        assert [job.item_index for job in route_of(event, route).jobs] == [0, 2, 3, 4, 5]


class TestWarnings:
    def test_a_when_that_fails_is_false_and_told(self) -> None:
        routes = [make_route("failing", when="payload.n / payload.zero > 1"), make_route("other")]

        routed = route_of(make_event({"n": 1, "zero": 0}), *routes)

        assert [job.route for job in routed.jobs] == ["other"]
        (warning,) = routed.warnings
        assert warning.startswith("route 'failing': when: ")
        assert "division by zero" in warning

    @pytest.mark.parametrize(
        "when", ["payload.gone > 1", "payload.text < 1", "payload.none > 0", "payload.gone"]
    )
    def test_one_that_is_only_false_is_not(self, when: str) -> None:
        assert route_of(make_event({"text": "a", "none": None}), make_route(when=when)) == Routed((), ())

    def test_the_same_of_each_item_is_told_once(self) -> None:
        route = make_route(loop="payload.list", when="item / 0 > 1")
        routed = route_of(make_event({"list": [1, 2, 3]}), route)
        assert routed.jobs == ()
        assert len(routed.warnings) == 1

    def test_there_is_a_most_of_them(self) -> None:
        routes = [make_route(f"route {number}", when="1 / 0") for number in range(MAX_WARNINGS + 10)]
        routed = route_of(make_event({}), *routes, make_route("good"))
        assert len(routed.warnings) == MAX_WARNINGS == 20
        assert [job.route for job in routed.jobs] == ["good"]


class TestArguments:
    @pytest.mark.parametrize(
        ("value", "built"),
        [
            ("${{ payload.text }}", "main"),
            ("${{ payload.number }}", 5),
            ("${{ payload.object }}", {"a": [1, None]}),
            ("${{ payload.null }}", None),
            ("${{ payload.false }}", False),
            ("on ${{ payload.text }}: ${{ payload.object }}", 'on main: {"a":[1,null]}'),
            ("${{ payload.gone | default('else') }}", "else"),
            ("just text", "just text"),
            ("", ""),
            (None, None),
            (True, True),
            (5, 5),
            (["${{ payload.text }}", 1, None, ["x${{ payload.number }}"]], ["main", 1, None, ["x5"]]),
            ({"a": "${{ payload.object.a }}", "b": {"c": False}}, {"a": [1, None], "b": {"c": False}}),
            ([], []),
            ({}, {}),
            ("${{ event }} ${{ source }} ${{ delivery_id }}", "push github delivery-1"),
            ("${{ received_at }}", "2023-11-14T22:13:20.000000Z"),
        ],
    )
    def test_values(self, value: Any, built: JSON) -> None:
        payload = {"text": "main", "number": 5, "object": {"a": [1, None]}, "null": None, "false": False}
        found = argument_of(payload, value)
        assert found == built
        assert type(found) is type(built)

    def test_headers_and_query(self) -> None:
        event = make_event({}, headers=Headers({"X-Thing": "h"}.items()), query={"a": "q"})
        route = make_route(arguments=['${{ headers["x-thing"] }}', "${{ query.a }}"])
        assert route_of(event, route).jobs[0].arguments == ("h", "q")

    def test_fixed_ones_stay_null_between_the_others(self) -> None:
        route = replace(
            make_route(),
            arguments=(Argument("a", None), *make_route(arguments=["x"]).arguments, Argument("c", None)),
        )
        assert jobs_of({}, route)[0].arguments == (None, "x", None)

    @pytest.mark.parametrize(
        "value",
        [
            "${{ payload.gone }}",
            "text ${{ payload.gone }}",
            ["fine", "${{ payload.gone }}"],
            {"deep": [{"er": "${{ payload.gone }}"}]},
            "${{ [payload.gone] }}",
            "${{ {'a': payload.gone} }}",
        ],
        ids=repr,
    )
    def test_a_missing_field_makes_the_job_dead_with_its_path(self, value: Any) -> None:
        routes = [
            make_route(arguments=["fine", value]),
            make_route("other", arguments=["${{ payload.here }}"]),
        ]

        dead, other = jobs_of({"here": "x"}, *routes)

        assert dead.arguments is None
        assert dead.reason is not None
        assert dead.reason.startswith("argument 2: payload.gone is missing")
        assert "here" in dead.reason
        assert (other.arguments, other.reason) == (("x",), None)

    def test_one_item_that_lacks_a_field_leaves_the_others_alone(self) -> None:
        route = make_route(loop="payload.list", arguments=["${{ item.name }}"])
        jobs = jobs_of({"list": [{"name": "a"}, {}, {"name": "c"}]}, route)
        assert [job.arguments for job in jobs] == [("a",), None, ("c",)]
        assert jobs[1].item_index == 1
        assert jobs[1].item_key

    def test_an_expression_that_fails_makes_the_job_dead(self) -> None:
        with pytest.raises(EvaluationError, match=r"^argument 1: .*division by zero"):
            argument_of({}, "${{ 1 / 0 }}")

    def test_what_is_no_json_makes_the_job_dead(self) -> None:
        deep: Any = 1
        for _ in range(300):
            deep = (deep,)
        (job,) = jobs_of({}, replace(make_route(), arguments=(Argument("argument 1", deep),)))
        assert job.arguments is None
        assert (job.reason or "").startswith("argument 1: ")


class TestArgumentsThatTheEyesAgentCannotRun:
    """The rules are bridge.core.task_arguments'; here, that a route goes by them."""

    DROPPED = (
        "it begins like a data URL (data:…,), and TheEye's agent drops such an argument and moves the "
        "following arguments up by one; put text before it"
    )
    FILE = (
        "it begins like a data URL (data:…,), and TheEye's agent turns it into a file; "
        "if you want a file, set allow_data_urls: true on the route; otherwise put text before it"
    )
    NUL = "it contains a NUL character: TheEye's agent cannot start a script with it; remove it"

    @pytest.mark.parametrize(
        ("text", "flaw"), [("data:,fix the parser", DROPPED), ("data:a/b;base64,aGk=", FILE), ("a\x00", NUL)]
    )
    def test_the_job_is_dead_with_the_reason(self, text: str, flaw: str) -> None:
        routes = [
            make_route(arguments=["fine", "${{ payload.text }}"]),
            make_route("other", arguments=["text: ${{ payload.after }}"]),
        ]

        dead, other = jobs_of({"text": text, "after": "x"}, *routes)

        assert (dead.arguments, dead.reason) == (None, f"argument 2: {flaw}")
        assert (other.arguments, other.reason) == (("text: x",), None)

    def test_the_reason_names_the_argument_as_the_table_does(self) -> None:
        task = make_task(arguments=(None, "message"))
        arguments = (Argument("fixed", None), *make_route(arguments=["data:${{ ',x' }}"]).arguments)

        (job,) = jobs_of({}, replace(make_route(task=task), arguments=arguments))

        assert job.reason == f"message: {self.DROPPED}"

    def test_one_item_leaves_the_others_alone(self) -> None:
        route = make_route(loop="payload.list", arguments=["${{ item }}", "safe"])
        jobs = jobs_of({"list": ["a", "DATA:,b", "c"]}, route)
        assert [job.arguments for job in jobs] == [("a", "safe"), None, ("c", "safe")]

    def test_one_that_the_text_around_makes(self) -> None:
        with pytest.raises(EvaluationError, match="data URL"):
            argument_of({"text": ",x"}, "data:${{ payload.text }}")

    def test_a_file_where_the_route_wants_one(self) -> None:
        url = "data:a/b;base64,aGk="
        assert argument_of({"text": url}, "${{ payload.text }}", allow_data_urls=True) == url

    def test_on_a_json_task_it_is_text(self) -> None:
        task = make_task(arguments_type=ArgumentsType.JSON)
        for text in ("data:,fix the parser", "a\x00"):
            assert argument_of({"text": text}, "${{ payload.text }}", task=task) == text

    def test_all_of_a_job_together(self) -> None:
        route = make_route(arguments=["${{ payload.big }}", "${{ payload.big }}"])

        (job,) = jobs_of({"big": "x" * (MAX_SHELL_TEXT_BYTES // 2)}, route)

        assert job.arguments is None
        assert str(job.reason).startswith(
            "the arguments together: 120,005 bytes of shell text, but at most 120,000"
        )

    def test_the_job_of_on_dead_too(self) -> None:
        template = Language().template("data:,${{ job.reason }}", OnDead.NAMES)

        job = OnDead(make_task(), (Argument("argument 1", template),)).job_for(DIED, 1)

        assert (job.arguments, job.reason) == (None, f"argument 1: {self.DROPPED}")


DIED = Job(
    "first", "id", "task", "", None, None, "why", id=7, event_id=1, state=JobState.DEAD,
    created_at=NOW, due_at=NOW, retry_window_start=NOW, window_attempts=0, window_unknowns=0,
)  # fmt: skip


def test_the_fields_that_check_knows_of_alerts() -> None:
    template = Language().template("${{ job }}", OnDead.NAMES)
    (job,) = OnDead(make_task(), (Argument("argument 1", template),)).job_for(DIED, 1).arguments or ()
    silent = Watched(Expectation("github", "", 60.0), NOW, None, is_alerted=False, now=NOW + 61)
    payload = OnSilence.event_for(silent).payload

    assert isinstance(job, dict) and isinstance(payload, dict)
    assert (tuple(job), tuple(payload)) == (OnDead.FIELDS, OnSilence.FIELDS)


def keyed(text: str, **more: Any) -> Route:
    """A route whose group and once_key are this text."""
    names = (*EVENT_NAMES, *ITEM_NAMES) if "loop" in more else EVENT_NAMES
    template = Language().template(text, names)
    return replace(
        make_route(**more),
        concurrency=Concurrency(Key("concurrency.group", template), latest=True),
        once=Once(60.0, Key("once_key", template)),
    )


class TestKeys:
    """The texts that tell jobs of one kind together."""

    def test_a_job_has_its_group_and_its_key(self) -> None:
        (job,) = jobs_of({"repository": "api"}, keyed("of ${{ payload.repository }}"))
        assert (job.group, job.latest) == ("of api", True)
        assert (job.once_key, job.once_within) == ("of api", 60.0)

    def test_without_them_it_has_none(self) -> None:
        (job,) = jobs_of({}, make_route())
        assert (job.group, job.latest, job.once_key, job.once_within) == (None, False, None, None)

    def test_without_a_key_all_jobs_of_the_route_are_of_one_kind(self) -> None:
        (job,) = jobs_of({}, replace(make_route(), once=Once(60.0)))
        assert (job.once_key, job.once_within) == ("", 60.0)

    def test_each_item_has_its_own(self) -> None:
        route = keyed("${{ payload.x }} ${{ item.n }} ${{ index }}", loop="payload.list")
        jobs = jobs_of({"x": "x", "list": [{"n": "a"}, {"n": "b"}]}, route)
        assert [(job.group, job.once_key) for job in jobs] == [("x a 0", "x a 0"), ("x b 1", "x b 1")]

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("text", "text"),
            ("", ""),
            ("5", "5"),
            (5, "5"),
            (1.5, "1.5"),
            (True, "true"),
            (None, "null"),
            (["a", 1], '["a",1]'),
            ({"k": "ü"}, '{"k":"ü"}'),
        ],
    )
    @pytest.mark.parametrize("around", ["", "v"])
    def test_what_is_no_text_is_json_text(self, value: JSON, text: str, around: str) -> None:
        (job,) = jobs_of({"x": value}, keyed(around + "${{ payload.x }}"))
        assert (job.group, job.once_key) == (around + text, around + text)

    @pytest.mark.parametrize(
        ("payload", "said"),
        [
            ({"here": 1}, "payload.x is missing"),
            ({"x": "a\x00b"}, "a NUL character is not allowed here"),
            ({"x": "a" * 1001}, "1,001 bytes; at most 1,000 are allowed"),
            ({"x": "ü" * 501}, "1,002 bytes; at most 1,000 are allowed"),
            ({"x": [0] * 500}, "1,001 bytes; at most 1,000 are allowed"),
        ],
        ids=["missing", "NUL", "long", "long in bytes", "long as JSON"],
    )
    @pytest.mark.parametrize("label", ["concurrency.group", "once_key"])
    def test_what_the_store_could_not_look_up_makes_the_job_dead(
        self, payload: JSON, said: str, label: str
    ) -> None:
        whole = keyed("${{ payload.x }}", arguments=["fine"])
        route = replace(whole, once=None) if label != "once_key" else replace(whole, concurrency=None)

        (job,) = jobs_of(payload, route)

        assert job.arguments is None
        assert str(job.reason).startswith(f"{label}: {said}")
        # What replaces others, or holds a key, has one.
        assert (job.group, job.latest, job.once_key) == (None, False, None)

    @pytest.mark.parametrize("fits", ["a" * 1000, "ü" * 500], ids=["letters", "two bytes each"])
    def test_one_that_just_fits(self, fits: str) -> None:
        (job,) = jobs_of({"x": fits}, keyed("${{ payload.x }}"))
        assert (job.group, job.once_key) == (fits, fits)

    def test_a_key_that_cannot_be_built_leaves_the_other_items_alone(self) -> None:
        jobs = jobs_of({"list": [{"n": 1}, {}, {"n": 3}]}, keyed("${{ item.n }}", loop="payload.list"))
        assert [(job.once_key, job.arguments) for job in jobs] == [("1", ()), (None, None), ("3", ())]


def otherwise(name: str = "otherwise", **more: Any) -> Route:
    return replace(make_route(name, **more), otherwise=True)


class TestOtherwise:
    """A route that is asked only where no other of its source matched."""

    MAIN = make_route("main", match={"payload.ref": "main"})

    @pytest.mark.parametrize(("ref", "made"), [("main", ["main"]), ("dev", ["otherwise"])])
    @pytest.mark.parametrize("first", [True, False])
    def test_wherever_it_stands(self, ref: str, made: list[str], first: bool) -> None:
        routes = [otherwise(), self.MAIN] if first else [self.MAIN, otherwise()]
        assert [job.route for job in jobs_of({"ref": ref}, *routes)] == made

    def test_its_own_conditions_hold_too(self) -> None:
        routes = (self.MAIN, otherwise(match={"payload.ref": "dev"}))
        assert [job.route for job in jobs_of({"ref": "dev"}, *routes)] == ["otherwise"]
        assert jobs_of({"ref": "x"}, *routes) == ()

    def test_a_route_of_another_source_does_not_count(self) -> None:
        alerts = make_route("alerts", source="alerts")
        assert [job.route for job in jobs_of({"ref": "dev"}, alerts, self.MAIN, otherwise())] == ["otherwise"]

    def test_nor_is_it_asked_of_another_source(self) -> None:
        event = make_event({}, source="alerts", event="firing")
        assert route_of(event, otherwise()) == Routed((), ())

    def test_each_of_several_is_asked(self) -> None:
        """None of them is another route to the others."""
        routes = (otherwise("first"), self.MAIN, otherwise("second"), otherwise("no", match={"event": "x"}))
        assert [job.route for job in jobs_of({"ref": "dev"}, *routes)] == ["first", "second"]
        assert [job.route for job in jobs_of({"ref": "main"}, *routes)] == ["main"]

    def test_a_route_whose_job_is_dead_has_matched(self) -> None:
        dead = make_route("dead", arguments=["${{ payload.gone }}"])
        (job,) = jobs_of({}, dead, otherwise())
        assert (job.route, job.arguments) == ("dead", None)

    @pytest.mark.parametrize(("items", "made"), [([1, 2], ["each"]), ([1], ["rest"]), ([], ["rest"])])
    def test_a_loop_has_matched_where_an_item_has(self, items: JSON, made: list[str]) -> None:
        each = make_route("each", loop="payload.list", when="item == 2")
        assert [job.route for job in jobs_of({"list": items}, each, otherwise("rest"))] == made

    def test_it_may_loop_itself(self) -> None:
        routes = (self.MAIN, otherwise(loop="payload.list", arguments=["${{ item }}"]))
        jobs = jobs_of({"ref": "dev", "list": ["a", "b"]}, *routes)
        assert [job.arguments for job in jobs] == [("a",), ("b",)]

    def test_what_went_wrong_in_it_is_told_where_it_is_asked(self) -> None:
        routes = (self.MAIN, otherwise(when="1 / 0"))
        assert route_of(make_event({"ref": "main"}), *routes).warnings == ()
        (warning,) = route_of(make_event({"ref": "dev"}), *routes).warnings
        assert warning.startswith("route 'otherwise': when: ")

    def test_a_route_that_failed_has_not_matched(self) -> None:
        routed = route_of(make_event({}), make_route("failing", when="1 / 0"), otherwise())
        assert [job.route for job in routed.jobs] == ["otherwise"]
        assert len(routed.warnings) == 1

    def test_explained_where_others_matched(self) -> None:
        table = make_table(otherwise(when="1 / 0"), self.MAIN, make_route("any"), otherwise("second"))

        first, _, _, second = table.explain(make_event({"ref": "main"}))

        result = CheckResult("otherwise", "no other route that matches", "main, any", passed=False)
        for each in (first, second):
            assert (each.results, each.matched) == ((result,), False)
            assert (each.jobs, each.items, each.warnings) == ((), (), ())

    def test_explained_where_none_did(self) -> None:
        table = make_table(self.MAIN, otherwise(match={"payload.ref": "dev"}))

        _, each = table.explain(make_event({"ref": "dev"}))

        assert each.results == (
            CheckResult("otherwise", "no other route that matches", "none", passed=True),
            CheckResult("payload.ref", '"dev"', '"dev"', passed=True),
        )
        assert each.matched
        assert [job.route for job in each.jobs] == ["otherwise"]

    def test_asked_for_again_it_makes_what_it_makes_today(self) -> None:
        event = make_event({"ref": "dev"})
        assert ("otherwise", "") in make_table(self.MAIN, otherwise()).rebuild_jobs(event)
        assert ("otherwise", "") not in make_table(make_route(), otherwise()).rebuild_jobs(event)


class TestLimits:
    """A route that asks for too much makes one dead job; the others go on."""

    def test_so_many_jobs_and_no_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(table_module, "MAX_JOBS", 5)
        routes = [make_route(loop="payload.list", arguments=["x"]), make_route("second")]

        assert len(jobs_of({"list": [1, 2, 3, 4]}, *routes)) == 5
        whole, second = jobs_of({"list": [1, 2, 3, 4, 5, 6]}, *routes)
        assert (whole.arguments, whole.item_key, whole.item_index) == (None, "", None)
        assert whole.reason == "the event creates more than 5 jobs"
        assert (second.route, second.arguments) == ("second", ())

    def test_a_loop_cannot_multiply_a_long_field_without_end(self) -> None:
        """A tenth of a megabyte and a thousand items would be 100 MB in memory and on disk."""
        route = make_route(loop="payload.list", arguments=["${{ payload.big }}"])
        big = "x" * 100_000

        assert len(jobs_of({"big": big, "list": [*range(80)]}, route)) == 80
        (job,) = jobs_of({"big": big, "list": [*range(1_000)]}, route)
        assert (job.arguments, job.item_key) == (None, "")
        assert "more than 1,000,000 steps" in (job.reason or "")


class TestJobsAgain:
    TABLE = make_table(
        make_route("plain", arguments=["${{ payload.n }}"]),
        make_route("looping", loop="payload.list", when="item != 2", arguments=["${{ item }}"]),
    )
    EVENT = make_event({"n": 7, "list": [1, 2, 3]})

    def test_the_job_that_the_route_makes_today(self) -> None:
        assert self.TABLE.rebuild_jobs(self.EVENT)["plain", ""].arguments == (7,)

    def test_of_an_item(self) -> None:
        again = self.TABLE.rebuild_jobs(self.EVENT)["looping", item_key(3)]
        assert (again.arguments, again.item_index) == ((3,), 2)

    @pytest.mark.parametrize(
        ("route", "key"),
        [
            ("gone", ""),
            ("plain", item_key(1)),
            ("looping", ""),
            ("looping", item_key(2)),
            ("looping", item_key(9)),
        ],
    )
    def test_none_where_it_makes_none(self, route: str, key: str) -> None:
        assert (route, key) not in self.TABLE.rebuild_jobs(self.EVENT)

    def test_none_of_a_source_that_is_gone(self) -> None:
        assert self.TABLE.rebuild_jobs(replace(self.EVENT, source="gone")) == {}


class TestExplain:
    def test_each_check_with_what_was_wanted_and_found(self) -> None:
        route = make_route(
            events=["push", "pull_request.*"],
            match={"payload.ref": "main", "payload.gone": "x", "payload.list": [1, 2]},
            when="payload.ref == 'other'",
        )

        (explanation,) = make_table(route).explain(make_event({"ref": "main", "list": 2}))

        about = [(result.subject, result.expected, result.passed) for result in explanation.results]
        assert about == [
            ("event", "push or pull_request.*", True),
            ("payload.ref", '"main"', True),
            ("payload.gone", '"x"', False),
            ("payload.list", "any of 1, 2", True),
            ("when", "payload.ref == 'other'", False),
        ]
        found = [result.actual for result in explanation.results]
        assert found[:2] == ["push", '"main"']
        assert found[2].startswith("payload.gone is missing")
        assert found[3:] == ["2", "false"]
        assert (explanation.matched, explanation.jobs, explanation.items) == (False, (), ())

    def test_a_route_of_another_source(self) -> None:
        first, second = make_table(make_route(source="alerts"), make_route("second")).explain(make_event({}))

        assert first.results == (CheckResult("source", "alerts", "github", passed=False),)
        assert (first.matched, first.jobs) == (False, ())
        assert [job.route for job in second.jobs] == ["second"]

    def test_each_item(self) -> None:
        route = make_route(
            loop="payload.list", match={"payload.on": True, "item.n": [1, 3]}, arguments=["${{ item.n }}"]
        )
        payload = {"on": True, "list": [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 1}]}

        (explanation,) = make_table(route).explain(make_event(payload))

        assert explanation.results == (
            CheckResult("payload.on", "true", "true", passed=True),
            CheckResult("loop", "items in payload.list", "4 items", passed=True),
        )
        assert [(item.index, item.matched) for item in explanation.items] == [
            (0, True), (1, False), (2, True), (3, True),
        ]  # fmt: skip
        made = [item.job.arguments if item.job else None for item in explanation.items]
        assert made == [(1,), None, (3,), None]
        assert explanation.items[1].results == (CheckResult("item.n", "any of 1, 3", "2", passed=False),)
        assert explanation.failures == ()

    @pytest.mark.parametrize(
        ("payload", "found"),
        [
            ({"list": "a"}, '"a"'),
            ({"list": []}, "[]"),
            ({}, "payload.list is missing; a push has no fields"),
        ],
    )
    def test_a_loop_over_nothing_is_a_condition_that_fails(self, payload: JSON, found: str) -> None:
        (explanation,) = make_table(make_route(loop="payload.list")).explain(make_event(payload))

        assert explanation.failures == (CheckResult("loop", "items in payload.list", found, passed=False),)
        assert (explanation.matched, explanation.jobs) == (False, ())

    def test_what_fails_of_the_item_that_came_nearest(self) -> None:
        route = make_route(loop="payload.list", match={"item.n": 1, "item.m": 1, "item.k": 1})
        items = [{"n": 2, "m": 2, "k": 2}, {"n": 1, "m": 2, "k": 1}, {"n": 2, "m": 1, "k": 2}]

        (explanation,) = make_table(route).explain(make_event({"list": items}))

        assert explanation.failures == (CheckResult("item.m of item 1", "1", "2", passed=False),)

    def test_the_misses_of_an_event_without_jobs_are_those_that_explain_shows(self) -> None:
        routes = [
            make_route("near", match={"payload.ref": "main"}),
            make_route("loop", loop="payload.list", match={"item.n": 1}),
            replace(make_route("otherwise", match={"payload.ref": "other"}), otherwise=True),
        ]
        table = make_table(*routes, make_route("of another event", events=["issues"]))
        event = make_event({"ref": "dev", "list": [{"n": 2}]})

        assert tuple(table.explain_misses(event)) == table.explain(event)[:3]

    def test_all_misses_of_an_event_share_one_budget(self) -> None:
        text = "x" * 64 * MISS_STEPS
        table = make_table(*(make_route(str(at), match={"payload.text": "y"}) for at in range(5)))

        (only,) = table.explain_misses(make_event({"text": text}))

        assert only.failures[0].actual.startswith("not evaluated: the routes need more than 100,000 steps")

    def test_the_items_of_a_miss_end_with_the_budget(self) -> None:
        table = make_table(make_route(loop="payload.list", match={"item": "a"}, when="item == 'c'"))

        (miss,) = table.explain_misses(make_event({"list": ["b"] * (MISS_STEPS // 8)}))

        assert 1 < len(miss.items) < MISS_STEPS // 8
        assert [(each.subject, each.actual) for each in miss.items[0].results] == [
            ("item", '"b"'),
            ("when", "false"),
        ]
        assert [each.subject for each in miss.failures] == ["item of item 0", "when of item 0"]
        (last,) = miss.items[-1].results
        assert (last.subject, last.passed) == ("budget", False)

    def test_a_loop_that_spends_the_budget_is_a_miss_too(self) -> None:
        table = make_table(make_route(loop="payload.list | sort", match={"item": "a"}))

        (miss,) = table.explain_misses(make_event({"list": ["b"] * MISS_STEPS}))

        assert not any(result.passed for result in miss.failures)

    def test_what_went_wrong(self) -> None:
        table = make_table(make_route("a", when="1 / 0"), make_route("b", loop="payload.gone"))
        explanations = table.explain(make_event({}))
        said = tuple(warning for each in explanations for warning in each.warnings)
        assert said == table.jobs_for(make_event({})).warnings
        assert len(said) == 2


# That the two never disagree, whatever the table and the event.

SCALARS = st.sampled_from([None, True, False, 0, 1, 2, 1.5, "", "a", "b", "1", "data:;base64,x"])
ITEM = st.one_of(
    SCALARS, st.fixed_dictionaries({}, optional={"n": SCALARS, "m": SCALARS}), st.lists(SCALARS, max_size=2)
)
PAYLOAD = st.fixed_dictionaries(
    {}, optional={"a": SCALARS, "b": SCALARS, "list": ITEM | st.lists(ITEM, max_size=5)}
)
PATTERN = st.sampled_from(["a", "*", "?", 1, True, None, ["a", 1], {"not": "a"}, {"not": [1, None]}])
OF_EVENT = ["payload.a", "payload.b", "payload.list[*].n", "payload.list[0]", "event"]
OF_ITEM = ["item", "item.n", "index"]
WHENS = [
    "payload.a == 'a'", "payload.a > payload.b", "not payload.b", "payload.a / payload.b == 1",
    "payload.list | length > 1", "payload.a in payload.list", "true", "1 / 0",
]  # fmt: skip
ITEM_WHENS = [
    "item.n == payload.a",
    "index > 0",
    "item / 2 > 0",
    "item.n > 1",
    "item | length == 1",
    "not item",
]
ARGUMENTS: list[Any] = [
    "${{ payload.a }}",
    "x ${{ payload.b }}",
    5,
    None,
    ["${{ payload.list }}"],
    "${{ payload.a + 1 }}",
]
ITEM_ARGUMENTS: list[Any] = ["${{ item }}", "${{ item.n }}", {"k": "${{ item.m | default(index) }}"}]


@st.composite
def routes(draw: st.DrawFn) -> list[Route]:
    made = []
    for number in range(draw(st.integers(1, 4))):
        loop = draw(
            st.none() | st.sampled_from(["payload.list", "[payload.a, payload.b, payload.a]", "payload.gone"])
        )
        looping = loop is not None
        route = make_route(
            f"route {number}",
            source=draw(st.sampled_from(["github", "github", "github", "alerts"])),
            events=draw(st.sampled_from([(), ("push",), ("p*",), ("ping",)])),
            match=draw(st.dictionaries(st.sampled_from(OF_EVENT + OF_ITEM * looping), PATTERN, max_size=2)),
            when=draw(st.none() | st.sampled_from(WHENS + ITEM_WHENS * looping)),
            loop=loop,
            arguments=draw(st.lists(st.sampled_from(ARGUMENTS + ITEM_ARGUMENTS * looping), max_size=2)),
            allow_data_urls=draw(st.booleans()),
        )
        made.append(replace(route, otherwise=draw(st.booleans())))
    return made


@given(routes=routes(), payload=PAYLOAD, source=st.sampled_from(["github", "github", "alerts"]))
@settings(deadline=None, max_examples=examples(250))
def test_explain_and_jobs_for_never_disagree(routes: list[Route], payload: JSON, source: str) -> None:
    table: RoutingTable = make_table(*routes)
    event = make_event(payload, source=source, received_at=NOW)

    routed, explanations = table.jobs_for(event), table.explain(event)

    assert [each.route for each in explanations] == routes
    assert tuple(job for each in explanations for job in each.jobs) == routed.jobs
    # An `otherwise` route is asked last, wherever it stands.
    told = sorted(warning for each in explanations for warning in each.warnings)
    assert told == sorted(routed.warnings)
    for each in explanations:
        agrees_with_itself(each)


def agrees_with_itself(each: Explanation) -> None:
    """What is said of the checks is why there are these jobs."""
    assert each.matched == all(result.passed for result in each.results)
    assert (each.failures == ()) == bool(each.jobs)
    if not each.matched:
        assert (each.jobs, each.items) == ((), ())
    elif each.route.loop is None:
        assert len(each.jobs) == 1
    else:
        assert tuple(item.job for item in each.items if item.job) == each.jobs
    keys = set()
    for item in each.items:
        assert item.matched == all(result.passed for result in item.results)
        assert item.matched or item.job is None
        keys.add(item.job.item_key if item.job else None)
    assert len(keys - {None}) == len(each.jobs) or each.route.loop is None
    assert all(job.task_id == each.route.task.id and job.route == each.route.name for job in each.jobs)
    assert all((job.arguments is None) == (job.reason is not None) for job in each.jobs)
