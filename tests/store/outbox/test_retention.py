"""Retention: what is older than it is kept goes, and what may still be needed stays."""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, event, text

from bridge.cli import main
from bridge.core.attempt_result import AttemptResult
from bridge.core.errors import BodyGone, NoSuchJob, StoreUnavailable
from bridge.core.job import JobState, NewJob, Outcome
from bridge.core.retry import Decision
from bridge.outbox import counters, operator_actions
from bridge.outbox import prune as retention
from bridge.outbox.daily_prune import Pruner
from bridge.outbox.prune import BATCH_BYTES, BATCH_EVENTS, BATCH_JOBS, READ_LIMIT, Candidate, Cutoffs, Pruned
from bridge.outbox.row_mapping import compressed, decompressed
from bridge.outbox.store import Outbox
from bridge.process.clock import Clock as SteadyClock
from bridge.process.settings import Retention
from tests.support.intake import VARIABLES, beside, sample, table
from tests.support.tables import (
    NOW,
    PATIENCE,
    Clock,
    attempt_of,
    claim_jobs,
    dead_job,
    engine_of,
    in_threads,
    items,
    make_job,
    make_webhook,
    wait_until,
)

DAY = 86_400.0

#: As by default: events 30 d, bodies 7 d, and what made no job 3 d.
KEPT = Retention(30 * DAY, 7 * DAY)

UNDECIDED = (JobState.WAITING, JobState.SENDING, JobState.UNKNOWN)
ENDED = (JobState.ACCEPTED, JobState.DEAD, JobState.SKIPPED, JobState.CANCELED)

NEVER = Pruned()


class Store:
    """A store with events of any age and jobs in any state."""

    def __init__(self, outbox: Outbox, url: str, clock: Callable[[], float]) -> None:
        self.outbox = outbox
        self.url = url
        self._clock = clock
        self._names = count()

    def add(self, *jobs: NewJob, age: float, **more: Any) -> int:
        """The id of an event that came so many seconds ago."""
        received = {"delivery_id": f"delivery-{next(self._names)}", "received_at": self._clock() - age}
        made: dict[str, Any] = {"payload": {"age": age}} | received | more
        webhook = make_webhook(*jobs, **made)
        return self.outbox.store(webhook).event_id

    def set(self, event_id: int, **columns: Any) -> None:
        """Let every job of an event have these values; when it ended is then not known, or one of them."""
        columns = {"ended_at": None} | columns
        values = ", ".join(f"{name} = :{name}" for name in columns)
        with beside(self.url) as connection:
            connection.execute(
                text(f"UPDATE jobs SET {values} WHERE event_id = :event_id"),
                {**columns, "event_id": event_id},
            )

    def add_in(self, state: JobState, age: float, **columns: Any) -> int:
        """The id of an event that came so many seconds ago, with one job in this state since."""
        event_id = self.add(make_job(), age=age)
        self.set(event_id, **{"state": state, "created_at": self._clock() - age} | columns)
        return event_id

    def left(self) -> list[int]:
        """The ids of the events that are there."""
        return sorted(one.id for one in self.outbox.events(limit=1_000_000))

    def bodies(self) -> list[int]:
        """The ids of the events whose body is there."""
        with beside(self.url) as connection:
            found = connection.execute(text("SELECT id FROM events WHERE length(body) > 0 ORDER BY id"))
            return [row.id for row in found]

    def count(self, table: str) -> int:
        with beside(self.url) as connection:
            found: int = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
        return found

    def prune(self, kept: Retention = KEPT) -> Pruned:
        return self.outbox.prune(kept, lambda: False)


@pytest.fixture
def store(outbox: Outbox, url: str, clock: Clock) -> Store:
    return Store(outbox, url, clock)


# What goes and what stays


def test_an_event_that_made_no_job_goes_after_three_days(store: Store) -> None:
    store.add(age=3 * DAY + 1)
    young = store.add(age=3 * DAY)

    assert store.prune() == Pruned(events=1)
    assert (store.left(), store.bodies()) == ([young], [young])


