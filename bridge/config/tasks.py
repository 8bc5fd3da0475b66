"""Tasks: under `tasks`, or defined by the keys of a route."""

from __future__ import annotations

import re

from bridge.config.document import Invalid, Scalar
from bridge.config.env import Environment
from bridge.config.models import TaskCallModel, TaskKeysModel, TaskModel
from bridge.config.problems import Problems, guess
from bridge.config.readers import describe
from bridge.core.problem import Place
from bridge.core.secrets import Secret
from bridge.core.task import Task
from bridge.theeye.request import SECRET_KEY_LENGTH

_TASK_ID = re.compile(r"[0-9a-fA-F]{24}")
_KEY = re.compile(r"[A-Za-z0-9._~-]*")

#: The placeholder of a key whose variable is not set, where that is only a warning.
_UNSET = Secret("")


class TaskBuilder:
    """Build the tasks of one table. Mistakes are reported and skipped."""

    def __init__(self, environment: Environment, problems: Problems, *, complete: bool) -> None:
        """Without `complete`, a missing task is not reported: it may be in a part that could not be read."""
        self._environment = environment
        self._error, self._warn = problems.error, problems.warning
        self._complete = complete
        #: Whether a task needs no key, since `theeye` has an access token.
        self.by_token = False
        self._by_name: dict[str, Task] = {}
        #: Tasks by TheEye's id, with the place of the definition.
        self._by_id: dict[str, tuple[Task, Place]] = {}
        #: Tasks under `tasks` that no route or `on_dead` uses.
        self.unused: dict[str, Place] = {}
        #: Names of tasks that could not be read.
        self._broken: set[str] = set()

    @property
    def by_id(self) -> dict[str, Task]:
        """Return the tasks by TheEye's id."""
        return {task_id: task for task_id, (task, _) in self._by_id.items()}

    def add(self, name: Scalar, model: TaskModel | None) -> None:
        """Add a task; without a model, one that could not be read."""
        if not name.strip() or not name.isprintable():
            self._error(name.place, f"found {describe(name)}, expected a task's name, one line of text")
        if model is None:
            self._broken.add(str(name))
            return
        task_id = self._task_id(model.id)
        key = self._key(model.secret_key)
        if model.secret_key is None and not self.by_token:
            hint = "write secret_key: ${{ env.NAME }}; copy the key from the task's page at TheEye"
            self._error(name.place, f"task {name} has no secret_key", hint)
        if task_id is not None and _TASK_ID.fullmatch(name) and name.lower() != task_id.lower():
            message = f"the name {name} looks like another task's id"
            self._error(name.place, message, "choose another name: a route names a task by name or id")
        if task_id is None:
            self._broken.add(str(name))
        else:
            if task_id in self._by_id:
                other, place = self._by_id[task_id]
                message = f"task {name} has the id of task {other.name}, at {place}"
                hint = "correct the id, or remove one of them and name the other in the routes"
                self._warn(model.id.place, message, hint)
            self._by_name[str(name)] = self._own_task(task_id, str(name), key, model, name.place)
            self.unused[str(name)] = name.place

    def task_of(self, model: TaskCallModel) -> Task | None:
        """Return the task that a call names, or that its own keys define."""
        task = self._task_of(model)
        for name in (str(model.task), None if task is None else task.name):
            self.unused.pop(name or "", None)
        return task

    def _task_of(self, model: TaskCallModel) -> Task | None:
        if model.task in self._by_name:
            own = sorted(_given_keys(model))
            if own:
                message = f"{own[0]} is on the route, but task {model.task} is under tasks"
                self._error(model.task.place, message, f"set it at tasks: {model.task}:")
            return self._by_name[model.task]
        key = self._key(model.secret_key)
        if isinstance(model.task, Invalid) or model.task in self._broken:
            return None
        if "${{" not in model.task and not _TASK_ID.fullmatch(model.task):
            if self._complete:
                guessed, _ = guess(model.task, {*self._by_name, *self._broken})
                hint = "write a name under tasks:, or TheEye's id of 24 hex digits"
                self._error(model.task.place, f"unknown task {describe(model.task)}{guessed}", hint)
            return None
        task_id = self._task_id(model.task)
        if task_id is None:
            return None
        if model.secret_key is None and not self.by_token and task_id not in self._by_id:
            if self._complete:
                hint = "write secret_key: ${{ env.NAME }} beside it, or name a task under tasks:"
                self._error(model.task.place, f"task {task_id} has no secret_key", hint)
            return None
        return self._own_task(task_id, task_id, key, model, model.task.place)

    def _own_task(
        self, task_id: str, name: str, key: Secret | None, model: TaskKeysModel, place: Place
    ) -> Task:
        arguments = model.arguments
        names = (
            None if arguments is None else tuple(None if name is None else str(name) for name in arguments)
        )
        arguments_type = model.arguments_type or Task.arguments_type
        on_unknown = model.on_unknown or Task.on_unknown
        task = Task(task_id, name, key, names, arguments_type, on_unknown, model.rate)
        known = self._by_id.get(task_id)
        if known is None:
            self._by_id[task_id] = (task, place)
            return task
        earlier, first = known
        for setting in sorted(_given_keys(model)):
            given = getattr(model, setting)
            if given is None or isinstance(given, Invalid):
                continue
            if getattr(task, setting) != getattr(earlier, setting):
                message = f"task {task_id} has another {setting} here than at {first}"
                self._error(place, message, "define the task once under tasks:, or use the same value twice")
        return earlier

    def _task_id(self, scalar: Scalar) -> str | None:
        text = self._environment.text(scalar)
        if text is None or isinstance(scalar, Invalid):
            return None
        if self._environment.is_placeholder(text, scalar):
            return text
        if not _TASK_ID.fullmatch(text):
            counted = "other characters" if len(text) == 24 else f"{len(text)} characters"
            message = f"a task's id must be 24 hex digits, found {counted}"
            self._error(scalar.place, message, "copy it from the URL of the task's page at TheEye")
            return None
        return text.lower()

    def _key(self, scalar: Scalar | None) -> Secret | None:
        if scalar is None:
            return None
        secret = self._environment.secret(scalar, "TheEye")
        if secret is None:
            return _UNSET
        length, flaw = len(secret.reveal()), None
        if length != SECRET_KEY_LENGTH or not _KEY.fullmatch(secret.reveal()):
            counted = "other characters" if length == SECRET_KEY_LENGTH else f"{length} characters"
            flaw = f"a task's secret key must be {SECRET_KEY_LENGTH} letters and digits, found {counted}"
        hint = "copy it from the task at TheEye, without spaces"
        self._environment.check_form(scalar, secret, flaw, hint)
        return secret


def _given_keys(model: TaskKeysModel) -> set[str]:
    """Return the task's keys that are set here."""
    return set(model.model_fields_set) & set(TaskKeysModel.model_fields)
