"""What TheEye makes of an order: who may give it, its elements matched to the task's arguments, the job.

No HTTP here. Made after the answers of TheEye's supervisor and after nothing in the bridge, so that the
arrays the bridge builds are measured against TheEye and not against themselves.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

import orjson

from bridge.event import JSON, rfc3339

ArgumentsType = Literal["legacy", "json", "text"]

#: A text that TheEye's agent turns into a file.
DATA_URL = re.compile(r"\s*data:[^,]*;base64,", re.IGNORECASE)

#: Characters of a task's secret key.
KEY_LENGTH = 64

#: Bytes: what a document of TheEye's database may hold.
LARGEST_JOB = 16 * 1024 * 1024

#: Of every task; a job's answer shows them.
ENVIRONMENT = {"DATABASE_PASSWORD": "env-9f2c41d7-never-store-me"}

#: Who may see a job; a job's answer shows them.
ACCESS_LIST = ("operator@theeye.example",)


@dataclass(frozen=True)
class Argument:
    """One argument that a task declares; its order is its place among them."""

    name: str
    #: The value that the task itself gives it; None where the request gives it.
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
    #: Its jobs wait for a person, and what was sent is thrown away.
    asks_input: bool = False
    #: Without one it cannot run: every job of it is a 500.
    has_host: bool = True


@dataclass(frozen=True)
class StandInJob:
    """One job that TheEye stored."""

    #: 24 hex digits.
    id: str
    task_id: str
    #: The organization that it was stored under.
    customer: str
    #: ``ready``; ``onhold`` where a person must act; ``terminated`` where its arguments did not match.
    lifecycle: str
    #: As they were sent.
    elements: tuple[JSON, ...]
    #: What TheEye stored of them.
    values: tuple[JSON, ...]
    #: The texts that the script gets; None where it does not run.
    script_arguments: tuple[str, ...] | None
    #: Seconds since the epoch.
    at: float
    #: The job's own, which opens its result.
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Verdict:
    """What TheEye says to an order."""

    #: The HTTP status.
    status: int
    #: The answer's JSON.
    answer: JSON
    #: The job, where it stored one.
    job: StandInJob | None = None


class Supervisor:
    """TheEye's checks, in its order."""

    def __init__(
        self, organizations: Iterable[str], tasks: Iterable[StandInTask], access_token: str | None
    ) -> None:
        self._organizations = frozenset(organizations)
        self._tasks = {task.id.lower(): task for task in tasks}
        self._access_token = access_token

    def order_by_key(self, key: str, body: JSON, query: Mapping[str, str]) -> Verdict:
        """An order with a task's secret key."""
        return self._order(body, query, lambda task: len(key) == KEY_LENGTH and key == task.secret_key)

    def order_by_token(self, token: str | None, body: JSON, query: Mapping[str, str]) -> Verdict:
        """An order with a user's access token, which opens every task."""
        if not token or token != self._access_token:
            name = "authentication failed"
            stack = f"Error: {name}\n    at BearerStrategy"
            return Verdict(401, {"name": name, "message": name, "statusCode": 401, "stack": stack})
        return self._order(body, query, lambda _: True)

    def _order(self, body: JSON, query: Mapping[str, str], opens: Callable[[StandInTask], bool]) -> Verdict:
        fields = body if isinstance(body, dict) else {}
        customer: JSON = fields.get("customer") or query.get("customer")
        task_id: JSON = fields.get("task") or query.get("task")
        if misnamed := self._misnamed(customer, task_id):
            return misnamed
        task = self._tasks[task_id.lower()]
        if not opens(task):
            return Verdict(403, "invalid secret")
        elements = elements_of(task.arguments, body, query)
        if elements is None:
            needed = f"An array of length {how_many(task.arguments)} is required. Optionals must be null"
            return Verdict(400, {"statusCode": 400, "message": f"Invalid Task Arguments. {needed}"})
        job = job_of(task, customer, elements)
        answer = published(job, task)
        if not task.has_host or len(orjson.dumps(answer)) > LARGEST_JOB:
            return Verdict(500, "Internal Server Error")
        waits = fields.get("wait_result") is True or query.get("wait_result") == "true"
        return Verdict(303 if waits else 200, answer, job)

    def _misnamed(self, customer: JSON, task_id: JSON) -> Verdict | None:
        """What is wrong with the names of the organization and the task; None where both are known."""
        if not customer:
            return Verdict(403, "organization is required")
        if not isinstance(customer, str) or customer not in self._organizations:
            return Verdict(404, "organization not found")
        if not task_id:
            return Verdict(400, "task is required")
        if not isinstance(task_id, str) or not re.fullmatch("[0-9a-fA-F]{24}", task_id):
            return Verdict(400, "task id is invalid")
        if task_id.lower() not in self._tasks:
            return Verdict(404, "task not found")
        return None


