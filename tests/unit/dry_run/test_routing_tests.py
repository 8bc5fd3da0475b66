"""`tests:` of the table: what may stand there, how they are run, and `python -m bridge test`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.config.load import Loaded, load
from bridge.core.errors import ConfigError
from bridge.core.event import JSON
from bridge.core.secrets import Mask
from bridge.routing import routing_table
from bridge.sources.base.discovery import discover
from tests.support.terminal import PUSH, Terminal

TYPES = discover()

TABLE = """\
theeye: {customer: acme}
sources:
  github: {secret: "${{ env.HOOK_SECRET }}"}
  alerts: {type: alertmanager, bearer_token: "${{ env.HOOK_SECRET }}"}
tasks:
  deploy:
    id: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.TASK_KEY }}
    arguments: [commit, null, number]
  page: {id: 5f3c9a7be4b0a1c2d3e4f502, secret_key: "${{ env.TASK_KEY }}"}
routes:
  - name: deploy
    source: github
    event: push
    task: deploy
    task_arguments: {commit: "${{ payload.after }}", number: "${{ payload.number }}"}
  - name: about
    source: github
    event: issues.opened
    task: page
    task_arguments: ['${{ headers["X-Team"] }}', "${{ query.a }}", "${{ delivery_id }}", "${{ received_at }}"]
  - name: each
    source: alerts
    loop: payload.alerts
    match: {item.status: firing}
    task: page
    task_arguments: ["${{ item.labels.name }}"]
