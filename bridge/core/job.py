"""Job, one order to run one task, and Attempt, one POST of it to TheEye."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from bridge.core.event import JSON


class JobState(StrEnum):
    """Where a job stands."""

    #: Due now or later.
    WAITING = "waiting"
    #: From the claim's commit to its record.
    SENDING = "sending"
    #: TheEye took it.
    ACCEPTED = "accepted"
    #: Refused, time ran out, or its arguments could not be built: a person must look.
    DEAD = "dead"
    #: TheEye may have it: a person must say.
    UNKNOWN = "unknown"
    #: Throttled or superseded.
    SKIPPED = "skipped"
    #: By a person.
    CANCELED = "canceled"


class Outcome(StrEnum):
    """What one attempt came to."""

    #: TheEye took the job on.
    ACCEPTED = "accepted"
    #: TheEye will never run it as it is.
    REFUSED = "refused"
    #: TheEye did not take it on, and may later.
    UNAVAILABLE = "unavailable"
    #: TheEye may have taken it on.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class TableVersion:
    """Which routing table built a job."""

    #: The first 16 hex digits of the SHA-256 of its files, one after the other.
    hash: str
    #: The deployed commit, where the platform names it.
    commit: str | None = None

    def __str__(self) -> str:
        return self.hash if self.commit is None else f"{self.hash} of commit {self.commit}"


@dataclass(frozen=True)
class NewJob:
    """A job as a route makes it from an event, before it is stored."""

    #: The route's name.
    route: str
    #: TheEye's id of the task.
    task_id: str
    #: The task's name in the table, or its id where it has none.
    task: str
    #: Identifies the item of a loop within its event; empty where there is no loop.
    item_key: str
    #: The item's place in the loop, from 0.
    item_index: int | None
    #: The values in TheEye's order; None where they could not be built.
    arguments: tuple[JSON, ...] | None
    #: Why the arguments could not be built.
    reason: str | None = None
    #: Jobs of one task in one group are sent in the order in which they were stored; None: in no group.
    group: str | None = None
    #: Whether it replaces the earlier ones of its group that still wait.
    latest: bool = False
    #: At most one of its route's jobs with this key runs within `once_within` seconds; None: any number.
    once_key: str | None = None
    once_within: float | None = None
    #: The table that built it; of no matter for what the job is.
    table: TableVersion | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Job:
    """A stored job."""

    id: int
    event_id: int
    route: str
    task_id: str
    task: str
    #: Identifies the item of a loop within its event.
    item_key: str
    item_index: int | None
    state: JobState
    arguments: tuple[JSON, ...] | None
    #: Why it is dead, unknown, skipped or canceled, or waits again; masked.
    reason: str | None
    #: When it was made, seconds since the epoch.
    created_at: float
    #: When it may be sent, seconds since the epoch.
    due_at: float
    #: From when ``retry.for`` counts: its making, or a person's or the sender's asking again.
    retry_window_start: float
    #: Attempts since `retry_window_start`.
    window_attempts: int
    #: Attempts since `retry_window_start` that ended as unknown.
    window_unknowns: int
    #: TheEye's id of its own job.
    theeye_job_id: str | None = None
    #: The token of the claim that holds it.
    claim_token: str | None = None
    #: When that claim ends, seconds since the epoch.
    lease_until: float | None = None
    #: Its group among the jobs of its task.
    group: str | None = None
    #: Its place there.
    position: int | None = None
    #: While it waits: whether an earlier one of its group has to end first.
    blocked: bool = False
    once_key: str | None = None
    #: When it was accepted, died, or became unknown, skipped or canceled; seconds since the epoch.
    ended_at: float | None = None
    #: The routing table that built it; None where an older release did.
    table: TableVersion | None = None


@dataclass(frozen=True)
class Attempt:
    """One POST of a job to TheEye. Written when it starts, completed once, never changed after."""

    id: int
    job_id: int
    #: From 1.
    number: int
    #: Seconds since the epoch.
    started_at: float
    #: Seconds; None while it runs.
    seconds: float | None = None
    outcome: Outcome | None = None
    #: The HTTP status, where there was an answer.
    status: int | None = None
    #: What TheEye said, or what went wrong; masked.
    detail: str | None = None
    theeye_job_id: str | None = None
