"""Use case 2: claim due jobs and deliver them.

One dispatcher claims jobs for the threads that are free. Each sending thread delivers one job at a time.
A job that waits is a row with a time: it holds no thread.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Set
from functools import partial
from uuid import uuid4

from bridge.core.errors import StoreUnavailable
from bridge.core.retry import MAX_RETRY_AFTER
from bridge.core.secrets import Mask
from bridge.delivery.circuit_breaker import Probe
from bridge.delivery.sender import STAYS_CLAIMED, ClaimedJob, Sender
from bridge.delivery.target import Target
from bridge.http.client import HttpClient
from bridge.http.connection import tls_context
from bridge.outbox.store import Outbox
from bridge.process.clock import JUMP_THRESHOLD, Clock
from bridge.process.log_fields import Fields, job_fields
from bridge.process.watchdog import Watchdog
from bridge.routing.routing_table import RoutingTable

#: Sending threads of a process; one task has at most half of them.
THREADS = 16
#: Seconds between two looks for due jobs without a wake-up: other processes write to the store, too.
POLL_INTERVAL = 2.0
#: How much longer than TheEye's time-out a lease is, seconds.
LEASE_SLACK = 30.0
#: Seconds between two heartbeats in the store.
HEARTBEAT_INTERVAL = 10.0
#: Seconds between two searches for silences and for times too far in the future.
REPAIR_INTERVAL = 60.0
#: The longest lease of any process, seconds: another one's table may have a longer time-out.
MAX_LEASE = 300.0
#: How long after a failure of the store no claim counts as abandoned, seconds: a process that has TheEye's
#: answer retries to record it every few seconds.
RECOVERY_DELAY = 10.0
#: After how long a round of the dispatcher counts as stalled, seconds.
STALL_TIMEOUT = 30.0

#: The trouble of a dry run.
DRY_RUN_NOTICE = "BRIDGE_DRY_RUN is set: no job is sent to TheEye, and due jobs become skipped"

log = logging.getLogger(__name__)


class Delivery:
    """Delivers the jobs of one store from one process."""

    def __init__(
        self,
        table: RoutingTable,
        outbox: Outbox,
        mask: Mask,
        *,
        threads: int = THREADS,
        dry_run: bool = False,
        clock: Clock | None = None,
        make_client: Callable[[Watchdog], HttpClient] | None = None,
    ) -> None:
        self._outbox = outbox
        self._threads = threads
        self._per_task = max(1, threads // 2)
        self._clock = clock = clock or Clock()
        #: The clock's jumps, forward and backward, after which stored times were corrected.
        self._followed_jumps = (0, 0)
        #: How far the store's clock was ahead of ``time.monotonic()``, and when it jumped or was first read.
        self._store_ahead, self._jumped_at = math.inf, -math.inf
        self._make_client = make_client or partial(HttpClient, trust=tls_context())
        self._table = table
        #: When the next job is due, as of the last claim, seconds since the epoch; None if none is known.
        self._next_due: float | None = None
        #: When a task's rate allows another start, seconds since the epoch; None where no rate is used up.
        self._next_start_at: float | None = None
        self._name = uuid4().hex
        self._target = Target(table, clock, outbox, self._name)
        self._sender = Sender(table, outbox, mask, self._target, clock, dry_run=dry_run)
        self._dry_run = dry_run
        #: Returns what else is wrong with this process, masked; for one without a `/readyz`.
        self.other_trouble: Callable[[], str | None] = lambda: None
        self._heartbeat_at = -HEARTBEAT_INTERVAL
        self._repaired_at = -REPAIR_INTERVAL
        #: When the dispatcher's last round began, by ``time.monotonic()``.
        self._round_at = time.monotonic()
        self._reported_trouble: str | None = None
        self._watchdog = Watchdog()
        self._claimed: queue.SimpleQueue[ClaimedJob | None] = queue.SimpleQueue()
        self._probes: queue.SimpleQueue[Probe | None] = queue.SimpleQueue()
        # Guards what follows; notified when a job may be due.
        self._changed = threading.Condition()
        self._busy: Counter[str] = Counter()
        self._woken = False
        self._stopping = False
        self._sending_threads: list[threading.Thread] = []
        self._dispatcher = threading.Thread(target=self._dispatch, name="dispatch", daemon=True)
        self._prober = threading.Thread(target=self._probe_all, name="probe", daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether every thread runs, and the dispatcher has not stalled."""
        threads = (*self._sending_threads, self._dispatcher, self._prober)
        is_stalled = time.monotonic() - self._round_at >= STALL_TIMEOUT
        return all(thread.is_alive() for thread in threads) and not is_stalled

    @property
    def trouble(self) -> str | None:
        """Why this process does not deliver, masked, or None."""
        delivery = DRY_RUN_NOTICE if self._dry_run else self._target.trouble
        return "; ".join(filter(None, (delivery, self._clock.trouble, self.other_trouble()))) or None

    def start(self) -> None:
        """Start to deliver. The dispatcher first recovers what a crash left claimed."""
        self._presence = self._outbox.presence()
        self._outbox.listen(self.wake)
        self._sending_threads = [
            threading.Thread(target=self._send_all, name=f"send-{number}", daemon=True)
            for number in range(self._threads)
        ]
        for thread in (*self._sending_threads, self._prober, self._dispatcher):
            thread.start()

    def use(self, table: RoutingTable) -> None:
        """Use another table from now on. Attempts that have started use the earlier one to their end."""
        self._target.use(table)
        self._table = self._sender.table = table
        self.wake()

    def wake(self) -> None:
        """Look for due jobs now."""
        if self._woken:  # the dispatcher resets it before it looks
            return
        with self._changed:
            self._woken = True
            self._changed.notify()

    def stop(self, seconds: float) -> None:
        """Stop claiming, and let attempts finish within `seconds`.

        Attempts that still run then are recorded as unknown.
        """
        if not self._sending_threads:
            return
        deadline = self._sender.deadline = time.monotonic() + seconds
        self._stopping = True
        self.wake()
        self._dispatcher.join(timeout=seconds)
        self._probes.put(None)
        for _ in range(self._threads):
            self._claimed.put(None)
        for sender in self._sending_threads:
            sender.join(timeout=max(0.0, deadline - time.monotonic()))
        self._sender.record_running("the bridge stopped before the answer came")
        self._leave()
        self._watchdog.close()
        self._presence.leave()

    # The dispatcher

    def _dispatch(self) -> None:
        recovered_at = time.monotonic()
        joined = False
        while not self._stopping:
            asked_at = self._clock()
            before, self._round_at = self._round_at, time.monotonic()
            try:
                if not joined:
                    self._join()
                    joined = True
                # Before a job is claimed: this process may end before the next round.
                self._follow_clock()
                self._claim()
                self._send_heartbeat()
                if time.monotonic() - before >= POLL_INTERVAL + RECOVERY_DELAY:
                    # This process was frozen. Others may have been, and record their answers first.
                    recovered_at = time.monotonic() + RECOVERY_DELAY - POLL_INTERVAL
                if time.monotonic() - recovered_at >= POLL_INTERVAL:
                    self._recover_abandoned(everything=False)
                    self._repair()
                    self._create_dead_job_alerts()
                    recovered_at = time.monotonic()
                wait = self._until_next(asked_at)
            except StoreUnavailable as error:
                log.warning("jobs cannot be claimed: %(reason)s", Fields("store", reason=error))
                recovered_at = time.monotonic() + RECOVERY_DELAY - POLL_INTERVAL
                wait = POLL_INTERVAL
            except Exception:
                # A defect must not end delivery.
                log.exception("claiming failed", Fields("defect"))
                wait = POLL_INTERVAL
            with self._changed:
                if not self._woken and not self._stopping and wait:
                    self._changed.wait(wait)
                self._woken = False

    def _join(self) -> None:
        """Register as a delivering process. Raises StoreUnavailable.

        If it is the only one, every claim is abandoned. So it must have no claims yet.
        """
        try:
            if self._presence.is_alone():
                self._recover_abandoned(everything=True)
        finally:
            self._presence.share()

    def _claim(self) -> None:
        """Claim jobs for the free threads."""
        if (probe := self._target.start_probe()) is not None:
            self._probes.put(probe)
        table = self._table
        with self._changed:
            free, busy = self._threads - self._busy.total(), dict(self._busy)
        limit = self._target.claim_limit(free)
        self._next_due = self._next_start_at = None
        claimed = self._claim_of(table, limit, busy, table.by_token)
        if table.by_token:
            # A request by token may get no answer: such jobs are claimed last, for half of the threads.
            held = sum(busy.get(task_id, 0) for task_id in table.by_token)
            limit = min(limit - claimed, self._per_task - held)
            self._claim_of(table, limit, busy, table.tasks.keys() - table.by_token)

    def _claim_of(self, table: RoutingTable, limit: int, busy: Mapping[str, int], excluded: Set[str]) -> int:
        """Claim up to `limit` jobs, none of the excluded tasks. Return how many."""
        if limit <= 0:
            return 0
        lease = _lease(table)
        lease_ends_at = time.monotonic() + lease
        claim = self._outbox.claim(
            free=limit,
            busy=busy,
            per_task=self._per_task,
            excluded_tasks=self._target.excluded_tasks | excluded,
            rates=table.rates,
            lease=lease,
            can_send=partial(self._sender.can_send, table),
        )
        if claim.next_due is not None:
            self._next_due = claim.next_due
        if claim.next_start_at is not None:
            self._next_start_at = min(claim.next_start_at, self._next_start_at or claim.next_start_at)
        # After the claim, so that an attempt without an answer does not seem longer than it was.
        now = self._clock()
        for job in claim.jobs:
            claimed = ClaimedJob(job, claim.token, lease_ends_at, table, claim.attempts.get(job.id), now)
            self._sender.expect(claimed)
            with self._changed:
                self._busy[job.task_id] += 1
            self._claimed.put(claimed)
        return len(claim.jobs)

    def _until_next(self, asked_at: float) -> float:
        """Return how many seconds to wait for the next job or probe.

        A job that was due at `asked_at` and was not claimed waits for its task's rate or for a free thread,
        which wakes the dispatcher.
        """
        seconds_to_probe = self._target.seconds_to_probe
        if seconds_to_probe is not None:
            return min(POLL_INTERVAL, seconds_to_probe)
        due = self._next_due
        due = self._next_start_at if due is None or due <= asked_at else min(due, self._next_start_at or due)
        return POLL_INTERVAL if due is None else min(POLL_INTERVAL, max(0.0, due - self._clock()))

    def _follow_clock(self) -> None:
        """After the clock was corrected, keep jobs from becoming dead or waiting for long because of it."""
        jumps = (self._clock.forward_jumps, self._clock.backward_jumps)
        if jumps == self._followed_jumps:
            return
        self._outbox.restart_retry_windows()
        if jumps[1] != self._followed_jumps[1]:
            self._correct_future_times(_lease(self._table))
        self._followed_jumps = jumps

    def _correct_future_times(self, longest: float) -> None:
        """Shorten waits of over `longest` seconds (or the longest wait), and leases that are too long."""
        longest = max(longest, self._table.retry.longest_wait)
        if corrected := self._outbox.correct_future_times(longest, max(_lease(self._table), MAX_LEASE)):
            fields = Fields("clock", jobs=corrected)
            log.warning("corrected future times of %(jobs)d jobs: a clock was ahead", fields)

    def _recover_abandoned(self, *, everything: bool) -> None:
        """Recover the jobs that a process left claimed. TheEye may have those that it had started."""
        left = self._outbox.abandoned_claims(everything=everything)
        # A jump of the store's clock ends no lease. The clock is read afterwards, to see a jump in between.
        now = time.monotonic()
        ahead = self._outbox.store_time() - now
        if abs(ahead - self._store_ahead) > JUMP_THRESHOLD:
            self._jumped_at = now
        self._store_ahead = ahead
        if not everything and now - self._jumped_at < _lease(self._table):
            return
        for job, attempt in left:
            if job.claim_token is None or (attempt is not None and self._sender.is_running(attempt.id)):
                continue
            if attempt is None:
                self._outbox.release(job, job.claim_token)
            else:
                why = "the process ended before the answer came"
                self._sender.record_lost(job, job.claim_token, attempt.id, attempt.started_at, why)
            log.warning("job %(job)d: recovered an abandoned claim", job_fields("reclaim", job))

    def _repair(self) -> None:
        """Shorten waits that are too long, and look for silences, once in each REPAIR_INTERVAL."""
        now = time.monotonic()
        if now - self._repaired_at >= REPAIR_INTERVAL:
            # Clocks of machines differ a little.
            self._correct_future_times(MAX_RETRY_AFTER + JUMP_THRESHOLD)
            for silent in self._outbox.expectations.alert(self._table.on_silence):
                log.warning(
                    "created a job of on_silence: %(reason)s", Fields("silence", reason=silent.trouble)
                )
                self.wake()
            self._repaired_at = now

    def _create_dead_job_alerts(self) -> None:
        on_dead = self._table.on_dead
        if on_dead is not None and (alerts := self._outbox.create_dead_job_alerts(on_dead)):
            log.info("jobs became dead; created %(jobs)d jobs of on_dead", Fields("alert", jobs=alerts))

    def _send_heartbeat(self) -> None:
        """Store that this process delivers, in each HEARTBEAT_INTERVAL and when its trouble changes."""
        now, trouble = time.monotonic(), self.trouble
        if trouble == self._reported_trouble and now - self._heartbeat_at < HEARTBEAT_INTERVAL:
            return
        self._outbox.heartbeat(self._name, trouble)
        self._reported_trouble, self._heartbeat_at = trouble, now

    def _leave(self) -> None:
        try:
            self._outbox.unregister(self._name)
        except StoreUnavailable as error:
            text = "could not remove this process from the list of delivering processes: %(reason)s"
            log.warning(text, Fields("store", reason=error))

    # The threads that send and probe

    def _send_all(self) -> None:
        client = self._make_client(self._watchdog)
        while (claimed := self._claimed.get()) is not None:
            try:
                self._sender.deliver(client, claimed)
            except StoreUnavailable as error:
                log.warning(STAYS_CLAIMED, job_fields("unrecorded", claimed.job, reason=error))
            except Exception:
                # A defect must not end the thread.
                log.exception("job %(job)d: sending failed", job_fields("defect", claimed.job))
            with self._changed:
                self._busy[claimed.job.task_id] -= 1
                self._woken = True
                self._changed.notify()
        client.close()

    def _probe_all(self) -> None:
        client = self._make_client(self._watchdog)
        while (probe := self._probes.get()) is not None:
            try:
                self._sender.probe(client, probe)
            except Exception:
                # A defect counts as a probe without an answer.
                log.exception("probing TheEye failed", Fields("defect"))
            self.wake()
        client.close()


def _lease(table: RoutingTable) -> float:
    """Return how long a claim lasts, seconds."""
    return table.theeye.timeout + LEASE_SLACK
