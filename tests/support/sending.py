"""Jobs of groups, stored, claimed and sent at a store itself, without a Delivery."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from bridge.core.attempt_result import AttemptResult
from bridge.core.job import Job, JobState, NewJob, Outcome
from bridge.core.retry import Decision
from bridge.core.task import Task
from bridge.outbox.store import Outbox
from tests.support.tables import NOW, attempt_of, claim_jobs, make_job, make_task, make_webhook

A, B = make_task(1), make_task(2)

#: What an attempt may come to, by the state that its job is in then.
ENDS = {
    JobState.ACCEPTED: (Outcome.ACCEPTED, Decision(JobState.ACCEPTED, None, None)),
    JobState.DEAD: (Outcome.REFUSED, Decision(JobState.DEAD, None, "refused")),
    JobState.UNKNOWN: (Outcome.UNKNOWN, Decision(JobState.UNKNOWN, None, "no answer")),
    JobState.WAITING: (Outcome.UNAVAILABLE, Decision(JobState.WAITING, NOW + 5, "503")),
}

Reopen = Callable[[], Outbox]

_names = count()


def one(group: str | None = "g", *, task: Task = A, **more: Any) -> NewJob:
    return make_job("x", task=task, group=group, **more)


def store(outbox: Outbox, *jobs: NewJob) -> list[int]:
    """The ids of new jobs, each of an event of its own."""
    return [
        outbox.store(make_webhook(each, delivery_id=f"webhook-{next(_names)}")).jobs[0].id for each in jobs
    ]


def end(outbox: Outbox, token: str, job: Job, state: JobState) -> None:
    """Send a claimed job, with this end."""
    attempt = attempt_of(outbox, job)
    outcome, decision = ENDS[state]
    assert outbox.record(job, token, attempt, AttemptResult(0.1, outcome, None, "", None), decision)


def send(outbox: Outbox, state: JobState = JobState.ACCEPTED) -> list[int]:
    """Send all that may be sent now, with this end; their ids."""
    token, jobs = claim_jobs(outbox, 100)
    for job in jobs:
        end(outbox, token, job, state)
    return [job.id for job in jobs]
