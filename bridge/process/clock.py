"""Clock: a process's wall clock that ignores short jumps."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from bridge.process.log_fields import Fields

#: Larger steps are jumps, seconds; NTP corrects in smaller ones.
JUMP_THRESHOLD = 5.0
#: How long a jump must last before the clock follows it, seconds.
FOLLOW_DELAY = 60.0

log = logging.getLogger(__name__)


class Clock:
    """Seconds since the epoch. Safe to use from any thread.

    If the wall clock jumps, this clock follows after FOLLOW_DELAY: a clock that is wrong for a moment ends no
    lease and no job. It notices a jump when it is called, so call it every few seconds.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._lock = threading.Lock()
        #: How far this clock is ahead of the monotonic one, seconds.
        self._ahead = wall() - monotonic()
        #: The same after a jump that is not followed yet, and when the jump was noticed, monotonic.
        self._jump: tuple[float, float] | None = None
        self._unsteady_at = -math.inf
        #: How many jumps forward it has followed.
        self.forward_jumps = 0
        #: How many jumps back it has followed, and jumps forward that ended: stored times may be too late.
        self.backward_jumps = 0

    def __call__(self) -> float:
        with self._lock:
            now = self._monotonic()
            self._check(self._wall() - now, now)
            return now + self._ahead

    def steady_for(self) -> float:
        """Return the seconds since a jump was noticed or followed."""
        self()
        return self._monotonic() - self._unsteady_at

    @property
    def trouble(self) -> str | None:
        """Describe a jump that is not followed yet, or return None."""
        self()
        if (jump := self._jump) is None:
            return None
        seconds = jump[0] - self._ahead
        return f"the clock jumped by {seconds:+.0f} s; this process uses the new time after a minute"

    def _check(self, ahead: float, now: float) -> None:
        if abs(ahead - self._ahead) <= JUMP_THRESHOLD:
            self.backward_jumps += self._jump is not None and self._jump[0] > self._ahead
            self._ahead, self._jump = ahead, None
        elif self._jump is None or abs(ahead - self._jump[0]) > JUMP_THRESHOLD:
            self._jump, self._unsteady_at = (ahead, now), now
            fields = Fields("clock", seconds=round(ahead - self._ahead, 3))
            log.warning("the clock jumped by %(seconds)+.0f s; check NTP", fields)
        elif now - self._jump[1] >= FOLLOW_DELAY:
            fields = Fields("clock", seconds=round(ahead - self._ahead, 3))
            log.warning("using the new time after the clock's jump by %(seconds)+.0f s", fields)
            self.forward_jumps += ahead > self._ahead
            self.backward_jumps += ahead < self._ahead
            self._ahead, self._jump, self._unsteady_at = ahead, None, now
