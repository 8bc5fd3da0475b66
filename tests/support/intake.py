"""Intake as a process has it, without HTTP: a table, a store in a file, a clock that tests move.

Signatures are made here with the standard library alone, as the senders' documentation says: a test
that signed with the code under test would agree with any mistake of it.
"""

from __future__ import annotations

import hashlib
import hmac
import sqlite3
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from flask import Flask
from sqlalchemy import Connection, NullPool, create_engine, text

from bridge.app import table_watcher, wire
from bridge.config.load import load
from bridge.core.errors import Unreadable
from bridge.core.event import Headers, Request
from bridge.core.job import Job, JobState
from bridge.core.secrets import Mask, Secret
from bridge.intake.answer import Answer
from bridge.intake.receive import Receiver
from bridge.intake.refusals import Refusals
from bridge.outbox.row_mapping import decompressed
from bridge.outbox.store import Outbox
from bridge.process.settings import Settings
from bridge.routing.routing_table import RoutingTable
from bridge.sources.base.discovery import discover
from bridge.sources.base.sample import completed
from bridge.sources.base.source import Source
from bridge.web.application import create_app
from tests.support.server import STATUS_TOKEN
from tests.support.tables import wait_until

FIXTURES = Path(__file__).parents[1] / "fixtures"

#: What `${{ env.… }}` reads in the tests' tables.
VARIABLES = {
    "GITHUB_SECRET": "It's a Secret to Everybody",
    "GITHUB_SECRET_OLD": "the one before",
    "TOKEN": "t0ken-0123456789",
    "TOKEN_OLD": "t0ken-before",
    "PASSWORD": "pass:w0rd-é",
    "TASK_KEY": "k1" * 32,
}

TASK = "5f3c9a7be4b0a1c2d3e4f501"

JSON_HEADERS = {"Content-Type": "application/json"}

BEARER = {"Authorization": f"Bearer {VARIABLES['TOKEN']}"}


def table(text: str) -> str:
    """A table's YAML below its first section; TASK and KEY stand for a task and its key."""
    text = text.replace("TASK", TASK).replace("KEY", '"${{ env.TASK_KEY }}"')
    return f"theeye: {{customer: acme, url: http://127.0.0.1:9}}\n{text}"


def sample(path: str) -> bytes:
    """A request's body as its sender wrote it, such as ``github/push.json``."""
    return (FIXTURES / path).read_bytes()


def signature(body: bytes, secret: str = VARIABLES["GITHUB_SECRET"], algorithm: str = "sha256") -> str:
    """What stands in X-Hub-Signature-256."""
    digest = hmac.new(secret.encode(), body, getattr(hashlib, algorithm)).hexdigest()
    return f"{algorithm}={digest}"


def github_headers(
    body: bytes, event: str = "push", delivery: str = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
) -> dict[str, str]:
    """The headers with which GitHub sends `body` as JSON."""
    return {
        **JSON_HEADERS,
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery,
        "X-GitHub-Hook-ID": "292430182",
        "X-Hub-Signature": signature(body, algorithm="sha1"),
        "X-Hub-Signature-256": signature(body),
    }


def sender_request(source: Source, event: str | None, body: bytes) -> Request:
    """The webhook of this body and event, as its sender makes it, without its proofs."""
    return completed(source, event, Request(source.name, Headers(), {}, body, time.time()))


def basic(username: str, password: str) -> dict[str, str]:
    pair = f"{username}:{password}".encode()
    return {"Authorization": "Basic " + b64encode(pair).decode()}


class BodyReadError(Exception):
    """The receiver reads the body."""


class UnreadBody(AbstractContextManager[bytes, None]):
    """The body of a request that has not arrived."""

    def __enter__(self) -> bytes:
        raise BodyReadError

    def __exit__(self, *exception: object) -> None:
        """Nothing was read."""


