"""A job that TheEye's agent could not run as it is never reaches TheEye: it is dead, with the reason."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from bridge.core.job import Job, JobState
from bridge.core.secrets import Mask
from bridge.core.task import Task
from bridge.core.task_arguments import MAX_SHELL_TEXT_BYTES, ArgumentsType
from bridge.demo.arguments import Argument, StandInTask
from bridge.outbox.store import Outbox
from bridge.routing.route import OnDead
from tests.support.delivery import Process, arguments, posts, quick_client
from tests.support.intake import TASK, VARIABLES, github_headers
from tests.support.server import Server
from tests.support.tables import make_job, make_route, make_table, make_task, stand_in_task, wait_until
from tests.support.theeye import StandIn

TABLE = """
theeye: {{customer: acme, url: "{url}", retry: {{for: 24h, longest_wait: 2s}}}}
sources:
  github: {{secret: "${{{{ env.GITHUB_SECRET }}}}"}}
tasks:
  deploy:
    id: {task}
    secret_key: ${{{{ env.TASK_KEY }}}}
    arguments: [message, environment, commit]
    arguments_type: {arguments_type}
routes:
  - source: github
    task: deploy
    task_arguments:
      message: ${{{{ payload.head_commit.message }}}}
      environment: staging
      commit: ${{{{ payload.after }}}}
"""


def push(server: Server, message: str, commit: str) -> int:
    """The number of the job that a signed push makes."""
    pushed = {"ref": "refs/heads/main", "before": "0", "after": commit, "head_commit": {"message": message}}
    body = json.dumps(pushed).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with closing(connection):
        connection.request("POST", "/hooks/github", body, github_headers(body, delivery=f"delivery-{commit}"))
        answer = connection.getresponse()
        assert answer.status == 202
        job_id: int = orjson.loads(answer.read())["jobs"][0]["id"]
        return job_id


def ended(outbox: Outbox, job_id: int) -> Job:
    """The job once it waits no more."""
    still = (JobState.WAITING, JobState.SENDING)
    wait_until(lambda: outbox.job(job_id).state not in still, f"the end of job {job_id}")
    return outbox.job(job_id)


class TestOnARunningServer:
    @pytest.fixture
    def theeye(self) -> Iterator[StandIn]:
        declared = tuple(map(Argument, ("message", "environment", "commit")))
        with StandIn(["acme"], [StandInTask(TASK, VARIABLES["TASK_KEY"], "deploy", declared)]) as stand_in:
            yield stand_in

    def write(self, folder: Path, theeye: StandIn, arguments_type: str) -> Path:
        config = folder / "table.yml"
        config.write_text(TABLE.format(url=theeye.url, task=TASK, arguments_type=arguments_type))
        return config

    @pytest.mark.parametrize("arguments_type", ["legacy", "text"])
    def test_a_commit_message_moves_no_argument(
        self, theeye: StandIn, tmp_path: Path, arguments_type: str
    ) -> None:
        database = tmp_path / "bridge.db"
        messages = {
            "data:,fix the parser": "it begins like a data URL",
            "\ufeff\n DaTa:\r\nfix,the parser": "it begins like a data URL",
            "data:text/plain;base64,aGk=": "it begins like a data URL",
            "fix\x00the parser": "it contains a NUL character",
            "fix the parser'" * 8_000: "152,002 bytes of shell text",
        }
        config = self.write(tmp_path, theeye, arguments_type)
        with Server(config, database, VARIABLES) as server:
            job_ids = [push(server, message, f"bad-{at}") for at, message in enumerate(messages)]
            job_ids.append(push(server, "fix data:,the parser", "good"))
            with closing(Outbox(f"sqlite:///{database}", beside_a_server=True)) as outbox:
                *dead, fine = [ended(outbox, job_id) for job_id in job_ids]

        scripts = [job.script_arguments for job in theeye.jobs]
        assert scripts == [("fix data:,the parser", "staging", "good")]
        assert len(posts(theeye)) == 1
        assert fine.state is JobState.ACCEPTED
        # Dead from the start: one that was found when it was sent would have its arguments.
        assert [(job.state, job.arguments) for job in dead] == [(JobState.DEAD, None)] * len(messages)
        for job, flaw in zip(dead, messages.values(), strict=True):
            assert str(job.reason).startswith(f"message: {flaw}")

    def test_the_task_may_have_changed_since_the_job_was_made(self, theeye: StandIn, tmp_path: Path) -> None:
        database = tmp_path / "bridge.db"
        config = self.write(tmp_path, theeye, "json")
        theeye.refuse()
        with Server(config, database, VARIABLES) as server:
            job_id = push(server, "data:,fix the parser", "abc")
            server.stop()
            self.write(tmp_path, theeye, "legacy")
            theeye.listen()
            server.start()
            with closing(Outbox(f"sqlite:///{database}", beside_a_server=True)) as outbox:
                job = ended(outbox, job_id)
        assert job.state is JobState.DEAD
        assert str(job.reason).startswith("message: it begins like a data URL")
        assert (theeye.jobs, posts(theeye)) == ((), [])


LEGACY, AS_JSON = make_task(1), make_task(2, arguments_type=ArgumentsType.JSON)
FILE = "data:text/plain;base64,aGk="


class TestWhenItIsSent:
    """By the table in force then: jobs of an older release, or of an older table, are in the store."""

    @pytest.fixture
    def theeye(self) -> Iterator[StandIn]:
        with StandIn(["acme"], [stand_in_task(task) for task in (LEGACY, AS_JSON)]) as stand_in:
            yield stand_in

    @pytest.fixture
    def process(self, url: str, theeye: StandIn, tmp_path: Path) -> Iterator[Process]:
        routes = (make_route("files", allow_data_urls=True), make_route("texts"))
        table = make_table(*routes, tasks=(LEGACY, AS_JSON), url=theeye.url)
        with closing(Process(url, table, Mask([]), make_client=quick_client(tmp_path))) as process:
            yield process.start()

    @pytest.mark.parametrize(
        ("route", "task", "argument", "runs"),
        [
            ("files", LEGACY, FILE, True),
            ("files", LEGACY, "data:,x", False),
            ("texts", LEGACY, FILE, False),
            ("gone", LEGACY, FILE, False),
            (OnDead.NAME, LEGACY, FILE, False),
            ("texts", AS_JSON, FILE, True),
            ("texts", AS_JSON, "data:,x", True),
            ("texts", LEGACY, "\x00", False),
            ("texts", LEGACY, "x" * MAX_SHELL_TEXT_BYTES, False),
        ],
    )
    @pytest.mark.slow_unless(url="sqlite")
    def test_by_what_the_task_and_the_route_are_now(
        self, process: Process, theeye: StandIn, route: str, task: Task, argument: str, runs: bool
    ) -> None:
        (job_id,) = process.store(make_job(argument, task=task, route=route))

        job = process.wait_for(job_id, JobState.ACCEPTED, JobState.DEAD)

        assert job.state is (JobState.ACCEPTED if runs else JobState.DEAD)
        assert (len(posts(theeye)), len(process.outbox.attempts(job_id))) == (runs, runs)
        assert str(job.reason).startswith("argument 1: ") is not runs
        assert (job.claim_token, job.arguments) == (None, (argument,))

    def test_its_group_goes_on(self, process: Process, theeye: StandIn) -> None:
        process.store(make_job("data:,x", group="g"))
        (job_id,) = process.store(make_job("fine", group="g"))
        process.wait_for(job_id, JobState.ACCEPTED)
        assert arguments(theeye) == ["fine"]
