"""Target: what one delivering process knows of TheEye, over all its threads."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from datetime import datetime

from bridge.core.attempt_result import AttemptResult
from bridge.core.event import rfc3339
from bridge.core.job import Job
from bridge.core.task import Task
from bridge.delivery.circuit_breaker import CircuitBreaker, Probe, sign_of
from bridge.outbox.store import Outbox
from bridge.process.log_fields import Fields
from bridge.routing.routing_table import RoutingTable

#: How the trouble of an outage begins; the time follows, to the second.
OUTAGE = "TheEye has been unreachable since "
_OUTAGE = re.compile(OUTAGE + r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)", re.ASCII)
#: The trouble after a 401 on the access token.
UNAUTHORIZED = "TheEye refused the access token: set another, then restart or send SIGHUP"

#: Seconds between two looks at the other processes during an outage, and how long a heartbeat counts.
PEERS_INTERVAL, PEERS_TIMEOUT = 2.0, 30.0
#: How long one process probes for all, seconds.
TURN_SECONDS = 60.0

log = logging.getLogger(__name__)


def outage_began_before(trouble: str) -> float | None:
    """Return a time at which the outage had begun, seconds since the epoch; None for other troubles.

    A job that is sent later and accepted shows that the outage is over.
    """
    found = _OUTAGE.match(trouble)
    # The text has whole seconds.
    return None if found is None else datetime.fromisoformat(found[1]).timestamp() + 1


class Target:
    """Whether TheEye is reachable, and whether it accepts the access token. Safe to use from any thread."""

    def __init__(
        self,
        table: RoutingTable,
        clock: Callable[[], float] = time.time,
        outbox: Outbox | None = None,
        name: str = "",
    ) -> None:
        """`name` is that of this process's heartbeat in the store. Without a store it probes alone."""
        self._table = table
        self._clock = clock
        self._outbox = outbox
        self._name = name
        #: Whether it is this process's turn to probe, and when to ask the store again, ``time.monotonic()``.
        self._has_turn, self._ask_at = True, 0.0
        self._lock = threading.Lock()
        self._breaker = CircuitBreaker(table.theeye.timeout)
        #: When the circuit opened, for people: seconds since the epoch.
        self._opened_at = 0.0
        self._token_refused = False

    def use(self, table: RoutingTable) -> None:
        """Use another table: its token is tried again, and a new URL, CA or proxy closes the circuit."""
        with self._lock:
            new, old = table.theeye, self._table.theeye
            is_new_target = (new.url, new.trust, new.proxy) != (old.url, old.trust, old.proxy)
            self._breaker.reconfigure(table.theeye.timeout, is_new_target=is_new_target)
            self._table = table
            self._token_refused = False

    def claim_limit(self, free: int) -> int:
        """Return how many jobs may be claimed for `free` threads."""
        with self._lock:
            return self._breaker.claim_limit(free)

    @property
    def excluded_tasks(self) -> frozenset[str]:
        """The ids of tasks that may not be claimed."""
        return self._table.by_token if self._token_refused else frozenset()

    @property
    def trouble(self) -> str | None:
        """Why jobs are not sent, masked, or None."""
        reasons = []
        with self._lock:
            if self._breaker.is_open:
                since = f"{rfc3339(self._opened_at)[:19]}Z"
                reasons.append(f"{OUTAGE}{since}, circuit open: {self._breaker.reason}")
                if self._breaker.claim_limit(1):
                    reasons.append("it answers again; the bridge sends one job as a test")
            if self._token_refused:
                reasons.append(UNAUTHORIZED)
        return "; ".join(reasons) or None

    def claimed(self, job: Job) -> None:
        """Note that a job is about to be sent. `not_sent` or `attempt_finished` must follow."""
        with self._lock:
            self._breaker.claimed(job.id)

    def not_sent(self, job: Job) -> None:
        """Note that a claimed job was not sent."""
        with self._lock:
            self._breaker.not_sent(job.id)

    def attempt_finished(self, table: RoutingTable, job: Job, task: Task, result: AttemptResult) -> bool:
        """Note the masked result of an attempt that was sent by `table`. Return whether it concerns the job.

        A 401 on the access token concerns one job, the first. The others wait for another token, and so do
        jobs that were sent with the token of an earlier table.
        """
        by_token = task.secret_key is None
        with self._lock:
            unauthorized = by_token and result.status == 401
            is_first = unauthorized and not self._token_refused and table is self._table
            self._token_refused |= is_first
            was_open, opened_at = self._breaker.is_open, self._breaker.opened_at
            sign = sign_of(result.outcome, result.status, by_token=by_token)
            self._breaker.attempt_finished(job.id, job.task_id, sign, time.monotonic(), result.detail)
            is_open = self._breaker.is_open
            if is_open and not was_open:
                self._opened_at = self._clock()
        if is_first:
            log.error(UNAUTHORIZED, Fields("unauthorized"))
        if is_open and not was_open:
            text = "TheEye is unreachable; the circuit breaker stops sending: %(reason)s"
            log.warning(text, Fields("outage", reason=result.detail))
        elif was_open and not is_open:
            seconds = round(time.monotonic() - (opened_at or 0.0), 3)
            text = "TheEye is reachable again after %(seconds).0f s; sending continues"
            log.info(text, Fields("recovered", seconds=seconds))
        return is_first or not unauthorized

    @property
    def seconds_to_probe(self) -> float | None:
        """The seconds until a probe, or the turn to probe, may be due; None where none is."""
        with self._lock:
            at = self._breaker.next_probe_at
        if at is not None and not self._has_turn:
            at = max(at, self._ask_at)
        return None if at is None else max(0.0, at - time.monotonic())

    def start_probe(self) -> Probe | None:
        """Start a probe if one is due and it is this process's turn. `probe_finished` must follow.

        Raises StoreUnavailable.
        """
        now = time.monotonic()
        if self._outbox is not None and self._breaker.is_open and now >= self._ask_at:
            self._ask_at = now + PEERS_INTERVAL
            self._ask_peers(self._outbox)
        with self._lock:
            return self._breaker.start_probe(now) if self._has_turn else None

    def _ask_peers(self, outbox: Outbox) -> None:
        """Probe now if another process has delivered since the outage began; else find out whose turn it is.

        The turn changes, and only this process's own trial ends its outage: it may be cut off while TheEye
        answers the others.
        """
        last = outbox.last_accepted_at()
        seen = outbox.delivering(PEERS_TIMEOUT)
        out = sorted({self._name, *(each.name for each in seen if _OUTAGE.match(each.trouble or ""))})
        self._has_turn = out[int(self._clock() // TURN_SECONDS) % len(out)] == self._name
        if last > self._opened_at:
            self._has_turn = True
            with self._lock:
                self._breaker.hasten_probe(time.monotonic())

    def probe_finished(self, probe: Probe, alive: bool, detail: str) -> None:
        """Note how a probe ended; `detail` is masked."""
        with self._lock:
            self._breaker.probe_finished(probe, alive, time.monotonic(), detail)
