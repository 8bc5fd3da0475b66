"""The schema that editors read takes and refuses what the loader does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft7Validator
from pydantic import ValidationError

from bridge.cli import main
from bridge.config.document import Invalid, Items, Node, Section, read_file
from bridge.config.load import load
from bridge.config.problems import Problems
from bridge.config.sections import TableModel
from bridge.core.errors import ConfigError
from bridge.core.problem import Severity
from bridge.routing.match import NOT, OPERATOR_FORMS, OPERATORS
from bridge.sources.base.discovery import discover
from tests.support.documents import BLOCKS, ROOT

TYPES = discover()
COMMITTED = (ROOT / "config" / "schema.json").read_text("utf-8")
SCHEMA = Draft7Validator(json.loads(COMMITTED))

FIXTURES = Path(__file__).parents[2] / "fixtures" / "config"
TABLES = [*sorted((ROOT / "config").glob("*.yml")), *sorted(FIXTURES.rglob("*.yml"))]
EXAMPLES = [
    block.text
    for block in BLOCKS
    if block.language == "yaml" and not re.search("alertmanager.yml|scrape_configs", block.text)
]
LARGEST = max(EXAMPLES, key=len)


def as_an_editor_reads(node: Node | None) -> Any:
    """The values that YAML 1.2 makes of a file's text."""
    if isinstance(node, Section):
        return {str(key): as_an_editor_reads(value) for key, value in node.items()}
    if isinstance(node, Items):
        return [as_an_editor_reads(item) for item in node]
    if node is None or isinstance(node, Invalid):
        return None
    if node.plain:
        try:
            return json.loads(node)
        except ValueError:
            pass
    return str(node)


def read(path: Path) -> Node | None:
    return read_file(path, Problems(), len)


def underlined(table: Any) -> list[str]:
    """What an editor says of it."""
    return [error.message for error in SCHEMA.iter_errors(table)]


def mistakes(path: Path) -> list[str]:
    """What the loader finds, but for what another file could hold."""
    try:
        load(path, {}, TYPES, require_env=False)
    except ConfigError as error:
        errors = [each.message for each in error.problems if each.severity is Severity.ERROR]
        return [message for message in errors if message != "theeye is missing"]
    return []


def refused(path: Path) -> bool:
    return bool(mistakes(path))


def written(table: Any, folder: Path) -> Path:
    path = folder / "table.yml"
    path.write_text(json.dumps(table), "utf-8")
    return path


def example(folder: Path, text: str = LARGEST) -> Any:
    path = folder / "example.yml"
    path.write_text(text, "utf-8")
    return as_an_editor_reads(read(path))


def test_what_is_committed_is_what_the_command_prints() -> None:
    assert CliRunner().invoke(main, ["schema"]).output == COMMITTED, "make docs"
    Draft7Validator.check_schema(json.loads(COMMITTED))


def test_the_tables_in_config_name_it_in_their_first_line() -> None:
    for path in (ROOT / "config").glob("*.y*ml"):
        assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")


@pytest.mark.parametrize("text", EXAMPLES)
def test_it_takes_every_example_of_the_docs(tmp_path: Path, text: str) -> None:
    assert underlined(example(tmp_path, text)) == []


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_it_underlines_nothing_that_the_loader_takes(path: Path) -> None:
    node = read(path)
    if isinstance(node, Section) and not refused(path):
        assert underlined(as_an_editor_reads(node)) == []


@pytest.mark.parametrize("operator", [*OPERATORS, NOT])
def test_an_editor_and_the_loader_know_every_operator(operator: str, tmp_path: Path) -> None:
    source = {"secret": "${{ env.SECRET }}"}
    for key, is_known in ((operator, True), (f"{operator}s", False)):
        route = {"source": "github", "task": "5" * 24, "match": {"payload.a": {key: "5"}}}
        table = {
            "theeye": {"customer": "acme", "access_token": "${{ env.TOKEN }}"},
            "sources": {"github": source},
        }
        path = written({**table, "routes": [route]}, tmp_path)
        assert (underlined(as_an_editor_reads(read(path))) == [], mistakes(path) == []) == (
            is_known,
            is_known,
        )
    assert f"{{{operator}: …}}" in OPERATOR_FORMS


def places(value: Any, *at: Any) -> Iterator[tuple[Any, ...]]:
    """Where each part of a table stands."""
    yield at
    items = enumerate(value) if isinstance(value, list) else ()
    for key, each in value.items() if isinstance(value, dict) else items:
        yield from places(each, *at, key)


def changed(value: Any, at: tuple[Any, ...], to: Any) -> Any:
    """The same table with another value there."""
    if not at:
        return to
    key, *rest = at
    copy = value.copy()
    copy[key] = changed(value[key], tuple(rest), to)
    return copy


def part(value: Any, at: tuple[Any, ...]) -> Any:
    for key in at:
        value = value[key]
    return value


def is_no_shape(path: Path) -> bool:
    """Whether the models refuse it, but for a key that another file could hold."""
    try:
        TableModel.model_validate(read(path))
    except ValidationError as error:
        return any(
            each["type"] != "missing" or each["loc"][0] not in ("theeye", "on_dead")
            for each in error.errors()
        )
    return False


