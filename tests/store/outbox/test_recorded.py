"""Reading back what has come: every event once, the newest first, with the jobs of its last making."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection

from bridge.core.job import NewJob
from bridge.core.redaction import without_content
from bridge.outbox import history
from bridge.outbox.store import Outbox
from bridge.routing.route import OnDead
from tests.support.tables import NOW, items, make_event, make_job, make_webhook

Store = Callable[..., int]


@pytest.fixture
def store(outbox: Outbox) -> Store:
    """Stores an event that came at a time, with jobs; its number."""

    def store(at: float, *jobs: NewJob, size: int = 0) -> int:
        event = make_event({"text": "x" * size}, delivery_id=f"d-{at}-{len(outbox.events())}", received_at=at)
        return outbox.store(make_webhook(*jobs, event=event)).event_id

    return store


def seen(outbox: Outbox, since: float | None = None, last: int | None = None) -> list[int]:
    return [each.id for each in outbox.history(since=since, last=last)]


@pytest.mark.parametrize("page", [1, 2, 100])
def test_each_comes_once_the_newest_first(
    outbox: Outbox, store: Store, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(history, "PAGE_EVENTS", page)
    assert seen(outbox) == []
    numbers = [store(NOW + at) for at in (0, 5, 1, 5, 5, 2)]
    newest = [numbers[order] for order in (4, 3, 1, 5, 2, 0)]
    assert seen(outbox) == newest
    assert seen(outbox, last=3) == newest[:3]
    assert seen(outbox, since=NOW + 2) == newest[:4]
    assert seen(outbox, since=NOW + 2, last=10) == newest[:4]


def test_a_page_ends_where_it_would_grow_large(
    outbox: Outbox, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PAGE_BYTES", 1000)
    numbers = [store(NOW + at, size=size) for at, size in enumerate([10, 900, 900, 10, 10])]
    numbers.append(store(NOW + 9, make_job("y" * 2000)))
    pages = []
    read_page = history._page

    def counted(connection: Connection, place: Mapping[str, float]) -> Any:
        found = read_page(connection, place)
        pages.append(len(found[0]))
        return found

    monkeypatch.setattr(history, "_page", counted)
    assert seen(outbox) == numbers[::-1]
    assert pages == [1, 3, 2, 0]


def test_many_jobs_make_it_large_too(outbox: Outbox, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE_BYTES", 5 * history.JOB_BYTES)
    for at in range(2):
        store(NOW + at, *items(3))
    place = {"before": float("inf"), "before_id": 0, "since": float("-inf"), "limit": 10}
    (newest, _, made) = outbox._database.read(lambda connection: history._page(connection, place))
    assert (list(newest), [len(jobs) for jobs in made.values()]) == ([2], [3])


def test_its_jobs_are_those_of_its_last_replay(outbox: Outbox, store: Store) -> None:
    once = store(NOW, *items(2), make_job(route=OnDead.NAME, item_key="1.0"))
    again = store(NOW + 1, *items(2))
    outbox.replay(again, [make_job("first replay", route="a"), make_job("b", route="b")])
    outbox.replay(again, [make_job("second replay", route="a")])
    without = store(NOW + 2)
    found = {each.id: [job.arguments for job in each.jobs] for each in outbox.history(since=None, last=None)}
    assert found == {without: [], again: [("second replay",)], once: [(0,), (1,)]}


def test_after_a_replay_come_what_else_was_made_since(outbox: Outbox) -> None:
    webhook = make_webhook(make_job("first", route="a"), event=make_event({"a": 1}))
    event_id = outbox.store(webhook).event_id
    outbox.replay(event_id, [make_job("replay", route="a"), make_job("replay", route="b")])
    again = [make_job("again", route=route) for route in "abc"]
    outbox.store(replace(webhook, jobs=tuple(again)))
    (found,) = outbox.history(since=None, last=None)
    assert [(job.route, job.arguments) for job in found.jobs] == [
        ("a", ("replay",)), ("b", ("again",)), ("c", ("again",)),
    ]  # fmt: skip


def test_an_event_comes_as_far_as_it_is_kept(outbox: Outbox) -> None:
    whole, empty = make_event({"a": 1}), without_content(make_event({"a": 1}, delivery_id="2"))
    for event in (whole, empty):
        outbox.store(make_webhook(event=event))
    assert [each.event for each in outbox.history(since=None, last=None)] == [empty, whole]