def test_where_events_are_kept_for_less_those_without_a_job_are_too(store: Store) -> None:
    store.add(age=2 * DAY + 1)
    young = store.add(age=2 * DAY)

    store.prune(Retention(2 * DAY, 2 * DAY))

    assert store.left() == [young]


@pytest.mark.parametrize("state", ENDED)
def test_an_event_whose_jobs_have_ended_goes_with_them_and_their_attempts(
    store: Store, state: JobState
) -> None:
    store.add(*items(3), age=40 * DAY)
    _attempt_each(store.outbox)
    store.set(1, state=state, created_at=NOW - 40 * DAY)
    young = store.add_in(state, 30 * DAY)

    assert store.prune().jobs == 3
    assert store.left() == [young]
    assert [store.count(table) for table in ("jobs", "attempts")] == [1, 0]
    for job_id in (1, 2, 3):
        with pytest.raises(NoSuchJob):
            store.outbox.job(job_id)


@pytest.mark.parametrize("state", UNDECIDED)
def test_an_event_stays_with_its_body_while_one_of_its_jobs_is_undecided(
    store: Store, state: JobState
) -> None:
    old = store.add(make_job(), make_job(route="second"), age=3000 * DAY)
    store.set(old, state=JobState.ACCEPTED, created_at=NOW - 3000 * DAY)
    with beside(store.url) as connection:
        connection.execute(text("UPDATE jobs SET state = :state WHERE route = 'second'"), {"state": state})

    assert store.prune() == NEVER
    assert (store.left(), store.bodies(), store.count("jobs")) == ([old], [old], 2)


def test_what_counts_is_when_the_last_of_its_jobs_ended(store: Store) -> None:
    late = store.add_in(JobState.ACCEPTED, 40 * DAY, ended_at=NOW - 29 * DAY)
    store.add_in(JobState.ACCEPTED, 40 * DAY, ended_at=NOW - 31 * DAY)
    made_late = store.add_in(JobState.ACCEPTED, 40 * DAY, created_at=NOW - 29 * DAY)

    assert store.prune().events == 1
    assert store.left() == [late, made_late]


def test_a_body_goes_earlier(store: Store) -> None:
    old = store.add_in(JobState.ACCEPTED, 7 * DAY + 1)
    young = store.add_in(JobState.ACCEPTED, 7 * DAY)

    assert store.prune() == Pruned(bodies=1)
    assert store.left() == [old, young]
    assert store.bodies() == [young]
    assert store.outbox.job(1).state is JobState.ACCEPTED
    assert store.prune() == NEVER


def test_a_dead_job_keeps_the_body_for_its_retry(store: Store) -> None:
    dead = store.add_in(JobState.DEAD, 29 * DAY)

    assert store.prune() == NEVER
    assert store.outbox.event(dead).payload == {"age": 29 * DAY}


def test_a_body_goes_of_what_is_kept_though_it_made_no_job(store: Store) -> None:
    one = store.add(age=2 * DAY)

    assert store.prune(Retention(30 * DAY, DAY)) == Pruned(bodies=1)
    assert (store.left(), store.bodies()) == ([one], [])


def test_events_go_though_the_clock_once_stood_wrong(store: Store) -> None:
    """Their ids then say nothing of their age."""
    future = [store.add(age=-10 * DAY) for _ in range(3)]
    store.add(age=40 * DAY)
    store.add(age=0)

    assert store.prune().events == 1
    assert store.left() == [*future, 5]


def test_what_was_received_at_one_moment_goes_whole(store: Store) -> None:
    """The place in the walk is a moment and an id."""
    for _ in range(READ_LIMIT + 2):
        store.add(age=40 * DAY)

    assert store.prune().events == READ_LIMIT + 2
    assert store.left() == []


def test_what_must_stay_holds_up_nothing_behind_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    stays = [store.add(make_job(), age=50 * DAY) for _ in range(READ_LIMIT + 1)]
    for _ in range(3):
        store.add(age=40 * DAY)

    assert store.prune() == Pruned(events=3)
    assert store.left() == stays


