"""Every code block of the documentation is run, or is of a kind that a test names with its reason."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from shutil import copy, copytree

import click
import orjson
import pytest
import yaml
from click.testing import CliRunner
from sqlalchemy import text as sql

from bridge.cli import main
from bridge.config.load import load
from bridge.core.event import Event, Headers
from bridge.core.job import JobState
from bridge.core.problem import Severity
from bridge.outbox.store import Outbox
from bridge.outbox.webhook import Webhook
from bridge.routing.routing_table import RoutingTable
from bridge.sources.base.discovery import discover
from docs.generate import ROOT
from tests.support.certificates import one_authority
from tests.support.documents import BLOCKS, Block, code_blocks
from tests.support.intake import beside
from tests.support.server import Server

#: The table on which commands run: the example of the reference.
EXAMPLE = code_blocks("docs/reference/routing-table.md", "yaml")[0]

#: How each kind of block is tested, by its language.
KINDS = {
    "sh": "run here, line by line",
    "yaml": "loaded here",
    "json": "parsed here",
    "nginx": "run by test_nginx.py",
    "sql": "run by test_privileges.py",
    "ini": "a part of a systemd unit, which test_systemd.py verifies",
    "mermaid": "compared with the states of jobs by test_docs.py",
    "text": "not code: a diagram, a usage line or an output; see TEXT",
}
#: Pages with a diagram. Text on other pages is generated.
TEXT = ("README.md", "docs/explanation/architecture.md")

#: Commands that run until they are stopped: their options are parsed here, and other tests start them.
PROCESSES = ("serve", "worker", "demo", "fake-theeye")

#: Programs whose lines only a shell's parser reads here, and why.
NOT_RUN = {
    "pipx": "changes the user's home",
    "python3": "makes a virtual environment, which takes seconds; the Makefile does the same",
    ".": "activates that environment",
    "pip": "changes that environment, and needs a network",
    "git": "needs a remote repository",
    "heroku": "needs an account",
    "honcho": "may be missing; test_platforms.py checks the Procfile",
    "dokku": "needs a server with Dokku",
    "rm": "the table that it removes is another here",
    "curl": "needs the deployed bridge",
    "docker": "needs an engine; test_docker.py runs the steps of the image without one",
    "useradd": "changes the machine; test_systemd.py runs the unit's commands",
    "install": "changes the machine, too",
    "sudo": "needs that user",
    "systemctl": "needs systemd as the init",
    "pg_dump": "needs a server; test_privileges.py runs it",
    "pg_restore": "needs a server; test_privileges.py runs it",
    "promtool": "may be missing; test_prometheus.py runs it on the same file",
}
#: Programs that are run.
LOCAL = {"cat", "chmod", "cp", "echo", "grep", "mkdir", "mv", "openssl"}

KEY, SECRET = "k1" * 32, "s1" * 16
PUSH = ROOT / "bridge" / "demo" / "push.json"

each_of = pytest.mark.parametrize


def blocks(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def test_every_block_is_of_a_known_kind() -> None:
    unknown = [
        f"{block}: {block.language or 'no language'}" for block in BLOCKS if block.language not in KINDS
    ]
    assert not unknown, unknown
    pages = {language: {block.page for block in blocks(language)} for language in KINDS}
    assert pages["nginx"] == {"docs/how-to/nginx.md"}
    assert pages["sql"] == {"docs/how-to/database.md"}
    assert pages["ini"] == {"docs/how-to/systemd.md"}
    assert pages["mermaid"] == {"docs/explanation/architecture.md"}


def test_text_that_is_no_diagram_is_generated() -> None:
    for block in blocks("text"):
        if block.page not in TEXT:
            before = (ROOT / block.page).read_text("utf-8").split("\n")[: block.line]
            marks = [line for line in before if line.startswith(("<!-- generated: ", "<!-- end -->"))]
            assert marks and marks[-1] != "<!-- end -->", block


@each_of("block", blocks("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    assert orjson.loads(block.text)


# YAML


def completed(block: str) -> dict[str, str]:
    """Return the files of a whole table: the block, and the sections and names that it lacks."""
    table = yaml.safe_load(block)
    example = yaml.safe_load(EXAMPLE)
    rest: dict[str, object] = {} if "theeye" in table else {"theeye": example["theeye"]}
    for section in ("sources", "tasks"):
        named = {each.get(section[:-1]) for each in table.get("routes", []) + table.get("tests", [])}
        named |= {table.get(alert, {}).get(section[:-1]) for alert in ("on_dead", "on_silence")}
        lacking = named & set(example[section]) - set(table.get(section, {}))
        if lacking:
            rest[section] = {name: example[section][name] for name in lacking}
    return {"block.yml": block, **({"rest.yml": yaml.safe_dump(rest)} if rest else {})}


def is_another_programs(block: Block) -> bool:
    """Return whether the first line names another program's file."""
    return block.text.startswith(("# alertmanager.yml\n", "# prometheus.yml\n"))


