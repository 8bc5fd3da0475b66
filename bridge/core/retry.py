"""What becomes of a job after an attempt: when again, or to give up; pure."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.core.job import JobState, Outcome
from bridge.core.task import OnUnknown

#: The first wait's ceiling, in seconds; it doubles with each attempt.
FIRST_WAIT = 2.0
#: How many more times a job is sent whose answer was lost.
MAX_UNKNOWN_RETRIES = 2


@dataclass(frozen=True)
class RetryPolicy:
    """The table's ``theeye.retry``."""

    #: How long a job is tried again, from its making; seconds.
    retry_for: float = 24 * 3600.0
    #: The ceiling of the waits, seconds.
    longest_wait: float = 15 * 60.0


@dataclass(frozen=True)
class Decision:
    """The state a job goes to, when it is due again, and why in words."""

    state: JobState
    due_at: float | None
    reason: str | None


def decide(
    outcome: Outcome,
    *,
    tries: int,
    unknowns: int,
    fresh_at: float,
    now: float,
    policy: RetryPolicy,
    on_unknown: OnUnknown,
    retry_after: float | None,
    random: float,
    detail: str,
) -> Decision:
    """Accepted and refused end a job; unavailable and unknown wait, within their limits.

    `tries` and `unknowns` count the attempts since `fresh_at` that ended, this one included. `retry_after`
    is the answer's own wait in seconds; `random` is in [0, 1). Times are seconds since the epoch.
    """
    if outcome is Outcome.ACCEPTED:
        return Decision(JobState.ACCEPTED, None, detail or None)
    if outcome is Outcome.REFUSED:
        earlier = "; an earlier attempt may have reached TheEye" if unknowns else ""
        return Decision(JobState.DEAD, None, f"refused: {detail}{earlier}")
    if outcome is Outcome.UNKNOWN:
        if on_unknown is OnUnknown.HOLD:
            return Decision(JobState.UNKNOWN, None, f"{detail}; TheEye may have it (on_unknown: hold)")
        if unknowns > MAX_UNKNOWN_RETRIES:
            return Decision(JobState.UNKNOWN, None, f"{detail}; TheEye may have it, sent {unknowns} times")
    if now - fresh_at >= policy.retry_for:
        if unknowns:
            return Decision(JobState.UNKNOWN, None, f"{detail}; an earlier attempt may have reached TheEye")
        return Decision(JobState.DEAD, None, f"gave up after {policy.retry_for:.0f} s: {detail}")
    wait = max(backoff(tries, policy.longest_wait, random), retry_after or 0.0)
    return Decision(JobState.WAITING, now + wait, detail)


def backoff(tries: int, longest: float, random: float) -> float:
    """Seconds to wait after the `tries`-th attempt: full jitter below a doubling ceiling.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return float(random * min(longest, FIRST_WAIT * 2.0 ** min(tries - 1, 60)))
