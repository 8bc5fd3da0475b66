"""Replays and changed bodies: an old body under a new delivery id, and a known id with another body."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import logging
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from bridge.core.errors import ConfigError
from bridge.core.event import JSON
from bridge.core.job import JobState
from bridge.outbox.event_storage import ANOTHER_BODY
from bridge.outbox.store import Outbox
from bridge.outbox.webhook import StoredJob, StoredWebhook
from bridge.sources.base.source_type import Replays
from tests.support.intake import (
    BEARER,
    JSON_HEADERS,
    VARIABLES,
    Intake,
    beside,
    changed,
    github_headers,
    sample,
    table,
)
from tests.support.server import Server
from tests.support.statements import executed
from tests.support.tables import Clock, dead_job, engine_of, in_threads, make_event, make_job, make_webhook

Open = Callable[[], Outbox]
MakeIntake = Callable[[str], Intake]

NOTE, REFUSE = Replays.NOTE, Replays.REFUSE

OLD, OTHER = b"o" * 32, b"x" * 32

PUSH = sample("github/push.json")


def of_body(digest: bytes, delivery_id: str, replays: Replays | None = NOTE, **more: Any) -> Any:
    """A webhook with one job, of a body with this digest."""
    job, of_webhook = more.pop("job", make_job("x")), {}
    for name in ("fingerprint", "warnings", "has_chosen_id"):
        if name in more:
            of_webhook[name] = more.pop(name)
    event = make_event(**{"payload": None, "delivery_id": delivery_id, **more})
    return make_webhook(job, event=event, digest=digest, replays=replays, **of_webhook)


def warnings(outbox: Outbox, event_id: int) -> tuple[str, ...]:
    return outbox.summary(event_id).warnings


def came_before(event_id: int, delivery_id: str) -> str:
    return f"the same body as event {event_id}, delivery id {delivery_id}"


class TestTheSameBodyUnderAnotherId:
    """It is noted, or makes no job: at the store, on both databases."""

    def test_it_is_noted_on_its_event(self, outbox: Outbox) -> None:
        first = outbox.store(of_body(OLD, "a", warnings=["odd"]))
        second = outbox.store(of_body(OLD, "b", warnings=["odd"]))
        third = outbox.store(of_body(OLD, "c"))

        note = came_before(first.event_id, "a")
        assert (first.note, second.note, third.note) == (None, note, note)
        assert [len(stored.jobs) for stored in (first, second, third)] == [1, 1, 1]
        assert not second.duplicate
        assert not second.is_refused
        assert warnings(outbox, first.event_id) == ("odd",)
        assert warnings(outbox, second.event_id) == (note, "odd")

    def test_a_redelivery_is_none_and_leaves_the_note(self, outbox: Outbox) -> None:
        first = outbox.store(of_body(OLD, "a"))
        second = outbox.store(of_body(OLD, "b"))

        for delivery_id, stored in (("a", first), ("b", second)):
            for replays in (NOTE, REFUSE):
                again = outbox.store(of_body(OLD, delivery_id, replays, warnings=["now"]))
                assert again == StoredWebhook(stored.event_id, True, ())
        assert warnings(outbox, first.event_id) == ("now",)
        assert warnings(outbox, second.event_id) == (came_before(first.event_id, "a"), "now")

    def test_refused_it_makes_neither_event_nor_job(self, outbox: Outbox) -> None:
        first = outbox.store(of_body(OLD, "a", REFUSE))
        second = outbox.store(of_body(OLD, "b", REFUSE))

        note = f"a replay: {came_before(first.event_id, 'a')}"
        assert second == StoredWebhook(first.event_id, True, (), note, is_refused=True)
        assert (len(outbox.events()), len(outbox.jobs())) == (1, 1)
        assert warnings(outbox, first.event_id) == ()

    def test_refused_it_does_not_even_build_a_dead_job_again(self, outbox: Outbox) -> None:
        outbox.store(of_body(OLD, "a", REFUSE, job=dead_job()))
        assert outbox.store(of_body(OLD, "b", REFUSE)).jobs == ()
        assert [job.state for job in outbox.jobs()] == [JobState.DEAD]

    @pytest.mark.parametrize("replays", [NOTE, REFUSE])
    def test_another_body_or_source_is_none(self, outbox: Outbox, replays: Replays) -> None:
        outbox.store(of_body(OLD, "a", replays))
        for other in (of_body(OTHER, "b", replays), of_body(OLD, "c", replays, source="alerts")):
            stored = outbox.store(other)
            assert (stored.duplicate, stored.note, len(stored.jobs)) == (False, None, 1)

    def test_where_nobody_looks_for_it_nothing_is_said(self, outbox: Outbox) -> None:
        for delivery_id in "ab":
            assert outbox.store(of_body(OLD, delivery_id, None)).note is None

    def test_with_a_fingerprint_after_its_window(self, outbox: Outbox, clock: Clock) -> None:
        """As where a request without its id header is sent again."""

        def sight(after: float) -> StoredWebhook:
            at = clock.now + after
            return outbox.store(of_body(OLD, f"f@{after}", REFUSE, fingerprint="f", received_at=at))

        first = sight(0)
        assert sight(29) == StoredWebhook(first.event_id, True, ())
        assert sight(31).is_refused
        assert len(outbox.jobs()) == 1

    def test_it_is_found_by_an_index(self, outbox: Outbox) -> None:
        """However many events there are; the hot path asks once, and only where it must."""
        for number in range(50):
            outbox.store(of_body(number.to_bytes(32, "big"), f"n{number}"))
        engine = engine_of(outbox)
        with executed() as asked:
            outbox.store(of_body(OLD, "a"))
            outbox.store(of_body(OTHER, "b", None))

        asking = [(sql, values) for sql, values in asked if "SELECT events" in sql and "digest = " in sql]
        assert len(asking) == 1
        ((sql, values),) = asking
        with beside(str(engine.url.render_as_string(hide_password=False))) as connection:
            if connection.dialect.name == "sqlite":
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
            else:
                connection.execute(text("SET LOCAL enable_seqscan = off"))
                plan = connection.exec_driver_sql(f"EXPLAIN {sql}", values).fetchall()
        said = " ".join(map(str, plan))
        assert re.search(r"events_by_digest.*source.* AND .*digest", said)
        assert "TEMP B-TREE" not in said
        assert "Sort" not in said

    def test_of_two_at_once_one_makes_jobs(self, reopen: Open) -> None:
        """Whatever process each comes to."""
        processes = [reopen(), reopen()]
        for number in range(25):
            digest = number.to_bytes(32, "big")
            stored = in_threads(
                partial(processes[nth % 2].store, of_body(digest, f"{number}-{nth}", REFUSE))
                for nth in range(6)
            )
            assert sorted(each.is_refused for each in stored) == [False, *[True] * 5]
            assert {each.event_id for each in stored} == {stored[0].event_id}
        assert len(processes[0].jobs(limit=1000)) == 25

    def test_of_two_at_once_one_is_without_a_note(self, reopen: Open) -> None:
        processes = [reopen(), reopen()]
        for number in range(25):
            digest = number.to_bytes(32, "big")
            stored = in_threads(
                partial(processes[nth % 2].store, of_body(digest, f"{number}-{nth}")) for nth in range(6)
            )
            assert sorted(each.note is not None for each in stored) == [False, *[True] * 5]


class TestAnotherBodyUnderTheSameId:
    """The first one stays, and the event's jobs are its own."""

    def test_it_makes_no_job_and_is_noted_once(self, outbox: Outbox) -> None:
        first = outbox.store(of_body(OLD, "a", payload={"n": 1}))
        missing = make_job("y", route="second")
        for digest in (OTHER, b"y" * 32):
            again = outbox.store(of_body(digest, "a", payload={"n": 2}, job=missing))
            assert (again.event_id, again.duplicate, again.jobs, again.is_refused) == (
                first.event_id, True, (), True,
            )  # fmt: skip
            assert again.note == (
                f"delivery id a already belongs to another body: event {first.event_id}; "
                "no job was created from this body"
            )
        assert outbox.event(first.event_id).payload == {"n": 1}
        assert warnings(outbox, first.event_id) == (ANOTHER_BODY,)
        assert [job.arguments for job in outbox.jobs()] == [("x",)]

    def test_it_builds_no_dead_job_again(self, outbox: Outbox) -> None:
        outbox.store(of_body(OLD, "a", job=dead_job()))
        before = outbox.jobs()
        outbox.store(of_body(OTHER, "a"))
        assert outbox.jobs() == before

    def test_the_same_body_of_another_event_is_another_one(self, outbox: Outbox) -> None:
        """No signature covers the header that names the event."""
        outbox.store(of_body(OLD, "a"))
        others: tuple[dict[str, Any], ...] = ({"event": "create"}, {"action": "opened"})
        for more in others:
            again = outbox.store(of_body(OLD, "a", job=make_job("y", route="second"), **more))
            assert (again.duplicate, again.jobs, again.is_refused) == (True, (), True)

    def test_it_does_not_take_the_place_of_a_body_that_is_gone(self, outbox: Outbox) -> None:
        first = outbox.store(of_body(OLD, "a", payload={"n": 1}))
        with beside(str(engine_of(outbox).url.render_as_string(hide_password=False))) as connection:
            connection.execute(text("UPDATE events SET body = :none"), {"none": b""})

        outbox.store(of_body(OTHER, "a", payload={"n": 2}))
        assert outbox.stored_event(first.event_id).body == b""
        outbox.store(of_body(OLD, "a", payload={"n": 1}))
        assert outbox.event(first.event_id).payload == {"n": 1}

    def test_a_fingerprint_that_leaves_it_out_says_nothing(self, outbox: Outbox) -> None:
        """A pair of Alertmanagers tells the same twice, with other URLs."""
        fingerprinted: dict[str, Any] = {"fingerprint": "f", "replays": None}
        first = outbox.store(of_body(OLD, "f@1", **fingerprinted, payload={"n": 1}, job=dead_job()))
        again = outbox.store(of_body(OTHER, "f@2", **fingerprinted, payload={"n": 2}))

        assert again == StoredWebhook(first.event_id, True, ())
        assert outbox.event(first.event_id).payload == {"n": 1}
        assert (warnings(outbox, first.event_id), outbox.jobs()[0].state) == ((), JobState.DEAD)

    def test_of_two_at_once_the_jobs_are_those_of_the_body_that_is_shown(self, reopen: Open) -> None:
        processes = [reopen(), reopen()]
        for number in range(25):
            in_threads(
                partial(
                    processes[nth % 2].store,
                    of_body(
                        bytes([nth]) * 32, f"{number}", payload={"n": nth},
                        job=make_job(nth, route=f"route {nth}"),
                    ),
                )
                for nth in range(6)
            )  # fmt: skip
        for job in processes[0].jobs(limit=1000):
            assert job.arguments == (processes[0].event(job.event_id).payload["n"],)
        assert len(processes[0].jobs(limit=1000)) == 25


