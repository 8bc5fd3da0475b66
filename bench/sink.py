"""The sink: TheEye's stand-in, which counts the jobs of one target."""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Process, free_port

HERE = Path(__file__).parent

#: Seconds without a new job after which the missing ones count as lost.
LOST_AFTER = 10.0
#: Seconds without a new job after which no more than the accepted ones are expected.
DRAINED_AFTER = 0.3


@dataclass(frozen=True)
class Count:
    """The jobs since the last reset."""

    jobs: int
    #: When the last one arrived, seconds since the epoch; 0 if there is none. The clock is exact to 1 ms.
    last: float


class Sink:
    """One process of sink.js."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name, self._folder = name, folder
        self._port = free_port()
        self._process: Process | None = None
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        # The memory is sampled in a thread, with the count.
        self._asks = threading.Lock()

    @property
    def url(self) -> str:
        """TheEye's URL for the target."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it and wait until it accepts connections. Raises StartFailed."""
        command = ["node", "sink.js", str(self._port)]
        self._process = Process(f"{self._name}-sink", command, self._folder, HERE, {})
        self._process.wait_for_port(self._port)

    def count(self) -> Count:
        """Return the jobs since the last reset."""
        count = json.loads(self._get("/count"))
        return Count(count["n"], count["last"] / 1000)

    def reset(self) -> None:
        """Count from zero."""
        self._get("/reset")

    def wait_for(self, jobs: int) -> Count:
        """Return the count once at least so many jobs have arrived, or no more of them arrive."""
        count, changed = self.count(), time.monotonic()
        while time.monotonic() - changed < (DRAINED_AFTER if count.jobs >= jobs else LOST_AFTER):
            time.sleep(0.02)
            before, count = count, self.count()
            if count.jobs != before.jobs:
                changed = time.monotonic()
        return count

    def stop(self) -> None:
        """End it."""
        self._connection.close()
        if self._process is not None:
            self._process.stop()

    def _get(self, path: str) -> bytes:
        with self._asks:
            try:
                return self._answer(path)
            except ConnectionError:
                # The sink closes a connection that was idle for a minute.
                self._connection.close()
                return self._answer(path)

    def _answer(self, path: str) -> bytes:
        self._connection.request("GET", path)
        return self._connection.getresponse().read()
