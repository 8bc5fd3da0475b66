"""`python -m bridge record`: what it writes of a stored event passes `python -m bridge test`."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from hypothesis import given, settings

from bridge.config.load import Loaded, load
from bridge.core.errors import Unreadable
from bridge.core.event import JSON, Event, Headers
from bridge.core.fields import parse_path
from bridge.core.json_values import json_equal
from bridge.core.problem import Place
from bridge.core.redaction import REDACTED, redact, without_content
from bridge.core.secrets import Mask
from bridge.dry_run.recorder import record, yaml_lines
from bridge.dry_run.routing_test import ExpectedJob
from bridge.outbox.store import Outbox
from bridge.sources.base.discovery import discover
from bridge.sources.base.source_type import SourceType
from tests.support.examples import examples
from tests.support.intake import sender_request
from tests.support.tables import NOW, make_event, make_webhook
from tests.support.terminal import PUSH, TABLE, Terminal
from tests.unit.sources.test_sources import each_sample, event_name, json_values

TYPES = discover()

HERE = Place("here", 1, 1)

HEADERS = Headers([("X-GitHub-Event", "push"), ("X-Own", "a"), ("X-Colour", "k")])


def read(folder: Path, text: str) -> Loaded:
    (folder / "table.yml").write_text(text, "utf-8")
    return load(folder / "table.yml", {}, TYPES, require_env=False, with_tests=True)


def table_of(source_type: SourceType, *arguments: str) -> str:
    """A table with one route for all that this sender sends."""
    return f"""
theeye: {{customer: acme}}
sources: {{here: {{type: {source_type.name}, allow_unsigned: true}}}}
tasks: {{deploy: {{id: 5f3c9a7be4b0a1c2d3e4f501, secret_key: "${{{{ env.KEY }}}}"}}}}
routes:
  - {{name: all, source: here, task: deploy, task_arguments: {json.dumps(arguments)}}}
