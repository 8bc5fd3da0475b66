"""CircuitBreaker: whether TheEye as a whole is away, and when it may be asked again; pure.

`retry` rules one job's life; an outage is about the target, which all jobs share. So only what
speaks of the whole target opens one: nothing connects, or a proxy says 429, 502, 503 or 504 in TheEye's
place. A 500 is one job's own affair (seen: TheEye answers it for ever where a script task has no
host), and silence can be, so silence counts only from two different tasks in a row. Silence to a request by
token never counts: TheEye leaves one unanswered where the token may not start the task.

While an outage is open nothing is sent but probes, which carry no job. An answer to one shows that
something listens, not that it takes jobs: so one job is sent next, the trial, and only its answer ends
the outage. A backlog thus never runs into a target that is half up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from bridge.core.job import Outcome

#: A wait and a probe's patience last this part of the outage's age: a short outage is left soon after
#: its end, and one of an hour costs fewer than 100 probes.
AGE_SHARE = 0.12
#: The bounds of a wait, seconds. The first probe comes after the shortest.
MIN_PROBE_WAIT, MAX_PROBE_WAIT = 0.5, 120.0
#: How long a probe waits for its answer at least, seconds.
MIN_PROBE_TIMEOUT = 1.0

#: Statuses that a proxy answers in the target's place, for every job alike.
DOWN_STATUSES = (429, 502, 503, 504)


class Sign(Enum):
    """What the end of one attempt says of the target as a whole."""

    #: It cannot be reached, or takes nothing from anyone.
    DOWN = auto()
    #: It was asked and gave no answer that can be read: its own affair, or that task's.
    NO_REPLY = auto()
    #: It answered, and what it answered is that job's affair.
    UP = auto()


def sign_of(outcome: Outcome, status: int | None, *, by_token: bool = False) -> Sign | None:
    """What an attempt's end says of the target, None for nothing; `status` is None where no answer came.

    Only for attempts in which the target was asked. Where the bridge itself ended one ("not sent: its claim
    was about to end", "the bridge stopped before the answer came") nothing was heard of the target:
    `CircuitBreaker.not_sent` takes such a one.
    """
    if status in DOWN_STATUSES or (outcome is Outcome.UNAVAILABLE and status is None):
        return Sign.DOWN
    if by_token and status is None:
        return None
    if status == 408 or (outcome is Outcome.UNKNOWN and status in (None, 200)):
        return Sign.NO_REPLY
    return Sign.UP


def is_alive(status: int) -> bool:
    """Whether a probe's answer shows a live target: any under 500 but 429.

    A 404 or a 401 does: a probe wants no page, only to hear whether somebody is at home.
    """
    return status < 500 and status != 429


@dataclass(frozen=True)
class Probe:
    """One question whether the target is there."""

    number: int
    #: How long its answer may take, seconds.
    timeout: float


class _Stage(Enum):
    #: No outage.
    CLOSED = auto()
    #: Until the next probe.
    OPEN = auto()
    #: A probe is out.
    PROBING = auto()
    #: A probe found the target alive: a trial may be sent, or is out.
    HALF_OPEN = auto()


class CircuitBreaker:
    """What one delivering process knows of its target. It has no lock: its caller holds one.

    Whoever tells `claimed` of a job tells `ended` or `not_sent` of it too, and whoever began a probe tells
    `probed`, whatever happens to the thread: an outage that waits for a lost trial or probe never
    closes. Every `now` is in seconds, of one clock, best of one that does not jump.
    """

    def __init__(self, max_probe_timeout: float) -> None:
        """A probe waits at most `longest_patience` seconds: as long as a job would, TheEye's time-out."""
        #: When it opened; None while there is none.
        self.opened_at: float | None = None
        #: The last word on it, of what opened it or of the probe or trial that failed since; else None.
        self.reason: str | None = None
        #: When a probe is due. None while there is none to wait for: no outage is open, a probe is
        #: out, or a trial may be sent or is out.
        self.next_probe_at: float | None = None
        self._max_probe_timeout = max_probe_timeout
        self._stage = _Stage.CLOSED
        #: The number of the last probe.
        self._probes = 0
        #: Before this the probe that is out has no successor.
        self._rests_until = 0.0
        #: The job that is the trial, while it is out.
        self._trial: int | None = None
        #: The task of the attempt that ended last, if it was silent.
        self._no_reply_task: str | None = None
        #: Jobs claimed while no outage was open, which have not ended.
        self._in_flight: set[int] = set()
        #: Those of them that were in flight when an outage opened.
        self._outdated: set[int] = set()

    @property
    def is_open(self) -> bool:
        """Whether no job may be sent, but for a trial."""
        return self._stage is not _Stage.CLOSED

    def reconfigure(self, max_probe_timeout: float, *, is_new_target: bool) -> None:
        """The time-out is another; with `elsewhere` the target is, and the old one's answers are past."""
        self._max_probe_timeout = max_probe_timeout
        if is_new_target:
            self._outdated |= self._in_flight if self._trial is None else {*self._in_flight, self._trial}
            self._trial = self._no_reply_task = self.next_probe_at = None
            self._close()

    def claim_limit(self, free: int) -> int:
        """How many jobs may be claimed, where `free` threads could send one each."""
        if self._stage is _Stage.CLOSED:
            return free
        if self._stage is _Stage.HALF_OPEN and self._trial is None:
            return min(free, 1)
        return 0

    def claimed(self, job_id: int) -> None:
        """A job is about to be sent. Where a trial is wanted, it is the trial.

        A claim takes its time: if an outage opened meanwhile, the job counts as in flight when it did.
        """
        self._forget(job_id)
        if self._stage is _Stage.CLOSED:
            self._in_flight.add(job_id)
        elif self.claim_limit(1):
            self._trial = job_id
        elif job_id != self._trial:
            self._outdated.add(job_id)

    def not_sent(self, job_id: int) -> None:
        """A claimed job was handed back, or ended without a word of the target.

        If it was the trial, another may be tried at once: the target is as alive as it was.
        """
        self._forget(job_id)
        if job_id == self._trial:
            self._trial = None

    def attempt_finished(self, job_id: int, task_id: str, sign: Sign | None, now: float, detail: str) -> None:
        """An attempt ended; `detail` says how, masked. Without a sign it is as if the job was not sent.

        The answer of a job that was in flight when an outage opened is older than what is known. It changes
        nothing, not even after the outage: one outage's late time-outs must not open the next.
        """
        if sign is None:
            self.not_sent(job_id)
            return
        is_overtaken = job_id in self._outdated
        self._forget(job_id)
        if is_overtaken:
            return
        if self._stage is _Stage.CLOSED:
            self._finished_while_closed(task_id, sign, now, detail)
        elif job_id == self._trial:
            self._trial = None
            if sign is Sign.UP:
                self._close()
            else:
                self._wait_until(now + self._next_wait(now), detail)

    def start_probe(self, now: float) -> Probe | None:
        """Begin a probe if one is due.

        A target that hangs is asked often at first, and one that is only slow is reached in the end.
        """
        if self.next_probe_at is None or now < self.next_probe_at:
            return None
        self._stage, self.next_probe_at = _Stage.PROBING, None
        # From its beginning: a probe that hangs is a wait itself, and another one after it would
        # make a short outage too long.
        self._rests_until = now + self._next_wait(now)
        self._probes += 1
        return Probe(self._probes, min(self._part_of_age(now, MIN_PROBE_TIMEOUT), self._max_probe_timeout))

    def probe_finished(self, probe: Probe, alive: bool, now: float, detail: str) -> None:
        """A probe ended: its answer was `is_alive`, or it had none; `detail` says how, masked.

        One that another followed was of an outage, or a target, before this one.
        """
        if self._stage is not _Stage.PROBING or probe.number != self._probes:
            return
        if alive:
            self._stage = _Stage.HALF_OPEN
        else:
            self._wait_until(max(now, self._rests_until), detail)

    def _finished_while_closed(self, task_id: str, sign: Sign, now: float, detail: str) -> None:
        """An attempt ended while no outage was open."""
        in_a_row = self._no_reply_task not in (None, task_id)
        if sign is Sign.DOWN or (sign is Sign.NO_REPLY and in_a_row):
            self._open(now, detail)
        else:
            self._no_reply_task = task_id if sign is Sign.NO_REPLY else None

    def _open(self, now: float, detail: str) -> None:
        self.opened_at = now
        self._no_reply_task = None
        self._outdated |= self._in_flight
        self._wait_until(now + MIN_PROBE_WAIT, detail)

    def _wait_until(self, until: float, detail: str) -> None:
        self._stage, self.next_probe_at, self.reason = _Stage.OPEN, until, detail

    def _close(self) -> None:
        self._stage, self.opened_at, self.reason = _Stage.CLOSED, None, None

    def _forget(self, job_id: int) -> None:
        self._in_flight.discard(job_id)
        self._outdated.discard(job_id)

    def _next_wait(self, now: float) -> float:
        return min(self._part_of_age(now, MIN_PROBE_WAIT), MAX_PROBE_WAIT)

    def _part_of_age(self, now: float, at_least: float) -> float:
        age = 0.0 if self.opened_at is None else now - self.opened_at
        return max(at_least, AGE_SHARE * age)
