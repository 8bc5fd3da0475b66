"""Task, what TheEye runs, as the table describes it; pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bridge.core.event import JSON
from bridge.core.secrets import Secret
from bridge.core.task_arguments import ArgumentsType, arguments_problem


class OnUnknown(StrEnum):
    """What becomes of a job whose answer was lost."""

    RETRY = "retry"
    HOLD = "hold"


@dataclass(frozen=True)
class Rate:
    """At most so many attempts, started in any such span of time."""

    attempts: int
    #: Seconds.
    span: float


@dataclass(frozen=True)
class Task:
    """TheEye's runnable thing, as configured here."""

    #: 24 hex digits.
    id: str
    #: As the table names it, or its id.
    name: str
    #: None where TheEye's access token starts it.
    secret_key: Secret | None
    #: Argument names in TheEye's order, None for a fixed one; None where the table names none.
    arguments: tuple[str | None, ...] | None = None
    arguments_type: ArgumentsType = ArgumentsType.LEGACY
    on_unknown: OnUnknown = OnUnknown.RETRY
    rate: Rate | None = None

    def arguments_problem(self, arguments: tuple[JSON, ...], *, allow_data_urls: bool) -> str | None:
        """Why TheEye's agent cannot run it with these arguments as they are; None if it can."""
        names = self.arguments or ()
        return arguments_problem(arguments, names, self.arguments_type, allow_data_urls=allow_data_urls)
