"""`explain` at a terminal: in which order, in which colours, and as an assertion."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.cli import main
from bridge.config.load import load
from bridge.core.event import JSON, Event, Headers
from bridge.core.secrets import Mask
from bridge.outbox.store import Outbox
from bridge.outbox.webhook import Webhook
from bridge.report.explanation import explanation_lines
from bridge.sources.base.discovery import discover
from tests.support.intake import Intake, github_headers, sample
from tests.support.tables import make_event
from tests.support.terminal import PUSH, Terminal

ROUTES = """
theeye: {customer: acme}
sources:
  github: {allow_unsigned: true}
  backup: {type: generic, allow_unsigned: true}
tasks:
  deploy: {id: 5f3c9a7be4b0a1c2d3e4f501, secret_key: "${{ env.TASK_KEY }}"}
routes:
  - {name: backup, source: backup, task: deploy, task_arguments: []}
  - {name: rest, source: github, otherwise: true, task: deploy, task_arguments: []}
  - {name: release, source: github, event: release, task: deploy, task_arguments: []}
  - name: two lacking
    source: github
    match: {payload.ref: dev, payload.after: x}
    task: deploy
    task_arguments: []
  - {name: main, source: github, match: {payload.ref: refs/heads/main}, task: deploy, task_arguments: []}
  - name: one lacking
    source: github
    event: push
    match: {payload.ref: dev}
    task: deploy
    task_arguments: []
  - {name: bare, source: github, match: {payload.ref: dev}, task: deploy, task_arguments: []}
  - name: each commit
    source: github
    loop: payload.commits
    when: item > 5
    task: deploy
    task_arguments: []
  - {name: any, source: github, task: deploy, task_arguments: ["${{ payload.gone }}"]}
