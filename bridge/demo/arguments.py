"""TheEye's answer to the request for a job: its checks, the matched arguments, the job.

No HTTP here. It follows the observed answers of TheEye's supervisor and no code of the bridge, so that it
tests the requests of the bridge.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bridge.core.event import JSON, rfc3339
from bridge.demo import agent
from bridge.demo.agent import as_json

ArgumentsType = Literal["legacy", "json", "text"]

#: Characters of a task's secret key.
SECRET_KEY_LENGTH = 64

#: The environment of every task; an answer shows it.
ENVIRONMENT = {"DATABASE_PASSWORD": "env-9f2c41d7-never-store-me"}

#: The users who may see a job; an answer shows them.
ACCESS_LIST = ("operator@theeye.example",)


@dataclass(frozen=True)
class Argument:
    """One argument of a task; its order is its index."""

    name: str
    #: The value that the task itself sets; None if the request gives the value.
    fixed: str | None = None


@dataclass(frozen=True)
class StandInTask:
    """One task of the stand-in."""

    #: 24 hex digits.
    id: str
    #: 64 characters.
    secret_key: str = field(repr=False)
    name: str
    arguments: tuple[Argument, ...] = ()
    arguments_type: ArgumentsType = "legacy"


@dataclass(frozen=True)
class StandInJob:
    """One job that TheEye stored."""

    #: 24 hex digits.
    id: str
    task_id: str
    #: The organization of the job.
    customer: str
    #: ``ready``; ``terminated`` where it will never run.
    lifecycle: str
    #: The arguments of the request.
    elements: tuple[JSON, ...]
    #: The stored arguments.
    values: tuple[JSON, ...]
    #: The texts that the script receives; None if it does not run.
    script_arguments: tuple[str, ...] | None
    #: Seconds since the epoch.
    at: float
    #: The secret of the job, which opens its result.
    secret: str = field(repr=False)
    #: The reason why the agent could not start the script.
    failure: str | None = None


@dataclass(frozen=True)
class Verdict:
    """TheEye's answer to a request for a job."""

    #: The HTTP status.
    status: int
    #: The answer's JSON.
    answer: JSON
    #: The stored job, if there is one.
    job: StandInJob | None = None


class Supervisor:
    """TheEye's checks, in its order."""

    def __init__(
        self,
        organizations: Iterable[str],
        tasks: Iterable[StandInTask],
        access_token: str | None,
    ) -> None:
        """The access token is of the first organization."""
        self._organizations = tuple(organizations)
        self._tasks = {task.id.lower(): task for task in tasks}
        self._access_token = access_token

    def order_by_key(self, key: str, body: JSON, query: Mapping[str, str]) -> Verdict:
        """Answer a request with a task's secret key."""
        customer = named("customer", body, query)
        if not customer:
            return Verdict(403, "organization is required")
        if not isinstance(customer, str) or customer not in self._organizations:
            return Verdict(404, "organization not found")

        def opens(task: StandInTask) -> bool:
            return len(key) == SECRET_KEY_LENGTH and key == task.secret_key

        return self._order(customer, body, query, opens)

    def order_by_token(self, token: str | None, body: JSON, query: Mapping[str, str]) -> Verdict:
        """Answer a request with a user's access token, which opens every task of its organization."""
        if not token or token != self._access_token:
            name = "authentication failed"
            stack = f"Error: {name}\n    at BearerStrategy"
            return Verdict(401, {"name": name, "message": name, "statusCode": 401, "stack": stack})
        return self._order(self._organizations[0], body, query, lambda _task: True)

    def _order(
        self,
        customer: str,
        body: JSON,
        query: Mapping[str, str],
        opens: Callable[[StandInTask], bool],
    ) -> Verdict:
        """Answer a request; `opens` says whether the credential opens the task."""
        task_id = named("task", body, query)
        if not task_id:
            return Verdict(400, "task is required")
        if not isinstance(task_id, str) or not re.fullmatch("[0-9a-fA-F]{24}", task_id):
            return Verdict(400, "task id is invalid")
        task = self._tasks.get(task_id.lower())
        if task is None:
            return Verdict(404, "task not found")
        if not opens(task):
            return Verdict(403, "invalid secret")
        elements = elements_of(task.arguments, body)
        if elements is None:
            needed = f"An array of length {how_many(task.arguments)} is required. Optionals must be null"
            return Verdict(400, {"statusCode": 400, "message": f"Invalid Task Arguments. {needed}"})
        job = job_of(task, customer, elements)
        return Verdict(200, published(job, task), job)


