"""The commands, as a person calls them."""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import replace
from hashlib import sha256

import pytest

from bridge.core.event import Event, Headers
from bridge.core.job import JobState, NewJob, Outcome
from bridge.core.retry import Decision
from bridge.outbox.refused_requests import RefusedRequest
from bridge.outbox.store import Outbox
from bridge.outbox.webhook import Webhook
from tests.support.tables import make_webhook
from tests.support.terminal import PUSH, TABLE, Terminal


def test_check_counts_what_is_there(terminal: Terminal) -> None:
    result = terminal.run("check", HOOK_SECRET="a-secret", TASK_KEY="k1" * 32)
    table = sha256(TABLE.encode()).hexdigest()[:16]
    assert result.output == f"table {table}: 1 source, 1 task, 1 route; no mistakes, 0 warnings\n"
    assert result.exit_code == 0


def test_check_warns_of_unset_variables_and_refuses_them_with_env(terminal: Terminal) -> None:
    assert "warning: the variable HOOK_SECRET is not set" in terminal.run("check").output
    assert terminal.run("check").exit_code == 0
    strict = terminal.run("check", "--env")
    assert strict.exit_code == 1
    assert "table.yml:6:13: error: the variable HOOK_SECRET is not set" in strict.output


@pytest.mark.parametrize("options", [(), ("--env",)])
def test_check_env_warns_of_a_variable_that_nothing_reads(
    terminal: Terminal, options: tuple[str, ...]
) -> None:
    environ = {"HOOK_SECRET": "a-secret", "TASK_KEY": "k1" * 32, "BRIDGE_DRYRUN": "1"}
    result = terminal.run("check", *options, **environ)
    line = "warning: the bridge has no variable BRIDGE_DRYRUN and ignores it; did you mean BRIDGE_DRY_RUN?"
    assert (line in result.stderr, result.exit_code) == (bool(options), 0)


def test_check_warns_of_a_database_that_the_platform_deletes(terminal: Terminal) -> None:
    """A release command prints it where the deploy is seen."""
    variables = {"HOOK_SECRET": "s1" * 16, "TASK_KEY": "k1" * 32, "DYNO": "release.1"}
    found = terminal.run("check", "--env", **variables)
    assert found.exit_code == 0
    assert (
        f"warning: the SQLite database {terminal.config.with_name('bridge.db')} is on a disk" in found.stderr
    )
    assert "is on a disk" not in terminal.run("check", **variables).output


def test_check_says_every_mistake_and_ends_with_1(terminal: Terminal) -> None:
    terminal.config.write_text(TABLE.replace("event:", "evnt:").replace("after }}", "after | uper }}"))
    result = terminal.run("check")
    assert result.exit_code == 1
    assert "error: unknown key 'evnt'; did you mean event?" in result.output
    assert "error: unknown filter 'uper'; did you mean upper?" in result.output
    assert "Traceback" not in result.output


def test_warnings_do_not_change_how_check_ends(terminal: Terminal) -> None:
    terminal.config.write_text(TABLE.replace("event: push", "event: pushed"))
    for output in ((), ("--json",), ("--github",)):
        result = terminal.run("check", *output, HOOK_SECRET="a-secret", TASK_KEY="k1" * 32)
        assert result.exit_code == 0
        assert "github has no known event 'pushed'" in result.output


def test_check_as_json_is_one_list_of_what_it_found(terminal: Terminal) -> None:
    terminal.config.write_text(TABLE.replace("event:", "evnt:"))
    result = terminal.run("check", "--json", HOOK_SECRET="a-secret", TASK_KEY="k1" * 32)
    assert result.exit_code == 1
    (problem,) = json.loads(result.stdout)
    assert problem.pop("hint").startswith("expected ")
    line = next(n for n, text in enumerate(terminal.config.read_text().splitlines(), 1) if "evnt" in text)
    assert problem == {
        "file": str(terminal.config), "line": line, "column": 5, "severity": "error",
        "message": "unknown key 'evnt'; did you mean event?",
    }  # fmt: skip
    terminal.config.write_text(TABLE)
    clean = terminal.run("check", "--json", HOOK_SECRET="a-secret", TASK_KEY="k1" * 32)
    assert (clean.exit_code, json.loads(clean.output)) == (0, [])


