"""What the stand-in does while TheEye's side of the schedule goes wrong."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from email.utils import formatdate

from tests.chaos.schedule import Action, What
from tests.chaos.table import TASKS, TIMEOUT
from tests.support.theeye import Answer, Fault, StandIn

#: What nginx says.
_HTML = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>nginx</body>\r\n</html>\r\n"
_IN_HTML = (("Content-Type", "text/html"),)
#: Seconds between a refusal and a welcome.
_FLAP = 0.3
#: What every order takes, seconds.
ALWAYS = 0.08


def begin(theeye: StandIn) -> None:
    """Let it be as it is where nothing goes wrong: not so fast that no kill finds a send in flight."""
    theeye.clear()
    theeye.fault(Fault(hang=ALWAYS))


def happen(theeye: StandIn, action: Action, ended: threading.Event) -> None:
    """Let TheEye do that for as long as it lasts, or until `ended`; then it is as before."""
    if action.what is What.REFUSES:
        theeye.refuse()
        ended.wait(action.lasts)
        theeye.listen()
    elif action.what is What.FLAPS:
        until = time.monotonic() + action.lasts
        while time.monotonic() < until and not ended.is_set():
            theeye.refuse()
            ended.wait(_FLAP)
            theeye.listen()
            ended.wait(_FLAP)
    else:
        theeye.clear()
        theeye.fault(_fault(action, time.time()))
        theeye.fault(Fault(hang=ALWAYS))
        ended.wait(action.lasts)
        begin(theeye)


def _fault(action: Action, now: float) -> Fault:
    later = 1 + round(action.chance)
    faults = {
        What.HANGS: Fault(hang=TIMEOUT + 2.0),
        What.RESETS: Fault(reset=True),
        What.FAILS: Fault(Answer(500, b'"Internal Server Error"')),
        What.BAD_GATEWAY: Fault(Answer(502, _HTML, _IN_HTML)),
        What.BUSY_FOR: Fault(Answer(429, b"", (("Retry-After", str(later)),))),
        What.BUSY_UNTIL: Fault(Answer(429, b"", (("Retry-After", formatdate(now + later, usegmt=True)),))),
        What.AWAY: Fault(Answer(503, _HTML, _IN_HTML)),
        What.UNREADABLE: Fault(Answer(200, b'{"id": "5f3c')),
        What.SLOW: Fault(hang=0.2 + action.chance),
        # An answer has about a thousand bytes: some come in time, some do not.
        What.DRIPS: Fault(drip=0.0005 + 0.002 * action.chance),
    }
    task = TASKS[action.kind] if action.kind else None
    return replace(faults[action.what], saves=action.saves, task_id=task)