tests:
"""

#: The line on which the first test begins.
FIRST = TABLE.count("\n") + 1

PAYLOAD = "{ref: r, before: b, after: abc, number: 5}"


def push(expect: str, payload: str = PAYLOAD) -> str:
    return f"  - {{name: one, source: github, event: push, payload: {payload}, expect: {expect}}}\n"


def read(folder: Path, *tests: str) -> Loaded:
    path = folder / "table.yml"
    path.write_text(TABLE + "".join(tests), "utf-8")
    return load(path, {}, TYPES, require_env=False, with_tests=True)


def misses(folder: Path, *tests: str) -> list[str]:
    """What is another than wanted, of every test."""
    loaded = read(folder, *tests)
    findings = [each for test in loaded.tests for each in test.run(loaded.table, Mask()).failures]
    return [f"{each.subject}: expected {each.expected}, got {each.actual}" for each in findings]


def mistakes(folder: Path, *tests: str) -> list[str]:
    """Each with the place inside the tests: its line from 1, and its column."""
    with pytest.raises(ConfigError) as caught:
        read(folder, *tests)
    errors = [each for each in caught.value.problems if each.severity == "error"]
    return [f"{each.place.line - FIRST + 1}:{each.place.column}: {each.message}" for each in errors]


class TestExpectations:
    @pytest.mark.parametrize(
        "expect",
        [
            "[{route: deploy, task_arguments: [abc, 5]}]",
            "[{route: deploy, task_arguments: {number: 5.0, commit: abc}}]",
            "[{route: deploy}]",
        ],
    )
    def test_one_that_holds(self, tmp_path: Path, expect: str) -> None:
        assert misses(tmp_path, push(expect)) == []

    @pytest.mark.parametrize(
        ("expect", "found"),
        [
            ("[{route: deploy, task_arguments: [abd, 5]}]",
             ['job 1, route \'deploy\', commit: expected "abd", got "abc"']),
            ('[{route: deploy, task_arguments: [abc, "5"]}]',
             ["job 1, route 'deploy', number: expected \"5\", got 5"]),
            ("[{route: deploy, task_arguments: [abc, true]}]",
             ["job 1, route 'deploy', number: expected true, got 5"]),
            ("[{route: deploy, task_arguments: {commit: null, number: [5]}}]",
             ['job 1, route \'deploy\', commit: expected null, got "abc"',
              "job 1, route 'deploy', number: expected [5], got 5"]),
            ("[]", ["job 1: expected none, got a job of route 'deploy', task_arguments [\"abc\",null,5]"]),
            ("[{route: about}, {route: deploy}]", ["jobs: expected a job of route 'about', got none"]),
            ("[{route: deploy, error: missing}]",
             ["job 1, route 'deploy': expected an error with \"missing\", "
              'got task_arguments ["abc",null,5]']),
        ],
    )  # fmt: skip
    def test_one_that_does_not(self, tmp_path: Path, expect: str, found: list[str]) -> None:
        assert misses(tmp_path, push(expect)) == found

    @pytest.mark.parametrize(
        ("written", "value"),
        [
            ("5", 5), ("5.0", 5), ("-0.5", -0.5), ("true", True), ("null", None), ('"5"', "5"),
            ("'true'", "true"), ("005", "005"), ("1e5", "1e5"), ("yes", "yes"), ("2026-01-31", "2026-01-31"),
            ("18446744073709551615", 2**64 - 1), ("9" * 40, int("9" * 40)), ("${{ a }}", "${{ a }}"),
            ("[1, {a: ~}]", [1, {"a": "~"}]),
        ],
    )  # fmt: skip
    def test_how_a_value_is_read(self, tmp_path: Path, written: str, value: JSON) -> None:
        """In a payload and in what is expected: as data, in which nothing is evaluated."""
        quoted = f'"{written}"' if written.startswith("$") else written
        payload = f"{{ref: r, before: b, after: abc, number: {quoted}}}"
        test = push(f"[{{route: deploy, task_arguments: [abc, {quoted}]}}]", payload)
        loaded = read(tmp_path, test)
        assert json.loads(loaded.tests[0].request.body)["number"] == value
        assert misses(tmp_path, test) == []

    def test_a_number_is_no_boolean(self, tmp_path: Path) -> None:
        one = PAYLOAD.replace("5", "1")
        assert misses(tmp_path, push("[{route: deploy, task_arguments: [abc, true]}]", one)) == [
            "job 1, route 'deploy', number: expected true, got 1"
        ]

    def test_a_route_is_known_by_its_default_name(self, tmp_path: Path) -> None:
        path = tmp_path / "table.yml"
        path.write_text(TABLE.replace("name: deploy\n    ", "") + push("[{route: github push deploy}]"))
        loaded = load(path, {}, TYPES, require_env=False, with_tests=True)
        assert loaded.tests[0].run(loaded.table, Mask()).failures == ()

    def test_a_job_whose_arguments_cannot_be_built(self, tmp_path: Path) -> None:
        without = PAYLOAD.replace(", number: 5", "")
        assert misses(tmp_path, push("[{route: deploy, error: payload.number is missing}]", without)) == []
        (found,) = misses(tmp_path, push("[{route: deploy}]", without))
        dead = "got dead: number: payload.number is missing"
        assert found.startswith(f"job 1, route 'deploy': expected arguments that can be built, {dead}")
        (found,) = misses(tmp_path, push("[{route: deploy, error: payload.after}]", without))
        assert found.startswith("job 1, route 'deploy': expected an error with \"payload.after\", got dead: ")

    def test_jobs_are_expected_in_their_order(self, tmp_path: Path) -> None:
        alerts = (
            "[{status: firing, labels: {name: a}}, {status: resolved}, {status: firing, labels: {name: b}}]"
        )
        test = (
            "  - {name: two, source: alerts, payload: {version: '4', status: firing, receiver: r, "
            f"groupKey: k, alerts: {alerts}}}, expect: EXPECT}}\n"
        )
        jobs = [f"{{route: each, task_arguments: [{name}]}}" for name in "abc"]
        assert misses(tmp_path, test.replace("EXPECT", f"[{jobs[0]}, {jobs[1]}]")) == []
        assert misses(tmp_path, test.replace("EXPECT", f"[{jobs[0]}]")) == [
            "job 2: expected none, got a job of route 'each', task_arguments [\"b\"]"
        ]
        assert misses(tmp_path, test.replace("EXPECT", f"[{jobs[1]}, {jobs[0]}]")) == [
            'job 1, route \'each\', argument 1: expected "b", got "a"',
            'job 2, route \'each\', argument 1: expected "a", got "b"',
        ]
        assert misses(tmp_path, test.replace("EXPECT", f"[{', '.join(jobs)}]")) == [
            "jobs: expected a job of route 'each', task_arguments [\"c\"], got none"
        ]
        assert misses(tmp_path, test.replace("EXPECT", f"[{jobs[2]}, {', '.join(jobs)}]")) == [
            "jobs: expected a job of route 'each', task_arguments [\"c\"], got none",
            "jobs: expected a job of route 'each', task_arguments [\"c\"], got none",
        ]
        assert misses(tmp_path, test.replace("EXPECT", f"[{jobs[1]}]")) == [
            "job 1: expected none, got a job of route 'each', task_arguments [\"a\"]"
        ]
        assert misses(tmp_path, test.replace("EXPECT", f"[{{route: each}}, {jobs[2]}, {jobs[1]}]")) == [
            "jobs: expected a job of route 'each', task_arguments [\"c\"], got none"
        ]

    def test_jobs_of_two_routes_are_expected_in_the_tables_order(self, tmp_path: Path) -> None:
        last = "  - {name: last, source: github, event: push, task: page, task_arguments: [a]}\ntests:\n"
        path = tmp_path / "table.yml"
        for expect, passes in (("deploy}, {route: last", True), ("last}, {route: deploy", False)):
            path.write_text(TABLE.replace("tests:\n", last) + push(f"[{{route: {expect}}}]"))
            (test,) = load(path, {}, TYPES, require_env=False, with_tests=True).tests
            table = load(path, {}, TYPES, require_env=False).table
            assert (test.run(table, Mask()).failures == ()) is passes

    def test_of_many_jobs_the_one_that_is_missing_is_told(self, tmp_path: Path) -> None:
        alerts = ", ".join(f"{{status: firing, labels: {{name: a{number}}}}}" for number in range(250))
        jobs = ", ".join(["{route: deploy}", *["{route: each}"] * 250])
        assert misses(
            tmp_path,
            "  - {name: many, source: alerts, payload: {version: '4', status: firing, receiver: r, "
            f"groupKey: k, alerts: [{alerts}]}}, expect: [{jobs}]}}\n",
        ) == ["jobs: expected a job of route 'deploy', got none"]

    def test_more_jobs_than_the_server_takes_are_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(routing_table, "MAX_JOBS", 0)
        assert misses(tmp_path, push("[{route: deploy, error: creates more than 0 jobs}]")) == []
        (miss,) = misses(tmp_path, push("[]"))
        assert "the event creates more than 0 jobs" in miss

    def test_of_two_long_values_the_difference_is_shown(self, tmp_path: Path) -> None:
        wanted, found = "x" * 500 + "1" + "y" * 500, "x" * 500 + "2" + "y" * 500
        payload = PAYLOAD.replace("abc", found)
        (said,) = misses(tmp_path, push(f"[{{route: deploy, task_arguments: [{wanted}, 5]}}]", payload))
        assert f"expected …{'x' * 40}1yyy" in said
        assert f"got …{'x' * 40}2yyy" in said
        assert len(said) < 500

    def test_no_part_of_a_secret_is_shown_where_a_value_is_cut(self, tmp_path: Path) -> None:
        secret = "S3cr3t" * 8
        text = "x" * 170 + secret + "y" * 30
        payload = PAYLOAD.replace("abc", text)
        terminal = Terminal(
            tmp_path, TABLE + push(f"[{{route: deploy, task_arguments: [{text}z, 5]}}]", payload)
        )
        cut = [terminal.run("test", HOOK_SECRET=secret).output]
        terminal.config.write_text(TABLE + push("[]", payload))
        cut.append(terminal.run("test", HOOK_SECRET=secret).output)
        assert all("FAIL" in output and "S3cr3t" not in output for output in cut)

    def test_what_differs_under_the_mask_is_told(self, tmp_path: Path) -> None:
        payload = PAYLOAD.replace("abc", '"?token=abc"')
        (said,) = misses(tmp_path, push("[{route: deploy, task_arguments: ['?token=b', 5]}]", payload))
        masked = '"?token=<secret>"'
        assert said.endswith(f"expected {masked}, got {masked} (a different secret)")


class TestWebhooks:
    """The event is what the source's own type reads, as the server does."""

    def test_all_that_it_may_say(self, tmp_path: Path) -> None:
        assert (
            misses(
                tmp_path,
                """  - name: one
    source: github
    event: issues.opened
    headers: {X-Team: ops}
    query: {a: 5}
    delivery_id: d-1
    received_at: 2026-01-31T12:00:00+01:00
    payload: {action: opened, issue: {}}
    expect: [{route: about, task_arguments: [ops, "5", d-1, "2026-01-31T11:00:00.000000Z"]}]
""",
            )
            == []
        )

    def test_the_time_does_not_depend_on_the_day(self, tmp_path: Path) -> None:
        test = """  - name: one
    source: github
    headers: {x-github-event: issues, X-Team: a, X-GitHub-Delivery: b}
    query: {a: c}
    payload: {action: opened, issue: {}}
    expect: [{route: about, task_arguments: [a, c, b, "1970-01-01T00:00:00.000000Z"]}]
"""
        assert misses(tmp_path, test) == []

    @pytest.mark.parametrize(
        ("event", "payload", "found"),
        [
            ("push", "{ref: r}", "a github push without before, after"),
            ("issues.closed", "{action: opened, issue: {}}",
             "the payload belongs to event issues.opened, but the test has event: issues.closed"),
        ],
    )  # fmt: skip
    def test_a_payload_that_the_server_would_not_read_so_fails(
        self, tmp_path: Path, event: str, payload: str, found: str
    ) -> None:
        test = push("[]", payload).replace("event: push", f"event: {event}")
        assert misses(tmp_path, test) == [f"the webhook: expected an accepted request, got {found}"]

    def test_no_route_is_asked_about_a_ping(self, tmp_path: Path) -> None:
        test = push("[]", "{zen: z, hook_id: 1}").replace("event: push", "event: ping")
        loaded = read(tmp_path, test)
        path = tmp_path / "table.yml"
        path.write_text(path.read_text().replace("    event: push\n", ""))
        (one,) = load(path, {}, TYPES, require_env=False, with_tests=True).tests
        assert one.run(loaded.table, Mask()).failures == ()


