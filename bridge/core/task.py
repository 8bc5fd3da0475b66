"""Task: a task of TheEye as the routing table configures it; pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bridge.core.event import JSON
from bridge.core.secrets import Secret
from bridge.core.task_arguments import ArgumentsType, arguments_problem


class OnUnknown(StrEnum):
    """What happens to a job after an attempt with an unknown outcome."""

    RETRY = "retry"
    HOLD = "hold"


@dataclass(frozen=True)
class Rate:
    """A limit of the attempts that start in any time of `span` seconds."""

    attempts: int
    span: float


@dataclass(frozen=True)
class Task:
    """One task that the bridge may start."""

    #: 24 hex digits.
    id: str
    #: Its name in the table, or its id.
    name: str
    #: None if TheEye's access token starts it.
    secret_key: Secret | None
    #: The arguments' names in TheEye's order, None for a fixed argument; None if the table has no names.
    arguments: tuple[str | None, ...] | None = None
    arguments_type: ArgumentsType = ArgumentsType.LEGACY
    on_unknown: OnUnknown = OnUnknown.RETRY
    rate: Rate | None = None

    def arguments_problem(self, arguments: tuple[JSON, ...], *, allow_data_urls: bool) -> str | None:
        """Return why TheEye's agent cannot run the task with these arguments, or None."""
        names = self.arguments or ()
        return arguments_problem(arguments, names, self.arguments_type, allow_data_urls=allow_data_urls)
