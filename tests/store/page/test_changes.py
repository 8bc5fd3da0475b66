"""Changes by the page: retry, cancel, resolve, replay, pause; one and many; with a reason, in the audit."""

from __future__ import annotations

import re
from typing import Any, NoReturn

import pytest

from bridge.core.job import JobState
from bridge.intake.changes import Changes
from bridge.outbox.audit import Action
from bridge.outbox.listing import Listing
from bridge.outbox.pauses import Pausable
from bridge.web.page import change_views
from tests.store.page.conftest import Browser
from tests.store.page.test_screens import push
from tests.support.intake import Intake
from tests.support.sending import send


def dead(intake: Intake, count: int = 1) -> None:
    """Jobs whose argument is missing."""
    for _ in range(count):
        push(intake, ref="refs/heads/main", repository={"name": "x"})


def hidden(text: str) -> dict[str, str]:
    """The hidden fields of a form, without its token."""
    fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', text))
    fields.pop("csrf_token", None)
    return fields


def change(browser: Browser, path: str, reason: str = "because") -> str:
    """Confirm a change, and let it go on to its end; the last page."""
    confirm = browser.text(path)
    begun = browser.post("/change", {**hidden(confirm), "reason": reason})
    assert begun.status_code == 303, begun.text
    text = browser.text(begun.location)
    while "Continue" in text:
        text = browser.post(begun.location, {}).text
    return text


MENDED = """
sources:
  github: {secret: "${{ env.GITHUB_SECRET }}"}
routes:
  - name: deploy main
    source: github
    event: push
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ payload.after }}", "${{ payload.repository.name }}"]
"""


class TestOne:
    def test_a_dead_job_is_retried_with_the_table_of_today(self, intake: Intake, browser: Browser) -> None:
        dead(intake)
        assert "stays dead" in change(browser, "/change?order=retry&id=1")
        intake.use(MENDED)
        mended = Browser(
            app := intake.app({"BRIDGE_ADMIN_PASSWORD": "correct-horse-battery"}), app.test_client()
        )
        mended.sign_in()
        assert "is waiting to be sent" in change(mended, "/change?order=retry&id=1")
        assert intake.outbox.job(1).state is JobState.WAITING

    @pytest.mark.parametrize(
        ("order", "state", "after"),
        [
            ("cancel", JobState.WAITING, JobState.CANCELED),
            ("sent", JobState.UNKNOWN, JobState.ACCEPTED),
            ("again", JobState.UNKNOWN, JobState.WAITING),
        ],
    )
    def test_each_order(
        self, intake: Intake, browser: Browser, order: str, state: JobState, after: JobState
    ) -> None:
        push(intake, ref="refs/heads/main")
        if state is JobState.UNKNOWN:
            send(intake.outbox, state)
        assert f"order={order}" in browser.text("/jobs/1")
        change(browser, f"/change?order={order}&id=1")
        assert intake.outbox.job(1).state is after

    def test_a_replay(self, intake: Intake, browser: Browser) -> None:
        push(intake, ref="refs/heads/main")
        assert "jobs 2 (deploy main: waiting)" in change(browser, "/change?order=replay&id=1")

    def test_a_job_that_has_changed_meanwhile_stays(self, intake: Intake, browser: Browser) -> None:
        push(intake, ref="refs/heads/main")
        confirm = hidden(browser.text("/change?order=cancel&id=1"))
        begun = browser.post("/change", {**confirm, "reason": "late"})
        send(intake.outbox)
        text = browser.post(begun.location, {}).text
        assert "job 1 is accepted, expected" in text
        assert intake.outbox.job(1).state is JobState.ACCEPTED

    @pytest.mark.parametrize(
        ("order", "number", "status", "text"),
        [
            ("retry", 7, 404, "there is no job 7"),
            ("cancel", 7, 404, "there is no job 7"),
            ("sent", 7, 404, "there is no job 7"),
            ("replay", 7, 404, "there is no event 7"),
            ("retry", 1, 409, "job 1 is accepted, expected dead"),
            ("cancel", 1, 409, "job 1 is accepted, expected waiting or dead or unknown"),
            ("again", 1, 409, "job 1 is accepted, expected unknown"),
        ],
    )
    def test_what_cannot_be_changed_is_not_recorded(
        self, intake: Intake, browser: Browser, order: str, number: int, status: int, text: str
    ) -> None:
        push(intake, ref="refs/heads/main")
        send(intake.outbox)
        data = {"order": order, "id": number}
        for answer in (browser.get(f"/change?order={order}&id={number}"), browser.post("/change", data)):
            assert (answer.status_code, text in answer.text) == (status, True)
        assert intake.outbox.audit.entries() == []

    def test_who_and_why_is_in_the_audit_and_on_the_job(self, intake: Intake, browser: Browser) -> None:
        push(intake, ref="refs/heads/main")
        change(browser, "/change?order=cancel&id=1", "wrong <b>branch</b>")
        (entry,) = intake.outbox.audit.entries()
        assert (entry.action.name, entry.action.actor) == ("jobs cancel", "mona")
        assert (entry.action.target, entry.changed) == ({"jobs": [1], "by": "page"}, 1)
        assert entry.ended_at is not None
        for path in ("/audit", "/jobs/1"):
            assert "wrong &lt;b&gt;branch&lt;/b&gt;" in browser.text(path)
        assert '<a href="/jobs/1">job 1</a>' in browser.text("/audit")


