"""The filter of a list, as its URL has it."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.core.job import JobState
from bridge.outbox.bounds import Window
from bridge.web.query import BadQuery, Query
from tests.support.tables import NOW, make_event


def matches(search: str, payload: Any) -> bool:
    found = Query({"q": search}).events(NOW).matches
    assert found is not None
    return found(make_event(payload))


class TestUrl:
    def test_a_change_keeps_the_rest_and_begins_at_the_first_page(self) -> None:
        query = Query({"source": "github", "before": "7", "q": "a b"})
        assert query.url("/events", source="x") == "/events?source=x&q=a+b"
        assert query.url("/events", q=None) == "/events?source=github"
        assert query.url("/events", before=3) == "/events?source=github&q=a+b&before=3"
        assert Query({}).url("/events") == "/events"

    def test_a_page_that_is_shown_begins_with_its_first_id(self) -> None:
        assert Query({"upto": "7"}).before == 8
        assert Query({"before": "7"}).before == 7
        assert Query({}).before is None


class TestWindow:
    @pytest.mark.parametrize(
        ("values", "window"),
        [
            ({}, Window(NOW - 86400)),
            ({"last": "1h"}, Window(NOW - 3600)),
            ({"from": "2023-11-14T00:00"}, Window(1_699_920_000)),
            ({"from": "2023-11-14T01:00+01:00"}, Window(1_699_920_000)),
            ({"to": "2023-11-14T00:00:00Z"}, Window(0.0, 1_699_920_000)),
        ],
    )
    def test_a_span_of_time(self, values: dict[str, str], window: Window) -> None:
        assert Query(values).window(NOW) == window


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"last": "soon"}, "last must be a duration"),
        ({"from": "yesterday"}, "expected a time"),
        ({"state": "lost"}, "state must be one of waiting, "),
        ({"tab": "x"}, "tab must be one of"),
        ({"before": "-1"}, "before must be a number"),
        ({"before": "²"}, "before must be a number"),
        ({"before": "9" * 30}, "before must be a number"),
        ({"q": "payload.:x"}, "has no valid field"),
        # A part of it may be a part of a secret.
        ({"q": "payload.:" + "x" * 200}, "the search a text of 209 characters has no valid field"),
        *(({key: "x" * 200}, "got a text of 200 characters") for key in ("from", "state", "tab", "before")),
    ],
)
def test_a_mistake_is_named(values: dict[str, str], message: str) -> None:
    with pytest.raises(BadQuery, match=message):
        query = Query(values)
        query.events(NOW)
        query.before  # noqa: B018 - it raises


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "a\udfff"])
def test_text_that_a_database_refuses_is_refused_in_words(text: str) -> None:
    with pytest.raises(BadQuery, match="'source' must be text without NUL"):
        Query.of({"source": text})
    assert Query.of({"source": "\U0001f600", "q": ""}) == Query({"source": "\U0001f600"})


class TestSearch:
    @pytest.mark.parametrize(
        ("search", "found"),
        [
            ("payload.ref:refs/heads/main", True),
            ("payload.ref:refs/heads/*", True),
            ("payload.ref: refs/heads/main", True),
            ("payload.ref:main", False),
            ("payload.number:5", True),
            ("payload.draft:false", True),
            ("payload.none:null", True),
            ("payload.missing:*", False),
            ("payload.commits[*].id:b", True),
            ("payload.url:http://x:80/", True),
            ('payload["a:b"]:c', True),
            ("event:push", True),
        ],
    )
    def test_a_field_and_its_value(self, search: str, found: bool) -> None:
        payload = {
            "ref": "refs/heads/main", "number": 5, "draft": False, "none": None,
            "commits": [{"id": "a"}, {"id": "b"}], "url": "http://x:80/", "a:b": "c",
        }  # fmt: skip
        assert matches(search, payload) is found

    def test_any_other_text_is_a_delivery_id(self) -> None:
        wanted = Query({"q": " 72d3162e "}).events(NOW)
        assert (wanted.delivery_id, wanted.matches) == ("72d3162e", None)

    def test_a_huge_event_costs_no_more_than_its_budget(self) -> None:
        assert not matches("payload[*]:x", [0] * 500_000)


def test_filters() -> None:
    events = Query({"source": "github", "event": "push", "state": "dead", "route": "r", "tab": "none"})
    wanted = events.events(NOW)
    assert (wanted.source, wanted.name, wanted.state, wanted.route) == ("github", "push", JobState.DEAD, "r")
    assert wanted.has_jobs is False
    jobs = Query({"task": "t", "route": "r", "state": "waiting"}).jobs(NOW)
    assert (jobs.task_id, jobs.route, jobs.state) == ("t", "r", JobState.WAITING)
