"""WebWorker: the gunicorn worker of a web process, which starts, reloads and stops its Bridge."""

from __future__ import annotations

import signal
import socket
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from gunicorn.http.errors import ParseException
from gunicorn.util import write_nonblock

from bridge.app import Bridge, last_valid_table, processes
from bridge.config.load import Loaded
from bridge.process.log_fields import Fields
from bridge.server.connection_worker import ConnectionWorker
from bridge.web.invalid_head import refuse_head

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
#: How long a worker that cannot start waits before it ends: the master starts the next one at once.
RESTART_DELAY_SECONDS = 2.0


class WebWorker(ConnectionWorker):
    """Stops delivery at once when the worker stops, while the requests in flight are answered."""

    #: From the master, for a worker that starts while the table on disk is invalid.
    last_valid_table: Loaded | None = None
    #: Stops delivery; None until then.
    delivery_stop: threading.Thread | None = None

    @property
    def bridge(self) -> Bridge | None:
        """The process's Bridge; None until the application is loaded."""
        app = getattr(self, "wsgi", None)
        return None if app is None else app.extensions["bridge"]

    def init_signals(self) -> None:
        super().init_signals()
        signal.signal(signal.SIGHUP, self.handle_hup)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def load_wsgi(self) -> None:
        processes.set(self.cfg.workers)
        token = last_valid_table.set(self.last_valid_table)
        try:
            super().load_wsgi()
        except SystemExit as ended:
            # The master could start: other workers go on, and a later one may start.
            reason = str(ended)
        else:
            return
        finally:
            last_valid_table.reset(token)
        text = "the web process cannot start, next try in %(seconds).0f s: %(reason)s"
        self.log.error(text, Fields("start_failed", seconds=RESTART_DELAY_SECONDS, reason=reason))
        time.sleep(RESTART_DELAY_SECONDS)
        raise SystemExit(1)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        if self.bridge is None or not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        answer = refuse_head(exc, addr[0] if isinstance(addr, tuple) else "", self.bridge)
        if req is None:  # otherwise it is answered: only the rest of its body is invalid
            with suppress(OSError):  # the client may have closed the connection
                write_nonblock(client, answer)

    def handle_hup(self, *_: object) -> None:
        """Reload the table. A worker without a Bridge is about to load it."""
        if self.bridge is not None:
            self.bridge.reloader.reload()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.bridge is not None:
            self.stop_delivery(self.bridge)
        super().handle_exit(sig, frame)

    def stop_delivery(self, bridge: Bridge) -> threading.Thread:
        """Return the thread that stops delivery; the first call starts it."""
        if self.delivery_stop is None:
            self.delivery_stop = threading.Thread(target=bridge.stop_delivery, name="stop")
            self.delivery_stop.start()
        return self.delivery_stop

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        # Ctrl-C signals each worker twice, by the terminal and by the master. gunicorn's own handler,
        # interrupted by itself, would wait for its lock forever. And requests in flight may finish.
        self.handle_exit(sig, frame)
