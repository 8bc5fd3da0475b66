"""Sender: one claimed job is started, POSTed to TheEye, and what came of it is recorded."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from dataclasses import dataclass, replace

from bridge.core.errors import AnswerLost, NotSent, SendError, StoreUnavailable
from bridge.core.job import Job, JobState, Outcome
from bridge.core.retry import Decision, RetryPolicy, decide
from bridge.core.secrets import Mask
from bridge.core.task import OnUnknown, Task
from bridge.delivery.circuit_breaker import Probe, is_alive
from bridge.delivery.target import Target
from bridge.http.client import HttpClient
from bridge.outbox.claims import Completion
from bridge.outbox.store import Outbox
from bridge.process.clock import Clock
from bridge.routing.routing_table import RoutingTable
from bridge.theeye.answer import Verdict, read_answer
from bridge.theeye.request import JobRequest, job_request

#: How often, in seconds, a record is tried again that the store did not take.
RECORD_RETRY_INTERVAL = 2.0
#: A job whose task this process's table lacks is tried again after its age so far, within these bounds,
#: seconds: most are of a table that is about to be loaded here, too.
SHORTEST_UNKNOWN_TASK_WAIT, LONGEST_UNKNOWN_TASK_WAIT = 0.5, 30.0
#: A send begins only if its lease outlasts the time-out by this, seconds.
LEASE_MARGIN = 5.0
#: How long, in seconds, after a jump of the clock no job is given up: the store's times follow it meanwhile.
STEADY_CLOCK_DELAY = 60.0
#: Of what TheEye said, how many characters are kept.
MAX_DETAIL_LENGTH = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClaimedJob:
    """A job that this process may send, and the claim's token."""

    job: Job
    token: str
    #: When the claim ends, seconds of ``time.monotonic()``.
    lease_ends_at: float

    def outlasts(self, timeout: float) -> bool:
        """Whether a send that begins now ends before the claim does."""
        return self.lease_ends_at - time.monotonic() >= timeout + LEASE_MARGIN


@dataclass(frozen=True)
class _Running:
    """An attempt that has started and is not recorded."""

    claimed: ClaimedJob
    attempt_id: int
    started_at: float
    #: What it goes by to its end.
    table: RoutingTable

    @property
    def task(self) -> Task:
        return self.table.tasks[self.claimed.job.task_id]


@dataclass(frozen=True)
class _Heard:
    """What came of asking TheEye: a verdict, and the status where there was an answer."""

    verdict: Verdict
    status: int | None = None


