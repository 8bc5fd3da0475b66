"""One round: ask a target, and measure it until its backlog is empty."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench.load import Load, NothingAccepted, probe, run_wrk
from bench.measure import MemorySampler, cpu_seconds, pss_bytes
from bench.sample import Sample
from bench.sink import Count
from bench.targets import Target

#: Seconds of a burst of load before the first round.
WARM_UP_BURST = 2.0


class Meter:
    """The CPU time and the largest PSS of processes since it was made."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._before = cpu_seconds(pids)
        self._pss: list[int] = []
        self.sample()

    def sample(self) -> None:
        """Read the memory once more."""
        self._pss.append(pss_bytes(self._pids))

    @property
    def cpu(self) -> float:
        """Seconds."""
        return cpu_seconds(self._pids) - self._before

    @property
    def pss(self) -> float:
        """Megabytes."""
        return max(self._pss) / 1e6


def warm_up(target: Target) -> None:
    """Let a target open its connections and compile its code. Raises NothingAccepted."""
    accepted = 0
    while accepted < target.warm_up:
        load = run_wrk(target.url, WARM_UP_BURST)
        accepted += load.accepted
        if target.delivers:
            target.sink.wait_for(accepted)


def ask(target: Target, seconds: float) -> Sample:
    """Measure a target. Raises NothingAccepted."""
    target.sink.reset()
    own, server = Meter(target.pids), Meter(target.server_pids)

    def sample_memory() -> None:
        own.sample()
        server.sample()

    with MemorySampler(sample_memory):
        load = run_wrk(target.url, seconds)
        count = target.sink.wait_for(load.accepted) if target.delivers else None
    has_server = bool(target.server_pids)
    cpu, server_cpu = own.cpu, server.cpu
    sample_memory()
    # The last answers, which wrk did not wait for, are of webhooks with jobs.
    webhooks = max(load.accepted, count.jobs if count else 0)
    sample = Sample(
        accepted=load.accepted / load.seconds,
        answer_p50=load.p50,
        answer_p99=load.p99,
        cpu=cpu * 1000 / webhooks,
        server_cpu=server_cpu * 1000 / webhooks if has_server else None,
        pss=own.pss,
        server_pss=server.pss if has_server else None,
        refused=load.refused + load.socket_errors,
    )
    return sample if count is None else replace(sample, **_delivery(target, load, count, seconds))


def _delivery(target: Target, load: Load, count: Count, seconds: float) -> dict[str, Any]:
    if not count.jobs:
        raise NothingAccepted(f"{load.accepted} webhooks were accepted, no job reached the sink")
    probed = probe(target.url, target.sink, seconds)
    latencies = probed.latencies
    missing = probed.sent - probed.refused - len(latencies)
    return {
        "delivered": count.jobs / (count.last - load.began),
        "refused": load.refused + load.socket_errors + probed.refused,
        "lost": max(0, load.accepted - count.jobs) + max(0, missing),
        "sink_p50": statistics.median(latencies) if latencies else None,
        "sink_p99": percentile(latencies, 99) if latencies else None,
    }


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest value that is at least as large as so many percent of the values."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
