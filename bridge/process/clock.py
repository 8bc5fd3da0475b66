"""Clock: the wall clock of one process, without its jumps."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

#: NTP corrects in steps below this, seconds. A larger one is a jump.
JUMP_THRESHOLD = 5.0
#: How long a jump must last before the clock follows it, seconds.
FOLLOW_DELAY = 60.0

log = logging.getLogger(__name__)


class Clock:
    """Seconds since the epoch. Safe to use from any thread.

    If the wall clock jumps against the monotonic one, time goes on as before until the jump has lasted
    FOLLOW_DELAY seconds: a clock that is wrong for a moment ends no lease and gives no job up. Somebody must
    ask for the time every few seconds, otherwise a jump is noticed late.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._lock = threading.Lock()
        #: By how much this clock is ahead of the monotonic one, seconds.
        self._ahead = wall() - monotonic()
        #: The same of a jump that is not followed yet, and the monotonic time when it was noticed.
        self._jump: tuple[float, float] | None = None
        self._unsteady_at = -math.inf
        #: How many jumps forward it has followed.
        self.forward_jumps = 0
        #: How many jumps back it has followed, and jumps forward that ended: times may be stored by these.
        self.backward_jumps = 0

    def __call__(self) -> float:
        with self._lock:
            now = self._monotonic()
            self._look(self._wall() - now, now)
            return now + self._ahead

    def steady_for(self) -> float:
        """Return for how many seconds there has been no jump, and none was followed."""
        self()
        return self._monotonic() - self._unsteady_at

    @property
    def trouble(self) -> str | None:
        """Describe a jump that is not followed yet, for people."""
        self()
        if (jump := self._jump) is None:
            return None
        return f"the clock jumped by {jump[0] - self._ahead:+.0f} s, which counts once it has lasted a minute"

    def _look(self, ahead: float, now: float) -> None:
        if abs(ahead - self._ahead) <= JUMP_THRESHOLD:
            self.backward_jumps += self._jump is not None and self._jump[0] > self._ahead
            self._ahead, self._jump = ahead, None
        elif self._jump is None or abs(ahead - self._jump[0]) > JUMP_THRESHOLD:
            self._jump, self._unsteady_at = (ahead, now), now
            log.warning("the clock jumped by %+.0f s; check NTP", ahead - self._ahead)
        elif now - self._jump[1] >= FOLLOW_DELAY:
            log.warning("the clock is corrected by %+.0f s", ahead - self._ahead)
            self.forward_jumps += ahead > self._ahead
            self.backward_jumps += ahead < self._ahead
            self._ahead, self._jump, self._unsteady_at = ahead, None, now
