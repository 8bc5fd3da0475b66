"""The log of real processes in JSON: each line is an object with a known action, and ids follow the path."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import bridge
from bridge.core.job import JobState
from bridge.outbox.store import Outbox
from bridge.process.log_fields import ACTIONS
from tests.support import pushes
from tests.support.documents import code_blocks
from tests.support.pushes import VARIABLES, write_table
from tests.support.server import PATIENCE, Program, Server, Worker
from tests.support.tables import wait_until
from tests.support.theeye import Answer, Fault, StandIn

ALWAYS = ("time", "level", "logger", "action", "message")
#: A secret of the table, in a place where the bridge does not expect one, and what a terminal would act on.
FORGED = '\x1b[31m\n{"action":"dead"}\r\x85\u2028'


def lines(program: Program, action: str | None = None) -> list[dict[str, Any]]:
    """The lines of an action, or all. Raises AssertionError unless each is one object with a known action."""
    found = []
    for text in program.log.removesuffix("\n").split("\n"):
        assert text.isprintable(), text
        line = json.loads(text)
        assert tuple(line)[: len(ALWAYS)] == ALWAYS, text
        fields = set(line) - {*ALWAYS, "exception"}
        assert fields <= set(ACTIONS[line["action"]].split()), text
        found.append(line)
    return [line for line in found if action in (None, line["action"])]


def post(server: Server, path: str, headers: dict[str, str]) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as connection:
        connection.request("POST", path, b"{}", {"Content-Type": "application/json", **headers})
        return connection.getresponse().status


def test_ids_lead_from_the_webhook_to_its_attempts(tmp_path: Path, theeye: StandIn) -> None:
    """Through two attempts, of which TheEye refuses the last."""
    theeye.fault(Fault(answer=Answer(503, b"{}"), method="POST", times=1))
    theeye.fault(Fault(answer=Answer(400, b'{"message":"no"}'), method="POST", times=1))
    environ = {
        **VARIABLES,
        "LOG_LEVEL": "DEBUG",
        "GUNICORN_CMD_ARGS": "--access-logfile -",
        "GIT_REV": "abc123",
    }
    with Server(write_table(tmp_path, theeye.url), tmp_path / "bridge.db", environ) as server:
        (job_id,) = pushes.push(server.port, "one").jobs
        wait_until(lambda: '"state":"dead"' in server.log, "the last attempt")
        assert server.stop() == 0

    (received,) = lines(server, "receive")
    assert (received["source"], received["event_name"], received["delivery_id"]) == (
        "github", "push", "delivery-of-one",
    )  # fmt: skip
    assert (received["client"], received["duplicate"], received["jobs"]) == ("127.0.0.1", False, 1)
    tries = [line for line in lines(server, "deliver") if line["event"] == received["event"]]
    with closing(Outbox(f"sqlite:///{tmp_path / 'bridge.db'}")) as outbox:
        attempts, job = outbox.attempts(job_id), outbox.job(job_id)
    assert [(line["job"], line["attempt"]) for line in tries] == [(job_id, each.id) for each in attempts]
    assert [(line["outcome"], line["status"], line["state"]) for line in tries] == [
        ("unavailable", 503, "waiting"), ("refused", 400, "dead"),
    ]  # fmt: skip
    assert [line["seconds"] for line in tries] == [round(each.seconds or 0, 3) for each in attempts]
    assert {(line["route"], line["task"]) for line in tries} == {(job.route, "deploy")}
    assert tries[-1]["reason"] == job.reason

    (outage,) = lines(server, "outage")
    (recovered,) = lines(server, "recovered")
    assert "503" in outage["reason"]
    assert recovered["seconds"] > 0
    access = [line for line in lines(server, "access") if line["path"] == "/hooks/github"]
    assert [(line["method"], line["status"]) for line in access] == [("POST", 202)]
    assert isinstance(access[0]["bytes"], int)


def test_a_start_names_release_table_store_and_processes(tmp_path: Path, theeye: StandIn) -> None:
    config, database = write_table(tmp_path, theeye.url), tmp_path / "bridge.db"
    environ = {**VARIABLES, "GIT_REV": "abc123", "GUNICORN_CMD_ARGS": "--workers 2"}
    with Server(config, database, environ) as server:
        wait_until(lambda: len(lines(server, "start")) == 2, "both processes")
        pids = set(server.workers)
        server.stop()
    starts = lines(server, "start")
    assert {line["pid"] for line in starts} == pids == {line["pid"] for line in lines(server, "stop")}
    for line in starts:
        assert (line["release"], line["commit"]) == (bridge.__version__, "abc123")
        assert (line["table"], line["routes"], line["sources"]) == (str(config), 2, 1)
        assert len(line["table_hash"]) == 16
        assert (line["store"], line["processes"]) == (str(database), 2)
    with Worker(config, database, VARIABLES) as worker:
        worker.stop()
    assert [line["action"] for line in lines(worker) if line["action"] in ("start", "stop")] == [
        "start", "start", "stop",
    ]  # fmt: skip
    assert lines(worker, "start")[0]["processes"] == 1


def test_hostile_input_stays_in_its_field(tmp_path: Path, theeye: StandIn) -> None:
    secret = VARIABLES["HOOK_SECRET"]
    environ = {**VARIABLES, "GUNICORN_CMD_ARGS": "--access-logfile -"}
    with Server(write_table(tmp_path, theeye.url), tmp_path / "bridge.db", environ) as server:
        forged = "".join(f"%{byte:02x}" for byte in FORGED.encode())
        assert post(server, f"/hooks/{forged}", {}) == 404
        assert post(server, f"/hooks/{secret}", {}) == 404
        assert post(server, f"/{'x' * 1000}", {}) == 404
        named = {
            "X-GitHub-Event": f"push \x85 {secret}",
            "X-GitHub-Delivery": secret,
            "X-Hub-Signature-256": secret,
        }
        assert post(server, "/hooks/github", named) in (400, 401)
        # It is authentic: only its sender could write this.
        client = pushes.Client(server.port)
        client.push(f'a"b\u00a0{secret}')
        client.push("y" * 250)
        client.close()
        wait_until(lambda: len(lines(server, "deliver")) >= 1, "a delivery")
        server.stop()
    everything = lines(server)
    assert secret not in server.log
    assert "dead" not in {line["action"] for line in everything}
    assert (
        max(len(str(value)) for line in everything for name, value in line.items() if name not in ALWAYS)
        <= 201
    )
    paths = [line["path"] for line in lines(server, "access")]
    assert f"/hooks/{FORGED}" in paths
    assert "/hooks/<secret>" in paths


def test_a_dead_job_a_reload_and_a_dry_run_have_their_actions(tmp_path: Path, theeye: StandIn) -> None:
    config = write_table(tmp_path, theeye.url)
    text = config.read_text()
    config.write_text(text.replace("payload.after", "payload.gone", 1))
    environ = {**VARIABLES, "BRIDGE_DRY_RUN": "true", "BRIDGE_STATUS_TOKEN": "short"}
    with Server(config, tmp_path / "bridge.db", environ) as server:
        (dead_id,) = pushes.push(server.port, "one").jobs
        config.write_text(text)
        wait_until(lambda: lines(server, "reload"), "the reload")
        (skipped_id,) = pushes.push(server.port, "two").jobs
        wait_until(lambda: lines(server, "skip"), "the dry run")
        config.write_text(f"{text}\nroute: []\n")
        wait_until(lambda: lines(server, "table_problem"), "the mistake")
        server.stop()
    (dead,), (skip,) = lines(server, "dead"), lines(server, "skip")
    assert (dead["job"], dead["event"], dead["jobs"], dead["state"]) == (dead_id, 1, 1, JobState.DEAD)
    assert "payload.gone is missing" in dead["reason"]
    assert (skip["job"], skip["event"], skip["task"], skip["state"]) == (
        skipped_id,
        2,
        "deploy",
        JobState.SKIPPED,
    )
    (start,), (reload,) = lines(server, "start"), lines(server, "reload")
    assert reload["table_hash"] != start["table_hash"]
    assert len(lines(server, "reload_rejected")) == 1
    assert len(lines(server, "setting")) == 2


def test_the_pages_examples_are_lines_of_the_bridge(tmp_path: Path, theeye: StandIn) -> None:
    with Server(write_table(tmp_path, theeye.url), tmp_path / "bridge.db", VARIABLES) as server:
        pushes.push(server.port, "one")
        post(server, "/hooks/github", {"X-GitHub-Event": "push", "X-GitHub-Delivery": "two"})
        wait_until(lambda: lines(server, "deliver"), "the delivery")
        server.stop()
    examples = [json.loads(text) for text in code_blocks("docs/reference/logs.md", "json")]
    assert [example["action"] for example in examples] == ["receive", "deliver", "refuse"]
    for example in examples:
        (line,) = lines(server, example["action"])
        assert [(name, type(value)) for name, value in line.items()] == [
            (name, type(value)) for name, value in example.items()
        ]
        assert line["logger"] == example["logger"]
