"""Tables without a mistake: what they compile to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bridge.config.load import Loaded, load
from bridge.core.errors import ConfigError
from bridge.core.event import JSON, Event, Headers
from bridge.core.problem import Severity
from bridge.core.retry import RetryPolicy
from bridge.core.secrets import Secret
from bridge.core.task import OnUnknown, Rate
from bridge.core.task_arguments import ArgumentsType
from bridge.expressions.expression import Template
from bridge.process.environment import Environment
from bridge.routing.match import Condition, EventCheck, Glob, Literal, Regex
from bridge.routing.route import Once, Route
from bridge.routing.routing_table import RoutingTable
from bridge.sources.base.discovery import discover
from bridge.sources.base.proofs import BasicCredentials, HmacSignature, UrlToken
from bridge.sources.base.source_type import Options
from bridge.theeye.request import TheEye

TYPES = discover()
ID = "5f3c9a7be4b0a1c2d3e4f501"
OTHER_ID = "5f3c9a7be4b0a1c2d3e4f502"
KEY = "k1" * 32

ENVIRONMENT = {
    "SECRET": "marked-secret",
    "OLD_SECRET": "marked-old-secret",
    "TOKEN": "marked-token",
    "PASSWORD": "marked-password",
    "KEY": KEY,
    "CUSTOMER": "acme inc",
    "URL": "https://theeye.example/",
    "ID": ID,
}

HEAD = "theeye: {customer: acme}\n"
GITHUB = 'sources: {github: {secret: "${{ env.SECRET }}"}}\n'
DEPLOY = f'tasks: {{deploy: {{id: {ID}, secret_key: "${{{{ env.KEY }}}}"}}}}\n'
START = HEAD + GITHUB + DEPLOY

#: Loads a table's text, which must have neither a mistake nor a warning.
Table = Callable[[str], RoutingTable]


ROUTE = "routes:\n  - source: github\n    task: deploy\n"

#: Warnings about tables that are odd on purpose.
EXPECTED = (
    "no routes|is (?:text: only|plain text)|no known event|no route runs|no known .* has|ends in a line break"
)


def load_all(config: Path, environment: Mapping[str, str] = ENVIRONMENT) -> Loaded:
    return load(config, Environment(environment), TYPES)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    def table(text: str) -> RoutingTable:
        config = tmp_path / "table.yml"
        config.write_text(text, "utf-8")
        loaded = load_all(config)
        odd = [problem for problem in loaded.problems if not re.search(EXPECTED, problem.message)]
        assert [str(problem) for problem in odd] == []
        return loaded.table

    return table


@pytest.fixture
def route(table: Table) -> Callable[[str], Route]:
    """The one route of the given lines, of a source github and a task deploy."""

    def route(lines: str) -> Route:
        text = "".join(f"    {line}\n" for line in lines.splitlines())
        return table(f"{START}routes:\n  - source: github\n    task: deploy\n{text}").routes[0]

    return route


def push(payload: JSON) -> Event:
    return Event("github", "push", None, "1", Headers(), {}, payload, 0.0)


def arguments(route: Route, payload: JSON = None) -> list[JSON]:
    scope = push(payload).scope
    return [argument.build(scope) for argument in route.arguments]


# The whole


def test_the_smallest_table_of_the_design() -> None:
    path = Path(__file__).parents[2] / "config" / "good" / "smallest.yml"
    loaded = load_all(path, {"GITHUB_WEBHOOK_SECRET": "marked-secret", "DEPLOY_TASK_KEY": KEY})
    assert loaded.problems == ()
    assert loaded.table.theeye == TheEye("acme", "https://api.theeye.io", 30.0)
    assert loaded.table.retry == RetryPolicy(24 * 3600.0, 15 * 60.0)
    assert [(name, source.type.name, source.dedupe) for name, source in loaded.table.sources.items()] == [
        ("github", "github", None)
    ]
    (route,) = loaded.table.routes
    assert route.name == "github push 5f3c9a7be4b0a1c2d3e4f501"
    assert route.task is loaded.table.tasks[ID]
    payload = {
        "ref": "refs/heads/main",
        "after": "abc",
        "repository": {"full_name": "acme/api"},
        "pusher": {"name": "bob"},
    }
    (job,) = loaded.table.jobs_for(push(payload)).jobs
    assert job.arguments == ("abc", "acme/api", "bob")
    assert loaded.table.jobs_for(push({**payload, "ref": "refs/heads/other"})).jobs == ()


def test_with_an_access_token_a_task_needs_no_key(tmp_path: Path) -> None:
    (tmp_path / "table.yml").write_text(
        f"""
theeye:
  customer: acme
  access_token: ${{{{ env.THEEYE_TOKEN }}}}
sources:
  github: {{secret: "${{{{ env.GITHUB_SECRET }}}}"}}
tasks:
  named: {{id: {ID}}}
routes:
  - {{source: github, task: named}}
  - {{source: github, task: {ID[:-1]}f}}
  - {{source: github, task: {ID[:-1]}e, secret_key: "${{{{ env.KEY }}}}"}}
