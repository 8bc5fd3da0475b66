"""Circuit breaker: stops deliveries while TheEye as a whole is unreachable, and probes it; pure.

These open the circuit; everything else is the affair of one job, which `core.retry` decides:

- no connection (DNS and TLS included), or 407, 429, 502, 503 or 504, which a proxy answers for every job
  alike;
- no readable answer to two different tasks in a row: a time-out, a reset, a 408, or a 200 that is not a job.

A 500 does not: TheEye answers it forever to a script task without a host. Nor does a request by token that
gets no answer: TheEye sends none if the token may not start the task.

While the circuit is open only probes are sent. An answer to a probe shows that something listens, not that it
accepts jobs. So one job, the trial, is sent next, and only its answer closes the circuit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from bridge.core.job import Outcome

#: A wait and a probe's time-out last this share of the time since the circuit opened: deliveries resume soon
#: after a short outage, and an outage of an hour costs fewer than 100 probes.
AGE_SHARE = 0.12
#: The bounds of a wait, seconds. The first probe follows after the shortest.
MIN_PROBE_WAIT, MAX_PROBE_WAIT = 0.5, 120.0
#: The shortest time-out of a probe, seconds.
MIN_PROBE_TIMEOUT = 1.0

#: Statuses that a proxy answers in the target's place, for every job alike.
DOWN_STATUSES = (407, 429, 502, 503, 504)


class Sign(Enum):
    """What the end of one attempt says about the target as a whole."""

    #: It is unreachable, or accepts nothing from anyone.
    DOWN = auto()
    #: It gave no readable answer, which may concern that task alone.
    NO_REPLY = auto()
    #: It answered.
    UP = auto()


def sign_of(outcome: Outcome, status: int | None, *, by_token: bool = False) -> Sign | None:
    """Return what an attempt's end says about the target, None for nothing.

    `status` is None where no answer came. The attempt must have been sent: for others, call
    `CircuitBreaker.not_sent`.
    """
    if status in DOWN_STATUSES or (outcome is Outcome.UNAVAILABLE and status is None):
        return Sign.DOWN
    if by_token and status is None:
        return None
    if status == 408 or (outcome is Outcome.UNKNOWN and status in (None, 200)):
        return Sign.NO_REPLY
    return Sign.UP


def is_alive(status: int) -> bool:
    """Whether a probe's answer comes from a live target: any below 500, also a 404, but not 407 or 429."""
    return status < 500 and status not in DOWN_STATUSES


@dataclass(frozen=True)
class Probe:
    """One request that asks whether the target is reachable."""

    number: int
    #: Seconds.
    timeout: float


class _Stage(Enum):
    #: Jobs are sent.
    CLOSED = auto()
    #: The next probe is not due yet.
    OPEN = auto()
    #: A probe is sent.
    PROBING = auto()
    #: A probe was answered: the trial may be sent, or is sent.
    HALF_OPEN = auto()