@each_of("block", [block for block in blocks("yaml") if not is_another_programs(block)], ids=str)
def test_yaml_loads_without_mistakes(block: Block, tmp_path: Path) -> None:
    for name, text in completed(block.text).items():
        (tmp_path / name).write_text(text, "utf-8")
    one_authority(tmp_path).rename(tmp_path / "ca.pem")
    problems = load(tmp_path, {}, discover(), require_env=False).problems
    assert all(problem.severity is Severity.WARNING for problem in problems), problems
    incomplete = re.compile("is not set|there are no routes|http is not encrypted")
    assert [str(problem) for problem in problems if not incomplete.search(problem.message)] == []


def test_alertmanagers_yaml_names_the_source_of_its_page() -> None:
    (block,) = [block for block in blocks("yaml") if block.text.startswith("# alertmanager.yml\n")]
    (receiver,) = yaml.safe_load(block.text)["receivers"]
    (webhook,) = receiver["webhook_configs"]
    assert webhook["url"] == "https://your-bridge/hooks/alerts"
    table = yaml.safe_load(code_blocks(block.page, "yaml")[0])
    assert table["sources"]["alerts"]["type"] == "alertmanager"


# Shell


@dataclass
class Shell:
    """A folder with a table and a store, in which the lines of a page are run one after the other."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def run(self, line: str) -> None:
        """Run one line. Raises AssertionError if it fails."""
        words = words_of(line)
        while words and re.fullmatch(r"\w+=.*", words[0]):
            words.pop(0)  # of a prefix, such as DATABASE_URL=…, only the syntax is tested
        match words:
            case ["theeye-bridge", *arguments]:
                self._bridge(arguments)
            case ["export", *assignments]:
                self._export(assignments)
            case ["make", target]:
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
            case [program, *_] if program.startswith("/opt/"):
                assert Path(program).name in ("pip", "theeye-bridge"), line
            case ["openssl" | "echo", *_] if words[-1].startswith("/etc/"):
                pass  # the page's own files, of which test_systemd.py has others
            case [program, *_] if program in LOCAL or program.startswith("("):
                self._sh(line)
            case [program, *_]:
                assert program in NOT_RUN, f"{program!r} is neither run nor exempt: {line}"

    def _bridge(self, arguments: list[str]) -> None:
        target = None
        for redirection in (">", ">>"):
            if redirection in arguments:
                arguments, target = arguments[: arguments.index(redirection)], arguments[-1]
        arguments = [str(ROOT / word) if word.startswith("bridge/demo/") else word for word in arguments]
        if arguments[0] in PROCESSES:
            command = main.get_command(click.Context(main), arguments[0])
            assert command is not None
            command.make_context(arguments[0], arguments[1:])
            return
        if arguments[0] == "init":
            for path in (self.folder / "config").glob("*.yml"):
                path.unlink()
        result = CliRunner().invoke(main, arguments, input="y\n", env=self.environ)
        assert result.exit_code == 0, f"{shlex.join(arguments)}\n{result.output}"
        if target is not None:
            with (self.folder / target).open("a") as file:
                file.write(result.stdout)

    def _export(self, assignments: list[str]) -> None:
        for name, _, value in (each.partition("=") for each in assignments):
            if name.endswith("_FILE"):
                path = self._moved(value)
                Path(path).write_text(SECRET)
                self.environ[name] = path
                self.environ.pop(name.removesuffix("_FILE"), None)

    def _sh(self, line: str) -> None:
        environ = {"PATH": os.environ["PATH"]}
        subprocess.run(["sh", "-ec", self._moved(line)], cwd=self.folder, env=environ, check=True, timeout=30)

    def _moved(self, text: str) -> str:
        return text.replace("/etc/bridge/", f"{self.folder}/")


def words_of(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=">|;")
    lexer.whitespace_split = True
    return list(lexer)


def lines_of(block: Block) -> list[str]:
    lines = block.text.replace("\\\n", "").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.fixture(scope="module")
def table_and_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's table, and a store in which the ids of the docs are in the right states."""
    folder = tmp_path_factory.mktemp("docs")
    config = folder / "config"
    config.mkdir()
    (config / "routes.yml").write_text(EXAMPLE)
    push = orjson.loads(PUSH.read_bytes())
    (config / "tests").mkdir()
    (config / "tests" / "push-main.json").write_bytes(
        orjson.dumps({**push, "after": "6113728f27ae82c7b1a177c8d03f9e96e0adf246"})
    )
    table = load(config, variables_of(config), discover()).table
    url = f"sqlite:///{folder / 'bridge.db'}"
    with closing(Outbox(url)) as outbox:
        for number in range(20):
            outbox.store(webhook(table, push, number))
    states = {16: JobState.DEAD, 17: JobState.DEAD, 18: JobState.UNKNOWN, 19: JobState.UNKNOWN}
    with beside(url) as connection:
        for job_id, state in states.items():
            values = {"id": job_id, "state": state, "now": time.time()}
            connection.execute(
                sql("UPDATE jobs SET state = :state, ended_at = :now, blocked = 0 WHERE id = :id"), values
            )
    return folder


