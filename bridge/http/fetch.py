"""Fetcher: downloads what a sender refers to, such as a certificate, within narrow limits."""

from __future__ import annotations

import threading
from typing import Literal

from bridge.core.errors import NotSent, SendError
from bridge.http.client import HttpClient
from bridge.process.watchdog import Watchdog

#: The largest body.
MAX_FETCHED_BYTES = 64 * 1024
#: Of one download, seconds.
FETCH_TIMEOUT = 5.0


class Fetcher:
    """GETs https URLs that its caller has checked, one at a time. It follows no redirect.

    Safe to use from any thread, and after a fork if the parent has downloaded nothing. `ca_bundle` is a file
    of certificates to trust instead of the public ones, `timeout` is in seconds.
    """

    def __init__(self, ca_bundle: str | Literal[True] = True, timeout: float = FETCH_TIMEOUT) -> None:
        self._timeout = timeout
        self._watchdog = Watchdog()
        self._client = HttpClient(self._watchdog, ca_bundle, max_answer=MAX_FETCHED_BYTES)
        self._lock = threading.Lock()

    def __call__(self, url: str) -> bytes:
        """Return the body of a 200. Raises SendError. Its turn and the download each have the time-out."""
        if not url.startswith("https://"):
            raise NotSent("only https URLs are downloaded")
        if not self._lock.acquire(timeout=self._timeout):
            raise NotSent(f"other downloads took longer than {self._timeout:g} s")
        try:
            answer = self._client.get(url, {}, self._timeout)
        finally:
            self._lock.release()
        if answer.status != 200:
            raise SendError(f"the answer is {answer.status}, expected 200")
        return answer.body

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._watchdog.close()
