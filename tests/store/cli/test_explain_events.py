"""What `explain` says of real and of made-up events: each manner of miss, and what the server does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.core.event import JSON
from bridge.core.json_values import is_number
from tests.support.examples import examples
from tests.support.intake import Intake, sample, sender_request
from tests.support.terminal import Terminal


def table_of(sources: dict[str, Any], routes: dict[str, dict[str, Any]]) -> str:
    """A table's YAML (JSON is YAML) below its first section, of routes by their names."""
    rows = [{"name": name, "task": "run", "task_arguments": [], **row} for name, row in routes.items()]
    task = "tasks: {run: {id: TASK, secret_key: KEY}}"
    return f"sources: {json.dumps(sources)}\n{task}\nroutes: {json.dumps(rows)}\n"


def beside(folder: Path) -> Terminal:
    """The commands on the table and the store of the intake in the same folder."""
    return Terminal(folder, (folder / "table.yml").read_text())


# Every manner of miss


#: Events of real senders with a text, a number and a list of objects, which the routes below ask for.
SENT = (
    "alertmanager/firing", "alertmanager/firing__mixed", "alertmanager/resolved",
    "azure-devops/git.push__without_subscription", "bitbucket-server/repo;refs_changed", "forgejo/push",
    "generic/event__order", "gitea/push", "github/issues.opened", "github/pull_request.opened", "github/push",
    "gitlab/Pipeline Hook.failed", "gitlab/Push Hook", "gitlab/Tag Push Hook", "gogs/push", "grafana/firing",
    "jira/jira;issue_updated", "pagerduty/incident.triggered", "slack/app_mention",
    "zoom/recording.completed",
)  # fmt: skip


def first(value: JSON, fits: Callable[[Any], bool], path: str = "payload") -> Iterator[tuple[str, Any]]:
    """The paths and values that fit, in the order in which they stand, not inside lists."""
    if fits(value):
        yield path, value
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from first(inner, fits, f"{path}.{key}")


def is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) < 100 and not set(value) & set("*?\\'")


def is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def in_json(value: JSON) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def misses(event: str, payload: JSON) -> dict[str, tuple[dict[str, Any], list[str]]]:
    """By its name a route for each manner of miss, and what must be said: about what, wanted, found."""
    text, value = next(first(payload, is_text))
    number, digits = next(first(payload, is_number))
    many, objects = next(first(payload, is_list_of_objects))
    key = next(path for path, _ in first(objects[0], is_text, "item")).removeprefix("item.")
    inner = [one for one in (reach(item, key) for item in objects) if one is not None]
    found = in_json(value)
    return {
        "by its event": ({"event": "no.such"}, [f"event: expected no.such, got {event}"]),
        "a list": ({"match": {text: ["zz", "yy"]}}, [f'{text}: expected any of "zz", "yy", got {found}']),
        "a glob": ({"match": {text: "zz*"}}, [f'{text}: expected "zz*", got {found}']),
        "not": ({"match": {text: {"not": value}}}, [f"{text}: expected not {found}, got {found}"]),
        "a regex": (
            {"match": {text: {"regex": "^zz$"}}},
            [f"{text}: expected text with /^zz$/, got {found}"],
        ),
        "any element": (
            {"match": {f"{many}[*].{key}": "zz"}},
            [f'{many}[*].{key}: expected "zz", got {in_json(inner)}'],
        ),
        "null": ({"match": {text: None}}, [f"{text}: expected null, got {found}"]),
        "a number": ({"match": {number: 5.5}}, [f"{number}: expected 5.5, got {in_json(digits)}"]),
        "missing": (
            {"match": {"payload.zz": "x"}},
            ['payload.zz: expected "x", got payload.zz is missing; '],
        ),
        "when": ({"when": f"{text} == 'zz'"}, [f"when: expected {text} == 'zz', got false"]),
        "no list": ({"loop": text}, [f"loop: expected items in {text}, got {found}"]),
        "items": (
            {"loop": many, "match": {f"item.{key}": "zz"}},
            [f'item.{key}: expected "zz", got {in_json(one)}' for one in inner],
        ),
        "otherwise": ({"otherwise": True}, ["otherwise: expected no other route that matches, got matches"]),
    }


def reach(value: JSON, path: str) -> JSON:
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


@pytest.mark.parametrize("sent", SENT)
def test_of_a_stored_event_every_route_names_what_failed_and_what_it_found(
    make_intake: Callable[[str], Intake], tmp_path: Path, sent: str
) -> None:
    source, _, stem = sent.partition("/")
    event = stem.partition("__")[0].replace(";", ":")
    body = sample(f"{sent}.json")
    routes = misses(event, json.loads(body))
    rows = {
        "matches": {"source": source},
        **{name: {"source": source} | row for name, (row, _) in routes.items()},
    }
    intake = make_intake(table_of({source: {"allow_unsigned": True}}, rows))
    intake.receive(sender_request(intake.source(source), event, body))

    output = beside(tmp_path).run("explain", "1").output

    blocks = dict(re.findall(r"^route '(.*?)': (.*?)(?:\n\n|\Z)", output, re.MULTILINE | re.DOTALL))
    assert blocks.keys() == rows.keys()
    assert len(routes) >= 10
    for name, (_, expected) in routes.items():
        assert blocks[name].startswith("no job\n")
        failing = re.findall(r"^ +NO  (.*)$", blocks[name], re.MULTILINE)
        if name == "missing":
            assert [line.startswith(expected[0]) for line in failing] == [True]
        else:
            assert [line for line in failing if " is missing; " not in line] == expected