def test_a_pass_examines_only_events_that_may_expire(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for age in (10 * DAY, 20 * DAY):
        store.add_in(JobState.ACCEPTED, age)
    dead = store.add_in(JobState.DEAD, 10 * DAY)
    assert store.prune() == Pruned(bodies=2)
    unmatched = store.add(age=5 * DAY)
    examined: list[list[int]] = []
    candidates = retention._candidates

    def noted(connection: Connection, received: dict[int, float]) -> dict[int, Candidate]:
        examined.append(list(received))
        return candidates(connection, received)

    monkeypatch.setattr(retention, "_candidates", noted)
    assert store.prune() == Pruned(events=1)
    assert examined == [[dead, unmatched], [unmatched]]


# Small units


@pytest.fixture
def units(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each unit of work, how many events it was given."""
    given: list[int] = []
    delete_expired = retention.delete_expired

    def noted(connection: Connection, **more: Any) -> Pruned:
        given.append(len(more["some"]))
        return delete_expired(connection, **more)

    monkeypatch.setattr(retention, "delete_expired", noted)
    return given


def test_a_unit_of_work_has_so_many_events(store: Store, units: list[int]) -> None:
    for _ in range(2 * BATCH_EVENTS + 1):
        store.add(age=40 * DAY)
    store.prune()
    assert units == [BATCH_EVENTS, BATCH_EVENTS, 1]


def test_a_unit_of_work_has_so_many_jobs_unless_one_event_has_more(store: Store, units: list[int]) -> None:
    each = BATCH_JOBS // 2
    for many in (each, each, 2 * BATCH_JOBS, 1):
        store.set(store.add(*items(many), age=40 * DAY), state="accepted", created_at=NOW - 40 * DAY)
    assert store.prune() == Pruned(events=4, jobs=2 * each + 2 * BATCH_JOBS + 1)
    assert units == [2, 1, 1]


def test_a_unit_of_work_has_so_many_bytes(
    store: Store, units: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH_BYTES", 1000)
    for size in (400, 400, 1000, 10):
        store.add(age=40 * DAY, body=b'"' + b"x" * size + b'"')
    assert store.prune() == Pruned(events=4)
    assert units == [2, 1, 1]
    assert BATCH_BYTES > 2**20


def test_it_stops_after_a_unit_of_work_once_it_is_told_to(store: Store, units: list[int]) -> None:
    for _ in range(READ_LIMIT + BATCH_EVENTS):
        store.add(age=40 * DAY)
    assert store.outbox.prune(KEPT, lambda: len(units) == 2) == Pruned(events=2 * BATCH_EVENTS)
    assert units == [BATCH_EVENTS, BATCH_EVENTS]


def test_told_to_stop_it_looks_at_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(age=40 * DAY)

    def read(work: Callable[[Connection], Any]) -> Any:
        raise AssertionError("it reads")

    monkeypatch.setattr(store.outbox._database, "read", read)
    assert store.outbox.prune(KEPT, lambda: True) == NEVER


def test_no_body_is_read(store: Store) -> None:
    store.add_in(JobState.ACCEPTED, 10 * DAY)
    store.add(age=40 * DAY)
    said: list[str] = []
    event.listen(engine_of(store.outbox), "before_cursor_execute", lambda *of: said.append(of[2]))

    store.prune()

    columns = [statement.split("FROM")[0] for statement in said if statement.startswith("SELECT")]
    assert any("length(events.body)" in each for each in columns)
    assert not [each for each in columns if "body" in each.replace("length(events.body)", "")]


# Races: what somebody asks for again while a pass runs


def between(outbox: Outbox, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> None:
    """Let something happen after it was read what may go, and before it goes."""
    write = outbox._database.write

    def late(work: Callable[[Connection], Any]) -> Any:
        if work is not counters.fold:
            meanwhile()
        return write(work)

    monkeypatch.setattr(outbox._database, "write", late)


AGAIN = make_job("again")


@pytest.mark.parametrize("age", [40 * DAY, 29 * DAY], ids=["the event", "the body"])
def test_a_job_that_is_set_waiting_meanwhile_stays(
    store: Store, reopen: Callable[[], Outbox], monkeypatch: pytest.MonkeyPatch, age: float
) -> None:
    event_id = store.add_in(JobState.DEAD if age > 30 * DAY else JobState.ACCEPTED, age)
    between(
        store.outbox,
        monkeypatch,
        lambda: store.set(event_id, state=JobState.WAITING, arguments=b'["again"]'),
    )

    assert store.prune() == NEVER
    assert store.bodies() == [event_id]
    assert store.outbox.job(1).state is JobState.WAITING


def test_a_job_that_a_redelivery_sets_waiting_meanwhile_stays(
    store: Store, reopen: Callable[[], Outbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    event_id = store.add(dead_job(), age=40 * DAY, delivery_id="d")
    store.set(event_id, created_at=NOW - 40 * DAY)
    other = reopen()
    stored = []
    redelivered = make_webhook(AGAIN, delivery_id="d")
    between(store.outbox, monkeypatch, lambda: stored.append(other.store(redelivered)))

    assert store.prune() == NEVER
    (answered,) = stored
    assert [job.state for job in answered.jobs] == [JobState.WAITING]
    assert store.outbox.job(answered.jobs[0].id).state is JobState.WAITING


def test_an_event_that_gets_a_job_meanwhile_stays(
    store: Store, reopen: Callable[[], Outbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    event_id = store.add(age=40 * DAY, delivery_id="d")
    other = reopen()
    between(store.outbox, monkeypatch, lambda: other.store(make_webhook(AGAIN, delivery_id="d")))

    assert store.prune() == NEVER
    assert store.left() == [event_id]
    assert store.count("jobs") == 1


def test_what_another_pass_has_let_go_meanwhile_counts_there(
    store: Store, reopen: Callable[[], Outbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(age=40 * DAY)
    other = reopen()
    gone: list[Pruned] = []
    between(store.outbox, monkeypatch, lambda: gone.append(other.prune(KEPT, lambda: False)))

    assert store.prune() == NEVER
    assert gone == [Pruned(events=1)]


def test_passes_of_many_processes_at_once(store: Store, reopen: Callable[[], Outbox]) -> None:
    for _ in range(100):
        store.add(age=40 * DAY)
        store.set(store.add(*items(3), age=40 * DAY), state="accepted", created_at=NOW - 40 * DAY)
        store.add_in(JobState.ACCEPTED, 10 * DAY)
    processes = [reopen() for _ in range(4)]

    gone = in_threads([partial(each.prune, KEPT, lambda: False) for each in processes])

    assert sum(gone, Pruned()) == Pruned(events=200, jobs=300, bodies=100)


def waiting_for_a_lock(url: str) -> bool:
    """Whether a session of the PostgreSQL database waits for another one's row."""
    of_this = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    waits = f"{of_this} AND wait_event_type = 'Lock'"
    with beside(url) as connection:
        return bool(connection.execute(text(waits)).scalar_one())


class Meeting:
    """Two units of work at the same moment: the first stops within, until the second waits for it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.began = threading.Event()

    def hold(self) -> None:
        self.began.set()
        wait_until(lambda: waiting_for_a_lock(self._url), "the other")

    def before(self, outbox: Outbox, statement: str) -> None:
        """Let `outbox` stop before its first statement that begins so."""

        def stop(_connection: Any, _cursor: Any, said: str, *_more: Any) -> None:
            if said.startswith(statement) and not self.began.is_set():
                self.hold()

        event.listen(engine_of(outbox), "before_cursor_execute", stop)

    def then(self, work: Callable[[], object]) -> object:
        assert self.began.wait(PATIENCE)
        return work()


@pytest.fixture
def on_postgresql(postgresql_store: str) -> str:
    """On SQLite one unit of work has ended before the next begins."""
    return postgresql_store


@pytest.fixture
def two(on_postgresql: str, clock: Clock) -> Iterator[tuple[Store, Outbox, Meeting]]:
    """A store, the same in another process, and where they meet."""
    one, other = Outbox(on_postgresql, clock=clock), Outbox(on_postgresql, clock=clock)
    yield Store(one, on_postgresql, clock), other, Meeting(on_postgresql)
    one.close()
    other.close()


def test_a_retry_at_the_same_moment_is_waited_for_and_seen(two: tuple[Store, Outbox, Meeting]) -> None:
    store, other, meeting = two
    event_id = store.add(dead_job(), make_job(route="second"), age=40 * DAY)
    store.set(event_id, state="dead", created_at=NOW - 40 * DAY)

    def retry(connection: Connection) -> bool:
        connection.execute(text("SELECT id FROM jobs WHERE id = 1 FOR UPDATE"))
        state = operator_actions.retry(connection, 1, AGAIN, NOW)
        meeting.hold()
        return state is JobState.WAITING

    waits, gone = in_threads_in_order(lambda: other._database.write(retry), lambda: meeting.then(store.prune))

    assert (waits, gone) == (True, NEVER)
    assert store.outbox.job(1).state is JobState.WAITING
    assert store.count("jobs") == 2


def test_a_retry_that_comes_too_late_says_so(two: tuple[Store, Outbox, Meeting]) -> None:
    store, other, meeting = two
    event_id = store.add(dead_job(), age=40 * DAY)
    store.set(event_id, created_at=NOW - 40 * DAY)
    meeting.before(store.outbox, "DELETE FROM attempts")

    def retry() -> object:
        with pytest.raises(NoSuchJob):
            other.retry(1, AGAIN)
        return "refused"

    assert in_threads_in_order(store.prune, lambda: meeting.then(retry)) == [
        Pruned(events=1, jobs=1),
        "refused",
    ]


@pytest.mark.parametrize("fingerprint", [None, "f"], ids=["by its id", "by its fingerprint"])
def test_a_redelivery_of_what_goes_at_that_moment_is_stored_as_new(
    two: tuple[Store, Outbox, Meeting], fingerprint: str | None
) -> None:
    """It waits for the event's lock, and finds no event then."""
    store, other, meeting = two
    old: dict[str, Any] = {
        "delivery_id": "d",
        "fingerprint": fingerprint,
        "window": 100 * DAY,
        "received_at": NOW - 40 * DAY,
    }
    store.outbox.store(make_webhook(dead_job(), **old))
    store.set(1, created_at=NOW - 40 * DAY)
    meeting.before(store.outbox, "DELETE FROM attempts")
    again = make_webhook(AGAIN, delivery_id="d", fingerprint=fingerprint, window=100 * DAY)

    gone, stored = in_threads_in_order(store.prune, lambda: meeting.then(lambda: other.store(again)))

    assert gone == Pruned(events=1, jobs=1)
    assert not stored.duplicate
    assert [job.state for job in stored.jobs] == [JobState.WAITING]
    assert store.outbox.job(stored.jobs[0].id).event_id == stored.event_id
    assert store.left() == [stored.event_id]


def test_a_redelivery_at_that_moment_is_passed_over_and_not_waited_for(
    two: tuple[Store, Outbox, Meeting],
) -> None:
    store, other, _ = two
    event_id = store.add(dead_job(), age=40 * DAY)
    store.set(event_id, created_at=NOW - 40 * DAY)
    second = store.add(age=40 * DAY)

    def redelivery(connection: Connection) -> Pruned:
        connection.execute(text("SELECT id FROM events WHERE id = 1 FOR UPDATE"))
        return store.prune()

    assert other._database.write(redelivery) == Pruned(events=1)
    assert store.left() == [event_id]
    assert second not in store.left()


def in_threads_in_order(first: Callable[[], Any], second: Callable[[], Any]) -> list[Any]:
    """Both at once; their results in this order."""
    results: dict[str, Any] = {}
    in_threads([lambda: results.setdefault("first", first()), lambda: results.setdefault("second", second())])
    return [results["first"], results["second"]]


# Decisions


CUTOFFS = Cutoffs.of(KEPT, NOW)


@pytest.mark.parametrize("age", [0, 1, 3, 4, 8, 29, 31, 400])
@pytest.mark.parametrize("ended", [0, 29, 31])
@pytest.mark.parametrize("undecided", [0, 1])
@pytest.mark.parametrize("dead", [0, 1])
@pytest.mark.parametrize("made", [0, 2])
@pytest.mark.parametrize("size", [0, 10])
def test_what_may_go(age: float, ended: float, undecided: int, dead: int, made: int, size: int) -> None:
    stock = Candidate(NOW - age * DAY, size)
    if made:
        stock = Candidate(NOW - age * DAY, size, made, undecided, dead, NOW - ended * DAY)
    open_, waits = made and undecided, made and (undecided or dead)

    assert stock.is_expired(CUTOFFS) == (age > 30 and ended > 30 and not open_ if made else age > 3)
    assert stock.body_is_expired(CUTOFFS) == (size > 0 and age > 7 and not waits)


# Bodies


def test_a_body_is_stored_compressed_and_read_as_it_came(store: Store) -> None:
    push = sample("github/push.json")
    stored = store.outbox.store(make_webhook(payload=json.loads(push), body=push))

    found = store.outbox.event(stored.event_id)
    assert (found.body, found.payload) == (push, json.loads(push))
    with beside(store.url) as connection:
        (body,) = connection.execute(text("SELECT body FROM events")).one()
    assert bytes(body)[:1] == b"x"
    assert len(body) < len(push) / 2


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'"' + b"x" * 1022 + b'"', b'"' + b"x" * 1023 + b'"', b'"' + b"x" * 2**20 + b'"',
     b'"' + bytes(range(35, 92)) * 30 + b'"', b" " * 2000 + b"{}"],
    ids=["none", "short", "1024", "1025", "long", "mixed", "blank"],
)  # fmt: skip
def test_a_packed_body_is_never_longer(body: bytes) -> None:
    assert len(compressed(body)) <= len(body)
    assert decompressed(compressed(body)) == body
    assert (compressed(body) == body) == (len(body) <= 1024)


