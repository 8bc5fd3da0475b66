"""``python -m bridge`` in any folder, and with a Python that cannot run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.terminal import Terminal

CHECKOUT = Path(__file__).parents[2]
USE = f"use {CHECKOUT / '.venv/bin/python'} -m bridge"


def run(arguments: list[str], folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ.get("PATH", os.defpath), **environ}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=clean, capture_output=True, text=True, check=False
    )


def test_the_folder_of_the_package_runs_anywhere(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    result = run([str(CHECKOUT / "bridge"), "check"], tmp_path, BRIDGE_CONFIG=terminal.config.name)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("; no mistakes, 2 warnings\n")


def test_a_relative_table_that_is_not_there_says_in_which_folder(tmp_path: Path) -> None:
    result = run([str(CHECKOUT / "bridge"), "check"], tmp_path)
    assert result.returncode == 1
    assert result.stdout.startswith(f"config: error: no such file or folder in {tmp_path}\n")


@pytest.mark.parametrize("arguments", [["-m", "bridge"], [str(CHECKOUT / "bridge")]])
def test_without_the_requirements_one_line_names_the_environment(arguments: list[str]) -> None:
    # -S: without the packages of the environment.
    result = run(["-S", *arguments, "check"], CHECKOUT)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{sys.executable} cannot run the bridge: its environment ")
    assert " has no package click; use " in line
    assert line.endswith(USE)


def test_an_older_python_is_named(tmp_path: Path) -> None:
    old = "import sys, runpy; sys.version_info = (3, 9, 2); runpy.run_path(sys.argv[1], run_name='__main__')"
    result = run(["-c", old, str(CHECKOUT / "bridge")], tmp_path)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "cannot run the bridge: it is Python 3.9, and 3.11 or newer is needed; use " in line