@pytest.mark.slow_unless(url="sqlite")
class TestAChosenId:
    """Where the table says where the id is found, another body is another webhook."""

    def store(
        self, outbox: Outbox, digest: bytes, replays: Replays | None = None, **more: Any
    ) -> StoredWebhook:
        return outbox.store(of_body(digest, "INC-1", replays, has_chosen_id=True, **more))

    def test_it_is_an_event_of_its_own(self, outbox: Outbox) -> None:
        first = self.store(outbox, OLD, payload={"n": 1})
        second = self.store(outbox, OTHER, payload={"n": 2})

        assert (second.duplicate, len(second.jobs), second.is_refused) == (False, 1, False)
        assert second.note == f"its delivery id already belongs to another body: event {first.event_id}"
        assert warnings(outbox, second.event_id) == (second.note,)
        assert outbox.event(second.event_id).payload == {"n": 2}
        stored_as = outbox.summary(second.event_id).delivery_id
        assert stored_as.startswith("INC-1#")
        assert len(stored_as) == len("INC-1#") + 12

    def test_expressions_see_the_id_that_came(self, outbox: Outbox) -> None:
        """Also when its jobs are built again: a group may be made of it."""
        for digest in (OLD, OTHER):
            assert outbox.event(self.store(outbox, digest).event_id).delivery_id == "INC-1"

    def test_each_is_known_when_it_comes_again(self, outbox: Outbox) -> None:
        stored = [self.store(outbox, digest) for digest in (OLD, OTHER, b"y" * 32)]
        assert len({each.event_id for each in stored}) == 3
        for digest, each in zip((OLD, OTHER, b"y" * 32), stored, strict=True):
            assert self.store(outbox, digest) == StoredWebhook(each.event_id, True, ())

    def test_and_completed(self, outbox: Outbox) -> None:
        self.store(outbox, OLD)
        second = self.store(outbox, OTHER, job=dead_job())
        again = self.store(outbox, OTHER, job=make_job("built"))
        assert again.jobs == (StoredJob(second.jobs[0].id, "first", "task 1", JobState.WAITING),)

    def test_the_same_body_of_another_event_is_one_too(self, outbox: Outbox) -> None:
        stored = [self.store(outbox, OLD, event=event) for event in ("open", "closed", "open", "closed")]
        assert [each.duplicate for each in stored] == [False, False, True, True]

    def test_the_second_is_known_once_the_first_is_deleted(self, outbox: Outbox) -> None:
        first, second = (self.store(outbox, digest) for digest in (OLD, OTHER))
        with engine_of(outbox).begin() as connection:
            for table in ("jobs", "events"):
                column = "event_id" if table == "jobs" else "id"
                connection.execute(text(f"DELETE FROM {table} WHERE {column} = {first.event_id}"))
        assert self.store(outbox, OTHER) == StoredWebhook(second.event_id, True, ())

    def test_at_once_each_body_makes_one_event(self, reopen: Open) -> None:
        processes = [reopen(), reopen()]
        stored = in_threads(
            partial(self.store, processes[nth % 2], bytes([nth % 3]) * 32) for nth in range(9)
        )
        assert len({each.event_id for each in stored}) == 3
        assert sum(not each.duplicate for each in stored) == 3
        assert len(processes[0].jobs()) == 3

    def test_an_old_body_under_it_is_a_replay_still(self, outbox: Outbox) -> None:
        old = outbox.store(of_body(OTHER, "INC-0", REFUSE, has_chosen_id=True))
        self.store(outbox, OLD, REFUSE)

        for _ in range(2):
            replayed = self.store(outbox, OTHER, REFUSE)
            assert (replayed.event_id, replayed.jobs, replayed.is_refused) == (old.event_id, (), True)
        noted = self.store(outbox, OTHER, NOTE)
        assert (noted.note, len(noted.jobs)) == (came_before(old.event_id, "INC-0"), 1)


