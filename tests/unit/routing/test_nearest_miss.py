"""Which route came nearest to an event."""

from __future__ import annotations

from bridge.core.event import JSON
from bridge.routing.check_result import CheckResult
from bridge.routing.nearest_miss import Miss, nearest_first, nearest_miss
from bridge.routing.route import Route
from tests.support.tables import make_event, make_route, make_table


def miss_of(payload: JSON, *routes: Route) -> Miss | None:
    explanations = make_table(*routes).explain(make_event(payload))
    return nearest_miss(explanations, "github", lambda text: text.replace("hidden", "<secret>"))


def test_the_route_with_the_fewest_failed_checks_wins() -> None:
    far = make_route("far", match={"payload.a": 1, "payload.b": 1})
    near = make_route("near", match={"payload.a": 2, "payload.b": 1})
    assert miss_of({"a": 2, "b": 2}, far, near) == Miss("near", CheckResult("payload.b", "1", "2", False))


def test_of_equal_ones_the_one_with_more_passed_checks_wins_then_the_first() -> None:
    one = make_route("one", match={"payload.b": 1})
    more = make_route("more", match={"payload.a": 2, "payload.b": 1})
    again = make_route("again", match={"payload.a": 2, "payload.b": 3})
    miss = miss_of({"a": 2, "b": 2}, one, more, again)
    assert miss is not None
    assert miss.route == "more"


def test_a_route_of_another_event_or_source_is_none() -> None:
    assert miss_of({}, make_route(events=["issues"]), make_route("alerts", source="alerts")) is None


def test_an_event_that_every_route_takes_has_no_miss() -> None:
    assert miss_of({}, make_route()) is None


def test_the_actual_value_is_masked_before_it_is_cut() -> None:
    miss = miss_of({"a": f"{'x' * 195}hidden"}, make_route(match={"payload.a": "b"}))
    assert miss is not None
    assert miss.check.actual.startswith(f'"{"x" * 195}<sec')
    assert "hid" not in miss.check.actual


def test_routes_that_match_come_first() -> None:
    miss, other = make_route("miss", match={"payload.a": 1}), make_route("other", events=["issues"])
    explanations = make_table(other, miss, make_route("hit")).explain(make_event({}))
    assert [each.route.name for each in nearest_first(explanations)] == ["hit", "miss", "other"]
