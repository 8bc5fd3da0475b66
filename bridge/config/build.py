"""From shapes to the RoutingTable: names are resolved, tasks and routes put together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from bridge.config.compile import Compiler
from bridge.config.document import Empty, Items, Scalar, Section
from bridge.config.env import Environment
from bridge.config.problems import Problems
from bridge.config.shapes import (
    RouteShape,
    SourceShape,
    TaskKeys,
    TaskShape,
    TheEyeShape,
    check_url,
    found,
)
from bridge.config.sources import SourceBuilder
from bridge.fields import EVENT_NAMES, ITEM_NAMES, closest, did_you_mean
from bridge.match import Check, When
from bridge.problem import Place
from bridge.retry import RetryPolicy
from bridge.route import Argument, Route, Task, Value
from bridge.settings import Secret
from bridge.sources import Source, SourceType
from bridge.table import RoutingTable
from bridge.theeye import KEY_LENGTH, TheEye

_TASK_ID = re.compile(r"[0-9a-fA-F]{24}")
_KEY = re.compile(r"[A-Za-z0-9._~-]*")
#: RFC 6750 2.1.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")

#: How many names a guess is made among, and how many a message lists.
_GUESSED = 500
_LISTED = 20

#: Stands for a key whose variable is not set, where that is only a warning.
_UNSET = Secret("")


class Builder:
    """Takes the shapes of one table one after the other; mistakes are reported and passed over."""

    def __init__(
        self,
        variables: Mapping[str, str],
        types: Mapping[str, SourceType],
        problems: Problems,
        *,
        require_env: bool,
        complete: bool,
    ) -> None:
        """Without `complete`, what seems missing may stand where nothing could be read."""
        self._problems = problems
        self._environment = Environment(variables, problems, required=require_env)
        self._compiler = Compiler(problems)
        self._source_builder = SourceBuilder(types, self._environment, self._compiler, problems)
        self._theeye: TheEye | None = None
        self._retry = RetryPolicy()
        #: Whether a task may do without a key of its own.
        self._by_token = False
        self._sources: dict[str, Source] = {}
        #: By name, and by TheEye's id with the place of its definition.
        self._tasks: dict[str, Task] = {}
        self._tasks_by_id: dict[str, tuple[Task, Place]] = {}
        self._routes: dict[str, tuple[Route, Place]] = {}
        self._complete = complete
        #: Names of those that are there but could not be read.
        self._broken_sources: set[str] = set()
        self._broken_tasks: set[str] = set()

    @property
    def secrets(self) -> Iterable[Secret]:
        return self._environment.secrets

    def table(self) -> RoutingTable | None:
        """The whole, once all is added; None where TheEye is not known."""
        if self._theeye is None:
            return None
        return RoutingTable(
            theeye=self._theeye,
            retry=self._retry,
            sources=self._sources,
            tasks={task_id: task for task_id, (task, _) in self._tasks_by_id.items()},
            routes=tuple(route for route, _ in self._routes.values()),
        )

    def add_theeye(self, shape: TheEyeShape | None) -> None:
        """To be added first. Without a shape it is one that could not be read."""
        self._by_token = shape is None or shape.access_token is not None
        if shape is None:
            return
        customer = self._environment.text(shape.customer)
        url = self._environment.text(shape.url) if shape.url is not None else TheEye.url
        if url is not None and shape.url is not None and not self._environment.stands_in(url, shape.url):
            try:
                check_url(url)
            except ValueError as error:
                self._problems.error(shape.url.place, f"url: {error}")
        token = None if shape.access_token is None else self._token(shape.access_token)
        self._theeye = TheEye(customer or "", (url or TheEye.url).rstrip("/"), shape.timeout, token)
        self._retry = RetryPolicy(shape.retry.retry_for, shape.retry.longest_wait)

    def add_source(self, name: Scalar, shape: SourceShape | None) -> None:
        """Without a shape it is one that could not be read."""
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            hint = "it is the last part of the source's URL"
            self._problems.error(name.place, "a source's name is of letters, digits, _, - and .", hint)
        source = None if shape is None else self._source_builder.build(name, shape)
        if source is None:
            self._broken_sources.add(str(name))
        else:
            self._sources[str(name)] = source

    def add_task(self, name: Scalar, shape: TaskShape | None) -> None:
        """Without a shape it is one that could not be read."""
        if not name.strip() or not name.isprintable():
            self._problems.error(name.place, f"found {found(name)}, expected a task's name, one line of text")
        if shape is None:
            self._broken_tasks.add(str(name))
            return
        task_id = self._task_id(shape.id)
        key = self._key(shape.secret_key)
        if shape.secret_key is None and not self._by_token:
            hint = "write secret_key: ${{ env.NAME }}; TheEye shows it on the task"
            self._problems.error(name.place, f"task {name} has no secret_key", hint)
        if task_id is not None and _TASK_ID.fullmatch(name) and name.lower() != task_id.lower():
            message = f"the task's name is the id of another: {name}"
            self._problems.error(name.place, message, "a route cannot tell them apart; name it otherwise")
        if task_id is None:
            self._broken_tasks.add(str(name))
        else:
            self._tasks[str(name)] = self._own_task(task_id, str(name), key, shape, name.place)

    def add_route(self, place: Place, shape: RouteShape) -> None:
        task = self._task_of(shape)
        source = self._sources.get(shape.source)
        known_elsewhere = shape.source in self._broken_sources or isinstance(shape.source, Empty)
        if source is None and self._complete and not known_elsewhere:
            guess, known = _guess(shape.source, {*self._sources, *self._broken_sources})
            message = f"unknown source {found(shape.source)}{guess}"
            self._problems.error(shape.source.place, message, f"sources: {known}")
        names = EVENT_NAMES if shape.loop is None else (*EVENT_NAMES, *ITEM_NAMES)
        checks = self._checks(shape, names)
        loop = self._compiler.condition(shape.loop, EVENT_NAMES) if shape.loop is not None else None
        arguments = self._arguments(shape, task, names)
        if source is not None:
            self._advise(place, shape, source)
        if task is None or any(isinstance(each, Empty) for each in (shape.name, *(shape.event or ()))):
            return
        events = ",".join(shape.event) if shape.event is not None else "*"
        name = str(shape.name) if shape.name is not None else f"{shape.source} {events} {task.name}"
        if name in self._routes:
            at = shape.name.place if shape.name is not None else place
            first = self._routes[name][1]
            self._problems.error(
                at, f"two routes are named {name!r}; the first at {first}", "give one another name:"
            )
            return
        route = Route(name, str(shape.source), task, checks, loop, arguments, bool(shape.allow_data_urls))
        self._routes[name] = (route, place)

    def _checks(self, shape: RouteShape, names: tuple[str, ...]) -> tuple[Check, ...]:
        checks: list[Check | None] = []
        if shape.event is not None:
            checks.append(self._compiler.events(shape.event))
        if shape.match is not None:
            checks += [self._compiler.line(key, node, names) for key, node in shape.match.items()]
        if shape.when is not None:
            expression = self._compiler.condition(shape.when, names)
            checks.append(None if expression is None else When(expression))
        return tuple(check for check in checks if check is not None)

    def _advise(self, place: Place, shape: RouteShape, source: Source) -> None:
        for event in shape.event or ():
            self._advise_of_event(event, source)
        events = tuple(map(str, shape.event or ()))
        advice = source.type.advice(events, loops=shape.loop is not None)
        if advice is not None:
            self._problems.warning(shape.event[0].place if shape.event else place, *advice)

    def _advise_of_event(self, event: Scalar, source: Source) -> None:
        """Warn of a name that the sender is not known to have; a warning, since senders add events."""
        known, handshakes = source.type.events, source.type.handshakes
        if event in handshakes:
            message = f"{event} is a test or confirmation of the sender's: no route is asked about it"
            self._problems.warning(event.place, message, "leave it out; the bridge answers it by itself")
            return
        if isinstance(event, Empty) or not known or re.search(r"[*?\\]|\$\{\{", event):
            return
        if event in known or any(event.startswith(f"{name}.") for name in known):
            return
        guess = did_you_mean(event, known) or did_you_mean(event.partition(".")[0], known)
        message = f"{source.type.name} has no event {found(event)} that is known{guess}"
        self._problems.warning(event.place, message, "docs/sources.md lists them; senders add some")

    def _task_of(self, shape: RouteShape) -> Task | None:
        """The task that a route names, or that its own keys define."""
        if shape.task in self._tasks:
            own = sorted(_given_keys(shape))
            if own:
                message = f"{own[0]} stands on the route, but task {shape.task} is under tasks"
                self._problems.error(shape.task.place, message, f"set it at tasks: {shape.task}:")
            return self._tasks[shape.task]
        key = self._key(shape.secret_key)
        if isinstance(shape.task, Empty) or shape.task in self._broken_tasks:
            return None
        if "${{" not in shape.task and not _TASK_ID.fullmatch(shape.task):
            if self._complete:
                guess, _ = _guess(shape.task, {*self._tasks, *self._broken_tasks})
                hint = "write a name under tasks:, or TheEye's id of 24 hex digits"
                self._problems.error(shape.task.place, f"unknown task {found(shape.task)}{guess}", hint)
            return None
        task_id = self._task_id(shape.task)
        if task_id is None:
            return None
        if shape.secret_key is None and not self._by_token and task_id not in self._tasks_by_id:
            if self._complete:
                hint = "write secret_key: ${{ env.NAME }} on the route, or name a task under tasks:"
                self._problems.error(shape.task.place, f"task {task_id} has no secret_key", hint)
            return None
        return self._own_task(task_id, task_id, key, shape, shape.task.place)

    def _own_task(self, task_id: str, name: str, key: Secret | None, shape: TaskKeys, place: Place) -> Task:
        arguments = shape.arguments
        names = (
            None if arguments is None else tuple(None if name is None else str(name) for name in arguments)
        )
        arguments_type = shape.arguments_type or Task.arguments_type
        task = Task(task_id, name, key, names, arguments_type, shape.on_unknown or Task.on_unknown)
        known = self._tasks_by_id.get(task_id)
        if known is None:
            self._tasks_by_id[task_id] = (task, place)
            return task
        earlier, first = known
        for setting in sorted(_given_keys(shape)):
            given = getattr(shape, setting)
            if given is None or isinstance(given, Empty):
                continue
            if getattr(task, setting) != getattr(earlier, setting):
                message = f"task {task_id} has another {setting} here than at {first}"
                self._problems.error(place, message, "one task has one setting; define it once under tasks:")
        return earlier

    def _task_id(self, scalar: Scalar) -> str | None:
        text = self._environment.text(scalar)
        if text is None or isinstance(scalar, Empty):
            return None
        if self._environment.stands_in(text, scalar):
            return text
        if not _TASK_ID.fullmatch(text):
            counted = "others among them" if len(text) == 24 else f"{len(text)} characters"
            message = f"a task's id is 24 hex digits, found {counted}"
            self._problems.error(scalar.place, message, "TheEye shows it in the task's address")
            return None
        return text.lower()

    def _token(self, scalar: Scalar) -> Secret:
        if isinstance(scalar, Empty):
            return _UNSET
        message = "access_token is for trying out: it expires, and opens far more than one task"
        self._problems.warning(scalar.place, message, "give each task its secret_key")
        secret = self._environment.secret(scalar)
        if secret is not None and not _TOKEN.fullmatch(secret.reveal()):
            message = "an access token is of letters, digits and ._~+/-, found others among them"
            self._problems.error(scalar.place, message, "copy it from TheEye, without spaces")
        return secret or _UNSET

    def _key(self, scalar: Scalar | None) -> Secret | None:
        if scalar is None:
            return None
        secret = self._environment.secret(scalar)
        if secret is None:
            return _UNSET
        length = len(secret.reveal())
        if length != KEY_LENGTH or not _KEY.fullmatch(secret.reveal()):
            counted = "others among them" if length == KEY_LENGTH else f"{length} characters"
            message = f"a task's secret key is {KEY_LENGTH} letters and digits, found {counted}"
            self._problems.error(scalar.place, message, "copy it from the task at TheEye, without spaces")
        return secret

    def _arguments(
        self, shape: RouteShape, task: Task | None, names: tuple[str, ...]
    ) -> tuple[Argument, ...]:
        given = shape.task_arguments
        declared = None if task is None else task.arguments
        if isinstance(given, Empty):
            return ()
        if isinstance(given, Section):
            return self._by_name(given, declared, names, task_is_known=task is not None)
        if given is None:
            wanted = [name for name in declared or () if name is not None]
            if wanted:
                message = f"task_arguments is missing: the task has {', '.join(wanted)}"
                self._problems.error(shape.task.place, message, "write task_arguments:")
            return tuple(Argument(name or "fixed", None) for name in declared or ())
        values = [self._compiler.value(item, names) for item in given]
        if declared is None:
            return tuple(Argument(f"argument {order}", value) for order, value in enumerate(values))
        return self._in_order(given, values, declared)

    def _in_order(
        self, given: Items, values: list[Value], declared: tuple[str | None, ...]
    ) -> tuple[Argument, ...]:
        wanted = [name for name in declared if name is not None]
        if len(values) != len(wanted):
            message = (
                f"found {len(values)} task_arguments, expected {len(wanted)}: {', '.join(wanted) or 'none'}"
            )
            self._problems.error(given.place, message, "the task's arguments: say how many, in their order")
            return ()
        left = iter(values)
        return tuple(Argument(name or "fixed", next(left) if name is not None else None) for name in declared)

    def _by_name(
        self,
        given: Section,
        declared: tuple[str | None, ...] | None,
        names: tuple[str, ...],
        *,
        task_is_known: bool,
    ) -> tuple[Argument, ...]:
        values = {str(key): self._compiler.value(node, names) for key, node in given.items()}
        if declared is None:
            if task_is_known:
                message = "task_arguments stands by name, but the task names no arguments"
                self._problems.error(
                    given.place, message, "write arguments: [first, second] on the task, or a list here"
                )
            return ()
        if "" in declared:
            return ()  # one of the names is wrong
        wanted = [name for name in declared if name is not None]
        meant: set[str | None] = set()
        for key in given:
            if key not in wanted:
                meant.add(closest(key, wanted))
                guess = did_you_mean(key, wanted)
                hint = f"arguments: {', '.join(wanted) or 'none'}"
                self._problems.error(key.place, f"the task has no argument {str(key)!r}{guess}", hint)
        missing = [name for name in wanted if name not in values and name not in meant]
        if missing and given.complete:
            message = f"task_arguments lacks {', '.join(missing)}"
            self._problems.error(given.place, message, "write null where nothing is meant")
        return tuple(
            Argument(name or "fixed", values.get(name) if name is not None else None) for name in declared
        )


def _guess(word: str, names: Iterable[str]) -> tuple[str, str]:
    """What was probably meant, and what there is; of many names only some, for the time that each takes."""
    known = sorted(names)[:_GUESSED]
    listed = ", ".join(known[:_LISTED]) or "none"
    return did_you_mean(word, known), f"{listed}, …" if len(known) > _LISTED else listed


def _given_keys(shape: TaskKeys) -> set[str]:
    """The task's keys that the table sets here."""
    return set(shape.model_fields_set) & set(TaskKeys.model_fields)
