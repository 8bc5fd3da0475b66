"""Fields: the data of a log line, and the table of the actions and fields that a line may have."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.core.errors import BridgeError
from bridge.core.job import Job

Value = str | int | float | BridgeError

#: The fields of each action's lines. docs/reference/logs.md describes them; a line may lack some.
ACTIONS: Mapping[str, str] = {
    "access": "client method path status bytes seconds",
    "alert": "jobs",
    "clock": "seconds jobs",
    "dead": "job event route task jobs state reason",
    "defect": "job event route task",
    "deliver": "job event route task attempt outcome state status seconds theeye_job_id reason",
    "handshake": "source client",
    "library": "",
    "outage": "reason",
    "prune": "events jobs bodies reason",
    "receive": "event source event_name delivery_id client duplicate jobs reason",
    "reclaim": "job event route task",
    "recovered": "seconds",
    "refuse": "status source client reason requests seconds",
    "reload": "table_hash routes",
    "reload_rejected": "",
    "setting": "reason",
    "silence": "reason",
    "skip": "job event route task state reason",
    "start": "release table table_hash commit routes sources store processes pid",
    "start_failed": "seconds reason",
    "stop": "pid",
    "store": "requests reason",
    "table_problem": "reason",
    "trouble": "lines reason",
    "unauthorized": "",
    "unrecorded": "job event route task outcome theeye_job_id reason",
    "upgrade": "from_revision revision",
}


class Fields(dict[str, Value | None]):
    """The fields of one line, and the only argument of its message; a field that is None is left out.

    Such as ``log.info("upgraded to revision %(revision)s", Fields("upgrade", revision="0007"))``.
    """

    def __init__(self, action: str, /, **fields: Value | None) -> None:
        super().__init__(action=action, **fields)


def job_fields(action: str, job: Job, /, **fields: Value | None) -> Fields:
    """Return the fields of a line about a job, and further ones."""
    return Fields(action, job=job.id, event=job.event_id, route=job.route, task=job.task, **fields)
