"""``worker``: a process that only delivers, beside web processes that only receive."""

from __future__ import annotations

import logging
import os
import signal
import threading

from bridge.app import build, warn_if_sqlite_is_unsafe
from bridge.process.log import log_trouble
from bridge.process.log_fields import Fields
from bridge.process.settings import Settings

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Deliver until SIGTERM or SIGINT; SIGHUP reloads the table.

    Raises ConfigError or StoreUnavailable if it cannot start.
    """
    # Blocked here and in every thread that starts from now on: `sigwait` receives them.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    bridge = build(settings)
    remedy = "stop the worker and start the server with BRIDGE_DELIVER=true, or use PostgreSQL"
    warn_if_sqlite_is_unsafe(settings.database_url, "a worker beside the server", remedy)
    bridge.delivery.other_trouble = lambda: bridge.table_trouble or log_trouble()
    try:
        bridge.start(deliver=True)
        log.info("delivering", Fields("start", pid=os.getpid()))
        while signal.sigwait(SIGNALS) == signal.SIGHUP:
            bridge.reloader.reload()
    finally:
        # A database that hangs would keep the process alive forever. Expired leases recover its jobs.
        timer = threading.Timer(settings.stop_timeout, _exit)
        timer.daemon = True
        timer.start()
        bridge.stop_delivery()
        bridge.close()
        timer.cancel()


def _exit() -> None:
    log.error(
        "BRIDGE_STOP_TIMEOUT passed before the process could stop; jobs whose outcome is not stored "
        "are recovered after their leases expire",
        Fields("stop", pid=os.getpid()),
    )
    logging.shutdown()
    os._exit(1)
