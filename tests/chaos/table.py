"""The table of these runs: a task and a route for each kind of promise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bridge.demo.arguments import Argument, StandInTask
from tests.support.pushes import VARIABLES
from tests.support.theeye import StandIn

#: ``theeye.timeout``, seconds.
TIMEOUT = 2
#: A claim of a process that was killed comes free after it, seconds.
LEASE = TIMEOUT + 30
#: How many attempts of the rated task may start in how many seconds.
RATE, SPAN = 10, 1.0
#: How long a key is held after its job was accepted, seconds.
ONCE_WITHIN = 4.0


class Kind(StrEnum):
    """What is promised of a push, and the branch that it goes to."""

    #: Again, where the answer was lost.
    PLAIN = "plain"
    #: Never again.
    HOLD = "hold"
    #: In the order of its group.
    GROUPED = "grouped"
    #: Likewise, and an older one that waits gives way to a newer one.
    LATEST = "latest"
    #: At most RATE in SPAN.
    RATED = "rated"
    #: At most one of a key within ONCE_WITHIN.
    ONCE = "once"


@dataclass(frozen=True)
class _Rule:
    """What the table says of a kind."""

    #: One of so many pushes, beside those of the other kinds, is of this one.
    weight: int
    #: Groups or keys.
    members: int = 0
    of_task: str = ""
    of_route: str = ""


_MEMBER = '"${{ payload.repository.full_name }}"'
_RULES = {
    Kind.PLAIN: _Rule(4),
    Kind.HOLD: _Rule(4, of_task="on_unknown: hold"),
    Kind.GROUPED: _Rule(6, 4, of_route=f"concurrency: {{group: {_MEMBER}}}"),
    Kind.LATEST: _Rule(3, 3, of_route=f"concurrency: {{group: {_MEMBER}, latest: true}}"),
    Kind.RATED: _Rule(2, of_task=f"rate: {RATE}/s"),
    Kind.ONCE: _Rule(2, 6, of_route=f"once_within: {ONCE_WITHIN:.0f}s\n    once_key: {_MEMBER}"),
}

#: The kinds that are pushed.
KINDS = tuple(Kind)
WEIGHTS = tuple(_RULES[kind].weight for kind in KINDS)

TASKS = {kind: f"5f3c9a7be4b0a1c2d3e4f6{number:02}" for number, kind in enumerate(Kind)}
ENVIRONMENT = VARIABLES | {f"{kind.upper()}_KEY": f"{kind}-key-".ljust(64, "x") for kind in Kind}

_HEAD = """
theeye:
  url: {url}
  customer: acme
  timeout: {timeout}s
  retry: {{for: 24h, longest_wait: 2s}}
sources:
  github: {{secret: "${{{{ env.HOOK_SECRET }}}}"}}
"""
_TASK = """
  {kind}:
    id: {id}
    secret_key: ${{{{ env.{key} }}}}
    {more}
"""
_ROUTE = """
  - source: github
    match: {{payload.ref: refs/heads/{kind}}}
    task: {kind}
    task_arguments: ["${{{{ payload.after }}}}"]
    {more}
"""


def members(kind: Kind) -> list[str]:
    """The names of its groups or keys; one that is empty where it has none."""
    return [f"acme/{number}" for number in range(_RULES[kind].members)] or [""]


def write_table(folder: Path, url: str) -> Path:
    """The table as a file, for TheEye at `url`."""
    tasks = [
        _TASK.format(kind=kind, id=TASKS[kind], key=f"{kind.upper()}_KEY", more=_RULES[kind].of_task)
        for kind in KINDS
    ]
    routes = [_ROUTE.format(kind=kind, more=_RULES[kind].of_route) for kind in KINDS]
    path = folder / "table.yml"
    parts = [_HEAD.format(url=url, timeout=TIMEOUT), "tasks:", *tasks, "routes:", *routes]
    path.write_text("".join(parts))
    return path


def stand_in(more: Iterable[StandInTask] = ()) -> StandIn:
    """TheEye with every kind's task, and `more`."""
    argument = (Argument("commit"),)
    return StandIn(
        ["acme"],
        [
            *(StandInTask(TASKS[kind], ENVIRONMENT[f"{kind.upper()}_KEY"], kind, argument) for kind in Kind),
            *more,
        ],
    )