def webhook(table: RoutingTable, push: Mapping[str, object], number: int) -> Webhook:
    """A push of its own repository, so that no job supersedes another."""
    repository = {**push["repository"], "full_name": f"acme/api-{number}"}  # type: ignore[dict-item]
    payload = {**push, "repository": repository}
    event = Event(
        "github", "push", None, f"delivery-{number}",
        Headers([("X-GitHub-Event", "push")]), {}, payload, time.time(), orjson.dumps(payload),
    )  # fmt: skip
    routed = table.jobs_for(event)
    assert len(routed.jobs) == 1
    return Webhook(event, None, None, routed.jobs, routed.warnings, sha256(event.body).digest())


def variables_of(config: Path) -> dict[str, str]:
    """A value for each variable that the files of a table name."""
    names = {
        name for path in config.glob("*.yml") for name in re.findall(r"env\.(\w+)", path.read_text("utf-8"))
    }
    return {name: KEY if name.endswith("_KEY") else SECRET for name in names}


@pytest.fixture
def shell(table_and_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    config = tmp_path / "config"
    (config / "tests").mkdir(parents=True)
    for path in ("config/routes.yml", "config/tests/push-main.json"):
        copy(table_and_store / path, tmp_path / path)
    (tmp_path / "var").mkdir()
    copy(table_and_store / "bridge.db", tmp_path / "var")
    monkeypatch.chdir(tmp_path)
    lines = [orjson.dumps(orjson.loads(text)) for text in code_blocks("docs/reference/logs.md", "json")]
    (tmp_path / "bridge.log").write_bytes(b"\n".join((*lines, b"")))
    environ = {"BRIDGE_CONFIG": "config", "DATABASE_URL": f"sqlite:///{tmp_path / 'var' / 'bridge.db'}"}
    return Shell(tmp_path, environ)


@pytest.fixture(scope="module")
def server(table_and_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The bridge with the example's table and that of Grafana's guide, for the pages that send to it."""
    config = copytree(table_and_store / "config", tmp_path_factory.mktemp("served") / "config")
    guide = yaml.safe_load(code_blocks("docs/how-to/grafana.md", "yaml")[0])
    del guide["theeye"]  # the example has one
    (config / "grafana.yml").write_text(yaml.safe_dump(guide))
    environ = {**variables_of(config), "BRIDGE_DELIVER": "false"}
    with Server(config, table_and_store / "server.db", environ) as running:
        yield running


@each_of("page", dict.fromkeys(block.page for block in blocks("sh")))
def test_the_lines_of_a_page_run_in_their_order(
    page: str, shell: Shell, request: pytest.FixtureRequest
) -> None:
    taken = set(yaml.safe_load(EXAMPLE)["sources"])
    for number, text in enumerate(code_blocks(page, "yaml")):
        table = yaml.safe_load(text)
        sources = set(table.get("sources", {}))
        if sources and not sources & taken:
            table.pop("theeye", None)  # the example has one
            (shell.folder / "config" / f"{number}.yml").write_text(yaml.safe_dump(table))
    shell.environ |= variables_of(shell.folder / "config")
    shell.environ |= {"GITHUB_SECRET_NEW": SECRET}
    lines = [line for block in blocks("sh") if block.page == page for line in lines_of(block)]
    if any(line.startswith("theeye-bridge send ") for line in lines):
        shell.environ["PORT"] = str(request.getfixturevalue("server").port)
    for line in lines:
        subprocess.run(["sh", "-n", "-c", line], check=True)
        shell.run(line)


#: The guides that begin in an empty folder.
GUIDES = [f"docs/how-to/{name}.md" for name in ("alertmanager", "any-sender", "github", "grafana")]


@each_of("page", GUIDES)
def test_a_guide_is_complete_in_an_empty_folder(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first table, its variables and no others, and its commands, with the bridge from `serve` on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "routes.yml").write_text(code_blocks(page, "yaml")[0])
    environ = {"PATH": os.environ["PATH"]}
    with ExitStack() as running:
        for line in (line for block in blocks("sh") if block.page == page for line in lines_of(block)):
            match line.split():
                case ["theeye-bridge", "serve"]:
                    check = run_bridge(["check", "--env"], environ)
                    assert check.stdout.endswith("; no mistakes, 0 warnings\n"), check.stdout
                    # The server of the tests runs in another folder.
                    files = {
                        name: str(tmp_path / environ[name]) for name in environ if name.endswith("_FILE")
                    }
                    values = {**environ, **files, "BRIDGE_DELIVER": "false"}
                    server = Server(tmp_path / "config", tmp_path / "var" / "bridge.db", values)
                    environ["PORT"] = str(running.enter_context(server).port)
                case ["theeye-bridge", *arguments]:
                    done = run_bridge(shlex.split(line)[1:], environ)
                    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
                case ["export", assignment]:
                    name, _, value = assignment.partition("=")
                    # The page says to replace the zeros.
                    environ[name] = KEY if value == "0" * 64 else value
                case _:
                    subprocess.run(["sh", "-ec", line], cwd=tmp_path, check=True)
        assert "PORT" in environ, "it does not start the bridge"


def run_bridge(arguments: Sequence[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command in the working directory, with these variables only."""
    command = [sys.executable, "-m", "bridge", *arguments]
    environ = {**environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environ, check=False, capture_output=True, text=True)


def test_the_documented_hash_is_the_one_that_check_prints(shell: Shell) -> None:
    (line,) = code_blocks("docs/reference/states.md", "sh")
    output = subprocess.run(["sh", "-ec", line], cwd=shell.folder, check=True, capture_output=True, text=True)
    assert output.stdout[:16] == sha256(EXAMPLE.encode()).hexdigest()[:16]
    assert output.stdout[:16] in CliRunner().invoke(main, ["check"], env=shell.environ).output


def test_the_documented_fields_of_a_job_are_those_of_its_json(shell: Shell) -> None:
    page = (ROOT / "docs" / "reference" / "states.md").read_text("utf-8").split("## Job fields")[1]
    documented = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE)))
    (job,) = orjson.loads(
        CliRunner().invoke(main, ["jobs", "list", "--json", "--limit", "1"], env=shell.environ).stdout
    )
    assert sorted(documented) == sorted(job)


