"""The docs say what the code does: tables, commands and examples are held against it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from bridge.cli import main
from bridge.config.load import load
from bridge.core import budget, payload
from bridge.core.job import JobState
from bridge.core.task_arguments import MAX_SHELL_TEXT_BYTES
from bridge.intake import evaluation_limiter
from bridge.server import connection, connection_worker
from bridge.sources.base.discovery import discover
from bridge.web import large_body_limiter, processing_limiter, request_deadline
from docs.generate import filled, pages, part_names, parts
from tests.support.documents import PAGES, ROOT, code_blocks, name_of

DOCS = {name_of(page): page.read_text("utf-8") for page in PAGES}
README = DOCS["README.md"]


def rows_below(heading: str, text: str) -> list[list[str]]:
    """The cells of the table below a heading, without its first two lines."""
    section = text.split(f"{heading}\n", 1)[1]
    lines = re.findall(r"^\|(.*)\|$", re.split(r"\n#+ ", section)[0], re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines[2:]]


def test_the_generated_parts_are_what_the_code_declares() -> None:
    by_name = parts()
    for page in pages():
        assert filled(page.read_text("utf-8"), by_name) == DOCS[name_of(page)], f"{name_of(page)}: make docs"


def test_every_generated_part_is_on_one_page() -> None:
    assert sorted(part for text in DOCS.values() for part in part_names(text)) == sorted(parts())


@pytest.mark.skipif(shutil.which("git") is None, reason="git is missing")
def test_git_ignores_each_secret_that_a_page_creates_in_the_checkout(tmp_path: Path) -> None:
    """The guides for platforms commit the whole checkout."""
    written = {path for text in DOCS.values() for path in re.findall(r"openssl rand .* > ([^/\s].*)", text)}
    assert "github-secret" in written
    # A checkout may be a copy without its repository.
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    for path in sorted({*written, ".env"}):
        command = ["git", "check-ignore", "--quiet", path]
        assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0, path


def test_every_dependency_has_a_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [re.split(r"[^\w-]", line)[0] for line in project["dependencies"]]
    documented = [row[0] for row in rows_below("## Libraries", DOCS["docs/explanation/architecture.md"])]
    assert sorted(documented, key=str.lower) == sorted(required, key=str.lower)


def test_the_readme_lists_every_command() -> None:
    documented = [
        name for row in rows_below("## Commands", README) for name in re.findall(r"`([\w-]+)`", row[0])
    ]
    assert sorted(documented) == sorted(main.list_commands(click.Context(main)))


def test_the_shipped_table_is_the_readmes_and_starts_with_the_variables_it_names() -> None:
    first = code_blocks("README.md", "yaml")[0]
    shipped = (ROOT / "config" / "routes.yml").read_text()
    assert shipped.endswith(f"\n\n{first}")
    variables = {"GITHUB_SECRET": "a1" * 16, "GITHUB_TASK_KEY": "k1" * 32}
    assert load(ROOT / "config", variables, discover()).problems == ()


def test_every_state_is_documented() -> None:
    text = DOCS["docs/reference/states.md"]
    states = {str(state) for state in JobState}
    assert {row[0].strip("`") for row in rows_below("## Jobs", text)} == states
    (diagram,) = code_blocks("docs/explanation/architecture.md", "mermaid")
    arrows = re.findall(r"^ +(\S+) --> (\w+)", diagram, re.MULTILINE)
    assert {state for arrow in arrows for state in arrow} - {"[*]"} == states


def test_limits_are_those_of_the_code() -> None:
    limits = DOCS["docs/reference/http.md"].split("## Limits")[1].replace("\n", " ")
    running, waiting = evaluation_limiter.MAX_RUNNING, evaluation_limiter.MAX_WAITING
    patience = f"{evaluation_limiter.WAIT_TIMEOUT_SECONDS:g} s"
    for figure in (
        f"{payload.MAX_JSON_DEPTH} levels deep, {payload.MAX_JSON_VALUES:,} commas and brackets",
        f"form | {payload.MAX_FORM_FIELDS} fields",
        f"jobs of all routes | {budget.MAX_JOBS:,};",
        f"job's arguments | {MAX_SHELL_TEXT_BYTES:,} bytes",
        f"{budget.MAX_STEPS:,} steps",
        f"at the same time | {running}. {waiting} more wait, for up to {patience}. "
        f"Any further webhook, and any that waited {patience}, gets a 503",
    ):
        assert figure in limits
    expressions = DOCS["docs/reference/expressions.md"].replace("\n", " ")
    assert f"share {budget.MAX_STEPS:,} steps" in expressions
    assert f"more than {budget.MAX_JOBS:,} jobs" in expressions


def test_what_a_request_may_take_is_documented() -> None:
    text = DOCS["docs/reference/http.md"].replace("\n", " ")
    small = large_body_limiter.SMALL_BODY_BYTES // 1024**2
    shared = large_body_limiter.LARGE_BODIES_LIMIT_BYTES // 1024**2
    waiting, patience = large_body_limiter.MAX_WAITING_BODIES, large_body_limiter.WAIT_TIMEOUT_SECONDS
    processed = processing_limiter.PROCESSING_LIMIT_BYTES // 1024**2
    connections, files = connection_worker.MAX_CONNECTIONS, connection_worker.RESERVED_FILES
    for figure in (
        f"time to arrive completely | {request_deadline.REQUEST_TIMEOUT_SECONDS:g} s",
        f"larger than {small} MiB | {shared} MiB together",
        f"{waiting} more bodies wait for space, for up to {patience:g} s. "
        f"Any that waited {patience:g} s gets a 503",
        f"stored at the same time | {processed} MiB together, or one larger body",
        f"smaller than {processing_limiter.UNQUEUED_BODY_BYTES // 1024} KiB do not wait",
        f"less than {large_body_limiter.PROGRESS_BYTES // 1024} KiB in a second",
        f"request line and headers | {connection.MAX_HEAD_BYTES // 1024} KiB",
        f"{connection_worker.MAX_WAITING_THREADS} of {connection_worker.THREADS}.",
        f"connections | {connections:,}, or {files} fewer",
    ):
        assert figure in text
    assert large_body_limiter.STALL_TIMEOUT_SECONDS == 1


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_inside_the_docs_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", DOCS[name_of(page)]):
            if target.startswith("https://"):
                continue
            linked = (page.parent / target).resolve() if target else page
            if not linked.exists() or (anchor and anchor not in anchors(linked)):
                broken.append(f"{name_of(page)}: {target}#{anchor}")
    assert not broken, broken


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]+)?\)", DOCS[name_of(page)])
    }
    assert {page for page in PAGES if page.name != "README.md"} <= linked


def test_every_fault_is_named_by_its_test() -> None:
    faults = DOCS["docs/explanation/guarantees.md"].split("## Faults")[1]
    named = re.findall(r"\| `((?:\w+/)*\w+\.py)::(\w+)` \|$", faults, re.MULTILINE)
    rows = re.findall(r"^\| (?!fault )", faults, re.MULTILINE)
    assert len(named) == len(rows)
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text()