def test_a_body_of_the_release_before_is_read(store: Store) -> None:
    event_id = store.add(age=0)
    body = b'{"a": "' + b"x" * 5000 + b'"}'
    with beside(store.url) as connection:
        connection.execute(text("UPDATE events SET body = :body"), {"body": body})
    assert store.outbox.event(event_id).body == body


def test_what_cannot_be_shortened_is_stored_as_it_is() -> None:
    body = b'"' + random.Random(1).randbytes(5000) + b'"'
    assert compressed(body) == body


def test_an_event_whose_body_is_gone_says_what_to_do(store: Store) -> None:
    event_id = store.add_in(JobState.ACCEPTED, 10 * DAY)
    store.prune()

    with pytest.raises(BodyGone) as caught:
        store.outbox.event(event_id)
    assert str(caught.value).startswith(f"the body of event {event_id} is not stored (store_payload, ")
    rest = store.outbox.stored_event(event_id)
    assert (rest.payload, rest.body, rest.event) == (None, b"", "push")


def test_a_redelivery_brings_a_gone_body_back_and_makes_what_is_missing(store: Store) -> None:
    event_id = store.add(age=2 * DAY, delivery_id="d")
    store.prune(Retention(30 * DAY, DAY))
    assert store.bodies() == []

    again = make_webhook(AGAIN, delivery_id="d", payload={"sent": "again"}, query={"q": "again"})
    stored = store.outbox.store(again)

    assert (stored.event_id, stored.duplicate, len(stored.jobs)) == (event_id, True, 1)
    event = store.outbox.event(event_id)
    assert (event.payload, event.query) == ({"sent": "again"}, {"q": "again"})


