"""Budget: a limit on the work of all routes for one event, in steps, so that every run agrees; pure.

Each operation on an event's data charges its cost before it works, or just after if the work is small. A step
is about 250 ns of CPU. An operation costs as much as the slowest input of its size, so that all the steps of
an event take at most about 250 ms.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridge.core.errors import OverBudget
from bridge.core.event import JSON

#: The key of the Budget in a scope. No path and no expression can name it.
BUDGET = ".budget"

#: The most steps for all matching and all arguments of one event.
MAX_STEPS = 1_000_000
#: The most jobs that one event may create.
MAX_JOBS = 10_000

#: The messages of an event that list the fields there are and suggest one.
DETAILED_MESSAGES = 3

#: Steps for a job, besides its evaluation.
_JOB = 20
#: Characters of text, or bytes of JSON, read or written in one step.
_CHARACTERS_PER_STEP = 64


class Budget:
    """The budget of one event. Used by one thread."""

    __slots__ = ("_detailed", "_jobs", "_max_detailed", "_max_jobs", "_max_steps", "spent")

    def __init__(
        self, steps: int = MAX_STEPS, jobs: int = MAX_JOBS, detailed_messages: int = DETAILED_MESSAGES
    ) -> None:
        self._max_steps = steps
        self._max_jobs = jobs
        self._max_detailed = detailed_messages
        self.spent = self._jobs = self._detailed = 0

    def charge(self, steps: int) -> None:
        """Charge steps. Raises OverBudget on this and every later call once the budget is spent."""
        self.spent += steps
        if self.spent > self._max_steps:
            raise OverBudget(
                f"the routes need more than {self._max_steps:,} steps for this event: "
                "put cheaper conditions first; see 'The budget of an event' in the documentation"
            )

    def charge_text(self, characters: int) -> None:
        """Charge the reading or writing of a text. Raises OverBudget."""
        self.charge(1 + characters // _CHARACTERS_PER_STEP)

    def allow_details(self) -> bool:
        """Return whether one more message about a missing field may be detailed, and count it."""
        self._detailed += 1
        return self._detailed <= self._max_detailed

    def charge_job(self, arguments: int) -> None:
        """Charge a job with so many bytes of arguments. Raises OverBudget."""
        self._jobs += 1
        self.charge(_JOB + arguments // _CHARACTERS_PER_STEP)
        if self._jobs > self._max_jobs:
            raise OverBudget(f"the event creates more than {self._max_jobs:,} jobs")

    def refund_jobs(self, jobs: int) -> None:
        """Take back jobs that are not created after all. Their steps stay charged."""
        self._jobs -= jobs


def budget_of(scope: Mapping[str, JSON]) -> Budget:
    """Return the scope's budget, or a full one if it has none."""
    budget: Budget | None = scope.get(BUDGET)
    return Budget() if budget is None else budget