# What the receiver makes of it

GITHUB = """
sources:
  github: {secret: "${{ env.GITHUB_SECRET }}"MORE}
routes:
  - {name: deploy, source: github, event: push, task: TASK, secret_key: KEY, task_arguments: []}
"""


def push(intake: Intake, delivery: str, body: bytes = PUSH) -> dict[str, JSON]:
    return intake.post("github", body, github_headers(body, delivery=delivery)).body


def refused(intake: Intake) -> list[tuple[int, str, str | None, int | None]]:
    intake.refusals.close()
    found = intake.outbox.refused()
    return [(each.status, each.reason, each.event, each.size) for each in found]


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def test_a_replay_is_noted_on_the_event_and_in_the_log(
    make_intake: MakeIntake, caplog: pytest.LogCaptureFixture
) -> None:
    intake = make_intake(GITHUB.replace("MORE", ""))
    assert len(push(intake, "one")["jobs"]) == 1
    assert len(push(intake, "two")["jobs"]) == 1
    assert intake.outbox.summary(2).warnings == (came_before(1, "one"),)
    line = f"event 2: push two from github, client unknown, new, jobs: 1; {came_before(1, 'one')}"
    assert logged(caplog) == [line]
    assert refused(intake) == []


def test_refused_it_is_answered_200_as_a_duplicate_of_the_first(
    make_intake: MakeIntake, caplog: pytest.LogCaptureFixture
) -> None:
    intake = make_intake(GITHUB.replace("MORE", ", replays: refuse"))
    push(intake, "one")
    answer = intake.post("github", PUSH, github_headers(PUSH, delivery="two"))
    assert (answer.status, answer.body) == (200, {"event": 1, "jobs": [], "duplicate": True})
    reason = f"a replay: {came_before(1, 'one')}"
    assert logged(caplog) == [f"event 1: push two from github, client unknown, duplicate, jobs: 0; {reason}"]
    assert refused(intake) == [(200, reason, "push", len(PUSH))]


