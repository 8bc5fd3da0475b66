"""What the stand-in does while TheEye's side of the schedule goes wrong."""

from __future__ import annotations

import threading
import time
from email.utils import formatdate

from bridge.demo.theeye import Answer, Fault, StandIn
from tests.chaos.schedule import Action, What
from tests.chaos.table import TASKS, TIMEOUT

#: What nginx says.
_HTML = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>nginx</body>\r\n</html>\r\n"
#: Seconds between a refusal and a welcome.
_FLAP = 0.3


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
        theeye.fault(_fault(action, time.time()))
        ended.wait(action.lasts)
        theeye.clear()


def _fault(action: Action, now: float) -> Fault:
    task = TASKS[action.kind] if action.kind else None
    saves = action.saves
    later = 1 + round(action.chance)
    match action.what:
        case What.HANGS:
            return Fault(hang=TIMEOUT + 2.0, saves=saves, task_id=task)
        case What.RESETS:
            return Fault(reset=True, saves=saves, task_id=task)
        case What.FAILS:
            return Fault(Answer(500, b'"Internal Server Error"'), saves=saves, task_id=task)
        case What.BAD_GATEWAY:
            return Fault(Answer(502, _HTML, (("Content-Type", "text/html"),)), saves=saves, task_id=task)
        case What.BUSY_FOR:
            return Fault(Answer(429, b"", (("Retry-After", str(later)),)), task_id=task)
        case What.BUSY_UNTIL:
            date = formatdate(now + later, usegmt=True)
            return Fault(Answer(429, b"", (("Retry-After", date),)), task_id=task)
        case What.AWAY:
            return Fault(Answer(503, _HTML, (("Content-Type", "text/html"),)), task_id=task)
        case What.UNREADABLE:
            return Fault(Answer(200, b'{"id": "5f3c'), saves=saves, task_id=task)
        case What.SLOW:
            return Fault(hang=0.2 + action.chance, task_id=task)
        case What.DRIPS:
            # An answer has about a thousand bytes: some come in time, some do not.
            return Fault(drip=0.0005 + 0.002 * action.chance, task_id=task)
    raise ValueError(f"{action.what} is nothing that TheEye does")
