"""Only the routes whose ``event:`` may match an event are evaluated, in the order of the table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.routing.event_index import EventIndex
from tests.support.tables import make_event, make_route, make_table

ROUTES = {
    "push": ["push"],
    "opened": ["pull_request.opened"],
    "any pull request": ["pull_request"],
    "pull requests by a wildcard": ["pull_request.*"],
    "several": ["issues", "push", "pull_request.opened"],
    "any event": [],
    "escaped": ["pu\\*sh"],
}


@pytest.mark.parametrize(
    ("event", "action", "expected"),
    [
        ("push", None, ["push", "pull requests by a wildcard", "several", "any event"]),
        (
            "pull_request",
            "opened",
            ["opened", "any pull request", "pull requests by a wildcard", "several", "any event"],
        ),
        ("pull_request", "closed", ["any pull request", "pull requests by a wildcard", "any event"]),
        ("pu*sh", None, ["pull requests by a wildcard", "any event", "escaped"]),
        ("ping", None, ["pull requests by a wildcard", "any event"]),
    ],
)
def test_candidates_are_the_routes_whose_event_may_match(
    event: str, action: str | None, expected: list[str]
) -> None:
    index = EventIndex([make_route(name, events=events) for name, events in ROUTES.items()])
    candidates = index.candidates(make_event(event=event, action=action))
    assert [route.name for route in candidates] == expected


@pytest.mark.parametrize("event", ["push", "pull_request", "ping", "issues", "pu*sh"])
@pytest.mark.parametrize("action", [None, "opened", "closed"])
def test_every_route_that_matches_is_a_candidate(event: str, action: str | None) -> None:
    routes = [make_route(name, events=events) for name, events in ROUTES.items()]
    table = make_table(*routes)
    one = make_event(event=event, action=action)
    by_one = [make_table(route).jobs_for(one).jobs for route in routes]
    assert table.jobs_for(one).jobs == tuple(job for jobs in by_one for job in jobs)
    assert [each.matched for each in table.explain(one)] == [bool(jobs) for jobs in by_one]


def test_an_otherwise_route_of_another_event_is_explained_by_its_event() -> None:
    otherwise = replace(make_route("rest", events=["issues"]), otherwise=True)
    (explained,) = make_table(otherwise).explain(make_event({}))
    assert [(result.subject, result.passed) for result in explained.results] == [
        ("otherwise", True),
        ("event", False),
    ]