def test_another_body_is_answered_200_and_listed_among_the_refused(
    make_intake: MakeIntake, caplog: pytest.LogCaptureFixture
) -> None:
    intake = make_intake(GITHUB.replace("MORE", ""))
    push(intake, "one")
    other = changed(PUSH, after="0" * 40)
    answer = intake.post("github", other, github_headers(other, delivery="one"))
    assert (answer.status, answer.body) == (200, {"event": 1, "jobs": [], "duplicate": True})
    assert intake.outbox.event(1).body == PUSH
    assert intake.outbox.summary(1).warnings == (ANOTHER_BODY,)
    reason = "delivery id one already belongs to another body: event 1; no job was created from this body"
    assert logged(caplog) == [f"event 1: push one from github, client unknown, duplicate, jobs: 0; {reason}"]
    assert refused(intake) == [(200, reason, "push", len(other))]


def test_the_digest_is_that_of_the_bytes_that_came(make_intake: MakeIntake) -> None:
    """Whatever of it is stored: a redacted body, or none."""
    for number, keep in enumerate(("", ", store_payload: none", ", redact: [payload.after]")):
        intake = make_intake(GITHUB.replace("MORE", keep))
        body = changed(PUSH, number=number)
        event_id = push(intake, f"id-{number}", body)["event"]
        with beside(intake._url) as connection:
            found = connection.execute(text("SELECT digest FROM events WHERE id = :id"), {"id": event_id})
            assert found.scalar_one() == hashlib.sha256(body).digest()
        assert push(intake, f"id-{number}", body) == {"event": event_id, "jobs": [], "duplicate": True}
    assert refused(intake) == []


