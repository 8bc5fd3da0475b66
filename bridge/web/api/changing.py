"""The operations that change jobs, events and pauses. The audit has each, under the token's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from werkzeug.exceptions import NotFound

from bridge.app import Bridge
from bridge.core.errors import quoted
from bridge.core.event import JSON
from bridge.core.job import Job
from bridge.core.suggestions import did_you_mean
from bridge.intake.changes import ORDERS, Changed, Changes
from bridge.outbox.pauses import Pausable
from bridge.outbox.webhook import StoredJob
from bridge.web.api.call import Call


class Changing:
    """One request; each method answers the operation of its name. Raises OutboxError, NotFound."""

    def __init__(self, bridge: Bridge, call: Call) -> None:
        self._call, self._outbox, self._table = call, bridge.outbox, bridge.table
        self._changes = Changes(bridge.outbox, bridge.table)

    def retry(self, job_id: int) -> JSON:
        return self._change("retry", job_id)

    def cancel(self, job_id: int) -> JSON:
        return self._change("cancel", job_id)

    def resolve(self, job_id: int) -> JSON:
        return self._change(self._call.query.values["answer"], job_id)

    def replay(self, event_id: int) -> JSON:
        self._outbox.summary(event_id)  # the audit has no entry for an event that does not exist
        change = partial(self._changes.replay, event_id)
        return self._recorded("events replay", {"events": [event_id]}, f"event {event_id}:", change)

    def pause(self) -> JSON:
        return self._pause("pause", self._call.query.values["kind"], self._call.query.values["name"])

    def resume(self, kind: str, name: str) -> JSON:
        return self._pause("resume", kind, name)

    def _change(self, name: str, job_id: int) -> JSON:
        order = ORDERS[name]
        refused = self._changes.refusal(job_id, order.states)
        if refused is not None and refused.error is not None:
            raise refused.error
        change = partial(self._changes.change, name, job_id, states=order.states)
        answer = self._recorded(order.name, {"jobs": [job_id]}, f"job {job_id}", change)
        return {**answer, "jobs": [_short(self._outbox.job(job_id))]}

    def _pause(self, verb: str, kind: str, name: str) -> JSON:
        of_kind = Pausable(kind)
        keys = {route.name: route.name for route in self._table.routes}
        if of_kind is Pausable.TASK:
            keys = {task.name: task.id for task in self._table.tasks.values()}
        key = keys.get(name, name)
        paused = [each.name for each in self._outbox.paused() if each.kind is of_kind]
        if key not in (*keys.values(), *paused):
            raise NotFound(f"there is no {kind} {quoted(name)}{did_you_mean(name, keys)}")
        set_pause = self._outbox.pause if verb == "pause" else self._outbox.resume

        def change(entry: int) -> Changed:
            is_new = set_pause(of_kind, key, entry=entry)
            return Changed(f"{'is' if is_new else 'was already'} {verb}d", is_done=True)

        return self._recorded(verb, {kind: key}, f"{kind} {name}", change)

    def _recorded(
        self, name: str, target: Mapping[str, JSON], subject: str, change: Callable[[int], Changed]
    ) -> dict[str, JSON]:
        """Change under an entry of the audit; return the answer. Raises OutboxError."""
        with self._outbox.audit.recording(self._call.action(name, target)) as entry:
            changed = change(entry)
        if changed.error is not None:
            raise changed.error
        answer = {"audit": entry, "done": changed.is_done, "result": changed.line(subject)}
        return {**answer, "warnings": list(changed.warnings), "jobs": [*map(_short, changed.jobs)]}


def _short(job: Job | StoredJob) -> JSON:
    return {"id": job.id, "route": job.route, "task": job.task, "state": job.state}
