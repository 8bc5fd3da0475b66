"""Servers on a PostgreSQL database whose defaults are not PostgreSQL's own."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import orjson
import psycopg
import pytest
from sqlalchemy import Connection, text

from bridge.core.job import JobState
from bridge.outbox.postgresql import PostgreSQL
from bridge.outbox.store import Outbox
from tests.support.forked import run_program
from tests.support.postgresql import Cluster
from tests.support.pushes import DEPLOY, VARIABLES, push, wait_until_none_waits, write_table
from tests.support.server import PATIENCE, Server
from tests.support.tables import in_threads
from tests.support.theeye import StandIn

#: One job for each alert, however often a group comes; one job for each window, whatever comes.
TABLE = """
theeye: {url: URL, customer: acme}
sources:
  alerts: {type: alertmanager, bearer_token: "${{ env.HOOK_SECRET }}"}
tasks:
  deploy: {id: TASK, secret_key: "${{ env.DEPLOY_KEY }}"}
routes:
  - {name: each, source: alerts, loop: payload.alerts, task: deploy, task_arguments: ["${{ item.status }}"]}
  - {name: once, source: alerts, once_within: 10m, once_key: x, task: deploy, task_arguments: [once]}
"""


def execute(url: str, statement: str) -> None:
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        connection.execute(statement.encode())


def set_default(url: str, setting: str) -> None:
    """Set something for all later sessions in this database."""
    execute(url, f"ALTER DATABASE {url.rpartition('/')[2]} SET {setting}")


def notify(server: Server, group: str) -> int:
    """Post an Alertmanager's notification; the status."""
    alert = {
        "status": "firing",
        "labels": {"alertname": group},
        "fingerprint": group,
        "startsAt": "2026-01-01",
    }
    body = {"version": "4", "groupKey": group, "status": "firing", "receiver": "r", "alerts": [alert]}
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {VARIABLES['HOOK_SECRET']}"}
    with closing(connection):
        connection.request("POST", "/hooks/alerts", orjson.dumps(body), headers)
        return connection.getresponse().status


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_equal_webhooks_at_once_make_one_job(
    tmp_path: Path, theeye: StandIn, postgresql_url: str, isolation: str
) -> None:
    set_default(postgresql_url, f"default_transaction_isolation = '{isolation}'")
    config = tmp_path / "table.yml"
    config.write_text(TABLE.replace("URL", theeye.url).replace("TASK", DEPLOY))
    with Server(config, postgresql_url, {**VARIABLES, "BRIDGE_DELIVER": "false"}) as server:
        for group in ("a", "b", "c"):
            in_threads([partial(server.get, "/readyz")] * 12)  # so that connections come from the pool
            answers = Counter(in_threads([partial(notify, server, group)] * 30))
            assert set(answers) <= {200, 202}, server.log
        assert "Traceback" not in server.log
    with closing(Outbox(postgresql_url)) as outbox:
        states = Counter((job.route, job.state) for job in outbox.jobs(limit=200))
        assert len(outbox.events()) == 3
    assert states == {
        ("each", JobState.WAITING): 3,
        ("once", JobState.WAITING): 1,
        ("once", JobState.SKIPPED): 2,
    }


#: Of a database or role; the bridge must work all the same.
ODD_DEFAULTS = (
    "bytea_output = 'escape'",
    "client_encoding = 'LATIN1'",
    "client_min_messages = 'debug1'",
    "DateStyle = 'German'",
    "default_transaction_deferrable = on",
    "default_transaction_isolation = 'serializable'",
    "enable_indexscan = off",
    "extra_float_digits = 0",
    "idle_in_transaction_session_timeout = '20ms'",
    "idle_session_timeout = '1500ms'",
    "lock_timeout = '1ms'",
    "row_security = off",
    "standard_conforming_strings = off",
    "statement_timeout = '100ms'",
    "synchronous_commit = off",
    "transform_null_equals = on",
    "work_mem = '64kB'",
)


