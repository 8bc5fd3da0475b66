"""A request becomes an event and its jobs, in one commit, and then the answer."""

from __future__ import annotations

import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.core.budget import MAX_JOBS
from bridge.core.errors import NotAuthentic, NotStored, Refusal, UnknownSource, Unreadable, UnsupportedContent
from bridge.core.job import JobState
from bridge.intake.answer import Answer
from tests.support.intake import BEARER, JSON_HEADERS, TASK, Intake

# Receiving goes by what the store says, and tests/store/outbox asks both kinds.
pytestmark = pytest.mark.slow_unless(url="sqlite")

MakeIntake = Callable[[str], Intake]

#: What is broken there is a file.
on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


@pytest.fixture
def make_intake(url: str, tmp_path: Path) -> Iterator[MakeIntake]:
    """Makes the intake of one table, on a store of each kind."""
    with ExitStack() as made:
        yield lambda text: made.enter_context(closing(Intake(text, tmp_path, url=url)))


TABLE = """
sources:
  shop: {type: generic, allow_unsigned: true, event: payload.type, delivery_id: payload.id}
routes:
  - name: first
    source: shop
    event: order
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.total }}"]
  - {name: second, source: shop, event: order, task: TASK, secret_key: KEY, task_arguments: [two]}
"""

#: The same from a sender that proves itself.
PROVED = TABLE.replace("allow_unsigned: true", 'bearer_token: "${{ env.TOKEN }}"')

ORDER = b'{"type":"order","id":"o1","total":"0.12"}'

#: An order from which the first route cannot build its argument.
BROKEN = b'{"type":"order","id":"o1"}'

LOOP = """
sources:
  shop: {type: generic, allow_unsigned: true, delivery_id: payload.id}
routes:
  - name: each line
    source: shop
    loop: payload.lines
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ item }}"]
"""

#: States in which a job is left alone when its webhook comes again.
UNTOUCHED = [state for state in JobState if state is not JobState.DEAD]


