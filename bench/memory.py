"""The memory of a target while many jobs go through it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.load import NothingAccepted, run_wrk
from bench.measure import MemorySampler, pss_bytes
from bench.targets import Target

#: The targets whose memory must not grow.
MEASURED = ("sqlite", "postgresql")

#: Seconds of load before the backlog is awaited again.
BURST = 5.0


@dataclass(frozen=True)
class MemorySample:
    """The memory at one moment."""

    #: How many have reached the sink.
    jobs: int
    #: Megabytes, of the target's processes without its database server.
    pss: float


def measure_memory(target: Target, jobs: int, say: Callable[[str], None]) -> list[MemorySample]:
    """Send bursts until so many jobs have reached the sink. Raises NothingAccepted."""
    target.sink.reset()
    samples: list[MemorySample] = []

    def sample() -> None:
        samples.append(MemorySample(target.sink.count().jobs, pss_bytes(target.pids) / 1e6))

    sample()
    there = 0
    with MemorySampler(sample):
        while there < jobs:
            load = run_wrk(target.url, BURST)
            before, there = there, target.sink.wait_for(there + load.accepted).jobs
            if there == before:
                raise NothingAccepted(f"no job reached the sink after {there}")
            say(f"memory: {target.title}: {there} of {jobs} jobs, {samples[-1].pss:.0f} MB")
    return samples


def quarters(samples: Sequence[MemorySample]) -> list[float]:
    """Return the median memory of each quarter of the jobs. Raises ValueError if one has no sample."""
    jobs = samples[-1].jobs
    found = []
    for number in range(4):
        first, end = jobs * number / 4, jobs * (number + 1) / 4
        pss = [each.pss for each in samples if first <= each.jobs < end or each.jobs == end == jobs]
        if not pss:
            raise ValueError(f"no sample from job {first:.0f} to {end:.0f}: the run was too short")
        found.append(statistics.median(pss))
    return found
