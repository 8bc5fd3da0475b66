"""CPU time and memory of process trees, from /proc."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

#: Seconds between two samples of the memory.
SAMPLE_INTERVAL = 1.0

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

#: A process that ends while it is read.
_ENDED = (FileNotFoundError, ProcessLookupError)


def tree(roots: Iterable[int]) -> Iterator[int]:
    """Yield the processes and all their descendants."""
    for pid in roots:
        yield pid
        yield from tree(_children(pid))


def cpu_seconds(roots: Iterable[int]) -> float:
    """Return the user and system time of the trees, with that of children which have ended."""
    return sum(_cpu_ticks(pid) for pid in tree(roots)) / _TICKS_PER_SECOND


def run_seconds(roots: Iterable[int]) -> float:
    """Return the time that the threads of the trees have run, without those that have ended.

    It is exact for threads that mostly sleep, too; their CPU time has a whole tick for each wake-up.
    """
    return sum(_run_nanoseconds(pid) for pid in tree(roots)) / 1e9


def pss_bytes(roots: Iterable[int]) -> int:
    """Return the proportional set size of the trees: a page of several processes counts in parts."""
    return sum(_pss_bytes(pid) for pid in tree(roots))


class MemorySampler:
    """Call a function each second, in a thread, while the block runs."""

    def __init__(self, sample: Callable[[], None]) -> None:
        self._sample = sample
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> MemorySampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.wait(SAMPLE_INTERVAL):
            self._sample()


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with suppress(*_ENDED):
        # Each thread has its own list: Go starts children from any of its threads.
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(*_ENDED):
                children += map(int, (thread / "children").read_text().split())
    return children


def _cpu_ticks(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except _ENDED:
        return 0
    # utime, stime, cutime, cstime of proc(5); the name before them is in brackets and may hold spaces.
    return sum(map(int, stat.rpartition(")")[2].split()[11:15]))


def _run_nanoseconds(pid: int) -> int:
    total = 0
    with suppress(*_ENDED):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(*_ENDED):
                total += int((thread / "schedstat").read_text().split()[0])
    return total


def _pss_bytes(pid: int) -> int:
    with suppress(*_ENDED):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
