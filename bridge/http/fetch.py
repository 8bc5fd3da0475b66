"""Fetcher: what a sender wants to have fetched, such as a certificate, within narrow limits."""

from __future__ import annotations

import threading
from typing import Literal

from bridge.core.errors import NotSent, SendError
from bridge.http.client import HttpClient
from bridge.process.watchdog import Watchdog

#: The largest body, in bytes.
MAX_FETCHED_BYTES = 64 * 1024
#: How long one may take, seconds.
FETCH_TIMEOUT = 5.0


class Fetcher:
    """GETs https URLs, one at a time. Which, its caller has checked; no redirect is followed.

    Safe to use from many threads, and in a process that is forked from the one that made it as long as
    that one fetches nothing. `ca_bundle` is as HttpClient has it, `timeout` is in seconds.
    """

    def __init__(self, ca_bundle: str | Literal[True] = True, timeout: float = FETCH_TIMEOUT) -> None:
        self._timeout = timeout
        self._watchdog = Watchdog()
        self._client = HttpClient(self._watchdog, ca_bundle, max_answer=MAX_FETCHED_BYTES)
        self._lock = threading.Lock()

    def __call__(self, url: str) -> bytes:
        """The body of a 200, within the time-out, and once more that for a turn. Raises SendError."""
        if not url.startswith("https://"):
            raise NotSent("only https is fetched")
        if not self._lock.acquire(timeout=self._timeout):
            raise NotSent(f"others are fetched for longer than {self._timeout:g} s")
        try:
            answer = self._client.get(url, {}, self._timeout)
        finally:
            self._lock.release()
        if answer.status != 200:
            raise SendError(f"the answer is {answer.status}, expected 200")
        return answer.body

    def close(self) -> None:
        """Close the connections that are kept."""
        self._client.close()
        self._watchdog.close()
