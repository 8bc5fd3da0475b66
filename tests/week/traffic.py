"""Pushes that one step of the week needs, and a source that sends regularly."""

from __future__ import annotations

import threading
import time
from contextlib import closing

from tests.support.pushes import Answer, Client

#: Seconds between two webhooks of the beacon, and before a push that was not taken is repeated.
_BEAT, _AGAIN = 2.0, 0.1
#: Seconds until a push must be taken: longer than any fault.
_TAKEN_WITHIN = 300.0


class Single:
    """Pushes one by one, each until it is taken."""

    def __init__(self, port: int) -> None:
        self._port = port
        #: The commits that were taken.
        self.taken: list[str] = []

    def push(self, branch: str) -> Answer:
        """Push to a branch until it is taken. Raises AssertionError."""
        commit = f"{branch}-{len(self.taken)}"
        answer = taken(self._port, commit, branch)
        self.taken.append(commit)
        return answer

    def push_with_a_wrong_secret(self) -> None:
        with closing(Client(self._port, secret="another secret")) as stranger:
            assert stranger.push("stranger").status == 401


class Beacon:
    """A source that sends every few seconds, from `start` until `finish`, except while it is silent."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.silent = threading.Event()
        #: Webhooks that were taken.
        self.taken = 0

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Send no more. Raises what ended it before."""
        self._ended.set()
        self._thread.join()
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._ended.wait(_BEAT):
                if not self.silent.is_set():
                    taken(self._port, f"beat-{self.taken}", "beacon", source="beacon")
                    self.taken += 1
        except BaseException as error:  # noqa: BLE001 - raised in `finish`
            self._error = error


def taken(port: int, commit: str, branch: str, source: str = "github") -> Answer:
    """Push until it is taken. Raises AssertionError."""
    deadline = time.monotonic() + _TAKEN_WITHIN
    with closing(Client(port, source=source)) as client:
        while not (answer := client.push(commit, branch)).is_taken:
            assert time.monotonic() < deadline, f"{commit} got {answer.status} for {_TAKEN_WITHIN:.0f} s"
            time.sleep(_AGAIN)
    return answer
