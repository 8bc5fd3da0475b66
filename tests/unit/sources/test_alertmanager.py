"""Alertmanager's notifications: no id, so a hash within a window; one job an alert."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.core.errors import NotAuthentic, Unreadable, UnsupportedContent
from bridge.core.event import rfc3339
from bridge.core.job import Job
from tests.support.intake import BEARER, JSON_HEADERS, VARIABLES, Intake, basic, changed, sample

MakeIntake = Callable[[str], Intake]

TABLE = """
sources:
  alerts:
    type: alertmanager
    any_of:
      bearer_token: ${{ env.TOKEN }}
      basic_auth: {username: maria, password: "${{ env.PASSWORD }}"}
routes:
  - name: page
    source: alerts
    loop: payload.alerts
    match: {item.status: [firing, resolved]}
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ item.labels.instance }}", "${{ item.status }}"]
"""

HEADERS = {**JSON_HEADERS, "User-Agent": "Alertmanager/0.28.1", **BEARER}

FIRING = sample("alertmanager/firing.json")
MIXED = sample("alertmanager/firing__mixed.json")
RESOLVED = sample("alertmanager/resolved.json")

#: Seconds: the type's default.
WINDOW = 30.0


@pytest.fixture
def intake(make_intake: MakeIntake) -> Intake:
    return make_intake(TABLE)


def post(intake: Intake, body: bytes) -> dict[str, Any]:
    return intake.post("alerts", body, HEADERS).body


def edited(body: bytes, edit: Callable[[dict[str, Any]], object]) -> bytes:
    payload = orjson.loads(body)
    edit(payload)
    return orjson.dumps(payload)


def arguments(intake: Intake) -> list[Any]:
    return [job.arguments for job in intake.jobs()]


class TestEvent:
    """The event is the group's status, the items are its alerts."""

    def test_a_job_an_alert(self, intake: Intake) -> None:
        answer = intake.post("alerts", FIRING, HEADERS)
        assert (answer.status, len(answer.body["jobs"])) == (202, 3)
        assert arguments(intake) == [(f"worker-{number}", "firing") for number in (1, 2, 3)]
        event = intake.outbox.event(1)
        assert (event.event, event.action, event.body) == ("firing", None, FIRING)

    def test_a_firing_group_may_hold_resolved_alerts(self, intake: Intake) -> None:
        post(intake, MIXED)
        assert arguments(intake) == [("worker-1", "firing"), ("worker-2", "resolved"), ("worker-3", "firing")]
        assert intake.outbox.event(1).event == "firing"

    @pytest.mark.parametrize(
        ("name", "event", "jobs"),
        [
            ("resolved", "resolved", 3),
            ("firing__notification_reason", "firing", 3),
            ("firing__truncated", "firing", 1),
        ],
    )
    def test_other_shapes(self, intake: Intake, name: str, event: str, jobs: int) -> None:
        answer = post(intake, sample(f"alertmanager/{name}.json"))
        assert len(answer["jobs"]) == jobs
        assert intake.outbox.event(1).event == event

    def test_a_group_without_alerts(self, intake: Intake) -> None:
        answer = intake.post("alerts", changed(FIRING, alerts=[]), HEADERS)
        assert (answer.status, answer.body["jobs"]) == (200, [])

    @pytest.mark.parametrize(
        "body",
        [
            b"[]", b"null", b'"firing"', b"{}", b'{"status":"firing"}', b'{"alerts":[]}',
            changed(FIRING, status="ok"), changed(FIRING, status=None), changed(FIRING, status=["firing"]),
            changed(FIRING, status="Firing"), changed(FIRING, alerts=None), changed(FIRING, alerts={}),
            changed(FIRING, alerts="x"),
        ],
    )  # fmt: skip
    def test_a_payload_of_another_kind(self, intake: Intake, body: bytes) -> None:
        with pytest.raises(Unreadable, match="for a custom payload, use type: generic"):
            intake.post("alerts", body, HEADERS)
        assert intake.rows() == (0, 0)

    @pytest.mark.parametrize("alert", [None, 1, "x", [], {}, {"fingerprint": None}, {"fingerprint": [{}]}])
    def test_alerts_of_any_kind_are_kept_apart(self, intake: Intake, alert: Any) -> None:
        body = changed(FIRING, alerts=[alert, {"status": "firing", "labels": {"instance": "x"}}])
        assert intake.post("alerts", body, HEADERS).status == 202
        assert arguments(intake) == [("x", "firing")]


