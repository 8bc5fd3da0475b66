"""Settings of gunicorn that would lose jobs, send them twice or hang: a start refuses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from bridge.connection_worker import FILES, WAITING_THREADS, ConnectionWorker, max_connections


class Rule(NamedTuple):
    """One setting, the values that it may have, and what to do instead of another value."""

    name: str
    allows: Callable[[Any], bool]
    instead: str


def refused_settings(cfg: Any, worker: type[ConnectionWorker], stop: float) -> Iterator[str]:
    """Yield a line for each of gunicorn's settings that the bridge cannot run with.

    `cfg` is gunicorn's Config, which a file, GUNICORN_CMD_ARGS and the command line set; `worker` is the
    bridge's worker class, and `stop` is BRIDGE_STOP, in seconds.
    """
    for name, allows, instead in _rules(worker, stop):
        value = getattr(cfg, name)
        if not allows(value):
            shown = getattr(value, "__name__", value)
            yield f"gunicorn's {name} is {shown}: {instead}"


def _rules(worker: type[ConnectionWorker], stop: float) -> tuple[Rule, ...]:
    connections = max_connections()
    return (
        Rule(
            "worker_class",
            lambda used: issubclass(used, worker),
            f"remove it; only {worker.__name__} finishes its sends when it ends",
        ),
        Rule("reload", lambda on: not on, "remove it; the bridge reloads its routing table by itself"),
        Rule("reuse_port", lambda on: not on, "remove it; a worker that ends would drop its connections"),
        Rule(
            "threads",
            lambda count: count > WAITING_THREADS,
            f"remove it, or set more than {WAITING_THREADS}; so many threads may wait for clients",
        ),
        Rule(
            "worker_connections",
            lambda count: 0 < count <= connections,
            f"set from 1 to {connections}, for the limit of open files"
            if connections > 0
            else f"raise the limit of open files (ulimit -n) to {FILES}",
        ),
        Rule(
            "graceful_timeout",
            lambda seconds: seconds >= int(stop),
            f"remove it, or set at least {int(stop)}; for a faster stop, set BRIDGE_STOP",
        ),
        Rule(
            "timeout",
            lambda seconds: seconds == 0 or seconds > stop,
            f"remove it, or set more than {stop:g}; a worker that stops may take BRIDGE_STOP",
        ),
    )
