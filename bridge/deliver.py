"""Use case 2: jobs that are due are claimed, sent, and what came of them is recorded.

One dispatcher claims for as many threads as are free; each sending thread commits that it
starts, POSTs, and commits the outcome. A job that waits is a row with a time: it holds no thread.
"""

from __future__ import annotations

import logging
import math
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from bridge.errors import AnswerLost, NotSent, StoreUnavailable
from bridge.http import HttpClient
from bridge.job import Attempt, Job, JobState, Outcome
from bridge.outbox import Completion, Outbox
from bridge.retry import Decision, decide
from bridge.route import OnUnknown, Task
from bridge.settings import Mask
from bridge.table import RoutingTable
from bridge.theeye import JobRequest, Verdict, job_request, read_answer
from bridge.watchdog import Watchdog

#: Sending threads of a process; one task holds at most half of them.
THREADS = 16
#: How often, in seconds, the store is asked without a wake-up: other processes write to it, too.
POLL = 2.0
#: How long a job whose task this process's table lacks waits before it is tried again, seconds.
UNKNOWN_TASK_WAIT = 30.0
#: A send begins only if its lease outlasts the time-out by this, seconds.
LEASE_MARGIN = 5.0
#: How much longer than the time-out a lease is, seconds.
LEASE_SLACK = 30.0
#: Of what TheEye said, how many characters are kept.
MAX_DETAIL = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Claimed:
    job: Job
    token: str


@dataclass(frozen=True)
class _Running:
    """An attempt that has started and is not recorded."""

    claimed: _Claimed
    attempt_id: int
    started_at: float


