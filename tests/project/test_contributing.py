"""CONTRIBUTING.md, the hooks of pre-commit, the workflow and the package: what they name exists and works."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import bridge
from bridge import sources
from bridge.cli import main
from bridge.sources.base.discovery import discover

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


def test_the_copy_of_a_source_type_works_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first minutes of a contributor: the command of the guide, then init and check."""
    (command,) = re.findall(r"^ +(sed .* > bridge/sources/acme\.py)$", CONTRIBUTING, re.MULTILINE)
    copied = tmp_path / "acme.py"
    subprocess.run(command.replace("bridge/sources/acme.py", str(copied)), shell=True, cwd=ROOT, check=True)
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    try:
        assert discover()["acme"].guide.title == "Acme"
        environ = {"BRIDGE_CONFIG": str(tmp_path / "config")}
        assert CliRunner().invoke(main, ["init", "--source", "acme"], env=environ).exit_code == 0
        checked = CliRunner().invoke(main, ["check"], env=environ)
        assert "1 source, 1 task, 1 route; no mistakes" in checked.output
    finally:
        sys.modules.pop("bridge.sources.acme", None)


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
