"""gunicorn's settings: ``gunicorn -c python:bridge.server.gunicorn_config bridge.wsgi:app``.

https://gunicorn.org/reference/settings/ says what each name means.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http.errors import ParseException
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import ThreadWorker

from bridge.app import Bridge, last_good, prepare_store, table_watcher, warn_of_sqlite
from bridge.config.load import Loaded
from bridge.config.reload import POLL_INTERVAL, TableWatcher
from bridge.core.errors import BridgeError, ConfigError
from bridge.core.secrets import Mask, Secret
from bridge.process.log import configure
from bridge.process.settings import Settings
from bridge.server.connection_worker import THREADS, ConnectionWorker, max_connections, raise_file_limit
from bridge.server.refused_settings import refused_settings
from bridge.web.unreadable import refuse_head

#: What tells a process to stop.
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
#: Of the time a stop may take, what is left for closing the store, seconds.
CLOSING = 1.0
#: How long, in seconds, a worker that cannot start puts off the next one, which the master starts at once.
STARTS_AGAIN = 2.0
#: The master was frozen if it did not look at the table for so many seconds.
FROZEN = 5.0
#: mallopt's name of the size, in bytes, from which a block is returned when it is freed, and that size.
M_MMAP_THRESHOLD = -3
LARGE_BLOCK = 128 * 1024

log = logging.getLogger(__name__)


#: gunicorn's settings of logs that the bridge does not follow, by the values with which nothing is ignored.
#: Each would write lines past the mask, or parts of requests that may hold a secret.
UNUSED_LOG_SETTINGS: Mapping[str, tuple[object, ...]] = {
    "access_log_format": (Config().access_log_format,),
    "accesslog": (None, "-"),
    "syslog": (False,),
    "logconfig": (None,),
    "logconfig_dict": ({},),
    "logconfig_json": (None,),
    "statsd_host": (None,),
}


class BridgeLogger(Logger):
    """Writes gunicorn's lines where the bridge's go, through the same mask, whatever gunicorn's settings say.

    An access log that is switched on has lines of the bridge's own: the query string, the referrer and other
    headers of a request may hold secrets, and so may a format that asks for them.
    """

    def setup(self, cfg: Any) -> None:
        """Read the level and whether there is an access log; make none of gunicorn's handlers."""
        self.cfg = cfg
        self.error_log.setLevel(logging.getLevelNamesMapping().get(cfg.loglevel.upper(), logging.INFO))
        self.access_log.setLevel(logging.INFO)
        for each in (self.error_log, self.access_log):
            each.handlers.clear()
            each.propagate = True
        if cfg.env:  # at DEBUG, gunicorn logs its settings, and --env may set a secret
            configure(
                _current.log_level,
                _current.log_format,
                Mask([*_current.secrets, *map(Secret, cfg.env.values())]),
                queued=True,
            )
        self.reopen_files()  # with capture_output, standard error goes to the file of errorlog
        unused = [name for name, used in UNUSED_LOG_SETTINGS.items() if getattr(cfg, name) not in used]
        if unused:
            self.warning("not used, as the bridge writes the log: gunicorn's %s", ", ".join(unused))

    def access(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> None:
        """Write a line on one request: address, method, path, status, bytes of the answer, seconds."""
        del req
        if not self.access_log_enabled:
            return
        # An encoded ? is a part of the path, and what follows may be a query that was encoded twice. WSGI
        # gives the bytes of a path as Latin-1, in which the mask would not find a secret.
        path = str(environ.get("PATH_INFO", "-")).partition("?")[0].encode("latin-1")
        self.access_log.info(
            "%s %s %s %s, %s bytes, %.3f s",
            environ.get("REMOTE_ADDR") or "-", environ.get("REQUEST_METHOD"), path.decode("utf-8", "replace"),
            str(resp.status).partition(" ")[0], getattr(resp, "sent", 0), request_time.total_seconds(),
        )  # fmt: skip


class BridgeWorker(ConnectionWorker):
    """Stops delivering at once when it is told to end, while the requests in flight are answered."""

    #: The last table without mistakes: the master keeps it for those that start in the middle of a bad edit.
    last_good: Loaded | None = None
    #: Stops delivery, once the worker is told to end.
    delivery_stop: threading.Thread | None = None

    def init_signals(self) -> None:
        super().init_signals()
        signal.signal(signal.SIGHUP, self.handle_hup)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)

    def load_wsgi(self) -> None:
        token = last_good.set(self.last_good)
        try:
            super().load_wsgi()
        except SystemExit as ended:
            # The master found all in order: the others serve on, or what is missing comes back.
            why = str(ended)
        else:
            return
        finally:
            last_good.reset(token)
        self.log.error("no start, again in %.0f s: %s", STARTS_AGAIN, why)
        time.sleep(STARTS_AGAIN)
        raise SystemExit(1)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        bridge = _bridge_of(self)
        if bridge is None or not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        answer = refuse_head(exc, addr[0] if isinstance(addr, tuple) else "", bridge)
        if req is not None:
            return  # it has its answer: only the rest of its body is unreadable
        with suppress(OSError):  # nobody may be there any more to read it
            write_nonblock(client, answer)

    def handle_hup(self, *_: object) -> None:
        """Read the table anew; one that starts is about to."""
        if (bridge := _bridge_of(self)) is not None:
            bridge.reloader.reload()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if (bridge := _bridge_of(self)) is not None:
            self.stop_delivery(bridge)
        super().handle_exit(sig, frame)

    def stop_delivery(self, bridge: Bridge) -> threading.Thread:
        """Return the thread that stops delivery, within the time that a stop may take; start it once."""
        if self.delivery_stop is None:
            seconds = max(0.0, bridge.settings.stop - CLOSING)
            self.delivery_stop = threading.Thread(target=bridge.delivery.stop, args=(seconds,), name="stop")
            self.delivery_stop.start()
        return self.delivery_stop

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        # Ctrl-C signals the master and every worker, and the master its workers again: gunicorn's own
        # handler, interrupted by itself, waits for its lock for ever. And what is in flight may finish.
        self.handle_exit(sig, frame)