"""


def assert_it_passes(folder: Path, text: str, event: Event) -> list[str]:
    """What is recorded of the event, in a file of the table. It says what the table makes of the event."""
    table = read(folder, text).table
    lines = list(yaml_lines(record("one", HERE, event, table, Mask()), "payload.json", table))
    (folder / "payload.json").write_bytes(event.body)
    loaded = read(folder, "\n".join([text, *lines]))
    (test,) = loaded.tests
    assert test.run(loaded.table, Mask()).failures == ()
    made = loaded.table.jobs_for(event).jobs
    assert [job.arguments for job in test.expected] == [job.arguments for job in made]
    return lines


@each_sample
def test_every_sample_of_every_sender(tmp_path: Path, source_type: SourceType, path: Path) -> None:
    body = path.read_bytes()
    text = table_of(
        source_type, "${{ payload | to_json | length }}", "${{ event }} ${{ action | default('') }}"
    )
    source = read(tmp_path, text).table.sources["here"]
    request = sender_request(source, event_name(source_type, path), body)
    headers = Headers([*request.headers.items(), ("X-Own", "a: b\x1f\ud7ff\x85 #")])
    event, _ = source.read(replace(request, headers=headers, query={"q": "5"}, received_at=NOW + 0.125))

    if source.type.is_setup_event(event):
        with pytest.raises(Unreadable, match="which no route handles"):
            record("one", HERE, event, read(tmp_path, text).table, Mask())
        return
    lines = assert_it_passes(tmp_path, text, event)
    assert not any(line.startswith(("    headers:", "    delivery_id:")) for line in lines)

    # And where the table reads what else there is of it.
    more = '${{ headers["X-Own"] }} ${{ query.q }} ${{ delivery_id }} ${{ received_at }}'
    assert_it_passes(tmp_path, table_of(source_type, more), event)


def test_a_form_is_recorded_as_the_json_in_it(tmp_path: Path) -> None:
    text = table_of(TYPES["github"], "${{ payload.after }} ${{ headers['X-Own'] }}")
    headers = {"X-GitHub-Event": "push", "X-Own": "a", "Content-Type": "application/x-www-form-urlencoded"}
    event = make_event(PUSH, source="here", headers=Headers(headers.items()))
    assert_it_passes(tmp_path, text, event)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("${{ delivery_id }}", ["    delivery_id: d-1"]),
        ("${{ received_at }}", ["    received_at: 2023-11-14T22:13:20.000000Z"]),
        ('${{ headers["X-Own"] }}', ["    headers:", '      "x-own": "a"']),
        ("${{ query.q }}", ["    query:", '      "q": "5"']),
        (
            "${{ headers['X-Own'] }} ${{ headers['X-Colour'] }}",
            ["    headers:", '      "x-own": "a"', '      "x-colour": "k"'],
        ),
    ],
)
def test_it_says_no_more_than_is_needed(tmp_path: Path, argument: str, said: list[str]) -> None:
    query = {"q": "5", "apikey": "k"}
    event = make_event(PUSH, source="here", delivery_id="d-1", headers=HEADERS, query=query)
    lines = assert_it_passes(tmp_path, table_of(TYPES["github"], argument), event)
    assert lines[4:-4] == said


@settings(max_examples=examples(80), deadline=None)
@given(json_values.filter(lambda value: '"<<":' not in json.dumps(value)))
def test_any_value_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, value: JSON) -> None:
    folder = tmp_path_factory.mktemp("values")
    table = read(folder, table_of(TYPES["github"], "a")).table
    test = record("one", HERE, make_event(PUSH, source="here"), table, Mask())
    test = replace(test, expected=(ExpectedJob("all", (value, [value], {"a": value})),))
    (folder / "payload.json").write_text(json.dumps(PUSH))
    lines = yaml_lines(test, "payload.json", table)
    (job,) = read(folder, "\n".join([table_of(TYPES["github"], "a"), *lines])).tests[0].expected
    assert job.arguments is not None
    assert json_equal(list(job.arguments), [value, [value], {"a": value}])


NAMED = TABLE.replace("    secret_key", "    arguments: [commit, null]\n    secret_key").replace(
    "      - ${{ payload.after }}", "      commit: ${{ payload.after }}"
)


class TestCommand:
    @pytest.mark.parametrize("table", [TABLE, NAMED], ids=["in order", "by name"])
    def test_what_it_prints_is_a_file_of_the_table(self, tmp_path: Path, table: str) -> None:
        terminal = Terminal(tmp_path, table)
        result = recorded(terminal)
        written = (
            ['        task_arguments: ["abc"]']
            if table is TABLE
            else ["        task_arguments:", '          commit: "abc"']
        )
        assert result.stdout.splitlines() == [
            "tests:", "  - name: push 1", "    source: github", "    event: push",
            "    payload: tests/push-1.json", "    expect:", "      - route: deploy", *written,
        ]  # fmt: skip

    def test_it_passes(self, terminal: Terminal) -> None:
        result = recorded(terminal)
        assert result.stderr == f"wrote {payload_of(terminal)}\n"
        assert json.loads(payload_of(terminal).read_text()) == PUSH
        terminal.config.write_text(TABLE + result.stdout)
        assert terminal.run("test").output == "ok    push 1\n1 test, 0 failed\n"
        terminal.config.write_text(TABLE.replace("payload.after", "payload.before") + result.stdout)
        assert 'argument 1: expected "abc", got "0"' in terminal.run("test").output

    @pytest.mark.parametrize(
        ("path", "expect"),
        [
            ("payload.after", 'task_arguments: ["<redacted by the bridge>"]'),
            ("payload.ref", "expect: []"),
            ("payload.commits[*]", 'task_arguments: ["abc"]'),
        ],
    )
    def test_it_passes_without_what_is_redacted(self, terminal: Terminal, path: str, expect: str) -> None:
        result = recorded(terminal, "--redact", path)
        assert expect in result.stdout
        assert REDACTED in payload_of(terminal).read_text()
        told = "the table creates different jobs because fields are redacted; check expect\n"
        assert (told in result.stderr) is ("commits" not in path)
        terminal.config.write_text(TABLE + result.stdout)
        assert terminal.run("test").output == "ok    push 1\n1 test, 0 failed\n"

    def test_a_redacted_field_for_which_a_route_is_not_asked_is_told(self, terminal: Terminal) -> None:
        terminal.config.write_text(TABLE.replace("refs/heads/main", "{not: refs/heads/main}"))
        result = recorded(terminal, "--redact", "payload.ref")
        assert "      - route: deploy" in result.stdout.splitlines()
        assert "the table creates different jobs because" in result.stderr

    @pytest.mark.parametrize("field", ["payload.after", "payload.ref"])
    def test_what_was_redacted_when_it_was_stored_is_told(self, terminal: Terminal, field: str) -> None:
        store(terminal, redact(make_event(PUSH), [parse_path(field)]))
        result = terminal.run("record", "1")
        told = f"a field is redacted, so its value in the test is '{REDACTED}'; check expect\n"
        assert told in result.stderr
        terminal.config.write_text(TABLE + result.stdout)
        assert terminal.run("test").exit_code == 0

    def test_nothing_is_overwritten(self, terminal: Terminal) -> None:
        recorded(terminal)
        payload_of(terminal).write_text("mine")
        result = terminal.run("record", "1")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "push-1.json already exists" in result.stderr
        assert payload_of(terminal).read_text() == "mine"
        assert terminal.run("record", "1", "--into", str(terminal.config.parent / "a" / "b")).exit_code == 0

    def test_a_link_out_of_the_tables_folder_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "config").mkdir()
        (tmp_path / "elsewhere").mkdir()
        terminal = Terminal(tmp_path / "config")
        payload_of(terminal).parent.symlink_to(tmp_path / "elsewhere")
        store(terminal, make_event(PUSH))
        assert "expected a folder in" in terminal.run("record", "1").output
        assert not list((tmp_path / "elsewhere").iterdir())

    def test_a_link_to_nothing_in_place_of_the_payload_stays(
        self, terminal: Terminal, tmp_path: Path
    ) -> None:
        payload_of(terminal).parent.mkdir()
        payload_of(terminal).symlink_to(tmp_path.parent / "nothing")
        store(terminal, make_event(PUSH))
        assert "push-1.json already exists" in terminal.run("record", "1").output

    def test_a_file_in_place_of_the_folder_is_told(self, terminal: Terminal) -> None:
        payload_of(terminal).parent.write_text("mine")
        store(terminal, make_event(PUSH))
        result = terminal.run("record", "1")
        assert (result.exit_code, result.stdout) == (1, "")
        assert "tests is not a folder; choose another folder with --into" in result.stderr

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--redact", "payload.aftr"), "the event has no payload.aftr"),
            (("--redact", "payload"), "payload is not a single field"),
            (("--redact", "headers.a.b"), "headers.a.b is not a single field"),
            (("--redact", "event"), "unknown name 'event'"),
            (("--into", "/"), "expected a folder in"),
        ],
    )
    def test_usage(self, terminal: Terminal, arguments: tuple[str, ...], message: str) -> None:
        store(terminal, make_event(PUSH))
        result = terminal.run("record", "1", *arguments)
        assert result.exit_code == 2
        assert message in result.output
        assert not payload_of(terminal).exists()

    @pytest.mark.parametrize(
        ("event", "message"),
        [
            (without_content(make_event(PUSH)), "the body of event 1 is not stored"),
            (make_event(PUSH, source="gitlab"), "which the table does not have"),
            (make_event({"ref": "r"}), "event 1 cannot become a test: a github push without before, after"),
        ],
    )
    def test_what_cannot_be_says_why(self, terminal: Terminal, event: Event, message: str) -> None:
        store(terminal, event)
        result = terminal.run("record", "1")
        assert (result.exit_code, result.stdout) == (1, "")
        assert message in result.stderr
        assert not payload_of(terminal).exists()

    def test_an_events_name_leads_nowhere(self, terminal: Terminal) -> None:
        name = "../../\x1b[2J${{ a }}"
        store(terminal, make_event({}, event=name, headers=Headers([("X-GitHub-Event", name)])))
        result = terminal.run("record", "1")
        assert [path.name for path in (terminal.config.parent / "tests").iterdir()] == ["2J-a-1.json"]
        assert result.stdout.replace("\n", "").isprintable()
        terminal.config.write_text(TABLE + result.stdout)
        assert terminal.run("test").output.splitlines() == [
            "ok    2J-a 1",
            f"      warning: github has no known event {name!r}",
            "1 test, 0 failed",
        ]

    @pytest.mark.parametrize(
        ("value", "is_said"),
        [
            ({"<<": 1}, False),
            ([{"a": {"<<": 1}}], False),
            ("<<", True),
            (json.loads("[" * 30 + "]" * 30), True),
            (json.loads("[" * 31 + "]" * 31), False),
            (json.loads('{"a":' * 30 + "1" + "}" * 30), True),
            (json.loads('{"a":' * 31 + "1" + "}" * 31), False),
        ],
    )
    def test_what_no_table_can_say_is_not_expected(
        self, terminal: Terminal, value: JSON, is_said: bool
    ) -> None:
        store(terminal, make_event({**PUSH, "after": value}))
        result = terminal.run("record", "1")
        assert ("task_arguments" in result.stdout) is is_said
        assert ("the test does not compare the arguments" in result.stderr) is not is_said
        terminal.config.write_text(TABLE + result.stdout)
        assert terminal.run("test").output == "ok    push 1\n1 test, 0 failed\n"

    @pytest.mark.parametrize(
        ("argument", "said"),
        [
            ("https://ci/?token=${{ payload.after }}", ["      - route: deploy"]),
            ("Bearer ${{ payload.after }}defghi", ["      - route: deploy"]),
            ("${{ headers['X-Url'] | length }}", ["        task_arguments: [25]"]),
            ("${{ query.q }}", ['        task_arguments: ["a<secret>"]']),
            ("${{ delivery_id }}", ['        task_arguments: ["d<secret>"]']),
            ("${{ payload['Bearer abcdef'] }}", ['        error: "argument 1: payload[\\"Bearer "']),
        ],
    )
    def test_what_passes_for_a_secret_is_not_expected(
        self, tmp_path: Path, argument: str, said: list[str]
    ) -> None:
        table = TABLE.replace("${{ payload.after }}", argument)
        terminal = Terminal(tmp_path, table)
        secret = "S3cr3t" * 6
        headers = Headers([("X-GitHub-Event", "push"), ("X-Url", "https://a/?token=abcdefghijk")])
        event = make_event(PUSH, headers=headers, query={"q": f"a{secret}"}, delivery_id=f"d{secret}")
        store(terminal, event)
        result = terminal.run("record", "1", HOOK_SECRET=secret)
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[-len(said) :] == said
        assert ("the test does not compare the arguments" in result.stderr) is ("route" in said[0])
        terminal.config.write_text(table + result.stdout)
        assert terminal.run("test", HOOK_SECRET=secret).output == "ok    push 1\n1 test, 0 failed\n"

    def test_a_name_that_is_a_secret_is_refused(self, terminal: Terminal) -> None:
        store(terminal, make_event({}, event="s" * 40))
        result = terminal.run("record", "1", HOOK_SECRET="s" * 40)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "it would contain a secret: - name: <secret> 1" in result.stderr
        assert not payload_of(terminal).parent.exists()

    @pytest.mark.parametrize("secret", ["s" * 40, "12345678"])
    def test_a_secret_of_the_table_is_not_written(self, terminal: Terminal, secret: str) -> None:
        value = json.loads(secret) if secret.isdecimal() else secret
        store(terminal, make_event({**PUSH, "after": value, "in": [{secret: value}]}))
        result = terminal.run("record", "1", HOOK_SECRET=secret)
        assert result.exit_code == 0
        assert secret not in result.output + payload_of(terminal).read_text()
        terminal.config.write_text(TABLE + result.stdout)
        assert terminal.run("test", HOOK_SECRET=secret).exit_code == 0


def store(terminal: Terminal, event: Event) -> None:
    with closing(Outbox(terminal.database_url)) as outbox:
        outbox.store(make_webhook(event=event))


def recorded(terminal: Terminal, *arguments: str) -> Result:
    store(terminal, make_event(PUSH))
    result = terminal.run("record", "1", *arguments)
    assert result.exit_code == 0, result.output
    return result


def payload_of(terminal: Terminal) -> Path:
    return terminal.config.parent / "tests" / "push-1.json"