@dataclass
class Clock:
    """Seconds since the epoch, as far as a test moves them."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Intake:
    """One process's Receiver on a store of its own."""

    def __init__(
        self, text: str, folder: Path, variables: Mapping[str, str] = VARIABLES, url: str | None = None
    ) -> None:
        """`url` is that of its store: by default a file in `folder`."""
        self._folder = folder
        self._variables = variables
        self.clock = Clock()
        self.database = folder / "bridge.db"
        self._url = url or f"sqlite:///{self.database}"
        self.outbox = Outbox(self._url, clock=self.clock)
        self.refusals = Refusals(self.outbox)
        #: The page's, from the next table on.
        self.public_url: str | None = None
        self.use(text)

    def use(self, text: str) -> None:
        """Take on another table, as after a restart with an edited one."""
        path = self._folder / "table.yml"
        path.write_text(table(text), "utf-8")
        self.loaded = load(path, self._variables, discover())
        self.table: RoutingTable = self.loaded.table
        self.outbox.expectations.use(self.table.expectations)
        mask = Mask(self.loaded.secrets)
        self.receiver = Receiver(self.table, self.outbox, self.refusals, mask, self.clock, self.public_url)

    def app(self, environ: Mapping[str, str] | None = None) -> Flask:
        """The web application over it, under these settings; what the table's variables hold is masked."""
        mask = Mask(map(Secret, self._variables.values()))
        settings = Settings.from_environ({"BRIDGE_STATUS_TOKEN": STATUS_TOKEN, **(environ or {})})
        bridge = wire(settings, table_watcher(settings), self.loaded, self.outbox, mask)
        return create_app(replace(bridge, receiver=self.receiver, refusals=self.refusals))

    def source(self, name: str) -> Source:
        return self.table.sources[name]

    def request(
        self,
        source: str,
        body: bytes,
        headers: Mapping[str, str] = JSON_HEADERS,
        query: Mapping[str, str] | None = None,
    ) -> Request:
        return Request(source, Headers(headers.items()), query or {}, body, self.clock())

    def post(
        self,
        source: str,
        body: bytes,
        headers: Mapping[str, str] = JSON_HEADERS,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """As the web process does: first what needs no body, then all of it.

        Raises Unreadable, with the stored reason, for an event that is stored without a name.
        """
        answer = self.receive(self.request(source, body, headers, query))
        is_without_jobs = answer.status == 200 and "event" in answer.body
        summary = self.outbox.summary(answer.body["event"]) if is_without_jobs else None
        if summary is not None and not summary.event:
            assert (answer.status, answer.body["jobs"], summary.jobs) == (200, [], 0)
            raise Unreadable(*summary.warnings)
        return answer

    def receive(self, request: Request) -> Answer:
        """Receive a request whose body has arrived."""
        return self.receiver.receive(request.with_body(b""), nullcontext(request.body))

    def check_head(self, head: Request) -> None:
        """Receive a request up to the moment when its body is read. Raises Refusal."""
        with suppress(BodyReadError):
            self.receiver.receive(head, UnreadBody())

    def jobs(self) -> list[Job]:
        """Every job, the oldest first."""
        return self.outbox.jobs(limit=1_000_000)[::-1]

    def rows(self) -> tuple[int, int]:
        """How many events with a name and how many jobs are stored."""
        named = "SELECT count(*) FROM events WHERE event != ''"
        counted = text(f"SELECT ({named}), (SELECT count(*) FROM jobs)")
        with beside(self._url) as connection:
            events, jobs = connection.execute(counted).one()
        return events, jobs

    def set_state(self, job_id: int, state: JobState) -> None:
        """Let a job stand where delivery or a person would have moved it."""
        claim = ("claim-1", self.clock() + 60) if state is JobState.SENDING else (None, None)
        with beside(self._url) as connection:
            connection.execute(
                text(
                    "UPDATE jobs SET state = :state, reason = 'as it was', claim_token = :claim,"
                    " lease_until = :lease WHERE id = :id"
                ),
                {"state": state, "claim": claim[0], "lease": claim[1], "id": job_id},
            )

    def stored_row(self, job_id: int) -> dict[str, Any]:
        """Every column of a job."""
        with beside(self._url) as connection:
            row = connection.execute(text("SELECT * FROM jobs WHERE id = :id"), {"id": job_id}).one()
        return dict(row._mapping)

    def close(self) -> None:
        self.refusals.close()
        self.outbox.close()


@contextmanager
def beside(url: str) -> Iterator[Connection]:
    """A connection to a store that does not go through the outbox; committed at the end."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    with engine.begin() as connection:
        yield connection


def wait_for_waiters(url: str, number: int) -> None:
    """Until so many transactions wait for what another holds.

    On SQLite nobody sees that; but there the second of two cannot begin before the first has ended.
    """
    if not url.startswith("sqlite"):
        waiting = text(
            "SELECT count(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE NOT granted AND datname = current_database()"
        )
        with beside(url) as connection:
            wait_until(lambda: connection.execute(waiting).scalar_one() >= number, "those that wait")


def count_rows(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many events and jobs are stored."""
    counted = connection.execute("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM jobs)")
    events, jobs = counted.fetchone()
    return int(events), int(jobs)


def everything_stored(folder: Path) -> bytes:
    """The bytes of the database, its write-ahead log too, and what is compressed there."""
    files = [path.read_bytes() for path in sorted(folder.glob("bridge.db*"))]
    with closing(sqlite3.connect(folder / "bridge.db")) as connection:
        bodies = [decompressed(body) for (body,) in connection.execute("SELECT body FROM events")]
    return b"".join([*files, *bodies])


def changed(body: bytes, **values: Any) -> bytes:
    """The same JSON object with other values at its top."""
    return orjson.dumps({**orjson.loads(body), **values})


def without(body: bytes, key: str) -> bytes:
    """The same JSON object without one of its keys."""
    return orjson.dumps({name: value for name, value in orjson.loads(body).items() if name != key})
