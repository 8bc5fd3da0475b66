"""Log lines in a bounded queue, written by one thread: a blocked log blocks nothing else."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from contextlib import suppress
from queue import SimpleQueue

#: Lines that may wait to be written. Further lines are dropped.
QUEUE_LIMIT = 4096
#: How long a process that ends waits until its lines are written, seconds.
FLUSH_TIMEOUT = 0.5


class QueuedHandler(logging.Handler):
    """Writes lines to a file descriptor from a thread of its own, and never blocks the thread that logs.

    If nobody reads a pipe, or a terminal is stopped, a write to it does not return. The descriptor itself
    cannot be made non-blocking, because other processes share it. Once lines can be written again, one line
    counts those that were dropped. A forked child begins with an empty queue and a thread of its own: its
    parent writes the parent's lines.
    """

    def __init__(self, descriptor: int, limit: int = QUEUE_LIMIT) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._limit = limit
        self._begin()

    @property
    def is_dropping(self) -> bool:
        """Whether the queue is full."""
        return self._lines.qsize() >= self._limit

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - as in every handler of the library
            self.handleError(record)
            return
        if self._pid != os.getpid():
            self._begin()
        if self.is_dropping:
            self._dropped += 1
            return
        self._report_dropped()
        self._put(_encoded(line))

    def flush(self) -> None:
        """Wait until all lines are written, at most FLUSH_TIMEOUT."""
        if self._thread is None or self._pid != os.getpid():
            return
        self._report_dropped()
        written = threading.Event()
        self._put(written)
        written.wait(FLUSH_TIMEOUT)

    def _begin(self) -> None:
        self._pid = os.getpid()
        # Its `put` is reentrant: a signal handler may log while the interrupted code does.
        self._lines: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._dropped = 0

    def _report_dropped(self) -> None:
        if self._dropped:
            count, self._dropped = self._dropped, 0
            message = f"dropped {count} log lines while standard error was blocked"
            fields = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": message}
            self._put(_encoded(self.format(logging.makeLogRecord(fields))))

    def _put(self, item: bytes | threading.Event) -> None:
        self._lines.put(item)
        if self._thread is None:
            thread = threading.Thread(target=self._write, args=(self._lines,), name="log", daemon=True)
            with suppress(RuntimeError):  # the system has no thread left; the next line tries again
                thread.start()
                self._thread = thread

    def _write(self, items: SimpleQueue[bytes | threading.Event]) -> None:
        # A signal that this thread received would not wake the main thread, which handles it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            item = items.get()
            if isinstance(item, threading.Event):
                item.set()
            else:
                with suppress(OSError):  # the log is gone, or its disk is full
                    _write_whole(self._descriptor, item)


def _encoded(line: str) -> bytes:
    return f"{line}\n".encode("utf-8", "backslashreplace")


def _write_whole(descriptor: int, line: bytes) -> None:
    while line:
        try:
            line = line[os.write(descriptor, line) :]
        except BlockingIOError:  # another process made the descriptor non-blocking
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