""",
        "utf-8",
    )
    variables = {"THEEYE_TOKEN": "marked-token", "GITHUB_SECRET": "marked-secret", "KEY": KEY}
    loaded = load_all(tmp_path / "table.yml", variables)

    assert [str(problem.severity) for problem in loaded.problems] == ["warning"]
    assert "access_token is for trials only" in str(loaded.problems[0])
    assert loaded.table.theeye.access_token == Secret("marked-token")
    assert Secret("marked-token") in loaded.secrets
    keys = [route.task.secret_key for route in loaded.table.routes]
    assert keys == [None, None, Secret(KEY)]


def test_the_table_that_comes_with_the_project() -> None:
    config = Path(__file__).parents[3] / "config"
    loaded = load(config, Environment({}), TYPES, require_env=False)
    assert {str(problem.severity) for problem in loaded.problems} == {"warning"}
    assert loaded.table.theeye.customer == "acme"


def test_an_unset_variable_that_is_no_secret_is_shown_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "table.yml").write_text("theeye: {customer: '${{ env.THEEYE_CUSTOMER }}'}\n", "utf-8")
    loaded = load(tmp_path, Environment({}), TYPES, require_env=False)
    assert loaded.table.theeye.customer == "<THEEYE_CUSTOMER>"


@pytest.mark.parametrize(("secret", "warns"), [("1234567", True), ("12345678", False)])
def test_a_secret_that_is_easily_guessed_is_warned_about(tmp_path: Path, secret: str, warns: bool) -> None:
    table = "theeye: {customer: acme}\nsources: {github: {secret: '${{ env.SHORT }}'}}\n"
    (tmp_path / "table.yml").write_text(table, "utf-8")
    messages = [problem.message for problem in load(tmp_path, {"SHORT": secret}, TYPES).problems]
    assert ("the secret in SHORT has 7 characters" in messages) is warns


#: Texts that print nothing: each is empty once blanks, control and zero-width characters are stripped.
BLANKS = (
    " ",
    "\t",
    " \t \n",
    "\n\n",
    "\r",
    "\u00a0",
    "\u3000",
    "\u2028",
    "\u200b",
    "\ufeff",
    "\x00",
    "\x1b",
    "\x7f",
)

#: Every place of the table that takes a secret, written for the variable BLANK.
SECRET_PLACES = {
    "secret": "sources: {github: {secret: '${{ env.BLANK }}'}}",
    "one of several": "sources: {github: {secret: ['${{ env.SECRET }}', '${{ env.BLANK }}']}}",
    "token": "sources: {gitlab: {token: '${{ env.BLANK }}'}}",
    "bearer_token": "sources: {alertmanager: {bearer_token: '${{ env.BLANK }}'}}",
    "basic_auth": "sources: {alertmanager: {basic_auth: {username: a, password: '${{ env.BLANK }}'}}}",
    "url_token": "sources: {dockerhub: {url_token: '${{ env.BLANK }}'}}",
    "any_of": "sources: {generic: {any_of: {bearer_token: '${{ env.BLANK }}'}}}",
    "secret_key": f"tasks: {{deploy: {{id: {ID}, secret_key: '${{{{ env.BLANK }}}}'}}}}",
}


@pytest.mark.parametrize("blank", BLANKS)
@pytest.mark.parametrize("place", SECRET_PLACES)
def test_a_blank_secret_is_a_mistake(tmp_path: Path, place: str, blank: str) -> None:
    (tmp_path / "table.yml").write_text(HEAD + SECRET_PLACES[place] + "\n", "utf-8")
    assert blank_ones(tmp_path, {"SECRET": "marked-secret", "BLANK": blank})


def test_a_blank_access_token_is_a_mistake(tmp_path: Path) -> None:
    table = "theeye: {customer: acme, access_token: '${{ env.BLANK }}'}\n"
    (tmp_path / "table.yml").write_text(table, "utf-8")
    assert blank_ones(tmp_path, {"BLANK": " "})


def test_a_blank_file_of_a_secret_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "table.yml").write_text(HEAD + SECRET_PLACES["secret"] + "\n", "utf-8")
    (tmp_path / "secret").write_text(" \n\n")
    assert blank_ones(tmp_path, {"BLANK_FILE": str(tmp_path / "secret")})


def blank_ones(config: Path, environment: Mapping[str, str]) -> bool:
    """Whether it is an error that names the variable, also where unset variables are only warnings."""
    for require_env in (True, False):
        with pytest.raises(ConfigError) as caught:
            load(config, Environment(environment), TYPES, require_env=require_env)
        messages = [str(each.message) for each in caught.value.problems if each.severity is Severity.ERROR]
        if messages != ["the secret in BLANK is blank"]:
            return False
    return True


def test_a_secret_with_blanks_around_it_is_not_blank(tmp_path: Path) -> None:
    (tmp_path / "table.yml").write_text(HEAD + SECRET_PLACES["secret"] + "\n", "utf-8")
    for secret in (" x", "x ", "\udcff", "ü", "\u200bx"):
        assert load(tmp_path, {"BLANK": secret}, TYPES).secrets == (Secret(secret),)


def test_two_sources_with_one_variable_for_their_tasks_are_warned_about(tmp_path: Path) -> None:
    sources = "sources: {github: {secret: '${{ env.SECRET }}'}, gitlab: {token: '${{ env.TOKEN }}'}}\n"
    routes = "".join(
        f"  - {{source: {name}, task: '${{{{ env.ID }}}}', secret_key: '${{{{ env.KEY }}}}'}}\n"
        for name in ("github", "gitlab")
    )
    (tmp_path / "table.yml").write_text(f"{HEAD}{sources}routes:\n{routes}", "utf-8")
    for environment in (ENVIRONMENT, {}):
        problems = load(tmp_path, Environment(environment), TYPES, require_env=False).problems
        shared = [each for each in problems if "is not set" not in each.message]
        assert [(each.place.line, each.message) for each in shared] == [
            (5, f"a route of source gitlab runs the task of source github, at {tmp_path}/table.yml:4:28")
        ]


#: Secrets that were copied with something around them, and the warning for each.
ODD_SECRETS = {
    "marked-secret\n": "ends with a line break", "marked-secret\r\n \n": "ends with a line break",
    " marked-secret": "begins with a blank", "marked-secret ": "ends with a blank",
    "marked-secret\u00a0": "ends with a blank", "marked\nsecret": "has a line break, a tab or an odd blank",
    '"marked-secret"': "is in quotes", "'marked-secret'": "is in quotes", "“marked-secret”": "is in quotes",
    "${MARKED_SECRET}": "is a variable or a command that was not replaced",
    "$MARKED_SECRET": "is a variable or a command that was not replaced",
    "$(cat marked-secret)": "is a variable or a command that was not replaced",
    "{{ marked.secret }}": "is a variable or a command that was not replaced",
    "<marked-secret>": "is a placeholder in < >",
    "Bearer marked-secret": "begins with Bearer, Basic or Token",
    "sha256=marked-secret": "begins like a signature, with sha…=",
    "GITHUB_SECRET=marked-secret": "begins with the name of a variable and =",
    "export GITHUB_SECRET=marked-secret": "begins with the name of a variable and =",
    "/run/secrets/marked-secret": "is a path", "~/marked/secret": "is a path",
    "changeme": "is a placeholder", "Replace-Me": "is a placeholder", "0" * 64: "is a placeholder",
    "a" * 8: "is a placeholder", "k" * 64: "is a placeholder",
    "marked-secret\u200b": "has an invisible character", "\ufeffmarked-secret": "has an invisible character",
}  # fmt: skip


@pytest.mark.parametrize("place", [place for place in SECRET_PLACES if place != "secret_key"])
def test_a_secret_that_was_copied_with_something_around_it_is_warned_about(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / "table.yml").write_text(HEAD + SECRET_PLACES[place] + "\n", "utf-8")
    for secret, odd in ODD_SECRETS.items():
        found = load(tmp_path, {"SECRET": "marked-secret", "BLANK": secret}, TYPES).problems
        texts = [str(each) for each in found if "routes" not in each.message]
        assert len(texts) == 1, (secret, texts)
        assert f"warning: the secret in BLANK {odd}\n" in texts[0]
        assert "marked" not in texts[0].lower()


@pytest.mark.parametrize(
    "secret",
    ["correct horse battery staple", "tokens are $5", "a=b", "it's", '"a" and "b', "sha256", "x<y>z",
     "whsec_YWJj", "A1B2=", "k" * 63 + "j", "${", "ümläut", "/3tc/q9Zk2a", "changeme-9f3a6c"],
)  # fmt: skip
def test_a_secret_that_only_looks_odd_is_not_warned_about(tmp_path: Path, secret: str) -> None:
    (tmp_path / "table.yml").write_text(HEAD + SECRET_PLACES["secret"] + "\n", "utf-8")
    found = load(tmp_path, {"BLANK": secret.ljust(8, "x")}, TYPES).problems
    assert [str(each) for each in found if "routes" not in each.message] == []


def test_the_name_of_a_file_is_not_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table.yml").write_text(HEAD + SECRET_PLACES["secret"] + "\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    for value, warnings in (("table.yml", 1), ("tables.yml", 0), ("é" * 4000 + "a", 0), ("a\0table.yml", 0)):
        found = load(tmp_path, {"BLANK": value}, TYPES).problems
        assert sum("is a path" in each.message for each in found) == warnings, value[:20]


def test_a_variable_of_a_file_is_not_the_secret(tmp_path: Path) -> None:
    line = SECRET_PLACES["secret"].replace("BLANK", "BLANK_FILE")
    (tmp_path / "table.yml").write_text(HEAD + line + "\n", "utf-8")
    hint = "write env.BLANK: the bridge reads the file that BLANK_FILE names"
    for variables, message in (
        ({}, "the variable BLANK_FILE is not set"),
        ({"BLANK_FILE": "/run/secrets/blank"}, "the value of BLANK_FILE is a path"),
    ):
        found = load(tmp_path, variables, TYPES, require_env=False).problems
        assert [(each.message, each.hint) for each in found if "routes" not in each.message] == [
            (message, hint)
        ]


def test_a_variable_beside_its_file_wins_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "table.yml").write_text(HEAD + SECRET_PLACES["secret"] + "\n", "utf-8")
    (tmp_path / "secret").write_text("of-the-file")
    environment = Environment({"BLANK": "of-the-variable", "BLANK_FILE": str(tmp_path / "secret")})
    found = load(tmp_path, environment, TYPES)
    assert [each.reveal() for each in found.secrets] == ["of-the-variable"]
    assert [each.message for each in found.problems if "routes" not in each.message] == [
        "BLANK and BLANK_FILE are both set: the bridge uses BLANK"
    ]


def test_a_source_and_a_task_with_the_same_secret_are_warned_about(tmp_path: Path) -> None:
    task = "tasks: {t: {id: 5f3c9a7be4b0a1c2d3e4f501, secret_key: '${{ env.TASK }}'}}\n"
    sources = "sources: {github: {secret: '${{ env.A }}'}, gitea: {secret: '${{ env.B }}'}}\n"
    (tmp_path / "table.yml").write_text(f"theeye: {{customer: acme}}\n{sources}{task}")
    for variables, expected in (
        ({"A": KEY, "B": "b-secret", "TASK": KEY}, ["the secret in TASK is also the secret of a source"]),
        ({"A": "a-secret", "B": "a-secret", "TASK": KEY}, []),
    ):
        found = load(tmp_path, variables, TYPES).problems
        assert [each.message for each in found if "secret" in each.message] == expected
        assert KEY not in "".join(map(str, found))


@pytest.mark.parametrize("key", ["0" * 64, "k" * 64])
def test_a_key_of_one_character_is_a_placeholder(tmp_path: Path, key: str) -> None:
    (tmp_path / "table.yml").write_text(HEAD + SECRET_PLACES["secret_key"] + "\n", "utf-8")
    found = [each.message for each in load(tmp_path, {"BLANK": key}, TYPES).problems]
    assert "the secret in BLANK is a placeholder" in found


@pytest.mark.parametrize(
    ("key", "odd"), [(f'"{KEY}"', "is in quotes"), (f"{KEY}\n", "ends with a line break")]
)
def test_a_key_that_was_copied_with_something_around_it_has_one_hint(
    tmp_path: Path, key: str, odd: str
) -> None:
    (tmp_path / "table.yml").write_text(HEAD + SECRET_PLACES["secret_key"] + "\n", "utf-8")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {"BLANK": key}, TYPES)
    assert [each.hint for each in caught.value.problems] == [f"the value in BLANK {odd}"]


def test_what_a_very_short_secret_means_is_said(tmp_path: Path) -> None:
    (tmp_path / "table.yml").write_text(HEAD + SECRET_PLACES["secret"] + "\n", "utf-8")
    hints = {
        secret: [
            each.hint for each in load(tmp_path, {"BLANK": secret}, TYPES).problems if "has" in each.message
        ]
        for secret in ("123", "1234")
    }
    end = "; create one with openssl rand -hex 32"
    assert hints == {
        "123": [f"it is easily guessed and too short to be masked in the log{end}"],
        "1234": [f"it is easily guessed{end}"],
    }


@pytest.mark.parametrize("value", [" ", "1234"])
@pytest.mark.parametrize(
    ("table", "end"),
    [
        (HEAD + SECRET_PLACES["secret"], "; create one with openssl rand -hex 32"),
        (HEAD + SECRET_PLACES["secret_key"], "; copy it from TheEye"),
        ("theeye: {customer: acme, access_token: '${{ env.BLANK }}'}", "; copy it from TheEye"),
    ],
)
def test_the_hint_for_a_weak_secret_says_where_it_comes_from(
    tmp_path: Path, table: str, end: str, value: str
) -> None:
    (tmp_path / "table.yml").write_text(f"{table}\n", "utf-8")
    try:
        found = load(tmp_path, {"BLANK": value}, TYPES).problems
    except ConfigError as error:
        found = tuple(error.problems)
    (hint,) = [each.hint for each in found if "the secret in BLANK" in each.message]
    assert hint is not None and hint.endswith(end)


def test_the_parts_of_theeye(table: Table) -> None:
    text = "theeye:\n  customer: ${{ env.CUSTOMER }}\n  url: ${{env.URL}}\n  timeout: 5s\n"
    found = table(f"{text}  retry: {{for: 7d, longest_wait: 10m}}\n")
    assert found.theeye == TheEye("acme inc", "https://theeye.example", 5.0)
    assert found.retry == RetryPolicy(7 * 86400.0, 600.0)


@pytest.mark.parametrize(
    "url",
    ["http://localhost:8080", "http://127.0.0.1", "http://127.8.9.10:1", "http://[::1]:8080", "https://x.example"],
)  # fmt: skip
def test_an_address_without_tls_must_be_this_machines(table: Table, url: str) -> None:
    assert table(f"theeye: {{customer: acme, url: '{url}'}}").theeye.url == url


def test_a_table_without_routes_is_warned_about(tmp_path: Path) -> None:
    (tmp_path / "table.yml").write_text(START, "utf-8")
    assert [str(problem) for problem in load_all(tmp_path).problems] == [
        f"{tmp_path}:1:1: warning: there are no routes: every webhook is stored and creates no job"
    ]


# Files


def test_sections_may_be_spread_over_files_whose_names_order_the_routes(tmp_path: Path) -> None:
    one = "routes:\n  - {name: %s, source: github, task: deploy}\n"
    files = {
        "20.yaml": one % "third",
        "10-b.yml": one % "second" + "theeye: {timeout: 5s}\n",
        "10-a.yml": one % "first" + GITHUB,
        "90.yml": HEAD,
        "deploy.yml": DEPLOY,
        "zz.yml": one % "last" + "tasks: {}\nsources: {}\n",
        "empty.yml": "",
        "comment.yml": "# nothing\n",
        "notes.txt": "{",
        ".hidden.yml": "{",
        "old.yml.bak": "{",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.yml").write_text("{", "utf-8")
    (tmp_path / "folder.yml").mkdir()
    loaded = load_all(tmp_path)
    assert loaded.problems == ()
    assert [route.name for route in loaded.table.routes] == ["first", "second", "third", "last"]
    assert loaded.table.theeye == TheEye("acme", timeout=5.0)
    assert list(loaded.table.sources) == ["github"]
    assert list(loaded.table.tasks) == [ID]


def test_one_file_of_any_name_is_a_table(tmp_path: Path) -> None:
    config = tmp_path / "routing.conf"
    config.write_text(START, "utf-8")
    assert list(load_all(config).table.tasks) == [ID]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "..data").write_text(START, "utf-8")
    (tmp_path / "table.yml").symlink_to("..data")
    assert list(load_all(tmp_path).table.tasks) == [ID]


@pytest.mark.parametrize("change", ["bom", "crlf", "cr", "indented", "document"])
def test_how_the_file_is_written_changes_nothing(tmp_path: Path, change: str) -> None:
    route = "source: github\n    task: deploy\n    task_arguments:\n      - ${{ payload.ref }}\n"
    text = f"{START}routes:\n  - {route}"
    text = {
        "bom": "\ufeff" + text,
        "crlf": text.replace("\n", "\r\n"),
        "cr": text.replace("\n", "\r"),
        "indented": "".join(f"  {line}\n" for line in text.splitlines()),
        "document": f"%YAML 1.1\n---\n{text}...\n",
    }[change]
    config = tmp_path / "table.yml"
    config.write_bytes(text.encode())
    loaded = load_all(config)
    assert loaded.problems == ()
    assert arguments(loaded.table.routes[0], {"ref": "main"}) == ["main"]


# Scalars


def test_ids_keys_names_and_globs_are_never_numbers(table: Table) -> None:
    for word in (
        "5",
        "007",
        "1e3",
        "0x1F",
        "12:30",
        "1_000",
        "on",
        "no",
        "true",
        "null",
        "~",
        "2026-01-02",
        "-1",
        ".5",
    ):
        found = table(
            f"theeye: {{customer: {word}}}\n{GITHUB}tasks: {{{word}: {{id: 123456789012345678901234, "
            f"secret_key: '${{{{ env.KEY }}}}'}}}}\nroutes:\n"
            f"  - {{source: github, name: {word}, event: {word}, task: {word}}}\n"
        )  # fmt: skip
        (route,) = found.routes
        assert (found.theeye.customer, route.name, route.task.name) == (word, word, word)
        assert route.task.id == "123456789012345678901234"
        assert [check.expected for check in route.checks] == [word]


def test_a_sources_name_may_be_a_number(table: Table) -> None:
    found = table(HEAD + "sources: {5: {type: github, secret: '${{ env.SECRET }}'}}\n" + DEPLOY
                  + "routes: [{source: 5, task: deploy}]\n")  # fmt: skip
    assert list(found.sources) == ["5"]
    assert found.routes[0].source == "5"


#: What YAML would read as a number, a boolean, null or a date, or what looks like it.
TEXTS = (
    "True", "FALSE", "yes", "on", "no", "off", "~", "Null", "012", "+5", "1.5", "1.0", "1e3", "0x1F", "0o7",
    "1_000", ".5", ".inf", ".nan", "12:30", "2026-01-02", "2026-01-02T03:04:05Z", "5s", "=", "٣", "a:b",
    "a#b", "$", "${x}", "123456789012345678901234",
)  # fmt: skip

#: Of these, what a pattern takes for that number, or the same text.
NUMBERS = ("1.5", "1.0", "123456789012345678901234")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True), ("false", False), ("null", None), ("5", 5), ("0", 0), ("-3", -3), ("-0", 0),
        ("123456789012345678", 123456789012345678),
        *((text, text) for text in TEXTS),
        ("a b", "a b"), ("a # b", "a"), ("a\n        b", "a b"), ("- 5", [5]),
        ('"5"', "5"), ("'true'", "true"), ('"null"', "null"), ("''", ""),
        ('"a\\tb"', "a\tb"), ("'it''s'", "it's"),
        ("|\n        5\n", "5\n"), (">-\n        true\n", "true"), ("[]", []), ("{}", {}),
        ("[1, two, [true], {k: null}]", [1, "two", [True], {"k": None}]),
        ("{a: 1, b: {c: '2'}}", {"a": 1, "b": {"c": "2"}}),
        ("${{ 5 }}", 5), ("'${{ 5 }}'", 5), ("'${{ payload.n }}'", 1.5), ("n=${{ payload.n }}", "n=1.5"),
        ("'${{ ''a: b'' }}'", "a: b"), ('"${{ \'a #b\' }}"', "a #b"),
        ("[\"${{ payload.n }}\", '${{ 5 }}']", [1.5, 5]),
        ("'{{ payload.n }}'", "{{ payload.n }}"), ("'{% if %}'", "{% if %}"), ("'{# x #}'", "{# x #}"),
    ],
)  # fmt: skip
def test_an_argument_is_read_from_its_text(route: Callable[[str], Route], written: str, value: JSON) -> None:
    found = arguments(route(f"task_arguments:\n  - {written}"), {"n": 1.5})
    assert found == [value]
    assert type(found[0]) is type(value)


@pytest.mark.parametrize(
    ("written", "kind", "wanted"),
    [
        *((word, Literal, word) for word in ("true", "false", "null", "5", "0", "-1", "5.0", "-0.25")),
        *((word, Glob, f'"{word}"') for word in (*TEXTS, "main", "refs/*") if word not in NUMBERS),
        *((word, Literal, word) for word in NUMBERS),
        ("'5'", Glob, '"5"'), ('"null"', Glob, '"null"'), ("''", Glob, '""'), ("'true'", Glob, '"true"'),
        ("{regex: '^v[0-9]+$'}", Regex, "text with /^v[0-9]+$/"), ("{regex: 5}", Regex, "text with /5/"),
    ],
)  # fmt: skip
def test_a_pattern_is_read_from_its_text(
    route: Callable[[str], Route], written: str, kind: type, wanted: str
) -> None:
    (check,) = route(f"match:\n  payload.x: {written}").checks
    assert isinstance(check, Condition)
    assert isinstance(check.pattern, kind)
    assert (check.subject, check.expected, check.negated) == ("payload.x", wanted, False)


def test_patterns_in_lists_and_under_not(route: Callable[[str], Route]) -> None:
    checks = route(
        "match:\n"
        "  payload.a: [main, 5, {regex: x}]\n"
        "  payload.b: {not: 'dependabot[bot]'}\n"
        "  payload.c: {not: [a, null]}\n"
        "  payload.d: {not: {regex: x}}\n"
        '  payload["e.f"][0][*]: x\n'
        "  headers.Host: x\n"
    ).checks
    assert [(check.subject, check.expected) for check in checks] == [
        ("payload.a", 'any of "main", 5, text with /x/'),
        ("payload.b", 'not "dependabot[bot]"'),
        ("payload.c", 'not any of "a", null'),
        ("payload.d", "not text with /x/"),
        ('payload["e.f"][0][*]', '"x"'),
        ("headers.Host", '"x"'),
    ]


@pytest.mark.parametrize(
    ("written", "wanted"),
    [("push", "push"), ("[push, pull_request.*]", "push or pull_request.*"), ("'*'", "*")],
)
def test_an_event_is_one_or_a_list(route: Callable[[str], Route], written: str, wanted: str) -> None:
    (check,) = route(f"event: {written}").checks
    assert isinstance(check, EventCheck)
    assert check.expected == wanted


def test_the_checks_stand_in_the_order_in_which_they_are_asked(route: Callable[[str], Route]) -> None:
    found = route(
        "when: ${{ payload.n > 1 }}\nloop: payload.items\nmatch: {item.a: x, index: 0}\nevent: push"
    )
    assert [check.subject for check in found.checks] == ["event", "item.a", "index", "when"]
    assert [check.subject for check in found.event_checks] == ["event", "when"]
    assert found.loop is not None
    assert found.loop.text == "payload.items"


def test_booleans(route: Callable[[str], Route]) -> None:
    assert route("allow_data_urls: true").allow_data_urls is True
    assert route("allow_data_urls: false").allow_data_urls is False
    assert route("").allow_data_urls is False


# Sources


def source(table: Table, lines: str, name: str = "source") -> Any:
    text = "".join(f"    {line}\n" for line in lines.splitlines())
    return table(f"{HEAD}sources:\n  {name}:\n{text}").sources[name]


def proofs(source: Any) -> dict[str, list[str | tuple[str, str]]]:
    def shown(secret: Secret | BasicCredentials) -> str | tuple[str, str]:
        if isinstance(secret, BasicCredentials):
            return secret.username, secret.password.reveal()
        return secret.reveal()

    return {one.proof.key: [shown(secret) for secret in one.secrets] for one in source.required}


def test_a_source_is_of_the_type_of_its_name_or_says_another(table: Table) -> None:
    assert source(table, "secret: ${{ env.SECRET }}", "github").type is TYPES["github"]
    found = source(table, "type: github\nsecret: ${{ env.SECRET }}", "alertmanager")
    assert (found.name, found.type, found.any_of, found.options) == (
        "alertmanager", TYPES["github"], False, Options(),
    )  # fmt: skip


def test_one_secret_or_several(table: Table) -> None:
    one = source(table, "type: github\nsecret: '${{env.SECRET}}'")
    assert proofs(one) == {"secret": ["marked-secret"]}
    both = source(table, "type: github\nsecret:\n  - ${{ env.SECRET }}\n  - ${{ env.OLD_SECRET }}")
    assert proofs(both) == {"secret": ["marked-secret", "marked-old-secret"]}


def test_basic_auth_one_or_several(table: Table) -> None:
    one = "basic_auth: {username: bob, password: '${{ env.PASSWORD }}'}"
    assert proofs(source(table, f"type: alertmanager\n{one}")) == {"basic_auth": [("bob", "marked-password")]}
    several = (
        "basic_auth:\n  - {username: 5, password: '${{ env.PASSWORD }}'}\n  - username: ${{ env.CUSTOMER }}\n"
    )
    found = source(table, f"type: alertmanager\n{several}    password: ${{{{ env.TOKEN }}}}")
    assert proofs(found) == {"basic_auth": [("5", "marked-password"), ("acme inc", "marked-token")]}


def test_several_kinds_all_hold_or_any(table: Table) -> None:
    kinds = "{token: '${{ env.TOKEN }}', bearer_token: '${{ env.SECRET }}'}"
    any_of = source(table, f"type: generic\nheader: X-Key\nany_of: {kinds}")
    assert any_of.any_of
    assert proofs(any_of) == {"token": ["marked-token"], "bearer_token": ["marked-secret"]}
    token = "token: ${{ env.TOKEN }}\nbearer_token: ${{ env.SECRET }}"
    all_of = source(table, f"type: generic\nheader: X-Key\n{token}")
    assert not all_of.any_of
    assert proofs(all_of) == proofs(any_of)
    assert [one.proof.header for one in all_of.required] == ["X-Key", "Authorization"]


def test_a_source_without_proof_says_so(tmp_path: Path) -> None:
    (tmp_path / "table.yml").write_text(HEAD + "sources: {generic: {allow_unsigned: true}}\n", "utf-8")
    loaded = load_all(tmp_path)
    assert loaded.table.sources["generic"].required == ()
    assert any("accepts requests from anyone" in problem.message for problem in loaded.problems)


@pytest.mark.parametrize(
    ("lines", "seconds"), [("", 30.0), ("dedupe: 2m", 120.0), ("dedupe: off", None), ('dedupe: "off"', None)]
)
def test_dedupe(table: Table, lines: str, seconds: float | None) -> None:
    found = source(table, f"type: alertmanager\nbearer_token: ${{{{ env.TOKEN }}}}\n{lines}")
    assert found.dedupe == seconds


def test_the_options_of_generic(table: Table) -> None:
    paths = 'event: headers["X-Event"]\naction: query.action\ndelivery_id: payload.ids[0]'
    options = source(table, f"type: generic\nheader: X-Key\ntoken: ${{{{ env.TOKEN }}}}\n{paths}").options
    assert options.header == "X-Key"
    found = [options.event, options.action, options.delivery_id]
    assert [path.text for path in found] == ['headers["X-Event"]', "query.action", "payload.ids[0]"]


@pytest.mark.parametrize(
    ("keys", "signature"),
    [
        ("{header: X-Sig}", HmacSignature("X-Sig")),
        (
            "{header: X-Sig, algorithm: sha512, encoding: base64, prefix: sha512=}",
            HmacSignature("X-Sig", "sha512", "sha512=", "base64"),
        ),
        (
            "{header: 5, timestamp_header: X-Time}",
            HmacSignature("5", timestamp_header="X-Time", signed="{ts}.{body}"),
        ),
        (
            "{header: X-Sig, timestamp_header: X-Time, signed: 'v0:{ts}:{body}'}",
            HmacSignature("X-Sig", timestamp_header="X-Time", signed="v0:{ts}:{body}"),
        ),
        ("{header: X-Sig, signed: '{body}'}", HmacSignature("X-Sig")),
    ],
)
def test_how_generic_signs(table: Table, keys: str, signature: HmacSignature) -> None:
    found = source(table, f"type: generic\nsecret: ${{{{ env.SECRET }}}}\nsignature: {keys}")
    assert found.options.signature == signature
    assert [one.proof for one in found.required] == [signature]


@pytest.mark.parametrize(
    ("keys", "signature"),
    [
        ("", HmacSignature("X-Grafana-Alerting-Signature")),
        ("signature: {}", HmacSignature("X-Grafana-Alerting-Signature")),
        ("signature: {header: X-Ours}", HmacSignature("X-Ours")),
        (
            "signature: {timestamp_header: X-Time}",
            HmacSignature("X-Grafana-Alerting-Signature", timestamp_header="X-Time", signed="{ts}:{body}"),
        ),
    ],
)
def test_what_is_usual_for_a_type_need_not_be_said(table: Table, keys: str, signature: HmacSignature) -> None:
    found = source(table, f"type: grafana\nsecret: ${{{{ env.SECRET }}}}\n{keys}")
    assert [one.proof for one in found.required] == [signature]


def test_how_it_signs_may_stand_beside_any_of(table: Table) -> None:
    keys = "signature: {header: X-Sig}\nany_of:\n  secret: ${{ env.SECRET }}\n  url_token: ${{ env.TOKEN }}"
    found = source(table, f"type: generic\n{keys}")
    assert [one.proof for one in found.required] == [HmacSignature("X-Sig"), UrlToken()]


def test_topics_are_no_secrets(table: Table, tmp_path: Path) -> None:
    topic = "arn:aws:sns:us-east-1:123456789012:alarms"
    text = f"{HEAD}sources: {{sns: {{topic_arns: ['{topic}', '${{{{ env.TOPIC }}}}']}}}}\n"
    (tmp_path / "table.yml").write_text(text, "utf-8")
    other = "arn:aws-cn:sns:cn-north-1:123456789012:alarms.fifo"
    loaded = load_all(tmp_path / "table.yml", {**ENVIRONMENT, "TOPIC": other})
    assert [one.secrets for one in loaded.table.sources["sns"].required] == [(topic, other)]
    assert loaded.secrets == ()
    unset = load(tmp_path / "table.yml", Environment({}), TYPES, require_env=False)
    assert [one.secrets for one in unset.table.sources["sns"].required] == [(topic,)]


# Tasks and routes


def test_a_task_by_name(table: Table) -> None:
    text = "arguments: [repository, null, commit-id], arguments_type: text, on_unknown: hold"
    found = table(
        f"{HEAD}{GITHUB}tasks: {{deploy: {{id: {ID}, secret_key: '${{{{ env.KEY }}}}', {text}}}}}\n"
    )
    task = found.tasks[ID]
    assert (task.id, task.name, task.secret_key) == (ID, "deploy", Secret(KEY))
    assert task.arguments == ("repository", None, "commit-id")
    assert (task.arguments_type, task.on_unknown) == (ArgumentsType.TEXT, OnUnknown.HOLD)


def test_a_task_of_a_route(table: Table) -> None:
    route = f"{{source: github, task: {OTHER_ID}, secret_key: '${{{{ env.KEY }}}}', arguments_type: json"
    found = table(
        f"{START}routes:\n  - {route}, name: a}}\n  - {{source: github, task: {OTHER_ID}, name: b}}\n"
    )
    assert {route.task.name for route in found.routes} == {OTHER_ID}
    assert found.routes[0].task is found.routes[1].task is found.tasks[OTHER_ID]
    assert found.tasks[OTHER_ID].arguments_type is ArgumentsType.JSON
    assert found.tasks[OTHER_ID].arguments is None
    assert found.tasks[OTHER_ID].on_unknown is OnUnknown.RETRY


def test_one_id_with_equal_settings_is_one_task(table: Table) -> None:
    route = "source: github, secret_key: '${{ env.KEY }}', arguments_type: legacy, on_unknown: retry"
    both = [f"  - {{{route}, name: {name}, task: {task}}}\n" for name, task in (("a", ID), ("b", ID.upper()))]
    found = table(f"{START}routes:\n{''.join(both)}")
    assert [route.task.name for route in found.routes] == ["deploy", "deploy"]
    assert list(found.tasks) == [ID]


def test_an_id_may_come_from_a_variable(table: Table) -> None:
    found = table(f"{START}routes:\n  - {{source: github, task: '${{{{ env.ID }}}}'}}\n")
    assert found.routes[0].task is found.tasks[ID]


def test_a_name_of_24_hex_digits_under_tasks_must_be_its_own_id(table: Table, tmp_path: Path) -> None:
    """Else a route that means the other task by its id would run this one."""
    tasks = f"tasks: {{{ID}: {{id: {ID}, secret_key: '${{{{ env.KEY }}}}'}}}}\n"
    found = table(f"{HEAD}{GITHUB}{tasks}routes: [{{source: github, task: {ID}}}]\n")
    assert found.routes[0].task.id == ID
    other = f"{HEAD}{GITHUB}{tasks}".replace(f"{{{ID}:", f"{{{OTHER_ID}:")
    (tmp_path / "table.yml").write_text(other, "utf-8")
    with pytest.raises(ConfigError, match="looks like another task's id"):
        load_all(tmp_path / "table.yml")


@pytest.mark.parametrize("written", ["True", "yes", "~", "{not: NO}", "[main, Off]"])
def test_yamls_other_spellings_of_booleans_and_null_are_warned_about(tmp_path: Path, written: str) -> None:
    (tmp_path / "table.yml").write_text(START + ROUTE + f"    match: {{payload.x: {written}}}\n", "utf-8")
    (warning,) = load_all(tmp_path).problems
    assert "is text: only true, false, null and numbers are not text" in warning.message


def test_a_pattern_that_ends_in_a_line_break_is_warned_about(tmp_path: Path) -> None:
    (tmp_path / "table.yml").write_text(
        START + ROUTE + "    match:\n      payload.x: |\n        main\n", "utf-8"
    )
    assert [problem.message for problem in load_all(tmp_path).problems] == [
        "the pattern ends in a line break"
    ]


def test_a_regex_that_would_match_any_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.yml").write_text(START + ROUTE + "    match: {payload.x: {regex: ''}}\n", "utf-8")
    with pytest.raises(ConfigError, match="regex is empty: it would match any text"):
        load_all(tmp_path)


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ("", "github * deploy"),
        ("event: push", "github push deploy"),
        ("event: [push, pull_request.opened, 'issue*']", "github push,pull_request.opened,issue* deploy"),
        ("name: a name of many words", "a name of many words"),
    ],
)
def test_the_name_of_a_route(route: Callable[[str], Route], lines: str, name: str) -> None:
    assert route(lines).name == name


NAMED = START.replace(f"id: {ID}", f"id: {ID}, arguments: [repository, null, commit]")


@pytest.mark.parametrize(
    "written",
    [
        "{repository: '${{ payload.r }}', commit: 5}",
        "{commit: 5, repository: '${{ payload.r }}'}",
        "['${{ payload.r }}', 5]",
    ],
)
def test_arguments_by_name_or_in_order_leave_the_fixed_one_null(table: Table, written: str) -> None:
    found = table(f"{NAMED}routes: [{{source: github, task: deploy, task_arguments: {written}}}]\n")
    assert arguments(found.routes[0], {"r": "api"}) == ["api", None, 5]
    assert [argument.label for argument in found.routes[0].arguments] == ["repository", "fixed", "commit"]


def test_arguments_of_a_task_that_names_none(route: Callable[[str], Route]) -> None:
    found = route("task_arguments: ['${{ payload.r }}', x]")
    assert arguments(found, {"r": "api"}) == ["api", "x"]
    assert [argument.label for argument in found.arguments] == ["argument 1", "argument 2"]
    assert route("").arguments == ()
    assert route("task_arguments: []").arguments == ()


@pytest.mark.parametrize("written", ["", "task_arguments: []", "task_arguments: {}"])
def test_a_task_with_fixed_arguments_alone_gets_their_places(table: Table, written: str) -> None:
    text = START.replace(f"id: {ID}", f"id: {ID}, arguments: [null, null]")
    found = table(f"{text}routes:\n  - source: github\n    task: deploy\n    {written}\n")
    assert arguments(found.routes[0]) == [None, None]


@pytest.mark.parametrize(
    ("keys", "latest"),
    [
        ("group: '${{ payload.ref }}'", False),
        ("group: '${{ payload.ref }}', latest: true", True),
        ("group: '${{ payload.ref }}', latest: false, until: accepted", False),
    ],
)
def test_concurrency(route: Callable[[str], Route], keys: str, latest: bool) -> None:
    concurrency = route(f"concurrency: {{{keys}}}").concurrency
    assert concurrency is not None
    assert concurrency.latest is latest
    assert concurrency.group.label == "concurrency.group"
    assert concurrency.group.text(push({"ref": "main"}).scope) == "main"


def test_a_group_and_a_key_may_be_of_an_item_or_fixed(route: Callable[[str], Route]) -> None:
    looping = route(
        "loop: payload.list\nconcurrency: {group: 'of ${{ item }}'}\nonce_within: 90s\nonce_key: ${{ index }}"
    )
    scope = {**push({}).scope, "item": "x", "index": 7}
    assert looping.concurrency is not None
    assert looping.concurrency.group.text(scope) == "of x"
    assert looping.once is not None
    assert looping.once.key is not None
    assert (looping.once.within, looping.once.key.label, looping.once.key.text(scope)) == (
        90.0, "once_key", "7",
    )  # fmt: skip
    fixed = route("concurrency: {group: 5}").concurrency
    assert fixed is not None
    assert fixed.group.text(push({}).scope) == "5"


@pytest.mark.parametrize(("written", "seconds"), [("30s", 30.0), ("10m", 600.0), ("7d", 7 * 86400.0)])
def test_once_within_alone_throttles_the_whole_route(
    route: Callable[[str], Route], written: str, seconds: float
) -> None:
    assert route(f"once_within: {written}").once == Once(seconds, None)


def test_a_route_is_of_no_group_no_key_and_is_always_asked(route: Callable[[str], Route]) -> None:
    plain = route("name: plain")
    assert (plain.concurrency, plain.once, plain.otherwise, plain.task.rate) == (None, None, False, None)


def test_otherwise(table: Table) -> None:
    found = table(
        f"{START}routes:\n"
        "  - {source: github, task: deploy, name: rest, otherwise: true}\n"
        "  - {source: github, task: deploy, name: main, match: {payload.ref: main}, otherwise: false}\n"
    )
    assert [route.otherwise for route in found.routes] == [True, False]
    made = [[job.route for job in found.jobs_for(push({"ref": ref})).jobs] for ref in ("main", "dev")]
    assert made == [["main"], ["rest"]]


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ("1/s", Rate(1, 1.0)),
        ("30/m", Rate(30, 60.0)),
        ("500/h", Rate(500, 3600.0)),
        ("10000/d", Rate(10_000, 86400.0)),
        ("'5/m'", Rate(5, 60.0)),
    ],
)
def test_a_rate_stands_on_the_task_or_on_the_route(table: Table, written: str, rate: Rate) -> None:
    task = f"{{id: {ID}, secret_key: '${{{{ env.KEY }}}}', rate: {written}}}"
    of_task = table(f"{HEAD}{GITHUB}tasks: {{deploy: {task}}}\n{ROUTE}")
    own = f"    secret_key: ${{{{ env.KEY }}}}\n    rate: {written}\n"
    of_route = table(f"{HEAD}{GITHUB}{ROUTE.replace('deploy', ID)}{own}")
    for found in (of_task, of_route):
        assert found.tasks[ID].rate == found.routes[0].task.rate == rate


def test_on_dead(table: Table) -> None:
    found = table(
        f"{START}{ROUTE}on_dead:\n  task: deploy\n  task_arguments:\n"
        "    - ${{ job.route }} ${{ job.id }}\n    - ${{ dead }}\n    - fixed\n"
    )
    assert found.on_dead is not None
    assert found.on_dead.task is found.tasks[ID]
    scope: dict[str, JSON] = {"job": {"route": "a", "id": 5}, "dead": 3}
    built = [argument.build(scope) for argument in found.on_dead.arguments]
    assert built == ["a 5", 3, "fixed"]


def test_on_dead_may_name_arguments_and_define_its_task(table: Table) -> None:
    found = table(
        f"{START}{ROUTE}on_dead: {{task: {OTHER_ID}, secret_key: '${{{{ env.KEY }}}}', rate: 1/m, "
        "arguments: [text, null], task_arguments: {text: '${{ job.reason }}'}}\n"
    )
    assert found.on_dead is not None
    assert found.on_dead.task is found.tasks[OTHER_ID]
    assert found.tasks[OTHER_ID].rate == Rate(1, 60.0)
    assert [argument.label for argument in found.on_dead.arguments] == ["text", "fixed"]


def test_without_on_dead_nobody_is_told(table: Table) -> None:
    assert table(START + ROUTE).on_dead is None


def test_equal_expressions_are_compiled_once(table: Table) -> None:
    """Whatever text stands around them."""
    one = "{source: github, task: deploy, name: %s, task_arguments: ['%s ${{ payload.r }}']}"
    first, second = table(f"{START}routes:\n  - {one % ('a', 'x')}\n  - {one % ('b', 'y')}\n").routes
    arguments = [route.arguments[0].value for route in (first, second)]
    expressions = [value._parts[1] for value in arguments if isinstance(value, Template)]
    assert expressions[0] is expressions[1]


# Secrets


def test_every_secret_is_known_and_none_is_shown(tmp_path: Path) -> None:
    text = f"""{HEAD}
