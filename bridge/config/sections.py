"""The sections of the routing table, as one model."""

from __future__ import annotations

from pydantic import Field

from bridge.config.models import Model, RouteModel, SourceModel, TaskCallModel, TaskModel, TheEyeModel
from bridge.config.routing_tests import RoutingTestModel


class TableModel(Model):
    """The routing table: which webhook runs which task at TheEye."""

    theeye: TheEyeModel | None = None
    sources: dict[str, SourceModel] = Field(default={})
    """Who sends webhooks, by name: the last part of the URL."""
    tasks: dict[str, TaskModel] = Field(default={})
    """Tasks by name. A task that one route runs may stand there instead."""
    routes: tuple[RouteModel, ...] = ()
    """Every route that matches makes its jobs."""
    on_dead: TaskCallModel | None = None
    """A task that tells somebody of jobs that died: at most one a route and hour."""
    tests: tuple[RoutingTestModel, ...] = ()
    """What the table should make of webhooks; `python -m bridge test` runs them."""
