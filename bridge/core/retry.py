"""The retry rule: what happens to a job after an attempt, and how long it waits; pure.

| outcome     | state                                                              |
|-------------|--------------------------------------------------------------------|
| accepted    | accepted                                                           |
| refused     | dead                                                               |
| unavailable | waiting, for `retry.for`; then dead                                |
| unknown     | on_unknown `retry`: waiting, up to 2 more times; then unknown      |
|             | on_unknown `hold`: unknown                                         |

TheEye may have a job that had an unknown attempt: it never becomes dead because time ran out, but unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.core.attempt_result import AttemptResult
from bridge.core.job import Job, JobState, Outcome
from bridge.core.task import OnUnknown

#: The ceiling of the first wait, seconds. It doubles with each attempt.
FIRST_WAIT = 2.0
#: How many times a job is sent again after an unknown attempt.
MAX_UNKNOWN_RETRIES = 2
#: The longest Retry-After that counts, seconds.
MAX_RETRY_AFTER = 24 * 3600.0
#: The bounds of the wait for a table that has the job's task, seconds.
MIN_TASK_WAIT, MAX_TASK_WAIT = 0.5, 30.0


@dataclass(frozen=True)
class RetryPolicy:
    """The table's ``theeye.retry``."""

    #: How long a job is retried after it was created, seconds.
    retry_for: float = 24 * 3600.0
    #: The ceiling of the waits, seconds.
    longest_wait: float = 15 * 60.0


@dataclass(frozen=True)
class Decision:
    """A job's next state."""

    state: JobState
    #: When a waiting job is due, seconds since the epoch; else None.
    due_at: float | None
    reason: str | None


def decide(
    job: Job,
    result: AttemptResult,
    policy: RetryPolicy,
    on_unknown: OnUnknown | None,
    *,
    now: float,
    random: float,
) -> Decision:
    """Return what happens to `job`, as it was before the attempt.

    `on_unknown` is None where the table no longer has the task, so that it counts as `hold`.
    `now` is in seconds since the epoch; `random`, in [0, 1), spreads the waits.
    """
    detail = result.detail
    unknowns = job.window_unknowns + (result.outcome is Outcome.UNKNOWN)
    if result.outcome is Outcome.ACCEPTED:
        return Decision(JobState.ACCEPTED, None, detail or None)
    if result.outcome is Outcome.REFUSED:
        earlier = "; an earlier attempt may have reached TheEye" if unknowns else ""
        return Decision(JobState.DEAD, None, f"refused: {detail}{earlier}")
    if result.outcome is Outcome.UNKNOWN:
        if on_unknown is not OnUnknown.RETRY:
            return Decision(JobState.UNKNOWN, None, f"{detail}; TheEye may have it (on_unknown: hold)")
        if unknowns > MAX_UNKNOWN_RETRIES:
            return Decision(JobState.UNKNOWN, None, f"{detail}; TheEye may have it, sent {unknowns} times")
    if now - job.retry_window_start >= policy.retry_for:
        if unknowns:
            return Decision(JobState.UNKNOWN, None, f"{detail}; an earlier attempt may have reached TheEye")
        return Decision(JobState.DEAD, None, f"gave up after {policy.retry_for:.0f} s: {detail}")
    wait = max(backoff(job.window_attempts + 1, policy.longest_wait, random), result.retry_after or 0.0)
    return Decision(JobState.WAITING, now + wait, detail)


def not_sent(job: Job, reason: str, policy: RetryPolicy, *, now: float, random: float) -> Decision:
    """Return what happens to a job whose attempt started and was not sent: it waits, however old it is."""
    return Decision(
        JobState.WAITING, now + backoff(job.window_attempts + 1, policy.longest_wait, random), reason
    )


def wait_for_task(job: Job, policy: RetryPolicy, *, now: float) -> float | None:
    """Return how many seconds a job waits for a table that has its task; None once its time is over.

    The wait is as long as the job's age, because most tables that lack a task are about to be replaced.
    """
    age = now - job.retry_window_start
    return None if age >= policy.retry_for else min(max(age, MIN_TASK_WAIT), MAX_TASK_WAIT)


def backoff(attempts: int, longest: float, random: float) -> float:
    """Return the seconds to wait after so many attempts: full jitter below a ceiling that doubles.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return float(random * min(longest, FIRST_WAIT * 2.0 ** min(attempts - 1, 60)))
