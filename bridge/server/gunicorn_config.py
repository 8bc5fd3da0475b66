"""gunicorn's settings: ``gunicorn -c python:bridge.server.gunicorn_config bridge.wsgi:app``.

https://gunicorn.org/reference/settings/ explains each name.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from gunicorn.arbiter import Arbiter

from bridge.app import prepare_store, table_watcher, warn_if_sqlite_is_unsafe
from bridge.config.load import Loaded
from bridge.config.reload import POLL_INTERVAL, RELOAD_FAILED_TEXT, TableWatcher
from bridge.core.errors import BridgeError, ConfigError
from bridge.core.secrets import Mask
from bridge.process.log import configure_server
from bridge.process.log_fields import Fields
from bridge.process.settings import Settings
from bridge.server.connection_worker import THREADS, connection_limit, raise_file_limit
from bridge.server.gunicorn_logger import GunicornLogger
from bridge.server.listen_address import every_interface
from bridge.server.unsafe_settings import unsafe_settings
from bridge.server.web_worker import STOP_SIGNALS, WebWorker

#: The master was frozen if it did not check the table for so long.
FROZEN_AFTER_SECONDS = 5.0
#: The name of mallopt's option, and its value: larger blocks return to the system when they are freed.
M_MMAP_THRESHOLD = -3
MMAP_THRESHOLD_BYTES = 128 * 1024

log = logging.getLogger(__name__)


def _read_settings() -> Settings:
    try:
        return Settings.from_environ()
    except BridgeError as error:
        raise SystemExit(str(error)) from None


def _return_freed_memory() -> None:
    """Let glibc return large blocks to the system when they are freed; elsewhere do nothing.

    By default it raises the threshold to the largest block that was freed, and each thread's arena retains
    blocks of the size of a body. https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES)


def _heartbeat_folder(database_url: str) -> str | None:
    """Return a writable folder for gunicorn's heartbeat files, or None: /tmp may be read-only.

    Memory comes first: a heartbeat may block on a disk.
    https://gunicorn.org/reference/settings/#worker_tmp_dir
    """
    folders = ["/dev/shm"]  # noqa: S108 - gunicorn creates its files there with mkstemp
    if database_url.startswith("sqlite:///"):
        folders.append(str(Path(database_url.removeprefix("sqlite:///").partition("?")[0]).parent))
    return next((each for each in folders if os.access(each, os.W_OK | os.X_OK)), None)


_settings = _read_settings()
_return_freed_memory()
configure_server(_settings, Mask(_settings.secrets))

bind = _settings.bind or every_interface(_settings.port)
workers = _settings.web_concurrency
worker_class = WebWorker
threads = THREADS
raise_file_limit()
worker_connections = max(0, connection_limit())
worker_tmp_dir = _heartbeat_folder(_settings.database_url)
# A worker sends no heartbeat while it waits for its sends, or is frozen alone, and must not be killed then.
timeout = max(300, int(_settings.stop_timeout) + 10)
graceful_timeout = max(1, int(_settings.stop_timeout))
# Longer than the 60 to 90 s of proxies: a proxy that sends just as the bridge closes answers 502.
keepalive = 100
control_socket_disable = True
# The bridge uses neither. A client whose proxy forwards them could change its path, or cause a 500.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
logger_class = GunicornLogger
loglevel = _settings.log_level
proc_name = "bridge"


class BridgeArbiter(Arbiter):
    """gunicorn's master, with the attributes that the hooks below set."""

    last_valid_table: Loaded
    watcher: TableWatcher
    #: When it last checked the table, ``time.monotonic()``.
    checked_at: float


def on_starting(server: BridgeArbiter) -> None:
    """Refuse to start with unsafe settings, with an invalid table or without a store."""
    for handler in logging.getLogger().handlers:
        handler.flush()  # its thread would write between the lines of a refusal
    if not isinstance(server.log, GunicornLogger):
        raise SystemExit("gunicorn's logger_class would log secrets unmasked: remove --logger-class")
    if unsafe := "\n".join(unsafe_settings(server.cfg, _settings.stop_timeout)):
        raise SystemExit(unsafe)
    try:
        server.watcher = table_watcher(_settings)
        server.last_valid_table = server.watcher.load()
        if (number := server.cfg.workers) > 1:
            remedy = "set WEB_CONCURRENCY=1, and no --workers"
            warn_if_sqlite_is_unsafe(_settings.database_url, f"{number} web processes", remedy)
        prepare_store(_settings)
    except BridgeError as error:
        raise SystemExit(str(error)) from None
    # A signal that reaches a worker before it has its own handlers would be lost.
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS),
    )


def when_ready(server: BridgeArbiter) -> None:
    """Check the table for edits from now on, by a timer: the master forks, which breaks threads."""
    server.checked_at = time.monotonic()
    signal.signal(signal.SIGALRM, lambda *_: _check_table(server))
    signal.setitimer(signal.ITIMER_REAL, POLL_INTERVAL)


def _check_table(server: BridgeArbiter) -> None:
    """Load the table if it was edited, for workers that start while a later edit is invalid."""
    now = time.monotonic()
    if now - server.checked_at > FROZEN_AFTER_SECONDS:
        # The workers were frozen too and sent no heartbeat: do it for them, before the master kills them.
        for worker in server.WORKERS.values():
            worker.tmp.notify()
    server.checked_at = now
    try:
        server.last_valid_table = server.watcher.load_if_edited() or server.last_valid_table
    except ConfigError:
        pass  # the workers log it
    except Exception:
        # A defect costs this edit, never the server.
        log.exception(RELOAD_FAILED_TEXT, Fields("defect"))
    finally:
        # Only now: a check that takes longer than the interval must not interrupt itself.
        signal.setitimer(signal.ITIMER_REAL, POLL_INTERVAL)


def on_exit(server: BridgeArbiter) -> None:
    """Stop the timer: without its handler the signal would end the process with another status."""
    del server
    signal.setitimer(signal.ITIMER_REAL, 0)


def post_fork(server: BridgeArbiter, worker: WebWorker) -> None:
    """Give the new worker the last valid table."""
    worker.last_valid_table = server.last_valid_table


def worker_exit(server: Arbiter, worker: WebWorker) -> None:
    """Close the store once delivery has stopped and requests are answered, whatever ended the worker."""
    del server
    bridge = worker.bridge
    if bridge is None:
        return
    worker.stop_delivery(bridge).join(timeout=bridge.settings.stop_timeout)
    bridge.close()
    logging.shutdown()