sources:
  github: {{secret: ["${{{{ env.SECRET }}}}", "${{{{ env.OLD_SECRET }}}}"]}}
  alertmanager:
    any_of:
      bearer_token: ${{{{ env.TOKEN }}}}
      basic_auth: {{username: bob, password: "${{{{ env.PASSWORD }}}}"}}
tasks: {{deploy: {{id: {ID}, secret_key: "${{{{ env.KEY }}}}"}}}}
"""
    (tmp_path / "table.yml").write_text(text, "utf-8")
    loaded = load_all(tmp_path)
    assert {secret.reveal() for secret in loaded.secrets} == {
        "marked-secret", "marked-old-secret", "marked-token", "marked-password", "bob:marked-password", KEY,
    }  # fmt: skip
    for part in (loaded, loaded.table, loaded.table.sources, loaded.table.tasks, str(loaded.problems)):
        assert "marked" not in f"{part} {part!r}"
        assert KEY not in f"{part} {part!r}"


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("marked-secret\n", "utf-8")
    config = tmp_path / "table.yml"
    config.write_text(HEAD + GITHUB, "utf-8")
    loaded = load_all(config, {"SECRET_FILE": str(tmp_path / "secret"), "SECRET": ""})
    assert [secret.reveal() for secret in loaded.secrets] == ["marked-secret"]


def test_without_require_env_what_is_not_set_has_a_name_to_show(tmp_path: Path) -> None:
    config = tmp_path / "table.yml"
    theeye = "theeye: {customer: '${{ env.A }}', url: '${{ env.B }}'}\n"
    task = "tasks: {deploy: {id: '${{ env.C }}', secret_key: '${{ env.D }}'}}\n"
    config.write_text(f"{theeye}{GITHUB}{task}routes: [{{source: github, task: deploy}}]\n", "utf-8")
    loaded = load(config, Environment({}), TYPES, require_env=False)
    assert loaded.table.theeye.customer == "<A>"
    assert loaded.table.routes[0].task.id == "<C>"
    assert loaded.table.sources["github"].required[0].secrets == ()
    assert loaded.secrets == ()