def test_the_documented_keys_of_an_explained_route_are_those_of_its_json(shell: Shell) -> None:
    page = (ROOT / "docs" / "how-to" / "test-a-change.md").read_text("utf-8")
    (sentence,) = re.findall(r"With `--json`, each route has the keys ([^.]*)\.", page)
    output = CliRunner().invoke(main, ["explain", "12", "--json"], env=shell.environ).output
    for route in orjson.loads(output)["routes"]:
        assert set(route) == set(re.findall(r"`(\w+)`", sentence))


def inline_commands() -> list[tuple[str, str]]:
    """The commands in running text, after their pages."""
    return [
        (page.relative_to(ROOT).as_posix(), found)
        for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
        for found in re.findall(r"`theeye-bridge ([a-z][^`]*)`", page.read_text("utf-8"))
    ]


@each_of(("page", "text"), inline_commands())
def test_a_command_in_running_text_exists_with_its_options(page: str, text: str) -> None:
    command: click.Command = main
    words = [word for word in shlex.split(text) if word != "…"]
    while (
        isinstance(command, click.Group)
        and words
        and (inner := command.get_command(click.Context(command), words[0])) is not None
    ):
        command = inner
        words.pop(0)
    assert command is not main, text
    assert not (isinstance(command, click.Group) and words), text
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options | {"--help"}, text
