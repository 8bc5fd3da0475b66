"""The report: medians of the rounds, and their ratios."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.memory import MemorySample, quarters
from bench.sample import Sample

#: The samples of each target's rounds, by the target's name, in the order of the report.
Samples = Mapping[str, Sequence[Sample]]

#: The targets with delivery off are rows of their own.
COLUMNS = {
    "accepted/s": ("accepted", 0),
    "answer p50 ms": ("answer_p50", 1),
    "answer p99 ms": ("answer_p99", 1),
    "delivered/s": ("delivered", 0),
    "to the sink p50 ms": ("sink_p50", 1),
    "to the sink p99 ms": ("sink_p99", 1),
    "CPU ms": ("cpu", 2),
    "server's CPU ms": ("server_cpu", 2),
    "PSS MB": ("pss", 0),
    "server's PSS MB": ("server_pss", 0),
    "refused": ("refused", 0),
    "lost": ("lost", 0),
}


@dataclass(frozen=True)
class Goal:
    """A ratio of the report: one figure of two targets."""

    title: str
    figure: str
    target: str
    other: str


GOALS = (
    Goal("CPU per webhook", "cpu", "sqlite", "base"),
    Goal("CPU per webhook, delivery off", "cpu", "sqlite-off", "base-off"),
    Goal("delivered/s", "delivered", "sqlite", "base"),
    Goal("delivered/s", "delivered", "sqlite", "node-red"),
    Goal("delivered/s", "delivered", "postgresql", "node-red"),
    Goal("delivered/s", "delivered", "sqlite", "webhook"),
    Goal("accepted/s while delivering", "accepted", "sqlite", "flask"),
    Goal("accepted/s, delivery off", "accepted", "sqlite-off", "flask"),
    Goal("accepted/s while delivering", "accepted", "postgresql", "flask"),
    Goal("accepted/s, delivery off", "accepted", "postgresql-off", "flask"),
    Goal("accepted/s while delivering", "accepted", "sqlite", "base"),
    Goal("accepted/s, delivery off", "accepted", "sqlite-off", "base-off"),
    Goal("accepted/s while delivering", "accepted", "sqlite", "node-red"),
    Goal("accepted/s while delivering", "accepted", "postgresql", "node-red"),
    Goal("accepted/s of the earlier bridge", "accepted", "base", "flask"),
    Goal("answer p50", "answer_p50", "sqlite", "base"),
    Goal("answer p99", "answer_p99", "sqlite", "base"),
    Goal("to the sink p50", "sink_p50", "sqlite", "base"),
    Goal("to the sink p99", "sink_p99", "sqlite", "base"),
    Goal("to the sink p50", "sink_p50", "sqlite", "node-red"),
    Goal("to the sink p99", "sink_p99", "sqlite", "node-red"),
    Goal("PSS", "pss", "sqlite", "base"),
    Goal("PSS", "pss", "sqlite", "node-red"),
)


@dataclass(frozen=True)
class Ratio:
    """The ratio of two medians, with the smallest and the largest ratio within one round."""

    value: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.lowest:.2f} to {self.highest:.2f})"


def median(samples: Sequence[Sample], figure: str) -> float | None:
    """Return the median of a figure over the rounds, or None if a round lacks it."""
    values = _values(samples, figure)
    return None if values is None else statistics.median(values)


def ratio(samples: Samples, goal: Goal) -> Ratio | None:
    """Return a goal's ratio, or None if one of its targets was not measured."""
    of, to = (_values(samples.get(name, ()), goal.figure) for name in (goal.target, goal.other))
    if not of or not to or not all(to):
        return None
    return ratio_of(of, to)


def ratio_of(of: Sequence[float], to: Sequence[float]) -> Ratio:
    """Return the ratio of the figures of the same rounds; none of `to` is 0."""
    per_round = [one / other for one, other in zip(of, to, strict=True)]
    return Ratio(statistics.median(of) / statistics.median(to), min(per_round), max(per_round))


@dataclass(frozen=True)
class Run:
    """All that a run of the bench found."""

    #: The run, the machine and the versions.
    lines: Sequence[str]
    #: The names of the targets in the report.
    titles: Mapping[str, str]
    samples: Samples
    memory: Mapping[str, Sequence[MemorySample]]
    #: The targets that were not measured, and why.
    missing: Sequence[str]


def report(run: Run) -> str:
    """Return the page."""
    parts = ["# Results of the bench", bulleted(run.lines)]
    if run.missing:
        parts += ["Not measured:", bulleted(run.missing)]
    if any(run.samples.values()):
        parts += ["## Medians", _medians(run), EXPLANATION, "## Ratios", _ratios(run)]
    if run.memory:
        parts += ["## Memory", _memory(run), MEMORY_EXPLANATION]
    return "\n\n".join(parts) + "\n"


def _medians(run: Run) -> str:
    return grid(["", *COLUMNS], [[run.titles[name], *_cells(rows)] for name, rows in run.samples.items()])


def _ratios(run: Run) -> str:
    found = [(goal, ratio(run.samples, goal)) for goal in GOALS]
    return grid(
        ["", "of", "to", "ratio of the medians (range within a round)"],
        [
            [goal.title, run.titles[goal.target], run.titles[goal.other], str(value)]
            for goal, value in found
            if value is not None
        ],
    )


def _memory(run: Run) -> str:
    rows = []
    for name, samples in run.memory.items():
        medians = quarters(samples)
        figures = [*medians, max(sample.pss for sample in samples), medians[3] - medians[2]]
        cells = (f"{round(figure, 1) + 0:.1f}" for figure in figures)  # + 0: no negative zero
        rows.append([run.titles[name], str(samples[-1].jobs), *cells])
    return grid(
        ["PSS MB", "jobs", "1st quarter", "2nd", "3rd", "4th", "largest", "growth in the second half"], rows
    )


EXPLANATION = """\
- *accepted/s*: answers with 2xx under 16 connections. All targets deliver meanwhile, unless delivery is off.
- *answer*: milliseconds until the answer, under the same load.
- *delivered/s*: jobs at the sink, from the first request until the backlog is empty.
- *to the sink*: milliseconds from a request until its job reaches the sink, at 50 webhooks per second.
- *CPU*: user and system time of all processes of the target, per webhook accepted and delivered.
- *PSS*: the most memory of all processes of the target. Pages that several targets share count in parts.
- *server*: the same of the PostgreSQL server, for all its clients in the bench.
- *refused*: answers with another status or after more than 2 s, and failed connections.
- *lost*: accepted, but not at the sink."""

MEMORY_EXPLANATION = """\
The medians of each quarter of the jobs; a sample is taken every second. The growth in the second half is the
difference between the third quarter and the fourth."""


def _values(samples: Sequence[Sample], figure: str) -> list[float] | None:
    values = [getattr(sample, figure) for sample in samples]
    return None if not values or None in values else values


def _cells(samples: Sequence[Sample]) -> list[str]:
    medians = ((median(samples, figure), digits) for figure, digits in COLUMNS.values())
    return ["" if value is None else f"{value:.{digits}f}" for value, digits in medians]


def bulleted(lines: Sequence[str]) -> str:
    """Return a list in Markdown."""
    return "\n".join(f"- {line}" for line in lines)


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(
        ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)],
    )
