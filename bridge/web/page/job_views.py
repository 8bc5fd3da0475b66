"""``/jobs`` and ``/jobs/<id>``, and the changes that a person makes to jobs and events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, redirect, render_template, request, url_for

from bridge.app import Bridge
from bridge.core.exact_json import dumps
from bridge.outbox.listing import SCANNED
from bridge.report.verdict import URGENT_FIRST, arguments_text
from bridge.web.query import SPANS, Query

if TYPE_CHECKING:
    from werkzeug.wrappers import Response as BaseResponse

#: How many jobs of a group a job's page lists.
GROUP_LIMIT = 20


def add_job_views(blueprint: Blueprint, bridge: Bridge) -> None:
    """Add the views of jobs."""

    @blueprint.get("/jobs")
    def jobs() -> str | BaseResponse:
        query = Query.of(request.args)
        if (number := query.number("id")) is not None:
            return redirect(url_for("page.job", job_id=number))
        wanted = query.jobs()
        page = bridge.outbox.listing.jobs(wanted, query.before)
        return render_template(
            "jobs.html", query=query, page=page, counts=bridge.outbox.listing.count_jobs(wanted),
            states=URGENT_FIRST, spans=SPANS, scanned=SCANNED, arguments_text=arguments_text,
            routes=[route.name for route in bridge.table.routes], table=bridge.table,
            tasks={task.id: task.name for task in bridge.table.tasks.values()},
        )  # fmt: skip

    @blueprint.get("/jobs/newer")
    def newer_jobs() -> str:
        """How many jobs were created since the list was shown."""
        query = Query.of(request.args)
        page = bridge.outbox.listing.jobs(query.jobs())
        newest = query.number("upto") or 0
        count = sum(1 for each in page.rows if each.id > newest)
        return render_template(
            "newer.html", count=count, more=page.before is not None and count == len(page.rows),
            url=query.url("/jobs"),
        )  # fmt: skip

    @blueprint.get("/jobs/<id:job_id>")
    def job(job_id: int) -> str:
        found = bridge.outbox.job(job_id)
        task = bridge.table.tasks.get(found.task_id)
        route = next((each for each in bridge.table.routes if each.name == found.route), None)
        return render_template(
            "job.html", job=found, attempts=bridge.outbox.attempts(job_id), task=task, route=route,
            is_hidden=bridge.table.is_sensitive(found.route) and request.args.get("show") != "arguments",
            pauses=[each for each in bridge.outbox.paused() if each.holds(found)],
            behind=bridge.outbox.listing.behind(found, GROUP_LIMIT),
            acts=bridge.outbox.audit.naming("jobs", job_id), names=None if task is None else task.arguments,
            shown=lambda value: value if isinstance(value, str) else dumps(value).decode(),
        )  # fmt: skip
