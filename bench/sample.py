"""The figures of one target in one round."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """One row of a round. A target that does not deliver has None in place of the figures of delivery."""

    #: Answers with 2xx per second.
    accepted: float
    #: Milliseconds until the answer, under that load.
    answer_p50: float
    answer_p99: float
    #: Milliseconds of CPU per accepted webhook, of the target's processes and of its database server.
    cpu: float
    server_cpu: float | None
    #: The largest PSS in megabytes, of the same processes.
    pss: float
    server_pss: float | None
    #: Answers with another status, and failed connections.
    refused: int
    #: Jobs per second from the first request until the backlog is empty.
    delivered: float | None = None
    #: Accepted webhooks without a job at the sink.
    lost: int | None = None
    #: Milliseconds from a request to its job at the sink, at 50 webhooks per second.
    sink_p50: float | None = None
    sink_p99: float | None = None
