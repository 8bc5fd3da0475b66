"""The declarations of the metrics."""

from __future__ import annotations

import pytest

from bridge.core.metrics import ATTEMPT_SECONDS, METRICS, SUM, Metric


@pytest.mark.parametrize(
    ("value", "bound"), [(0, "0.05"), (0.05, "0.05"), (0.051, "0.1"), (60, "60"), (60.1, "+Inf")]
)
def test_a_value_is_counted_by_the_first_bucket_that_is_large_enough(value: float, bound: str) -> None:
    assert ATTEMPT_SECONDS.observed(value, "deploy") == [
        (("bridge_attempt_seconds", "deploy", bound), 1),
        (("bridge_attempt_seconds", "deploy", SUM), value),
    ]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: str(metric.name))
def test_a_metric_is_named_as_prometheus_advises(metric: Metric) -> None:
    """https://prometheus.io/docs/practices/naming/"""
    assert metric.name.startswith("bridge_")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert bool(metric.bounds) == (metric.kind == "histogram")
    assert list(metric.bounds) == sorted(metric.bounds, key=float)


def test_a_name_is_declared_once() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
