"""The operations that read."""

from __future__ import annotations

import time

from werkzeug.exceptions import NotFound

from bridge import __version__
from bridge.app import Bridge
from bridge.core.event import JSON, rfc3339
from bridge.core.job import JobState
from bridge.outbox.activity import RouteActivity
from bridge.outbox.bounds import Window
from bridge.outbox.listing import SCANNED, JobFilter
from bridge.outbox.pauses import Pausable
from bridge.report.audit import audit_json
from bridge.report.events import event_json, refused_json, whole_event_json
from bridge.report.explanation import explanation_json
from bridge.report.jobs import attempt_json, job_json
from bridge.routing.route import Route
from bridge.web.api.call import Call
from bridge.web.health import troubles

DAY = 86400.0


class Reading:
    """One request; each method answers the operation of its name. Raises BadQuery, OutboxError, NotFound."""

    def __init__(self, bridge: Bridge, call: Call) -> None:
        self._bridge, self._call = bridge, call
        self._outbox, self._table = bridge.outbox, bridge.table

    def status(self) -> JSON:
        version = next((route.table for route in self._table.routes), None)
        backlog = self._outbox.activity.backlog()
        counts = self._outbox.listing.count_jobs(JobFilter(Window(0.0)))
        oldest = None if backlog.oldest_at is None else rfc3339(backlog.oldest_at)
        return {
            "version": __version__,
            "table_hash": None if version is None else version.hash,
            "table_commit": None if version is None else version.commit,
            "routes": len(self._table.routes),
            "troubles": troubles(self._bridge),
            "jobs": {str(state): counts[state].number for state in JobState},
            "backlog": {"jobs": backlog.count, "oldest_created_at": oldest},
        }

    def events(self) -> JSON:
        query = self._call.query
        page = self._outbox.listing.events(query.events(), query.before, self._call.limit)
        listed = [event_json(each.summary) for each in page.rows]
        return {"events": listed, "next": self._call.next_url(before=page.before), "partial": page.is_partial}

    def event(self, event_id: int) -> JSON:
        summary, jobs = self._outbox.summary(event_id), self._outbox.jobs(event_id=event_id, limit=SCANNED)
        return whole_event_json(summary, self._outbox.stored_event(event_id), reversed(jobs))

    def explanation(self, event_id: int) -> JSON:
        event = self._outbox.event(event_id)
        if event.source not in self._table.sources:
            raise NotFound(f"the table has no source {event.source!r}")
        return explanation_json(event, self._table.explain(event), self._table, self._bridge.mask)

    def jobs(self) -> JSON:
        page = self._outbox.listing.jobs(self._call.query.jobs(), self._call.query.before, self._call.limit)
        listed = [job_json(job) for job in page.rows]
        return {"jobs": listed, "next": self._call.next_url(before=page.before), "partial": page.is_partial}

    def job(self, job_id: int) -> JSON:
        job, attempts = self._outbox.job(job_id), self._outbox.attempts(job_id)
        return {**job_json(job), "attempts": [attempt_json(attempt) for attempt in attempts]}

    def routes(self) -> JSON:
        start = self._call.query.number("after") or 0
        end = start + self._call.limit
        shown = self._table.routes[start:end]
        activity = self._outbox.activity.routes([each.name for each in shown], Window(time.time() - DAY))
        paused = {(each.kind, each.name) for each in self._outbox.paused()}
        listed = [_route_json(each, activity[each.name], paused) for each in shown]
        following = end if end < len(self._table.routes) else None
        return {"routes": listed, "next": self._call.next_url(after=following)}

    def refused(self) -> JSON:
        found = self._outbox.refused(source=self._call.query.get("source"), limit=self._call.limit)
        return {"refused": [refused_json(each) for each in found]}

    def audit(self) -> JSON:
        limit = self._call.limit
        found = self._outbox.audit.entries(before=self._call.query.before, limit=limit + 1)
        last = found[limit - 1].id if len(found) > limit else None
        return {
            "audit": [audit_json(each) for each in found[:limit]],
            "next": self._call.next_url(before=last),
        }


def _route_json(route: Route, activity: RouteActivity, paused: set[tuple[Pausable, str]]) -> JSON:
    last = activity.last
    keys = ((Pausable.ROUTE, route.name), (Pausable.TASK, route.task.id))
    return {
        "name": route.name,
        "source": route.source,
        "task": route.task.name,
        "task_id": route.task.id,
        "file": None if route.place is None else route.place.file,
        "line": None if route.place is None else route.place.line,
        "jobs_in_24h": activity.jobs,
        "last_job": None if last is None else {"id": last.id, "state": last.state},
        "paused": any(key in paused for key in keys),
    }
