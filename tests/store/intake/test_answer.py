"""The verdict that a source may ask for in its answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.core.event import JSON
from bridge.routing.routing_table import RoutingTable
from tests.support.intake import BEARER, JSON_HEADERS, VARIABLES, Intake, github_headers

TABLE = """
sources:
  shop:
    type: generic
    bearer_token: "${{ env.TOKEN }}"
    event: payload.type
    delivery_id: payload.id
    answer: verdict
  github: {secret: "${{ env.GITHUB_SECRET }}", answer: verdict}
routes:
  - name: ship
    source: shop
    event: order
    match: {payload.paid: true, payload.country: [AR, "U*"]}
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.total }}"]
  - {name: count, source: shop, event: order, match: {payload.paid: true, payload.country: AR}, task: TASK, secret_key: KEY, task_arguments: []}
  - {name: never, source: github, event: push, match: {payload.ref: main}, task: TASK, secret_key: KEY, task_arguments: []}
"""  # noqa: E501 - a table with one route a line reads better

HEADERS = {**JSON_HEADERS, **BEARER}


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    with closing(Intake(TABLE, tmp_path)) as made:
        yield made


def order(**fields: JSON) -> bytes:
    given = {"type": "order", "id": "o1", "paid": True, "country": "AR", "total": 3}
    return orjson.dumps({**given, **fields})


def answer(intake: Intake, body: bytes) -> tuple[int, dict[str, Any]]:
    answered = intake.receive(intake.request("shop", body, HEADERS))
    return answered.status, answered.body


def verdict(intake: Intake, body: bytes) -> str:
    status, answered = answer(intake, body)
    assert (status, answered["jobs"]) == (200, [])
    text: str = answered["verdict"]
    return text


def test_the_nearest_miss_with_its_field_and_both_values(intake: Intake) -> None:
    assert answer(intake, order(country="BR")) == (200, {
        "event": 1, "jobs": [], "duplicate": False,
        "verdict": "no job: the nearest route is ship, but "
        'payload.country is "BR", expected any of "AR", "U*"',
    })  # fmt: skip


def test_by_default_the_answer_has_ids_alone(intake: Intake) -> None:
    intake.use(TABLE.replace("answer: verdict", "answer: ids"))
    assert answer(intake, order(country="BR"))[1] == {"event": 1, "jobs": [], "duplicate": False}
    intake.use(TABLE.replace("answer: verdict", "dedupe: off").replace(", dedupe: off", ""))
    assert answer(intake, order(country="BR"))[1] == {"event": 1, "jobs": [], "duplicate": True}


def test_the_jobs_of_one_that_made_some(intake: Intake) -> None:
    status, body = answer(intake, order())
    assert (status, len(body["jobs"]), body["verdict"]) == (202, 2, "2 jobs: ship, count")


def test_a_dead_job_with_its_reason_and_line(intake: Intake) -> None:
    status, body = answer(intake, order(total="data:,x", country="US"))
    assert status == 202
    assert body["verdict"].startswith("1 job: ship; route 'ship': job 1 is dead: ")
    assert "data URL" in body["verdict"]


def test_a_duplicate(intake: Intake) -> None:
    answer(intake, order())
    assert verdict(intake, order()) == "no new job: event 1 has its jobs already"
    answer(intake, order(id="o2", paid=False))
    assert "payload.paid is false, expected true" in verdict(intake, order(id="o2", paid=False))


def test_a_refused_replay(intake: Intake) -> None:
    text = TABLE.replace('GITHUB_SECRET }}", ', 'GITHUB_SECRET }}", replays: refuse, ')
    intake.use(text.replace("match: {payload.ref: main}, ", ""))
    body = orjson.dumps({"ref": "main", "before": "a", "after": "b"})
    first, again = (
        intake.receive(intake.request("github", body, github_headers(body, delivery=name))).body
        for name in ("first", "second")
    )
    assert first["verdict"] == "1 job: never"
    assert again["verdict"] == "no job: a replay: the same body as event 1, delivery id first"


def test_an_event_that_no_route_wants(intake: Intake) -> None:
    assert verdict(intake, order(type="refund")) == "no job: no route wants refund from shop"


def test_a_ping(intake: Intake) -> None:
    body = orjson.dumps({"zen": "Keep it logically awesome.", "hook_id": 1, "hook": {}})
    answered = intake.receive(intake.request("github", body, github_headers(body, "ping")))
    assert answered.body["verdict"] == "no job: a test or confirmation of the sender"


def test_an_event_that_cannot_be_read(intake: Intake) -> None:
    text = verdict(intake, b'{"id": "o1"}')
    assert text.startswith("no jobs, because its event cannot be read: payload.type is missing")


def test_a_secret_in_a_field_is_masked(intake: Intake) -> None:
    text = verdict(intake, order(country=f"{'x' * 190}{VARIABLES['TASK_KEY']}"))
    assert f'is "{"x" * 190}<secret>"' in text


def test_long_values_are_cut(intake: Intake) -> None:
    assert len(verdict(intake, order(country="B" * 1_000_000))) < 400


#: Each fails, or creates a dead job, in another way; a pushed `value` or `list` is hostile.
HOSTILE_TABLE = """
sources:
  shop:
    type: generic
    bearer_token: "${{ env.TOKEN }}"
    event: payload.type
    delivery_id: payload.id
    answer: verdict
