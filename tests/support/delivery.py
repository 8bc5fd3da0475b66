"""One process that delivers: a Delivery, its store, and a clock that a test can move."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from bridge.core.attempt_result import AttemptResult
from bridge.core.errors import StoreUnavailable
from bridge.core.event import JSON
from bridge.core.job import Attempt, Job, JobState, NewJob, Outcome
from bridge.core.retry import Decision
from bridge.core.secrets import Mask
from bridge.core.task import Task
from bridge.delivery.dispatcher import Delivery
from bridge.http.client import HttpClient
from bridge.outbox.claims import Claim
from bridge.outbox.store import Outbox
from bridge.process.clock import Clock
from bridge.process.watchdog import Watchdog
from bridge.routing.routing_table import RoutingTable
from tests.support.certificates import one_authority
from tests.support.tables import PATIENCE, make_job, make_task, make_webhook, wait_until
from tests.support.theeye import Received, StandIn

#: What a job is of that says nothing else.
TASK = make_task(1)


class Shifted(Clock):
    """The real time, moved by `offset` seconds."""

    offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


class Broken(Outbox):
    """A store that stops working where a test says so."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        #: What to do instead of a method, or before it where that returns; by the method's name.
        self.before: dict[str, Callable[[], None]] = {}
        self.calls: Counter[str] = Counter()

    def _meet(self, name: str) -> None:
        self.calls[name] += 1
        if name in self.before:
            self.before[name]()

    def claim(self, **named: Any) -> Claim:
        self._meet("claim")
        claimed = super().claim(**named)
        if claimed.jobs:
            self._meet("claimed")
        return claimed

    def record(self, job: Job, token: str, attempt_id: int, done: AttemptResult, decision: Decision) -> bool:
        self._meet("record")
        return super().record(job, token, attempt_id, done, decision)

    def abandoned_claims(self, *, everything: bool) -> list[tuple[Job, Attempt | None]]:
        self._meet("abandoned_claims")
        return super().abandoned_claims(everything=everything)


def unavailable() -> None:
    raise StoreUnavailable("the disk is gone")


class Process:
    """One process that delivers from a store."""

    def __init__(self, url: str, table: RoutingTable, mask: Mask, **of_delivery: Any) -> None:
        self.clock = Shifted()
        self.url = url
        self.outbox = Broken(self.url, clock=self.clock)
        self.delivery = Delivery(
            table, self.outbox, mask, **{"threads": 4, "clock": self.clock, **of_delivery}
        )
        self._names = count()
        self._stopped = False

    def start(self) -> Process:
        self.delivery.start()
        return self

    def store(self, *jobs: NewJob) -> list[int]:
        """The ids of new jobs of one event."""
        stored = self.outbox.store(make_webhook(*jobs, delivery_id=f"{id(self)}-{next(self._names)}"))
        return [job.id for job in stored.jobs]

    def send(self, argument: JSON = "main", task: Task = TASK) -> int:
        """The id of a new job."""
        return self.store(make_job(argument, task=task))[0]

    def job(self, job_id: int) -> Job:
        return self.outbox.job(job_id)

    def wait_for(self, job_id: int, *states: JobState) -> Job:
        wait_until(lambda: self.job(job_id).state in states, f"job {job_id} {' or '.join(states)}")
        return self.job(job_id)

    def wait_for_attempts(self, job_id: int, number: int) -> list[Attempt]:
        """The attempts, as soon as so many have ended."""

        def ended() -> list[Attempt]:
            return [one for one in self.outbox.attempts(job_id) if one.outcome is not None]

        wait_until(lambda: len(ended()) >= number, f"attempt {number} of job {job_id}")
        return ended()

    def outcomes(self, job_id: int) -> list[Outcome | None]:
        return [one.outcome for one in self.outbox.attempts(job_id)]

    def stop(self, seconds: float = PATIENCE) -> None:
        self._stopped = True
        self.delivery.stop(seconds)

    def stop_meanwhile(self) -> threading.Thread:
        """Begin to stop; the thread ends when that is done."""
        stopping = threading.Thread(target=self.stop)
        stopping.start()
        return stopping

    def close(self) -> None:
        self.outbox.before.clear()
        if not self._stopped:
            self.stop()
        self.outbox.close()


def quick_client(folder: Path) -> Callable[[Watchdog], HttpClient]:
    """Makes a client that trusts one authority alone."""
    return partial(HttpClient, trust=str(one_authority(folder)))


def arguments(theeye: StandIn) -> list[JSON]:
    """The first argument of each job that TheEye has, in their order."""
    return [job.values[0] for job in theeye.jobs]


def posts(theeye: StandIn) -> list[Received]:
    """The orders of jobs that came in, in their order, whatever was answered."""
    return [one for one in theeye.received if one.method == "POST"]


def probes(theeye: StandIn) -> list[Received]:
    """The questions whether TheEye is there."""
    return [one for one in theeye.received if one.method == "GET"]
