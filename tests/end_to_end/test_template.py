"""The template of six files works with the wheel alone, in an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import flask
import pytest

from tests.support.server import CHECKOUT, Server

SECRET, KEY = "s1" * 16, "k1" * 32
PUSH = CHECKOUT / "bridge" / "demo" / "push.json"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built from a copy: a build in the checkout would see files of others."""
    copy, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(CHECKOUT / "bridge", copy / "bridge", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(CHECKOUT / name, copy / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    run([sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(built), str(copy)], copy)
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with the wheel. It shares the packages that the wheel requires."""
    folder = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)], folder)
    interpreter = folder / "bin" / "python"
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    run([sys.executable, "-m", "pip", "--python", str(interpreter), "install", *options, str(wheel)], folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Of a folder that is named like this, Python reads no further .pth file: the checkout stays unknown.
    (packages / "required.pth").write_text(str(Path(flask.__file__).parents[1]))
    return interpreter


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the template."""
    shutil.copytree(CHECKOUT / "docs" / "template", tmp_path / "project")
    return tmp_path / "project"


def run(command: list[str], folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program. Raises AssertionError with what it wrote if it fails."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), **environ}
    done = subprocess.run(command, cwd=folder, env=environ, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    """Also the migrations and the demo's files, which are not Python or not imported."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("bridge/")}
    expected = {
        path.relative_to(CHECKOUT).as_posix()
        for path in (CHECKOUT / "bridge").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == expected
    assert "bridge/outbox/migrations/versions/v0001_initial.py" in packed


class TemplateServer(Server):
    """What the template's Procfile starts."""

    may_fork = False

    def __init__(self, python: Path, project: Path, environ: dict[str, str]) -> None:
        super().__init__(project / "config", project / "var" / "bridge.db", environ)
        self.folder = project
        (line,) = [line for line in (project / "Procfile").read_text().splitlines() if line[:4] == "web:"]
        program, *rest = line.removeprefix("web: ").split()
        assert program == "python"
        self._line = [str(python), *rest]

    def _command(self) -> list[str]:
        return self._line


@pytest.fixture
def server(python: Path, project: Path) -> Iterator[TemplateServer]:
    environ = {"GITHUB_SECRET": SECRET, "GITHUB_TASK_KEY": KEY, "BRIDGE_DRY_RUN": "true"}
    with TemplateServer(python, project, environ) as server:
        yield server


def test_the_table_is_checked_and_tested_as_in_its_workflow(python: Path, project: Path) -> None:
    """Without a variable, as in CI."""
    workflow = (project / ".github" / "workflows" / "check.yml").read_text()
    lines = re.findall(r"run: \.venv/bin/python -m bridge (.*)", workflow)
    assert lines == ["check --github", "test"]
    for line in lines:
        done = run([str(python), "-m", "bridge", *line.split()], project)
    assert done.stdout.endswith("2 tests, 0 failed\n")
    where = run([str(python), "-c", "import bridge; print(bridge.__file__)"], project).stdout
    assert Path(where).is_relative_to(python.parents[1])


def test_a_signed_webhook_is_accepted(python: Path, project: Path, server: TemplateServer) -> None:
    environ = {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "PORT": str(server.port), "DATABASE_URL": server.database_url,
        "GITHUB_SECRET": SECRET, "GITHUB_TASK_KEY": KEY,
    }  # fmt: skip
    # The release command of the Procfile, beside the running server as in a deploy.
    (line,) = [line for line in (project / "Procfile").read_text().splitlines() if line[:8] == "release:"]
    run(["sh", "-ec", line.removeprefix("release: ")], project, **environ)
    send = ["-m", "bridge", "send", "--source", "github", "--event", "push", str(PUSH)]
    assert run([str(python), *send], project, **environ).stdout.startswith("202 from ")
    listed = run([str(python), "-m", "bridge", "jobs", "list", "--json"], project, **environ).stdout
    assert '"route": "deploy main"' in listed
