"""``/routes``, ``/refused``, ``/audit`` and ``/table``: the table in force, and what did not pass."""

from __future__ import annotations

import time

from flask import Blueprint, render_template, request

from bridge.app import Bridge
from bridge.outbox.bounds import Window
from bridge.outbox.listing import SCANNED
from bridge.outbox.pauses import Pausable
from bridge.report.events import advice_for
from bridge.routing.match import EventCheck
from bridge.routing.route import Route
from bridge.web.health import troubles
from bridge.web.page.overview import DAY, table_version
from bridge.web.query import Query

#: How many routes, requests and entries a page lists.
ROUTES_LIMIT = 100
REFUSED_LIMIT = 200
AUDIT_LIMIT = 100


def add_table_views(blueprint: Blueprint, bridge: Bridge) -> None:
    """Add the views of the table, of refused requests and of the audit."""

    @blueprint.get("/routes")
    def routes() -> str:
        query = Query.of(request.args)
        wanted = (query.get("q") or "").casefold()
        found = [each for each in bridge.table.routes if wanted in _searched(each).casefold()]
        start = query.number("after") or 0
        shown = found[start : start + ROUTES_LIMIT]
        window = Window(time.time() - DAY)
        return render_template(
            "routes.html", query=query, routes=shown, total=len(found), start=start, limit=ROUTES_LIMIT,
            activity=bridge.outbox.activity.routes([each.name for each in shown], window), scanned=SCANNED,
            paused={(each.kind, each.name): each for each in bridge.outbox.paused()},
            of_route=Pausable.ROUTE, of_task=Pausable.TASK,
            version=table_version(bridge), trouble=bridge.table_trouble,
        )  # fmt: skip

    @blueprint.get("/table")
    def table() -> str:
        return render_template(
            "table.html", problems=[*bridge.reloader.rejected], trouble=troubles(bridge),
            version=table_version(bridge),
        )  # fmt: skip

    @blueprint.get("/refused")
    def refused() -> str:
        query = Query.of(request.args)
        source = "" if query.get("unknown") else query.get("source")
        found = bridge.outbox.refused(source=source, limit=REFUSED_LIMIT)
        return render_template("refused.html", query=query, refused=found, advice=advice_for)

    @blueprint.get("/audit")
    def audit() -> str:
        return render_template("audit.html", entries=bridge.outbox.audit.entries(limit=AUDIT_LIMIT))


def _searched(route: Route) -> str:
    """Return the text in which a search for routes looks."""
    events = [check.expected for check in route.checks if isinstance(check, EventCheck)]
    return " ".join((route.name, route.source, route.task.name, *events))
