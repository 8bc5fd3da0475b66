"""`python -m bridge preview`: stored events through an edited table, held against the jobs made of them."""

from __future__ import annotations

import json
import time
from contextlib import closing, nullcontext
from pathlib import Path

import orjson
import pytest

from bridge.cli import preview
from bridge.config.load import load
from bridge.core.event import JSON, Headers, Request
from bridge.core.secrets import Mask
from bridge.demo.arguments import Argument, StandInTask
from bridge.intake.receive import Receiver
from bridge.intake.refusals import Refusals
from bridge.outbox.store import Outbox
from bridge.routing import routing_table
from bridge.routing.route import MAX_WARNINGS
from bridge.sources.base.discovery import discover
from tests.support.intake import beside
from tests.support.tables import NOW, Clock
from tests.support.terminal import Terminal
from tests.support.theeye import StandIn

DEPLOY, PAGE = "5f3c9a7be4b0a1c2d3e4f501", "5f3c9a7be4b0a1c2d3e4f502"
KEY = "k1" * 32

TABLE = f"""
theeye: {{customer: acme}}
sources:
  github: {{allow_unsigned: true}}
tasks:
  deploy: {{id: {DEPLOY}, secret_key: "${{{{ env.KEY }}}}", arguments: [commit, number]}}
  page: {{id: {PAGE}, secret_key: "${{{{ env.KEY }}}}"}}
routes:
  - name: deploy
    source: github
    event: push
    match: {{payload.ref: main}}
    task: deploy
    task_arguments: {{commit: "${{{{ payload.after }}}}", number: "${{{{ payload.number }}}}"}}
  - name: each
    source: github
    loop: payload.list
    match: {{item.on: true}}
    task: page
    task_arguments: ["${{{{ item.name }}}}"]
  - name: rest
    source: github
    otherwise: true
    event: issues
    task: page
    task_arguments: [rest]
"""

PUSH = {"ref": "main", "before": "b", "after": "abc", "number": 5, "list": []}


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, TABLE)


def arrive(terminal: Terminal, event: str = "push", at: float = NOW, **more: JSON) -> int:
    """Receive a webhook as the server does, with the table as it is; the event's number."""
    loaded = load(terminal.config, {"KEY": KEY}, discover())
    with closing(Outbox(terminal.database_url, clock=Clock())) as outbox:
        refusals = Refusals(outbox)
        receiver = Receiver(loaded.table, outbox, refusals, Mask())
        payload = {**PUSH, "zen": "", "hook_id": 1, "action": "opened", "issue": {}, **more}
        headers = discover()["github"].headers_for(event)
        request = Request("github", Headers(headers.items()), {}, orjson.dumps(payload), at)
        answer = receiver.receive(request, nullcontext(request.body))
        refusals.close()
    return int(answer.body["event"])


def edit(terminal: Terminal, before: str, after: str) -> None:
    text = terminal.config.read_text()
    assert before in text
    terminal.config.write_text(text.replace(before, after))


def changed(terminal: Terminal, *arguments: str) -> list[str]:
    """What it says, without the lines of the events themselves and the sum."""
    output = terminal.run("preview", *arguments).stdout.splitlines()
    return [line.strip() for line in output if line.startswith("  ")]


def found(terminal: Terminal, *arguments: str) -> dict[str, JSON]:
    result = terminal.run("preview", "--json", *arguments)
    assert result.exit_code == 0
    answer: dict[str, JSON] = json.loads(result.stdout)
    return answer


