"""Sender: delivers one claimed job: post, classify, decide, record."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from dataclasses import dataclass, replace

from bridge.core.attempt_result import AttemptResult
from bridge.core.errors import NotSent, SendError, StoreUnavailable
from bridge.core.job import Job, JobState, Outcome
from bridge.core.retry import Decision, decide, not_sent, wait_for_task
from bridge.core.secrets import Mask
from bridge.delivery.circuit_breaker import Probe, is_alive
from bridge.delivery.target import Target
from bridge.http.client import HttpAnswer, HttpClient
from bridge.outbox.store import Outbox
from bridge.process.clock import Clock
from bridge.process.log_fields import job_fields
from bridge.routing.routing_table import RoutingTable
from bridge.theeye.answer import read_answer
from bridge.theeye.request import JobRequest, job_request

#: Seconds between two tries to record a result that the store refused.
RECORD_RETRY_INTERVAL = 2.0
#: A send begins only if its lease outlasts TheEye's time-out by this, seconds.
LEASE_MARGIN = 5.0
#: How long after a jump of the clock no job is given up, seconds: stored times may be wrong meanwhile.
STEADY_CLOCK_DELAY = 60.0
#: How many characters of TheEye's text are stored.
MAX_DETAIL_LENGTH = 500
#: The message about a job whose result cannot be recorded.
STAYS_CLAIMED = "job %(job)d stays claimed until its lease ends: %(reason)s"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClaimedJob:
    """A job that this process may send."""

    job: Job
    #: The claim's.
    token: str
    #: Seconds of ``time.monotonic()``.
    lease_ends_at: float
    #: Used until the result is recorded, also if another table comes into force.
    table: RoutingTable
    #: The attempt that has started; None for a job that cannot be sent.
    attempt_id: int | None
    #: Seconds since the epoch.
    claimed_at: float

    @property
    def is_about_to_end(self) -> bool:
        """Whether the claim could end before a send that begins now."""
        return self.lease_ends_at - time.monotonic() < self.table.theeye.timeout + LEASE_MARGIN


class Sender:
    """Delivers claimed jobs. Safe to use from any thread."""

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
        #: The table in force; it may be replaced at any time.
        self.table = table
        self._outbox = outbox
        self._mask = mask
        self._target = target
        self._clock = clock
        self._dry_run = dry_run
        self._lock = threading.Lock()
        #: The attempts that are not recorded, by id; for one that has ended, its result and decision, too.
        self._running: dict[int, tuple[ClaimedJob, tuple[AttemptResult, Decision] | None]] = {}
        #: Until when jobs are sent, and results are recorded again, seconds of ``time.monotonic()``.
        self.deadline = math.inf

    def can_send(self, table: RoutingTable, job: Job) -> bool:
        """Return whether an attempt of a job that is being claimed may start."""
        try:
            is_sendable = job.task_id in table.tasks and self._problem(table, job) is None
            return is_sendable and not self._dry_run and time.monotonic() < self.deadline
        except Exception:
            # A defect must cost this job, and not every claim.
            text = "job %(job)d: the check before sending failed; the job is not sent"
            log.exception(text, job_fields("defect", job))
            return False

    def expect(self, claimed: ClaimedJob) -> None:
        """Note that `deliver` will be called, or `record_running`."""
        self._target.claimed(claimed.job)
        if claimed.attempt_id is not None:
            with self._lock:
                self._running[claimed.attempt_id] = (claimed, None)

    def deliver(self, client: HttpClient, claimed: ClaimedJob) -> None:
        """Deliver one expected job. Raises StoreUnavailable where its result cannot be stored."""
        is_sent = False
        try:
            if claimed.attempt_id is None:
                self._end_unsent(claimed)
                return
            if (why := self._why_not_sent(claimed)) is not None:
                reason = f"not sent: {why}; it will be retried"
                result = AttemptResult(0.0, Outcome.UNAVAILABLE, None, reason, None)
                decision = not_sent(
                    claimed.job, reason, claimed.table.retry, now=self._clock(), random=_random()
                )
            else:
                posted_at = time.monotonic()
                answer = _post(client, claimed)
                result = self._classify(claimed, answer, time.monotonic() - posted_at)
                is_sent = True
                decision = self._decide(claimed.job, claimed.table, result)
            with self._lock:
                self._running[claimed.attempt_id] = (claimed, (result, decision))
            self._record(claimed, claimed.attempt_id, result, decision)
        finally:
            if not is_sent:
                # The circuit breaker would wait for this job forever.
                self._target.not_sent(claimed.job)
            if claimed.attempt_id is not None:
                with self._lock:
                    self._running.pop(claimed.attempt_id)

    def probe(self, client: HttpClient, probe: Probe) -> None:
        """Ask whether TheEye is reachable."""
        alive, detail = False, "asking failed"
        try:
            theeye = self.table.theeye
            client.use(theeye.trust, theeye.proxy)
            status = client.get(f"{theeye.url}/", {}, probe.timeout).status
            alive, detail = is_alive(status), f"it answers {status}"
        except SendError as error:
            detail = self._mask(str(error))
        finally:
            self._target.probe_finished(probe, alive, detail)

    def is_running(self, attempt_id: int) -> bool:
        """Whether a thread of this process has the attempt, and maybe TheEye's answer."""
        with self._lock:
            return attempt_id in self._running

    def record_running(self, reason: str) -> None:
        """Record the attempts that still run as unknown, and those that have ended as they have."""
        with self._lock:
            running = list(self._running.items())
        for attempt_id, (claimed, ended) in running:
            job, table, at = claimed.job, claimed.table, claimed.claimed_at
            try:
                if ended is not None:
                    self._end_attempt(job, claimed.token, attempt_id, *ended)
                else:
                    self.record_lost(job, claimed.token, attempt_id, at, reason, table)
            except StoreUnavailable as error:
                log.warning(STAYS_CLAIMED, job_fields("unrecorded", job, reason=error))

    def record_lost(
        self,
        job: Job,
        token: str,
        attempt_id: int,
        started_at: float,
        reason: str,
        table: RoutingTable | None = None,
    ) -> None:
        """Record an attempt without an answer as unknown. Raises StoreUnavailable."""
        seconds = max(0.0, self._clock() - started_at)
        result = AttemptResult(seconds, Outcome.UNKNOWN, None, reason, None)
        self._end_attempt(job, token, attempt_id, result, self._decide(job, table or self.table, result))

    def _problem(self, table: RoutingTable, job: Job) -> str | None:
        """Return why the job's task would not accept its arguments, or None."""
        # The table may have changed since they were built: the task's arguments_type, what the route allows.
        return table.tasks[job.task_id].arguments_problem(
            job.arguments or (), allow_data_urls=job.route in table.with_data_urls
        )

    def _end_unsent(self, claimed: ClaimedJob) -> None:
        """End a job that cannot be sent, or let it wait for a table that has its task."""
        job, token, table = claimed.job, claimed.token, claimed.table
        task = table.tasks.get(job.task_id)
        if task is None:
            now, reason = self._clock(), f"this process's table has no task {job.task_id}"
            wait = wait_for_task(self._with_steady_age(job, now), table.retry, now=now)
            if wait is None:
                self._end_dead(job, token, reason)
            else:
                self._outbox.release(job, token, now + wait, reason)
        elif (problem := self._problem(table, job)) is not None:
            self._end_dead(job, token, problem)
        else:
            reason = f"dry run: not sent, POST {_request(claimed).shown_url}"
            fields = job_fields("skip", job, state=JobState.SKIPPED, reason=reason)
            log.info("job %(job)d: %(reason)s", fields)
            self._outbox.end_unsent(job, token, JobState.SKIPPED, self._mask(reason))

    def _why_not_sent(self, claimed: ClaimedJob) -> str | None:
        """Return why an attempt that has started must not be sent after all, or None."""
        if claimed.is_about_to_end:
            return "its lease is about to expire"
        # After the deadline the attempt is recorded as unknown, and another process may send the job.
        if time.monotonic() >= self.deadline:
            return "the bridge is stopping"
        if claimed.job.task_id in self._target.excluded_tasks:
            return "TheEye refused the access token"
        return None

    def _classify(self, claimed: ClaimedJob, answer: HttpAnswer | SendError, seconds: float) -> AttemptResult:
        """Return the attempt's result, masked, after the target has noted it."""
        if isinstance(answer, HttpAnswer):
            result = read_answer(answer.status, answer.headers, answer.body, self._clock(), seconds)
        else:
            outcome = Outcome.UNAVAILABLE if isinstance(answer, NotSent) else Outcome.UNKNOWN
            result = AttemptResult(seconds, outcome, None, str(answer), None)
        theeye_job_id = None if result.theeye_job_id is None else self._shown(result.theeye_job_id)
        result = replace(result, detail=self._shown(result.detail), theeye_job_id=theeye_job_id)
        # Before the record, which may have to wait for the store.
        task = claimed.table.tasks[claimed.job.task_id]
        if not self._target.attempt_finished(claimed.table, claimed.job, task, result):
            result = replace(result, outcome=Outcome.UNAVAILABLE)
        return result

    def _decide(self, job: Job, table: RoutingTable, result: AttemptResult) -> Decision:
        task, now = table.tasks.get(job.task_id), self._clock()
        return decide(
            self._with_steady_age(job, now),
            result,
            table.retry,
            None if task is None else task.on_unknown,
            now=now,
            random=_random(),
        )

    def _record(
        self, claimed: ClaimedJob, attempt_id: int, result: AttemptResult, decision: Decision
    ) -> None:
        job = claimed.job
        while True:
            try:
                return self._end_attempt(job, claimed.token, attempt_id, result, decision)
            except StoreUnavailable as error:
                # Without TheEye's answer the job would be sent again.
                outcome, name = result.outcome, result.theeye_job_id
                fields = job_fields("unrecorded", job, outcome=outcome, theeye_job_id=name, reason=error)
                named = " as %(theeye_job_id)s" if name else ""
                log.warning(f"job %(job)d: %(outcome)s{named}, not recorded yet: %(reason)s", fields)
                if time.monotonic() >= self.deadline:
                    raise
                time.sleep(RECORD_RETRY_INTERVAL)

    def _end_attempt(
        self, job: Job, token: str, attempt_id: int, result: AttemptResult, decision: Decision
    ) -> None:
        """Record how an attempt ended, and log it. Raises StoreUnavailable."""
        recorded = self._outbox.record(job, token, attempt_id, result, decision)
        reason = ": %(reason)s" if decision.reason else ""
        lost = "" if recorded else " (not recorded: the claim is no longer held)"
        log.log(
            logging.INFO if decision.state is JobState.ACCEPTED else logging.WARNING,
            f"job %(job)d of route %(route)r, task %(task)s: %(outcome)s, now %(state)s{reason}{lost}",
            job_fields(
                "deliver", job, attempt=attempt_id, outcome=result.outcome, state=decision.state,
                status=result.status, seconds=round(result.seconds, 3),
                theeye_job_id=result.theeye_job_id, reason=decision.reason,
            ),
        )  # fmt: skip

    def _end_dead(self, job: Job, token: str, reason: str) -> None:
        log.warning(
            "job %(job)d of route %(route)r, task %(task)s: now %(state)s: %(reason)s",
            job_fields("dead", job, state=JobState.DEAD, reason=reason),
        )
        self._outbox.end_unsent(job, token, JobState.DEAD, reason)

    def _with_steady_age(self, job: Job, now: float) -> Job:
        """Return the job as if it was new where a jump of the clock may have made it look old."""
        return job if self._clock.steady_for() >= STEADY_CLOCK_DELAY else replace(job, retry_window_start=now)

    def _shown(self, text: str) -> str:
        """Return a text as it is logged and stored."""
        # Masked before it is cut: a cut could leave a part of a key that no mask knows.
        return self._mask(text)[:MAX_DETAIL_LENGTH]


def _random() -> float:
    return random.random()  # noqa: S311 - jitter needs no secrecy


def _post(client: HttpClient, claimed: ClaimedJob) -> HttpAnswer | SendError:
    """Return TheEye's answer, or why there is none."""
    request, theeye = _request(claimed), claimed.table.theeye
    try:
        client.use(theeye.trust, theeye.proxy)
        return client.post(request.url, request.headers, request.body, theeye.timeout)
    except SendError as error:
        return error


def _request(claimed: ClaimedJob) -> JobRequest:
    job, table = claimed.job, claimed.table
    return job_request(table.theeye, table.tasks[job.task_id], job.arguments or ())
