"""Tables, events, jobs and webhooks in a line, without YAML; and what tests wait and tell the time with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import orjson
from sqlalchemy import Engine

from bridge.config.load import load
from bridge.core.event import JSON, Event, Headers
from bridge.core.job import Job, NewJob
from bridge.core.retry import RetryPolicy
from bridge.core.secrets import Secret
from bridge.core.task import Task
from bridge.demo.arguments import Argument as StandInArgument
from bridge.demo.arguments import StandInTask
from bridge.expressions.expression import Language
from bridge.outbox import claims
from bridge.outbox.postgresql import PostgreSQL
from bridge.outbox.sqlite import SQLite
from bridge.outbox.store import Outbox
from bridge.outbox.webhook import Webhook
from bridge.routing.route import Route
from bridge.routing.routing_table import RoutingTable
from bridge.sources.base.discovery import discover
from bridge.sources.base.source import Source
from bridge.sources.base.source_type import Replays
from bridge.theeye.request import TheEye

T = TypeVar("T")

#: When tests take place, unless they say otherwise: seconds since the epoch.
NOW = 1_700_000_000.0

#: How long a test waits for what must come, seconds: a bound for a hang, never reached otherwise.
PATIENCE = 20.0

_LANGUAGE = Language()


class Clock:
    """The time, which moves only when a test moves it."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def wait_until(ask: Callable[[], T], what: str = "what was waited for", within: float = PATIENCE) -> T:
    """The first true answer. Raises AssertionError where none comes `within` so many seconds."""
    deadline = time.monotonic() + within
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"{what} did not come within {within:.0f} s"
        time.sleep(0.002)
    return answer


def in_threads(works: Iterable[Callable[[], T]]) -> list[T]:
    """Every work in a thread of its own, all begun at once; their results. Raises what the first raised."""
    works = list(works)
    results: list[T] = []
    errors: list[Exception] = []
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], T]) -> None:
        barrier.wait(PATIENCE)
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    return results


def make_task(number: int = 1, **more: Any) -> Task:
    """Each number's task has an id, a name and a key of its own."""
    key = Secret(f"Key{number:02}".ljust(64, "x"))
    return replace(Task(f"5f3c9a7be4b0a1c2d3e4f5{number:02}", f"task {number}", key), **more)


def key_of(task: Task) -> str:
    """The secret key of a task that has one."""
    assert task.secret_key is not None
    return task.secret_key.reveal()


def stand_in_task(task: Task, arguments: int = 1, **more: Any) -> StandInTask:
    """The same task at the stand-in, with so many arguments."""
    declared = tuple(StandInArgument(f"argument {order + 1}") for order in range(arguments))
    same = StandInTask(
        id=task.id,
        secret_key=key_of(task),
        name=task.name,
        arguments=declared,
        arguments_type=task.arguments_type.value,
    )
    return replace(same, **more)


def make_route(
    name: str = "first",
    *,
    source: str = "github",
    task: Task | None = None,
    events: Iterable[str] = (),
    match: Mapping[str, Any] | None = None,
    when: str | None = None,
    loop: str | None = None,
    arguments: Iterable[Any] = (),
    allow_data_urls: bool = False,
) -> Route:
    """`match` and `arguments` as the YAML holds them, in Python's types."""
    row: dict[str, Any] = {
        "name": name,
        "source": source,
        "task": make_task().id,
        "secret_key": "${{ env.KEY }}",
        "task_arguments": list(arguments),
        "event": list(events),
        "match": match or {},
        "when": when,
        "loop": loop,
        "allow_data_urls": allow_data_urls,
    }
    table = {
        "theeye": {"customer": "acme"},
        "sources": {source: {"type": "generic", "allow_unsigned": True}},
        "routes": [{key: value for key, value in row.items() if value or key == "task_arguments"}],
    }
    with TemporaryDirectory() as folder:
        path = Path(folder, "table.yml")
        # JSON is YAML.
        path.write_bytes(orjson.dumps(table))
        (route,) = load(path, {"KEY": key_of(make_task())}, discover()).table.routes
    return replace(route, task=task or make_task(), table=None)


def make_table(
    *routes: Route,
    tasks: Iterable[Task] = (),
    url: str = "http://127.0.0.1:9",
    timeout: float = 5.0,
    retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
) -> RoutingTable:
    """A table of these routes and tasks (those of the routes too), with sources github and alerts."""
    types = discover()
    known = {task.id: task for task in (*tasks, *(route.task for route in routes))}
    return RoutingTable(
        theeye=TheEye("acme", url, timeout),
        retry=retry,
        sources={
            "github": Source("github", types["github"], ()),
            "alerts": Source("alerts", types["alertmanager"], ()),
        },
        tasks=known or {make_task().id: make_task()},
        routes=routes,
    )


def make_event(payload: JSON = None, **more: Any) -> Event:
    """A push from github, unless `more` says otherwise."""
    push = Event(
        source="github",
        event="push",
        action=None,
        delivery_id="delivery-1",
        headers=Headers(),
        query={},
        payload=payload,
        received_at=NOW,
        body=orjson.dumps(payload),
    )
    return replace(push, **more)


def make_job(*arguments: JSON, task: Task | None = None, **more: Any) -> NewJob:
    """A job of route `first`, unless `more` says otherwise."""
    task = task or make_task()
    return replace(NewJob("first", task.id, task.name, "", None, arguments), **more)


def dead_job(reason: str = "argument 1: payload.x is missing", **more: Any) -> NewJob:
    """A job whose arguments could not be built."""
    return make_job(**{"arguments": None, "reason": reason} | more)


def items(count: int, **more: Any) -> list[NewJob]:
    """The jobs of a loop over so many items, each with its index as the one argument."""
    return [make_job(n, item_key=f"item-{n}", item_index=n, **more) for n in range(count)]


def make_webhook(
    *jobs: NewJob,
    event: Event | None = None,
    fingerprint: str | None = None,
    window: float | None = 30.0,
    warnings: Iterable[str] = (),
    digest: bytes = b"the same body",
    replays: Replays | None = None,
    has_chosen_id: bool = False,
    **of_event: Any,
) -> Webhook:
    """A webhook with these jobs; `of_event` goes to `make_event`."""
    return Webhook(
        event or make_event(**of_event), fingerprint, window, jobs, tuple(warnings),
        digest, replays, has_chosen_id,
    )  # fmt: skip


def claim_jobs(
    outbox: Outbox, free: int = 1, lease: float = 60.0, *, starts: bool = True, **more: Any
) -> tuple[str, list[Job]]:
    """A claim's token and its jobs; `more` goes to `Outbox.claim`.

    An attempt of each has started, unless `starts` is false: then it is a job that cannot be sent.
    """
    of_claim: dict[str, Any] = {"busy": {}, "per_task": free, "can_send": lambda _: starts} | more
    claim = outbox.claim(free=free, lease=lease, **of_claim)
    return claim.token, list(claim.jobs)


def attempt_of(outbox: Outbox, job: Job) -> int:
    """The id of the attempt of a claimed job."""
    last = outbox.attempts(job.id)[-1]
    assert last.outcome is None, f"no attempt of job {job.id} has started"
    return last.id


def next_due(outbox: Outbox) -> float | None:
    """When the next job is due, as a claim says it."""
    return outbox._database.read(claims.next_due)


def engine_of(outbox: Outbox) -> Engine:
    """What a store speaks to its database with, to listen to it."""
    database = outbox._database
    assert isinstance(database, PostgreSQL | SQLite)
    return database._engine