def test_check_annotates_for_github_actions(terminal: Terminal) -> None:
    odd = terminal.config.with_name("a,b:c%d\r\n.yml")
    odd.write_text(TABLE.replace("event: push", 'event: "100%\\r\\n,:"'))
    result = terminal.run("check", "--github", str(odd), HOOK_SECRET="a-secret", TASK_KEY="k1" * 32)
    assert result.exit_code == 0
    (line,) = result.output.splitlines()
    file = f"{terminal.config.parent}/a%2Cb%3Ac%25d%0D%0A.yml"
    assert line.startswith(f"::warning file={file},line=")
    assert line.partition(",col=")[2] == (
        r"12::github has no known event '100%25\r\n,:'"
        "%0Ahint: the reference of sources lists the known events; a sender may have newer ones"
    )


def test_usage_errors_end_with_2(terminal: Terminal) -> None:
    assert terminal.run("check", "nowhere.yml").exit_code == 2
    assert terminal.run("check", "--json", "--github").exit_code == 2
    assert terminal.run("explain", str(terminal.push)).exit_code == 2
    assert terminal.run("explain", "--source", "nobody", str(terminal.push)).exit_code == 2
    assert terminal.run("jobs", "resolve", "1").exit_code == 2
    assert terminal.run("jobs", "list", "--state", "odd").exit_code == 2
    for command in (("jobs", "show"), ("jobs", "retry"), ("events", "show"), ("explain",)):
        for number in ("0", str(2**63), "one"):
            assert terminal.run(*command, number).exit_code == 2


def test_explain_says_what_was_wanted_and_found(terminal: Terminal) -> None:
    terminal.push.write_text(json.dumps({**PUSH, "ref": "refs/heads/dev"}))
    output = terminal.run("explain", "--source", "github", "--event", "push", str(terminal.push)).output
    assert 'NO  payload.ref: expected "refs/heads/main", got "refs/heads/dev"' in output
    assert "yes when: expected payload.commits | length > 0, got true" in output
    assert "sends" not in output


def test_explain_shows_the_exact_request_without_the_key(terminal: Terminal) -> None:
    key = "k1" * 32
    arguments = ("explain", "--source", "github", "--event", "push")
    output = terminal.run(*arguments, "-", stdin=json.dumps(PUSH), TASK_KEY=key).output
    assert "POST https://api.theeye.io/job/secret/<secret>?customer=acme" in output
    sent = (
        '{"task":"5f3c9a7be4b0a1c2d3e4f501","customer":"acme","task_arguments":[{"order":0,"value":"abc"}]}'
    )
    assert sent in output
    assert key not in output


def test_explain_as_json(terminal: Terminal) -> None:
    result = terminal.run("explain", "--source", "github", "--event", "push", "--json", str(terminal.push))
    (route,) = json.loads(result.stdout)["routes"]
    assert route["matched"]
    assert [condition["subject"] for condition in route["conditions"]] == ["event", "payload.ref", "when"]
    assert route["jobs"][0]["request"]["body"]["task_arguments"] == [{"order": 0, "value": "abc"}]


@pytest.mark.parametrize(
    ("body", "event", "message"),
    [
        ("{", "push", "the body is not valid JSON"),
        ('{"ref": "x"}', "push", "a github push without before, after"),
        ("{}", None, "add --event and its name"),
    ],
)
def test_explain_of_an_unreadable_body_says_why(
    terminal: Terminal, body: str, event: str | None, message: str
) -> None:
    named = () if event is None else ("--event", event)
    result = terminal.run("explain", "--source", "github", *named, "-", stdin=body)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_explain_of_a_stored_event_asks_todays_table(terminal: Terminal) -> None:
    event_id = str(terminal.store(("abc",)).event_id)
    assert '"task_arguments":[{"order":0,"value":"abc"}]' in terminal.run("explain", event_id).output
    terminal.config.write_text(TABLE.replace("refs/heads/main", "refs/heads/dev"))
    output = terminal.run("explain", event_id).output
    assert "event push.made of source github, delivery d" in output
    assert 'NO  payload.ref: expected "refs/heads/dev", got "refs/heads/main"' in output
    explained = json.loads(terminal.run("explain", "--json", event_id).output)
    assert [route["matched"] for route in explained["routes"]] == [False]


def test_explain_of_a_test_or_confirmation_says_that_no_route_is_asked(terminal: Terminal) -> None:
    terminal.config.write_text(
        TABLE.replace("event: push", 'event: "*"').split("    match:")[0] + "    task: deploy\n"
    )
    ping = Event(
        "github", "ping", None, "d", Headers(), {}, {"zen": "", "hook_id": 1}, 0.0, b'{"zen":"","hook_id":1}'
    )
    with closing(Outbox(terminal.database_url)) as outbox:
        event_id = outbox.store(make_webhook(event=ping)).event_id
    body = json.dumps(ping.payload)
    for arguments in (("--source", "github", "--event", "ping", "-"), (str(event_id),)):
        result = terminal.run("explain", *arguments, stdin=body)
        assert "NO  event: expected no test or confirmation by the sender, got ping" in result.output
        assert "sends" not in result.output