def named(key: str, body: JSON, query: Mapping[str, str]) -> JSON:
    """Return the value of `key` in the body, or else in the query."""
    return (body.get(key) if isinstance(body, dict) else None) or query.get(key)


def job_of(task: StandInTask, customer: str, elements: tuple[JSON, ...]) -> StandInJob:
    """Return the job of a request, after the agent has run it, or has failed to."""
    values = matched(task.arguments, elements, task.arguments_type)
    given = None if values is None else agent.script_arguments(values)
    failure = None if given is None else agent.failure(given)
    return StandInJob(
        id=secrets.token_hex(12),
        task_id=task.id,
        customer=customer,
        lifecycle="terminated" if values is None else "ready",
        elements=elements,
        values=elements if values is None else values,
        script_arguments=None if failure else given,
        at=time.time(),
        secret=secrets.token_hex(32),
        failure=failure,
    )


def elements_of(declared: Sequence[Argument], body: JSON) -> tuple[JSON, ...] | None:
    """Return the elements of a request for these arguments; None if there are too few."""
    given = body.get("task_arguments") if isinstance(body, dict) else None
    elements = tuple(given) if isinstance(given, list) else ()
    return None if len(elements) < how_many(declared) else elements


def how_many(declared: Sequence[Argument]) -> int:
    """Return the number of arguments that a request must give."""
    return sum(argument.fixed is None for argument in declared)


def matched(
    declared: Sequence[Argument], elements: Sequence[JSON], arguments_type: ArgumentsType
) -> tuple[JSON, ...] | None:
    """Return the values that TheEye stores with the job, in order; None if one has no element.

    Each is a text, or for a `legacy` task also what was sent bare: null, 0 or false.
    """
    stored: list[JSON] = []
    for order, argument in enumerate(declared):
        if argument.fixed is not None:
            stored.append(argument.fixed)
            continue
        at = _place(elements, order)
        if at is None:
            return None
        stored.append(_READERS[arguments_type](elements[at]))
    return tuple(stored)


def published(job: StandInJob, task: StandInTask) -> dict[str, JSON]:
    """Return the job as TheEye's answer shows it, with its secrets."""
    refused = job.lifecycle == "terminated"
    return {
        "id": job.id,
        "_type": "ScriptJob",
        "name": task.name,
        "task_id": task.id,
        "task": {"id": task.id, "type": "script", "task_arguments": _declarations(task)},
        "task_arguments_values": job.values,
        "customer_name": job.customer,
        "lifecycle": job.lifecycle,
        "state": "error" if refused else "in_progress",
        "output": as_json("InvalidTaskArguments") if refused else [],
        "secret": job.secret,
        "env": ENVIRONMENT,
        "acl": ACCESS_LIST,
        "user_inputs": False,
        "user": {},
        "creation_date": rfc3339(job.at),
    }


def _declarations(task: StandInTask) -> list[dict[str, JSON]]:
    return [
        {"order": order, "label": argument.name, "type": "input"}
        if argument.fixed is None
        else {"order": order, "label": argument.name, "type": "fixed", "value": argument.fixed}
        for order, argument in enumerate(task.arguments)
    ]


def _falsy(value: JSON) -> bool:
    """Return whether JavaScript counts the value as false; ``[]`` and ``{}`` are true."""
    return value is None or value == "" or (isinstance(value, int | float) and not value)


def _place(elements: Sequence[JSON], order: int) -> int | None:
    """Return the index of the first element of this order.

    An element without an order, or with order 0, has its index as its order.
    """
    for index, element in enumerate(elements):
        named = element.get("order") if isinstance(element, dict) else None
        found = index if _falsy(named) else named
        if isinstance(found, int | float) and not isinstance(found, bool) and found == order:
            return index
    return None


def _read_legacy(element: JSON) -> JSON:
    if _falsy(element):
        return element
    value = element.get("value") if isinstance(element, dict) else element
    value = element if _falsy(value) else value
    return value if isinstance(value, str) else as_json(value)


def _read_json(element: JSON) -> JSON:
    return as_json(element["value"] if isinstance(element, dict) and "value" in element else element)


def _read_text(element: JSON) -> JSON:
    value = element["value"] if isinstance(element, dict) and "value" in element else element
    return value if isinstance(value, str) else as_json(element)


_READERS = {"legacy": _read_legacy, "json": _read_json, "text": _read_text}