def _bridge_of(worker: ThreadWorker) -> Bridge | None:
    app = getattr(worker, "wsgi", None)
    return app.extensions["bridge"] if app is not None else None


def _settings() -> Settings:
    try:
        return Settings.from_environ()
    except BridgeError as error:
        raise SystemExit(str(error)) from None


def _return_freed_memory() -> None:
    """Have glibc return large blocks to the system as soon as they are freed; elsewhere do nothing.

    By default it raises this threshold to the largest block that was freed, and each thread's arena retains
    blocks of the size of a body. https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


def _heartbeat_folder(database_url: str) -> str | None:
    """Return a writable folder for gunicorn's heartbeat files, or None: /tmp may be read-only.

    Memory before a disk, on which a heartbeat may block:
    https://gunicorn.org/reference/settings/#worker_tmp_dir
    """
    folders = ["/dev/shm"]  # noqa: S108 - gunicorn makes its files there with mkstemp
    if database_url.startswith("sqlite:///"):
        folders.append(str(Path(database_url.removeprefix("sqlite:///").partition("?")[0]).parent))
    return next((each for each in folders if os.access(each, os.W_OK | os.X_OK)), None)


_current = _settings()
_return_freed_memory()
configure(_current.log_level, _current.log_format, Mask(_current.secrets), queued=True)

bind = f"0.0.0.0:{_current.port}"
workers = _current.web_concurrency
worker_class = BridgeWorker
threads = THREADS
raise_file_limit()
worker_connections = max(0, max_connections())
worker_tmp_dir = _heartbeat_folder(_current.database_url)
# A worker reports nothing while it waits for its sends, or is frozen alone, and holds answers.
timeout = max(300, int(_current.stop) + 10)
graceful_timeout = max(1, int(_current.stop))
# Longer than the 60 to 90 s of proxies: a proxy that sends just as the bridge closes answers 502.
keepalive = 100
control_socket_disable = True
# The bridge uses neither, and a client whose proxy hands them on could change its path, or cause a 500.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
logger_class = BridgeLogger
loglevel = _current.log_level
proc_name = "bridge"


class BridgeArbiter(Arbiter):
    """What the hooks below add to gunicorn's master."""

    last_good: Loaded
    watcher: TableWatcher
    #: When it last looked at the table, ``time.monotonic()``.
    looked_at: float


def on_starting(server: BridgeArbiter) -> None:
    """Refuse to start with other settings, on a table with mistakes, and without a store."""
    for handler in logging.getLogger().handlers:
        handler.flush()  # its thread would write into the lines of a refusal
    if not isinstance(server.log, BridgeLogger):
        raise SystemExit("gunicorn's logger_class would log secrets unmasked: leave --logger-class out")
    if refused := "\n".join(refused_settings(server.cfg, BridgeWorker, _current.stop)):
        raise SystemExit(refused)
    try:
        server.watcher = table_watcher(_current)
        server.last_good = server.watcher.load()
        warn_of_sqlite(_current.database_url, server.cfg.workers)
        prepare_store(_current)
    except BridgeError as error:
        raise SystemExit(str(error)) from None
    # What reaches a worker before it has handlers of its own would be lost, and its master wait and kill it.
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, STOPS),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS),
    )


def when_ready(server: BridgeArbiter) -> None:
    """Follow the table as it is edited, once there is something to serve it."""
    # A thread would be in the midst of something when the master forks; this is between two of its steps.
    server.looked_at = time.monotonic()
    signal.signal(signal.SIGALRM, lambda *_: _look(server))
    signal.setitimer(signal.ITIMER_REAL, POLL_INTERVAL)


def _look(server: BridgeArbiter) -> None:
    """Keep the table as it is edited, as the workers do, for those that start in the middle of a bad edit."""
    now = time.monotonic()
    if now - server.looked_at > FROZEN:
        # The workers were frozen, too, and could not report. The pending alarm comes before the master
        # looks for workers that did not.
        for worker in server.WORKERS.values():
            worker.tmp.notify()
    server.looked_at = now
    try:
        server.last_good = server.watcher.load_if_edited() or server.last_good
    except ConfigError:
        pass  # the workers say it
    except Exception:
        # A defect costs this edit, never the server.
        log.exception("the routing table cannot be loaded anew")
    finally:
        # Not before its end: a table may take longer to load, and one look would interrupt the other.
        signal.setitimer(signal.ITIMER_REAL, POLL_INTERVAL)


def on_exit(server: BridgeArbiter) -> None:
    """A timer that outlives its handler would end the process with a status of its own."""
    del server
    signal.setitimer(signal.ITIMER_REAL, 0)


def post_fork(server: BridgeArbiter, worker: BridgeWorker) -> None:
    """Hand the new worker what it may have to start with."""
    worker.last_good = server.last_good


def worker_exit(server: Arbiter, worker: BridgeWorker) -> None:
    """Whatever ended the worker, close the store once delivery has stopped and requests are answered."""
    del server
    bridge = _bridge_of(worker)
    if bridge is None:
        return
    worker.stop_delivery(bridge).join(timeout=bridge.settings.stop)
    bridge.close()
    logging.shutdown()
