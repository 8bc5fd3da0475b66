"""The load: wrk, which sends as fast as the target answers, and a probe that sends 50 webhooks a second."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import itertools
import os
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.plain import SECRET
from bench.sink import LOST_AFTER, Count, Sink

HERE = Path(__file__).parent
PAYLOAD = HERE / "push.json"
BODY = PAYLOAD.read_bytes()
SIGNATURE = "sha256=" + hmac.new(SECRET, BODY, hashlib.sha256).hexdigest()

#: Webhooks of the probe per second, and how many of them may wait for their answers at once.
PROBE_RATE = 50
PROBE_CONNECTIONS = 16
#: Seconds between two looks at the sink while a job of the probe is missing.
PROBE_POLL = 0.004

_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class NothingAccepted(Exception):
    """A target accepted no webhook, or delivered no job, so it has no figures."""


@dataclass(frozen=True)
class Load:
    """The result of one run of wrk."""

    #: When it began, seconds since the epoch.
    began: float
    seconds: float
    #: Answers with 2xx or 3xx, and with another status.
    accepted: int
    refused: int
    #: Connections that failed or timed out.
    socket_errors: int
    #: Milliseconds until the answer.
    p50: float
    p99: float


def run_wrk(url: str, seconds: float) -> Load:
    """Send signed pushes over 16 connections. Raises NothingAccepted."""
    command = ["wrk", "-t1", "-c16", f"-d{seconds:.0f}", "--latency", "-s", "push.lua", f"{url}/hooks/github"]
    environ = {**os.environ, "PAYLOAD": str(PAYLOAD), "SECRET_SIG": SIGNATURE}
    began = time.time()
    done = subprocess.run(command, cwd=HERE, env=environ, check=False, capture_output=True, text=True)
    if done.returncode:
        raise NothingAccepted(f"wrk: {(done.stderr or done.stdout).strip()}")
    load = read_wrk(done.stdout, began)
    if not load.accepted:
        raise NothingAccepted(f"{load.refused} answers, none with 2xx, {load.socket_errors} errors")
    return load


def read_wrk(output: str, began: float) -> Load:
    """Return the figures of wrk's output."""
    total, seconds, unit = _search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", output)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    answered, not_accepted = int(total), int(refused[1]) if refused else 0
    return Load(
        began=began,
        seconds=float(seconds) * _MILLISECONDS[unit] / 1000,
        accepted=answered - not_accepted,
        refused=not_accepted,
        socket_errors=sum(map(int, errors.groups())) if errors else 0,
        p50=_percentile(50, output),
        p99=_percentile(99, output),
    )


@dataclass(frozen=True)
class Probe:
    """The result of one run of the probe."""

    sent: int
    #: Webhooks that were not answered with 2xx.
    refused: int
    #: Milliseconds from each other request to its job at the sink.
    latencies: Sequence[float]


def probe(url: str, sink: Sink, seconds: float) -> Probe:
    """Send 50 webhooks a second.

    The jobs have no names at the sink: the first to arrive counts for the first that was sent.
    """
    sink.reset()
    address = urlsplit(url).netloc
    number = int(seconds * PROBE_RATE)
    begin = time.time() + 0.1
    due = [begin + index / PROBE_RATE for index in range(number)]
    with ThreadPoolExecutor(PROBE_CONNECTIONS) as senders:
        # Each sender sleeps until its webhook is due, so a slow answer delays no other webhook.
        sent = [senders.submit(_is_accepted, address, at) for at in due]
        arrived = watch(due, sink.count, time.time, time.sleep)
        refused = sum(not each.result() for each in sent)
    return Probe(number, refused, [(there - at) * 1000 for at, there in zip(due, arrived, strict=False)])


def watch(
    due: Sequence[float],
    count: Callable[[], Count],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> list[float]:
    """Return when each job arrived, in order; it is shorter than `due` if jobs are lost.

    The sink knows when its last job arrived. While one job is missing at a time this is exact, otherwise a
    job that arrived with others counts as late as the last of them.
    """
    arrived: list[float] = []
    give_up = due[-1] + LOST_AFTER
    while len(arrived) < len(due) and clock() < give_up:
        sleep(max(PROBE_POLL, due[len(arrived)] - clock()))
        now = count()
        arrived += itertools.repeat(now.last, now.jobs - len(arrived))
    return arrived


def _is_accepted(address: str, at: float) -> bool:
    connection = http.client.HTTPConnection(address, timeout=30)
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": str(uuid.uuid4()),
        "X-Hub-Signature-256": SIGNATURE,
    }
    try:
        connection.connect()
        time.sleep(max(0.0, at - time.time()))
        connection.request("POST", "/hooks/github", BODY, headers)
        return 200 <= connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _search(pattern: str, output: str) -> Sequence[str]:
    found = re.search(pattern, output)
    if found is None:
        raise ValueError(f"wrk's output has no {pattern!r}:\n{output}")
    return found.groups()


def _percentile(percent: int, output: str) -> float:
    value, unit = _search(rf"(?m)^ +{percent}% +([\d.]+)(us|ms|s|m) *$", output)
    return float(value) * _MILLISECONDS[unit]
