"""The database of a release, with data, as SQL: ``python -m tests.support.release_database 0.3.0 e17b39d``.

It runs the release from its commit, on each engine, with a stand-in TheEye, and writes FOLDER's files.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import psycopg
from sqlalchemy import text

from bridge.core.task import OnUnknown
from tests.support import pushes
from tests.support.intake import beside
from tests.support.postgresql import Cluster, find_programs
from tests.support.pushes import VARIABLES, Client
from tests.support.server import CHECKOUT, Server
from tests.support.tables import key_of, make_task, stand_in_task, wait_until
from tests.support.theeye import Answer, Fault, StandIn

FOLDER = CHECKOUT / "tests" / "fixtures" / "databases"

#: Accepted; refused; of lost answers; paused; and one that does not answer.
ACCEPTED, REFUSED, LOST, PAUSED, HANGING = (
    make_task(1), make_task(2), make_task(3, on_unknown=OnUnknown.HOLD), make_task(4), make_task(5),
)  # fmt: skip
TASKS = (ACCEPTED, REFUSED, LOST, PAUSED, HANGING)

#: The routes of the pushes, before those that `fill` makes.
PUSHES = ("accepted", "accepted", "refused", "broken", "lost", "paused", "paused", "unrouted")
#: How many jobs of a release's database are in each state.
STATES = Counter(waiting=1, sending=1, accepted=3, dead=2, unknown=1, skipped=2, canceled=1)


def table(url: str) -> dict[str, object]:
    """Return the routing table. The branch of a push names its route."""
    after, repository = "${{ payload.after }}", "${{ payload.repository.full_name }}"

    def route(name: str, task: int, argument: str = after, **more: object) -> dict[str, object]:
        match = {"payload.ref": f"refs/heads/{name}"}
        row = {"name": name, "source": "github", "match": match, "task": f"task{task}"}
        return {**row, "task_arguments": [argument], **more}

    return {
        "theeye": {"url": url, "customer": "acme", "timeout": "30s", "retry": {"longest_wait": "2s"}},
        "sources": {"github": {"secret": "${{ env.HOOK_SECRET }}", "expect_every": "365d"}},
        "tasks": {
            f"task{number}": {
                "id": task.id,
                "secret_key": f"${{{{ env.KEY{number} }}}}",
                "on_unknown": str(task.on_unknown),
            }
            for number, task in enumerate(TASKS, 1)
        },
        "routes": [
            route("accepted", 1, once_within="365d", once_key=repository),
            route("refused", 2),
            route("broken", 1, "${{ payload.nothing }}"),
            route("lost", 3),
            route("paused", 4, concurrency={"group": repository, "latest": True}),
            route("hanging", 5),
        ],
        "on_dead": {"task": "task1", "task_arguments": ["${{ job.reason }}"]},
    }  # fmt: skip


def load(release: str, url: str) -> None:
    """Fill an empty database with the dump of a release."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            file.executescript((FOLDER / f"{release}.sqlite.sql").read_text("utf-8"))
    else:
        with closing(psycopg.connect(url, autocommit=True)) as server:
            server.execute((FOLDER / f"{release}.postgresql.sql").read_bytes())


class Release(Server):
    """The server of another commit, unpacked into a folder."""

    may_fork = False

    def __init__(self, folder: Path, config: Path, url: str) -> None:
        self._folder = folder
        keys = {f"KEY{number}": key_of(task) for number, task in enumerate(TASKS, 1)}
        super().__init__(config, url, {**VARIABLES, **keys, "WEB_CONCURRENCY": "1"})

    def run(self, *arguments: str) -> None:
        """Run a command of the release."""
        command = [sys.executable, "-m", "bridge", *arguments]
        subprocess.run(command, cwd=self._folder, env=self._environ, check=True, stdout=subprocess.DEVNULL)

    def _command(self) -> list[str]:
        return ["sh", "-c", 'cd "$0" && exec "$@"', str(self._folder), *super()._command()]


def fill(server: Release, theeye: StandIn) -> None:
    """Let a release store jobs in each state, and kill it."""
    theeye.fault(Fault(task_id=ACCEPTED.id, answer=Answer(500, b"once"), times=1))
    theeye.fault(Fault(task_id=REFUSED.id, answer=Answer(403, b"forbidden")))
    theeye.fault(Fault(task_id=LOST.id, reset=True, saves=True))
    theeye.fault(Fault(task_id=HANGING.id, hang=60))
    server.run("pause", "task4", "--as", "alice")
    with closing(Client(server.port)) as sender:
        for number, route in enumerate(PUSHES):
            assert sender.push(f"commit-{number}", route).is_taken
        stopped = sender.push("canceled", "paused", "acme/web")
        server.run("jobs", "cancel", *map(str, stopped.jobs), "--as", "alice")
        assert sender.push("hanging", "hanging").is_taken
        assert unsigned(server).status == 401
    wait_until(lambda: states(server.database_url) == STATES, f"the states {STATES}")
    wait_until(lambda: count(server.database_url, "refused_requests"), "the refused request")
    wait_until(lambda: count(server.database_url, "processes"), "the process")
    wait_until(lambda: count(server.database_url, "expectations"), "the expectation")
    server.kill()


def unsigned(server: Release) -> pushes.Answer:
    """Push with a wrong secret."""
    with closing(Client(server.port, secret="another secret")) as stranger:
        return stranger.push("unsigned")


def states(url: str) -> Counter[str]:
    with beside(url) as connection:
        found = connection.execute(text("SELECT state, count(*) FROM jobs GROUP BY state"))
        return Counter(dict(found.all()))


def count(url: str, table: str) -> int:
    with beside(url) as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def dump(url: str) -> str:
    """The whole database as SQL."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            return "\n".join(file.iterdump()) + "\n"
    programs = find_programs()
    assert programs is not None
    command = [str(programs / "pg_dump"), "--inserts", "--no-owner", "--no-privileges", "--no-comments", url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    # Comments, settings and commands of psql depend on the release of PostgreSQL.
    return re.sub(r"^(--.*|\\.*|SET .*|)\n", "", done.stdout, flags=re.MULTILINE)


def databases(folder: Path) -> Iterator[tuple[str, str]]:
    """An empty database of each engine."""
    yield "sqlite", f"sqlite:///{folder / 'bridge.db'}"
    with Cluster(fsync=False) as cluster:
        yield "postgresql", cluster.create_database()


def main(release: str, commit: str) -> None:
    command = ["git", "archive", commit, "bridge"]
    archive = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True)
    with TemporaryDirectory() as name:
        folder = Path(name)
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        for engine, url in databases(folder):
            with StandIn(["acme"], map(stand_in_task, TASKS)) as theeye:
                config = folder / f"{engine}.yml"
                config.write_bytes(orjson.dumps(table(theeye.url)))  # JSON is YAML
                with Release(folder, config, url) as server:
                    fill(server, theeye)
                theeye.clear()
            (FOLDER / f"{release}.{engine}.sql").write_text(dump(url))


if __name__ == "__main__":
    main(*sys.argv[1:])
