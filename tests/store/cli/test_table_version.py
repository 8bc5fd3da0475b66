"""Each job knows the routing table that built it: the hash of its text, and the commit."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from bridge.config.load import load
from bridge.core.job import JobState, TableVersion
from bridge.outbox.store import Outbox
from bridge.process.environment import Environment
from bridge.process.settings import COMMIT_VARIABLES, Settings
from bridge.sources.base.discovery import discover
from tests.support import pushes
from tests.support.intake import JSON_HEADERS, Intake
from tests.support.pushes import stand_in, write_table
from tests.support.server import Server
from tests.support.tables import dead_job, make_webhook
from tests.support.terminal import TABLE, Terminal

KEYS = {"HOOK_SECRET": "hook-secret-1", "TASK_KEY": "k1" * 32}


def hash_of(*texts: str) -> str:
    """As `cat config/*.yml | sha256sum` begins."""
    return sha256("".join(texts).encode()).hexdigest()[:16]


def version(path: Path, commit: str | None = None) -> TableVersion:
    return load(path, Environment(KEYS), discover(), commit=commit).version


class TestTheHash:
    def test_of_one_file(self, tmp_path: Path) -> None:
        path = tmp_path / "table.yml"
        path.write_text(TABLE, "utf-8")
        assert version(path) == TableVersion(hash_of(TABLE))
        assert version(path, "abc") == TableVersion(hash_of(TABLE), "abc")

    def test_of_a_folder_in_the_order_of_its_names(self, tmp_path: Path) -> None:
        routes = TABLE.index("routes:")
        parts = {"b.yml": TABLE[routes:], "a.yaml": TABLE[:routes]}
        for name, text in parts.items():
            (tmp_path / name).write_text(text, "utf-8")
        (tmp_path / "notes.txt").write_text("no part of it")
        assert version(tmp_path).hash == hash_of(parts["a.yaml"], parts["b.yml"])

    def test_every_edit_shows(self, tmp_path: Path) -> None:
        """Also of what no job is made of: it is the text's."""
        path = tmp_path / "table.yml"
        texts = [TABLE, TABLE + "# a comment\n", TABLE.replace("\n", "\r\n"), "\ufeff" + TABLE]
        found = set()
        for text in texts:
            path.write_bytes(text.encode())
            found.add(version(path).hash)
        assert len(found) == len(texts)


class TestTheCommit:
    @pytest.mark.parametrize("name", COMMIT_VARIABLES)
    def test_is_what_the_platform_says(self, name: str) -> None:
        assert Settings.from_environ({name: "6113728f27ae "}).commit == "6113728f27ae"

    def test_the_first_that_is_set_counts(self) -> None:
        names = {"COMMIT_SHA": "last", "SOURCE_VERSION": "", "RENDER_GIT_COMMIT": "there"}
        assert Settings.from_environ(names).commit == "there"

    @pytest.mark.parametrize("text", ["", " ", "-x", "a b", "a\nb", "a\x1bb", "é", "x" * 101])
    def test_what_is_none_is_not_taken(self, text: str) -> None:
        assert Settings.from_environ({"SOURCE_VERSION": text}).commit is None
        assert Settings.from_environ({"SOURCE_VERSION": text, "GIT_COMMIT": "v1.2/x"}).commit == "v1.2/x"


SHOP = """
sources:
  shop: {type: generic, allow_unsigned: true, delivery_id: payload.id}
routes:
  - {name: buy, source: shop, task: TASK, secret_key: KEY, task_arguments: ["${{ payload.FIELD }}"]}
"""
MORE = "  - {name: more, source: shop, task: TASK, secret_key: KEY, task_arguments: []}\n"


class TestJobs:
    def test_a_webhooks_jobs_know_it(self, make_intake: Callable[[str], Intake]) -> None:
        intake = make_intake(SHOP.replace("FIELD", "id"))
        intake.post("shop", b'{"id":"1"}', JSON_HEADERS)
        assert [job.table for job in intake.jobs()] == [intake.loaded.version]
        assert intake.loaded.version.commit is None

    def test_what_a_redelivery_builds_has_todays(self, make_intake: Callable[[str], Intake]) -> None:
        """A dead job and a missing one; what was left alone has the old one."""
        intake = make_intake(SHOP.replace("FIELD", "total") + MORE)
        body = b'{"id":"1","sum":5}'
        intake.post("shop", body, JSON_HEADERS)
        before = intake.loaded.version
        intake.use(SHOP.replace("FIELD", "sum") + MORE + MORE.replace("more", "third"))
        intake.post("shop", body, JSON_HEADERS)
        now = intake.loaded.version
        assert [(job.route, job.table) for job in intake.jobs()] == [
            ("buy", now), ("more", before), ("third", now),
        ]  # fmt: skip

    @pytest.mark.parametrize("command", [["jobs", "retry", "1"], ["events", "replay", "1"]])
    def test_what_a_person_asks_for_has_todays(self, terminal: Terminal, command: list[str]) -> None:
        terminal.store(None)
        assert terminal.job(1).table is None
        result = terminal.run(*command, **KEYS, GIT_COMMIT="abc123")
        assert result.exit_code == 0, result.output
        job = terminal.job(1 if command[0] == "jobs" else 2)
        assert job.state is JobState.WAITING
        assert job.table is not None
        assert job.table.hash == hash_of(TABLE)
        assert job.table.commit is not None

    def test_what_tells_of_a_death_has_todays(self, outbox: Outbox, tmp_path: Path) -> None:
        path = tmp_path / "table.yml"
        path.write_text(TABLE + "on_dead: {task: deploy, task_arguments: []}\n", "utf-8")
        loaded = load(path, Environment(KEYS), discover(), commit="abc")
        outbox.store(make_webhook(dead_job()))
        assert loaded.table.on_dead is not None
        assert outbox.create_dead_job_alerts(loaded.table.on_dead) == 1
        assert outbox.jobs()[0].table == loaded.version

    def test_it_is_shown(self, terminal: Terminal) -> None:
        terminal.store(None)
        for shown in ("  built by table", '"table_hash": "'):
            assert shown not in terminal.run("jobs", "show", "1").output
        assert json.loads(terminal.run("jobs", "show", "1", "--json").output)["table_hash"] is None
        environ = dict.fromkeys(COMMIT_VARIABLES, "")
        terminal.run("jobs", "retry", "1", **KEYS, **{**environ, "GIT_COMMIT": "abc123"})
        lines = terminal.run("jobs", "show", "1").output.splitlines()
        assert f"  built by table {hash_of(TABLE)} of commit abc123" in lines
        for command in (["jobs", "show", "1", "--json"], ["jobs", "list", "--json"]):
            found = json.loads(terminal.run(*command).stdout)
            found = found[0] if isinstance(found, list) else found
            assert (found["table_hash"], found["table_commit"]) == (hash_of(TABLE), "abc123")


def test_on_a_running_server_with_an_edit_and_a_commit(tmp_path: Path) -> None:
    with stand_in() as theeye:
        config = write_table(tmp_path, theeye.url)
        environ = {**pushes.VARIABLES, "RENDER_GIT_COMMIT": "6113728f"}
        before = hash_of(config.read_text("utf-8"))
        with Server(config, tmp_path / "bridge.db", environ) as server:
            assert pushes.push(server.port, "one").status == 202
            server.stop()
            assert f"the active routing table: {before} of commit 6113728f, routes: " in server.log
        outbox = Outbox(f"sqlite:///{tmp_path / 'bridge.db'}")
        assert [job.table for job in outbox.jobs()] == [TableVersion(before, "6113728f")]
        outbox.close()
