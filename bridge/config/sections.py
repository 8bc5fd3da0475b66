"""The sections of the routing table, as one shape."""

from __future__ import annotations

from pydantic import Field

from bridge.config.models import OrderShape, RouteShape, Shape, SourceShape, TaskShape, TheEyeShape
from bridge.config.routing_tests import RoutingTestShape


class TableShape(Shape):
    """The routing table: which webhook runs which task at TheEye."""

    theeye: TheEyeShape | None = None
    sources: dict[str, SourceShape] = Field(default={})
    """Who sends webhooks, by name: the last part of the URL."""
    tasks: dict[str, TaskShape] = Field(default={})
    """Tasks by name. A task that one route runs may stand there instead."""
    routes: tuple[RouteShape, ...] = ()
    """Every route that matches makes its jobs."""
    on_dead: OrderShape | None = None
    """A task that tells somebody of jobs that died: at most one a route and hour."""
    tests: tuple[RoutingTestShape, ...] = ()
    """What the table should make of webhooks; `python -m bridge test` runs them."""