@pytest.mark.parametrize("to", [True, 5, "text", "${{ env.X }}", [], ["5m"], {}, {"keyy": "x"}], ids=str)
@pytest.mark.slow_unless(to=["text", {"keyy": "x"}])
def test_with_anything_else_in_any_place_it_is_of_one_mind_with_the_loader(tmp_path: Path, to: Any) -> None:
    """It refuses what the models refuse, and nothing that the whole loader takes."""
    whole = example(tmp_path)
    verdicts = set()
    for at in [*places(whole)][1:]:
        before = part(whole, at)
        more = isinstance(to, dict) and isinstance(before, dict)
        table = changed(whole, at, {**before, **to} if more else to)
        path = written(table, tmp_path)
        said = underlined(table)
        verdicts.add(bool(said))
        assert said or not is_no_shape(path), at
        assert not said or refused(path), (at, said)
    assert True in verdicts


LINES: list[Any] = [
    "x*", 5, 1.5, True, None, ["a", 5, None], {"not": "x"}, {"not": ["a", None]}, {"regex": "^a"},
    {"not": {"regex": "a"}}, [{"regex": "a"}, "b"], {"regex": 5},
    [], {}, {"not": []}, {"nott": "x"}, {"regex": ["a"]}, {"regex": ""}, {"not": {"not": "x"}},
    [["a"]], [{"not": "a"}], {"not": "a", "regex": "b"},
]  # fmt: skip


@pytest.mark.parametrize("value", LINES, ids=str)
def test_a_line_of_match(tmp_path: Path, value: Any) -> None:
    table = changed(example(tmp_path), ("routes", 0, "match"), {"payload.ref": value})
    assert bool(underlined(table)) == refused(written(table, tmp_path))


@pytest.mark.parametrize("named", [True, False], ids=["by its name", "by type"])
@pytest.mark.parametrize("name", TYPES)
def test_a_source_has_the_keys_of_its_type(tmp_path: Path, name: str, named: bool) -> None:
    secret = "${{ env.X }}"
    proofs: dict[str, Any] = {
        **dict.fromkeys(("secret", "token", "bearer_token", "url_token"), secret),
        "basic_auth": {"username": "maria", "password": secret},
        "topic_arns": ["arn:aws:sns:us-east-1:123456789012:alarms"],
    }
    options: dict[str, Any] = {
        "signature": {"header": "X-Signature"}, "header": "X-Token", "event": "payload.a",
        "action": "payload.b", "delivery_id": "payload.c", "dedupe": "off", "store_payload": "none",
    }  # fmt: skip
    keys = [{key: value} for key, value in {**proofs, **options}.items()]
    verdicts = set()
    for source in [*keys, *({"any_of": {key: value}} for key, value in proofs.items())]:
        typed = source if named else {"type": name, **source}
        table = {"theeye": {"customer": "acme"}, "sources": {name if named else "here": typed}}
        found = " ".join(mistakes(written(table, tmp_path)))
        taken = not any(each in found for each in ("does not support", "does not apply to"))
        assert taken == (underlined(table) == []), source
        verdicts.add(taken)
    assert True in verdicts


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("theeye:", "teye:"), ("customer:", "custmer:"), ("longest_wait:", "longest:"),
        ("bearer_token:", "bearertoken:"), ("dedupe: 30s", "dedupe: 30"),
        ("store_payload: matched", "store_payload: some"),
        ("type: alertmanager", "type: alert"), ("type: alertmanager  ", "# "), ("secret_key:", "key:"),
        ("arguments: [repository, branch, commit]", "arguments: repository"), ("rate: 30/m", "rate: 30"),
        ("on_unknown: hold", "on_unknown: wait"), ("event: push", "evnt: push"), ("{not:", "{nott:"),
        ("latest: true", "latest: yes"), ("latest:", "newest:"), ("once_within: 10m", "once_within: 10 min"),
        ("${{ env.DEPLOY_TASK_KEY }}", "a-key-in-clear"), ("task: page\n    task_arg", "task_arg"),
        ("on_dead:", "on_death:"), ("timeout: 30s", "timeout: {for: 30s}"), ("when: ", "follow_result: "),
    ],
)  # fmt: skip
def test_a_mistake_is_one_for_both(tmp_path: Path, right: str, wrong: str) -> None:
    assert right in LARGEST
    table = example(tmp_path, LARGEST.replace(right, wrong, 1))
    assert underlined(table)
    assert refused(tmp_path / "example.yml")


@pytest.mark.parametrize(
    ("written_so", "or_so"),
    [
        ("customer: acme", "customer: 5"), ("customer: acme", "customer: true"),
        ("timeout: 30s", "timeout: 7d"), ("name: deploy main", "name: 2027"), ("acme/*", "012"),
        ("{for: 24h, longest_wait: 15m}", "{for: 009h}"), ("dedupe: 30s", "dedupe: off"),
        ("url: https://api.theeye.io ", "url: http://127.0.0.1:9"), ("rate: 30/m", "rate: 10000/s"),
        ("5f3c9a7be4b0a1c2d3e4f502", "123456789012345678901234"), ("latest: true", "until: accepted"),
        ("event: push", "event: [push, 5]"), ("  customer: acme", "  # "),
        ("  task: page\n  task_arg", "  task_arg"),
        ("[repository, branch, commit]", "[null, repository, branch, commit, null]"),
        ("bearer_token: ${{ env.ALERTMANAGER_TOKEN }}", "allow_unsigned: true"),
        ("bearer_token: ${{ env.ALERTMANAGER_TOKEN }}", "basic_auth: {username: 5, password: '${{env.X}}'}"),
    ],
)  # fmt: skip
def test_what_is_read_from_its_text_is_taken_by_both(tmp_path: Path, written_so: str, or_so: str) -> None:
    assert written_so in LARGEST
    table = example(tmp_path, LARGEST.replace(written_so, or_so, 1))
    assert underlined(table) == []
    assert not is_no_shape(tmp_path / "example.yml")