class TestProof:
    """It signs nothing: a bearer token or basic auth."""

    def test_both_kinds(self, intake: Intake) -> None:
        assert intake.post("alerts", FIRING, HEADERS).status == 202
        proof = basic("maria", VARIABLES["PASSWORD"])
        assert intake.post("alerts", RESOLVED, {**JSON_HEADERS, **proof}).status == 202

    @pytest.mark.parametrize(
        "proof",
        [{}, {"Authorization": "Bearer x"}, basic("maria", "x"), {"X-Token": VARIABLES["TOKEN"]}],
    )
    def test_without_one(self, intake: Intake, proof: dict[str, str]) -> None:
        with pytest.raises(NotAuthentic):
            intake.post("alerts", FIRING, {**JSON_HEADERS, **proof})
        with pytest.raises(NotAuthentic):
            intake.post("alerts", FIRING, {**JSON_HEADERS, **proof}, {"token": VARIABLES["TOKEN"]})
        assert intake.rows() == (0, 0)

    def test_it_takes_json_alone(self, intake: Intake) -> None:
        for content in ("text/plain", "application/x-www-form-urlencoded"):
            with pytest.raises(UnsupportedContent):
                intake.post("alerts", FIRING, {**HEADERS, "Content-Type": content})

    def test_the_token_is_not_stored(self, intake: Intake) -> None:
        post(intake, FIRING)
        assert set(intake.outbox.event(1).headers) == {"content-type", "user-agent"}