"""

REDACTING = """
sources: {github: {secret: "${{ env.GITHUB_SECRET }}", redact: [payload.ref, payload.commits]}}
tasks: {run: {id: TASK, secret_key: KEY}}
routes:
  - {name: main, source: github, match: {payload.ref: refs/heads/*}, task: run, task_arguments: []}
  - {name: each commit, source: github, loop: payload.commits, task: run, task_arguments: []}
  - {name: rest, source: github, otherwise: true, task: run, task_arguments: []}
"""

GITHUB_PUSH = ("--source", "github", "--event", "push", "-")


@pytest.fixture
def routes(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, ROUTES)


def explain(terminal: Terminal, *more: str, payload: JSON = PUSH) -> Result:
    return terminal.run("explain", *GITHUB_PUSH, *more, stdin=json.dumps(payload))


# In which order


def test_what_matches_comes_first_then_the_nearest_miss_and_other_sources_in_short(routes: Terminal) -> None:
    output = explain(routes).output
    assert re.findall("^route '(.*)'", output, re.MULTILINE) == [
        "main", "any",
        "one lacking", "each commit", "bare", "two lacking",
        "rest", "release",
    ]  # fmt: skip
    assert output.endswith("\n\nroutes of other sources: 'backup'\n")


def test_as_json_the_routes_stand_as_in_the_table(routes: Terminal) -> None:
    explained = json.loads(explain(routes, "--json").output)["routes"]
    assert [each["route"] for each in explained] == re.findall("name: ([^,\n]*)", ROUTES)
    assert [each["route"] for each in explained if each["matched"]] == ["main", "any"]


# As an assertion


ANY_DEAD = (
    "route 'any' was not expected to match, but does: 1 job, 1 of them dead: arguments could not be built\n"
)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        (("--expect", "main", "--expect", "any"), ""),
        (("--expect", "main"), ANY_DEAD),
        (("--expect-none",), f"route 'main' was not expected to match, but does: 1 job\n{ANY_DEAD}"),
        (
            ("--expect", "any", "--expect", "two lacking", "--expect", "main"),
            "route 'two lacking' was expected to match, but does not: "
            'payload.ref: expected "dev", got "refs/heads/main"; payload.after: expected "x", got "abc"\n',
        ),
        (
            ("--expect", "main", "--expect", "any", "--expect", "each commit"),
            "route 'each commit' was expected to match, but does not: "
            "when of item 0: expected item > 5, got false\n",
        ),
        (
            ("--expect", "main", "--expect", "any", "--expect", "backup"),
            "route 'backup' was expected to match, but does not: source: expected backup, got github\n",
        ),
    ],
)
def test_what_is_not_as_expected_is_said(routes: Terminal, expected: tuple[str, ...], said: str) -> None:
    for form in ((), ("--json",)):
        result = explain(routes, *form, *expected)
        assert (result.exit_code, result.stderr) == (1 if said else 0, said)
        assert result.stdout.startswith("{" if form else "event push of source github")


def test_of_a_stored_event_too(terminal: Terminal) -> None:
    event_id = str(terminal.store(("abc",)).event_id)
    assert terminal.run("explain", event_id, "--expect", "deploy").exit_code == 0
    assert terminal.run("explain", event_id, "--expect-none").exit_code == 1


def test_what_nobody_can_know_is_not_as_expected(
    make_intake: Callable[[str], Intake], tmp_path: Path
) -> None:
    """What was redacted cannot be asked again: the event made a job by the route that reads it."""
    intake = make_intake(REDACTING)
    answer = intake.post("github", sample("github/push.json"), github_headers(sample("github/push.json")))
    assert {job.route for job in intake.jobs()} == {"main", "each commit"}
    terminal = Terminal(tmp_path, (tmp_path / "table.yml").read_text())
    result = terminal.run("explain", str(answer.body["event"]), "--expect", "rest")
    assert result.exit_code == 1
    assert [line.partition(": payload")[0] for line in result.stderr.splitlines()] == [
        "it cannot be decided whether the route matches: route 'main'",
        "it cannot be decided whether the route matches: route 'each commit': loop",
    ]


def test_the_event_that_is_named_must_be_that_of_the_body(routes: Terminal) -> None:
    """Where the body says it, the option would be passed over in silence."""
    opened = {**PUSH, "action": "opened", "number": 5, "issue": {}}
    for event in ("issues", "issues.opened"):
        result = routes.run("explain", "--source", "github", "--event", event, "-", stdin=json.dumps(opened))
        assert result.exit_code == 0, result.stderr
    result = routes.run(
        "explain", "--source", "github", "--event", "issues.closed", "-", stdin=json.dumps(opened)
    )
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--event: the body is of event issues.opened" in " ".join(result.stderr.split())


# What is said of a job


def test_an_item_like_an_earlier_one_makes_no_job_of_its_own(routes: Terminal) -> None:
    result = explain(routes, payload={**PUSH, "commits": [6, 7, 6]})
    assert "    item 2: no job (equal to an earlier item)\n" in result.output
    assert "item 1: no job" not in result.output


def test_its_key_and_for_how_long_it_counts(tmp_path: Path) -> None:
    table = ROUTES.replace("name: main,", "name: main, once_within: 5m, once_key: 'k ${{ payload.after }}',")
    terminal = Terminal(tmp_path, table)
    assert "  once within 300 s for the key 'k abc'\n" in explain(terminal).output
    shown = json.loads(explain(terminal, "--json").output)["routes"]
    (job,) = next(each["jobs"] for each in shown if each["route"] == "main")
    assert job["once_key"] == "k abc"


def test_no_key_in_its_url_whatever_the_mask_knows(routes: Terminal) -> None:
    variables = {"TASK_KEY": "k1" * 32, "HOOK_SECRET": "h1" * 20}
    table = load(routes.config, variables, discover()).table
    event = make_event(PUSH)
    shown = [line.text for line in explanation_lines(event, table.explain(event), table, Mask())]
    assert any("POST https://" in line for line in shown)
    assert "k1" * 32 not in "".join(shown)


@pytest.mark.parametrize("form", [(), ("--json",), ("--expect", "main", "--expect", "any")])
def test_what_is_cut_is_masked_before(routes: Terminal, form: tuple[str, ...]) -> None:
    """Half a secret is known by no mask."""
    key = "0123456789abcdef" * 4
    for length in range(100, 200, 10):
        payload = {**PUSH, "ref": "x" * length + key + "y" * 200, "commits": "x" * length + key + "y" * 200}
        result = routes.run("explain", *GITHUB_PUSH, *form, stdin=json.dumps(payload), TASK_KEY=key)
        assert "x" * length in result.output
        assert "0123456" not in result.output


def test_a_route_that_is_not_there_is_a_mistake_of_the_call(routes: Terminal) -> None:
    result = explain(routes, "--expect", "each comit")
    assert result.exit_code == 2
    assert "no route is named 'each comit'; did you mean each commit?" in result.stderr
    both = explain(routes, "--expect", "main", "--expect-none")
    assert (both.exit_code, "--expect-none and --expect cannot be combined" in both.stderr) == (2, True)


# In colour


def on_a_terminal(terminal: Terminal, *arguments: str, **environ: str) -> Result:
    """As if the output were a terminal."""
    of_caller = {"NO_COLOR": None, "TERM": "xterm"}
    return CliRunner().invoke(main, arguments, env={**of_caller, **terminal.environ, **environ}, color=True)


def test_a_terminal_shows_it_in_colour_and_nothing_else_does(routes: Terminal) -> None:
    command = [sys.executable, "-m", "bridge", "explain", *GITHUB_PUSH[:-1], str(routes.push)]
    environ = {"PATH": os.environ["PATH"], "TERM": "xterm", **routes.environ}
    root = Path(__file__).parents[3]
    piped = subprocess.run(command, env=environ, cwd=root, capture_output=True, text=True, check=True).stdout
    master, slave = pty.openpty()
    with subprocess.Popen(command, env=environ, cwd=root, stdout=slave) as process:
        os.close(slave)
        shown = b"".join(read_all(master)).decode().replace("\r\n", "\n")
    os.close(master)

    assert process.returncode == 0
    assert "\x1b" not in piped
    assert without_title(re.sub(r"\x1b\[\d+m", "", shown)) == without_title(piped)
    for styled in (
        "\x1b[1mroute 'bare': no job\x1b[0m\n",
        "\x1b[32mroute 'main': 1 job\x1b[0m\n",
        '\x1b[31m  NO  payload.ref: expected "dev", got "refs/heads/main"\x1b[0m\n',
        "\x1b[32m  yes event: expected push, got push\x1b[0m\n",
        "\x1b[31m  DEAD: argument 1: payload.gone is missing",
        "\x1b[2mroutes of other sources: 'backup'\x1b[0m\n",
    ):
        assert styled in shown


def without_title(output: str) -> str:
    """Each call gives the event a delivery id of its own."""
    return output.partition("\n")[2]


def read_all(file: int) -> Iterator[bytes]:
    """What comes until the other side of the terminal is closed."""
    try:
        while piece := os.read(file, 65536):
            yield piece
    except OSError:  # as Linux says it
        return


@pytest.mark.parametrize(
    ("environ", "colored"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "0"}, False), ({"TERM": "dumb"}, False)],
)
def test_who_wants_no_colour_gets_none(routes: Terminal, environ: dict[str, str], colored: bool) -> None:
    result = on_a_terminal(routes, "explain", *GITHUB_PUSH[:-1], str(routes.push), "--expect-none", **environ)
    assert ("\x1b" in result.stdout, "\x1b" in result.stderr) == (colored, colored)


#: What a terminal acts on: sequences of escape and of its one-character form, a title, turned writing, lines.
ACTS = "\x1b[2J\x1b]0;title\x07\x9b31m\u202e\u2066\r\n\x08\x7fé"
SHOWN = r"\u001b[2J\u001b]0;title\u0007\u009b31m\u202e\u2066\r\n\b\u007fé"


def store(terminal: Terminal, name: str, payload: dict[str, JSON]) -> str:
    """The number of a stored event that is named so, and so is its delivery."""
    outbox = Outbox(terminal.database_url)
    event = Event("github", name, None, name, Headers(), {}, payload, 0.0, json.dumps(payload).encode())
    event_id = outbox.store(Webhook(event, None, None, (), (), b"")).event_id
    outbox.close()
    return str(event_id)


def test_nothing_that_an_event_holds_acts_on_the_terminal(routes: Terminal) -> None:
    routes.config.write_text(
        ROUTES + "  - {name: held, source: github, match: {payload.ref: ['*']}, task: deploy,"
        " concurrency: {group: '${{ payload.ref }}'}, once_within: 1m, once_key: '${{ payload.ref }}',"
        " task_arguments: ['${{ payload.ref }}']}\n"
    )
    event_id = store(routes, ACTS, {**PUSH, "ref": ACTS, ACTS: 1})

    result = on_a_terminal(routes, "explain", event_id, "--expect", "bare", "--expect", "release")

    assert result.stdout.startswith(f"\x1b[1mevent {SHOWN} of source github, delivery {SHOWN}\x1b[0m\n")
    assert "was expected to match" in result.stderr
    for line in (result.stdout + result.stderr).removesuffix("\n").split("\n"):
        styled = re.fullmatch(r"(?:\x1b\[\d+m)?(.*?)\x1b\[0m", line)
        assert styled and styled[1].isprintable(), line
    assert result.stdout.count(SHOWN) > 8


def test_an_error_that_quotes_an_event_does_not_act_on_the_terminal_either(terminal: Terminal) -> None:
    job = terminal.store(None, {"ref": "refs/heads/main", "commits": [1], ACTS: 1})
    result = on_a_terminal(terminal, "jobs", "retry", str(job.id))
    assert result.exit_code == 1
    # Only the line break stays one.
    shown = SHOWN.replace(r"\n", "\n")
    assert f"payload.after is missing; a push has: {shown}, commits, ref\n" in result.output


def test_a_secret_is_masked_and_the_colour_ends(routes: Terminal) -> None:
    event_id = store(routes, "?token=abcdef", PUSH)
    output = on_a_terminal(routes, "explain", event_id).output
    title = "\x1b[1mevent ?token=<secret> of source github, delivery ?token=<secret>\x1b[0m\n"
    assert output.startswith(title)
