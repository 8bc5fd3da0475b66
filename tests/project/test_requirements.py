"""The lock files agree with pyproject.toml, with each other, and with what the code imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

RUNTIME = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
TEST = [Requirement(line) for line in PROJECT["dependency-groups"]["test"]]

LOCKS = {
    "requirements.txt": RUNTIME,
    "tests/requirements.txt": TEST,
}

_HASH = re.compile(r" --hash=sha256:[0-9a-f]{64}(?= |$)")


def entries(lock: str) -> list[str]:
    """The entries of a lock file, each on one line, with its hashes."""
    text = (ROOT / lock).read_text().replace("\\\n", " ")
    lines = [re.sub(r"\s+", " ", line) for line in text.splitlines()]
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def pins(lock: str) -> Iterator[tuple[str, str, Requirement]]:
    """The name, version and whole requirement of each entry; a name may occur once for each marker."""
    for entry in entries(lock):
        pin = Requirement(_HASH.sub("", entry))
        (specifier,) = pin.specifier
        assert specifier.operator == "==", f"{lock}: {pin} has no exact version"
        assert "*" not in specifier.version, f"{lock}: {pin} has no exact version"
        yield canonicalize_name(pin.name), specifier.version, pin


def versions(*locks: str) -> dict[str, set[str]]:
    """The versions of each package in those lock files."""
    found: dict[str, set[str]] = {}
    for lock in locks:
        for name, version, _ in pins(lock):
            found.setdefault(name, set()).add(version)
    return found


def imported(folder: str) -> set[str]:
    """The top-level packages that the modules below a folder import, without the standard library's."""
    found: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        if "node_modules" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    names = {name.partition(".")[0] for name in found}
    return names - sys.stdlib_module_names - {"bench", "bridge", "docs", "tests", "_typeshed"}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_range_admits_its_pin(lock: str) -> None:
    locked = versions(lock)
    for requirement in LOCKS[lock]:
        found = locked.get(canonicalize_name(requirement.name))
        assert found, f"{lock} lacks {requirement.name}: run make lock"
        for version in found:
            assert requirement.specifier.contains(version), f"{lock}: {version} is not in {requirement}"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_entry_is_exact_and_hashed(lock: str) -> None:
    assert list(pins(lock))
    for entry in entries(lock):
        assert _HASH.search(entry), f"{lock}: {entry} has no hash"
        assert "--" not in _HASH.sub("", entry), f"{lock}: {entry} has another option"


def test_a_package_in_both_lock_files_has_one_pin() -> None:
    runtime = {(name, version, str(pin.marker)) for name, version, pin in pins("requirements.txt")}
    test = {(name, version, str(pin.marker)) for name, version, pin in pins("tests/requirements.txt")}
    common = {name for name, _, _ in runtime} & {name for name, _, _ in test}
    assert common
    for name in common:
        versions_of_runtime = {version for each, version, _ in runtime if each == name}
        versions_of_test = {version for each, version, _ in test if each == name}
        assert versions_of_runtime == versions_of_test, name


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_that_a_pin_requires_is_locked(lock: str) -> None:
    """Goes by the installed packages' metadata, so by this platform's markers."""
    locked = versions(*LOCKS)
    extras: dict[str, set[str]] = {canonicalize_name(each.name): each.extras for each in [*RUNTIME, *TEST]}
    for name, _, pin in pins(lock):
        if pin.marker is not None and not pin.marker.evaluate():
            continue
        try:
            required = [Requirement(line) for line in requires(name) or ()]
        except PackageNotFoundError:
            pytest.fail(f"{name} is locked and not installed: run make test")
        for requirement in required:
            if not any(_applies(requirement, extra) for extra in (*extras.get(name, ()), "")):
                continue
            needed = canonicalize_name(requirement.name)
            if needed == "pip":
                continue  # every virtual environment has it
            found = locked.get(needed)
            assert found, f"{lock}: {name} requires {needed}, which is not locked"
            assert any(map(requirement.specifier.contains, found)), f"{lock}: {name} requires {requirement}"


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


@pytest.mark.parametrize(
    ("folder", "declared"), [("bench", RUNTIME), ("bridge", RUNTIME), ("tests", RUNTIME + TEST)]
)
def test_every_imported_package_is_a_direct_dependency(folder: str, declared: list[Requirement]) -> None:
    known = {canonicalize_name(requirement.name) for requirement in declared}
    distributions = packages_distributions()
    for name in imported(folder):
        of_name = set(map(canonicalize_name, distributions.get(name, ())))
        assert of_name & known, f"{folder} imports {name}, which pyproject.toml does not name"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_file_names_no_machine(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert text.startswith("# This file was autogenerated by uv via the following command:\n#    make lock\n")
    assert "://" not in text
    assert not re.search(r"(^|[\s=])(/|~|[A-Z]:\\)", text, re.MULTILINE), "it holds a path"


def test_every_action_of_the_workflow_is_pinned_by_its_commit() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    actions = re.findall(r"uses: (\S+)", workflow)
    assert actions
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in actions), actions


#: pip-audit behind a proxy or mirror that does not have PyPI's vulnerability feed.
_WITHOUT_FEED = """
import requests
from pip_audit._cli import audit

def get(*_, **__):
    answer = requests.Response()
    answer.status_code = 404
    return answer

requests.Session.get = get
audit()
"""


def test_an_audit_that_cannot_ask_fails(tmp_path: Path) -> None:
    """pip-audit without --strict skips every package and says that it found no vulnerability."""
    plan = subprocess.run(
        ["make", "-n", "--no-print-directory", "audit"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    program, *arguments = plan.stdout.splitlines()[-1].split()
    assert program == ".venv/bin/pip-audit"
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_FEED, *arguments, "--cache-dir", str(tmp_path)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "could not be audited" in done.stderr
    assert "No known vulnerabilities" not in done.stdout + done.stderr