#: An edit that makes a difference, and what is said of it.
EDITS = [
    ("payload.ref: main", "payload.ref: dev",
     ["gone     job 1 of route 'deploy'", 'deploy: task_arguments ["abc",5]']),
    ("event: push\n    match: {payload.ref: main}", "event: push",
     []),
    ("payload.after", "payload.before",
     ["changed  job 1 of route 'deploy'", 'commit: was "abc", would be "b"']),
    ('"${{ payload.number }}"', '"n${{ payload.number }}"',
     ["changed  job 1 of route 'deploy'", 'number: was 5, would be "n5"']),
    ("payload.number", "payload.number | float",
     ["changed  job 1 of route 'deploy'", "number: was 5, would be 5.0"]),
    ("payload.number", "payload.nmber",
     ["changed  job 1 of route 'deploy'",
      'job: was task_arguments ["abc",5], would be dead: number: payload.nmber is missing; a push has: '
      "action, after, before, hook_id, issue, list, number, ref, zen; did you mean payload.number?"]),
    (f"deploy: {{id: {DEPLOY}", "deploy: {id: 5f3c9a7be4b0a1c2d3e4f509",
     ["changed  job 1 of route 'deploy'",
      f"task: was deploy ({DEPLOY}), would be deploy (5f3c9a7be4b0a1c2d3e4f509)"]),
    ("    task: deploy\n", '    task: deploy\n    concurrency: {group: "g ${{ payload.number }}"}\n',
     ["changed  job 1 of route 'deploy'", 'concurrency.group: was null, would be "g 5"']),
    ("    task: deploy\n", "    task: deploy\n    once_within: 5s\n    once_key: a\n",
     ["changed  job 1 of route 'deploy'", 'once_key: was null, would be "a"']),
    ("name: deploy\n", "name: release\n",
     ["gone     job 1 of route 'deploy'", 'deploy: task_arguments ["abc",5]',
      "new      a job of route 'release'", 'deploy: task_arguments ["abc",5]']),
    ("item.on: true", "item.on: null",
     ["gone     job 2 of route 'each', item 0", 'page: task_arguments ["one"]',
      "new      a job of route 'each', item 1", 'page: task_arguments ["two"]']),
    ("${{ item.name }}", "${{ item.nam }}",
     ["changed  job 2 of route 'each', item 0",
      'job: was task_arguments ["one"], would be dead: argument 1: item.nam is missing; item has: '
      "name, on; did you mean item.name?"]),
    ('["${{ item.name }}"]', '["${{ item.name }}", b]',
     ["changed  job 2 of route 'each', item 0", 'argument 2: was missing, would be "b"']),
    ("loop: payload.list", "loop: payload.list | reverse",
     []),
    ("otherwise: true\n    event: issues", "event: push",
     ["new      a job of route 'rest'", 'page: task_arguments ["rest"]']),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "said"), EDITS, ids=[edit[1][:30] for edit in EDITS])
def test_what_an_edit_changes(terminal: Terminal, before: str, after: str, said: list[str]) -> None:
    arrive(terminal, list=[{"name": "one", "on": True}, {"name": "two"}])
    assert changed(terminal) == []
    edit(terminal, before, after)
    assert changed(terminal) == said
    assert terminal.run("preview").exit_code == 0
    assert terminal.run("preview", "--fail-on-change").exit_code == bool(said)


def test_a_dead_job_that_retry_replaced_by_items_is_no_change(terminal: Terminal) -> None:
    arrive(terminal, event="issues", list=[{"name": str(number), "on": True} for number in range(10_001)])
    edit(terminal, "item.on: true", 'item.name: "7"')
    assert changed(terminal)[0] == "gone     job 1 of route 'each'"
    assert terminal.run("jobs", "retry", "1", KEY=KEY).exit_code == 0
    assert terminal.job(1).state == "skipped"
    assert changed(terminal) == []


