"""A bounded queue of log lines, written by one thread: a blocked log blocks nothing else."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from contextlib import suppress
from queue import SimpleQueue

from bridge.process.log_fields import Fields

#: Lines that may wait to be written. Further lines are dropped.
QUEUE_LIMIT = 4096
#: How long a line waits for others that are written with it, seconds: to wake a thread costs as much as to
#: make a line. No more than PIPE_BUF bytes are written together, which other processes cannot interrupt.
GATHER_INTERVAL = 0.005
#: How long a process that ends waits until its lines are written, seconds.
FLUSH_TIMEOUT = 0.5


class QueuedHandler(logging.Handler):
    """Writes lines to a file descriptor from its own thread, and never blocks the thread that logs.

    The descriptor cannot be made non-blocking instead, because other processes share it. A forked child
    starts with an empty queue and its own thread: the parent writes the parent's lines.
    """

    def __init__(self, descriptor: int, limit: int = QUEUE_LIMIT) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._limit = limit
        self._begin()

    @property
    def is_dropping(self) -> bool:
        """Whether the queue is full."""
        return self._items.qsize() >= self._limit

    def emit(self, record: logging.LogRecord) -> None:
        if self._pid != os.getpid():
            self._begin()
        if self.is_dropping:
            self._dropped += 1
            return
        self._report_dropped()
        try:
            self._put(record)
        except Exception:  # noqa: BLE001 - as the library's handlers do
            self.handleError(record)

    def flush(self) -> None:
        """Wait until all lines are written, at most FLUSH_TIMEOUT."""
        if self._thread is not None and self._pid == os.getpid():
            self._report_dropped()
            written = threading.Event()
            self._items.put(written)
            written.wait(FLUSH_TIMEOUT)

    def _begin(self) -> None:
        self._pid = os.getpid()
        # Its `put` is reentrant: a signal handler may log while the interrupted code does.
        self._items: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._dropped = 0

    def _report_dropped(self) -> None:
        if self._dropped:
            message = "dropped %(lines)d log lines while standard error was blocked"
            fields = Fields("trouble", lines=self._dropped)
            self._dropped = 0
            record = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": message}
            self._put(logging.makeLogRecord({**record, "args": fields}))

    def _put(self, record: logging.LogRecord) -> None:
        self._items.put(f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
        if self._thread is None:
            thread = threading.Thread(target=self._write, args=(self._items,), name="log", daemon=True)
            with suppress(RuntimeError):  # the system has no thread left; the next line tries again
                thread.start()
                self._thread = thread

    def _write(self, items: SimpleQueue[bytes | threading.Event]) -> None:
        # A signal that this thread received would not wake the main thread, which handles signals.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        waiting: bytes | threading.Event | None = None
        while True:
            item = waiting or items.get()
            waiting = None
            if isinstance(item, threading.Event):
                item.set()
                continue
            if items.empty():
                time.sleep(GATHER_INTERVAL)
            while not items.empty() and waiting is None:
                following = items.get()
                if isinstance(following, bytes) and len(item) + len(following) <= select.PIPE_BUF:
                    item += following
                else:
                    waiting = following
            with suppress(OSError):  # the log is gone, or its disk is full
                self._write_all(item)

    def _write_all(self, lines: bytes) -> None:
        while lines:
            try:
                lines = lines[os.write(self._descriptor, lines) :]
            except BlockingIOError:  # another process has made the descriptor non-blocking
                select.select([], [self._descriptor], [])