SHOP = """
sources:
  shop: {type: generic, bearer_token: "${{ env.TOKEN }}", event: payload.kind, delivery_id: payload.idMORE}
routes:
  - {name: any, source: shop, task: TASK, secret_key: KEY, task_arguments: []}
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [("event: payload.kind", "event: payload.type"), ("MORE", ", action: payload.type")],
)
def test_a_webhook_is_the_same_after_an_edit_of_what_its_event_is(
    make_intake: MakeIntake, before: str, after: str
) -> None:
    """Where the body names the event: where a header names it, the same body may belong to two."""
    intake = make_intake(SHOP.replace("MORE", ""))
    body = b'{"id": "1", "kind": "order", "type": "shop.order"}'
    first = intake.post("shop", body, {**JSON_HEADERS, **BEARER}).body
    intake.use(SHOP.replace(before, after).replace("MORE", ""))
    again = intake.post("shop", body, {**JSON_HEADERS, **BEARER}).body
    assert again == {"event": first["event"], "jobs": [], "duplicate": True}


JIRA = """
sources:
  jira: {secret: "${{ env.TOKEN }}", replays: refuse}
routes:
  - {name: any, source: jira, task: TASK, secret_key: KEY, task_arguments: []}
"""
ISSUE = b'{"webhookEvent":"jira:issue_updated","issue":{"key":"A-1"},"timestamp":1}'


def jira(intake: Intake, delivery: str | None, body: bytes = ISSUE) -> int:
    """How many jobs it made."""
    digest = hmac.new(VARIABLES["TOKEN"].encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature": f"sha256={digest}", **(JSON_HEADERS if body else {})}
    if delivery is not None:
        headers["X-Atlassian-Webhook-Identifier"] = delivery
    return len(intake.post("jira", body, headers).body["jobs"])


def test_an_id_that_is_taken_off_does_not_help(make_intake: MakeIntake) -> None:
    intake = make_intake(JIRA)
    assert jira(intake, "one") == 1
    intake.clock.now += 86_400
    assert (jira(intake, "two"), jira(intake, None)) == (0, 0)
    intake.clock.now += 86_400
    assert jira(intake, None) == 0


def test_without_a_body_all_would_be_the_same_one(make_intake: MakeIntake) -> None:
    intake = make_intake(JIRA)
    assert [jira(intake, delivery, b"") for delivery in ("one", "two", "one")] == [1, 1, 0]


STRIPE = """
sources:
  stripe: {secret: "${{ env.TOKEN }}"}
