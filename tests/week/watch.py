"""Prometheus with the scaled rules, the alerts that fire, and the memory and disk of the bridge."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import yaml

from tests.support.prometheus import Prometheus
from tests.support.server import STATUS_TOKEN
from tests.week.judgement import Firing, Sample
from tests.week.plan import RULES
from tests.week.rules import scaled
from tests.week.system import Production

_CONFIG = """
global: {{scrape_interval: 2s, evaluation_interval: 1s}}
scrape_configs:
  - job_name: bridge
    authorization: {{credentials: {token}}}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
rule_files: [{rules}]
"""
#: Seconds between two looks at the alerts.
_LOOK = 0.5


def prometheus(folder: Path, port: int, factor: float) -> Prometheus:
    """Prometheus that scrapes the bridge, with rules whose times are divided by `factor`."""
    rules = folder / "rules.yml"
    rules.write_text(yaml.safe_dump(scaled(yaml.safe_load(RULES.read_text()), factor)))
    return Prometheus(_CONFIG.format(token=STATUS_TOKEN, port=port, rules=rules), folder)


class Looker:
    """A thread that does something again and again, as a context manager."""

    def __init__(self, look: Callable[[], None], every: float) -> None:
        self._look = look
        self._every = every
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._error:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._ended.wait(self._every):
                self._look()
        except BaseException as error:  # noqa: BLE001 - raised at the end
            self._error = error


class Alerts:
    """When which rule fired."""

    def __init__(self, server: Prometheus, begun: float, tell: Callable[[str], None]) -> None:
        """`begun` is the start of the week on the monotonic clock."""
        self._server = server
        self._begun = begun
        self._tell = tell
        # Guards what follows.
        self._changed = threading.Condition()
        self._since: dict[str, float] = {}
        self._over: list[Firing] = []
        self.looking = Looker(self._look, _LOOK)

    @property
    def firings(self) -> list[Firing]:
        """All so far; those that go on have no end."""
        with self._changed:
            return [*self._over, *(Firing(rule, at) for rule, at in self._since.items())]

    def wait(self, rules: Collection[str], timeout: float, *, fires: bool) -> bool:
        """Wait until all of these fire, or none of them does; whether it came so far in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._since.keys() >= {*rules} if fires else not self._since.keys() & {*rules},
                timeout,
            )

    def _look(self) -> None:
        firing = {
            str(each["labels"]["alertname"]) for each in self._server.alerts() if each["state"] == "firing"
        }
        now = time.monotonic() - self._begun
        with self._changed:
            for rule in firing - self._since.keys():
                self._since[rule] = now
                self._tell(f"{rule} fires")
            for rule in self._since.keys() - firing:
                self._over.append(Firing(rule, self._since.pop(rule), now))
                self._tell(f"{rule} has cleared")
            self._changed.notify_all()


class Scales:
    """The memory and the disk that the bridge needs, measured again and again."""

    def __init__(self, system: Production, every: float) -> None:
        self._system = system
        #: The day on which it is measured.
        self.day = 0
        self.samples: list[Sample] = []
        self.measuring = Looker(self._measure, every)

    def _measure(self) -> None:
        day = self.day
        self.samples.append(Sample(day, self._memory(), disk(self._system.database_url)))

    def _memory(self) -> int | None:
        """The share of all processes; None while one is not there."""
        sizes = [memory(pid) for pid in self._system.pids]
        known = [size for size in sizes if size is not None]
        return sum(known) if known and len(known) == len(sizes) else None


def memory(pid: int) -> int | None:
    """The proportional set size of a process and all that it started, bytes."""
    size = 0
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                size += int(line.split()[1]) * 1024
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            size += memory(int(child)) or 0
    return size or None


def disk(url: str) -> int | None:
    """The size of a database with its log, bytes; None while it is away."""
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        with suppress(FileNotFoundError):  # a log that has just ended
            return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))
        return None
    with suppress(psycopg.Error), closing(psycopg.connect(url, connect_timeout=2)) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        return int(row[0]) if row else None
    return None