MISSING_EVENT = "event is required: the body of github does not name the event"
A_FILE = "expected the name of a file, or the payload itself"
NO_JSON = "invalid literal, expected 'true': line 1 column 1 (char 0)"
NO_NAMES = "task_arguments is a mapping, but the task has no argument names"
BESIDE = "error and task_arguments exclude each other: with an error, a job has no arguments"
NO_TIME = "received_at: found '2026-01-31', expected a time such as"


def deploy(arguments: str) -> str:
    return f"[{{route: deploy, task_arguments: {arguments}}}]"


class TestMistakes:
    @pytest.mark.parametrize(
        ("test", "message"),
        [
            (push("[{route: ^deploi}]"), "unknown route 'deploi'; did you mean deploy?"),
            (push("[{^rout: deploy}]"), "unknown key 'rout'; did you mean route?"),
            (push("[^{}]"), "route is missing"),
            (push("[^deploy]"), "expect: found text, expected a mapping"),
            (push("^{}"), "expect: found a mapping, expected a list of jobs"),
            (push("[]").replace("github", "^gitub"), "unknown source 'gitub'; did you mean github?"),
            (push("[]").replace("event: push, ", "").replace("{name", "^{name"), MISSING_EVENT),
            (push("[]").replace("{name: one, ", "^{"), "name is missing"),
            (push("[]").replace("event: push", "^evnt: push"), "unknown key 'evnt'; did you mean event?"),
            (
                push("[]") + push("[]").replace(" one", " ^one"),
                "two tests are named 'one'; the first at HERE",
            ),
            (push("[]", "^5 5"), "payload: '5 5' cannot be read: No such file or directory"),
            (push("[]", "^../x.json"), "payload: '../x.json' is outside of the table's folder"),
            (push("[]", "^/etc/passwd"), "payload: '/etc/passwd' is outside of the table's folder"),
            (push("[]", '^"a\\0b"'), "payload: 'a\\x00b' cannot be read: not a file's name"),
            (push("[]", '^" "'), f"payload: found blank text, {A_FILE}"),
            (push("[]", "^table.yml"), f"payload: 'table.yml': the body is not valid JSON: {NO_JSON}"),
            (push(deploy("^[a]")), "found 1 task_arguments, expected 2: commit, number"),
            (
                push(deploy("{^comit: a, number: 1}")),
                "the task has no argument 'comit'; did you mean commit?",
            ),
            (push(deploy("^{commit: a}")), "task_arguments lacks number"),
            (push("[{route: each, task_arguments: ^{a: 1}}]"), NO_NAMES),
            (push("[{route: deploy, task_arguments: [a, 1], error: ^x}]"), BESIDE),
            (
                push("[]").replace("push,", "push, received_at: ^2026-01-31,"),
                f"{NO_TIME} 2026-01-31T12:00:00Z",
            ),
            (
                push("[]").replace("push,", "push, headers: {a: ^[b]},"),
                "headers: a: found a list, expected text",
            ),
        ],
    )
    def test_each_at_its_place(self, tmp_path: Path, test: str, message: str) -> None:
        """Which the ^ marks."""
        before = test[: test.index("^")]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        message = message.replace("HERE", f"{tmp_path / 'table.yml'}:{FIRST}:12")
        assert mistakes(tmp_path, test.replace("^", "")) == [f"{line}:{column}: {message}"]

    def test_what_could_not_be_read_is_not_called_unknown(self, tmp_path: Path) -> None:
        tests = push("[{route: github push deploy}]")
        path = tmp_path / "table.yml"
        broken = TABLE.replace("name: deploy\n    source", "source").replace(
            "    task: deploy", "    task: deply"
        )
        path.write_text(broken + tests)
        with pytest.raises(ConfigError) as caught:
            load(path, {}, TYPES, require_env=False, with_tests=True)
        errors = [each.message for each in caught.value.problems if each.severity == "error"]
        assert errors == ["unknown task 'deply'; did you mean deploy?"]

    def test_a_link_does_not_lead_out_of_the_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "config"
        folder.mkdir()
        (tmp_path / "outside.json").write_text("{}")
        (folder / "link.json").symlink_to(tmp_path / "outside.json")
        assert mistakes(folder, push("[]", "link.json")) == [
            "1:55: payload: 'link.json' is outside of the table's folder"
        ]

    def test_the_server_needs_no_payloads_but_takes_no_mistake(self, tmp_path: Path) -> None:
        path = tmp_path / "table.yml"
        path.write_text(TABLE + push("[{route: deploy}]", "none.json"))
        assert load(path, {}, TYPES, require_env=False).tests == ()
        path.write_text(TABLE + push("[{route: deploi}]", "none.json"))
        with pytest.raises(ConfigError, match="unknown route 'deploi'"):
            load(path, {}, TYPES, require_env=False)


