"""``python -m bench --growth``: what becomes slower as a table, a backlog, a store or a body grows."""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from bench.growth_cases import (
    Figures,
    Measure,
    alerts,
    bodies,
    lists,
    page,
    processes,
    routes,
    stored_events,
    waiting_jobs,
)
from bench.load import NothingAccepted
from bench.machine import machine, tools
from bench.processes import StartFailed
from bench.report import Ratio, bulleted, grid, ratio_of
from bench.targets import ROOT, commit_of
from bridge.core.errors import StoreUnavailable
from tests.support.postgresql import Cluster, find_programs

GROWTH = Path(__file__).parent / "GROWTH.md"

SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"

#: Prepares a size in an empty folder, with the URL of an empty database.
Case: TypeAlias = Callable[[int, Path, str], AbstractContextManager[Measure]]
#: The figures of each round, by size.
Samples: TypeAlias = Mapping[int, Sequence[Figures]]


@dataclass(frozen=True)
class Goal:
    """The highest ratio of a column between two sizes."""

    column: str
    size: int
    to: int
    limit: float


@dataclass(frozen=True)
class Table:
    """One measurement at growing sizes."""

    #: The name on the command line.
    name: str
    title: str
    case: Case
    sizes: Sequence[int]
    #: The databases to measure it on; empty if it uses none, or starts one itself.
    databases: Sequence[str] = (SQLITE, POSTGRESQL)
    goals: Sequence[Goal] = ()
    #: Formats a size.
    unit: Callable[[int], str] = "{:,}".format

    def sizes_for(self, *, fast: bool) -> list[int]:
        """Return its sizes, or a tenth of those from 10."""
        return sorted({size // 10 if fast and size >= 10 else size for size in self.sizes})


def _bytes(size: int) -> str:
    return f"{size / 1024:,.0f} KiB" if size < 1024**2 else f"{size / 1024**2:.3g} MiB"


TABLES = (
    Table(
        "routes", "routes", routes, (1, 10, 100, 1000), (),
        (Goal("an event, µs", 1000, 10, 1.5),),
    ),
    Table(
        "waiting", "waiting jobs", waiting_jobs, (0, 100, 10_000, 100_000),
        goals=(Goal("claim 16, ms", 100_000, 100, 1.5),),
    ),
    Table("events", "stored events", stored_events, (0, 10_000, 1_000_000)),
    Table("lists", "events and jobs of a list", lists, (10_000, 1_000_000)),
    Table("page", "events and jobs: CPU seconds a minute of the overview", page, (1_000_000,)),
    Table("bodies", "body", bodies, (1024, 64 * 1024, 1024**2, 5 * 1024**2), unit=_bytes),
    Table("alerts", "alerts of a group", alerts, (1, 10, 100, 1000)),
    Table("processes", "web processes, and as many workers, on PostgreSQL", processes, (1, 2), ()),
)  # fmt: skip


def growth(options: argparse.Namespace, folder: Path, stack: ExitStack, say: Callable[[str], None]) -> str:
    """Measure the tables of the command line, and return the page; `stack` stops what they started."""
    began = time.monotonic()
    cluster = stack.enter_context(Cluster()) if find_programs() else None
    parts = []
    for table, database in _chosen(options.only):
        title = f"{table.title}, {database}" if database else table.title
        say(f"{time.monotonic() - began:.0f} s: by {title}")
        running = stack.enter_context(ExitStack())
        try:
            samples = measure_table(
                table, database, options, folder / f"{table.name}{database}", cluster, running
            )
            parts += [f"## By {title}", *section(table, samples)]
        except (NothingAccepted, StartFailed, StoreUnavailable) as error:
            parts += [f"## By {title}", f"Not measured: {error}"]
        running.close()
    lines = [
        f"{time.strftime('%Y-%m-%d')}: rounds: {options.rounds}, seconds: {time.monotonic() - began:.0f}",
        machine(),
        tools(),
        f"the bridge: commit {commit_of(ROOT)}",
    ]
    return "\n\n".join(["# How the bridge grows", bulleted(lines), EXPLANATION, *parts]) + "\n"


def _chosen(names: Sequence[str]) -> Iterator[tuple[Table, str]]:
    for table in TABLES:
        for database in table.databases or ("",):
            if table.name in names:
                yield table, database


def measure_table(
    table: Table,
    database: str,
    options: argparse.Namespace,
    folder: Path,
    cluster: Cluster | None,
    running: ExitStack,
) -> Samples:
    """Prepare all sizes of a table, then measure each in turn. Raises StartFailed, NothingAccepted."""
    measures: dict[int, Measure] = {}
    for size in table.sizes_for(fast=options.fast):
        of_size = folder / str(size)
        of_size.mkdir(parents=True)
        running.callback(shutil.rmtree, of_size, ignore_errors=True)
        url = f"sqlite:///{of_size / 'growth.db'}"
        if database == POSTGRESQL:
            if cluster is None:
                raise StartFailed("PostgreSQL is missing")
            url = cluster.create_database()
            running.callback(cluster.drop, url)
        measures[size] = running.enter_context(table.case(size, of_size, url))
    samples: dict[int, list[Figures]] = {size: [] for size in measures}
    for _ in range(options.rounds):
        for size, measure in measures.items():
            samples[size].append(measure())
    return samples


def section(table: Table, samples: Samples) -> list[str]:
    """Return the table of the medians, each with its ratio to the smallest size above 0, and its goals."""
    base = next(size for size in samples if size)
    columns = list(samples[base][0])
    rows = [
        [table.unit(size), *(_cell(samples, column, size, base) for column in columns)] for size in samples
    ]
    goals = [
        f"{goal.column}: {table.unit(goal.size)} to {table.unit(goal.to)}: "
        f"{_ratio(samples, goal.column, goal.size, goal.to)}, goal: at most {goal.limit}"
        for goal in table.goals
        if {goal.size, goal.to} <= samples.keys()
    ]
    return [grid(["", *columns], rows), *([bulleted(goals)] if goals else [])]


def _cell(samples: Samples, column: str, size: int, base: int) -> str:
    if column not in samples[size][0]:
        return ""
    value = statistics.median(each[column] for each in samples[size])
    shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return shown if size == base else f"{shown} ({_ratio(samples, column, size, base).value:.2f})"


def _ratio(samples: Samples, column: str, size: int, base: int) -> Ratio:
    return ratio_of([each[column] for each in samples[size]], [each[column] for each in samples[base]])


EXPLANATION = """\
Medians of the rounds; each round measures all sizes of a table in turn. Brackets contain the ratio to the
smallest size above 0. The range of a goal's ratio is that within one round. Storing, claiming and recording
include the commit on the disk of this machine. Bodies and alerts go through the WSGI application, without a
socket. The peak memory is that of Python's allocations, with the body itself."""
