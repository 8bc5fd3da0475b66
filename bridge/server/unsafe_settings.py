"""unsafe_settings: gunicorn settings with which jobs would be lost or sent twice, or a process would hang."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bridge.server.connection_worker import MAX_OPEN_FILES, MAX_WAITING_THREADS, connection_limit
from bridge.server.web_worker import WebWorker


def unsafe_settings(cfg: Any, stop_timeout: float) -> Iterator[str]:
    """Yield a line for each unsafe setting of `cfg`, gunicorn's Config. `stop_timeout` is in seconds."""
    most = connection_limit()
    connections = f"set a number from 1 to {most}, because of the limit of open files"
    if most <= 0:
        connections = f"raise the limit of open files (ulimit -n) to {MAX_OPEN_FILES}"
    worker = f"remove it; only {WebWorker.__name__} finishes its sends when it stops"
    waiting = MAX_WAITING_THREADS
    threads = f"remove it, or set more than {waiting}, because up to {waiting} threads may wait for clients"
    graceful = f"remove it, or set at least {int(stop_timeout)}; for a faster stop, set BRIDGE_STOP_TIMEOUT"
    timeout = (
        f"remove it, or set more than {stop_timeout:g}; a worker that stops may take BRIDGE_STOP_TIMEOUT"
    )
    # gunicorn's TLS and HTTP/2 wait for clients in threads without the limit.
    plain = "remove it; the bridge serves HTTP/1.1 without TLS, so put a TLS proxy in front of it"
    for name, is_safe, remedy in (
        ("worker_class", issubclass(cfg.worker_class, WebWorker), worker),
        ("workers", cfg.workers >= 1, "set 1 or more; without a worker, no request is answered"),
        (
            "worker_tmp_dir",
            cfg.worker_tmp_dir is None or Path(cfg.worker_tmp_dir).is_dir(),
            "set an existing folder",
        ),
        ("reload", not cfg.reload, "remove it; the bridge reloads its routing table by itself"),
        ("reuse_port", not cfg.reuse_port, "remove it; a worker that stops would drop its connections"),
        ("threads", cfg.threads > MAX_WAITING_THREADS, threads),
        ("worker_connections", 0 < cfg.worker_connections <= most, connections),
        ("graceful_timeout", cfg.graceful_timeout >= int(stop_timeout), graceful),
        ("certfile", not cfg.certfile, plain),
        ("keyfile", not cfg.keyfile, plain),
        ("http_protocols", "h2" not in cfg.http_protocols, plain),
        ("timeout", cfg.timeout == 0 or cfg.timeout > stop_timeout, timeout),
    ):
        if not is_safe:
            value = getattr(cfg, name)
            yield f"gunicorn's {name} is {getattr(value, '__name__', value)}: {remedy}"