class TestCommand:
    @pytest.fixture
    def terminal(self, tmp_path: Path) -> Terminal:
        (tmp_path / "five.json").write_text(json.dumps({**PUSH, "number": 5}))
        first = push("[{route: deploy, task_arguments: [abc, 5]}]", "five.json")
        second = push("[{route: deploy, task_arguments: [abd, 5]}]").replace("name: one", "name: two")
        return Terminal(tmp_path, TABLE + first + second)

    def test_without_a_variable_or_a_store(self, terminal: Terminal) -> None:
        Path(terminal.database_url.removeprefix("sqlite:///")).unlink()
        result = terminal.run("test")
        assert (result.exit_code, result.output.splitlines()) == (
            1,
            [
                "ok    one",
                f"FAIL  two  ({terminal.config}:{FIRST + 1}:5)",
                '      job 1, route \'deploy\', commit: expected "abd", got "abc"',
                "2 tests, 1 failed",
            ],
        )
        assert not list(terminal.config.parent.glob("bridge.db*"))

    def test_only_some(self, terminal: Terminal) -> None:
        result = terminal.run("test", "--name", "one", str(terminal.config), BRIDGE_CONFIG="none")
        assert (result.exit_code, result.output) == (0, "ok    one\n1 test, 0 failed\n")
        unknown = terminal.run("test", "--name", "on")
        assert unknown.exit_code == 2
        assert "no test is named 'on'; did you mean one?; known: one, two" in unknown.output

    def test_as_json(self, terminal: Terminal) -> None:
        result = terminal.run("test", "--json")
        found = json.loads(result.stdout)
        assert (result.exit_code, found["failed"]) == (1, 1)
        assert [test["passed"] for test in found["tests"]] == [True, False]
        assert found["tests"][1]["differences"] == [
            {"subject": "job 1, route 'deploy', commit", "expected": '"abd"', "actual": '"abc"'}
        ]

    def test_none(self, terminal: Terminal) -> None:
        terminal.config.write_text(TABLE.removesuffix("tests:\n"))
        assert (terminal.run("test").exit_code, terminal.run("test").output) == (0, "no tests\n")

    def test_mistakes_are_said_as_check_says_them(self, terminal: Terminal) -> None:
        (terminal.config.parent / "five.json").unlink()
        for command in ("check", "test"):
            result = terminal.run(command)
            assert result.exit_code == 1
            assert f"table.yml:{FIRST}:55: error: payload: 'five.json' cannot be read" in result.output
        assert terminal.run("events", "list").exit_code == 0

    def test_a_warning_stands_beside_what_passes(self, terminal: Terminal) -> None:
        text = TABLE.replace("    task: deploy", "    when: payload.after / 2 > 1\n    task: deploy")
        terminal.config.write_text(text + push("[]"))
        ok, warning, count = terminal.run("test").output.splitlines()
        assert (ok, count) == ("ok    one", "1 test, 0 failed")
        assert warning.startswith("      warning: route 'deploy': when: ")

    def test_a_warning_stands_beside_what_fails(self, terminal: Terminal) -> None:
        table = terminal.config.read_text().replace("    event: push\n", "    when: payload.number > 5 / 0\n")
        terminal.config.write_text(table)
        assert "      warning: route 'deploy': when: " in terminal.run("test").output

    def test_what_an_event_holds_does_not_act_on_the_terminal(self, terminal: Terminal) -> None:
        terminal.config.write_text(TABLE + push("[]", PAYLOAD.replace("abc", '"\\e[2J\\x9b"')))
        output = terminal.run("test").output
        assert "\\u001b[2J\\u009b" in output
        assert output.replace("\n", "").isprintable()
