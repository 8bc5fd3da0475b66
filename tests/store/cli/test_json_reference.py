"""The keys of `--json` are those of docs/reference/json.md: every command runs, and its keys are compared."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import yaml

from bridge.cli import main
from bridge.core.event import JSON
from bridge.core.job import JobState, Outcome
from bridge.core.retry import Decision
from bridge.outbox.refused_requests import RefusedRequest
from bridge.outbox.store import Outbox
from docs.generate import ROOT, leaves
from tests.support.terminal import PUSH, TABLE, Terminal

REFERENCE = ROOT / "docs" / "reference"
#: Their values are those of a webhook, a task or a filter, so their keys are not the bridge's.
OPAQUE = {"headers", "query", "payload", "target", "task_arguments", "body"}

#: How each command runs in the terminal below; a section's title may be a command with an option.
COMMANDS = {
    "audit": ["audit"],
    "check": ["check"],
    "db status": ["db", "status"],
    "events list": ["events", "list"],
    "events list --refused": ["events", "list", "--refused"],
    "events show": ["events", "show", "1"],
    "explain": ["explain", "1"],
    "jobs list": ["jobs", "list"],
    "jobs show": ["jobs", "show", "1"],
    "preview": ["preview"],
    "prune": ["prune"],
    "test": ["test"],
}


def sections() -> dict[str, tuple[str, str]]:
    """Each section's level and text, by its anchor; with the fields of a job, which are on another page."""
    page = (REFERENCE / "json.md").read_text("utf-8")
    job = (REFERENCE / "states.md").read_text("utf-8").split("## Job fields\n")[1]
    parts = re.findall(r"^(##+) (.*)\n((?:(?!##).*\n)*)", page, re.MULTILINE)
    by_anchor = {title.lower().replace(" ", "-"): (level, text) for level, title, text in parts}
    return {**by_anchor, "job-fields": ("##", job)}


def documented(anchor: str) -> set[str]:
    """The paths of the keys in a section, also of those that its links lead to."""
    _, text = sections()[anchor]
    before, *rows = re.split(r"^\|", text, flags=re.MULTILINE)
    paths = {path for link in links(before) for path in documented(link)}
    for names, meaning in (row.split(" | ", 1) for row in rows[2:]):
        listed = meaning.startswith("a list of ")
        inside = {path for link in links(meaning) if listed for path in documented(link)}
        for name in re.findall(r"`([\w.]+)`", names):
            paths |= {name, *(f"{name}.{path}" for path in inside)}
    return paths


def links(text: str) -> list[str]:
    return re.findall(r"\]\((?:states\.md)?#([\w-]+)\)", text)


def paths_of(value: JSON, prefix: str = "") -> Iterator[str]:
    """The paths of the keys in an output; a list adds nothing to them."""
    if isinstance(value, list):
        for each in value:
            yield from paths_of(each, prefix)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name in OPAQUE or not isinstance(inner, dict):
                yield f"{prefix}{name}"
            if name not in OPAQUE:
                yield from paths_of(inner, f"{prefix}{name}.")


@pytest.fixture
def full(terminal: Terminal) -> Terminal:
    """A table and a store of which every command shows each of its keys."""
    table = yaml.safe_load(TABLE)
    route = {"source": "github", "event": "push", "loop": "payload.commits", "task": "deploy"}
    table["routes"] += [
        {**route, "name": "each", "match": {"item": 1}, "task_arguments": ["${{ item }}"]},
        {**route, "name": "dead", "task_arguments": ["${{ payload.nothing }}"]},
        {**route, "name": "odd", "when": "payload.commits / 2 > 1", "task_arguments": ["x"]},
    ]
    (terminal.config.parent / "push.json").write_text(json.dumps(PUSH))
    table["tests"] = [
        {"name": "one", "source": "github", "event": "push", "payload": "push.json", "expect": []}
    ]
    terminal.config.write_text(yaml.safe_dump(table))
    terminal.store(("other",))
    terminal.attempt(Decision(JobState.DEAD, None, "refused"), Outcome.REFUSED)
    with closing(Outbox(terminal.database_url)) as outbox:
        outbox.store_refused([RefusedRequest("github", time.time(), 401, "no signature", None, None)])
    assert terminal.run("jobs", "cancel", "1").exit_code == 0
    return terminal


@pytest.mark.parametrize("title", COMMANDS)
def test_the_keys_of_a_command_are_those_of_its_section(full: Terminal, title: str) -> None:
    output: JSON = json.loads(full.run(*COMMANDS[title], "--json").stdout)
    assert set(paths_of(output)) == documented(title.replace(" ", "-"))


def test_every_command_with_json_has_a_section() -> None:
    with_json = {
        name.partition(" ")[2]
        for name, command in leaves(main, "theeye-bridge")
        if any("--json" in parameter.opts for parameter in command.params)
    }
    assert {title for title in COMMANDS if "--" not in title} == with_json
    titles = {anchor for anchor, (level, _) in sections().items() if level == "##"}
    assert titles - {"job-fields"} == {title.replace(" ", "-") for title in COMMANDS}
