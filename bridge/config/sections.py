"""The sections of the routing table, as one model."""

from __future__ import annotations

from pydantic import Field

from bridge.config.models import Model, RouteModel, SourceModel, TaskCallModel, TaskModel, TheEyeModel
from bridge.config.routing_tests import RoutingTestModel


class TableModel(Model):
    """The routing table: which webhook runs which task at TheEye."""

    theeye: TheEyeModel | None = None
    sources: dict[str, SourceModel] = Field(default={})
    """Senders of webhooks by name, which is the last part of the URL."""
    tasks: dict[str, TaskModel] = Field(default={})
    """Tasks by name. A route may also contain its task's keys."""
    routes: tuple[RouteModel, ...] = ()
    """Rules from events to tasks. Every route that matches creates its jobs."""
    on_dead: TaskCallModel | None = None
    """A task that reports dead jobs, at most once per hour for each route."""
    on_silence: TaskCallModel | None = None
    """A task that reports a source or route without webhooks or jobs for longer than its expect_every."""
    tests: tuple[RoutingTestModel, ...] = ()
    """Webhooks and the jobs that they should create. The command `test` runs these tests."""