routes:
  - {name: paid, source: stripe, task: TASK, secret_key: KEY, task_arguments: ["${{ payload.data.MORE }}"]}
"""


def charge(intake: Intake, **more: JSON) -> dict[str, JSON]:
    body = orjson.dumps({"id": "evt_1", "type": "charge.paid", "data": {"amount": 5}, **more})
    at = str(int(intake.clock.now))
    digest = hmac.new(VARIABLES["TOKEN"].encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return intake.post("stripe", body, {**JSON_HEADERS, "Stripe-Signature": f"t={at},v1={digest}"}).body


def test_what_a_sender_counts_anew_each_time_is_no_other_body(make_intake: MakeIntake) -> None:
    intake = make_intake(STRIPE.replace("MORE", "missing"))
    charge(intake, pending_webhooks=2)
    intake.use(STRIPE.replace("MORE", "amount"))
    assert len(charge(intake, pending_webhooks=1)["jobs"]) == 1
    assert refused(intake) == []


def test_what_else_differs_is(make_intake: MakeIntake) -> None:
    intake = make_intake(STRIPE.replace("MORE", "amount"))
    charge(intake, pending_webhooks=2)
    assert charge(intake, data={"amount": 6}) == {"event": 1, "jobs": [], "duplicate": True}
    assert [job.arguments for job in intake.jobs()] == [(5,)]


INCIDENTS = """
sources:
  incidents: {type: generic, bearer_token: "${{ env.TOKEN }}", delivery_id: PATH}
routes:
  - {name: any, source: incidents, task: TASK, secret_key: KEY, task_arguments: ["${{ payload.state }}"],
     concurrency: {group: "${{ delivery_id }}"}}