class Delivery:
    """Delivers the jobs of one store from one process."""

    def __init__(
        self,
        table: RoutingTable,
        outbox: Outbox,
        mask: Mask,
        *,
        threads: int = THREADS,
        clock: Callable[[], float] = time.time,
        make_client: Callable[[Watchdog], HttpClient] = HttpClient,
    ) -> None:
        self._table = table
        self._outbox = outbox
        self._mask = mask
        self._threads = threads
        self._clock = clock
        self._make_client = make_client
        self._watchdog = Watchdog()
        self._claimed: queue.SimpleQueue[_Claimed | None] = queue.SimpleQueue()
        # Guards what follows; notified when there may be something to claim.
        self._changed = threading.Condition()
        self._busy: Counter[str] = Counter()
        #: By the attempt's id.
        self._running: dict[int, _Running] = {}
        self._woken = False
        self._stopping = False
        #: When a stop must be done, seconds of ``time.monotonic()``.
        self._deadline = math.inf
        self._workers: list[threading.Thread] = []

    @property
    def is_alive(self) -> bool:
        """Whether every thread of it runs."""
        return bool(self._workers) and all(worker.is_alive() for worker in self._workers)

    def start(self) -> None:
        """Take up what a crash left behind, then begin to deliver."""
        self._presence = self._outbox.presence()
        if self._presence.is_alone():
            self._take_up(everything=True)
        self._presence.share()
        self._outbox.woken = self.wake
        names = [f"send-{number}" for number in range(self._threads)]
        self._workers = [threading.Thread(target=self._send_all, name=name, daemon=True) for name in names]
        self._workers.append(threading.Thread(target=self._dispatch, name="dispatch", daemon=True))
        for worker in self._workers:
            worker.start()

    def wake(self) -> None:
        """Say that a job may be due now."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def stop(self, seconds: float) -> None:
        """Claim no more, hand back what is not started, let sends finish; all within `seconds`.

        What still runs then is recorded as unknown.
        """
        if not self._workers:
            return
        self._deadline = time.monotonic() + seconds
        self._stopping = True
        self.wake()
        dispatcher = self._workers[-1]
        dispatcher.join(timeout=seconds)
        self._hand_back_unstarted()
        for _ in range(self._threads):
            self._claimed.put(None)
        for worker in self._workers[:-1]:
            worker.join(timeout=max(0.0, self._deadline - time.monotonic()))
        self._record_running()
        self._watchdog.close()
        self._presence.close()

    # The dispatcher

    def _dispatch(self) -> None:
        lost_at = self._clock()
        while not self._stopping:
            asked_at = self._clock()
            try:
                claimed = self._claim()
                if self._clock() - lost_at >= POLL:
                    self._take_up(everything=False)
                    lost_at = self._clock()
                wait = 0.0 if claimed else self._until_next(asked_at)
            except StoreUnavailable as error:
                log.warning("jobs cannot be claimed: %s", error)
                wait = POLL
            except Exception:
                # A defect here must not end delivery.
                log.exception("claiming failed")
                wait = POLL
            with self._changed:
                if not self._woken and not self._stopping and wait:
                    self._changed.wait(wait)
                self._woken = False

    def _claim(self) -> int:
        """Claim for the threads that are free; how many jobs were claimed."""
        with self._changed:
            free, busy = self._threads - self._busy.total(), dict(self._busy)
        due = self._outbox.next_due() if free else None
        if due is None or due > self._clock():
            return 0
        lease = self._table.theeye.timeout + LEASE_SLACK
        token, jobs = self._outbox.claim(
            free=free, busy=busy, per_task=max(1, self._threads // 2), lease=lease
        )
        for job in jobs:
            with self._changed:
                self._busy[job.task_id] += 1
            self._claimed.put(_Claimed(job, token))
        return len(jobs)

    def _until_next(self, asked_at: float) -> float:
        """Seconds until a job is due that was not when a claim was asked for, at most POLL."""
        due = self._outbox.next_due()
        if due is None or due <= asked_at:
            return POLL  # a thread that comes free says so
        return min(POLL, max(0.0, due - self._clock()))

    def _take_up(self, *, everything: bool) -> None:
        """Free the jobs that a process left claimed; what it had started may be at TheEye."""
        for job, attempt in self._outbox.left_behind(everything=everything):
            if job.claim is None or self._runs_here(attempt):
                continue
            if attempt is None:
                self._outbox.hand_back(job.id, job.claim)
            else:
                why = "the process ended before the answer came"
                self._record_lost(job, job.claim, attempt.id, attempt.started_at, why)
            log.warning("job %d was left behind by another process", job.id)

    def _runs_here(self, attempt: Attempt | None) -> bool:
        """Whether a thread of this process still has it, and maybe TheEye's answer."""
        with self._changed:
            return attempt is not None and attempt.id in self._running

    def _record_running(self) -> None:
        """Record what still runs as unknown."""
        with self._changed:
            running = list(self._running.values())
        for one in running:
            job, token = one.claimed.job, one.claimed.token
            why = "the bridge stopped before the answer came"
            try:
                self._record_lost(job, token, one.attempt_id, one.started_at, why)
            except StoreUnavailable as error:
                log.warning("job %d stays claimed until its lease ends: %s", job.id, error)

    def _hand_back_unstarted(self) -> None:
        try:
            while (claimed := self._claimed.get_nowait()) is not None:
                self._outbox.hand_back(claimed.job.id, claimed.token)
        except queue.Empty:
            pass  # all are handed back
        except StoreUnavailable as error:
            log.warning("claims end with their lease: %s", error)

    # The sending threads

    def _send_all(self) -> None:
        client = self._make_client(self._watchdog)
        while (claimed := self._claimed.get()) is not None:
            try:
                self._send(client, claimed)
            except StoreUnavailable as error:
                log.warning("job %d stays claimed until its lease ends: %s", claimed.job.id, error)
            except Exception:
                # A defect costs its job an attempt, never the thread.
                log.exception("job %d: sending failed", claimed.job.id)
            with self._changed:
                self._busy[claimed.job.task_id] -= 1
                self._woken = True
                self._changed.notify()
        client.close()

    def _send(self, client: HttpClient, claimed: _Claimed) -> None:
        job, now = claimed.job, self._clock()
        task = self._table.tasks.get(job.task_id)
        if task is None:
            self._without_task(claimed, now)
            return
        if not self._lease_lasts(job):
            self._outbox.hand_back(job.id, claimed.token)
            return
        request = job_request(self._table.theeye, task, job.arguments or ())
        attempt_id = self._outbox.start(job, claimed.token, now)
        if attempt_id is None:
            return
        with self._changed:
            self._running[attempt_id] = _Running(claimed, attempt_id, now)
        try:
            begun = time.monotonic()
            verdict, status = self._post(client, job, request)
            self._record(claimed, attempt_id, task, verdict, status, time.monotonic() - begun)
        finally:
            with self._changed:
                self._running.pop(attempt_id)

    def _post(self, client: HttpClient, job: Job, request: JobRequest) -> tuple[Verdict, int | None]:
        """What the attempt came to, and the status where there was an answer."""
        if not self._lease_lasts(job):
            # The commit of its start took so long: its claim may end while it is sent.
            return Verdict(Outcome.UNAVAILABLE, "not sent: its claim was about to end"), None
        try:
            answer = client.post(request.url, request.headers, request.body, self._table.theeye.timeout)
        except NotSent as error:
            return Verdict(Outcome.UNAVAILABLE, str(error)), None
        except AnswerLost as error:
            return Verdict(Outcome.UNKNOWN, str(error)), None
        return read_answer(answer.status, answer.headers, answer.body, self._clock()), answer.status

    def _lease_lasts(self, job: Job) -> bool:
        """Whether a send that begins now is over before the claim is."""
        left = (job.lease_until or 0.0) - self._clock()
        return left >= self._table.theeye.timeout + LEASE_MARGIN

    def _without_task(self, claimed: _Claimed, now: float) -> None:
        reason = f"this process's table has no task {claimed.job.task_id}"
        if now - claimed.job.fresh_at >= self._table.retry.retry_for:
            self._outbox.give_up(claimed.job, claimed.token, reason)
        else:
            self._outbox.hand_back(claimed.job.id, claimed.token, now + UNKNOWN_TASK_WAIT, reason)

    def _record(
        self,
        claimed: _Claimed,
        attempt_id: int,
        task: Task,
        verdict: Verdict,
        status: int | None,
        seconds: float,
    ) -> None:
        # Masked before it is cut: a cut could leave a part of a key that no mask knows.
        detail = self._mask(verdict.detail)[:MAX_DETAIL]
        job_id = None if verdict.theeye_job_id is None else self._mask(verdict.theeye_job_id)[:MAX_DETAIL]
        done = Completion(seconds, verdict.outcome, status, detail, job_id)
        decision = self._decide(claimed.job, task.on_unknown, done, verdict.retry_after)
        while True:
            try:
                held = self._outbox.record(claimed.job, claimed.token, attempt_id, done, decision)
                break
            except StoreUnavailable as error:
                # What TheEye answered must not be lost: without it the job would be sent again.
                log.warning(
                    "job %d: %s%s, which cannot be recorded yet: %s",
                    claimed.job.id, done.outcome, f" as {job_id}" if job_id else "", error,
                )  # fmt: skip
                if time.monotonic() >= self._deadline:
                    raise
                time.sleep(POLL)
        log.log(
            logging.INFO if decision.state is JobState.ACCEPTED else logging.WARNING,
            "job %d: %s, now %s%s%s",
            claimed.job.id, done.outcome, decision.state, f": {decision.reason}" if decision.reason else "",
            "" if held else " (not recorded: the claim is no longer held)",
        )  # fmt: skip

    def _record_lost(self, job: Job, token: str, attempt_id: int, started_at: float, detail: str) -> None:
        task = self._table.tasks.get(job.task_id)
        # Without its task nobody knows whether it may be sent twice.
        on_unknown = OnUnknown.HOLD if task is None else task.on_unknown
        done = Completion(self._clock() - started_at, Outcome.UNKNOWN, None, detail, None)
        self._outbox.record(job, token, attempt_id, done, self._decide(job, on_unknown, done, None))

    def _decide(
        self, job: Job, on_unknown: OnUnknown, done: Completion, retry_after: float | None
    ) -> Decision:
        return decide(
            done.outcome,
            tries=job.tries + 1,
            unknowns=job.unknowns + (done.outcome is Outcome.UNKNOWN),
            fresh_at=job.fresh_at,
            now=self._clock(),
            policy=self._table.retry,
            on_unknown=on_unknown,
            retry_after=retry_after,
            random=random.random(),  # noqa: S311 - jitter needs no secrecy
            detail=done.detail,
        )