class CircuitBreaker:
    """One delivering process's state of its target. Not thread-safe: its caller holds a lock.

    Each `claimed` must be followed by `attempt_finished` or `not_sent`, and each `start_probe` by
    `probe_finished`, whatever happens to the thread: a lost trial or probe would keep the circuit open. Each
    `now` is in seconds, of a clock that does not jump.
    """

    def __init__(self, max_probe_timeout: float) -> None:
        """`max_probe_timeout` is in seconds: as long as a job may take, TheEye's time-out."""
        #: When the circuit opened; None while it is closed.
        self.opened_at: float | None = None
        #: How the attempt or probe ended that opened the circuit, or last kept it open; else None.
        self.reason: str | None = None
        #: When a probe is due; None while the circuit is closed, a probe is sent, or a trial may be or is.
        self.next_probe_at: float | None = None
        self._max_probe_timeout = max_probe_timeout
        self._stage = _Stage.CLOSED
        #: The number of the last probe.
        self._probes = 0
        #: The earliest time of the probe after the one that is sent.
        self._rests_until = 0.0
        #: The job that is the trial.
        self._trial: int | None = None
        #: The task of the last attempt, if it had no reply.
        self._no_reply_task: str | None = None
        #: Jobs that were claimed while the circuit was closed, and have not finished.
        self._in_flight: set[int] = set()
        #: Jobs that were in flight when the circuit opened.
        self._outdated: set[int] = set()

    @property
    def is_open(self) -> bool:
        """Whether no job but the trial may be sent."""
        return self._stage is not _Stage.CLOSED

    def reconfigure(self, max_probe_timeout: float, *, is_new_target: bool) -> None:
        """Set the time-out. For a new target close the circuit, and ignore what the old one still answers."""
        self._max_probe_timeout = max_probe_timeout
        if is_new_target:
            self._outdated |= self._in_flight if self._trial is None else {*self._in_flight, self._trial}
            self._trial = self._no_reply_task = self.next_probe_at = None
            self._close()

    def claim_limit(self, free: int) -> int:
        """Return how many jobs may be claimed for `free` threads."""
        if self._stage is _Stage.CLOSED:
            return free
        if self._stage is _Stage.HALF_OPEN and self._trial is None:
            return min(free, 1)
        return 0

    def claimed(self, job_id: int) -> None:
        """Note that a job is about to be sent, as the trial if one is due.

        If the circuit opened while it was claimed, it counts as in flight at that moment.
        """
        self._forget(job_id)
        if self._stage is _Stage.CLOSED:
            self._in_flight.add(job_id)
        elif self.claim_limit(1):
            self._trial = job_id
        elif job_id != self._trial:
            self._outdated.add(job_id)

    def not_sent(self, job_id: int) -> None:
        """Note that a claimed job was not sent. If it was the trial, another job may be."""
        self._forget(job_id)
        if job_id == self._trial:
            self._trial = None

    def attempt_finished(self, job_id: int, task_id: str, sign: Sign | None, now: float, detail: str) -> None:
        """Note how an attempt ended; `detail`, masked, says it. Without a sign the job counts as not sent.

        A job that was in flight when the circuit opened changes nothing, not even later: its answer is older
        than what is known, and late time-outs must not open the circuit again.
        """
        if sign is None:
            self.not_sent(job_id)
            return
        is_outdated = job_id in self._outdated
        self._forget(job_id)
        if is_outdated:
            return
        if self._stage is _Stage.CLOSED:
            in_a_row = self._no_reply_task not in (None, task_id)
            if sign is Sign.DOWN or (sign is Sign.NO_REPLY and in_a_row):
                self._open(now, detail)
            else:
                self._no_reply_task = task_id if sign is Sign.NO_REPLY else None
        elif job_id == self._trial:
            self._trial = None
            if sign is Sign.UP:
                self._close()
            else:
                self._wait_until(now + self._next_wait(now), detail)

    def start_probe(self, now: float) -> Probe | None:
        """Start a probe if one is due.

        Its time-out grows: a target that hangs is probed often at first, and a slow one is reached at last.
        """
        if self.next_probe_at is None or now < self.next_probe_at:
            return None
        self._stage, self.next_probe_at = _Stage.PROBING, None
        # The wait counts from the probe's start: a probe that hangs is a wait itself.
        self._rests_until = now + self._next_wait(now)
        self._probes += 1
        return Probe(self._probes, min(self._share_of_age(now, MIN_PROBE_TIMEOUT), self._max_probe_timeout))

    def hasten_probe(self, now: float) -> None:
        """Make the next probe due now, if one is to be sent."""
        if self.next_probe_at is not None:
            self.next_probe_at = min(self.next_probe_at, now)

    def probe_finished(self, probe: Probe, alive: bool, now: float, detail: str) -> None:
        """Note how a probe ended: `alive` if its answer `is_alive`; `detail`, masked, says how.

        A probe that is not the last one is ignored: it belongs to an earlier outage or target.
        """
        if self._stage is not _Stage.PROBING or probe.number != self._probes:
            return
        if alive:
            self._stage = _Stage.HALF_OPEN
        else:
            self._wait_until(max(now, self._rests_until), detail)

    def _open(self, now: float, detail: str) -> None:
        self.opened_at = now
        self._no_reply_task = None
        self._outdated |= self._in_flight
        self._wait_until(now + MIN_PROBE_WAIT, detail)

    def _wait_until(self, at: float, detail: str) -> None:
        self._stage, self.next_probe_at, self.reason = _Stage.OPEN, at, detail

    def _close(self) -> None:
        self._stage, self.opened_at, self.reason = _Stage.CLOSED, None, None

    def _forget(self, job_id: int) -> None:
        self._in_flight.discard(job_id)
        self._outdated.discard(job_id)

    def _next_wait(self, now: float) -> float:
        return min(self._share_of_age(now, MIN_PROBE_WAIT), MAX_PROBE_WAIT)

    def _share_of_age(self, now: float, at_least: float) -> float:
        age = 0.0 if self.opened_at is None else now - self.opened_at
        return max(at_least, AGE_SHARE * age)
