"""Mistakes in the routing table: each at its place, all at once, none with a secret in its message.

``config/bad`` holds a table a mistake: a file, or a folder of files. Its first lines say what is expected, as
`check` prints it, and nothing else may be reported::

    # expect: FILE:LINE:COLUMN: SEVERITY: MESSAGE     EVERY_TYPE stands for the names of all source types
    # hint: HINT                                      of the line before it, if it has one

What can hold no such lines has them beside it, without the ``#``, in ``NAME.txt``.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.config.compile import TEXT_LENGTH_LIMIT
from bridge.config.document import MAX_DEPTH
from bridge.config.load import load
from bridge.config.problems import Problems
from bridge.core.errors import ConfigError
from bridge.core.problem import Place, Problem, Severity
from bridge.process.environment import Environment
from bridge.sources.base.discovery import discover
from tests.support.examples import examples

TYPES = discover()

HERE = Path(__file__).parents[2] / "config"
BAD = sorted(path for path in (HERE / "bad").iterdir() if path.suffix != ".txt")
GOOD = sorted((HERE / "good").iterdir())

#: What stands in every secret of these tests, written out or in a variable, and may stand in no message.
MARK = "marked"

ENVIRONMENT = {
    "GITHUB_SECRET": "env-marked-secret",
    "TOKEN": "env-marked-token",
    "PASSWORD": "env-marked-password",
    "DEPLOY_KEY": "k1" * 32,
    "OTHER_KEY": "o1" * 32,
    "SHORT_KEY": ("k1" * 32)[:63],
    "NEWLINE_KEY": ("k1" * 32)[:63] + "\n",
    "SPACED": "env-marked token",
    "EMPTY": "",
    "UNREADABLE_FILE": "/env-marked-path",
    "HTTP_URL": "http://env-marked-host.example",
}

TABLE = """\
theeye:
  customer: acme
sources:
  github:
    secret: ${{ env.GITHUB_SECRET }}
tasks:
  deploy:
    id: 5f3c9a7be4b0a1c2d3e4f501
    secret_key: ${{ env.DEPLOY_KEY }}
routes:
  - source: github
    event: push
    task: deploy
    task_arguments:
      - ${{ payload.ref }}
