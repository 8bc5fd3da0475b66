"""ConnectionWorker: the gunicorn worker that waits for clients without threads."""

from __future__ import annotations

import errno
import resource
import selectors
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine
from gunicorn.workers.gthread import ThreadWorker

from bridge.process.log_fields import Fields
from bridge.process.waiting_list import WaitingList
from bridge.process.watchdog import Watchdog
from bridge.server.client_socket import ClientWait, SlowClientLimiter
from bridge.server.connection import LINGER_TIMEOUT_SECONDS, Connection
from bridge.web.request_deadline import REQUEST_TIMEOUT_SECONDS, request_guard

#: Threads of a process that handle requests.
THREADS = 64
#: How many of them may wait for slow clients. The others are for complete requests.
MAX_WAITING_THREADS = 40
#: Connections of a process, if the limit of open files allows it.
MAX_CONNECTIONS = 1000
#: Files that a process may open beside its connections.
RESERVED_FILES = 128
#: How long no connection is accepted after open files have run out.
ACCEPT_PAUSE_SECONDS = 0.05
MAX_OPEN_FILES = MAX_CONNECTIONS + RESERVED_FILES


def raise_file_limit() -> None:
    """Raise this process's limit of open files to FILES, or as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(MAX_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connection_limit() -> int:
    """Return how many connections this process may have."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files - RESERVED_FILES)
    )


class ConnectionWorker(ThreadWorker):
    """Receives request heads on its loop, without a thread, and limits the threads that wait for clients.

    Slow clients do not block those of another network: each limit evicts a connection or a wait of the
    network that has the most.
    """

    #: Ends connections and waits at their deadlines; created in the worker's own process.
    watchdog: Watchdog
    limiter: SlowClientLimiter
    #: The idle connections, which have no thread. Used by the loop alone.
    idle: WaitingList[Connection]

    def init_process(self) -> None:
        self.watchdog = Watchdog()
        self.limiter = SlowClientLimiter(MAX_WAITING_THREADS)
        self.idle = WaitingList()
        #: Whether the lack of open files was logged since the last connection.
        self._logged_lack = False
        super().init_process()

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection and read what has arrived of its first request."""
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._free_file(error)
            elif error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED):
                raise
            return
        self._logged_lack = False
        self.nr_conns += 1
        conn = Connection(self.cfg, sock, client, listener.getsockname(), self.limiter, self.watchdog)
        self._read_head(conn)
        if self.nr_conns >= self.worker_connections:
            # Otherwise no network could connect any more.
            self._evict_idle()

    def finish_request(self, conn: Any, fs: Future[Any]) -> None:
        """Let the connection wait for its next request, or until its client closes it."""
        try:
            reuse = not fs.cancelled() and fs.exception() is None and fs.result()
            conn.sock.setblocking(False)
            conn.expect_request()
            if not reuse:
                conn.sock.shutdown(socket.SHUT_WR)
                self._wait(conn, LINGER_TIMEOUT_SECONDS, self._discard)
            elif conn.parser.unreader.buf.getvalue():
                # The next request arrived together with this one.
                self.enqueue_req(conn)
            else:
                timeout = (
                    self.cfg.keepalive if self.alive else min(self.cfg.keepalive, LINGER_TIMEOUT_SECONDS)
                )
                self._wait(conn, timeout, self._read_next)
        except OSError:  # the client has closed it
            self._close(conn)

    def set_accept_enabled(self, enabled: bool | None) -> None:
        """When the worker stops, give idle connections a short deadline."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            for conn in self.idle:
                self._set_deadline(conn, LINGER_TIMEOUT_SECONDS)

    def handle(self, conn: Any) -> Any:
        # The guard shuts the reading side alone, so that the answer can still be written.
        deadline = time.monotonic() + REQUEST_TIMEOUT_SECONDS - conn.head_seconds
        with self.watchdog.watch(conn.sock, deadline, socket.SHUT_RD) as guard:
            conn.sock.reading = ClientWait(conn.network, conn.since, guard)
            conn.sock.received = 0
            token = request_guard.set(guard)
            try:
                conn.parse_received()
                return super().handle(conn)
            except (LimitRequestLine, LimitRequestHeaders) as error:
                self.handle_error(None, conn.sock, conn.client, error)
                return False
            finally:
                request_guard.reset(token)

    def _read_head(self, conn: Connection, _sock: object = None) -> None:
        """Receive the request head; pass the connection to a thread once it is complete."""
        try:
            is_complete = conn.receive_head()
        except (OSError, EOFError):
            self._close(conn)
            return
        if is_complete:
            self._stop_waiting(conn)
            self.enqueue_req(conn)
        elif conn.guard is None:
            self._wait(conn, REQUEST_TIMEOUT_SECONDS, self._read_head)
        elif conn.guard.fired:
            self._close(conn)

    def _read_next(self, conn: Connection, _sock: object = None) -> None:
        """Begin to receive the next request of a connection."""
        self._stop_waiting(conn)
        conn.expect_request()
        self._read_head(conn)

    def _discard(self, conn: Connection, _sock: object = None) -> None:
        """Discard what still arrives on a connection that is closed on this side."""
        try:
            more = conn.discard_received()
        except OSError:
            more = False
        if not more:
            self._close(conn)

    def _wait(self, conn: Connection, seconds: float, then: Callable[..., None]) -> None:
        """Call `then` whenever bytes arrive, and at the deadline, which shuts the connection."""
        self._set_deadline(conn, seconds)
        self.idle.add(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(then, conn))

    def _set_deadline(self, conn: Connection, seconds: float) -> None:
        if conn.guard is not None:
            conn.guard.release()
        conn.guard = self.watchdog.watch(conn.sock, time.monotonic() + seconds, socket.SHUT_RD)

    def _stop_waiting(self, conn: Connection) -> None:
        if conn.guard is not None:
            self.idle.discard(conn)
            self.poller.unregister(conn.sock)
            conn.guard.release()
            conn.guard = None

    def _close(self, conn: Connection) -> None:
        self._stop_waiting(conn)
        self.nr_conns -= 1
        conn.close()

    def _free_file(self, error: OSError) -> None:
        """Close an idle connection, or pause: the loop would spin until a file is closed."""
        if self._evict_idle():
            return
        if not self._logged_lack:
            self._logged_lack = True
            text = "no new connections until a file descriptor is free: %(reason)s"
            self.log.warning(text, Fields("trouble", reason=error.strerror))
        time.sleep(ACCEPT_PAUSE_SECONDS)

    def _evict_idle(self) -> bool:
        """Close the oldest idle connection of the network with the most; return whether there was one."""
        conn = self.idle.victim()
        if conn is None:
            return False
        self._close(conn)
        return True
