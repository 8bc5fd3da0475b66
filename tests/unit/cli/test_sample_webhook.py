"""The webhook that `explain`, `send` and `test` make: as its sender would, for every source type."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import Result

from bridge.config.first_table import example
from bridge.core.event import Event, Headers
from bridge.outbox.store import Outbox
from bridge.sources.base.discovery import discover
from tests.support.tables import NOW, make_webhook
from tests.support.terminal import Terminal

TABLE = """
theeye: {customer: acme}
sources:
  github: {secret: "${{ env.HOOK_SECRET }}"}
  shop:
    type: generic
    secret: "${{ env.SHOP_SECRET }}"
    signature: {header: X-Shop-Signature, encoding: base64}
    event: headers["X-Shop-Topic"]
    delivery_id: headers["X-Shop-Id"]
  by-query:
    type: generic
    header: X-Token
    token: "${{ env.SHOP_SECRET }}"
    event: query.kind
    action: headers["X-Action"]
    delivery_id: query.id
  by-body:
    {type: generic, header: X-Token, token: "${{ env.SHOP_SECRET }}", event: payload.kind,
    delivery_id: payload.id}
  clerk: {type: svix, secret: "${{ env.SVIX_SECRET }}"}
  gitlab: {token: "${{ env.SHOP_SECRET }}"}
tasks:
  run: {id: 5f3c9a7be4b0a1c2d3e4f501, secret_key: "${{ env.TASK_KEY }}", arguments: [event, id, team, lang]}
routes:
  - &no-anchor
"""
ROUTES = "\n".join(
    f"""
  - name: {source}
    source: {source}
    task: run
    task_arguments:
      event: ${{{{ event }}}}/${{{{ action or '' }}}}
      id: ${{{{ delivery_id }}}}
      team: ${{{{ query.team | default('none') }}}}
      lang: ${{{{ headers["X-Lang"] | default('none') }}}}
"""
    for source in ("github", "shop", "by-query", "by-body", "clerk", "gitlab")
)
TABLE = TABLE.replace("  - &no-anchor\n", ROUTES)

BODY = json.dumps({"kind": "made", "id": "b-1", "type": "user.created"})


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, TABLE)


def explain(terminal: Terminal, source: str, *options: str, code: int = 0) -> Result:
    result = terminal.run("explain", "--source", source, *options, "-", stdin=BODY)
    assert result.exit_code == code, result.output
    return result


def arguments(terminal: Terminal, source: str, *options: str) -> list[str]:
    """The arguments of the one job."""
    found = json.loads(explain(terminal, source, *options, "--json").stdout)
    (job,) = [job for route in found["routes"] for job in route["jobs"]]
    assert isinstance(job["task_arguments"], list), job
    return job["task_arguments"]


def test_event_fills_the_header_that_names_the_event(terminal: Terminal) -> None:
    event, made_up, *_ = arguments(terminal, "shop", "--event", "orders/create")
    assert (event, len(made_up)) == ("orders/create/", 36)


def test_event_fills_a_parameter_and_the_header_of_the_action(terminal: Terminal) -> None:
    event, made_up, *_ = arguments(terminal, "by-query", "--event", "v1.order.paid")
    assert (event, len(made_up)) == ("v1.order/paid", 36)


def test_without_an_action_an_event_is_not_divided(terminal: Terminal) -> None:
    assert arguments(terminal, "shop", "--event", "v1.order.paid")[0] == "v1.order.paid/"


def test_headers_and_parameters_come_first(terminal: Terminal) -> None:
    options = ("--header", "x-shop-topic=a=b", "--header", "X-Shop-Id=77", "--header", "X-Lang=")
    assert arguments(terminal, "shop", *options, "--query", "team=ops=x") == ["a=b/", "77", "ops=x", ""]
    parameters = ("--query", "kind=made", "--query", "id=78")
    assert arguments(terminal, "by-query", *parameters)[:2] == ["made/", "78"]


def test_an_id_of_the_body_is_not_made_up(terminal: Terminal) -> None:
    assert arguments(terminal, "by-body")[:2] == ["made/", "b-1"]


def test_a_type_with_an_id_in_a_header_gets_one(terminal: Terminal) -> None:
    assert arguments(terminal, "clerk")[0] == "user.created/"
    assert arguments(terminal, "clerk", "--header", "svix-id=msg_7")[1] == "msg_7"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("shop", 'source shop names the event in headers["X-Shop-Topic"]: add --event and its name'),
        ("by-query", "source by-query names the event in query.kind: add --event and its name"),
        (
            "github",
            "GitHub names the event in the header X-GitHub-Event: add --event and its name, such as 'push'",
        ),
        (
            "gitlab",
            "GitLab names the event in the header X-Gitlab-Event: add --event and its name, such as "
            "'Pipeline Hook.failed'",
        ),
    ],
)
def test_an_event_that_the_body_does_not_name_must_be_given(
    terminal: Terminal, source: str, message: str
) -> None:
    assert explain(terminal, source, code=1).stderr == f"Error: {message}\n"


@pytest.mark.parametrize(
    ("option", "text"),
    [("--header", "X-A"), ("--header", "X-A: b"), ("--header", "=b"), ("--header", "X-A=a\nX-B: c"),
     ("--header", "X A=b"), ("--header", "X-A=\u2026"), ("--query", "a"), ("--query", "=a")],
)  # fmt: skip
def test_what_is_no_name_and_value_is_refused(terminal: Terminal, option: str, text: str) -> None:
    result = explain(terminal, "by-body", option, text, code=2)
    assert f"Invalid value for '{option}': expected NAME=VALUE, such as " in result.stderr


@pytest.mark.parametrize("options", [("--event", "push"), ("--header", "A=b"), ("--query", "a=b")])
def test_a_stored_event_gets_no_other_headers(terminal: Terminal, options: tuple[str, str]) -> None:
    result = terminal.run("explain", *options, "1")
    assert result.exit_code == 2
    assert "use --event, --header and --query only with --source" in result.stderr


@pytest.mark.parametrize("name", ["pusj", "pusj.made"])
def test_an_unknown_event_is_warned_of_with_a_guess(terminal: Terminal, name: str) -> None:
    body = json.dumps({"ref": "x"})
    result = terminal.run("explain", "--source", "github", "--event", name, "-", stdin=body)
    assert f"warning: github has no known event {name!r}; did you mean push?\n" in result.stderr
    sent = terminal.run("send", "--source", "github", "--event", name, "-", stdin=body, HOOK_SECRET="x" * 32)
    assert f"warning: github has no known event {name!r}; did you mean push?\n" in sent.stderr


@pytest.mark.parametrize(
    ("source", "event"), [("github", "push"), ("github", "issues.opened"), ("github", "ping"), ("shop", "x")]
)
def test_other_events_are_not_warned_of(terminal: Terminal, source: str, event: str) -> None:
    result = terminal.run("explain", "--source", source, "--event", event, "-", stdin=BODY)
    assert "warning" not in result.stderr


def test_an_unknown_source_is_guessed(terminal: Terminal) -> None:
    result = explain(terminal, "githb", code=2)
    assert "no source is named 'githb'; did you mean github?; known: by-body, by-query" in result.stderr


@pytest.mark.parametrize(
    ("source", "header"), [("shop", "X-Shop-Signature"), ("by-body", "x-token"), ("clerk", "svix-signature")]
)
def test_send_does_not_replace_a_header_silently(terminal: Terminal, source: str, header: str) -> None:
    secrets = {"SHOP_SECRET": "x" * 32, "SVIX_SECRET": f"whsec_{'x' * 32}"}
    options = ("--source", source, "--event", "made", "--header", f"{header}=x")
    result = terminal.run("send", *options, "-", stdin=BODY, **secrets)
    assert result.exit_code == 2
    assert f"the command sets {header.lower()} itself: remove the option" in result.stderr


TESTS = """
tests:
  - name: in a header
    source: shop
    event: orders/create
    payload: {id: 1}
    expect:
      - {route: shop}
  - name: in the test's own header
    source: shop
    headers: {X-Shop-Topic: orders/create}
    payload: {id: 1}
    expect:
      - {route: shop}