"""


@pytest.mark.parametrize("path", ["payload.id", 'headers["X-Id"]'])
def test_an_incident_that_is_opened_and_closed_under_one_id_makes_both_jobs(
    make_intake: MakeIntake, path: str
) -> None:
    intake = make_intake(INCIDENTS.replace("PATH", f"'{path}'"))
    for state in ("open", "closed", "open", "closed"):
        body = orjson.dumps({"id": "INC-1", "state": state})
        intake.post("incidents", body, {**JSON_HEADERS, **BEARER, "X-Id": "INC-1"})
    assert [job.arguments for job in intake.jobs()] == [("open",), ("closed",)]
    # They are of one group, so the second waits for the first.
    assert {job.group for job in intake.jobs()} == {"INC-1"}


# What the table says of it


def replays_of(intake: Intake) -> dict[str, Replays | None]:
    return {name: source.replays for name, source in intake.table.sources.items()}


def test_whose_ids_are_signed_is_not_looked_after(make_intake: MakeIntake) -> None:
    token = '"${{ env.TOKEN }}"'
    tokened = "{type: gitlab, token: TOKEN}", "{type: gitlab, any_of: {token: TOKEN, secret: SIGNING}}"
    signed = '"${{ env.SIGNING }}"'
    sources = {
        **dict.fromkeys(("github", "gitea", "forgejo", "gogs", "bitbucket", "jira"), "{secret: TOKEN}"),
        "server": "{type: bitbucket-server, secret: TOKEN}",
        "sentry": "{secret: TOKEN}",
        "lab": tokened[0],
        "either": tokened[1],
        "header": "{type: generic, secret: TOKEN, signature: {header: X-S}, delivery_id: headers.X}",
        "query": "{type: generic, bearer_token: TOKEN, delivery_id: query.x}",
    }
    others = {
        "stripe": "{secret: TOKEN}",
        "slack": "{secret: TOKEN}",
        "alertmanager": "{bearer_token: TOKEN}",
        "signed_lab": "{type: gitlab, secret: SIGNING}",
        "payload": "{type: generic, bearer_token: TOKEN, delivery_id: payload.x}",
        "none": "{type: generic, bearer_token: TOKEN}",
    }
    lines = "\n".join(f"  {name}: {keys}" for name, keys in {**sources, **others}.items())
    lines = lines.replace("SIGNING", signed).replace(" TOKEN", f" {token}")
    made = make_with_signing(make_intake, f"sources:\n{lines}\nroutes: []")
    assert replays_of(made) == {**dict.fromkeys(sources, NOTE), **dict.fromkeys(others)}


def make_with_signing(make_intake: MakeIntake, text_of_table: str) -> Intake:
    """GitLab's signing token is of a form of its own."""
    intake = make_intake("sources: {}\nroutes: []")
    intake._variables = {**VARIABLES, "SIGNING": "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}
    intake.use(text_of_table)
    return intake


def test_the_table_says_what_becomes_of_it(make_intake: MakeIntake) -> None:
    intake = make_intake(
        "sources:\n"
        "  github: {secret: '${{ env.TOKEN }}', replays: refuse}\n"
        "  shop: {type: generic, bearer_token: '${{ env.TOKEN }}', replays: note}\n"
        "  jira: {secret: '${{ env.TOKEN }}', replays: note}\nroutes: []"
    )
    assert replays_of(intake) == {"github": REFUSE, "shop": NOTE, "jira": NOTE}


@pytest.mark.parametrize("name", ["stripe", "slack", "alertmanager", "grafana", "zoom"])
def test_for_other_types_the_key_is_a_mistake(make_intake: MakeIntake, name: str) -> None:
    key = "bearer_token" if name in ("alertmanager", "grafana") else "secret"
    with pytest.raises(ConfigError, match=f"replays does not apply to {name}"):
        make_intake(f"sources:\n  {name}: {{{key}: '${{{{ env.TOKEN }}}}', replays: refuse}}\nroutes: []")


# On a running server

SERVED = """
sources:
  github: {secret: "${{ env.GITHUB_SECRET }}"}
  strict: {type: github, secret: "${{ env.GITHUB_SECRET }}", replays: refuse}
routes:
  - {name: noted, source: github, event: push, task: TASK, secret_key: KEY, task_arguments: []}
  - {name: strict, source: strict, event: push, task: TASK, secret_key: KEY, task_arguments: []}
"""


def post(server: Server, source: str, body: bytes, delivery: str) -> tuple[int, JSON]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        headers: Mapping[str, str] = github_headers(body, delivery=delivery)
        connection.request("POST", f"/hooks/{source}", body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_an_old_body_with_a_new_id_on_a_running_server(url: str, tmp_path: Path) -> None:
    config = tmp_path / "table.yml"
    config.write_text(table(SERVED), "utf-8")
    other = changed(PUSH, after="0" * 40)
    with Server(config, url, {**VARIABLES, "BRIDGE_DELIVER": "false"}) as server:
        assert post(server, "github", PUSH, "one")[0] == 202
        assert post(server, "strict", PUSH, "one")[0] == 202

        status, answer = post(server, "github", PUSH, "two")
        assert (status, len(answer["jobs"])) == (202, 1)
        for source, body, delivery in (("strict", PUSH, "two"), ("github", other, "one")):
            status, answer = post(server, source, body, delivery)
            assert (status, answer["jobs"], answer["duplicate"]) == (200, [], True)
        server.stop()
        for text in (
            "new, jobs: 1; the same body as event 1, delivery id one",
            "a replay: the same body as event 2, delivery id one",
            "delivery id one already belongs to another body: event 1",
        ):
            assert [text in line for line in server.log.splitlines()].count(True) == 1, text
    outbox = Outbox(url)
    assert (len(outbox.events()), len(outbox.jobs())) == (3, 3)
    # Each process writes what it refused in its own time.
    found = sorted((each.source, each.status) for each in outbox.refused())
    assert found == [("github", 200), ("strict", 200)]
    outbox.close()
