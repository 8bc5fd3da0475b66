"""The sections of the routing table, as one shape."""

from __future__ import annotations

from pydantic import Field

from bridge.config.shapes import OrderShape, RouteShape, Shape, SourceShape, TaskShape, TheEyeShape
from bridge.config.tests import RoutingTestShape


class TableShape(Shape):
    """The routing table: which webhook runs which task at TheEye."""

    theeye: TheEyeShape | None = None
    sources: dict[str, SourceShape] = Field(default={})
    """Senders of webhooks by name, which is the last part of the URL."""
    tasks: dict[str, TaskShape] = Field(default={})
    """Tasks by name. A route may also contain its task's keys."""
    routes: tuple[RouteShape, ...] = ()
    """Rules from events to tasks. Every route that matches creates its jobs."""
    on_dead: OrderShape | None = None
    """A task that alerts somebody about dead jobs, at most once per route and hour."""
    tests: tuple[RoutingTestShape, ...] = ()
    """Webhooks and the jobs that they should create. The command `test` runs these tests."""
