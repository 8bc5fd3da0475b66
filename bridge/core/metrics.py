"""Metrics: the names, labels and meanings of what ``/metrics`` shows; pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

#: A metric's name and the values of its labels. A histogram has one more value: a bucket's bound, or SUM.
Series: TypeAlias = tuple[str, ...]

SUM = "sum"
#: The label of an event that the source's type does not know and no route names.
OTHER_EVENT = "other"
#: The label of a request to a source that is not in the table.
UNKNOWN_SOURCE = "unknown"


@dataclass(frozen=True)
class Metric:
    """A metric."""

    #: ``counter``, ``gauge`` or ``histogram``.
    kind: str
    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    #: The upper bounds of a histogram's buckets.
    bounds: tuple[str, ...] = ()

    @cached_property
    def _limits(self) -> list[float]:
        return [float(bound) for bound in self.bounds]

    def observed(self, value: float, *labels: str) -> list[tuple[Series, float]]:
        """Return what a value adds to a histogram: to the first bucket that is large enough, and SUM."""
        bound = self.bounds[bisect_left(self._limits, value)]
        return [((self.name, *labels, bound), 1), ((self.name, *labels, SUM), value)]


def _counter(name: str, meaning: str, *labels: str) -> Metric:
    return Metric("counter", f"bridge_{name}_total", meaning, labels)


def _gauge(name: str, meaning: str, *labels: str) -> Metric:
    return Metric("gauge", f"bridge_{name}", meaning, labels)


def _seconds(name: str, meaning: str, label: str, bounds: str) -> Metric:
    return Metric("histogram", f"bridge_{name}_seconds", meaning, (label,), (*bounds.split(), "+Inf"))


READY = _gauge("ready", "1 if webhooks can be stored. If it is 0, only metrics of the process are shown.")
EVENTS = _counter("events", "Authentic webhooks, by their result.", "source", "event", "verdict")
REFUSED = _counter("refused_requests", "Requests that got an error, by its cause.", "source", "cause")
WEBHOOK_SECONDS = _seconds(
    "webhook", "Time from the headers of a webhook to its commit.", "source",
    "0.005 0.01 0.025 0.05 0.1 0.25 0.5 1 2.5 5 10",
)  # fmt: skip
LAST_EVENT = _gauge("last_event_timestamp_seconds", "Time of the last authentic webhook.", "source")
JOBS_CREATED = _counter("jobs_created", "Jobs that were stored.", "route", "task")
JOBS_ENDED = _counter("jobs_ended", "Jobs that ended. A retried job can end again.", "route", "task", "state")
JOBS = _gauge("jobs", "Stored jobs that wait, are sent, or need a person.", "state")
OLDEST_WAITING = _gauge("oldest_waiting_job_age_seconds", "Age of the oldest waiting job; 0 without one.")
ATTEMPTS = _counter("attempts", "Attempts that ended.", "task", "outcome")
ATTEMPT_SECONDS = _seconds("attempt", "Duration of an attempt.", "task", "0.05 0.1 0.25 0.5 1 2.5 5 10 30 60")
ACCEPTANCE_SECONDS = _seconds(
    "acceptance", "Time from the creation of a job until TheEye accepted it.", "task",
    "0.1 0.5 1 5 15 60 300 900 3600 14400 86400",
)  # fmt: skip
DELIVERING = _gauge("delivering_processes", "Processes that deliver.")
OUTAGE = _gauge("theeye_outage", "1 if TheEye is unreachable for a process that delivers.")
PAUSED = _gauge("paused", "1 for each paused task or route.", "kind", "name")
SILENT = _gauge(
    "silent", "1 for each source or route that is silent for longer than expect_every.", "source", "route"
)
TABLE_VALID = _gauge("table_valid", "0 if the table on disk is invalid, so that an earlier one is active.")
TABLE = _gauge("table_info", "1, with the hash and the commit of the active table.", "hash", "commit")
LOG_BLOCKED = _gauge("log_blocked", "1 if the process drops log lines because nobody reads them.")
BUILD = _gauge("build_info", "1, with the release.", "version")

METRICS = tuple(each for each in tuple(globals().values()) if isinstance(each, Metric))

#: The causes of refused requests, by the status of the answer.
CAUSES = {
    400: "unreadable", 401: "not_authentic", 404: "unknown_source", 405: "wrong_method", 408: "timeout",
    413: "too_large", 414: "too_large", 415: "unsupported", 417: "unsupported", 431: "too_large",
    501: "unsupported", 503: "unavailable",
}  # fmt: skip
