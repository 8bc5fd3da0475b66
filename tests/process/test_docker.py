"""Dockerfile and compose.yaml, without an engine: their commands run in folders, and their texts are read."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from tests.conftest import lacks
from tests.support.pushes import VARIABLES, push, write_table
from tests.support.server import CHECKOUT, Server
from tests.support.theeye import StandIn
from tests.support.unprivileged import hand_over, in_read_only_root, may_mount


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile with its arguments."""
    text = (CHECKOUT / "Dockerfile").read_text().replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def last(name: str) -> str:
    return [rest for each, rest in instructions() if each == name][-1]


def environment() -> dict[str, str]:
    """The variables of the last stage."""
    stage = instructions()[max(place for place, (name, _) in enumerate(instructions()) if name == "FROM") :]
    words = [word for name, rest in stage if name == "ENV" for word in shlex.split(rest)]
    return dict(word.split("=", 1) for word in words)


def healthcheck() -> list[str]:
    command: list[str] = orjson.loads(last("HEALTHCHECK").partition(" CMD ")[2])
    return command


def test_the_image_has_a_fixed_base_and_no_root_and_no_secret() -> None:
    (python,) = [rest.removeprefix("PYTHON=") for name, rest in instructions() if name == "ARG"]
    assert re.fullmatch(r"\d+\.\d+-slim-\w+", python)
    assert python.startswith((CHECKOUT / ".python-version").read_text().strip())
    assert {rest.split()[0] for name, rest in instructions() if name == "FROM"} == {"python:${PYTHON}"}
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last("USER"))
    assert not any(name == "ADD" for name, _ in instructions())
    known = {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "BRIDGE_CONFIG", "DATABASE_URL"}
    assert set(environment()) == known
    assert "@" not in environment()["DATABASE_URL"]


def copied(source: str) -> list[str]:
    """The files in git that COPY finds under a name, as .dockerignore admits them."""
    lines = (CHECKOUT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    admitted = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    done = subprocess.run(
        ["git", "ls-files", source], cwd=CHECKOUT, check=True, capture_output=True, text=True
    )
    return [
        path
        for path in done.stdout.split()
        if any(fnmatch.fnmatch(path, each) or path.startswith(f"{each}/") for each in admitted)
    ]


def test_every_copied_file_is_admitted_and_nothing_else_is() -> None:
    sources = [
        word
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for word in rest.split()[:-1]
    ]
    assert all(copied(source) for source in sources)
    lines = (CHECKOUT / ".dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == set(sources)


class Container(Server):
    """What the image starts, in a root that is read-only but for /data."""

    may_fork = False

    def __init__(self, home: Path, config: Path) -> None:
        data = home / "data"
        data.mkdir(mode=0o700)
        hand_over(data)
        self._data = data
        variables = environment()
        url = variables["DATABASE_URL"]
        assert url == "sqlite:////data/bridge.db"
        assert variables["BRIDGE_CONFIG"] == "/config"
        super().__init__(config, f"sqlite:///{data}/bridge.db", VARIABLES)

    def _command(self) -> list[str]:
        (program,) = orjson.loads(last("ENTRYPOINT"))
        assert program == "theeye-bridge"
        command = [sys.executable, "-m", "bridge", *orjson.loads(last("CMD"))]
        return in_read_only_root(command, self._data)

    def health(self) -> int:
        """The exit status of the health check."""
        _, *arguments = healthcheck()
        environ = {"PORT": str(self.port)}
        done = subprocess.run([sys.executable, *arguments], env=environ, check=False, capture_output=True)
        return done.returncode


def test_it_runs_without_rights_in_a_read_only_root(home: Path, theeye: StandIn) -> None:
    if not may_mount():
        lacks("mount")
    with Container(home, write_table(home, theeye.url)) as container:
        assert push(container.port, "one").status == 202
        assert [job.values for job in theeye.wait_for(1)] == [("one",)]
        assert container.health() == 0
        status = Path(f"/proc/{container.workers[0]}/status").read_text()
        assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
        probe = in_read_only_root(["sh", "-c", f"echo > {home}/probe"], home / "data")
        assert subprocess.run(probe, check=False, capture_output=True).returncode != 0
        assert container.stop() == 0
    assert container.health() != 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_steps_of_the_build_install_the_bridge(home: Path) -> None:
    """With a network. Each absolute path is one in a folder."""
    if os.getuid() != 0:
        pytest.skip("the image's folder for data gets another owner")
    moved = re.compile(r"(?<![\w.])/(?=(opt|src|data)\b)")
    folder = home
    environ = {"PATH": os.environ["PATH"], "HOME": str(home)}
    for name, rest in instructions():
        words = moved.sub(f"{home}/", rest)
        match name:
            case "WORKDIR":
                folder = Path(words)
                folder.mkdir(exist_ok=True)
            case "COPY" if "--from" not in rest:
                *sources, target = words.split()
                for path in (path for source in sources for path in copied(source)):
                    to = folder / (path if target == "./" or path.startswith(f"{target}/") else target)
                    to.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(CHECKOUT / path, to)
            case "RUN":
                words = words.replace("python -m venv", f"{sys.executable} -m venv")
                subprocess.run(["sh", "-ec", words], cwd=folder, env=environ, check=True)
    program = home / "opt" / "bridge" / "bin" / "theeye-bridge"
    done = subprocess.run([program, "demo", "--once"], cwd="/", check=True, capture_output=True, text=True)
    assert "202" in done.stdout
    assert (home / "data").stat().st_uid == int(last("USER").partition(":")[0])
    assert not (program.parent / "pip").exists()


# compose.yaml


def compose() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())
    return services


@pytest.mark.parametrize("name", ["bridge", "database"])
def test_each_service_is_closed(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert "/tmp" in service["tmpfs"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_secrets_are_files_that_git_and_the_image_ignore() -> None:
    table = compose()
    files = {name: secret["file"] for name, secret in table["secrets"].items()}
    for service in table["services"].values():
        assert set(service["secrets"]) <= set(files)
        for name, value in service["environment"].items():
            assert (name.endswith("_FILE") and value.startswith("/run/secrets/")) or name == "POSTGRES_USER"
            if name.endswith("_FILE"):
                assert value.removeprefix("/run/secrets/") in service["secrets"]
    ignored = subprocess.run(
        ["git", "check-ignore", *files.values()], cwd=CHECKOUT, check=True, capture_output=True
    )
    assert len(ignored.stdout.split()) == len(files)


def test_the_bridge_waits_for_the_database_and_has_time_to_stop() -> None:
    services = compose()["services"]
    assert services["bridge"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert services["database"]["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    assert re.fullmatch(r"\w+:\d+-\w+", services["database"]["image"])
    assert services["bridge"]["stop_grace_period"] == "30s"  # longer than BRIDGE_STOP_TIMEOUT


def test_the_variables_are_those_of_the_shipped_table() -> None:
    named = set(re.findall(r"env\.(\w+)", (CHECKOUT / "config" / "routes.yml").read_text()))
    variables = {name.removesuffix("_FILE") for name in compose()["services"]["bridge"]["environment"]}
    assert variables == {*named, "DATABASE_URL"}