def job_of(task: StandInTask, customer: str, elements: tuple[JSON, ...]) -> StandInJob:
    """The job that an order makes."""
    values = matched(task.arguments, elements, task.arguments_type)
    lifecycle = "onhold" if task.asks_input else "terminated" if values is None else "ready"
    if task.asks_input:
        values = ()
    return StandInJob(
        id=secrets.token_hex(12),
        task_id=task.id,
        customer=customer,
        lifecycle=lifecycle,
        elements=elements,
        values=elements if values is None else values,
        script_arguments=script_arguments(values) if lifecycle == "ready" and values is not None else None,
        at=time.time(),
        secret=secrets.token_hex(32),
    )


def elements_of(
    declared: Sequence[Argument], body: JSON, query: Mapping[str, str]
) -> tuple[JSON, ...] | None:
    """The elements that a request gives for these arguments; None where they are too few.

    Without ``task_arguments`` a body that is an array holds the elements, and any other body is the
    first of them, whole.
    """
    given = body.get("task_arguments") if isinstance(body, dict) else None
    needed = how_many(declared)
    if not needed:
        return tuple(given) if isinstance(given, list) else ()
    if _falsy(given):
        given = body if isinstance(body, list) else [dict(query) if _falsy(body) else body]
    if not isinstance(given, list) or len(given) < needed:
        return None
    return tuple(given)


def how_many(declared: Sequence[Argument]) -> int:
    """The number of arguments that a request must give."""
    return sum(argument.fixed is None for argument in declared)


def matched(
    declared: Sequence[Argument], elements: Sequence[JSON], arguments_type: ArgumentsType
) -> tuple[JSON, ...] | None:
    """The values that TheEye stores with the job, in order; None where one has no element.

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


def script_arguments(stored: Sequence[JSON]) -> tuple[str, ...]:
    """The texts that the agent hands to the script: null becomes empty, a data URL a file's path."""
    texts = ("" if value is None else value if isinstance(value, str) else as_json(value) for value in stored)
    return tuple(
        f"theeye-agent-files/argument-{order}" if DATA_URL.match(text) else text
        for order, text in enumerate(texts)
    )


def published(job: StandInJob, task: StandInTask) -> dict[str, JSON]:
    """The job as an answer shows it, with all that an answer should better not show."""
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
        "output": '"InvalidTaskArguments"' if refused else [],
        "secret": job.secret,
        "env": ENVIRONMENT,
        "acl": ACCESS_LIST,
        "user_inputs": task.asks_input,
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


def as_json(value: JSON) -> str:
    """JSON text as JavaScript writes it: compact, every number a double."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{as_json(key)}:{as_json(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(as_json(inner) for inner in value) + "]"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(float(value))
    return json.dumps(value, ensure_ascii=False)


def _number(double: float) -> str:
    if double == 0:
        return "0"
    if 1e-6 <= abs(double) < 1e21:
        return format(Decimal(repr(double)), "f").removesuffix(".0")
    return repr(double).replace("e-0", "e-")


def _falsy(value: JSON) -> bool:
    """Whether JavaScript counts it as false; it counts ``[]`` and ``{}`` as true."""
    return value is None or value == "" or (isinstance(value, int | float) and not value)


def _place(elements: Sequence[JSON], order: int) -> int | None:
    """The index of the first element of this order.

    An element's order is its index where it names none, and where it names 0.
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
