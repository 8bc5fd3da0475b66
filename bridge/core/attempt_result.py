"""AttemptResult: how one POST of a job to TheEye ended; pure."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.core.job import Outcome


@dataclass(frozen=True)
class AttemptResult:
    """How one attempt ended."""

    #: How long it took, seconds.
    seconds: float
    outcome: Outcome
    #: The HTTP status; None where no answer came.
    status: int | None
    #: What TheEye said, or what failed. It may hold a secret until the sender masks it.
    detail: str
    theeye_job_id: str | None
    #: The wait that the answer asks for, seconds. It is not stored.
    retry_after: float | None = None