class TestComesAgain:
    """The same notification within the window is one webhook."""

    def test_it_is_the_same_within_the_window(self, intake: Intake) -> None:
        post(intake, FIRING)
        intake.clock.now += WINDOW - 0.01
        assert post(intake, FIRING) == {"event": 1, "jobs": [], "duplicate": True}
        assert intake.rows() == (1, 3)

    def test_a_reminder_after_it_has_the_same_bytes_and_passes(self, intake: Intake) -> None:
        post(intake, FIRING)
        intake.clock.now += WINDOW + 0.01
        answer = post(intake, FIRING)
        assert (answer["event"], answer["duplicate"], len(answer["jobs"])) == (2, False, 3)
        assert intake.rows() == (2, 6)

    def test_the_window_counts_from_the_first_sight(self, intake: Intake) -> None:
        events = []
        for _ in range(6):
            events.append(post(intake, FIRING)["event"])
            intake.clock.now += 20
        assert events == [1, 1, 2, 2, 3, 3]

    def test_a_retry_after_a_5xx_that_was_stored_after_all(self, intake: Intake) -> None:
        post(intake, FIRING)
        for _ in range(5):
            intake.clock.now += 0.5
            assert post(intake, FIRING)["duplicate"]

    def test_a_second_request_that_began_earlier(self, intake: Intake) -> None:
        post(intake, FIRING)
        intake.clock.now -= 3
        assert post(intake, FIRING)["duplicate"]

    def test_the_other_of_a_high_availability_pair(self, intake: Intake) -> None:
        post(intake, FIRING)
        intake.clock.now += 2

        def as_the_other_sends_it(payload: dict[str, Any]) -> None:
            payload["externalURL"] = "http://alertmanager-1:9093"
            payload["alerts"].reverse()
            for alert in payload["alerts"]:
                alert["generatorURL"] = alert["generatorURL"].replace("prometheus-0", "prometheus-1")

        other = edited(FIRING, as_the_other_sends_it)
        assert other != FIRING
        assert post(intake, other) == {"event": 1, "jobs": [], "duplicate": True}
        assert intake.rows() == (1, 3)

    @pytest.mark.parametrize(
        "edit",
        [
            pytest.param(lambda group: group.update(receiver="other"), id="receiver"),
            pytest.param(lambda group: group.update(groupKey="{}:{}"), id="groupKey"),
            pytest.param(lambda group: group["alerts"].pop(), id="an-alert-less"),
            pytest.param(lambda group: group["alerts"].append({"fingerprint": "1"}), id="an-alert-more"),
            pytest.param(lambda group: group["alerts"][1].update(fingerprint="1"), id="fingerprint"),
            pytest.param(
                lambda group: group["alerts"][1].update(startsAt="2026-11-20T11:00:00Z"), id="startsAt"
            ),
            pytest.param(lambda group: group["alerts"][1].update(status="resolved"), id="status"),
        ],
    )
    def test_what_tells_notifications_apart(
        self, intake: Intake, edit: Callable[[dict[str, Any]], object]
    ) -> None:
        post(intake, FIRING)
        assert not post(intake, edited(FIRING, edit))["duplicate"]

    @pytest.mark.parametrize(
        "edit",
        [
            pytest.param(lambda group: group.update(externalURL="http://x"), id="externalURL"),
            pytest.param(lambda group: group["alerts"].reverse(), id="order"),
            pytest.param(lambda group: group["alerts"][0].update(generatorURL="http://x"), id="generatorURL"),
            pytest.param(
                lambda group: group["alerts"][0].update(endsAt="2026-11-20T11:00:00Z"), id="endsAt-firing"
            ),
            pytest.param(
                lambda group: group["alerts"][0]["annotations"].update(summary="x"), id="annotations"
            ),
            pytest.param(lambda group: group.update(truncatedAlerts=1), id="truncatedAlerts"),
        ],
    )
    def test_what_does_not(self, intake: Intake, edit: Callable[[dict[str, Any]], object]) -> None:
        post(intake, FIRING)
        assert post(intake, edited(FIRING, edit))["duplicate"]

    def test_when_a_resolved_alert_ended_tells(self, intake: Intake) -> None:
        post(intake, RESOLVED)
        later = edited(RESOLVED, lambda group: group["alerts"][0].update(endsAt="2026-11-20T12:00:00Z"))
        assert not post(intake, later)["duplicate"]

    def test_firing_and_resolved_are_two(self, intake: Intake) -> None:
        post(intake, FIRING)
        assert not post(intake, RESOLVED)["duplicate"]
        assert not post(intake, MIXED)["duplicate"]

    def test_sources_are_kept_apart(self, make_intake: MakeIntake) -> None:
        intake = make_intake(
            "sources:\n  one: {type: alertmanager, allow_unsigned: true}\n"
            "  two: {type: alertmanager, allow_unsigned: true}\nroutes: []"
        )
        assert [intake.post(name, FIRING).body["duplicate"] for name in ("one", "two", "one", "two")] == [
            False, False, True, True,
        ]  # fmt: skip


class TestDedupe:
    """``dedupe`` sets the window or turns it off."""

    def with_dedupe(self, make_intake: MakeIntake, dedupe: str) -> Intake:
        return make_intake(TABLE.replace("type: alertmanager", f"type: alertmanager\n    dedupe: {dedupe}"))

    def test_off_every_request_is_a_webhook_of_its_own(self, make_intake: MakeIntake) -> None:
        intake = self.with_dedupe(make_intake, "off")
        for _ in range(3):  # within one tick of the clock
            assert not post(intake, FIRING)["duplicate"]
        assert intake.rows() == (3, 9)
        ids = {event.delivery_id for event in intake.outbox.events()}
        assert len(ids) == 3
        assert len({text.partition("@")[0] for text in ids}) == 1

    def test_another_window(self, make_intake: MakeIntake) -> None:
        intake = self.with_dedupe(make_intake, "5m")
        post(intake, FIRING)
        intake.clock.now += 299
        assert post(intake, FIRING)["duplicate"]
        intake.clock.now += 2
        assert not post(intake, FIRING)["duplicate"]

    def test_the_delivery_id_is_the_hash_and_the_time_of_the_first_sight(self, intake: Intake) -> None:
        first = intake.clock()
        post(intake, FIRING)
        intake.clock.now += 10
        post(intake, FIRING)
        (event,) = intake.outbox.events()
        fingerprint, _, at = event.delivery_id.partition("@")
        assert (len(fingerprint), at) == (64, rfc3339(first))


