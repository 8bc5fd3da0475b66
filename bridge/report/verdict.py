"""Verdict: what came of an event, in a few words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.core.exact_json import dumps
from bridge.core.job import Job, JobContent, JobState
from bridge.core.json_text import shorten
from bridge.routing.routing_table import RoutingTable

#: The states of an event's jobs, the one that most needs a person first.
URGENT_FIRST = (
    JobState.DEAD, JobState.UNKNOWN, JobState.SENDING, JobState.WAITING,
    JobState.ACCEPTED, JobState.SKIPPED, JobState.CANCELED,
)  # fmt: skip
#: The sign of each state; an event without jobs has that of ``none``.
GLYPHS: Mapping[str, str] = {
    "accepted": "●", "waiting": "○", "sending": "◐", "dead": "✕", "unknown": "?", "skipped": "-",
    "canceled": "-", "none": "-",
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What came of an event."""

    #: A state of jobs, or ``none``.
    state: str
    #: Such as ``2 jobs`` or ``1 dead``.
    label: str
    #: A sentence without its full stop.
    text: str


def verdict_of_jobs(jobs: Sequence[Job], total: int, table: RoutingTable | None = None) -> Verdict:
    """Return the verdict of an event with jobs; `jobs` are the first of `total`."""
    counts = Counter(job.state for job in jobs)
    state = next(each for each in URGENT_FIRST if counts[each])
    count = total if len(counts) == 1 else counts[state]
    is_plain = state in (JobState.ACCEPTED, JobState.WAITING, JobState.SENDING)
    noun = ("job" if count == 1 else "jobs") if is_plain else str(state)
    reasons = [job.reason for job in jobs if job.state is state and job.reason]
    if reasons and not is_plain:
        return Verdict(state, f"{count:,} {noun}", reasons[0])
    if total == 1 and jobs[0].arguments is not None:
        return Verdict(state, f"{count:,} {noun}", f"{jobs[0].route} → {arguments_text(jobs[0], table)}")
    routes = Counter(job.route for job in jobs)
    named = ", ".join(f"{route} ({made})" if made > 1 else route for route, made in routes.items())
    return Verdict(state, f"{count:,} {noun}", named)


def arguments_text(job: JobContent, table: RoutingTable | None = None) -> str:
    """Return a job's arguments on a line: text without quotes, or ``hidden`` if the table hides them."""
    if table is not None and table.is_sensitive(job.route):
        return "hidden"
    values = job.arguments or ()
    return shorten(", ".join(each if isinstance(each, str) else dumps(each).decode() for each in values))
