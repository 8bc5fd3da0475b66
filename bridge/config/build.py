"""Build the RoutingTable from models: resolve names, and combine tasks and routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from bridge.config.arguments import ArgumentsBuilder
from bridge.config.compile import Compiler
from bridge.config.document import Invalid, Scalar
from bridge.config.env import Environment
from bridge.config.lint import Linter
from bridge.config.models import RouteModel, SourceModel, TaskCallModel, TaskModel, TheEyeModel
from bridge.config.problems import Problems, guess
from bridge.config.readers import describe, env_name
from bridge.config.routing_tests import RoutingTestBuilder, RoutingTestModel
from bridge.config.sources import SourceBuilder
from bridge.config.tasks import TaskBuilder
from bridge.config.theeye import TheEyeBuilder
from bridge.core.fields import EVENT_NAMES, ITEM_NAMES
from bridge.core.job import TableVersion
from bridge.core.problem import Place
from bridge.core.retry import RetryPolicy
from bridge.core.secrets import Secret
from bridge.dry_run.routing_test import RoutingTest
from bridge.routing.match import Check, When
from bridge.routing.route import Concurrency, Key, Once, OnDead, Route
from bridge.routing.routing_table import RoutingTable
from bridge.routing.silence import OnSilence
from bridge.sources.base.source import Source
from bridge.sources.base.source_type import SourceType
from bridge.theeye.request import TheEye

#: Characters of a route's name, by which the store finds jobs.
_NAME_LENGTH_LIMIT = 200


class TableBuilder:
    """Build one table from its models. Mistakes are reported and skipped."""

    def __init__(
        self,
        variables: Mapping[str, str],
        types: Mapping[str, SourceType],
        problems: Problems,
        version: TableVersion,
        *,
        require_env: bool,
        complete: bool,
        read_payloads: bool,
    ) -> None:
        """Without `complete`, missing parts are not reported: they may be where nothing could be read."""
        self._problems = problems
        self._version = version
        self._environment = Environment(variables, problems, required=require_env)
        self._compiler = Compiler(problems)
        self._source_builder = SourceBuilder(types, self._environment, self._compiler, problems)
        self._tasks = TaskBuilder(self._environment, problems, complete=complete)
        self._arguments = ArgumentsBuilder(self._compiler, problems)
        self._linter = Linter(self._compiler, problems)
        self._theeye: TheEye | None = None
        self._retry = RetryPolicy()
        self._sources: dict[str, Source] = {}
        self._on_dead: OnDead | None = None
        self._on_silence: OnSilence | None = None
        self._routes: dict[str, tuple[Route, Place]] = {}
        self._tests = RoutingTestBuilder(self._arguments, problems, read_payloads=read_payloads)
        self._complete = complete
        #: By id, the source, place and number of arguments of the first route that defines its task inline.
        self._inline_tasks: dict[str, tuple[str, Place, int]] = {}
        #: Sources that no route uses.
        self._unused_sources: dict[str, Place] = {}
        #: Names of all routes, valid or not; complete if `_routes_are_named`.
        self._route_names: set[str] = set()
        self._routes_are_named = True
        #: Names of sources that could not be read.
        self._broken_sources: set[str] = set()

    @property
    def secrets(self) -> Iterable[Secret]:
        return self._environment.secrets

    @property
    def tests(self) -> Iterable[RoutingTest]:
        """Return the tests whose payloads were read."""
        return self._tests.tests

    def table(self) -> RoutingTable | None:
        """Return the table of everything that was added, or None without a valid `theeye`."""
        if self._theeye is None:
            return None
        return RoutingTable(
            theeye=self._theeye,
            retry=self._retry,
            sources=self._sources,
            tasks=self._tasks.by_id,
            routes=tuple(route for route, _ in self._routes.values()),
            on_dead=self._on_dead,
            on_silence=self._on_silence,
            version=self._version,
        )

    def add_theeye(self, model: TheEyeModel | None) -> None:
        """Add TheEye, first of all; without a model, one that could not be read."""
        self._tasks.by_token = model is None or model.access_token is not None
        if model is not None:
            self._theeye = TheEyeBuilder(self._environment, self._problems).build(model)
            self._retry = RetryPolicy(model.retry.retry_for, model.retry.longest_wait)

    def add_source(self, name: Scalar, model: SourceModel | None) -> None:
        """Add one; without a model, it could not be read."""
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            hint = "it is the last part of the source's URL"
            self._problems.error(
                name.place, "a source's name may contain only letters, digits, _, - and .", hint
            )
        source = None if model is None else self._source_builder.build(name, model)
        if source is None:
            self._broken_sources.add(str(name))
        else:
            self._sources[str(name)] = source
            self._unused_sources[str(name)] = name.place

    def add_task(self, name: Scalar, model: TaskModel | None) -> None:
        """Add one; without a model, it could not be read."""
        self._tasks.add(name, model)

    def add_alert(self, name: str, model: TaskCallModel | None) -> None:
        """Add on_dead or on_silence, after all routes; without a model, it could not be read."""
        if model is None:
            return
        task = self._tasks.task_of(model)
        if name == OnDead.NAME:
            arguments = self._arguments.build(model, task, OnDead.NAMES)
            self._linter.check_alert(name, model, OnDead.NAMES, "job", OnDead.FIELDS)
            self._on_dead = None if task is None else OnDead(task, arguments, self._version)
            return
        arguments = self._arguments.build(model, task, EVENT_NAMES)
        self._linter.check_alert(name, model, EVENT_NAMES, "payload", OnSilence.FIELDS)
        self._on_silence = None if task is None else OnSilence(task, arguments, self._version)
        expected = [source.expect_every for source in self._sources.values()]
        expected += [route.expect_every for route, _ in self._routes.values()]
        if self._complete and not any(expected) and not self._problems.has_errors:
            message = "on_silence needs expect_every, which no source and no route has"
            hint = "write expect_every: 26h on a source or a route"
            self._problems.error(model.task.place, message, hint)

    def add_test(self, place: Place, model: RoutingTestModel) -> None:
        """To be added once all routes are."""
        routes = {name: route for name, (route, _) in self._routes.items()}
        source = self._source(model.source)
        self._tests.add(place, model, source, routes)
        if source is not None and model.event is not None:
            self._linter.check_test(model.event, source)
        if self._complete and self._routes_are_named:
            for job in model.expect:
                self._tests.check_route(job.route, self._route_names)

    def _source(self, name: Scalar) -> Source | None:
        """None, reported where none has that name, as far as that is known."""
        source = self._sources.get(name)
        known_elsewhere = name in self._broken_sources or isinstance(name, Invalid)
        if source is None and self._complete and not known_elsewhere:
            guessed, known = guess(name, {*self._sources, *self._broken_sources})
            self._problems.error(name.place, f"unknown source {describe(name)}{guessed}", f"sources: {known}")
        return source

    def add_route(self, place: Place, model: RouteModel | None) -> None:
        """Add one; without a model, it could not be read."""
        if model is None:
            self._routes_are_named = False
            return
        task = self._tasks.task_of(model)
        source = self._source(model.source)
        self._unused_sources.pop(model.source, None)
        names = EVENT_NAMES if model.loop is None else (*EVENT_NAMES, *ITEM_NAMES)
        checks = self._checks(model, names)
        loop = None if model.loop is None else self._compiler.loop(model.loop)
        allow_data_urls = bool(model.allow_data_urls)
        arguments = self._arguments.build(model, task, names, allow_data_urls=allow_data_urls)
        concurrency, once = self._concurrency(model, names), self._once(model, names)
        if task is not None and task.name == task.id:
            self._check_sharing(model, task.id, len(arguments))
        if source is not None:
            self._linter.check_route(place, model, source, names)
        if model.name is not None and not isinstance(model.name, Invalid):
            self._route_names.add(str(model.name))
        if task is None or any(isinstance(each, Invalid) for each in (model.name, *(model.event or ()))):
            self._routes_are_named &= str(model.name) in self._route_names
            return
        events = ",".join(model.event) if model.event is not None else "*"
        name = str(model.name) if model.name is not None else f"{model.source} {events} {task.name}"
        self._route_names.add(name)
        self._check_name(name, model.name.place if model.name is not None else place)
        if name in self._routes:
            at = model.name.place if model.name is not None else place
            first = self._routes[name][1]
            self._problems.error(
                at, f"two routes are named {name!r}; the first at {first}", "change one of the names"
            )
            return
        route = Route(
            name, str(model.source), task, checks, loop, arguments,
            allow_data_urls=allow_data_urls,
            concurrency=concurrency, once=once, otherwise=bool(model.otherwise),
            expect_every=model.expect_every, table=self._version, place=place,
            sensitive=bool(model.sensitive),
        )  # fmt: skip
        self._routes[name] = (route, place)

    def _check_sharing(self, model: RouteModel, task_id: str, arguments: int) -> None:
        """Warn about a task that routes of two sources define, probably by accident."""
        source, place, count = self._inline_tasks.setdefault(
            task_id, (str(model.source), model.task.place, arguments)
        )
        if source != model.source and (env_name(model.task) is not None or count != arguments):
            message = f"a route of source {model.source} runs the task of source {source}, at {place}"
            hint = (
                "correct the task id of one route; to share the task, define it under tasks: "
                "and use its name in both routes"
            )
            self._problems.warning(model.task.place, message, hint)

    def advise(self) -> None:
        """Warn about unused sources and tasks."""
        for name, place in self._unused_sources.items():
            message = f"no route uses source {name}: its webhooks are stored and create no job"
            self._problems.warning(place, message, f"write a route with source: {name}, or remove it")
        for name, place in self._tasks.unused.items():
            hint = f"write a route with task: {name}, or remove it"
            self._problems.warning(place, f"no route runs task {name}", hint)

    def _check_name(self, name: str, at: Place) -> None:
        if name in (OnDead.NAME, OnSilence.NAME):
            message = f"the name {name} is reserved for jobs of {name}:"
            self._problems.error(at, message, "choose another name:")
        if len(name) > _NAME_LENGTH_LIMIT:
            message = f"the route's name has {len(name)} characters, expected at most {_NAME_LENGTH_LIMIT}"
            self._problems.error(at, message, "write a name:, which replaces the default one")

    def _checks(self, model: RouteModel, names: tuple[str, ...]) -> tuple[Check, ...]:
        checks: list[Check | None] = []
        if model.event is not None:
            checks.append(self._compiler.events(model.event))
        if model.match is not None:
            checks += [self._compiler.line(key, node, names) for key, node in model.match.items()]
        if model.when is not None:
            expression = self._compiler.condition(model.when, names)
            checks.append(None if expression is None else When(expression))
        return tuple(check for check in checks if check is not None)

    def _concurrency(self, model: RouteModel, names: tuple[str, ...]) -> Concurrency | None:
        if model.concurrency is None:
            return None
        template = self._compiler.template(model.concurrency.group, names)
        if template is None:
            return None
        return Concurrency(Key("concurrency.group", template), bool(model.concurrency.latest))

    def _once(self, model: RouteModel, names: tuple[str, ...]) -> Once | None:
        if model.once_within is None:
            if model.once_key is not None:
                hint = "write once_within: 10m, or remove once_key"
                self._problems.error(model.once_key.place, "once_key needs once_within", hint)
            return None
        if model.once_key is None:
            return Once(model.once_within)
        template = self._compiler.template(model.once_key, names)
        return None if template is None else Once(model.once_within, Key("once_key", template))
