"""Budget, how much the routes may do for one event: steps instead of seconds, so that every run agrees; pure.

Each operation on an event's data charges its cost before it works, or straight after where the work is small.
A step is about 250 ns of CPU on a machine of two cores, and each operation is charged by the slowest input of
its size, so that all the steps of an event take about 250 ms.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridge.core.errors import OverBudget
from bridge.core.event import JSON

#: The name under which a scope holds the event's Budget; no path and no expression can spell it.
BUDGET = ".budget"

#: Steps that all matching and all arguments of one event may take.
MAX_STEPS = 1_000_000
#: Jobs that one event may create.
MAX_JOBS = 10_000

#: Messages of an event that list the fields there are and guess at the one that was meant.
DETAILED_MESSAGES = 3

#: Steps for a job, besides what is evaluated for it.
_JOB = 20
#: Characters of a text, or bytes of JSON, that are read or written in one step.
_CHARACTERS_PER_STEP = 64


class Budget:
    """What is left for one event. Used by one thread."""

    __slots__ = ("_detailed", "_jobs", "_max_detailed", "_max_jobs", "_max_steps", "spent")

    def __init__(
        self, steps: int = MAX_STEPS, jobs: int = MAX_JOBS, detailed_messages: int = DETAILED_MESSAGES
    ) -> None:
        self._max_steps = steps
        self._max_jobs = jobs
        self._max_detailed = detailed_messages
        #: Steps that were charged.
        self.spent = self._jobs = self._detailed = 0

    def charge(self, steps: int) -> None:
        """Charge steps. Raises OverBudget once more were charged than there are, then every time."""
        self.spent += steps
        if self.spent > self._max_steps:
            raise OverBudget(
                f"the routes need more than {self._max_steps:,} steps for this event: "
                "its lists, objects or texts are too large for what the routes do with them"
            )

    def charge_text(self, characters: int) -> None:
        """Charge the reading or writing of a text. Raises OverBudget."""
        self.charge(1 + characters // _CHARACTERS_PER_STEP)

    def allow_details(self) -> bool:
        """Whether the next message about a missing field may be long, which is counted."""
        self._detailed += 1
        return self._detailed <= self._max_detailed

    def charge_job(self, arguments: int) -> None:
        """Charge a job with so many bytes of arguments: a loop can multiply one field. Raises OverBudget."""
        self._jobs += 1
        self.charge(_JOB + arguments // _CHARACTERS_PER_STEP)
        if self._jobs > self._max_jobs:
            raise OverBudget(f"the event creates more than {self._max_jobs:,} jobs")

    def refund_jobs(self, jobs: int) -> None:
        """Give back jobs that were charged and are not created after all. Their steps stay charged."""
        self._jobs -= jobs


def budget_of(scope: Mapping[str, JSON]) -> Budget:
    """The budget that a scope holds; a full one where it holds none, as outside of an event's routing."""
    budget: Budget | None = scope.get(BUDGET)
    return Budget() if budget is None else budget