class Sender:
    """Sends claimed jobs, from any number of threads."""

    def __init__(
        self,
        table: RoutingTable,
        outbox: Outbox,
        mask: Mask,
        target: Target,
        clock: Clock,
        *,
        dry_run: bool = False,
    ) -> None:
        #: The one in force; another may be set at any time, and what is being sent keeps its own.
        self.table = table
        self._outbox = outbox
        self._mask = mask
        self._target = target
        self._clock = clock
        self._dry_run = dry_run
        self._lock = threading.Lock()
        #: By the attempt's id.
        self._running: dict[int, _Running] = {}
        #: Until when a record is tried again, seconds of ``time.monotonic()``.
        self.deadline = math.inf

    def deliver(self, client: HttpClient, claimed: ClaimedJob) -> None:
        """Send one job. Raises StoreUnavailable where it could not be started or recorded."""
        heard = False
        try:
            heard = self._send(client, claimed)
        finally:
            if not heard:
                self._target.not_sent(claimed.job)

    def probe(self, client: HttpClient, probe: Probe) -> None:
        """Ask whether TheEye is there."""
        alive, detail = False, "asking failed"
        try:
            status = client.get(f"{self.table.theeye.url}/", {}, probe.timeout).status
            alive, detail = is_alive(status), f"it answers {status}"
        except SendError as error:
            detail = self._mask(str(error))
        finally:
            self._target.probe_finished(probe, alive, detail)

    def is_running(self, attempt_id: int) -> bool:
        """Whether a thread of this process still has it, and maybe TheEye's answer."""
        with self._lock:
            return attempt_id in self._running

    def record_running(self, why: str) -> None:
        """Record what still runs as unknown."""
        with self._lock:
            running = list(self._running.values())
        for one in running:
            job = one.claimed.job
            try:
                self._record_lost(one.table, job, one.claimed.token, one.attempt_id, one.started_at, why)
            except StoreUnavailable as error:
                log.warning("job %d stays claimed until its lease ends: %s", job.id, error)

    def record_lost(self, job: Job, token: str, attempt_id: int, started_at: float, why: str) -> None:
        """Record another process's attempt whose answer nobody will hear. Raises StoreUnavailable."""
        self._record_lost(self.table, job, token, attempt_id, started_at, why)

    def _record_lost(
        self, table: RoutingTable, job: Job, token: str, attempt_id: int, started_at: float, why: str
    ) -> None:
        task = table.tasks.get(job.task_id)
        # Without its task nobody knows whether it may be sent twice.
        on_unknown = OnUnknown.HOLD if task is None else task.on_unknown
        done = Completion(max(0.0, self._clock() - started_at), Outcome.UNKNOWN, None, why, None)
        self._outbox.record(job, token, attempt_id, done, self._decide(job, table.retry, on_unknown, done))

    def _send(self, client: HttpClient, claimed: ClaimedJob) -> bool:
        """Whether TheEye was asked."""
        job, now, table = claimed.job, self._clock(), self.table
        task = table.tasks.get(job.task_id)
        if task is None:
            self._without_task(claimed, table.retry, now)
            return False
        if not claimed.outlasts(table.theeye.timeout) or task.id in self._target.excluded_tasks:
            self._outbox.hand_back(job, claimed.token)
            return False
        arguments = job.arguments or ()
        # The table may have changed since they were built: the task's arguments_type, what the route allows.
        refused = task.arguments_problem(arguments, allow_data_urls=job.route in table.with_data_urls)
        if refused is not None:
            log.warning("job %d: now %s: %s", job.id, JobState.DEAD, refused)
            self._outbox.end_unsent(job, claimed.token, JobState.DEAD, refused)
            return False
        request = job_request(table.theeye, task, arguments)
        if self._dry_run:
            reason = f"dry run: not sent, POST {request.shown_url}"
            log.info("job %d: %s", job.id, reason)
            self._outbox.end_unsent(job, claimed.token, JobState.SKIPPED, self._mask(reason))
            return False
        attempt_id = self._outbox.start(job, claimed.token, now, task.rate)
        if attempt_id is None:
            return False
        running = _Running(claimed, attempt_id, now, table)
        with self._lock:
            self._running[attempt_id] = running
        try:
            return self._attempt(client, running, request)
        finally:
            with self._lock:
                self._running.pop(attempt_id)

    def _attempt(self, client: HttpClient, running: _Running, request: JobRequest) -> bool:
        job, theeye, begun = running.claimed.job, running.table.theeye, time.monotonic()
        if running.claimed.outlasts(theeye.timeout):
            heard, asked = self._post(client, request, theeye.timeout), True
        else:
            # The commit of its start took so long: its claim may end while it is sent.
            verdict = Verdict(Outcome.UNAVAILABLE, "not sent: its claim was about to end")
            heard, asked = _Heard(verdict), False
        # Masked before it is cut: a cut could leave a part of a key that no mask knows.
        detail = self._mask(heard.verdict.detail)[:MAX_DETAIL_LENGTH]
        # Before the record, which may have to wait for the store.
        if asked and not self._target.attempt_finished(
            running.table, job, running.task, heard.verdict, heard.status, detail
        ):
            heard = replace(heard, verdict=Verdict(Outcome.UNAVAILABLE, heard.verdict.detail))
        self._record(running, heard, detail, time.monotonic() - begun)
        return asked

    def _post(self, client: HttpClient, request: JobRequest, timeout: float) -> _Heard:
        try:
            answer = client.post(request.url, request.headers, request.body, timeout)
        except NotSent as error:
            return _Heard(Verdict(Outcome.UNAVAILABLE, str(error)))
        except AnswerLost as error:
            return _Heard(Verdict(Outcome.UNKNOWN, str(error)))
        return _Heard(read_answer(answer.status, answer.headers, answer.body, self._clock()), answer.status)

    def _without_task(self, claimed: ClaimedJob, policy: RetryPolicy, now: float) -> None:
        reason = f"this process's table has no task {claimed.job.task_id}"
        age = now - self._fresh_at(claimed.job, now)
        if age >= policy.retry_for:
            self._outbox.end_unsent(claimed.job, claimed.token, JobState.DEAD, reason)
        else:
            wait = min(max(age, SHORTEST_UNKNOWN_TASK_WAIT), LONGEST_UNKNOWN_TASK_WAIT)
            self._outbox.hand_back(claimed.job, claimed.token, now + wait, reason)

    def _record(self, running: _Running, heard: _Heard, detail: str, seconds: float) -> None:
        verdict, claimed = heard.verdict, running.claimed
        job_id = (
            None if verdict.theeye_job_id is None else self._mask(verdict.theeye_job_id)[:MAX_DETAIL_LENGTH]
        )
        done = Completion(seconds, verdict.outcome, heard.status, detail, job_id)
        policy, on_unknown = running.table.retry, running.task.on_unknown
        decision = self._decide(claimed.job, policy, on_unknown, done, verdict.retry_after)
        while True:
            try:
                recorded = self._outbox.record(claimed.job, claimed.token, running.attempt_id, done, decision)
                break
            except StoreUnavailable as error:
                # What TheEye answered must not be lost: without it the job would be sent again.
                log.warning(
                    "job %d: %s%s, which cannot be recorded yet: %s",
                    claimed.job.id, done.outcome, f" as {job_id}" if job_id else "", error,
                )  # fmt: skip
                if time.monotonic() >= self.deadline:
                    raise
                time.sleep(RECORD_RETRY_INTERVAL)
        log.log(
            logging.INFO if decision.state is JobState.ACCEPTED else logging.WARNING,
            "job %d: %s, now %s%s%s",
            claimed.job.id, done.outcome, decision.state, f": {decision.reason}" if decision.reason else "",
            "" if recorded else " (not recorded: the claim is no longer held)",
        )  # fmt: skip

    def _decide(
        self,
        job: Job,
        policy: RetryPolicy,
        on_unknown: OnUnknown,
        done: Completion,
        retry_after: float | None = None,
    ) -> Decision:
        now = self._clock()
        return decide(
            done.outcome,
            tries=job.tries + 1,
            unknowns=job.unknowns + (done.outcome is Outcome.UNKNOWN),
            fresh_at=self._fresh_at(job, now),
            now=now,
            policy=policy,
            on_unknown=on_unknown,
            retry_after=retry_after,
            random=random.random(),  # noqa: S311 - jitter needs no secrecy
            detail=done.detail,
        )

    def _fresh_at(self, job: Job, now: float) -> float:
        """Since when a job is tried; `now` where a jump of the clock may have made it look old."""
        return job.fresh_at if self._clock.steady_for() >= STEADY_CLOCK_DELAY else now
