"""``GET /metrics``, for Prometheus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from flask import Blueprint, Response, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client import Metric as Family
from prometheus_client.registry import Collector

from bridge import __version__
from bridge.app import Bridge
from bridge.core import metrics
from bridge.core.errors import StoreUnavailable
from bridge.core.event import Headers
from bridge.core.job import JobState, Outcome
from bridge.core.metrics import METRICS, Metric, Series
from bridge.delivery.target import OUTAGE
from bridge.outbox.pauses import Pausable
from bridge.process.log import log_trouble
from bridge.routing.routing_table import RoutingTable
from bridge.web.health import PROCESS_TIMEOUT_SECONDS, details_of, token_hint
from bridge.web.problem import problem_response


def metrics_page(bridge: Bridge) -> Blueprint:
    """The URL of the metrics."""
    blueprint = Blueprint("metrics", __name__)
    registry = CollectorRegistry()
    registry.register(_Metrics(bridge))

    @blueprint.get("/metrics")
    def scrape() -> Response:
        hint = token_hint(bridge.settings, Headers(request.headers.items()))
        if hint is None:
            return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
        if bridge.settings.status_token is None:
            return problem_response(404, hint)
        return problem_response(401, hint, {"WWW-Authenticate": "Bearer"})

    return blueprint


class _Metrics(Collector):
    """The metrics at each scrape."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def collect(self) -> Iterator[Family]:
        values: dict[str, dict[Series, float]] = defaultdict(dict)
        for (name, *labels), value in _numbers(self._bridge).items():
            # As every text that leaves the bridge, although no label should have a secret.
            values[name][tuple(map(self._bridge.mask, labels))] = value
        for metric in METRICS:
            yield _family(metric, values[metric.name])


def _numbers(bridge: Bridge) -> dict[Series, float]:
    version = bridge.table.version
    here: dict[Series, float] = {
        (metrics.READY.name,): 0,
        (metrics.TABLE_VALID.name,): bridge.table_trouble is None,
        (metrics.LOG_BLOCKED.name,): log_trouble() is not None,
        (metrics.TABLE.name, version.hash, version.commit or ""): 1,
        (metrics.BUILD.name, __version__): 1,
    }
    try:
        bridge.outbox.ping()
        stored = bridge.outbox.measure()
        trouble = details_of(bridge).get("trouble", [])
        for pause in bridge.outbox.paused():
            task = bridge.table.tasks.get(pause.name) if pause.kind is Pausable.TASK else None
            stored[metrics.PAUSED.name, pause.kind, pause.name if task is None else task.name] = 1
        for each in bridge.outbox.expectations.watched():
            key = each.expectation
            stored[metrics.SILENT.name, key.source, key.route] = each.is_overdue
        stored[metrics.DELIVERING.name,] = len(bridge.outbox.delivering(PROCESS_TIMEOUT_SECONDS))
    except StoreUnavailable:
        return here
    stored[metrics.OUTAGE.name,] = any(text.startswith(OUTAGE) for text in trouble)
    return {**here, **_zeros(bridge.table), **stored, (metrics.READY.name,): 1}


def _zeros(table: RoutingTable) -> dict[Series, float]:
    """Return 0 for the counters of the table: Prometheus sees no growth where a counter begins with 1."""
    sources, causes = [*table.sources, metrics.UNKNOWN_SOURCE], metrics.CAUSES.values()
    routes = [(route.name, route.task.name) for route in table.routes]
    ends = set(JobState) - {JobState.WAITING, JobState.SENDING}
    return {
        **{(metrics.REFUSED.name, source, cause): 0 for source in sources for cause in causes},
        **{(metrics.JOBS_CREATED.name, *route): 0 for route in routes},
        **{(metrics.JOBS_ENDED.name, *route, state): 0 for route in routes for state in ends},
        **{(metrics.ATTEMPTS.name, each.name, end): 0 for each in table.tasks.values() for end in Outcome},
    }


def _family(metric: Metric, values: Mapping[Series, float]) -> Family:
    """Return a metric with its values, by the labels."""
    family = Family(metric.name.removesuffix("_total"), metric.meaning, metric.kind)
    if metric.kind != "histogram":
        for labels, value in values.items():
            family.add_sample(metric.name, dict(zip(metric.labels, labels, strict=True)), value)
        return family
    for labels in dict.fromkeys(key[:-1] for key in values):
        named = dict(zip(metric.labels, labels, strict=True))
        below = 0.0  # Prometheus's buckets count all smaller values, too.
        for bound in metric.bounds:
            below += values.get((*labels, bound), 0)
            family.add_sample(f"{metric.name}_bucket", {**named, "le": bound}, below)
        family.add_sample(f"{metric.name}_count", named, below)
        family.add_sample(f"{metric.name}_sum", named, values.get((*labels, metrics.SUM), 0))
    return family