def test_explain_of_a_number_with_a_source_is_of_a_file_of_that_name(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(terminal.push.parent)
    terminal.push.rename("7")
    assert "sends" in terminal.run("explain", "--source", "github", "--event", "push", "7").output
    assert terminal.run("explain", "--source", "github", "--event", "push", "8").exit_code == 2


def test_explain_of_a_stored_event_that_cannot_be_says_why(terminal: Terminal) -> None:
    missing = terminal.run("explain", "7")
    assert (missing.exit_code, missing.output) == (1, "Error: there is no event 7\n")
    event_id = str(terminal.store(("abc",)).event_id)
    assert "add --source for a file" in terminal.run("explain", str(terminal.push)).output
    assert "only with --source" in terminal.run("explain", "--event", "push", event_id).output
    terminal.config.write_text(
        TABLE.replace("github", "elsewhere").replace("secret:", "type: github\n    secret:")
    )
    gone = terminal.run("explain", event_id)
    assert gone.exit_code == 1
    assert f"event {event_id} is from source 'github'" in gone.output
    assert "known: elsewhere" in gone.output


def test_an_empty_store_says_so(terminal: Terminal) -> None:
    assert terminal.run("jobs", "list").stdout == "no jobs\n"
    assert terminal.run("events", "list").stdout == "no events\n"
    missing = terminal.run("jobs", "show", "7")
    assert (missing.exit_code, missing.output) == (1, "Error: there is no job 7\n")
    missing = terminal.run("events", "show", "7")
    assert (missing.exit_code, missing.output) == (1, "Error: there is no event 7\n")


def test_jobs_and_events_are_listed(terminal: Terminal) -> None:
    job = terminal.store(("abc",))
    terminal.store(None)
    assert "waiting" in terminal.run("jobs", "list").stdout
    dead = terminal.run("jobs", "list", "--state", "dead").stdout
    assert "payload.after is missing" in dead
    assert "waiting" not in dead
    events = terminal.run("events", "list", "--source", "github").stdout
    assert "github push.made  1 job " in events
    assert "warning: route 'deploy': when: odd" in events
    (newest, oldest) = json.loads(terminal.run("jobs", "list", "--json").stdout)
    assert (oldest["id"], oldest["state"], oldest["task_arguments"]) == (job.id, "waiting", ["abc"])
    assert newest["state"] == "dead"
    assert len(json.loads(terminal.run("events", "list", "--json", "--limit", "1").stdout)) == 1


def test_a_list_that_is_cut_says_so(terminal: Terminal) -> None:
    for _ in range(2):
        terminal.store(("abc",))
    for number in ("1", "2"):
        terminal.run("jobs", "cancel", number)
    for command in (("jobs", "list"), ("events", "list"), ("audit",)):
        cut = terminal.run(*command, "--json", "--limit", "1")
        assert [each["id"] for each in json.loads(cut.stdout)] == [2]
        assert cut.stderr.endswith("this list shows the newest 1; for more, add --limit 20\n")
        assert terminal.run(*command, "--limit", "1").output.endswith("for more, add --limit 20\n")
        assert "--limit" not in terminal.run(*command, "--limit", "2").output


def test_a_job_is_shown_with_its_attempts(terminal: Terminal) -> None:
    job = terminal.store(("abc",))
    terminal.attempt(Decision(JobState.WAITING, time.time() + 60, "500 oh"), Outcome.UNKNOWN)
    output = terminal.run("jobs", "show", str(job.id)).output
    assert f"job {job.id}: waiting, 500 oh" in output
    assert 'task_arguments ["abc"]' in output
    assert "unknown after 0.250 s, status 500: 500 oh" in output
    shown = json.loads(terminal.run("jobs", "show", "--json", str(job.id)).output)
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["unknown"]


def test_an_event_is_shown_with_its_jobs_and_its_payload(terminal: Terminal) -> None:
    event_id = str(terminal.store(("abc",)).event_id)
    terminal.store(None)
    output = terminal.run("events", "show", event_id).output
    assert f"event {event_id}: push.made of source github\n  received 20" in output
    assert "\n  delivery d" in output
    assert "\n  header x-github-event: push\n  query team: a\n" in output
    assert "\n  warning: route 'deploy': when: odd\n" in output
    assert output.count(" waiting ") == 1
    assert " dead " not in output
    assert output.endswith('  "commits": [\n    1\n  ]\n}\n')


def test_an_event_is_shown_as_data(terminal: Terminal) -> None:
    job = terminal.store(("abc",))
    shown = json.loads(terminal.run("events", "show", "--json", str(job.event_id)).output)
    assert (shown["id"], shown["source"], shown["event"], shown["action"]) == (1, "github", "push", "made")
    assert (shown["headers"], shown["query"]) == ({"x-github-event": "push"}, {"team": "a"})
    assert shown["warnings"] == ["route 'deploy': when: odd"]
    assert [(each["id"], each["task_arguments"]) for each in shown["jobs"]] == [(job.id, ["abc"])]
    assert shown["payload"] == PUSH


def test_the_jobs_of_an_event_stand_in_the_order_in_which_they_were_made(terminal: Terminal) -> None:
    outbox = Outbox(terminal.database_url)
    event = Event("github", "push", None, "d", Headers(), {}, PUSH, 0.0, json.dumps(PUSH).encode())
    made = [NewJob(name, "5f3c9a7be4b0a1c2d3e4f501", "deploy", "", None, ()) for name in ("first", "second")]
    outbox.store(Webhook(event, None, None, tuple(made), (), b""))
    outbox.close()
    shown = json.loads(terminal.run("events", "show", "--json", "1").output)
    assert [job["route"] for job in shown["jobs"]] == ["first", "second"]


def test_an_old_event_is_found_below_many_newer_ones(terminal: Terminal) -> None:
    outbox = Outbox(terminal.database_url)
    for number in range(70):
        event = Event(
            "github", "push", None, f"d{number}", Headers(), {}, PUSH, 0.0, json.dumps(PUSH).encode()
        )
        outbox.store(Webhook(event, None, None, (), (f"warning {number}",), b""))
    outbox.close()
    output = terminal.run("events", "show", "2").output
    assert "delivery d1\n  warning: warning 1\n  no jobs\n" in output


def test_what_a_terminal_would_act_on_is_not_shown_as_it_is(terminal: Terminal) -> None:
    job = terminal.store(("abc",), {**PUSH, "ref": "\x1b[2J\x9b2J\u202eé"})
    output = terminal.run("events", "show", str(job.event_id)).output
    assert r'"ref": "\u001b[2J\u009b2J\u202eé"' in output
    shown = terminal.run("events", "show", "--json", str(job.event_id)).output
    assert json.loads(shown)["payload"]["ref"] == "\x1b[2J\x9b2J\u202eé"
    assert all(character.isprintable() for line in shown.split("\n") for character in line)


def store_refused(terminal: Terminal, *refused: RefusedRequest) -> None:
    outbox = Outbox(terminal.database_url)
    outbox.store_refused(refused)
    outbox.close()


WRONG = RefusedRequest(
    "github", 1_700_000_000.5, 401, "source github: X-Hub-Signature-256 does not match", "push", 12_345
)


def test_refused_requests_are_listed_the_newest_first(terminal: Terminal) -> None:
    assert terminal.run("events", "list", "--refused").stdout == "no refused requests\n"
    later = RefusedRequest(
        "alerts", 1_700_000_001.0, 413, "the body is longer than 10 bytes", None, None, "203.0.113.9"
    )
    store_refused(terminal, WRONG, later)

    assert terminal.run("events", "list", "--refused").stdout.splitlines() == [
        "RECEIVED              REQUEST  STATUS REASON",
        "2023-11-14T22:13:21Z  alerts from 203.0.113.9  413 the body is longer than 10 bytes",
        f"2023-11-14T22:13:20Z  github push, 12,345 bytes  401 {WRONG.reason}",
        "401: Compare the secret and its header with the sender's settings. "
        "If a time is wrong, set the clock.",
        "413: Send less, or raise BRIDGE_MAX_BODY.",
    ]
    of_github = terminal.run("events", "list", "--refused", "--source", "github").stdout
    assert of_github.count("\n") == 3
    assert " 401 " in of_github
    assert " 413 " in terminal.run("events", "list", "--refused", "--limit", "1").stdout
    assert terminal.run("events", "list").stdout == "no events\n"


def test_refused_requests_are_listed_as_data(terminal: Terminal) -> None:
    assert json.loads(terminal.run("events", "list", "--refused", "--json").stdout) == []
    store_refused(terminal, replace(WRONG, client="2001:db8::9"))

    assert json.loads(terminal.run("events", "list", "--refused", "--json").stdout) == [
        {
            "received_at": "2023-11-14T22:13:20.500000Z",
            "source": "github",
            "event": "push",
            "size": 12_345,
            "client": "2001:db8::9",
            "status": 401,
            "reason": "source github: X-Hub-Signature-256 does not match",
        }
    ]


def test_what_a_terminal_would_act_on_is_not_shown_of_a_refused_request(terminal: Terminal) -> None:
    """Anybody can send such a header: no proof goes before it."""
    acts = "a\x1b[2J\x9b2J\u202e\r\n\x07\x00é"
    store_refused(terminal, replace(WRONG, event=acts, reason=acts))

    output = terminal.run("events", "list", "--refused").stdout
    heading, line, _, end = output.split("\n")
    assert (heading.partition(" ")[0], end) == ("RECEIVED", "")
    assert not [each for each in line if not each.isprintable()]
    in_json = terminal.run("events", "list", "--refused", "--json").stdout
    assert not [each for each in in_json if each < " " and each != "\n"]
    assert json.loads(in_json)[0]["event"] == acts.replace("\x00", "\\u0000")


def test_secrets_in_a_refused_request_are_masked(terminal: Terminal) -> None:
    store_refused(terminal, replace(WRONG, event="?token=abcdef", reason="Bearer abcdefgh"))
    for form in ((), ("--json",)):
        output = terminal.run("events", "list", "--refused", *form).stdout
        assert "abcdef" not in output
        assert output.count("<secret>") == 2


def test_secrets_in_a_stored_event_are_masked(terminal: Terminal) -> None:
    job = terminal.store(("abc",), {**PUSH, "link": "https://x/?token=abcdef", "sent": "Bearer abcdefgh"})
    for form in ((), ("--json",)):
        output = terminal.run("events", "show", *form, str(job.event_id)).output
        assert "token=<secret>" in output
        assert "Bearer <secret>" in output
        assert "abcdef" not in output


def test_a_job_that_waits_to_be_sent_again_says_when(terminal: Terminal) -> None:
    terminal.store(("abc",))
    assert "due" not in terminal.run("jobs", "list").stdout
    terminal.attempt(Decision(JobState.WAITING, 4102444800.0, "503"), Outcome.UNAVAILABLE)
    assert "due 2100-01-01T00:00:00Z  503" in terminal.run("jobs", "list").stdout


def test_retry_builds_a_dead_job_again_from_todays_table(terminal: Terminal) -> None:
    job = terminal.store(None)
    result = terminal.run("jobs", "retry", str(job.id))
    assert (result.exit_code, result.output) == (0, f"job {job.id} is waiting to be sent\n")
    again = terminal.job(job.id)
    assert (again.state, again.arguments, again.reason) == (JobState.WAITING, ("abc",), None)


def test_retry_of_a_job_whose_route_does_not_match_any_more_says_so(terminal: Terminal) -> None:
    job = terminal.store(None, {**PUSH, "ref": "refs/heads/dev"})
    result = terminal.run("jobs", "retry", str(job.id))
    assert result.exit_code == 1
    why = "argument 1: payload.after is missing"
    asked = "not retried: its route was removed or no longer matches"
    assert f"stays dead: {why}; {asked}" in result.output
    assert terminal.job(job.id).state is JobState.DEAD


def test_retry_of_a_job_that_is_not_dead_is_refused(terminal: Terminal) -> None:
    job = terminal.store(("abc",))
    result = terminal.run("jobs", "retry", str(job.id))
    assert (result.exit_code, result.output) == (1, f"job {job.id} is waiting, expected dead\n")


@pytest.mark.parametrize(("answer", "state"), [("--sent", JobState.ACCEPTED), ("--again", JobState.WAITING)])
def test_resolve_says_whether_theeye_has_it(terminal: Terminal, answer: str, state: JobState) -> None:
    job = terminal.store(("abc",))
    terminal.attempt(Decision(JobState.UNKNOWN, None, "500 oh"), Outcome.UNKNOWN)
    assert terminal.run("jobs", "resolve", answer, str(job.id)).exit_code == 0
    resolved = terminal.job(job.id)
    assert (resolved.state, resolved.window_unknowns) == (state, 1 if answer == "--sent" else 0)
    assert terminal.run("jobs", "resolve", answer, str(job.id)).exit_code == 1


def test_wrong_settings_are_said_without_a_traceback(terminal: Terminal) -> None:
    result = terminal.run("check", PORT="many", LOG_LEVEL="y")
    assert result.exit_code == 1
    assert "PORT: found 'many'; expected a number from 0 to 65535" in result.output
    assert "LOG_LEVEL: found 'y'; expected one of" in result.output
