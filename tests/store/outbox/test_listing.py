"""Lists of stored events and jobs: filters, pages, counts, and what an index answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, delete
from sqlalchemy import event as sqlalchemy_event

from bridge.core.event import Event
from bridge.core.job import JobState
from bridge.outbox import bounds, listing
from bridge.outbox.activity import Minute
from bridge.outbox.bounds import Shown, Window
from bridge.outbox.listing import EventFilter, JobFilter
from bridge.outbox.schema import events
from bridge.outbox.store import Outbox
from tests.support.intake import beside
from tests.support.sending import send, store
from tests.support.statements import executed
from tests.support.tables import (
    NOW,
    Clock,
    dead_job,
    engine_of,
    make_event,
    make_job,
    make_task,
    make_webhook,
)

EVER = Window(0.0)


def receive(outbox: Outbox, number: int, *jobs: Any, warnings: Iterable[str] = (), **event: Any) -> int:
    given = make_event(event.pop("payload", {"number": number}), **{"delivery_id": f"d-{number}"} | event)
    return outbox.store(make_webhook(*jobs, event=given, warnings=warnings)).event_id


def shown(counts: Mapping[Any, listing.Count]) -> dict[str, str]:
    """The counts that are not 0, as a tab shows them."""
    return {str(key): str(count) for key, count in counts.items() if str(count) != "0"}


def ids(page: listing.Page[listing.ListedEvent]) -> list[int]:
    return [each.summary.id for each in page.rows]


class TestEvents:
    def test_pages_follow_each_other_without_a_gap(self, outbox: Outbox) -> None:
        made = [receive(outbox, number) for number in range(8)]
        pages, before = [], None
        while True:
            page = outbox.listing.events(EventFilter(EVER), before, 3)
            pages.append(ids(page))
            before = page.before
            if before is None:
                break
        assert pages == [made[:-4:-1], made[-4:-7:-1], made[1::-1]]

    def test_the_last_page_is_full_and_names_no_other(self, outbox: Outbox) -> None:
        made = [receive(outbox, number) for number in range(3)]
        page = outbox.listing.events(EventFilter(EVER), None, 3)
        assert (ids(page), page.before) == (made[::-1], None)

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            ({}, ["push", "alert", "opened", "none", "bad"]),
            ({"source": "alerts"}, ["alert"]),
            ({"name": "issues.opened"}, ["opened"]),
            ({"name": "issues"}, ["opened"]),
            ({"name": "push"}, ["push", "none", "bad"]),
            ({"has_jobs": True}, ["push", "alert"]),
            ({"has_jobs": False}, ["opened", "none", "bad"]),
            ({"state": JobState.DEAD}, ["alert"]),
            ({"route": "second"}, ["alert"]),
            ({"has_warnings": True}, ["bad"]),
            ({"delivery_id": "d-1"}, ["alert"]),
            ({"delivery_id": "d-1", "source": "github"}, []),
            ({"delivery_id": "d-9"}, []),
            ({"matches": lambda event: event.payload == {"number": 3}}, ["none"]),
            ({"window": Window(NOW + 50)}, ["none", "bad"]),
            ({"window": Window(0.0, NOW + 50)}, ["push", "alert", "opened"]),
        ],
        ids=lambda value: "-".join(map(str, value))[:40] or "all",
    )
    def test_a_filter_selects(self, outbox: Outbox, wanted: dict[str, Any], found: list[str]) -> None:
        made = {
            "push": receive(outbox, 0, make_job("x")),
            "alert": receive(outbox, 1, dead_job(route="second"), source="alerts", event="firing"),
            "opened": receive(outbox, 2, event="issues", action="opened"),
            "none": receive(outbox, 3, received_at=NOW + 100),
            "bad": receive(outbox, 4, warnings=["route 'x': when: no"], received_at=NOW + 200),
        }
        page = outbox.listing.events(replace(EventFilter(EVER), **wanted))
        assert ids(page) == sorted((made[name] for name in found), reverse=True)
        is_indexed = not set(wanted) - {"source", "delivery_id", "window"}
        assert page.is_partial is not is_indexed

    def test_a_delivery_id_of_several_sources(self, outbox: Outbox) -> None:
        assert ids(outbox.listing.events(EventFilter(EVER, delivery_id="d-0"))) == []
        names = ("zoom", "a", "", "Z", "é", "a b")
        made = [receive(outbox, 0, source=name) for name in names]
        receive(outbox, 1, source="a")
        assert ids(outbox.listing.events(EventFilter(EVER, delivery_id="d-0"))) == made[::-1]

    def test_jobs_come_with_their_event(self, outbox: Outbox) -> None:
        receive(outbox, 0, make_job("x"), make_job("y", route="second"))
        (row,) = outbox.listing.events(EventFilter(EVER)).rows
        assert [job.route for job in row.jobs] == ["first", "second"]
        assert row.summary.jobs == 2

    def test_a_filter_without_an_index_looks_at_the_newest(
        self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listing, "SCANNED", 2)
        receive(outbox, 0, make_job("x"))
        for number in (1, 2):
            receive(outbox, number)
        assert ids(outbox.listing.events(EventFilter(EVER, has_jobs=True))) == []
        # A filter with one looks at all.
        assert len(outbox.listing.events(EventFilter(EVER, source="github")).rows) == 3

    def test_counts_of_tabs(self, outbox: Outbox) -> None:
        receive(outbox, 0, make_job("x"))
        receive(outbox, 1)
        receive(outbox, 2, warnings=["no"])
        counts = outbox.listing.count_events(EventFilter(EVER, has_jobs=True))
        assert shown(counts) == {"all": "3", "jobs": "1", "none": "2", "failed": "1"}

    def test_a_count_that_leaves_out_older_events_says_so(
        self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listing, "SCANNED", 2)
        receive(outbox, 0, make_job("x"), warnings=["no"])
        receive(outbox, 1)
        assert shown(outbox.listing.count_events(EventFilter(EVER)))["jobs"] == "1+"
        receive(outbox, 2)
        counts = shown(outbox.listing.count_events(EventFilter(EVER)))
        assert counts == {"all": "2+", "jobs": "0+", "none": "2+", "failed": "0+"}

    def test_ids_of_a_filter(self, outbox: Outbox) -> None:
        made = [receive(outbox, number, source="github" if number % 2 else "alerts") for number in range(4)]
        assert outbox.listing.event_ids(EventFilter(EVER, source="github"), None, 9) == [made[1], made[3]]

        def is_first(event: Event) -> bool:
            return bool(event.payload == {"number": 0})

        assert outbox.listing.event_ids(EventFilter(EVER, matches=is_first), None, 9) == [made[0]]


class TestJobs:
    def test_each_filter_and_the_counts(self, outbox: Outbox, clock: Clock) -> None:
        other = make_task(2)
        a, b, c = store(
            outbox, make_job("x"), dead_job(route="second"), make_job("y", task=other, route="second")
        )
        clock.now += 1000
        (late,) = store(outbox, make_job("z"))

        def found(**wanted: Any) -> list[int]:
            return [job.id for job in outbox.listing.jobs(replace(JobFilter(EVER), **wanted)).rows]

        assert found() == [late, c, b, a]
        assert found(state=JobState.DEAD) == [b]
        assert found(route="second") == [c, b]
        assert found(route="second", state=JobState.DEAD) == [b]
        assert found(route="second", state=JobState.WAITING) == [c]
        assert found(task_id=other.id) == [c]
        assert found(task_id=other.id, route="first") == []
        assert found(source="alerts") == []
        assert found(window=Window(NOW + 500)) == [late]
        assert found(window=Window(0.0, NOW + 500)) == [c, b, a]
        waiting = JobFilter(EVER, state=JobState.WAITING)
        assert outbox.listing.job_ids(waiting, None, 9, falls=True) == [late, c, a]
        assert outbox.listing.job_ids(waiting, a, 1, falls=False) == [c]

        def counts(**wanted: Any) -> dict[str, str]:
            return shown(outbox.listing.count_jobs(replace(JobFilter(EVER), **wanted)))

        assert counts() == {"None": "4", "waiting": "3", "dead": "1"}
        assert counts(state=JobState.DEAD) == {"None": "4", "waiting": "3", "dead": "1"}
        assert counts(route="second") == {"None": "2", "waiting": "1", "dead": "1"}
        assert counts(source="alerts") == {}

    @pytest.mark.parametrize(
        ("wanted", "dead", "canceled"),
        [
            ({}, "1", "1"),
            ({"route": "first"}, "1", "0+"),
            ({"task_id": make_task().id}, "1", "0+"),
            ({"route": "first", "task_id": make_task().id}, "1", "0+"),
            ({"source": "github"}, "1", "1"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
    )
    def test_a_tab_never_hides_an_older_job(
        self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch, wanted: Any, dead: str, canceled: str
    ) -> None:
        (gone, *_) = store(outbox, make_job("x"), dead_job())
        outbox.cancel(gone, (JobState.WAITING,))
        store(outbox, *(make_job(number) for number in range(2)))
        monkeypatch.setattr(listing, "SCANNED", 2)
        counts = outbox.listing.count_jobs(replace(JobFilter(EVER), **wanted))
        assert (str(counts[JobState.DEAD]), str(counts[JobState.CANCELED])) == (dead, canceled)
        assert str(counts[JobState.WAITING]) == str(counts[None]) == "2+"
        for state in (None, *JobState):
            listed = outbox.listing.jobs(replace(JobFilter(EVER), state=state, **wanted)).rows[:2]
            assert len(listed) == counts[state].number, state

    def test_what_was_shown(self, outbox: Outbox, clock: Clock) -> None:
        a, b, c = store(outbox, dead_job(), make_job("x"), dead_job())
        wanted = JobFilter(EVER, state=JobState.DEAD)
        shown = outbox.listing.shown_jobs(wanted)
        assert shown == Shown(2, a, c, clock.now)
        clock.now += 1
        send(outbox, JobState.DEAD)
        store(outbox, dead_job())
        assert outbox.listing.job_ids(replace(wanted, shown=shown), None, 9, falls=False) == [a, c]
        assert outbox.listing.job_ids(wanted, None, 9, falls=True)[1:] == [c, b, a]
        assert outbox.listing.shown_jobs(JobFilter(EVER, route="none")) == Shown(0, 0, 0)
        of_events = EventFilter(EVER, state=JobState.DEAD, shown=shown)
        assert outbox.listing.event_ids(of_events, None, 9) == [a, c]
        assert outbox.listing.shown_events(of_events) == Shown(2, a, c, clock.now - 1, is_partial=True)

    def test_pages(self, outbox: Outbox) -> None:
        made = store(outbox, *(make_job(number) for number in range(4)))
        first = outbox.listing.jobs(JobFilter(EVER), None, 3)
        second = outbox.listing.jobs(JobFilter(EVER), first.before, 3)
        assert [job.id for job in (*first.rows, *second.rows)] == made[::-1]
        assert second.before is None

    def test_those_behind_a_job(self, outbox: Outbox) -> None:
        first, second, _ = store(outbox, make_job(1, group="g"), make_job(2, group="g"), make_job(3))
        assert [job.id for job in outbox.listing.behind(outbox.job(first), 10)] == [second]
        assert outbox.listing.behind(outbox.job(second), 10) == []


@pytest.mark.parametrize("seconds", [-1, 0, 0.5, 1, 3, 8, 9])
def test_the_first_row_of_a_time_is_found_by_one_statement(outbox: Outbox, url: str, seconds: float) -> None:
    numbers = [receive(outbox, number, received_at=NOW + number) for number in range(9)]
    with beside(url) as connection:
        connection.execute(delete(events).where(events.c.id.in_(numbers[2:5])))
    with executed() as statements:
        first = outbox._database.read(lambda connection: bounds.first_id(connection, events, NOW + seconds))
    left = [number for number in numbers if number not in numbers[2:5]]
    later = [each for each in left if each >= numbers[0] + seconds]
    assert [each for each in left if each >= first] == later
    (_begin, _search) = statements


#: Each list that an index must answer, whatever is stored: no plan may read a whole table.
INDEXED = {
    "events": lambda outbox: outbox.listing.events(EventFilter(Window(NOW - 1))),
    "events of a source": lambda outbox: outbox.listing.events(EventFilter(Window(NOW - 1), source="github")),
    "a delivery": lambda outbox: outbox.listing.events(EventFilter(Window(NOW - 1), delivery_id="d-1")),
    "jobs": lambda outbox: outbox.listing.jobs(JobFilter(Window(NOW - 1))),
    "jobs of a state": lambda outbox: outbox.listing.jobs(JobFilter(Window(NOW - 1), state=JobState.DEAD)),
    "jobs of a route": lambda outbox: outbox.listing.jobs(JobFilter(Window(NOW - 1), route="first")),
    "dead jobs of a route": lambda outbox: outbox.listing.jobs(
        JobFilter(Window(NOW - 1), route="first", state=JobState.DEAD)
    ),
    "jobs of a task": lambda outbox: outbox.listing.jobs(JobFilter(Window(NOW - 1), task_id="x")),
    "dead jobs of a task": lambda outbox: outbox.listing.jobs(
        JobFilter(Window(NOW - 1), task_id="x", state=JobState.DEAD)
    ),
    "counts of jobs": lambda outbox: outbox.listing.count_jobs(JobFilter(Window(NOW - 1))),
    "counts of a route": lambda outbox: outbox.listing.count_jobs(JobFilter(Window(NOW - 1), route="first")),
    "counts of a task": lambda outbox: outbox.listing.count_jobs(JobFilter(Window(NOW - 1), task_id="x")),
    "counts of a source": lambda outbox: outbox.listing.count_jobs(JobFilter(Window(NOW - 1), source="x")),
    "counts of events": lambda outbox: outbox.listing.count_events(
        EventFilter(Window(NOW - 1), route="first", state=JobState.DEAD)
    ),
    "routes": lambda outbox: outbox.activity.routes(["first"], Window(NOW - 1)),
    "sources": lambda outbox: outbox.activity.sources(["github"], Window(NOW - 1)),
    "needy": lambda outbox: outbox.activity.needy(),
    "minutes": lambda outbox: outbox.activity.minutes(Window(NOW - 60, NOW)),
}


@pytest.mark.parametrize("name", INDEXED)
def test_an_index_answers(name: str, outbox: Outbox) -> None:
    store(outbox, make_job("x"), dead_job())
    for statement, parameters in statements_of(outbox, INDEXED[name]):
        assert not whole_reads(outbox, statement, parameters), statement
        # SQLite would read the index from the first of the two bounds on.
        assert not re.search(r"\bid > 0 .*\.id >=? ", statement, re.DOTALL), statement


def test_the_jobs_of_a_state_are_not_read_for_each_event(outbox: Outbox) -> None:
    wanted = EventFilter(Window(NOW - 1), state=JobState.DEAD)
    for statement, parameters in statements_of(outbox, lambda outbox: outbox.listing.events(wanted)):
        if engine_of(outbox).dialect.name == "sqlite":
            with engine_of(outbox).connect() as connection:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            assert "jobs_by_state" not in str(plan)


def statements_of(outbox: Outbox, execute: Callable[[Outbox], object]) -> list[tuple[str, Any]]:
    """The queries of a list, each with its parameters."""
    engine = engine_of(outbox)
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "WITH")):
            statements.append((statement, parameters))

    sqlalchemy_event.listen(engine, "before_cursor_execute", note)
    execute(outbox)
    sqlalchemy_event.remove(engine, "before_cursor_execute", note)
    assert statements
    return statements


def whole_reads(outbox: Outbox, statement: str, parameters: Any) -> list[str]:
    """The steps of the plan that read every row of the events or the jobs."""

    def explain(connection: Connection) -> list[str]:
        if connection.dialect.name == "sqlite":
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            return [row.detail for row in plan if re.fullmatch(r"SCAN (events|jobs)", row.detail)]
        # A small table is read whole, unless that is forbidden; then it is only where no index serves.
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
        return [row[0] for row in plan if re.search(r"Seq Scan on (events|jobs)", row[0])]

    return outbox._database.read(explain)


class TestActivity:
    def test_routes(self, outbox: Outbox, clock: Clock) -> None:
        store(outbox, make_job("x"))
        clock.now += 10_000
        _, last = store(outbox, make_job("x"), make_job("y"))
        done = outbox.activity.routes(["first", "never"], Window(NOW + 5000))
        assert done["first"].jobs == 2
        assert done["first"].last is not None and done["first"].last.id == last
        assert (done["never"].jobs, done["never"].last) == (0, None)

    def test_what_needs_a_person(self, outbox: Outbox) -> None:
        store(outbox, dead_job(), dead_job("the second"), dead_job(route="second"), make_job("x"))
        send(outbox, JobState.UNKNOWN)
        found = {(each.route, each.state): each for each in outbox.activity.needy()}
        assert {key: each.count for key, each in found.items()} == {
            ("first", JobState.DEAD): 2, ("second", JobState.DEAD): 1, ("first", JobState.UNKNOWN): 1,
        }  # fmt: skip
        assert found["first", JobState.DEAD].newest.reason == "the second"

    def test_minutes(self, outbox: Outbox, clock: Clock) -> None:
        store(outbox, make_job("x"), dead_job())
        send(outbox)
        clock.now += 60
        store(outbox, make_job("y"))
        clock.now += 600
        store(outbox, make_job("later"))
        minutes = outbox.activity.minutes(Window(NOW, NOW + 180))
        assert minutes == [Minute(NOW, 1, 1), Minute(NOW + 60, open=1), Minute(NOW + 120)]

    def test_the_backlog(self, outbox: Outbox, clock: Clock) -> None:
        assert outbox.activity.backlog().oldest_at is None
        store(outbox, make_job("x"))
        clock.now += 60
        store(outbox, make_job("y"))
        backlog = outbox.activity.backlog()
        assert (backlog.count, backlog.oldest_at) == (2, NOW)

    def test_sources(self, outbox: Outbox) -> None:
        receive(outbox, 0)
        receive(outbox, 1, received_at=NOW + 5)
        done = outbox.activity.sources(["github", "alerts"], Window(NOW - 5))
        assert (done["github"].events, done["github"].last_at) == (2, NOW + 5)
        assert (done["alerts"].events, done["alerts"].last_at) == (0, None)
