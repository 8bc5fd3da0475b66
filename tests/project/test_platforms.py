"""The files that platforms read agree with each other, with the commands and with the settings."""

from __future__ import annotations

import re
import shlex
from typing import Any

import click
import orjson
import pytest
import yaml

from bridge import __version__
from bridge.cli import main
from bridge.process.settings import VARIABLES
from docs.generate import ROOT

TEMPLATE = ROOT / "docs" / "template"

#: Variables that Heroku sets itself, and those that have no use there.
NOT_ON_HEROKU = {"PORT", "DATABASE_URL", "BRIDGE_BIND", "BRIDGE_PERSISTENT_DISK"}


def procfile() -> dict[str, str]:
    lines = (ROOT / "Procfile").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines)


def table_variables() -> set[str]:
    """The variables of the shipped table."""
    return set(re.findall(r"env\.(\w+)", (ROOT / "config" / "routes.yml").read_text()))


def app() -> Any:
    return orjson.loads((ROOT / "app.json").read_bytes())


def blueprint(*, with_worker: bool = False) -> Any:
    text = (ROOT / "render.yaml").read_text()
    if with_worker:
        text = re.sub(r"^  # (?=  |- )", "  ", text, flags=re.MULTILINE)
    return yaml.safe_load(text)


def test_the_release_checks_before_it_upgrades() -> None:
    """An invalid table must not leave a new schema under the old release."""
    assert procfile() == {
        "release": "python -m bridge check --env && python -m bridge db upgrade",
        "web": "python -m bridge serve",
        "worker": "python -m bridge worker",
    }


@pytest.mark.parametrize("line", procfile().values())
def test_every_command_of_the_procfile_exists_with_its_options(line: str) -> None:
    for each in line.split(" && "):
        python, option, package, *words = shlex.split(each)
        assert (python, option, package) == ("python", "-m", "bridge")
        command: click.Command = main
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), words.pop(0))
            assert found is not None, each
            command = found
        command.make_context(each, words)


def test_herokus_button_describes_every_variable() -> None:
    described = app()["env"]
    documented = {each.name: each for each in VARIABLES if each.name not in NOT_ON_HEROKU}
    assert set(described) == table_variables() | set(documented)
    for name, variable in documented.items():
        assert described[name]["description"] == variable.meaning.replace("`", "")
        # A value would hide the default of a later release.
        assert "value" not in described[name]
        assert described[name].get("generator") == "secret" or described[name]["required"] is False


def test_herokus_button_adds_a_database_and_generates_secrets() -> None:
    assert app()["addons"] == ["heroku-postgresql:essential-0"]
    generated = {name for name, each in app()["env"].items() if each.get("generator") == "secret"}
    assert generated == {"GITHUB_SECRET", "BRIDGE_STATUS_TOKEN", "BRIDGE_ADMIN_PASSWORD"}
    assert set(app()["formation"]) == set(procfile()) - {"release"}


@pytest.mark.parametrize("with_worker", [False, True])
def test_renders_blueprint_runs_the_procfile(with_worker: bool) -> None:
    commands = procfile()
    services = {each["type"]: each for each in blueprint(with_worker=with_worker)["services"]}
    assert set(services) == ({"web", "worker"} if with_worker else {"web"})
    assert services["web"]["preDeployCommand"] == commands["release"]
    (database,) = blueprint()["databases"]
    for kind, service in services.items():
        assert service["startCommand"] == commands[kind]
        variables = {each["key"]: each for each in service["envVars"]}
        assert variables["DATABASE_URL"]["fromDatabase"]["name"] == database["name"]
        assert table_variables() <= set(variables)
        known = {each.name for each in VARIABLES} | table_variables()
        assert set(variables) <= known
        assert service["maxShutdownDelaySeconds"] == 30


def test_the_template_names_this_release() -> None:
    (line,) = [
        line for line in (TEMPLATE / "requirements.txt").read_text().splitlines() if not line.startswith("#")
    ]
    assert line == f"theeye-bridge @ git+https://github.com/YOUR-ORGANIZATION/theeye-bridge@v{__version__}"


def test_the_template_has_six_files_and_starts_like_the_checkout() -> None:
    files = {path.relative_to(TEMPLATE).as_posix() for path in TEMPLATE.rglob("*") if path.is_file()}
    assert files == {
        ".github/workflows/check.yml", ".gitignore", "Procfile", "config/routes.yml", "config/tests.yml",
        "requirements.txt",
    }  # fmt: skip
    assert (TEMPLATE / "Procfile").read_text() == (ROOT / "Procfile").read_text()


def test_the_templates_workflow_uses_the_same_actions() -> None:
    """They are pinned by their commits."""
    actions = r"uses: (\S+)"
    ours = re.findall(actions, (ROOT / ".github" / "workflows" / "ci.yml").read_text())
    theirs = re.findall(actions, (TEMPLATE / ".github" / "workflows" / "check.yml").read_text())
    assert theirs and set(theirs) <= set(ours)