class TestOutput:
    def test_in_words(self, terminal: Terminal) -> None:
        arrive(terminal)
        arrive(terminal, ref="dev")
        edit(terminal, "payload.ref: main", "payload.ref: dev")
        assert terminal.run("preview").stdout.splitlines() == [
            "event 2  2023-11-14T22:13:20Z  push.opened of source github",
            "  new      a job of route 'deploy'",
            '           deploy: task_arguments ["abc",5]',
            "event 1  2023-11-14T22:13:20Z  push.opened of source github; it would create no job",
            "  gone     job 1 of route 'deploy'",
            '           deploy: task_arguments ["abc",5]',
            "compared 2 events; 2 would create different jobs (1 new, 1 gone, 0 changed)",
            "each event was evaluated with its stored name, action and delivery id",
            "events with jobs that would now create none: 1",
        ]

    def test_as_json(self, terminal: Terminal) -> None:
        arrive(terminal, after="c" * 1000)
        edit(terminal, "payload.after", "payload.before")
        answer = found(terminal)
        (event,) = answer.pop("events")
        assert answer == {
            "compared": 1, "without_body": 0, "different": 1, "new": 0, "gone": 0, "changed": 1,
            "unmatched": 0, "uncertain": 0, "warnings": [],
        }  # fmt: skip
        (change,) = event["changes"]
        differences = change.pop("differences")
        assert change == {
            "kind": "changed", "route": "deploy", "task": "deploy", "item": None, "job": 1, "certain": True,
        }  # fmt: skip
        assert [each["subject"] for each in differences] == ["commit"]
        assert len(differences[0]["before"]) < 200

    @pytest.mark.parametrize("form", [[], ["--json"]])
    def test_it_may_fail_on_a_change(self, terminal: Terminal, form: list[str]) -> None:
        arrive(terminal)
        assert terminal.run("preview", "--fail-on-change", *form).exit_code == 0
        edit(terminal, "payload.after", "payload.before")
        assert terminal.run("preview", "--fail-on-change", *form).exit_code == 1

    def test_which_events(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        for at in (NOW, NOW, time.time()):
            arrive(terminal, at=at)
        assert found(terminal)["compared"] == 3
        assert found(terminal, "--last", "2")["compared"] == 2
        monkeypatch.setattr(preview, "LAST", 2)
        assert found(terminal)["compared"] == 2
        assert found(terminal, "--last", "3")["compared"] == 3
        monkeypatch.setattr(preview, "LAST", 0)
        assert found(terminal, "--since", "1h")["compared"] == 1
        assert found(terminal, "--since", "1h", "--last", "2")["compared"] == 1
        assert terminal.run("preview", "--last", "0").exit_code == 2
        assert terminal.run("preview", "--since", "soon").exit_code == 2

    def test_of_another_table(self, terminal: Terminal, tmp_path: Path) -> None:
        arrive(terminal)
        other = tmp_path / "other.yml"
        other.write_text(TABLE.replace("payload.after", "payload.before"))
        assert found(terminal, str(other))["changed"] == 1
        other.write_text("x")
        assert terminal.run("preview", str(other)).exit_code == 1


class TestWhatIsToldHonestly:
    def test_an_event_without_its_body(self, terminal: Terminal) -> None:
        edit(terminal, "allow_unsigned: true", "allow_unsigned: true, store_payload: none")
        arrive(terminal)
        edit(terminal, "payload.ref: main", "payload.ref: dev")
        assert terminal.run("preview", "--fail-on-change").stdout.splitlines() == [
            "compared 0 events; 0 would create different jobs (0 new, 0 gone, 0 changed)",
            "each event was evaluated with its stored name, action and delivery id",
            "events without a stored body, which were not compared: 1",
        ]

    @pytest.mark.parametrize(
        ("redact", "uncertain"),
        [
            ("payload.after", ["deploy"]),
            ("payload.ref", ["deploy"]),
            ("payload.list[*].name", ["each"]),
            ("payload.list[*].on", ["each"]),
            ("payload.before", []),
        ],
    )
    def test_what_a_redacted_field_decides(
        self, terminal: Terminal, redact: str, uncertain: list[str]
    ) -> None:
        edit(terminal, "allow_unsigned: true", f"allow_unsigned: true, redact: ['{redact}']")
        arrive(terminal, list=[{"name": "one", "on": True}])
        answer = found(terminal, "--fail-on-change")
        assert (answer["different"], answer["uncertain"]) == (0, len(uncertain))
        events = [change for event in answer["events"] for change in event["changes"]]
        assert [(change["route"], change["certain"]) for change in events] == [(x, False) for x in uncertain]
        output = terminal.run("preview").stdout
        assert ("uncertain differences: 1, because a stored field is redacted" in output) is bool(uncertain)
        # And what it does not decide is sure all the same.
        edit(terminal, '"${{ payload.number }}"', '"n${{ payload.number }}"')
        sure = "deploy" not in uncertain
        assert terminal.run("preview", "--fail-on-change").exit_code == sure

    def test_items_that_are_alike_but_for_a_redacted_field(self, terminal: Terminal) -> None:
        edit(terminal, "allow_unsigned: true", "allow_unsigned: true, redact: ['payload.list[*].id']")
        arrive(terminal, list=[{"name": "one", "on": True, "id": number} for number in (1, 2)])
        answer = found(terminal, "--fail-on-change")
        assert (answer["different"], answer["uncertain"]) == (0, 2)

    def test_an_item_that_is_gone_of_a_redacted_event(self, terminal: Terminal) -> None:
        edit(terminal, "allow_unsigned: true", "allow_unsigned: true, redact: [payload.before]")
        arrive(terminal, list=[{"name": "one", "on": True}])
        edit(terminal, "item.on: true", "item.on: false")
        answer = found(terminal, "--fail-on-change")
        assert (answer["different"], answer["uncertain"]) == (0, 1)

    def test_an_otherwise_route_that_a_redacted_field_may_keep_from_being_asked(
        self, terminal: Terminal
    ) -> None:
        edit(terminal, "allow_unsigned: true", "allow_unsigned: true, redact: [payload.ref]")
        edit(terminal, "event: push", "event: issues")
        arrive(terminal, "issues")
        answer = found(terminal, "--fail-on-change")
        assert (answer["different"], answer["uncertain"]) == (0, 2)

    def test_more_routes_that_ask_for_a_redacted_field_than_warnings_are_kept(
        self, terminal: Terminal
    ) -> None:
        edit(terminal, "allow_unsigned: true", "allow_unsigned: true, redact: [payload.ref]")
        route = (
            "  - {name: d%d, source: github, event: push, match: {payload.ref: b%d}, "
            "task: page, task_arguments: []}\n"
        )
        routes = "".join(route % (number, number) for number in range(MAX_WARNINGS + 1))
        terminal.config.write_text(terminal.config.read_text() + routes)
        arrive(terminal, ref=f"b{MAX_WARNINGS}")
        answer = found(terminal, "--fail-on-change")
        assert (answer["different"], answer["uncertain"]) == (0, 1)

    def test_a_job_that_was_dead_and_still_is(self, terminal: Terminal) -> None:
        edit(terminal, "payload.number", "payload.none")
        arrive(terminal)
        assert changed(terminal) == []
        edit(terminal, "payload.none", "payload.number")
        said = changed(terminal)
        assert said[0] == "changed  job 1 of route 'deploy'"
        assert said[1].startswith("job: was dead: number: payload.none is missing;")
        assert said[1].endswith('would be task_arguments ["abc",5]')

    def test_skipped_and_canceled_jobs_were_made_too(self, terminal: Terminal) -> None:
        edit(terminal, "    task: deploy\n", "    task: deploy\n    once_within: 5m\n")
        arrive(terminal)
        arrive(terminal)
        assert terminal.run("jobs", "cancel", "1").exit_code == 0
        assert [terminal.job(number).state for number in (1, 2)] == ["canceled", "skipped"]
        assert changed(terminal) == []

    def test_after_a_replay_its_jobs_count(self, terminal: Terminal) -> None:
        event_id = arrive(terminal)
        edit(terminal, "payload.after", "payload.before")
        assert found(terminal)["changed"] == 1
        assert terminal.run("events", "replay", str(event_id)).exit_code == 0
        assert found(terminal)["changed"] == 0

    def test_no_route_is_asked_about_a_ping(self, terminal: Terminal) -> None:
        edit(terminal, "event: push\n", "event: ping\n")
        arrive(terminal, "ping")
        assert (found(terminal)["compared"], changed(terminal)) == (1, [])

    def test_a_source_that_is_gone(self, terminal: Terminal) -> None:
        arrive(terminal)
        edit(terminal, "  github: {", "  other: {type: github, ")
        edit(terminal, "source: github", "source: other")
        assert changed(terminal)[0] == "gone     job 1 of route 'deploy'"
        assert changed(terminal)[-1] == "warning: the table has no source 'github'"
        assert "the table has no source 'github' (of 1 events)" in terminal.run("preview").stdout
        assert found(terminal)["unmatched"] == 1

    def test_a_new_route_that_cannot_be_asked(self, terminal: Terminal) -> None:
        arrive(terminal)
        arrive(terminal)
        edit(terminal, "otherwise: true\n    event: issues", "when: payload.after / 2 > 1")
        text = "route 'rest': when: / does not support text and a number"
        assert terminal.run("preview").stdout.splitlines()[-1] == f"warning: {text} (of 2 events)"
        assert found(terminal)["warnings"] == [{"warning": text, "events": 2}]

    def test_more_jobs_than_the_server_takes(
        self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        arrive(terminal, list=[{"name": "one", "on": True}])
        monkeypatch.setattr(routing_table, "MAX_JOBS", 1)
        assert "dead: the event creates more than 1 jobs" in "\n".join(changed(terminal))

    def test_what_an_event_holds_does_not_act_on_the_terminal(self, terminal: Terminal) -> None:
        arrive(terminal, after="\x1b[2J\x9b")
        edit(terminal, "payload.after", "payload.before")
        assert terminal.run("preview").stdout.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("before", "filling", "after"),
    [
        ('"${{ payload.after', 130, '"2${{ payload.after'),
        ("payload.ref: main", 180, "payload.ref: dev"),
    ],
)
def test_no_part_of_a_secret_is_shown_where_a_value_is_cut(
    terminal: Terminal, before: str, filling: int, after: str
) -> None:
    secret = "S3cr3t" * 8
    arrive(terminal, after=f"{'x' * filling}{secret}{'y' * 90}")
    edit(terminal, before, after)
    edit(terminal, "allow_unsigned: true", 'secret: "${{ env.HOOK_SECRET }}"')
    output = terminal.run("preview", HOOK_SECRET=secret).stdout
    assert "xxx<secret>" in output
    assert "S3cr3t" not in output


def test_nothing_is_sent_and_nothing_stored(terminal: Terminal) -> None:
    """Though a job waits, and TheEye is there."""
    task = StandInTask(DEPLOY, KEY, "deploy", (Argument("commit"), Argument("number")))
    with StandIn(["acme"], [task]) as theeye:
        edit(terminal, "customer: acme", f"customer: acme, url: {theeye.url}")
        arrive(terminal)
        edit(terminal, "payload.after", "payload.before")
        before = everything(terminal)
        assert found(terminal)["changed"] == 1
        assert terminal.run("test", KEY=KEY).exit_code == 0
        assert everything(terminal) == before
        assert theeye.received == ()


def everything(terminal: Terminal) -> list[str]:
    """What stands in the store."""
    with beside(terminal.database_url) as connection:
        return list(connection.connection.driver_connection.iterdump())  # type: ignore[union-attr]