def fails(*_: object) -> NoReturn:
    raise RuntimeError("a defect")


class TestMany:
    @pytest.fixture(autouse=True)
    def _small_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(change_views, "PART", 2)

    def test_the_count_and_the_filter_are_shown_before(self, intake: Intake, browser: Browser) -> None:
        dead(intake, 5)
        text = browser.text("/change?order=retry&state=dead&route=deploy+main")
        assert "5 jobs" in text
        assert "route: <b>deploy main</b>" in text
        assert 'name="reason"' in text
        assert "newest 1,000" not in text
        assert "looks only at the newest 1,000 events" in browser.text("/change?order=replay&tab=jobs")
        for path in ("/change?order=retry&source=github", "/jobs?state=dead&source=github"):
            assert "the newest 1,000 dead jobs" in browser.text(path)

    def test_all_of_a_filter_in_parts(self, intake: Intake, browser: Browser) -> None:
        dead(intake, 5)
        push(intake, ref="refs/heads/main")
        text = change(browser, "/change?order=cancel&state=dead")
        assert "5 of 5 done; 5 changed" in text
        states = [intake.outbox.job(number).state for number in range(1, 7)]
        assert states == [JobState.CANCELED] * 5 + [JobState.WAITING]
        (entry,) = intake.outbox.audit.entries()
        assert (entry.action.selected, entry.changed) == (5, 5)
        assert entry.action.target["state"] == "dead"
        assert "oldest" in entry.action.target
        audit = browser.text("/audit")
        assert "state: <b>dead</b>" in audit and "oldest" not in audit

    def test_what_came_after_the_count_is_left_alone(self, intake: Intake, browser: Browser) -> None:
        dead(intake, 3)
        confirm = hidden(browser.text("/change?order=cancel&state=dead"))
        dead(intake, 2)
        begun = browser.post("/change", {**confirm, "reason": "x"})
        for _ in range(3):
            browser.post(begun.location, {})
        states = [intake.outbox.job(number).state for number in range(1, 6)]
        assert states == [JobState.CANCELED] * 3 + [JobState.DEAD] * 2

    @pytest.mark.parametrize("when", ["before the reason", "between the parts"])
    def test_a_job_between_them_that_dies_later_is_left_alone(
        self, intake: Intake, browser: Browser, when: str
    ) -> None:
        dead(intake, 3)
        push(intake, ref="refs/heads/main")
        dead(intake, 2)

        def die() -> None:
            intake.clock.now += 1
            send(intake.outbox, JobState.DEAD)

        confirm = hidden(browser.text("/change?order=cancel&state=dead"))
        if when == "before the reason":
            die()
        begun = browser.post("/change", {**confirm, "reason": "x"})
        if when == "between the parts":
            browser.post(begun.location, {})
            die()
        while "Continue" in (text := browser.post(begun.location, {}).text):
            pass
        assert "5 of 5 done; 5 changed" in text
        states = [intake.outbox.job(number).state for number in range(1, 7)]
        assert states == [*[JobState.CANCELED] * 3, JobState.DEAD, *[JobState.CANCELED] * 2]

    def test_an_event_whose_job_dies_later_is_not_replayed(self, intake: Intake, browser: Browser) -> None:
        dead(intake)
        push(intake, ref="refs/heads/main")
        dead(intake)
        confirm = browser.text("/change?order=replay&state=dead")
        intake.clock.now += 1
        send(intake.outbox, JobState.DEAD)
        begun = browser.post("/change", {**hidden(confirm), "reason": "x"})
        while "Continue" in browser.post(begun.location, {}).text:
            pass
        assert [len(intake.outbox.jobs(event_id=number)) for number in (1, 2, 3)] == [2, 1, 2]

    def test_a_job_that_was_sent_and_waits_again_is_still_one_of_them(
        self, intake: Intake, browser: Browser
    ) -> None:
        push(intake, ref="refs/heads/main")
        confirm = hidden(browser.text("/change?order=cancel&state=waiting"))
        intake.clock.now += 1
        send(intake.outbox, JobState.WAITING)
        begun = browser.post("/change", {**confirm, "reason": "x"})
        assert "1 of 1 done; 1 changed" in browser.post(begun.location, {}).text

    @pytest.mark.parametrize("order", ["cancel&state=dead", "retry&state=dead", "replay"])
    def test_a_part_reads_only_its_own(
        self, intake: Intake, browser: Browser, monkeypatch: pytest.MonkeyPatch, order: str
    ) -> None:
        dead(intake, 5)
        begun = browser.post(
            "/change", {**hidden(browser.text(f"/change?order={order}")), "reason": "x"}
        ).location
        for whole in ("shown_jobs", "shown_events"):
            monkeypatch.setattr(Listing, whole, fails)
        shares = []
        while "Continue" in (text := browser.post(begun, {}).text):
            assert len(re.findall(r'href="/(?:jobs|events)/\d', text)) == 2
            shares += re.findall(r"About (\d) of 5 done", text)
        assert shares == ["2", "4"]

    def test_a_form_without_bounds_gets_them(self, intake: Intake, browser: Browser) -> None:
        dead(intake)
        begun = browser.post("/change", {"order": "cancel", "state": "dead", "reason": "x"})
        dead(intake)
        browser.post(begun.location, {})
        assert [intake.outbox.job(number).state for number in (1, 2)] == [JobState.CANCELED, JobState.DEAD]

    @pytest.mark.parametrize("bound", ["newest=x", "newest=3&oldest=-1", "newest=3&ended_at=nan"])
    def test_a_bound_that_is_no_number_is_named(self, browser: Browser, bound: str) -> None:
        assert browser.get(f"/change?order=retry&{bound}").status_code == 400

    def test_a_page_that_is_sent_twice_replays_no_event_twice(self, intake: Intake, browser: Browser) -> None:
        for _ in range(4):
            push(intake, ref="refs/heads/main")
        begun = browser.post("/change", {**hidden(browser.text("/change?order=replay")), "reason": "x"})
        entry = intake.outbox.audit.entry(1)
        assert entry is not None
        # A second tab reads the entry before the first has done its part.
        audit = intake.outbox.audit
        assert audit.advance(entry.id, None, 2)
        assert not audit.advance(entry.id, None, 2)
        for _ in range(3):
            browser.post(begun.location, {})
        made = [len(intake.outbox.jobs(event_id=number)) for number in range(1, 5)]
        assert made == [1, 1, 2, 2]

    def test_a_limited_list_changes_no_more_than_it_showed(
        self, intake: Intake, browser: Browser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bridge.outbox.listing.SCANNED", 3)
        for _ in range(6):
            push(intake, ref="refs/heads/main")
        text = change(browser, "/change?order=cancel&state=waiting&source=github")
        assert "3 of 3 done; 3 changed" in text
        assert [intake.outbox.job(number).state for number in (1, 2, 3)] == [JobState.WAITING] * 3

    def test_a_failure_leaves_the_rest_to_the_next_part(
        self, intake: Intake, browser: Browser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dead(intake, 4)
        confirm = hidden(browser.text("/change?order=cancel&state=dead"))
        begun = browser.post("/change", {**confirm, "reason": "x"})
        with monkeypatch.context() as patched:
            patched.setattr(Changes, "change", fails)
            assert browser.post(begun.location, {}).status_code == 500
        while "Continue" in (text := browser.post(begun.location, {}).text):
            pass
        assert "4 of 4 done; 3 changed" in text

    def test_an_ended_change_does_nothing_more(self, intake: Intake, browser: Browser) -> None:
        push(intake, ref="refs/heads/main")
        change(browser, "/change?order=replay")
        browser.post("/change/1", {})
        assert len(intake.outbox.jobs(event_id=1)) == 2

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ("order=delete", "order must be one of"),
            ("order=retry&state=accepted", "you cannot retry jobs that are accepted"),
            ("order=retry&id=x", "id must be a number"),
        ],
    )
    def test_a_mistake_is_named(self, browser: Browser, query: str, message: str) -> None:
        answer = browser.get(f"/change?{query}")
        assert answer.status_code == 400
        assert message in answer.text

    def test_no_other_entry_of_the_audit_is_a_change(self, intake: Intake, browser: Browser) -> None:
        push(intake, ref="refs/heads/main")
        of_command = Action("maria", "deploy", "events replay", {"events": [1]}, 1)
        entry = intake.outbox.audit.begin(of_command)
        assert browser.post(f"/change/{entry}", {}).status_code == 404
        assert len(intake.outbox.jobs(event_id=1)) == 1
        data: dict[str, Any] = {"kind": "route", "name": "deploy main", "order": "pause"}
        browser.post("/pause", data)
        assert browser.get("/change/2").status_code == 404
        assert browser.get("/change/9").status_code == 404


