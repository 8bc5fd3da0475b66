"""Job, one order to run one task, and Attempt, one POST of it to TheEye."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from bridge.core.event import JSON


class JobState(StrEnum):
    """The state of a job."""

    #: Due now or later.
    WAITING = "waiting"
    #: Claimed by a process, until the attempt is recorded or the claim is released.
    SENDING = "sending"
    #: TheEye accepted it.
    ACCEPTED = "accepted"
    #: TheEye refused it, the retries ended, or its arguments could not be built: a person must look.
    DEAD = "dead"
    #: TheEye may have it: a person must decide.
    UNKNOWN = "unknown"
    #: Throttled or superseded.
    SKIPPED = "skipped"
    #: Canceled by a person.
    CANCELED = "canceled"


class Outcome(StrEnum):
    """The outcome of one attempt."""

    #: TheEye accepted the job.
    ACCEPTED = "accepted"
    #: TheEye will never run the job as it is.
    REFUSED = "refused"
    #: TheEye did not accept the job, and may later.
    UNAVAILABLE = "unavailable"
    #: TheEye may have accepted the job.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class TableVersion:
    """The version of the routing table that built a job."""

    #: The first 16 hex digits of the SHA-256 of its files, concatenated.
    hash: str
    #: The deployed commit, if the platform names it.
    commit: str | None = None

    def __str__(self) -> str:
        return self.hash if self.commit is None else f"{self.hash} of commit {self.commit}"


@dataclass(frozen=True)
class JobContent:
    """The part of a job that a route builds from an event. Each field is stored; see row_mapping."""

    #: The route's name.
    route: str
    #: TheEye's id of the task.
    task_id: str
    #: The task's name in the table, or its id if it has none.
    task: str
    #: Identifies the item of a loop within its event; empty without a loop.
    item_key: str
    #: The item's index in the loop, from 0.
    item_index: int | None
    #: The values in TheEye's order; None if they could not be built.
    arguments: tuple[JSON, ...] | None
    #: Why the arguments could not be built; of a stored job: why it is dead, unknown, skipped, canceled or
    #: waits for another attempt. Masked.
    reason: str | None = None
    #: The jobs of one task in one group are sent in the order in which they were stored.
    group: str | None = None
    #: Whether the job supersedes earlier ones of its group that still wait.
    latest: bool = False
    #: At most one of the route's jobs with this key runs within `once_within` seconds.
    once_key: str | None = None
    #: The table that built it; two jobs are equal without it.
    table: TableVersion | None = field(default=None, compare=False)


@dataclass(frozen=True)
class NewJob(JobContent):
    """A job before it is stored."""

    once_within: float | None = None


@dataclass(frozen=True, kw_only=True)
class Job(JobContent):
    """A stored job. Times are seconds since the epoch."""

    id: int
    event_id: int
    state: JobState
    created_at: float
    #: When it may be sent.
    due_at: float
    #: The start of ``retry.for``: when the job was created, retried by a person, or redelivered.
    retry_window_start: float
    #: Attempts since `retry_window_start`.
    window_attempts: int
    #: Attempts since `retry_window_start` whose outcome is unknown.
    window_unknowns: int
    #: TheEye's id of its own job.
    theeye_job_id: str | None = None
    #: The token of the claim, while the job is claimed.
    claim_token: str | None = None
    #: When the claim's lease ends.
    lease_until: float | None = None
    #: Its position in its group.
    position: int | None = None
    #: Whether it waits for an earlier job of its group to end.
    blocked: bool = False
    #: When it was accepted, died, or became unknown, skipped or canceled.
    ended_at: float | None = None


@dataclass(frozen=True)
class Attempt:
    """One POST of a job to TheEye. Written when it starts, completed once, and not changed afterwards."""

    id: int
    job_id: int
    #: From 1.
    number: int
    #: Seconds since the epoch.
    started_at: float
    #: The duration in seconds; None while it runs.
    seconds: float | None = None
    outcome: Outcome | None = None
    #: The HTTP status, if TheEye answered.
    status: int | None = None
    #: TheEye's answer or the error; masked.
    detail: str | None = None
    theeye_job_id: str | None = None