"""


def test_a_test_names_the_event_as_the_commands_do(terminal: Terminal) -> None:
    terminal.config.write_text(TABLE + TESTS)
    assert terminal.run("test").stdout.endswith("2 tests, 0 failed\n")


def test_a_test_without_the_event_is_an_error(terminal: Terminal) -> None:
    terminal.config.write_text(TABLE + TESTS.replace("    event: orders/create\n", ""))
    result = terminal.run("check")
    assert result.exit_code == 1
    assert "error: event is required: the body of generic does not name the event" in result.stdout


def test_the_documented_table_of_any_other_sender_can_be_tried(terminal: Terminal) -> None:
    terminal.config.write_text(f"theeye: {{customer: acme}}\n{example(discover()['generic'])}\n")
    body = json.dumps({"kind": "daily.failed", "host": "db-1"})
    result = terminal.run("explain", "--source", "backup", "-", stdin=body)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "route 'backup *.failed 5f3c9a7be4b0a1c2d3e4f501': 1 job\n" in result.stdout


def test_a_recorded_event_passes_its_test(terminal: Terminal) -> None:
    headers = Headers([("X-Shop-Topic", "orders/create"), ("X-Shop-Id", "77"), ("X-Other", "a")])
    payload = {"id": 1}
    event = Event(
        "shop", "orders/create", None, "77", headers, {}, payload, NOW, json.dumps(payload).encode()
    )
    with closing(Outbox(terminal.database_url)) as outbox:
        outbox.store(make_webhook(event=event))
    recorded = terminal.run("record", "1").stdout
    assert '    event: orders/create\n    headers:\n      "x-shop-id": "77"\n    payload: ' in recorded
    terminal.config.write_text(terminal.config.read_text() + recorded)
    assert terminal.run("test").stdout.endswith("1 test, 0 failed\n")


def test_a_test_of_an_unknown_event_says_so(terminal: Terminal) -> None:
    test = "{name: one, source: github, event: pusj, payload: {ref: x}, expect: []}"
    terminal.config.write_text(f"{TABLE.partition('routes:')[0]}tests: [{test}]\n")
    result = terminal.run("test")
    assert result.stdout.splitlines()[:2] == [
        "ok    one", "      warning: github has no known event 'pusj'; did you mean push?",
    ]  # fmt: skip