class TestPause:
    def test_a_route_with_a_reason(self, intake: Intake, browser: Browser) -> None:
        data = {"kind": "route", "name": "deploy main", "order": "pause", "reason": "a freeze"}
        assert browser.post("/pause", data).status_code == 303
        assert [(each.kind, each.name) for each in intake.outbox.paused()] == [
            (Pausable.ROUTE, "deploy main")
        ]
        assert "Resume" in browser.text("/routes")
        browser.post("/pause", {**data, "order": "resume"})
        assert intake.outbox.paused() == []
        assert [each.action.reason for each in intake.outbox.audit.entries()] == ["a freeze", "a freeze"]

    def test_a_long_reason_is_refused_and_not_cut(self, intake: Intake, browser: Browser) -> None:
        data = {"kind": "route", "name": "deploy main", "order": "pause", "reason": "x" * 501}
        answer = browser.post("/pause", data)
        assert (answer.status_code, "the reason has 501 characters" in answer.text) == (400, True)
        assert intake.outbox.audit.entries() == []

    def test_a_reason_with_nul_is_refused(self, intake: Intake, browser: Browser) -> None:
        data = {"kind": "route", "name": "deploy main", "order": "pause", "reason": "x\x00"}
        assert browser.post("/pause", data).status_code == 400
        assert intake.outbox.audit.entries() == []

    def test_what_is_not_in_the_table_is_refused(self, intake: Intake, browser: Browser) -> None:
        data = {"kind": "route", "name": "x" * 100_00, "order": "pause"}
        assert browser.post("/pause", data).status_code == 400
        assert intake.outbox.paused() == []

    def test_another_kind_is_refused(self, browser: Browser) -> None:
        assert browser.post("/pause", {"kind": "planet", "name": "x", "order": "pause"}).status_code == 400
