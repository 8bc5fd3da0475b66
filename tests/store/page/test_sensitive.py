"""The page hides the arguments of a sensitive route's jobs until a person asks for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from bridge.core.job import JobState
from bridge.report.jobs import job_lines
from bridge.routing.routing_table import RoutingTable
from tests.support.intake import BEARER, JSON_HEADERS, Intake
from tests.support.page import HTML
from tests.support.tables import make_route, make_table

PASSWORD = "correct-horse-battery"

TABLE = """
sources:
  shop: {type: generic, bearer_token: "${{ env.TOKEN }}", event: payload.type, delivery_id: payload.id}
routes:
  - {name: pay, source: shop, event: order, task: TASK, secret_key: KEY, task_arguments: ["${{ payload.card }}"], sensitive: true}
  - {name: ship, source: shop, event: parcel, task: TASK, secret_key: KEY, task_arguments: ["${{ payload.card }}"]}
"""  # noqa: E501 - a table with one route a line reads better

#: The text of a page.
Show = Callable[[str], str]


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    with closing(Intake(TABLE, tmp_path)) as made:
        for number, event in enumerate(("order", "parcel"), 1):
            body = orjson.dumps({"type": event, "id": str(number), "card": f"card-of-{event}"})
            made.post("shop", body, {**JSON_HEADERS, **BEARER})
        yield made


def signed_in(intake: Intake) -> Show:
    client = intake.app({"BRIDGE_ADMIN_PASSWORD": PASSWORD}).test_client()
    form = client.get("/sign-in", headers=HTML).text
    (token,) = re.findall(r'name="csrf_token" value="([^"]+)"', form)
    assert client.post("/sign-in", data={"csrf_token": token, "password": PASSWORD}).status_code == 303

    def show(path: str) -> str:
        answer = client.get(path, headers=HTML)
        assert answer.status_code == 200
        return answer.text

    return show


@pytest.mark.parametrize("path", ["/jobs", "/events"])
def test_a_list_hides_them(intake: Intake, path: str) -> None:
    text = signed_in(intake)(path)
    assert "card-of-order" not in text
    assert "hidden" in text
    assert "card-of-parcel" in text


def test_a_job_shows_them_when_asked(intake: Intake) -> None:
    show = signed_in(intake)
    text = show("/jobs/1")
    assert "card-of-order" not in text
    assert 'Hidden: the route is sensitive. <a href="/jobs/1?show=arguments">Show</a>' in text
    assert "card-of-order" in show("/jobs/1?show=arguments")
    assert "card-of-parcel" in show("/jobs/2")


def test_a_job_that_is_asked_for_again_while_it_waits_does_not_hide_them_again(intake: Intake) -> None:
    assert 'hx-get="/jobs/1?show=arguments"' in signed_in(intake)("/jobs/1?show=arguments")
    assert 'hx-get="/jobs/1"' in signed_in(intake)("/jobs/1")


def test_a_job_whose_arguments_could_not_be_built_says_so(intake: Intake) -> None:
    intake.post("shop", b'{"type": "order", "id": "3"}', {**JSON_HEADERS, **BEARER})
    assert intake.outbox.job(3).state is JobState.DEAD
    assert "They could not be built." in signed_in(intake)("/jobs/3")


def test_the_commands_show_them(intake: Intake) -> None:
    lines = job_lines(intake.outbox.job(1), intake.outbox.attempts(1))
    assert any("card-of-order" in line for line in lines)


def test_a_route_that_left_a_table_with_sensitive_ones_may_have_been_one() -> None:
    table: RoutingTable = make_table(make_route("plain"))
    assert [table.is_sensitive(name) for name in ("plain", "gone")] == [False, False]
    table = make_table(make_route("plain"), replace(make_route("secret"), sensitive=True))
    assert [table.is_sensitive(name) for name in ("plain", "secret", "gone")] == [False, True, True]
