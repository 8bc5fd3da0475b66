"""The docs say what the code does: tables, commands and examples are held against it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest

from bridge.cli import main
from bridge.config.load import load
from bridge.config.models import ProofsModel
from bridge.core import budget, payload
from bridge.core.job import JobState
from bridge.core.problem import Severity
from bridge.core.task_arguments import MAX_SHELL_TEXT_BYTES
from bridge.expressions.filters import FILTERS, TESTS, TEXT_METHODS
from bridge.intake import evaluation_limiter
from bridge.process.settings import VARIABLES
from bridge.server import connection, connection_worker
from bridge.sources.base.discovery import discover
from bridge.web import large_body_limiter, processing_limiter, request_deadline

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCS = {path.name: path.read_text() for path in PAGES}

YAML_BLOCKS = [
    (name, block)
    for name, text in DOCS.items()
    for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
]


def rows_below(heading: str, text: str) -> list[list[str]]:
    """The cells of the table below a heading, without its first two lines."""
    section = text.split(f"{heading}\n", 1)[1]
    lines = re.findall(r"^\|(.*)\|$", section.split("\n## ")[0], re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines[2:]]


def commands(group: click.Group, prefix: str = "") -> list[str]:
    found = []
    for name, command in group.commands.items():
        inner = f"{prefix}{name}"
        found += commands(command, f"{inner} ") if isinstance(command, click.Group) else [inner]
    return found


def test_the_environment_table_is_that_of_the_settings() -> None:
    documented = rows_below("## Environment", README)
    assert documented == [
        [f"`{each.name}`", f"`{each.default}`" if each.default else "", each.meaning] for each in VARIABLES
    ]


def test_every_dependency_has_a_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [re.split(r"[^\w-]", line)[0] for line in project["dependencies"]]
    documented = [row[0] for row in rows_below("## Dependencies", README)]
    assert sorted(documented, key=str.lower) == sorted(required, key=str.lower)


def test_every_command_is_documented_and_every_documented_command_exists() -> None:
    existing = set(commands(main))
    text = "\n".join(DOCS.values())
    command = r"python -m bridge ([a-z]+(?: (?:list|show|retry|resolve|cancel|replay|upgrade))?)"
    assert set(re.findall(command, text)) | {"demo"} == existing


@pytest.mark.parametrize(("document", "tables"), [("README.md", 3), ("routing-table.md", 1)])
def test_the_examples_of_a_document_pass_check_together(tmp_path: Path, document: str, tables: int) -> None:
    """They are meant to stand in one folder."""
    blocks = [block for name, block in YAML_BLOCKS if name == document and "alertmanager.yml" not in block]
    assert len(blocks) == tables
    for number, block in enumerate(blocks):
        (tmp_path / f"{number}.yml").write_text(block)
    problems = load(tmp_path, {}, discover(), require_env=False).problems
    assert {problem.severity for problem in problems} <= {Severity.WARNING}
    assert all("is not set" in problem.message for problem in problems), problems


def test_the_shipped_table_is_the_readmes_and_starts_with_the_variables_it_names() -> None:
    first = next(block for name, block in YAML_BLOCKS if name == "README.md")
    shipped = (ROOT / "config" / "routes.yml").read_text()
    assert shipped.endswith(f"\n\n{first}")
    variables = {"GITHUB_WEBHOOK_SECRET": "a" * 32, "DEPLOY_TASK_KEY": "k" * 64}
    assert load(ROOT / "config", variables, discover()).problems == ()


def test_every_filter_test_and_text_method_is_documented() -> None:
    text = DOCS["routing-table.md"].replace("\n  ", " ")
    filters = re.search(r"Filters: `([^`]*)`", text)
    tests = re.search(r"Tests: `([^`]*)`", text)
    methods = re.search(r"text has `([^`]*)`", text)
    assert filters and filters[1].split() == sorted(FILTERS)
    assert tests and tests[1].split() == sorted(TESTS)
    assert methods and methods[1].split() == list(TEXT_METHODS)


def test_every_proof_is_documented() -> None:
    rows = rows_below("## Sources and secrets", DOCS["routing-table.md"])
    assert [row[0].strip("`") for row in rows] == list(ProofsModel.model_fields)


def test_every_state_is_documented() -> None:
    documented = {row[0].strip("`") for row in rows_below("## Did it run, and if not, why?", README)}
    assert documented == {str(state) for state in JobState}


def test_limits_are_those_of_the_code() -> None:
    limits = README.split("### Limits")[1].split("\n## ")[0].replace("\n", " ")
    for figure in (
        f"JSON {payload.MAX_JSON_DEPTH} deep with {payload.MAX_JSON_VALUES:,} commas and brackets",
        f"forms of {payload.MAX_FORM_FIELDS} fields",
        f"{budget.MAX_JOBS:,} jobs",
        f"job's arguments {MAX_SHELL_TEXT_BYTES:,} bytes",
        f"{budget.MAX_STEPS:,} steps",
        f"at most {evaluation_limiter.MAX_RUNNING} webhooks of one source",
        f"{evaluation_limiter.MAX_WAITING} more wait, up to {evaluation_limiter.WAIT_TIMEOUT_SECONDS:g} s",
    ):
        assert figure in limits


def test_what_a_request_may_take_is_documented() -> None:
    text = README.replace("\n", " ")
    assert f"must come whole within {request_deadline.REQUEST_TIMEOUT_SECONDS:g} s" in text
    small = large_body_limiter.SMALL_BODY_BYTES // 1024**2
    shared = large_body_limiter.LARGE_BODIES_LIMIT_BYTES // 1024**2
    assert f"over {small} MiB share {shared} MiB at a time" in text
    assert f"no room within {large_body_limiter.WAIT_TIMEOUT_SECONDS:g} s" in text
    assert f"at most {large_body_limiter.MAX_WAITING_BODIES} bodies wait for room" in text
    processed = processing_limiter.PROCESSING_LIMIT_BYTES // 1024**2
    assert f"{processed} MiB of bodies, or one larger body, are verified" in text
    assert f"under {processing_limiter.UNQUEUED_BODY_BYTES // 1024} KiB need no turn" in text
    assert f"less than {large_body_limiter.PROGRESS_BYTES // 1024} KiB in a second" in text
    assert large_body_limiter.STALL_TIMEOUT_SECONDS == 1
    assert f"at most {connection.MAX_HEAD_BYTES // 1024} KiB" in text
    threads = f"{connection_worker.MAX_WAITING_THREADS} of {connection_worker.THREADS} threads"
    assert threads in text
    assert (
        f"{connection_worker.MAX_CONNECTIONS:,} connections, or {connection_worker.RESERVED_FILES} fewer"
        in text
    )


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_inside_the_docs_lead_somewhere() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", page.read_text()):
            if target.startswith("https://"):
                continue
            linked = (page.parent / target).resolve() if target else page
            assert linked.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(linked), f"{page.name}: {target}#{anchor}"


def test_every_fault_that_it_survives_is_named_by_its_test() -> None:
    named = re.findall(r"\| `((?:\w+/)?\w+\.py)::(\w+)` \|$", DOCS["survives.md"], re.MULTILINE)
    rows = re.findall(r"^\| (?!fault )", DOCS["survives.md"], re.MULTILINE)
    assert len(named) == len(rows)
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text()
