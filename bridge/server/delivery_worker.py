"""``python -m bridge worker``: delivery alone, beside web processes that only receive."""

from __future__ import annotations

import logging
import os
import signal
import threading

from bridge.app import build
from bridge.process.log import log_trouble
from bridge.process.settings import Settings

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
#: Of the time a stop may take, what is left for closing the store, seconds.
CLOSING = 1.0

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Deliver until SIGTERM or SIGINT; SIGHUP reads the table anew.

    Raises ConfigError, StoreUnavailable where it cannot start.
    """
    # They are waited for, and interrupt nothing. Every thread that starts from now on leaves them alone, too.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    bridge = build(settings)
    bridge.delivery.tells = lambda: bridge.table_trouble or log_trouble()
    try:
        bridge.start(deliver=True)
        log.info("delivering")
        while signal.sigwait(SIGNALS) == signal.SIGHUP:
            bridge.reloader.reload()
    finally:
        # A database that hangs answers nobody, and would keep the process for ever: what it cannot be told
        # any more, it will find by the leases.
        last = threading.Timer(settings.stop, _leave)
        last.daemon = True
        last.start()
        bridge.delivery.stop(max(0.0, settings.stop - CLOSING))
        bridge.close()
        last.cancel()


def _leave() -> None:
    log.error("not everything could be written down in time; leases will end what is left")
    logging.shutdown()
    os._exit(1)
