"""Target: what one delivering process knows of TheEye, over all its threads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from bridge.core.event import rfc3339
from bridge.core.job import Job
from bridge.core.task import Task
from bridge.delivery.circuit_breaker import CircuitBreaker, Probe, sign_of
from bridge.routing.routing_table import RoutingTable
from bridge.theeye.answer import Verdict

#: What is told where the bearer method got a 401.
UNAUTHORIZED = "TheEye refused the access token: set another, then restart or send SIGHUP"

log = logging.getLogger(__name__)


class Target:
    """Whether TheEye is out, and whether it still takes the access token. Safe to use from any thread."""

    def __init__(self, table: RoutingTable, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._clock = clock
        self._lock = threading.Lock()
        self._breaker = CircuitBreaker(table.theeye.timeout)
        #: When it opened, for people: seconds since the epoch.
        self._opened_at = 0.0
        self._token_refused = False

    def use(self, table: RoutingTable) -> None:
        """Go by another table: its token is tried, and of another URL nothing is known yet."""
        with self._lock:
            is_new_target = table.theeye.url != self._table.theeye.url
            self._breaker.reconfigure(table.theeye.timeout, is_new_target=is_new_target)
            self._table = table
            self._token_refused = False

    def claim_limit(self, free: int) -> int:
        """How many jobs may be claimed for `free` threads."""
        with self._lock:
            return self._breaker.claim_limit(free)

    @property
    def excluded_tasks(self) -> frozenset[str]:
        """The ids of tasks of which none may be claimed."""
        return self._table.by_token if self._token_refused else frozenset()

    @property
    def trouble(self) -> str | None:
        """What keeps jobs from being sent, for people; masked. None where nothing does."""
        told = []
        with self._lock:
            if self._breaker.is_open:
                told.append(f"TheEye is out since {rfc3339(self._opened_at)[:19]}Z: {self._breaker.reason}")
                if self._breaker.claim_limit(1):
                    told.append("it answers again, and the next job that is due will tell")
            if self._token_refused:
                told.append(UNAUTHORIZED)
        return "; ".join(told) or None

    def claimed(self, job: Job) -> None:
        """A job is about to be sent; `not_sent` or `heard` must follow."""
        with self._lock:
            self._breaker.claimed(job.id)

    def not_sent(self, job: Job) -> None:
        """A claimed job ended without a word of TheEye."""
        with self._lock:
            self._breaker.not_sent(job.id)

    def attempt_finished(
        self, table: RoutingTable, job: Job, task: Task, verdict: Verdict, status: int | None, detail: str
    ) -> bool:
        """An attempt by `table` ended; `status` where there was an answer, `detail` masked.

        Whether it is its job's own affair: after the first 401 on the token, the jobs that were in flight
        beside it hear the same, and wait with the rest; so do those that were sent with the token of a table
        that is no longer in force.
        """
        with self._lock:
            not_let_in = status == 401 and task.secret_key is None
            token_refused = not_let_in and not self._token_refused and table is self._table
            own_affair = token_refused or not not_let_in
            self._token_refused |= token_refused
            was_open, since = self._breaker.is_open, self._breaker.opened_at
            sign = sign_of(verdict.outcome, status, by_token=task.secret_key is None)
            self._breaker.attempt_finished(job.id, job.task_id, sign, time.monotonic(), detail)
            is_open = self._breaker.is_open
            if is_open and not was_open:
                self._opened_at = self._clock()
        if token_refused:
            log.error("%s", UNAUTHORIZED)
        if is_open and not was_open:
            log.warning("TheEye is out, no job is sent until it is back: %s", detail)
        elif was_open and not is_open:
            log.info("TheEye is back, it was out for %.0f s", time.monotonic() - (since or 0.0))
        return own_affair

    @property
    def seconds_to_probe(self) -> float | None:
        """In how many seconds a probe is due; None where none is to come."""
        with self._lock:
            at = self._breaker.next_probe_at
        return None if at is None else max(0.0, at - time.monotonic())

    def start_probe(self) -> Probe | None:
        """Begin a probe if one is due; `probed` must follow."""
        with self._lock:
            return self._breaker.start_probe(time.monotonic())

    def probe_finished(self, probe: Probe, alive: bool, detail: str) -> None:
        """A probe ended; `detail` masked."""
        with self._lock:
            self._breaker.probe_finished(probe, alive, time.monotonic(), detail)