def test_there_are_events_enough_of_several_senders() -> None:
    assert len(set(SENT)) >= 20
    assert len({sent.partition("/")[0] for sent in SENT}) >= 10


# Never other than the server

SCALARS = st.sampled_from(["a", 1, "ab", 2.5, None, True, "", 0, "1"])
ITEMS = SCALARS | st.fixed_dictionaries({"n": SCALARS}, optional={"m": SCALARS})
PAYLOADS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["push", "ping"]),
        "act": st.sampled_from([None, "made", "gone"]),
        "a": SCALARS,
        "list": st.lists(ITEMS, max_size=4) | st.lists(ITEMS, min_size=2, max_size=4) | ITEMS,
    },
    optional={"b": SCALARS},
)
#: Of an event, and of an item.
PATHS = ["payload.a", "payload.b", "payload.list[*].n", "payload.list[0]", "event", "action"]
ITEM_PATHS = ["item", "item.n"]
PATTERNS = st.sampled_from(["*", ["a*", 1, None], {"not": "a"}, {"not": [1, None]}, {"regex": "^a"}, True])
WHENS = [
    "payload.a != payload.b", "payload.a < 2", "not payload.b", "payload.a / payload.b >= 0",
    "payload.list | length < 3", "'a' in payload.list",
]  # fmt: skip
ITEM_WHENS = ["item.n != payload.a", "index > 0", "item < 2", "not item"]
LOOPS = ["payload.list", "payload.list", "[payload.a, 1, payload.a]", "payload.b"]
ARGUMENTS = ["${{ payload.a }}", "x ${{ payload.list }}", "${{ payload.a + 1 }}", "plain", 5, None]
ITEM_ARGUMENTS = ["${{ item }}", "${{ item.n }}", "${{ item.m | default(index) }}"]


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """A route as the table writes it, without its name and task."""
    loop = draw(st.none() | st.sampled_from(LOOPS))
    of_item = 0 if loop is None else 1
    paths, whens = PATHS + ITEM_PATHS * of_item, WHENS + ITEM_WHENS * of_item
    arguments = st.sampled_from(ARGUMENTS + ITEM_ARGUMENTS * of_item)
    row = {
        "source": draw(st.sampled_from(["hook", "hook", "hook", "other"])),
        "event": draw(st.sampled_from([None, None, "p*", "push", ["ping", "*.gone"]])),
        "match": draw(st.none() | st.dictionaries(st.sampled_from(paths), PATTERNS, min_size=1, max_size=2)),
        "when": draw(st.none() | st.none() | st.sampled_from(whens)),
        "loop": loop,
        "otherwise": draw(st.sampled_from([None, None, True])),
        "task_arguments": draw(st.lists(arguments, min_size=1, max_size=2)),
    }
    return {key: value for key, value in row.items() if value is not None}


OPTIONS = {"event": "payload.kind", "action": "payload.act", "delivery_id": "payload.id"}
SOURCES = {name: {"type": "generic", "allow_unsigned": True, **OPTIONS} for name in ("hook", "other")}
DELIVERIES = count()


@pytest.fixture
def intake(make_intake: Callable[[str], Intake]) -> Intake:
    return make_intake(table_of(SOURCES, {"any": {"source": "hook"}}))


fast = settings(
    max_examples=examples(40),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@given(routes=st.lists(rows(), min_size=4, max_size=6), payloads=st.lists(PAYLOADS, min_size=2, max_size=2))
@fast
def test_explain_says_of_every_event_what_the_server_made_of_it(
    intake: Intake,
    tmp_path: Path,
    routes: list[dict[str, Any]],
    payloads: list[dict[str, JSON]],
) -> None:
    named = {f"route {number}": row for number, row in enumerate(routes)}
    intake.use(table_of(SOURCES, named))
    terminal = beside(tmp_path)
    for payload in payloads:
        body = json.dumps({**payload, "id": f"d{next(DELIVERIES)}"})
        event_id = int(intake.post("hook", body.encode()).body["event"])
        made = made_by_the_server(intake, event_id)

        expect = [word for route in made for word in ("--expect", route)] or ["--expect-none"]
        for of in ([str(event_id)], ["--source", "hook", "-"]):
            result = terminal.run("explain", "--json", *expect, *of, stdin=body)
            explained = json.loads(result.stdout)["routes"]

            assert [each["route"] for each in explained] == [*named]
            assert {each["route"]: jobs_said(each) for each in explained if each["jobs"]} == made
            assert [each["route"] for each in explained if all_hold(each)] == sorted(made)
            assert (result.exit_code, result.stderr) == (0, "")


def made_by_the_server(intake: Intake, event_id: int) -> dict[str, list[Any]]:
    """By the routes that made some, the jobs: of which item, with which arguments, or why they are dead."""
    made: dict[str, list[Any]] = {}
    for job in intake.jobs():
        if job.event_id == event_id:
            result = job.reason if job.arguments is None else list(job.arguments)
            made.setdefault(job.route, []).append((job.item_index, result))
    return made


def jobs_said(route: dict[str, Any]) -> list[Any]:
    return [(job["item"], job.get("task_arguments", job.get("reason"))) for job in route["jobs"]]


def all_hold(route: dict[str, Any]) -> bool:
    """Whether what is said of the conditions, and of those of some item, is that they hold."""
    of_event = all(each["passed"] for each in route["conditions"])
    of_items = [all(each["passed"] for each in item["conditions"]) for item in route["items"]]
    return of_event and (any(of_items) or not of_items)
