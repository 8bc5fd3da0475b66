"""Settings of gunicorn that would lose jobs, send them twice or hang: a start refuses them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bridge.connection_worker import FILES, WAITING_THREADS, ConnectionWorker, max_connections


def refused_settings(cfg: Any, worker: type[ConnectionWorker], stop: float) -> Iterator[str]:
    """Yield a line for each of gunicorn's settings that the bridge cannot run with.

    `cfg` is gunicorn's Config, which a file, GUNICORN_CMD_ARGS and the command line set; `worker` is the
    bridge's worker class, and `stop` is BRIDGE_STOP_TIMEOUT, in seconds.
    """
    most = max_connections()
    connections = f"set from 1 to {most}, for the limit of open files"
    if most <= 0:
        connections = f"raise the limit of open files (ulimit -n) to {FILES}"
    only = f"remove it; only {worker.__name__} finishes its sends when it ends"
    threads = f"remove it, or set more than {WAITING_THREADS}; so many threads may wait for clients"
    graceful = f"remove it, or set at least {int(stop)}; for a faster stop, set BRIDGE_STOP_TIMEOUT"
    timeout = f"remove it, or set more than {stop:g}; a worker that stops may take BRIDGE_STOP_TIMEOUT"
    for name, is_right, instead in (
        ("worker_class", issubclass(cfg.worker_class, worker), only),
        ("workers", cfg.workers >= 1, "set 1 or more; without a worker nothing is answered"),
        ("worker_tmp_dir", cfg.worker_tmp_dir is None or Path(cfg.worker_tmp_dir).is_dir(), "name a folder"),
        ("reload", not cfg.reload, "remove it; the bridge reloads its routing table by itself"),
        ("reuse_port", not cfg.reuse_port, "remove it; a worker that ends would drop its connections"),
        ("threads", cfg.threads > WAITING_THREADS, threads),
        ("worker_connections", 0 < cfg.worker_connections <= most, connections),
        ("graceful_timeout", cfg.graceful_timeout >= int(stop), graceful),
        ("timeout", cfg.timeout == 0 or cfg.timeout > stop, timeout),
    ):
        if not is_right:
            value = getattr(cfg, name)
            yield f"gunicorn's {name} is {getattr(value, '__name__', value)}: {instead}"
