"""Conditions that select stored events, jobs and refused requests. None selects all."""

from __future__ import annotations

from sqlalchemy import ColumnElement, func

from bridge.core.job import JobState
from bridge.outbox.schema import events, jobs, refused_requests


def of_events(source: str | None, since: float | None) -> list[ColumnElement[bool]]:
    """`since` in seconds since the epoch."""
    wanted = [] if source is None else [events.c.source == source]
    return wanted if since is None else [*wanted, events.c.received_at >= since]


def of_jobs(state: JobState | None, route: str | None, since: float | None) -> list[ColumnElement[bool]]:
    """`since` in seconds since the epoch: when a job ended, or was created if it has not ended."""
    wanted = [] if state is None else [jobs.c.state == state]
    wanted += [] if route is None else [jobs.c.route == route]
    return wanted if since is None else [*wanted, func.coalesce(jobs.c.ended_at, jobs.c.created_at) >= since]


def of_refused(source: str | None, since: float | None) -> list[ColumnElement[bool]]:
    """`since` in seconds since the epoch."""
    wanted = [] if source is None else [refused_requests.c.source == source]
    return wanted if since is None else [*wanted, refused_requests.c.at >= since]
