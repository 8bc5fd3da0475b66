"""CONTRIBUTING.md, the hooks of pre-commit, the workflow and the package: what they name exists and works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml

import bridge
from docs.generate import part_names, with_sections

ROOT = Path(__file__).parents[2]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
HOOKS: list[dict[str, Any]] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]


def test_every_file_and_make_target_that_contributors_are_told_exists() -> None:
    files = re.findall(r"`((?:bridge|tests|\.ci|\.github)/[\w./-]+)`", CONTRIBUTING)
    assert files
    assert [file for file in files if not (ROOT / file).exists() and "acme" not in file] == []
    targets = set(re.findall(r"(?:`|^)make ([a-z]+)\b", CONTRIBUTING, re.MULTILINE))
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets
    assert targets <= known


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout, with its virtual environment."""
    copy = tmp_path / "checkout"
    not_copied = {".git", ".venv", "var", "node_modules"}
    copytree(ROOT, copy, ignore=lambda _, names: not_copied & {*names})
    (copy / ".venv").mkdir()
    for each in Path(sys.prefix).iterdir():
        if each.name not in (".run", ".test"):
            (copy / ".venv" / each.name).symlink_to(each)
    # Newer than the lock files, so make installs nothing.
    (copy / ".venv" / ".run").touch()
    return copy


def test_the_steps_to_a_source_type_work_as_written(checkout: Path, tmp_path: Path) -> None:
    """Every command of the guide runs, with step 3's samples; then the tests of the docs pass."""
    section = CONTRIBUTING.split("## Your first source type\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    commands = textwrap.dedent("".join(blocks)).replace("/tmp/acme", str(tmp_path / "table"))
    assert [line.split()[0] for line in commands.splitlines()][:3] == ["sed", ".venv/bin/python", "make"]
    fixtures = checkout / "tests" / "fixtures"
    copytree(fixtures / "circleci", fixtures / "acme")
    tests = ".venv/bin/python -m pytest -p no:cacheprovider tests/project/test_docs.py"
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "BRIDGE"))}
    done = subprocess.run(
        ["sh", "-ec", commands + tests],
        check=False,
        cwd=checkout,
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout[-5000:]}{done.stderr[-5000:]}"
    assert "1 source, 1 task, 1 route; no mistakes" in done.stdout


def test_a_missing_section_of_a_type_is_added_in_order() -> None:
    page = "# Sources\n\n## b\n\n<!-- generated: source b -->\n<!-- end -->\n\nBy hand.\n"
    added = with_sections(page, ["a", "b", "c"])
    assert re.findall("^## (.*)$", added, re.MULTILINE) == ["a", "b", "c"]
    assert part_names(added) == ["source a", "source b", "source c"]
    assert with_sections(added, ["a", "b", "c"]) == added


def test_the_hooks_are_the_linters_of_make_with_their_locked_versions() -> None:
    lint = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    ((repository),) = HOOKS
    assert repository["repo"] == "local"
    tools = [re.fullmatch(r"\.venv/bin/([\w-]+)\b.*", hook["entry"]) for hook in repository["hooks"]]
    assert [tool and tool[1] for tool in tools] == re.findall(r"\$\(BIN\)/([\w-]+)", lint)


def test_the_workflow_runs_the_ci_script_and_the_audit_on_debian_12_and_deploys_nothing() -> None:
    jobs = WORKFLOW["jobs"]
    assert {job["container"] for job in jobs.values()} == {"debian:12"}
    commands = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert commands["test"][-1] == ".ci/run"
    assert commands["audit"][-1] == "make audit"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert "secrets." not in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_the_package_has_the_program_and_one_version() -> None:
    assert PROJECT["project"]["scripts"] == {"theeye-bridge": "bridge.cli:main"}
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "bridge/__init__.py"
    assert re.fullmatch(r"\d+\.\d+\.\d+", bridge.__version__)
    changelog = (ROOT / "CHANGELOG.md").read_text()
    released = re.findall(r"^## (\d[^\s]*)", changelog, re.MULTILINE)
    assert released[0] == bridge.__version__


def test_the_changelog_is_grouped() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    groups = re.findall(r"^### (.*)$", changelog, re.MULTILINE)
    assert groups
    assert set(groups) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