routes:
  - {name: match, source: shop, event: match, match: {payload.value: x}, task: TASK, secret_key: KEY, task_arguments: []}
  - {name: any, source: shop, event: any, match: {"payload.list[*].value": x}, task: TASK, secret_key: KEY, task_arguments: []}
  - {name: when, source: shop, event: when, when: payload.valu | length > 3, task: TASK, secret_key: KEY, task_arguments: []}
  - {name: loop, source: shop, event: loop, loop: payload.list, match: {item.a: x}, task: TASK, secret_key: KEY, task_arguments: []}
  - {name: dead, source: shop, event: dead, task: TASK, secret_key: KEY, task_arguments: ["${{ payload.valu }}"]}
  - {name: inner, source: shop, event: inner, task: TASK, secret_key: KEY, task_arguments: ["${{ payload.value.x }}"]}
"""  # noqa: E501 - a table with one route a line reads better
SECRET, SHORT_SECRET = VARIABLES["TASK_KEY"], VARIABLES["TOKEN"]
HOSTILE: dict[str, JSON] = {
    "long": "\U0001f600" * 20_000,
    "controls": '\x00\x1b[2J\u202e\ud7ff"\\\n' * 1000,
    "many names": {f"{number}{'k' * 300}": 1 for number in range(2000)},
    "one long name": {"\U0001f600" * 20_000: 1},
    "many": [{"value": "y" * 100}] * 2000,
    "deep": orjson.loads("[" * 50 + "]" * 50),
    "a secret": SECRET,
    "a secret at the cut": "x" * 170 + SECRET,
    "a secret as a name": {SECRET: 1, SHORT_SECRET: 1, "a": {"x" * 40 + SECRET: 1}},
}
#: The most bytes of an answer whose ids are short.
ANSWER_BYTES = 2500


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_payload_makes_a_large_answer_or_shows_a_secret(
    make_intake: Callable[[str], Intake], hostile: str
) -> None:
    intake = make_intake(HOSTILE_TABLE)
    value, client = HOSTILE[hostile], intake.app().test_client()
    names = value if isinstance(value, dict) else {}
    for route in (*(each.name for each in intake.table.routes), SECRET, "\U0001f600" * 255, None):
        sent = {**names, "id": f"{route}"[:5], "value": value, "list": [value, {"value": value}]}
        sent |= {} if route is None else {"type": route}
        answered = client.post("/hooks/shop", data=orjson.dumps(sent), headers=HEADERS)
        assert answered.status_code in (200, 202)
        assert len(answered.data) < ANSWER_BYTES, (route, len(answered.data))
        assert isinstance(orjson.loads(answered.data)["verdict"], str)
        assert not {SECRET[:16], SHORT_SECRET} & {answered.text[at : at + 16] for at in range(ANSWER_BYTES)}


@pytest.mark.parametrize("token", ["", "Bearer wrong", f"Bearer {VARIABLES['TOKEN']}x"])
def test_a_stranger_gets_no_verdict(intake: Intake, token: str) -> None:
    for source, headers in (("shop", {"Authorization": token}), ("github", github_headers(b"x"))):
        client = intake.app().test_client()
        refused = client.post(
            f"/hooks/{source}", data=order(country="BR"), headers={**JSON_HEADERS, **headers}
        )
        assert refused.status_code == 401
        found = orjson.loads(refused.data)
        assert found.keys() == {"type", "title", "status"}
        assert not [name for name in ("ship", "country", "AR", "route") if name in refused.text]


def test_the_link_to_the_page(intake: Intake) -> None:
    intake.public_url = "https://hooks.example.com"
    intake.use(TABLE)
    assert answer(intake, order(country="BR"))[1]["url"] == "https://hooks.example.com/events/1"
    assert answer(intake, order(id="o2"))[1]["url"] == "https://hooks.example.com/events/2"


def test_what_goes_wrong_with_it_does_not_change_the_status(
    intake: Intake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr(RoutingTable, "explain_misses", fails)
    with caplog.at_level(logging.ERROR):
        assert answer(intake, order(country="BR")) == (200, {"event": 1, "jobs": [], "duplicate": False})
    assert "event 1: no verdict for its answer" in caplog.text
    assert intake.outbox.summary(1).jobs == 0


def test_a_source_that_does_not_ask_for_it_is_not_explained(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained: list[object] = []

    def explain(table: RoutingTable, event: object) -> Iterator[Any]:
        explained.append(event)
        return iter(())

    monkeypatch.setattr(RoutingTable, "explain_misses", explain)
    intake.use(TABLE.replace("answer: verdict", "answer: ids"))
    answer(intake, order(country="BR"))
    assert explained == []


def test_it_is_made_after_the_commit(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []

    def look(table: RoutingTable, event: object) -> Iterator[Any]:
        found.append(intake.outbox.summary(1).id)
        return iter(())

    monkeypatch.setattr(RoutingTable, "explain_misses", look)
    answer(intake, order(country="BR"))
    assert found == [1]