def test_a_redelivery_leaves_a_body_that_is_there_alone(store: Store) -> None:
    event_id = store.add(age=0, delivery_id="d")
    before = store.outbox.event(event_id)
    store.outbox.store(make_webhook(AGAIN, delivery_id="d", payload={"sent": "again"}, query={"q": "again"}))
    assert store.outbox.event(event_id) == before


# Every day


@pytest.fixture
def make_pruner(outbox: Outbox) -> Iterator[Callable[..., Pruner]]:
    made: list[Pruner] = []

    def make(**more: float) -> Pruner:
        made.append(Pruner(outbox, KEPT, SteadyClock(), **{"first": 0.0} | more))
        made[-1].start()
        return made[-1]

    yield make
    for pruner in made:
        pruner.close()


def test_a_pass_says_what_it_deleted(
    store: Store, make_pruner: Callable[..., Pruner], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store.add(age=40 * DAY)
    store.add_in(JobState.ACCEPTED, 40 * DAY)
    store.add_in(JobState.ACCEPTED, 10 * DAY)

    make_pruner()

    wait_until(lambda: caplog.messages, "the pass")
    assert caplog.messages == ["retention deleted 2 events, 1 jobs, 1 bodies"]
    assert store.left() == [3]


def passes(outbox: Outbox, monkeypatch: pytest.MonkeyPatch, *ends: Exception | Pruned) -> list[Retention]:
    """What each pass was told to keep; the first ones end so."""
    begun: list[Retention] = []
    left = list(ends)

    def prune(kept: Retention, stop: Callable[[], bool]) -> Pruned:
        begun.append(kept)
        end = left.pop(0) if left else NEVER
        if isinstance(end, Exception):
            raise end
        return end

    monkeypatch.setattr(outbox, "prune", prune)
    return begun


def test_passes_come_one_after_the_other(
    outbox: Outbox, make_pruner: Callable[..., Pruner], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = passes(outbox, monkeypatch)
    make_pruner(every=0.001)
    wait_until(lambda: len(begun) > 3, "passes")
    assert set(begun) == {KEPT}


def test_what_goes_wrong_costs_one_pass(
    outbox: Outbox,
    make_pruner: Callable[..., Pruner],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ends = (StoreUnavailable("the disk is full"), ValueError("a defect"), NEVER, Pruned(events=1))
    begun = passes(outbox, monkeypatch, *ends)
    caplog.set_level(logging.INFO)

    make_pruner(every=0.001)

    wait_until(lambda: len(begun) > len(ends), "passes")
    assert caplog.messages == [
        "retention failed: the disk is full",
        "retention failed",
        "retention deleted 1 events, 0 jobs, 0 bodies",
    ]
    assert [record.exc_info is None for record in caplog.records] == [True, False, True]


def test_the_first_pass_comes_an_hour_after_the_start_and_none_after_the_end(
    outbox: Outbox, make_pruner: Callable[..., Pruner], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = passes(outbox, monkeypatch)
    waits: list[float] = []

    class Told(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            waits.append(timeout)
            return len(waits) == 3

    pruner = Pruner(outbox, KEPT, SteadyClock())
    pruner._closed = Told()
    pruner.start()
    pruner.close()

    assert waits == [3600.0, 86_400.0, 86_400.0]
    assert len(begun) == 2


def test_it_ends_at_once_when_it_is_told_to(outbox: Outbox, make_pruner: Callable[..., Pruner]) -> None:
    """Or this test would take a day."""
    pruner = make_pruner(first=DAY)
    pruner.close()
    pruner.close()


def test_one_that_was_never_started_ends_too(outbox: Outbox) -> None:
    Pruner(outbox, KEPT, SteadyClock()).close()


def test_a_pass_that_runs_is_told_to_stop(
    outbox: Outbox, make_pruner: Callable[..., Pruner], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    told = threading.Event()

    def prune(kept: Retention, stop: Callable[[], bool]) -> Pruned:
        begun.set()
        wait_until(stop, "the word to stop")
        told.set()
        return NEVER

    monkeypatch.setattr(outbox, "prune", prune)
    pruner = make_pruner()
    assert begun.wait(PATIENCE)
    pruner.close()
    assert told.is_set()


#: Starts what a process starts, and says whether passes are among it; a worker ends then.
STARTS = """
import os, signal, sys
from bridge.outbox.daily_prune import Pruner
from bridge.process.settings import Settings

def start(pruner):
    print("passes", flush=True)
    os.kill(os.getpid(), signal.SIGTERM) if sys.argv[1] == "worker" else None

Pruner.start = start
if sys.argv[1] == "worker":
    from bridge.server import delivery_worker
    delivery_worker.run(Settings.from_environ())
else:
    from bridge import wsgi
    bridge = wsgi.app.extensions["bridge"]
    bridge.delivery.stop(5)
    bridge.close()
"""

STARTED_TABLE = """
sources:
  open: {type: generic, allow_unsigned: true}
routes:
  - {name: any, source: open, task: TASK, secret_key: KEY, task_arguments: []}
"""


@pytest.mark.parametrize(
    ("process", "deliver", "said"),
    [("web", "true", "passes\n"), ("web", "false", ""), ("worker", "false", "passes\n")],
)
def test_processes_that_deliver_make_passes(tmp_path: Path, process: str, deliver: str, said: str) -> None:
    (tmp_path / "table.yml").write_text(table(STARTED_TABLE), "utf-8")
    environ = {
        **os.environ, **VARIABLES, "BRIDGE_CONFIG": str(tmp_path / "table.yml"), "BRIDGE_DELIVER": deliver,
        "DATABASE_URL": f"sqlite:///{tmp_path / 'bridge.db'}",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", STARTS, process],
        check=False, cwd=Path(__file__).parents[3], env=environ, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, said), done.stderr


# The command


def run(url: str, *arguments: str, **environ: str) -> str:
    result = CliRunner().invoke(main, arguments, env={"DATABASE_URL": url, **environ})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def today(url: str) -> Iterator[Store]:
    """A store with what is old by the clock of this machine."""
    outbox = Outbox(url)
    store = Store(outbox, url, time.time)
    store.add(age=40 * DAY)
    store.add_in(JobState.ACCEPTED, 40 * DAY)
    store.add_in(JobState.ACCEPTED, 10 * DAY)
    store.add_in(JobState.ACCEPTED, 1 * DAY)
    yield store
    outbox.close()


def test_prune_says_what_goes_when_and_what_went(today: Store, url: str) -> None:
    assert run(url, "prune").splitlines() == [
        "BRIDGE_RETENTION deletes",
        "  after 30d: events whose jobs have all ended, with these jobs",
        "  after 7d: bodies, except those of events with a dead job: `jobs retry` needs them",
        "  after 3d: events that created no job",
        "deleted: 2 events, 1 jobs, 1 bodies",
    ]
    assert (today.left(), today.bodies()) == ([3, 4], [4])


def test_prune_goes_by_the_setting(today: Store, url: str) -> None:
    output = run(url, "prune", BRIDGE_RETENTION="36h,1h")
    assert output.splitlines()[1:] == [
        "  after 36h: events whose jobs have all ended, with these jobs",
        "  after 1h: bodies, except those of events with a dead job: `jobs retry` needs them",
        "  after 36h: events that created no job",
        "deleted: 3 events, 2 jobs, 1 bodies",
    ]
    assert (today.left(), today.bodies()) == ([4], [])


def test_prune_as_data(today: Store, url: str) -> None:
    assert json.loads(run(url, "prune", "--json")) == {
        "older_than": {"events": 30 * DAY, "bodies": 7 * DAY, "unmatched": 3 * DAY},
        "deleted": {"events": 2, "jobs": 1, "bodies": 1},
    }


def _attempt_each(outbox: Outbox) -> None:
    """One attempt of every job that waits."""
    token, claimed = claim_jobs(outbox, 100)
    for job in claimed:
        attempt = attempt_of(outbox, job)
        done = AttemptResult(0.5, Outcome.ACCEPTED, 200, "", None)
        assert outbox.record(job, token, attempt, done, Decision(JobState.ACCEPTED, None, None))