"""

#: Problems of the table TABLE with something else in it, or of any other text.
Find = Callable[..., list[str]]


def problems_of(
    config: Path, environment: Mapping[str, str] = ENVIRONMENT, *, require_env: bool = True
) -> tuple[Problem, ...]:
    try:
        return load(
            config, Environment(environment), TYPES, require_env=require_env, with_tests=True
        ).problems
    except ConfigError as error:
        assert any(problem.severity is Severity.ERROR for problem in error.problems)
        return error.problems


def told(problems: Iterable[Problem], file: Path | None = None) -> list[str]:
    """The problems as the bad tables expect them, without their hints; their file's name if not `file`'s."""
    lines = []
    for problem in problems:
        at = f"{problem.place.line}:{problem.place.column}"
        at = at if file is None else f"{Path(problem.place.file).name}:{at}"
        lines.append(f"{at}: {problem.severity}: {problem.message}")
    return lines


@pytest.fixture
def find(tmp_path: Path) -> Find:
    """Writes a table and gives what is wrong with it, without hints."""

    def find(text: str | bytes, *, require_env: bool = True) -> list[str]:
        config = tmp_path / "table.yml"
        config.write_bytes(text.encode() if isinstance(text, str) else text)
        return told(problems_of(config, require_env=require_env))

    return find


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    return folder


# One mistake a file


def expected_of(path: Path) -> list[str]:
    beside = path.with_suffix(".txt")
    if beside.exists():
        text = beside.read_text("utf-8")
    else:
        comments = re.match(r"(# .*\n)+", path.read_text("utf-8"))
        assert comments, "a bad table begins with what is expected"
        text = re.sub("^# ", "", comments[0], flags=re.MULTILINE)
    return text.replace("EVERY_TYPE", ", ".join(sorted(TYPES))).splitlines()


def test_there_are_bad_tables() -> None:
    assert len(BAD) > 200


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_table(path: Path) -> None:
    found = []
    for problem in problems_of(path):
        said, _, hint = str(problem).replace(f"{path.parent}/", "").partition("\n    hint: ")
        found.append(f"expect: {said}")
        if hint:
            found.append(f"hint: {hint}")
    assert found == expected_of(path)


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_table(path: Path) -> None:
    names = re.findall(r"env\.(\w+)", path.read_text("utf-8"))
    assert (
        problems_of(path, {name: ("k1" if re.search("KEY|THEEYE", name) else "s1") * 32 for name in names})
        == ()
    )


def test_the_table_that_these_tests_change_has_no_mistake(find: Find) -> None:
    assert find(TABLE) == []


# Every mistake at once


@pytest.mark.parametrize(
    "unread",
    [
        "sources: [",
        "sources: {",
        "sources:",
        "sources: []",
        "sources: *all",
        "sources: {<<: {gitlab: {}}}",
        "hooks: {gitlab: {type: github, secret: '${{ env.TOKEN }}'}}",
        "- sources",
        "sources",
        "routes: []\n---\nsources: {gitlab: {type: github, secret: '${{ env.TOKEN }}'}}",
        "sources: " + "[" * 50,
        "sources: {gitlab: '\x01'}",
    ],
)
def test_what_stands_in_a_part_that_could_not_be_read_is_not_called_unknown(
    tmp_path: Path, unread: str
) -> None:
    route = "  - source: gitlab\n    task: notify\n  - source: gitlab\n    task: 5f3c9a7be4b0a1c2d3e4f509\n"
    folder = write(tmp_path, {"a.yml": TABLE + route, "b.yml": f"{unread}\n"})
    found = told(problems_of(folder), folder)
    assert found
    assert [line for line in found if not line.startswith("b.yml")] == []


def test_without_an_unread_part_the_same_is_called_unknown(find: Find) -> None:
    assert find(TABLE + "  - source: gitlab\n    task: notify\n") == [
        "16:13: error: unknown source 'gitlab'; did you mean github?",
        "17:11: error: unknown task 'notify'",
    ]


def test_a_wrong_setting_is_not_held_against_another_place(find: Find) -> None:
    table = TABLE.replace("    secret_key", "    on_unknown: hold\n    secret_key")
    route = "  - {source: github, task: 5f3c9a7be4b0a1c2d3e4f501, on_unknown: ask, name: other}\n"
    assert find(table + route) == ["17:66: error: on_unknown: found 'ask', expected one of retry, hold"]


def test_theeye_is_missed_beside_a_mistake_in_a_file(find: Find, tmp_path: Path) -> None:
    text = TABLE.removeprefix("theeye:\n  customer: acme\n").replace(
        "    event: push\n", "    event: push\n" * 2
    )
    assert find(text) == [
        "1:1: error: theeye is missing",
        f"11:5: error: event is defined twice; first at {tmp_path}/table.yml:10:5",
    ]


# Files

NOT_ALLOWED = "the file contains a character that YAML does not allow"


def test_no_such_file(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path / "none")
    hint = "run `theeye-bridge init`, or set BRIDGE_CONFIG to the routing table"
    assert str(problem) == f"{tmp_path / 'none'}: error: no such file or folder\n    hint: {hint}"


@pytest.mark.parametrize("text", ["\n", "# nothing\n", "---\n", "---\n...\n", "{}\n", "\ufeff", "\r\n"])
def test_a_file_without_anything(find: Find, text: str) -> None:
    assert find(text) == ["1:1: error: theeye is missing"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x00\x01\x02", f"1:1: error: {NOT_ALLOWED}: control characters are not allowed"),
        (b"\xff\xfe\x00t", "1:1: error: the file is not UTF-8 text"),
        ("ä: b\nc: ü".encode() + b"\xe4", "2:5: error: the file is not UTF-8 text"),
    ],
)
def test_bytes_that_are_no_text(find: Find, content: bytes, problem: str) -> None:
    assert find(content) == [problem]


def test_a_character_that_yaml_does_not_allow_has_its_place(find: Find) -> None:
    assert find(TABLE.replace("customer: acme", "customer: ßé😀\x07")) == [
        f"2:16: error: {NOT_ALLOWED}: control characters are not allowed"
    ]


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path, {"a.yml": TABLE})
    (tmp_path / "b.yml").symlink_to(tmp_path / "gone")
    assert told(problems_of(tmp_path), tmp_path) == [
        "b.yml:1:1: error: the file cannot be read: No such file or directory"
    ]


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> Iterable[Path]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert told(problems_of(tmp_path)) == ["1:1: error: the routing table cannot be read: Permission denied"]


def test_a_path_that_no_file_can_have(tmp_path: Path) -> None:
    assert told(problems_of(tmp_path / ("x" * 5000))) == [
        "1:1: error: the routing table cannot be read: File name too long"
    ]


# The table of the design


def test_the_whole_design_is_refused_for_an_unknown_key_and_for_nothing_else() -> None:
    path = HERE / "later.yml"
    names = re.findall(r"env\.(\w+)", path.read_text("utf-8"))
    found = problems_of(
        path, {name: ("k1" if re.search("KEY|THEEYE", name) else "s1") * 32 for name in names}
    )
    assert told(found) == [
        "4:17: warning: access_token is for trials only: it expires, and permits far more than starting "
        "one task",
        "26:5: error: unknown key 'follow_result'",
        "69:14: error: payload: 'tests/push-main.json' cannot be read: No such file or directory",
    ]


# Places


def test_a_mistake_inside_an_expression_has_its_column(find: Find) -> None:
    for written, column in [
        ("${{ payload.ref | uper }}", 27),
        ("refs/${{ payload.ref | uper }}", 32),
        ("${{ payload.ref }} ${{ payload.ref | uper }}", 46),
        ('"${{ payload.ref | uper }}"', 28),
        ("'${{ payload.ref | uper }}'", 28),
        ('"ä😀 ${{ payload.ref | uper }}"', 31),
        ("ä😀 ${{ payload.ref | uper }}", 30),
        ("${{ 'ä😀' ~ payload.ref | uper }}", 34),
        ("   ${{ payload.ref | uper }}", 30),
        ("a\tb ${{ payload.ref | uper }}", 31),
    ]:
        found = find(TABLE.replace("${{ payload.ref }}", written))
        assert found == [f"15:{column}: error: unknown filter 'uper'; did you mean upper?"], written


def test_where_the_text_is_not_the_files_the_place_is_the_start(find: Find) -> None:
    for written, line in [
        ("|\n        ${{ payload.ref | uper }}", 15),
        (">-\n        ${{ payload.ref\n        | uper }}", 15),
        ("${{ payload.ref\n        | uper }}", 15),
        ('"a\\t${{ payload.ref | uper }}"', 15),
        ("'it''s ${{ payload.ref | uper }}'", 15),
        ("\n        '${{ payload.ref\n\n        | uper }}'", 16),
    ]:
        column = 9
        found = find(TABLE.replace("${{ payload.ref }}", written))
        assert found == [f"{line}:{column}: error: unknown filter 'uper'; did you mean upper?"], written


@pytest.mark.parametrize("change", ["crlf", "bom", "both", "cr"])
def test_line_ends_and_a_byte_order_mark_move_no_place(find: Find, change: str) -> None:
    text = TABLE.replace("payload.ref", "payload.ref | uper").replace("push", "push #x")
    ends = {"crlf": "\r\n", "both": "\r\n", "cr": "\r", "bom": "\n"}[change]
    text = text.replace("\n", ends)
    text = "\ufeff" + text if change in ("bom", "both") else text
    assert find(text) == [
        "12:17: warning: YAML reads ' #' as a comment: the value ends before it",
        "15:27: error: unknown filter 'uper'; did you mean upper?",
    ]


def test_a_mistake_in_a_path_or_pattern_has_its_column(find: Find) -> None:
    for line, place in [
        ("match: {payload.a-b: x}", "13:21"),
        ('match: {"payload.a-b": x}', "13:22"),
        ('match:\n      "payload[\\"a\\"].b-c": x', "14:7"),
        ("match:\n      payload.ü.a: x", "14:15"),
        ("when: ${{ paylod.x }}", "13:15"),
        ("loop: ' item.x'", "13:13"),
    ]:
        found = find(TABLE.replace("    task: deploy\n", f"    {line}\n    task: deploy\n"))
        assert [each.split(" ")[0] for each in found] == [f"{place}:"], (line, found)


# The scalars of the table are texts


@pytest.mark.parametrize(
    "written", ["on", "off", "yes", "no", "True", "FALSE", "1", "0", "null", "~", '"true"', "'false'"]
)
def test_only_true_and_false_are_booleans(find: Find, written: str) -> None:
    found = find(TABLE.replace("    task: deploy\n", f"    allow_data_urls: {written}\n    task: deploy\n"))
    text = repr(written.strip("\"'"))
    assert found == [f"13:22: error: allow_data_urls: found {text}, expected true or false"]


@pytest.mark.parametrize(
    "written", ["30", "30 s", "-30s", "1e3s", "0x10s", "12:30", "1m30s", "٣s", "30S", "''"]
)
def test_what_is_no_duration(find: Find, written: str) -> None:
    found = find(TABLE.replace("  customer: acme\n", f"  customer: acme\n  timeout: {written}\n"))
    assert len(found) == 1
    assert found[0].startswith("3:12: error: timeout: found ")


def test_an_empty_value_hides_no_other_mistake(find: Find) -> None:
    text = TABLE.replace("event: push", "event:\n    when:").replace("payload.ref", "payload.ref | uper")
    assert find(text) == [
        "12:11: error: event has no value",
        "13:10: error: when has no value",
        "16:27: error: unknown filter 'uper'; did you mean upper?",
    ]


@pytest.mark.parametrize(
    ("keys", "also"),
    [
        *((f"bearer_token: ${{{{ env.TOKEN }}}}\n    {key}:", [])
          for key in ("header", "event", "action", "delivery_id", "dedupe", "allow_unsigned")),
        ("bearer_token:", []),
        ("basic_auth:", []),
        ("basic_auth: {username: bob, password: }", []),
        ("basic_auth: {password: '${{ env.PASSWORD }}', username: }", []),
        ("any_of:", []),
        ("token:", ["token needs header"]),
        ("token: ${{ env.TOKEN }}\n    header:", []),
        ("secret:", ["secret needs signature"]),
    ],
)  # fmt: skip
def test_an_empty_value_of_a_source_makes_no_more_seem_wrong(find: Find, keys: str, also: list[str]) -> None:
    found = find(TABLE.replace("  github:\n", f"  alerts:\n    type: generic\n    {keys}\n  github:\n"))
    key = re.findall(r"(\w+):", keys)[-1]
    assert sorted(line.partition(" error: ")[2] for line in found) == sorted([f"{key} has no value", *also])


# Secrets

#: What people write where a secret should stand. LITERAL is the secret.
SPELLINGS = (
    "LITERAL", '"LITERAL"', "'LITERAL'", "[LITERAL]", "[ '${{ env.TOKEN }}', LITERAL ]", "{LITERAL}",
    "{a: LITERAL}", "*LITERAL", "&LITERAL", "&LITERAL x", "!LITERAL", "!LITERAL x", "!!LITERAL x",
    "| \n        LITERAL", "> \n        LITERAL", '"LITERAL', "'LITERAL", "LITERAL: x", "x: LITERAL",
    "LITERAL #x", "LITERAL # x", "LITERAL:", "@LITERAL", "`LITERAL", "%LITERAL", "{{ LITERAL }}",
    "${LITERAL}", "$LITERAL", "${{ LITERAL }}", "${{ 'LITERAL' }}", "LITERAL${{ env.TOKEN }}",
    "${{ env.TOKEN }}LITERAL", "${{ env.TOKEN LITERAL", "${{ LITERAL", "[LITERAL", "{LITERAL", "- LITERAL",
    "\n        - LITERAL", "\n        - LITERAL: x", "\n        LITERAL", "\n        LITERAL: x",
    "\tLITERAL", "LITERAL\n        x", '"LITERAL\\q"', "LITERAL\x07", "? LITERAL", "env.LITERAL",
    "${{ env.LITERAL.x }}", "<<: LITERAL",
)  # fmt: skip


@pytest.mark.parametrize(
    "key",
    [

        "secret", "token", "bearer_token", "secert", "hmac", "url_token", "signature", "basic_auth",
        "any_of: {secret", "any_of: {basic_auth: {username: bob, password",
        "basic_auth: {username: bob, password", "basic_auth: {user: bob, pasword", "secret_key",
        "secretkey", "access_token", "tasks", "key",
    ],
)  # fmt: skip
@pytest.mark.slow_unless(
    key=["secret", "secert", "secret_key", "signature", "tasks",
         "any_of: {basic_auth: {username: bob, password"],
)  # fmt: skip
def test_no_message_holds_a_literal(tmp_path: Path, key: str) -> None:
    closing = "}" * key.count("{")
    config = tmp_path / "table.yml"
    for spelling in SPELLINGS:
        value = spelling.replace("LITERAL", f"{MARK}0123456789")
        written = f"{key}: {value}{closing}\n"
        for text in (
            TABLE.replace("    secret: ", f"    {written}    secret: "),
            TABLE.replace("    secret: ${{ env.GITHUB_SECRET }}\n", f"    {written}"),
            TABLE.replace("    secret_key: ${{ env.DEPLOY_KEY }}\n", f"    {written}"),
            TABLE.replace("  customer: acme\n", f"  customer: acme\n  {written}"),
            TABLE.replace("    event: push\n", f"    {written}"),
        ):
            config.write_text(text, "utf-8")
            with pytest.raises(ConfigError) as caught:
                load(config, Environment(ENVIRONMENT), TYPES)
            shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.problems)
            assert MARK not in shown, (text, shown)


def test_no_message_holds_what_a_variable_holds(tmp_path: Path) -> None:
    config = tmp_path / "table.yml"
    for name in ("SHORT_KEY", "NEWLINE_KEY", "HTTP_URL", "UNREADABLE", "TOKEN", "OTHER_KEY"):
        for text in (
            TABLE.replace("DEPLOY_KEY", name),
            TABLE.replace("acme", f"acme\n  url: ${{{{ env.{name} }}}}"),
            TABLE.replace("id: 5f3c9a7be4b0a1c2d3e4f501", f"id: ${{{{ env.{name} }}}}"),
        ):
            config.write_text(text, "utf-8")
            shown = "\n".join(map(str, problems_of(config)))
            assert MARK not in shown
            assert "kkk" not in shown
            assert "ooo" not in shown


@pytest.mark.parametrize(
    ("place", "line", "message", "hint"),
    [
        ("route", "branches: [main]", "unknown key 'branches'", "match: {payload.ref: refs/heads/main}"),
        ("route", "types: [opened]", "unknown key 'types'", "event: pull_request.opened"),
        ("route", "paths: [src/*]", "unknown key 'paths'", "{added,modified,removed}[*]: src/*"),
        ("route", "receiver: team", "unknown key 'receiver'", "write task:"),
        ("route", "group_by: [x]", "unknown key 'group_by'", "write concurrency: {group: …}"),
        ("route", "with_items: [x]", "unknown key 'with_items'", "write loop: payload.alerts"),
        ("route", "match: {payload.sender.login: !dependabot[bot]}", "scanning a tag", "write {not: …}"),
        ("source", "type: alertmanager\n    dedupe: false", "dedupe: found 'false'", "write dedupe: off"),
        ("source", "secret_file: /run/marked", "unknown key 'secret_file'; did you mean secret?",
         "write secret: ${{ env.GITHUB_SECRET }} and set the variable GITHUB_SECRET_FILE to the path"),
        ("source", "any_of: {token_file: /run/marked}", "unknown key 'token_file'; did you mean token?",
         "set the variable GITHUB_TOKEN_FILE to the path"),
    ],
)  # fmt: skip
def test_a_key_or_value_of_another_tool_has_what_to_write(
    tmp_path: Path, place: str, line: str, message: str, hint: str
) -> None:
    before = "    event: push\n" if place == "route" else "    secret: ${{ env.GITHUB_SECRET }}\n"
    kept = before if place == "route" else ""
    (tmp_path / "table.yml").write_text(TABLE.replace(before, f"{kept}    {line}\n"), "utf-8")
    found = problems_of(tmp_path / "table.yml")
    (problem,) = [each for each in found if message in each.message]
    assert problem.hint is not None and hint in problem.hint
    assert not any("marked" in str(each) or "literal" in each.message for each in found)


def test_the_line_to_write_names_a_variable_that_can_be_written(tmp_path: Path) -> None:
    config = tmp_path / "table.yml"
    for name in ("github", "my-hub", "9lives", "grün", "a b"):
        table = TABLE.replace("  github:\n", f"  {name}:\n    type: github\n")
        table = table.replace("source: github", f"source: {name}")
        config.write_text(table.replace("${{ env.GITHUB_SECRET }}", MARK), "utf-8")
        literal = next(each for each in problems_of(config) if "literal" in each.message)
        assert literal.hint is not None
        line = re.search(r"write secret: (.*) and set the variable (\w+)", literal.hint)
        assert line is not None
        config.write_text(table.replace("${{ env.GITHUB_SECRET }}", line[1]), "utf-8")
        assert [
            each
            for each in problems_of(config, {**ENVIRONMENT, line[2]: "a-secret"})
            if "secret" in each.message
        ] == []


@pytest.mark.parametrize(
    "line", ["    secret: ${{ env.GITHUB_SECRET }}", "    secret_key: ${{ env.DEPLOY_KEY }}"]
)
def test_an_unset_variable_is_a_warning_unless_it_is_required(find: Find, line: str) -> None:
    name = line.rpartition("env.")[2].removesuffix(" }}")
    text = TABLE.replace(name, "UNSET")
    place = f"{TABLE.splitlines().index(line) + 1}:{line.index('$') + 1}"
    assert find(text) == [f"{place}: error: the variable UNSET is not set"]
    assert find(text, require_env=False) == [f"{place}: warning: the variable UNSET is not set"]


def test_unset_variables_are_all_warnings_where_they_are_not_required(find: Find) -> None:
    text = TABLE.replace("acme", "${{ env.A }}\n  url: ${{ env.B }}")
    text = text.replace("id: 5f3c9a7be4b0a1c2d3e4f501", "id: ${{ env.C }}").replace("DEPLOY_KEY", "D")
    text = text.replace(
        "    secret: ${{ env.GITHUB_SECRET }}\n", "    secret: [ '${{ env.E }}', '${{ env.F }}' ]\n"
    )
    basic_auth = "basic_auth: {username: '${{ env.G }}', password: '${{ env.H }}'}"
    text = text.replace("tasks:\n", f"  alerts:\n    type: alertmanager\n    {basic_auth}\ntasks:\n")
    text += "  - {source: alerts, task: deploy}\n"
    found = find(text, require_env=False)
    assert [line.split(": ")[1:] for line in found] == [
        ["warning", f"the variable {name} is not set"] for name in "ABEFGHCD"
    ]
    assert len(find(text)) == 8


def test_a_file_of_a_variable_that_cannot_be_read_is_an_error_even_where_none_is_required(find: Find) -> None:
    text = TABLE.replace("GITHUB_SECRET", "UNREADABLE")
    message = "the file that UNREADABLE_FILE names cannot be read: No such file or directory"
    assert find(text, require_env=False) == [f"5:13: error: {message}"]


def test_the_same_key_of_an_unset_variable_on_two_routes_is_one_setting(find: Find) -> None:
    route = (
        "  - source: github\n    task: 5f3c9a7be4b0a1c2d3e4f502\n    secret_key: ${{ env.UNSET }}\n    name: "
    )
    found = find(f"{TABLE}{route}a\n{route}b\n", require_env=False)
    assert [line.split(": ")[1] for line in found] == ["warning", "warning"]


# Whatever stands there, it ends soon and with a ConfigError

LONG_TEXT = "x" * 1_000_000

FILES = {
    "brackets": "[" * 1_000_000,
    "braces": "{" * 1_000_000,
    "braces with keys": "{a: " * 250_000,
    "dashes": "- " * 500_000,
    "question marks": "? " * 500_000,
    "nested lines": "".join(f"{' ' * depth}a:\n" for depth in range(1000)),
    "nested to the limit": "a: " + "[" * MAX_DEPTH + "]" * MAX_DEPTH,
    "one long value": f"a: {LONG_TEXT}",
    "one long key": f"{LONG_TEXT}: a",
    "one long quote": f'a: "{LONG_TEXT}"',
    "one long comment": f"#{LONG_TEXT}",
    "one long name": TABLE.replace("customer: acme", f"customer: acme\n  {LONG_TEXT[:1000]}: x"),
    "many tabs": "\t" * 1_000_000,
    "many line ends": "\r\n" * 500_000,
    "many documents": "---\n" * 250_000,
    "many anchors": "".join(f"a{one}: &a{one} [*a{one - 1}, *a{one - 1}]\n" for one in range(1, 500)),
    "a doubled key after many": "".join(f"a{one}: b\n" for one in range(30_000)) + "a29999: b\n" * 30_000,
    "many unknown keys": TABLE + "".join(f"    a{number}: b\n" for number in range(5000)),
    "a long expression": TABLE.replace("payload.ref", "payload." + "a." * 400_000 + "b"),
    "a deep expression": TABLE.replace("payload.ref", "(" * 2000 + "1" + ")" * 2000),
    "a long number": TABLE.replace("payload.ref", "1" * 5000),
    "many expressions": TABLE.replace("${{ payload.ref }}", "${{ payload.ref }}" * 40_000),
    "open expressions": TABLE.replace("${{ payload.ref }}", "${{" * 300_000),
    "a long glob": TABLE.replace("event: push", "event: '" + "*a" * 400_000 + "'"),
    "a long path": TABLE.replace("task: deploy", "match:\n      ? payload" + ".a" * 400_000 + "\n      : x"),
    "a long url": TABLE.replace("acme", f"acme\n  url: ftp://{LONG_TEXT}"),
    "a long duration": TABLE.replace("acme", f"acme\n  timeout: {'1' * 1_000_000}s"),
    "a long variable": TABLE.replace("acme", "${{" + " " * 1_000_000 + "env.X"),
    "many blanks": TABLE + "  -\n" * 20_000,
}  # fmt: skip


@pytest.mark.timeout(15)
@pytest.mark.parametrize("name", FILES)
def test_no_file_takes_long(find: Find, name: str) -> None:
    assert any(": error: " in line for line in find(FILES[name]))


def test_mappings_and_lists_stand_in_each_other_to_a_depth(find: Find) -> None:
    above = 4  # the table, its routes, the route, its task_arguments
    for brackets, wrong in ((MAX_DEPTH - above, []), (MAX_DEPTH - above + 1, ["nested more than 40 deep"])):
        found = find(TABLE.replace("${{ payload.ref }}", "[" * brackets + "x" + "]" * brackets))
        assert [line.partition(" error: ")[2] for line in found] == wrong


def test_of_many_names_some_are_listed(tmp_path: Path) -> None:
    sources = "".join(
        f"  s{number:03}: {{type: github, secret: '${{{{ env.TOKEN }}}}'}}\n" for number in range(600)
    )
    config = tmp_path / "table.yml"
    config.write_text(
        TABLE.replace("  github:\n", f"{sources}  github:\n").replace("source: github", "source: gone")
    )
    (problem,) = problems_of(config)
    assert problem.message == "unknown source 'gone'"
    assert problem.hint == f"sources: github, {', '.join(f's{number:03}' for number in range(19))}, …"


def test_literal_arguments_that_are_too_long_for_the_agent(find: Find) -> None:
    """One at its own place, several at that of all."""
    part, last = "x" * 9_990, "      - ${{ payload.ref }}\n"
    assert TABLE.endswith(last)
    table, reason = TABLE.removesuffix(last), "bytes of shell text, but at most 120,000 are allowed"

    (found,) = find(table + "      - [" + ", ".join([part] * 13) + "]\n")
    assert found.startswith(f"15:9: error: argument 1: 129,912 {reason}")
    (found,) = find(table + f"      - {part}\n" * 13)
    assert found.startswith(f"15:7: error: the arguments together: 129,908 {reason}")
    assert find(table + f"      - {part}\n" * 12) == []


def test_arguments_of_on_dead_that_the_agent_cannot_run(find: Find) -> None:
    on_dead = "on_dead: {task: deploy, task_arguments: ['data:${{ dead }},x', 'data:,${{ dead }}']}\n"
    (found,) = find(TABLE + on_dead)
    assert found.startswith("16:64: error: argument 2: it begins like a data URL (data:…,)")


def test_a_text_with_expressions_has_a_longest_length(find: Find) -> None:
    expression = "${{ payload.ref }}"
    longest = expression + "x" * (TEXT_LENGTH_LIMIT - len(expression))
    assert find(TABLE.replace(expression, longest)) == []
    assert find(TABLE.replace(expression, longest + "x")) == [
        "15:9: error: found 10,001 characters, expected at most 10,000"
    ]
    assert find(TABLE.replace(expression, "x" * 3 * TEXT_LENGTH_LIMIT)) == []


KEYS = sorted(
    {
        "theeye", "sources", "tasks", "routes", "customer", "url", "timeout", "retry", "for",
        "longest_wait", "github", "alerts", "type", "secret", "token", "bearer_token", "basic_auth",
        "username", "password", "any_of", "allow_unsigned", "dedupe", "header", "event", "action",
        "delivery_id", "id", "secret_key", "arguments", "arguments_type", "on_unknown", "name", "source",
        "match", "when", "loop", "task", "task_arguments", "allow_data_urls", "not", "regex",
        "payload.ref", "item.x", "rate", "tests", "payload", "expect", "error",
        "headers", "received_at", "<<", "", "secert", "taks",
    }
)  # fmt: skip
PIECES = (
    "", "acme", "github", "generic", "alertmanager", "deploy", "true", "null", "5", "30s", "off", "hold",
    "push", "*", "5f3c9a7be4b0a1c2d3e4f501", "${{ env.TOKEN }}", "${{ env.DEPLOY_KEY }}",
    "${{ payload.ref }}", "${{ item }}", "${{", "}}", "${{ 'a' ~ 1 }}", "payload.ref", "payload.commits",
    "https://theeye.example", "http://[", "(", "\\", "[*]", "a: b", "a #b", "\x00", "\n", "\u2028", "é😀",
    "{%", "{#", "'", '"', "x"* 300, "\ud7ff", "\ufffd",
)  # fmt: skip

SCALARS = st.sampled_from(PIECES) | st.text(max_size=12) | st.booleans() | st.none() | st.integers()
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=25,
)
SHAPES = st.dictionaries(st.sampled_from(KEYS), TREES, max_size=7)
SECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "theeye": st.fixed_dictionaries({"customer": SCALARS}, optional={"url": TREES, "retry": TREES}),
        "sources": st.dictionaries(st.sampled_from(["github", "alerts", "generic"]), SHAPES, max_size=3),
        "tasks": st.dictionaries(st.sampled_from(["deploy", "page"]), SHAPES, max_size=2),
        "routes": st.lists(SHAPES, max_size=3),
        "tests": st.lists(SHAPES, max_size=3),
    },
)

fuzz = settings(
    max_examples=examples(120), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@fuzz
@given(st.text() | st.binary())
def test_any_text_gives_a_table_or_problems(find: Find, text: str | bytes) -> None:
    find(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)


@fuzz
@given(TREES | SECTIONS, st.sampled_from(["json", "block", "flow", "quoted"]))
def test_any_tree_gives_a_table_or_problems(find: Find, tree: object, style: str) -> None:
    if style == "json":
        find(json.dumps(tree))
        return
    find(
        yaml.safe_dump(
            tree, default_flow_style=style == "flow", allow_unicode=True, sort_keys=False,
            default_style='"' if style == "quoted" else None,
        )
    )  # fmt: skip


@fuzz
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2000),
            st.integers(0, 30),
            st.sampled_from((*PIECES, *KEYS, ": ", "\n    ", " #", "- ")),
        ),
        min_size=1,
        max_size=4,
    )
)  # fmt: skip
def test_any_change_of_a_table_gives_a_table_or_problems(
    find: Find, changes: list[tuple[int, int, str]]
) -> None:
    text = (HERE / "later.yml").read_text("utf-8")
    for at, cut, piece in changes:
        text = text[:at] + piece + text[at + cut :]
    find(text)


@fuzz
@given(
    st.sampled_from([path for path in BAD if not path.with_suffix(".txt").exists()]),
    st.integers(0, 3000),
    st.integers(0, 40),
)
def test_any_cut_of_a_bad_table_shows_no_literal(find: Find, path: Path, at: int, cut: int) -> None:
    # A literal at a place that shows short texts is long enough to stay hidden after any cut.
    text = path.read_text("utf-8")
    text = text[text.index("\n\n") :]
    found = find(text[:at] + text[at + cut :])
    assert "hunter2-marked" not in "\n".join(found)


# Problems


def test_problems_are_sorted_by_file_and_place_and_said_once() -> None:
    problems = Problems()
    places = [Place("b.yml", 1, 1), Place("a.yml", 10, 1), Place("a.yml", 9, 20), Place("a.yml", 9, 3)]
    for place in [*places, *places]:
        problems.warning(place, "odd", "leave it")
    before = problems.has_errors
    problems.error(places[0], "wrong")
    assert (before, problems.has_errors) == (False, True)
    assert [str(problem) for problem in problems.sorted()] == [
        "a.yml:9:3: warning: odd\n    hint: leave it",
        "a.yml:9:20: warning: odd\n    hint: leave it",
        "a.yml:10:1: warning: odd\n    hint: leave it",
        "b.yml:1:1: warning: odd\n    hint: leave it",
        "b.yml:1:1: error: wrong",
    ]
