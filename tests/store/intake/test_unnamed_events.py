"""Authentic requests whose event cannot be read: stored without a name, answered 200, and never lost."""

from __future__ import annotations

import hmac
import logging
from base64 import b64encode
from collections.abc import Callable

import orjson
import pytest

from bridge.core.errors import Unreadable
from bridge.intake.answer import Answer
from bridge.report.events import event_json
from tests.support.intake import JSON_HEADERS, VARIABLES, Intake, github_headers, sample, without

MakeIntake = Callable[[str], Intake]

TABLE = """
sources:
  chat:
    type: generic
    secret: "${{ env.TOKEN }}"
    signature: {header: X-Chat-Signature, encoding: base64}
    event: payload.events[0].type
  github: {secret: "${{ env.GITHUB_SECRET }}", replays: refuse}
routes:
  - name: messages
    source: chat
    event: message
    task: TASK
    secret_key: KEY
    task_arguments: ["${{ event }}"]
  - {name: anything, source: chat, task: TASK, secret_key: KEY, task_arguments: []}
  - {name: pushes, source: github, task: TASK, secret_key: KEY, task_arguments: []}
"""

#: What a sender's Verify button posts.
VERIFY = b'{"destination":"U1","events":[]}'

#: A message in another place than the table names.
MOVED = b'{"kind":"message"}'


def post(intake: Intake, body: bytes) -> Answer:
    digest = hmac.new(VARIABLES["TOKEN"].encode(), body, "sha256").digest()
    headers = {**JSON_HEADERS, "X-Chat-Signature": b64encode(digest).decode()}
    return intake.receive(intake.request("chat", body, headers))


def test_it_is_answered_200_and_stored_with_what_is_known(
    make_intake: MakeIntake, caplog: pytest.LogCaptureFixture
) -> None:
    intake = make_intake(TABLE)
    answer = post(intake, VERIFY)
    assert answer == Answer(200, {"event": 1, "jobs": [], "duplicate": False})
    summary, event = event_json(intake.outbox.summary(1)), intake.outbox.event(1)
    reason = "no jobs, because its event cannot be read: payload.events[0].type is missing"
    assert summary["event"] is None
    assert summary["warnings"][0].startswith(reason)
    assert (event.body, event.scope["event"], event.full_name) == (VERIFY, None, "null")
    (line,) = [record for record in caplog.records if reason in record.getMessage()]
    assert line.levelno == logging.WARNING


def test_sent_again_it_is_a_duplicate(make_intake: MakeIntake) -> None:
    intake = make_intake(TABLE)
    post(intake, VERIFY)
    intake.clock.now += 3600
    assert post(intake, VERIFY) == Answer(200, {"event": 1, "jobs": [], "duplicate": True})
    assert post(intake, VERIFY + b" ").body["event"] == 2


def test_a_corrected_table_reads_it(make_intake: MakeIntake) -> None:
    intake = make_intake(TABLE)
    post(intake, MOVED)
    intake.use(TABLE.replace("payload.events[0].type", "payload.kind"))

    replayed = intake.table.jobs_for(intake.outbox.event(1))
    assert [(job.route, job.arguments) for job in replayed.jobs] == [
        ("messages", ("message",)),
        ("anything", ()),
    ]
    explained = {each.route.name: each.matched for each in intake.table.explain(intake.outbox.event(1))}
    assert explained == {"messages": True, "anything": True, "pushes": False}

    again = post(intake, MOVED)
    assert (again.status, again.body["duplicate"], len(again.body["jobs"])) == (202, False, 2)


def test_it_is_no_replay_of_the_true_one(make_intake: MakeIntake) -> None:
    """With the corrected header the same body and id are another webhook, also with `replays: refuse`."""
    intake = make_intake(TABLE)
    body = sample("github/push.json")
    with pytest.raises(Unreadable, match="a github ping without zen"):
        intake.post("github", body, github_headers(body, event="ping"))
    answer = intake.post("github", body, github_headers(body))
    assert (answer.status, answer.body["duplicate"]) == (202, False)


def test_of_a_known_event_without_a_field(make_intake: MakeIntake) -> None:
    intake = make_intake(TABLE)
    body = without(sample("github/push.json"), "after")
    with pytest.raises(Unreadable, match="cannot be read: a github push without after"):
        intake.post("github", body, github_headers(body))
    assert intake.outbox.event(1).payload == orjson.loads(body)
