"""The stand-in TheEye for a routing table: its tasks, and what each of their scripts receives."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from bridge.core.event import JSON
from bridge.core.task import Task
from bridge.demo.agent import as_json
from bridge.demo.arguments import Argument, StandInTask, Verdict
from bridge.demo.theeye import OnOrder, StandIn
from bridge.routing.routing_table import RoutingTable

#: Stands for the value of a fixed argument: only TheEye knows it.
FIXED = "<fixed at TheEye>"


def fake_theeye(table: RoutingTable, port: int, on_order: OnOrder) -> StandIn:
    """Return a stand-in that accepts the organization, tasks, keys and token of this table, and no others."""
    token = table.theeye.access_token
    return StandIn(
        [table.theeye.customer],
        [_stand_in(task, table) for task in table.tasks.values()],
        access_token=None if token is None else token.reveal(),
        port=port,
        on_order=on_order,
    )


def _stand_in(task: Task, table: RoutingTable) -> StandInTask:
    """Return the task as TheEye has it.

    If the table does not name its arguments, the task declares as many as its longest route gives: TheEye
    refuses fewer, so a shorter route shows here.
    """
    counts = [len(route.arguments) for route in table.routes if route.task.id == task.id]
    alerts = [each for each in (table.on_dead, table.on_silence) if each is not None]
    counts += [len(each.arguments) for each in alerts if each.task.id == task.id]
    names = task.arguments
    if names is None:
        names = tuple(f"argument {number + 1}" for number in range(max(counts, default=0)))
    return StandInTask(
        id=task.id,
        # A task without a key starts by the access token; nobody knows this key.
        secret_key=secrets.token_hex(32) if task.secret_key is None else task.secret_key.reveal(),
        name=task.name,
        arguments=tuple(Argument("fixed", FIXED) if name is None else Argument(name) for name in names),
        arguments_type=task.arguments_type.value,
    )


def order_lines(table: RoutingTable, task_id: JSON, verdict: Verdict) -> Iterator[str]:
    """Return the lines for a request: the arguments that the task's script receives, or why none runs."""
    task = table.tasks.get(task_id) if isinstance(task_id, str) else None
    name = f"task {task_id!r}" if task is None else f"task {task.name}"
    job = verdict.job
    if job is None:
        yield f"{name}: refused with {verdict.status}: {as_json(verdict.answer)}"
    elif job.script_arguments is None:
        yield f"{name}: accepted, but the script does not run: {job.failure or 'the arguments do not match'}"
    else:
        count = len(job.script_arguments)
        yield f"{name}: the script receives {count} argument{'' if count == 1 else 's'}"
        names = task.arguments if task is not None and task.arguments else ()
        for number, argument in enumerate(job.script_arguments, 1):
            name = f" {names[number - 1] or 'fixed'}" if len(names) == len(job.script_arguments) else ""
            yield f"  ${number}{name} = {as_json(argument)}"
