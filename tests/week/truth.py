"""The counters of ``/metrics``, compared with what happened."""

from __future__ import annotations

import urllib.request
from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from bridge.core.job import JobState
from bridge.core.metrics import ATTEMPTS, EVENTS, JOBS_CREATED, JOBS_ENDED, Metric
from tests.chaos.oracle import Violation
from tests.support.server import STATUS, Server
from tests.week.judgement import Counts, judge_counter
from tests.week.record import Record, again


def valid(server: Server) -> float | None:
    """``bridge_table_valid``; None where there is no answer."""
    try:
        return counts(server, "bridge_table_valid").get(())
    except OSError:
        return None


def counts(server: Server, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """The samples of one name in ``/metrics``, by these labels. Raises OSError."""
    request = urllib.request.Request(f"{server.url}/metrics", headers=STATUS)
    with urllib.request.urlopen(request, timeout=10) as response:
        page = response.read().decode()
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name
    }


class Truth:
    """The counters, compared with what happened since the upgrade."""

    METRICS = (EVENTS, JOBS_CREATED, JOBS_ENDED, ATTEMPTS)

    def __init__(self, server: Server, record: Record) -> None:
        """Nothing waits now, and nothing comes in."""
        self._server = server
        self._record = record
        self._earlier = {*record.jobs}
        self._before = {metric: self._shown(metric) for metric in self.METRICS}

    def judge(self, pushes: int, unmatched: int, beats: int) -> list[Violation]:
        """Once nothing waits, and nothing comes in.

        The numbers are of webhooks that were taken: pushes with and without a route, and the beacon's.
        """
        jobs = [job for job in self._record.jobs.values() if job.id not in self._earlier]
        ended = {JobState.ACCEPTED, JobState.SKIPPED, JobState.DEAD}
        events: Counts = {
            ("github", "push", "matched"): pushes,
            ("github", "push", "unmatched"): unmatched,
            ("beacon", "push", "unmatched"): beats,
        }
        attempts: Counter[tuple[str, ...]] = Counter(
            (job.task, str(attempt.outcome)) for job in jobs for attempt in self._record.attempts[job.id]
        )
        truths: dict[Metric, Counts] = {
            EVENTS: events,
            JOBS_CREATED: Counter((job.route, job.task) for job in jobs),
            JOBS_ENDED: Counter((job.route, job.task, str(job.state)) for job in jobs if job.state in ended),
            ATTEMPTS: attempts,
        }
        found = []
        for metric, truth in truths.items():
            shown = self._shown(metric)
            new = {key: value - self._before[metric].get(key, 0) for key, value in shown.items()}
            if metric is EVENTS:
                # Redeliveries, also of pushes whose answer was lost.
                new = {key: value for key, value in new.items() if key[2] != "duplicate"}
            elif metric is JOBS_ENDED:
                # A job may become unknown again after a person has resolved it.
                new = {key: value for key, value in new.items() if key[2] != JobState.UNKNOWN}
            found += judge_counter(metric.name, new, truth)
        return found

    def _shown(self, metric: Metric) -> dict[tuple[str, ...], float]:
        return again(lambda: counts(self._server, metric.name, *metric.labels))