class TestItems:
    """An alert is the same one by its fingerprint, status, startsAt, and endsAt where it is resolved."""

    def keys(self, intake: Intake, *alerts: dict[str, Any]) -> list[str]:
        post(intake, changed(FIRING, alerts=list(alerts)))
        return [job.item_key for job in intake.jobs()]

    def test_equal_alerts_of_one_notification_make_one_job(self, intake: Intake) -> None:
        alert = orjson.loads(FIRING)["alerts"][0]
        other_url = {**alert, "generatorURL": "http://x", "endsAt": "2026-11-20T11:00:00Z"}
        assert len(self.keys(intake, alert, alert, other_url)) == 1

    @pytest.mark.parametrize(
        "change",
        [{"fingerprint": "1"}, {"status": "resolved"}, {"startsAt": "2027-01-01T00:00:00Z"}],
        ids=["fingerprint", "status", "startsAt"],
    )
    def test_what_tells_alerts_apart(self, intake: Intake, change: dict[str, str]) -> None:
        alert = orjson.loads(FIRING)["alerts"][0]
        assert len(set(self.keys(intake, alert, {**alert, **change}))) == 2

    def test_when_it_ended_tells_resolved_ones_apart(self, intake: Intake) -> None:
        alert = orjson.loads(RESOLVED)["alerts"][0]
        assert len(set(self.keys(intake, alert, {**alert, "endsAt": "2027-01-01T00:00:00Z"}))) == 2

    def test_it_is_the_same_item_in_another_place(self, intake: Intake) -> None:
        """A webhook that comes again with its alerts in another order makes none of them twice."""
        post(intake, FIRING)
        before = intake.jobs()
        intake.clock.now += 1
        assert post(intake, edited(FIRING, lambda group: group["alerts"].reverse()))["jobs"] == []
        assert [self.facts(job) for job in intake.jobs()] == [self.facts(job) for job in before]

    def facts(self, job: Job) -> tuple[Any, ...]:
        return job.id, job.item_key, job.item_index, job.arguments


class TestShared:
    """Notifications that Alertmanager itself sent, where they are there."""

    def test_every_sample_goes_through(self, senders: Path, intake: Intake) -> None:
        samples = [
            path
            for path in (senders / "samples" / "alertmanager").glob("*.json")
            if "headers" not in path.name
        ]
        assert len(samples) >= 4
        for path in samples:
            body = path.read_bytes()
            payload = orjson.loads(body)
            answer = intake.post("alerts", body, HEADERS)
            event = intake.outbox.event(answer.body["event"])
            assert (event.event, event.payload) == (payload["status"], payload)
            assert (answer.status, len(answer.body["jobs"])) == (202, len(payload["alerts"]))
            assert intake.post("alerts", body, HEADERS).body["duplicate"]
            intake.clock.now += 2 * WINDOW

    def test_its_own_headers_are_taken(self, senders: Path, make_intake: MakeIntake) -> None:
        sent = orjson.loads((senders / "samples" / "alertmanager" / "headers.txt.json").read_bytes())
        intake = make_intake("sources: {alerts: {type: alertmanager, allow_unsigned: true}}\nroutes: []")
        assert intake.post("alerts", FIRING, sent).status == 200
        assert "authorization" not in intake.outbox.event(1).headers