@contextmanager
def no_room_left(database: Path) -> Iterator[None]:
    """The disk takes nothing beyond what is there: the write of the next commit fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = database.with_name(f"{database.name}-wal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestAnswer:
    """202 where a job was made or set waiting, else 200."""

    def test_with_jobs(self, make_intake: MakeIntake) -> None:
        answer = make_intake(PROVED).post("shop", ORDER, {**JSON_HEADERS, **BEARER})
        jobs = [{"id": 1, "route": "first", "task": TASK}, {"id": 2, "route": "second", "task": TASK}]
        assert answer == Answer(202, {"event": 1, "jobs": jobs, "duplicate": False})

    def test_a_sender_that_proves_nothing_learns_no_name(self, make_intake: MakeIntake) -> None:
        answer = make_intake(TABLE).post("shop", ORDER)
        assert answer == Answer(202, {"event": 1, "jobs": [{"id": 1}, {"id": 2}], "duplicate": False})

    def test_the_task_by_its_name(self, make_intake: MakeIntake) -> None:
        named = PROVED.replace("task: TASK, secret_key: KEY,", "task: pay,")
        intake = make_intake(f"tasks: {{pay: {{id: TASK, secret_key: KEY}}}}\n{named}")
        assert intake.post("shop", ORDER, {**JSON_HEADERS, **BEARER}).body["jobs"][1]["task"] == "pay"

    def test_where_no_route_matches(self, make_intake: MakeIntake) -> None:
        intake = make_intake(TABLE)
        answer = intake.post("shop", b'{"type":"refund","id":"r1"}')
        assert answer == Answer(200, {"event": 1, "jobs": [], "duplicate": False})
        assert intake.rows() == (1, 0)

    def test_where_a_job_was_stored_dead(self, make_intake: MakeIntake) -> None:
        intake = make_intake(TABLE)
        answer = intake.post("shop", BROKEN)
        assert (answer.status, len(answer.body["jobs"])) == (202, 2)
        dead, waiting = intake.jobs()
        assert (dead.state, waiting.state) == (JobState.DEAD, JobState.WAITING)
        assert dead.reason is not None
        assert "payload.total is missing" in dead.reason
        assert dead.arguments is None

    def test_where_all_were_stored_dead(self, make_intake: MakeIntake) -> None:
        intake = make_intake(TABLE.partition("  - {name: second")[0])
        assert intake.post("shop", BROKEN).status == 202

    def test_it_comes_after_the_commit(self, make_intake: MakeIntake) -> None:
        """Another connection sees what was answered, at once."""
        intake = make_intake(TABLE)
        for number in range(1, 20):
            body = orjson.dumps({"type": "order", "id": str(number), "total": "1"})
            assert intake.post("shop", body).body["event"] == number
            assert intake.rows() == (number, 2 * number)


class TestRefusal:
    """Nothing is stored of what is refused."""

    @pytest.mark.parametrize(
        ("source", "body", "headers", "refusal"),
        [
            ("nowhere", ORDER, JSON_HEADERS, UnknownSource),
            ("", ORDER, JSON_HEADERS, UnknownSource),
            ("SHOP", ORDER, JSON_HEADERS, UnknownSource),
            ("shop\x00", ORDER, JSON_HEADERS, UnknownSource),
            ("\ufffd" * 5000, ORDER, JSON_HEADERS, UnknownSource),
            ("shop", b"{", JSON_HEADERS, Unreadable),
            ("shop", b'{"type":"order"}', JSON_HEADERS, Unreadable),
            ("shop", ORDER, {}, UnsupportedContent),
            ("shop", ORDER, {**JSON_HEADERS, "Content-Encoding": "gzip"}, UnsupportedContent),
            ("closed", ORDER, JSON_HEADERS, NotAuthentic),
            ("closed", b"{", JSON_HEADERS, NotAuthentic),
        ],
    )
    def test_it_has_its_kind(
        self,
        make_intake: MakeIntake,
        source: str,
        body: bytes,
        headers: dict[str, str],
        refusal: type[Refusal],
    ) -> None:
        closed = '  closed: {type: generic, bearer_token: "${{ env.TOKEN }}"}\n'
        intake = make_intake(TABLE.replace("routes:", f"{closed}routes:"))
        with pytest.raises(refusal) as caught:
            intake.post(source, body, headers)
        assert type(caught.value) is refusal
        assert len(str(caught.value)) < 1000
        assert intake.rows() == (0, 0)

    def test_an_unknown_source_before_its_body_is_read(self, make_intake: MakeIntake) -> None:
        intake = make_intake(TABLE)
        with pytest.raises(UnknownSource):
            intake.check_head(intake.request("nowhere", b""))

    def test_a_title_never_says_which_secret_or_how_far_it_got(self, make_intake: MakeIntake) -> None:
        intake = make_intake('sources: {a: {type: generic, bearer_token: "${{ env.TOKEN }}"}}\nroutes: []')
        titles = set()
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic x"}, {"X-Token": "x"}):
            with pytest.raises(NotAuthentic) as caught:
                intake.post("a", b"{", {**JSON_HEADERS, **headers})
            titles.add(caught.value.title)
        assert titles == {"The request is not authentic"}
        assert intake.post("a", b"{}", {**JSON_HEADERS, **BEARER}).status == 200


class TestLimit:
    """One event makes at most 10,000 jobs."""

    def lines(self, count: int) -> bytes:
        return orjson.dumps({"id": str(count), "lines": list(range(count))})

    @pytest.mark.slow
    def test_up_to_it(self, make_intake: MakeIntake) -> None:
        intake = make_intake(LOOP)
        answer = intake.post("shop", self.lines(MAX_JOBS))
        assert (answer.status, len(answer.body["jobs"])) == (202, MAX_JOBS)
        assert intake.rows() == (1, MAX_JOBS)
        assert len({job["id"] for job in answer.body["jobs"]}) == MAX_JOBS
        assert intake.post("shop", self.lines(MAX_JOBS)).body["jobs"] == []

    def test_above_it(self, make_intake: MakeIntake) -> None:
        intake = make_intake(LOOP)
        answer = intake.post("shop", self.lines(MAX_JOBS + 1))
        assert (answer.status, len(answer.body["jobs"])) == (202, 1)
        assert intake.rows() == (1, 1)
        (job,) = intake.jobs()
        assert (job.state, job.reason) == (JobState.DEAD, "the event creates more than 10,000 jobs")

    def test_items_that_make_no_job_do_not_count(self, make_intake: MakeIntake) -> None:
        intake = make_intake(LOOP.replace("    loop:", "    match: {item: 0}\n    loop:"))
        assert len(intake.post("shop", self.lines(4 * MAX_JOBS)).body["jobs"]) == 1


class TestStore:
    """What cannot be committed is not acknowledged."""

    @on_sqlite
    def test_a_commit_that_fails(self, make_intake: MakeIntake) -> None:
        intake = make_intake(TABLE)
        intake.post("shop", ORDER)
        before = intake.rows()
        large = orjson.dumps({"type": "order", "id": "o2", "total": "1", "note": "x" * 20_000})
        with no_room_left(intake.database), pytest.raises(NotStored):
            intake.post("shop", large)
        assert intake.rows() == before
        answer = intake.post("shop", large)
        assert (answer.status, answer.body["duplicate"], len(answer.body["jobs"])) == (202, False, 2)

    @on_sqlite
    def test_its_jobs_go_with_the_event(self, make_intake: MakeIntake) -> None:
        intake = make_intake(TABLE)
        with closing(sqlite3.connect(intake.database)) as connection, connection:
            connection.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON jobs WHEN NEW.route = 'second' "
                "BEGIN INSERT INTO no_such_table VALUES (1); END"
            )
        with pytest.raises(NotStored):
            intake.post("shop", ORDER)
        assert intake.rows() == (0, 0)
        with closing(sqlite3.connect(intake.database)) as connection, connection:
            connection.execute("DROP TRIGGER refuse")
        assert intake.post("shop", ORDER).status == 202

    def test_a_closed_store(self, make_intake: MakeIntake) -> None:
        intake = make_intake(TABLE)
        intake.outbox.close()
        with pytest.raises(NotStored):
            intake.post("shop", ORDER)

    def test_many_at_once_are_all_stored(self, make_intake: MakeIntake) -> None:
        """Every thread sends each webhook: one of them makes it, the others find it."""
        intake = make_intake(TABLE)
        answers: list[Answer] = []

        def send() -> None:
            for number in range(25):
                body = orjson.dumps({"type": "order", "id": str(number), "total": "1"})
                answers.append(intake.post("shop", body))

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 200
        assert intake.rows() == (25, 50)
        assert sum(not answer.body["duplicate"] for answer in answers) == 25
        made = [job["id"] for answer in answers for job in answer.body["jobs"]]
        assert sorted(made) == list(range(1, 51))


class TestComesAgain:
    """A webhook that comes again makes what is missing and leaves the rest alone."""

    @pytest.mark.parametrize("state", UNTOUCHED)
    def test_a_job_that_is_no_longer_wanted_anew(self, make_intake: MakeIntake, state: JobState) -> None:
        intake = make_intake(TABLE)
        intake.post("shop", ORDER)
        for job_id in (1, 2):
            intake.set_state(job_id, state)
        before = [intake.stored_row(job_id) for job_id in (1, 2)]
        intake.clock.now += 60
        intake.use(TABLE.replace("payload.total", "payload.id").replace("[two]", "[three]"))
        answer = intake.post("shop", ORDER)
        assert answer == Answer(200, {"event": 1, "jobs": [], "duplicate": True})
        assert [intake.stored_row(job_id) for job_id in (1, 2)] == before
        assert intake.rows() == (1, 2)

    def test_a_job_that_is_missing_is_made(self, make_intake: MakeIntake) -> None:
        intake = make_intake(TABLE.partition("  - {name: second")[0])
        intake.post("shop", ORDER)
        intake.set_state(1, JobState.ACCEPTED)
        intake.use(TABLE)
        answer = intake.post("shop", ORDER)
        assert answer == Answer(202, {"event": 1, "jobs": [{"id": 2}], "duplicate": True})
        assert [(job.route, job.state) for job in intake.jobs()] == [
            ("first", JobState.ACCEPTED), ("second", JobState.WAITING),
        ]  # fmt: skip

    def test_items_that_are_missing_are_made(self, make_intake: MakeIntake) -> None:
        intake = make_intake(LOOP.replace("    loop:", "    match: {item: a}\n    loop:"))
        body = b'{"id":"o1","lines":["a","b","c","b"]}'
        intake.post("shop", body)
        intake.use(LOOP)
        answer = intake.post("shop", body)
        assert [job["id"] for job in answer.body["jobs"]] == [2, 3]
        assert [job.arguments for job in intake.jobs()] == [("a",), ("b",), ("c",)]

    def test_a_dead_one_is_built_again_from_the_table_of_today(self, make_intake: MakeIntake) -> None:
        intake = make_intake(TABLE)
        intake.post("shop", BROKEN)
        intake.clock.now += 3600
        other = "5f3c9a7be4b0a1c2d3e4f502"
        mended = TABLE.replace("payload.total", "payload.id").replace("TASK", other, 1)
        intake.use(mended)
        answer = intake.post("shop", BROKEN)
        assert answer == Answer(202, {"event": 1, "jobs": [{"id": 1}], "duplicate": True})
        job = intake.outbox.job(1)
        assert (job.state, job.arguments, job.reason) == (JobState.WAITING, ("o1",), None)
        assert (job.task_id, job.due_at, job.retry_window_start, job.window_attempts) == (
            other,
            intake.clock(),
            intake.clock(),
            0,
        )

    def test_one_that_died_on_its_way_too(self, make_intake: MakeIntake) -> None:
        intake = make_intake(TABLE)
        intake.post("shop", ORDER)
        intake.set_state(2, JobState.DEAD)
        answer = intake.post("shop", ORDER)
        assert [job["id"] for job in answer.body["jobs"]] == [2]
        assert intake.outbox.job(2).state is JobState.WAITING

    def test_one_that_still_cannot_be_built_stays_dead(self, make_intake: MakeIntake) -> None:
        intake = make_intake(TABLE)
        intake.post("shop", BROKEN)
        answer = intake.post("shop", BROKEN)
        assert (answer.status, answer.body["jobs"]) == (200, [])
        job = intake.outbox.job(1)
        assert job.state is JobState.DEAD
        assert "payload.total is missing" in (job.reason or "")

    @pytest.mark.parametrize(
        "edit",
        [
            lambda text: text.replace("name: first", "name: renamed").replace("event: order", "event: x", 1),
            lambda text: text.replace("event: order", "event: refund", 1),
            lambda text: text.replace("    event: order\n", "    event: order\n    when: payload.paid\n"),
        ],
        ids=["gone", "another event", "a condition"],
    )
    def test_one_whose_route_is_gone_says_so(
        self, make_intake: MakeIntake, edit: Callable[[str], str]
    ) -> None:
        intake = make_intake(TABLE)
        intake.post("shop", BROKEN)
        intake.use(edit(TABLE))
        answer = intake.post("shop", BROKEN)
        assert (answer.status, answer.body["jobs"]) == (200, [])
        job = intake.outbox.job(1)
        assert job.state is JobState.DEAD
        assert job.reason is not None
        assert job.reason.endswith(
            "is missing; an order has: id, type; not retried: its route was removed or no longer matches"
        )

    def test_what_went_wrong_in_conditions_is_that_of_the_last_time(self, make_intake: MakeIntake) -> None:
        intake = make_intake(TABLE.replace("event: order\n", "event: order\n    loop: payload.id\n"))
        intake.post("shop", ORDER)
        (event,) = intake.outbox.events()
        assert "expected a list" in event.warnings[0]
        intake.use(TABLE)
        intake.post("shop", ORDER)
        assert intake.outbox.events()[0].warnings == ()


class TestWake:
    """Delivery is woken once there is something to send."""

    @pytest.mark.parametrize(
        ("body", "woken"),
        [(ORDER, 1), (BROKEN, 1), (b'{"type":"refund","id":"o1"}', 0)],
        ids=["jobs", "one of two", "no job"],
    )
    def test_after_a_commit_with_a_job(self, make_intake: MakeIntake, body: bytes, woken: int) -> None:
        intake = make_intake(TABLE)
        calls: list[tuple[Any, ...]] = []
        intake.outbox.listen(lambda: calls.append(intake.rows()))
        intake.post("shop", body)
        assert len(calls) == woken
        assert all(events == 1 for events, _ in calls)
        intake.post("shop", body)  # comes again, and sets nothing waiting
        assert len(calls) == woken


def test_an_id_of_the_table_with_another_body_is_another_webhook(make_intake: MakeIntake) -> None:
    """An incident that opens and closes under one id: neither is lost, and each may be sent again."""
    text = TABLE.replace("event: payload.type", "event: payload.state").replace("event: order", "event: '*'")
    intake = make_intake(text.replace('"${{ payload.total }}"', '"${{ event }}"'))
    opened, closed = b'{"id":"i-1","state":"open"}', b'{"id":"i-1","state":"closed"}'
    events = []
    for body in (opened, closed):
        answer = intake.post("shop", body)
        events.append(answer.body["event"])
        assert (answer.status, answer.body["duplicate"], len(answer.body["jobs"])) == (202, False, 2)
    assert [job.arguments for job in intake.jobs()] == [("open",), ("two",), ("closed",), ("two",)]
    for number, body in zip(events, (opened, closed), strict=True):
        assert intake.post("shop", body) == Answer(200, {"event": number, "jobs": [], "duplicate": True})
    assert "its delivery id already belongs to another body" in intake.outbox.summary(events[1]).warnings[0]