def test_the_bridge_works_whatever_a_database_is_set_to(
    tmp_path: Path, theeye: StandIn, postgresql_url: str
) -> None:
    for setting in ODD_DEFAULTS:
        set_default(postgresql_url, setting)
    config = write_table(tmp_path, theeye.url)
    commits = [f"commit-{number}" for number in range(10)]
    with Server(config, postgresql_url, VARIABLES) as server, closing(Outbox(postgresql_url)) as outbox:
        answers = in_threads([partial(push, server.port, commit) for commit in commits])
        assert {answer.status for answer in answers} == {202}, server.log
        time.sleep(2.0)  # longer than a session may be idle
        assert push(server.port, commits[0]).status == 200
        theeye.wait_for(10)
        assert server.get("/readyz")[0] == 200
        wait_until_none_waits(outbox, PATIENCE)
        assert outbox.counts() == {JobState.ACCEPTED: 10}
        assert "Traceback" not in server.log
        assert "cannot NOTIFY" not in server.log
    assert Counter(job.values[0] for job in theeye.jobs) == dict.fromkeys(commits, 1)


@pytest.mark.parametrize(
    ("default", "used"),
    [
        ("default_transaction_isolation = 'serializable'", {"transaction_isolation": "read committed"}),
        ("idle_in_transaction_session_timeout = 0", {"idle_in_transaction_session_timeout": "10s"}),
        ("lock_timeout = '1ms'", {"lock_timeout": "5s"}),
        ("statement_timeout = '100ms'", {"statement_timeout": "6s"}),
        ("synchronous_commit = off", {"synchronous_commit": "on"}),
        ("synchronous_commit = remote_apply", {"synchronous_commit": "remote_apply"}),
    ],
)
def test_every_transaction_has_what_it_needs(postgresql_url: str, default: str, used: dict[str, str]) -> None:
    set_default(postgresql_url, default)
    with closing(PostgreSQL(postgresql_url)) as database:

        def show(connection: Connection) -> dict[str, str]:
            connection.execute(text("SELECT pg_sleep(0.2)"))
            return {name: connection.execute(text(f"SHOW {name}")).scalar_one() for name in used}

        for _ in range(3):
            assert database.write(show) == used
            assert database.read(show) == used


def lacks_schema(cluster: Cluster) -> str:
    url = cluster.create_database()
    set_default(url, "search_path = nowhere")
    return url


def in_encoding(encoding: str, cluster: Cluster) -> str:
    name = f"in_{encoding.lower()}"
    execute(
        cluster.url("postgres"),
        f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0",
    )
    return cluster.url(name)


@pytest.mark.parametrize(
    ("create", "said"),
    [
        (partial(in_encoding, "LATIN1"), "the database's encoding is LATIN1, the bridge needs UTF8: create "),
        (partial(in_encoding, "SQL_ASCII"), "the database's encoding is SQL_ASCII, the bridge needs UTF8: "),
        (lacks_schema, "search_path is nowhere, and the role may use no such schema: create the schema, "),
    ],
)
@pytest.mark.slow_unless(create=lacks_schema)
def test_a_database_that_cannot_keep_the_promises_is_refused(
    tmp_path: Path, postgresql_cluster: Cluster, create: Callable[[Cluster], str], said: str
) -> None:
    url = create(postgresql_cluster)
    try:
        config = write_table(tmp_path, "http://127.0.0.1:9")
        environ = {"PATH": os.environ["PATH"], "DATABASE_URL": url, "BRIDGE_CONFIG": str(config), **VARIABLES}
        for command in (
            "bridge db upgrade",
            "gunicorn -c python:bridge.server.gunicorn_config bridge.wsgi:app",
        ):
            done = run_program([sys.executable, "-m", *command.split()], environ)
            assert done.returncode != 0, command
            assert said in done.stderr.splitlines()[-1], done.stderr
            assert "Traceback" not in done.stderr
    finally:
        postgresql_cluster.drop(url)


def test_a_database_that_loses_data_in_a_crash_is_warned_of(tmp_path: Path, postgresql_url: str) -> None:
    """The cluster of the tests runs without fsync."""
    config = write_table(tmp_path, "http://127.0.0.1:9")
    with Server(config, postgresql_url, {**VARIABLES, "WEB_CONCURRENCY": "1"}) as server:
        assert "PostgreSQL may lose data in a crash: fsync is off" in server.log
